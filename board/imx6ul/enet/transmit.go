package enet

import (
	"fmt"
	"net"
	"sync"
	"time"

	"nitro/board/imx6ul/mmio"
)

type transmitter struct {
	mu sync.Mutex
	ring
	head   uint32 // the descriptor that the next frame takes
	used   uint32 // descriptors before head that have not been taken back
	queued bool   // frames came since the doorbell was last rung
	count  transmitted
}

// clear makes all descriptors the driver's. What was in them is lost.
func (t *transmitter) clear() {
	t.reset()
	t.head, t.used, t.queued = 0, 0, false
}

// Queue copies one frame, given in pieces, without FCS, 14 to 1,514 bytes in all;
// shorter ones than 60 are padded. It waits at most 250 ms for room. The error is
// ErrNoLink where there is no link, ErrStalled where no room came, ErrLength, or
// net.ErrClosed. The frame may be held back until Flush.
func (p *Port) Queue(pieces [][]byte) error {
	n := 0
	for _, piece := range pieces {
		n += len(piece)
	}
	if n < MinFrame || n > MaxFrame {
		return fmt.Errorf("enet: a frame of %d bytes in %d pieces: %w", n, len(pieces), ErrLength)
	}
	p.tx.mu.Lock()
	defer p.tx.mu.Unlock()
	switch {
	case p.closed.Load():
		return net.ErrClosed
	case !p.up.Load():
		p.tx.count.noLink++
		return fmt.Errorf("enet: a frame of %d bytes: %w", n, ErrNoLink)
	case p.tx.used == p.tx.n:
		if err := p.room(); err != nil {
			return err
		}
	}
	p.put(pieces, n)
	return nil
}

// put fills the next descriptor. Its status is written last: the block may look at it
// at any time.
func (p *Port) put(pieces [][]byte, n int) {
	i := p.tx.head
	frame := p.tx.buffer(i, max(n, padded))
	at := 0
	for _, piece := range pieces {
		at += copy(frame[at:], piece)
	}
	clear(frame[n:])
	header := frame[:n]
	if len(pieces[0]) >= plainHeader {
		header = pieces[0] // it is cached
	}
	p.tx.set(i, wordExtra, p.sums(frame[:n], header))
	mmio.Barrier()
	p.tx.set(i, wordStatus, txReady|last|txCRC|p.tx.wrapAt(i)|uint32(len(frame)))
	p.tx.head = p.tx.after(i)
	p.tx.used++
	p.tx.queued = true
	p.tx.count.frames++
	p.tx.count.bytes += uint64(n)
}

// Flush sends what was queued.
func (p *Port) Flush() error {
	p.tx.mu.Lock()
	defer p.tx.mu.Unlock()
	if p.closed.Load() {
		return net.ErrClosed
	}
	if p.tx.queued {
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
	for p.tx.used > 0 {
		i := (p.tx.head + p.tx.n - p.tx.used) % p.tx.n
		if p.tx.get(i, wordStatus)&txReady != 0 {
			return
		}
		p.tx.used--
		if extra := p.tx.get(i, wordExtra); extra&txError != 0 {
			p.tx.count.failed(extra)
		}
	}
}

// room waits until a quarter of the ring is free. It rings the doorbell, since the
// frames in the ring may not have been flushed, and again (see ringAgain).
func (p *Port) room() error {
	enough := p.tx.n - (p.tx.n+3)/4
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
	if p.tx.used < p.tx.n {
		return nil // slow, but it moves
	}
	p.tx.count.stalled++
	select {
	case p.stalled <- struct{}{}:
	default:
	}
	return fmt.Errorf("enet: %d frames wait, TDAR %#x, ECR %#x, EIR %#x: %w", p.tx.used,
		p.regs.Read32(regTDAR), p.regs.Read32(regECR), p.regs.Read32(regEIR), ErrStalled)
}
