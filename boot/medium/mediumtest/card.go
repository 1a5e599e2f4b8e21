// Package mediumtest has a card for tests that need to know what a power cut leaves
// behind. A [Card] keeps all that is written to it in memory, in order, and gives every
// state that the medium can be in when the power goes: after each write, and within each
// one, torn at every sector.
//
// # How a write tears
//
// A write is durable when it returns, so no write is reordered with another one, and a
// cut concerns only the one that is under way. Of that one's sectors of 512 bytes, some
// have arrived: the first ones ([Prefix]), the last ones ([Suffix], since a card may
// program its pages in any order), or the first ones, and the next one, which was being
// programmed, reads as neither old nor new ([Garbled]) or not at all until it is written
// again ([Unreadable]). What is left out is a card that damages what was not being
// written.
//
// There are two ways to use it. Where one function is tested, let it run once and look at
// each of the [Card.States]. Where a whole program is, let it run again and again with
// the power cut live ([Card.CutAfter]), one sector later each time, until it comes
// through.
package mediumtest

import (
	"errors"
	"fmt"
	"iter"
	"maps"
)

// SectorSize is that of the card's blocks, in bytes.
const SectorSize = 512

// ErrPowerCut is what writes give when the power has been cut, and reads too.
var ErrPowerCut = errors.New("mediumtest: the power is off")

// A Tear is a way in which the write that was under way is torn.
type Tear int

const (
	Prefix     Tear = iota // the first sectors have arrived
	Suffix                 // the last sectors have arrived
	Garbled                // as Prefix, and the next sector is garbage
	Unreadable             // as Prefix, and the next sector cannot be read
)

// Tears are all of them.
var Tears = []Tear{Prefix, Suffix, Garbled, Unreadable}

func (t Tear) String() string { return [...]string{"prefix", "suffix", "garbled", "unreadable"}[t] }

type sector = [SectorSize]byte

// unreadable stands for a sector that cannot be read.
var unreadable = new(sector)

// A Write is one that was made.
type Write struct {
	First uint64 // block
	Data  []byte
}

// A Card is a medium that records. It is not safe for concurrent use. Its sectors are
// zero until they are written, and take memory only then.
type Card struct {
	blocks uint64
	base   map[uint64]*sector // before the first recorded write
	now    map[uint64]*sector // no sector is changed in place, so maps share them
	writes []Write

	cut   bool // whether the power is to be cut
	left  int  // sectors until then
	tear  Tear
	off   bool
	fault error
}

// New makes a card of a size in blocks, all zero.
func New(blocks uint64) *Card {
	return &Card{blocks: blocks, base: map[uint64]*sector{}, now: map[uint64]*sector{}}
}

// BlockSize is 512 bytes.
func (c *Card) BlockSize() int { return SectorSize }

// Blocks is the card's size.
func (c *Card) Blocks() uint64 { return c.blocks }

// check refuses what is no access to the card's blocks.
func (c *Card) check(first uint64, p []byte) error {
	n := uint64(len(p) / SectorSize)
	switch {
	case c.off:
		return ErrPowerCut
	case c.fault != nil:
		return c.fault
	case n == 0 || len(p)%SectorSize != 0 || first >= c.blocks || n > c.blocks-first:
		return fmt.Errorf("mediumtest: %d bytes from block %d on: a card of %d blocks", len(p), first, c.blocks)
	}
	return nil
}

// ReadBlocks reads whole blocks.
func (c *Card) ReadBlocks(first uint64, p []byte) error {
	if err := c.check(first, p); err != nil {
		return err
	}
	clear(p)
	for i := 0; i < len(p); i += SectorSize {
		block := first + uint64(i/SectorSize)
		s := c.now[block]
		if s == unreadable {
			return fmt.Errorf("mediumtest: block %d cannot be read", block)
		}
		if s != nil {
			copy(p[i:], s[:])
		}
	}
	return nil
}

