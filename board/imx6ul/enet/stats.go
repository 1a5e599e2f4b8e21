package enet

import (
	"sync"
	"sync/atomic"
)

// Stats are a port's counters since Open.
type Stats struct {
	// Frames and their bytes, without FCS: delivered, and handed to the block.
	Received, ReceivedBytes       uint64
	Transmitted, TransmittedBytes uint64

	// Received frames that were dropped.
	TooLong    uint64 // more than 1,518 bytes
	TooShort   uint64 // fewer than 14
	Damaged    uint64 // wrong FCS, or not whole bytes
	Overrun    uint64 // the block's FIFO was full
	Foreign    uint64 // for another's address
	Unverified uint64 // a wrong checksum, or a fragment, where the port vouches for checksums

	// Received frames of which no descriptor told, by the block's own counters, of 32
	// bits each; zero under emulation.
	BlockNoStart, BlockFCS, BlockAlignment, BlockOverrun uint32

	// Frames that were not transmitted.
	NoLink     uint64 // refused: there was no link
	Stalled    uint64 // refused: there was no room
	Underflow  uint64 // memory was too slow
	Collisions uint64 // 16 collisions, or a late one

	Interrupts  uint64 // that Receive woke up for
	Fruitless   uint64 // pauses for a line that never rests
	BusErrors   uint64 // that stopped the MAC
	Resets      uint64 // of the MAC, after bus errors and stalls
	LinkChanges uint64 // down and up count each
	PHYErrors   uint64 // the PHY did not answer, or not as it should
}

type received struct {
	frames, bytes, tooLong, tooShort, damaged, overrun, foreign, unverified uint64
}

type transmitted struct {
	frames, bytes, noLink, stalled, underflow, collisions uint64
}

// failed counts a frame by its descriptor's extra word.
func (t *transmitted) failed(extra uint32) {
	if extra&txUnderflow != 0 {
		t.underflow++
	}
	if extra&(txCollisions|txLate) != 0 {
		t.collisions++
	}
}

// counters are those that no lock of a ring guards.
type counters struct {
	interrupts, fruitless, busErrors, resets, linkChanges atomic.Uint64

	mu        sync.Mutex
	in        received
	phyError  error
	phyErrors uint64
}

// received adds a batch.
func (c *counters) received(r *received) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.in.frames += r.frames
	c.in.bytes += r.bytes
	c.in.tooLong += r.tooLong
	c.in.tooShort += r.tooShort
	c.in.damaged += r.damaged
	c.in.overrun += r.overrun
	c.in.foreign += r.foreign
	c.in.unverified += r.unverified
}

func (c *counters) phy(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.phyError = err; err != nil {
		c.phyErrors++
	}
}

// PHYError tells what is wrong with the PHY, or nil: phy.ErrAbsent where none answers.
// The port goes on looking for it: five times in a second, then every 5 s.
func (p *Port) PHYError() error {
	p.events.mu.Lock()
	defer p.events.mu.Unlock()
	return p.events.phyError
}

// Stats reads the counters. Those of frames in the ring come with the next batch.
func (p *Port) Stats() Stats {
	p.tx.mu.Lock()
	if !p.closed.Load() {
		p.reclaim()
	}
	out := p.tx.count
	p.tx.mu.Unlock()
	e := &p.events
	e.mu.Lock()
	in, phyErrors := e.in, e.phyErrors
	e.mu.Unlock()
	s := Stats{
		Received: in.frames, ReceivedBytes: in.bytes, TooLong: in.tooLong, TooShort: in.tooShort, Damaged: in.damaged,
		Overrun: in.overrun, Foreign: in.foreign, Unverified: in.unverified,
		Transmitted: out.frames, TransmittedBytes: out.bytes, NoLink: out.noLink, Stalled: out.stalled,
		Underflow: out.underflow, Collisions: out.collisions,
		Interrupts: e.interrupts.Load(), Fruitless: e.fruitless.Load(), BusErrors: e.busErrors.Load(),
		Resets: e.resets.Load(), LinkChanges: e.linkChanges.Load(), PHYErrors: phyErrors,
	}
	if !p.c.Emulated {
		s.BlockNoStart, s.BlockFCS = p.regs.Read32(regDropped), p.regs.Read32(regCRC)
		s.BlockAlignment, s.BlockOverrun = p.regs.Read32(regAlign), p.regs.Read32(regOverrun)
	}
	return s
}
