package enet

import (
	"fmt"
	"os"
	"sync"
	"time"

	"nitro/board/imx6ul/dma"
	"nitro/board/imx6ul/mmio"
)

type transmitter struct {
	mu sync.Mutex
	ring
	head   uint32 // the descriptor that the next frame takes
	tail   uint32 // the oldest one that has not been taken back
	used   uint32 // from tail to head
	queued bool   // frames came since the doorbell was last rung
	count  transmitted
}

// perFrame is how many descriptors a frame takes at most.
const perFrame = 2

// clear makes all descriptors the driver's. What was in them is lost.
func (t *transmitter) clear() {
	t.reset()
	t.head, t.tail, t.used, t.queued = 0, 0, 0, false
}

// Queue copies one frame, given in pieces, without FCS, 14 to 1,514 bytes in all;
// shorter ones than 60 are padded. It waits at most 250 ms for room. The error is
// ErrNoLink where there is no link, ErrStalled where no room came, ErrLength, or
// os.ErrClosed. The frame may be held back until Flush.
//
// It is cheapest when the first piece is the headers, and the payload begins at a
// multiple of four.
func (p *Port) Queue(pieces [][]byte) error {
	n := 0
	for i := range pieces {
		n += len(pieces[i])
	}
	if n < MinFrame || n > MaxFrame {
		return fmt.Errorf("enet: a frame of %d bytes in %d pieces: %w", n, len(pieces), ErrLength)
	}
	p.tx.mu.Lock()
	err := p.ready(n)
	if err == nil {
		p.put(pieces, n)
	}
	p.tx.mu.Unlock()
	return err
}

// ready tells whether a frame of n bytes can be put into the ring, and waits for room.
func (p *Port) ready(n int) error {
	switch {
	case p.up.Load():
		if p.tx.used+perFrame > p.tx.n {
			return p.room()
		}
		return nil
	case p.closed.Load():
		return os.ErrClosed
	}
	p.tx.count.noLink++
	return fmt.Errorf("enet: a frame of %d bytes: %w", n, ErrNoLink)
}

// splitFrom is the shortest payload that gets a descriptor and a buffer of its own.
// Headers end two bytes behind a multiple of four, where payloads mostly begin at one:
// behind the headers, copying one takes four times as long.
const splitFrom = 256

// put puts a frame into the ring.
func (p *Port) put(pieces [][]byte, n int) {
	t := &p.tx
	t.queued = true
	t.count.frames++
	t.count.bytes += uint64(n)
	head := len(pieces[0])
	if head >= plainHeader && n-head >= splitFrom {
		var k packet
		if k.parse(pieces[0], n) && k.ofBlock(p.c.Emulated) && k.transport+headerTCP <= head {
			p.putSplit(&k, pieces, head, n-head)
			return
		}
	}
	i := t.head
	frame := t.buffer(i, max(n, padded))
	gather(frame, pieces)
	clear(frame[n:])
	cached := frame[:n]
	if head >= plainHeader {
		cached = pieces[0]
	}
	flags := p.sums(frame[:n], cached)
	dma.Store(t.word(i, wordExtra), flags)
	mmio.Barrier()
	t.give(i, last|uint32(len(frame)))
}

// putSplit puts a frame into the ring whose headers and payload lie apart, and whose
// checksums the block inserts. The first descriptor is given to the block last, as
// both are its then.
func (p *Port) putSplit(k *packet, pieces [][]byte, head, payload int) {
	t := &p.tx
	i := t.head
	second := t.after(i)
	headers := t.buffer(i, head)
	copy(headers, pieces[0])
	gather(t.buffer(second, payload), pieces[1:])
	flags := k.clearSums(headers)
	dma.Store(t.word(i, wordExtra), flags)
	dma.Store(t.word(second, wordExtra), flags)
	mmio.Barrier()
	t.give(second, last|uint32(payload))
	mmio.Barrier()
	t.give(i, uint32(head))
	t.head = t.after(second)
}

// gather copies pieces to where they are to be, one behind the other.
func gather(to []byte, pieces [][]byte) {
	for i := range pieces {
		to = to[copy(to, pieces[i]):]
	}
}

// give gives a descriptor to the block. Its status is written last: the block may look
// at it at any time.
func (t *transmitter) give(i, status uint32) {
	dma.Store(t.word(i, wordStatus), txReady|txCRC|t.wrapAt(i)|status)
	t.head = t.after(i)
	t.used++
}

// Flush sends what was queued.
func (p *Port) Flush() error {
	p.tx.mu.Lock()
	defer p.tx.mu.Unlock()
	switch {
	case p.closed.Load():
		return os.ErrClosed
	case p.tx.queued:
		p.doorbell()
	}
	return nil
}

// doorbellLooks is how often TDAR is looked at before it is written.
const doorbellLooks = 4

// doorbell tells the block that there are frames. Writing TDAR in the cycles in which
// the block clears it can hang the block (ERR007885, as Linux's driver has it for
// this chip), so it is written when it reads as clear. While it reads as set four
// times, the block is at work and finds the new frames by itself; should it not
// (ERR006358), ringAgain sees to it.
func (p *Port) doorbell() {
	p.tx.queued = false
	mmio.Barrier()
	for range doorbellLooks {
		if p.regs.Read32(regTDAR)&active == 0 {
			p.regs.Write32(regTDAR, active)
			return
		}
	}
}

// ringAgain rings the doorbell if frames wait and the block does not work on them
// (ERR006358: a write to TDAR may be ignored). The keeper calls it each time that it
// looks at the link. Where somebody transmits just now it is not needed.
func (p *Port) ringAgain() {
	if !p.tx.mu.TryLock() {
		return
	}
	defer p.tx.mu.Unlock()
	if p.reclaim(); p.tx.used > 0 && !p.tx.queued {
		p.doorbell()
	}
}

// reclaim takes descriptors back that the block is done with. The caller holds the
// lock.
func (p *Port) reclaim() {
	t := &p.tx
	for t.used > 0 && dma.Load(t.word(t.tail, wordStatus))&txReady == 0 {
		if extra := dma.Load(t.word(t.tail, wordExtra)); extra&txError != 0 {
			t.count.failed(extra)
		}
		t.tail = t.after(t.tail)
		t.used--
	}
}

// room waits until a quarter of the ring is free. It rings the doorbell, since the
// frames in the ring may not have been flushed, and again (see ringAgain).
func (p *Port) room() error {
	enough := p.tx.n - max(p.tx.n/4, perFrame)
	if p.reclaim(); p.tx.used <= enough {
		return nil
	}
	for end := time.Now().Add(roomLimit); ; time.Sleep(roomPause) {
		p.doorbell()
		if p.reclaim(); p.tx.used <= enough {
			return nil
		}
		if time.Now().After(end) {
			break
		}
	}
	if p.tx.used+perFrame <= p.tx.n {
		return nil // slow, but it moves
	}
	p.tx.count.stalled++
	select {
	case p.stalled <- struct{}{}:
	default:
	}
	return fmt.Errorf("enet: %d descriptors wait, TDAR %#x, ECR %#x, EIR %#x: %w", p.tx.used,
		p.regs.Read32(regTDAR), p.regs.Read32(regECR), p.regs.Read32(regEIR), ErrStalled)
}