// WriteBlocks writes whole blocks and records that, unless the power goes.
func (c *Card) WriteBlocks(first uint64, p []byte) error {
	if err := c.check(first, p); err != nil {
		return err
	}
	w := Write{first, append([]byte(nil), p...)}
	n := len(p) / SectorSize
	if c.cut && c.left < n {
		apply(c.now, w, c.left, c.tear)
		c.off = true
		return ErrPowerCut
	}
	c.left -= n
	apply(c.now, w, n, Prefix)
	c.writes = append(c.writes, w)
	return nil
}

// apply has n sectors of a write arrive. With a prefix of all sectors it is whole.
func apply(m map[uint64]*sector, w Write, n int, t Tear) {
	all := len(w.Data) / SectorSize
	from, to := 0, n
	if t == Suffix {
		from, to = all-n, all
	}
	for i := from; i < to; i++ {
		s := new(sector)
		copy(s[:], w.Data[i*SectorSize:])
		m[w.First+uint64(i)] = s
	}
	if n == all {
		return
	}
	switch next := w.First + uint64(n); t {
	case Garbled:
		m[next] = garbage(next)
	case Unreadable:
		m[next] = unreadable
	}
}

// garbage is what a sector reads that was being programmed: the same each time.
func garbage(block uint64) *sector {
	s := new(sector)
	x := block*0x9e3779b97f4a7c15 + 1
	for i := range s {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		s[i] = byte(x)
	}
	return s
}

// Writes are those since [Card.Settle].
func (c *Card) Writes() []Write { return c.writes }

// Settle forgets the writes: what is on the card now is what States begin with.
func (c *Card) Settle() {
	c.base, c.writes = maps.Clone(c.now), nil
}

// States gives, for every moment at which the power can go during the recorded writes,
// a card as it is afterwards, and what happened in words. The first one is the card
// before all writes, the last one that after all. The cards are settled.
func (c *Card) States() iter.Seq2[string, *Card] {
	return func(yield func(string, *Card) bool) {
		m := maps.Clone(c.base)
		if !yield("before all writes", c.state(m)) {
			return
		}
		for i, w := range c.writes {
			if !c.torn(m, i, w, yield) {
				return
			}
			apply(m, w, len(w.Data)/SectorSize, Prefix)
			if !yield(fmt.Sprintf("after write %d of %d (block %d)", i+1, len(c.writes), w.First), c.state(m)) {
				return
			}
		}
	}
}

// torn gives the states within one write.
func (c *Card) torn(m map[uint64]*sector, i int, w Write, yield func(string, *Card) bool) bool {
	for n := range len(w.Data) / SectorSize {
		for _, t := range Tears {
			if n == 0 && (t == Prefix || t == Suffix) {
				continue // nothing has arrived: the state before
			}
			s := c.state(m)
			apply(s.now, w, n, t)
			s.Settle()
			if !yield(fmt.Sprintf("in write %d of %d (block %d), %d sectors, %v", i+1, len(c.writes), w.First, n, t), s) {
				return false
			}
		}
	}
	return true
}

// Clone gives another card with what is on this one. It is settled, and has power.
func (c *Card) Clone() *Card { return c.state(c.now) }

// state is a card of its own with what is in m.
func (c *Card) state(m map[uint64]*sector) *Card {
	return &Card{blocks: c.blocks, base: maps.Clone(m), now: maps.Clone(m)}
}

// CutAfter cuts the power when n more sectors have been written, in the middle of a write
// or, if one ends there, as soon as the next one begins. That write is torn, and all
// later calls give [ErrPowerCut], until [Card.PowerOn].
func (c *Card) CutAfter(n int, t Tear) { c.cut, c.left, c.tear = true, n, t }

// Off tells whether the power has been cut.
func (c *Card) Off() bool { return c.off }

// PowerOn gives the card its power back, and takes back CutAfter.
func (c *Card) PowerOn() { c.cut, c.off = false, false }

// Fail has all calls give an error, until it is nil again: a card that does not answer.
func (c *Card) Fail(err error) { c.fault = err }
