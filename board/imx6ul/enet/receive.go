package enet

import (
	"fmt"
	"os"
	"sync"
	"time"

	"nitro/board/imx6ul/dma"
	"nitro/board/imx6ul/mmio"
)

// wanted are the events that raise the line.
const wanted = eirRXF | eirEBERR

// A wake-up that finds no frame is fruitless. Some in a row are normal (the frames
// came before, or all were bad); from then on the driver pauses before each, so that
// a line that never rests costs a thousand wake-ups a second, and not the processor.
const (
	fruitlessLimit = 32
	fruitlessPause = time.Millisecond
)

type receiver struct {
	mu sync.Mutex
	ring
	own       [2]uint32 // our address as it lies in memory, the first four bytes and the last two
	next      uint32    // the descriptor that the block fills next
	within    bool      // a frame that takes several buffers, and is dropped
	fruitless int       // wake-ups in a row; only Receive's goroutine touches it
}

// fill makes all descriptors the block's.
func (r *receiver) fill() {
	r.reset()
	for i := range r.n {
		dma.Store(r.word(i, wordExtra), rxInterrupt)
	}
	mmio.Barrier()
	for i := range r.n {
		dma.Store(r.word(i, wordStatus), rxEmpty|r.wrapAt(i))
	}
	r.next, r.within = 0, false
}

// Receive waits until frames have come, for a limit in whole milliseconds if that is not
// negative, calls deliver for each one, of 64 at most, and returns. A frame's bytes are valid during the call only; they lie in memory that is
// not cached, so look at each once, or copy them. Bad frames, and those for others,
// are counted and dropped (Stats). After Close it returns os.ErrClosed.
func (p *Port) Receive(limit time.Duration, deliver func(frame []byte)) error {
	for !p.closed.Load() {
		taken, delivered := p.drain(deliver)
		if taken > 0 {
			p.rx.fruitless = 0
		}
		if delivered {
			return nil
		}
		if taken > 0 {
			continue
		}
		if limit == 0 {
			return nil
		}
		came, err := p.await(limit)
		if err != nil {
			return err
		}
		if !came {
			return nil
		}
	}
	return os.ErrClosed
}

// drain takes what is in the ring, a batch at most. Each descriptor goes back to the
// block as soon as its frame has been delivered.
func (p *Port) drain(deliver func(frame []byte)) (taken int, delivered bool) {
	p.rx.mu.Lock()
	defer p.rx.mu.Unlock()
	if p.closed.Load() {
		return 0, false
	}
	var count received
	for taken < batch {
		status := dma.Load(p.rx.word(p.rx.next, wordStatus))
		if status&rxEmpty != 0 {
			break
		}
		mmio.Barrier() // the frame is read after its status
		taken++
		if frame := p.judge(status, &count); frame != nil {
			delivered = true
			deliver(frame)
		}
		p.refill()
	}
	if taken > 0 {
		mmio.Barrier()
		p.regs.Write32(regRDAR, active)
		p.events.received(&count)
	}
	return taken, delivered
}

// refill gives the next descriptor back to the block. The extra word is written too,
// since the block has put the frame's properties there.
func (p *Port) refill() {
	i := p.rx.next
	dma.Store(p.rx.word(i, wordExtra), rxInterrupt)
	mmio.Barrier() // the frame has been read, and the status is written last
	dma.Store(p.rx.word(i, wordStatus), rxEmpty|p.rx.wrapAt(i))
	p.rx.next = p.rx.after(i)
}

// judge gives the frame of the next descriptor, or nil if it is to be dropped.
// Whatever the block wrote there, what is given lies in the descriptor's buffer.
func (p *Port) judge(status uint32, count *received) []byte {
	n := int(status&lengthMask) - fcs
	switch within := p.rx.within; {
	case status&last == 0: // a frame that takes several buffers is too long
		p.rx.within = true
		return nil
	case within:
		p.rx.within = false
		count.tooLong++
		return nil
	case status&rxOverrun != 0: // the other flags mean nothing then
		count.overrun++
		return nil
	case status&(rxLong|rxTruncate) != 0 || n > maxTagged:
		count.tooLong++
		return nil
	case status&rxBad != 0:
		count.damaged++
		return nil
	case n < MinFrame:
		count.tooShort++
		return nil
	}
	if !p.rx.forUs() {
		count.foreign++ // QEMU hands on what is for others too
		return nil
	}
	frame := p.rx.buffer(p.rx.next, n)
	if !p.c.Emulated && !vouched(frame) {
		count.unverified++
		return nil
	}
	count.frames++
	count.bytes += uint64(n)
	return frame
}

// forUs tells whether the next frame's destination is our address, or a group's.
func (r *receiver) forUs() bool {
	at := r.next * (bufferSize / 4)
	first := dma.Load(&r.data[at])
	return first&1 != 0 || first == r.own[0] && dma.Load(&r.data[at+1])&0xffff == r.own[1]
}

// await waits for an interrupt with the ring empty. Why none is lost: the block fills a
// descriptor first, and raises the event then. The event is cleared, and only after
// that (the read waits for the write to arrive) the ring is looked at once more. A
// frame that came before is found there. One that came after has raised the event
// again, which holds the line until it is enabled. Why there is no storm: the line is
// masked from the interrupt until Enable, which comes after the event was cleared. EIR
// is never read and written back: what others wait for (MII) stays. When the limit has
// passed it says that nothing came; the line stays enabled.
func (p *Port) await(limit time.Duration) (came bool, err error) {
	p.regs.Write32(regEIR, eirRXF)
	if p.regs.Read32(regEIR)&eirEBERR != 0 {
		p.recoverBus()
		return true, nil
	}
	if p.pending() {
		return true, nil
	}
	if p.rx.fruitless++; p.rx.fruitless > fruitlessLimit {
		p.events.fruitless.Add(1)
		p.regs.Write32(regEIMR, wanted) // whatever else was let through
		time.Sleep(fruitlessPause)
	}
	n := uint32(0)
	if err = p.c.Line.Enable(); err == nil {
		n, err = p.c.Line.Wait(limit)
	}
	switch {
	case err != nil && p.closed.Load():
		return false, os.ErrClosed
	case err != nil:
		return false, fmt.Errorf("enet: waiting for a frame: %w", err)
	case n == 0:
		p.rx.fruitless-- // it was no wake-up
		return false, nil
	}
	p.events.interrupts.Add(1)
	return true, nil
}

// pending tells whether there is a frame in the ring.
func (p *Port) pending() bool {
	p.rx.mu.Lock()
	defer p.rx.mu.Unlock()
	mmio.Barrier()
	return !p.closed.Load() && dma.Load(p.rx.word(p.rx.next, wordStatus))&rxEmpty == 0
}

// recoverBus starts the MAC again, which a bus error has stopped.
func (p *Port) recoverBus() {
	p.rx.mu.Lock()
	defer p.rx.mu.Unlock()
	p.tx.mu.Lock()
	defer p.tx.mu.Unlock()
	p.events.busErrors.Add(1)
	p.regs.Write32(regEIR, eirEBERR)
	p.restart()
}
