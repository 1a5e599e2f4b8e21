// Package handover is what the bootloader leaves in memory for the controller: the event
// log, what the choice of the slot was, and the secrets that only the bootloader can
// derive (docs/medium.md, "Hand-over").
//
// The block holds a secret, in memory that keeps its contents over a reset. So [Take]
// zeroes all of it, whatever it finds, and the controller calls it as the first thing it
// does. A digest tells damage and what an older boot has left; it is no protection
// against who can write the memory, which is the bootloader alone.
package handover

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"nitro/boot/code"
	"nitro/boot/journal"
)

const (
	// Address is where the block lies in physical memory.
	Address = 0x9fef0000
	// Size is that of the block in bytes.
	Size = 64 << 10
	// MaxLog is the longest event log in bytes.
	MaxLog = 48 << 10
)

// Offsets in bytes.
const (
	magic        = "NCHANDO1"
	offLogLength = 8
	offSlot      = 12
	offAttempt   = 16
	offOther     = 20
	offStrength  = 24
	offExecuted  = 28
	offSecret    = 32
	offSeed      = 64
	offElapsed   = 128
	offReserved  = 136
	offDigest    = 224
	offLog       = offDigest + sha256.Size
)

// A Strength says how much the SoC's secret is worth.
type Strength uint32

const (
	NoSecret     Strength = iota // an emulated board: there is none
	SharedSecret                 // an open chip's: the same on every chip
	OwnSecret                    // a closed chip's own
)

func (s Strength) String() string {
	switch s {
	case NoSecret:
		return "none"
	case SharedSecret:
		return "shared"
	case OwnSecret:
		return "own"
	}
	return fmt.Sprintf("strength %d", uint32(s))
}

// A Handover is the block's content.
type Handover struct {
	Slot     journal.Slot // A or B: the one that runs
	Attempt  uint32       // how many were left before this one
	Other    code.Code    // of the other slot's failure in this boot, or None
	Strength Strength     // of the SoC's secret
	Executed uint32       // instructions by the bootloader, or 0 where nobody counted
	Secret   [32]byte     // derived from the SoC's
	Seed     [64]byte     // for the random generator
	Elapsed  uint64       // microseconds since power-on
	Log      []byte       // the event log
}

// Zero forgets the secrets.
func (h *Handover) Zero() {
	clear(h.Secret[:])
	clear(h.Seed[:])
}

// check refuses what does not fit.
func (h *Handover) check() error {
	switch {
	case h.Slot > journal.B:
		return fmt.Errorf("handover: slot %d, not 0 or 1", h.Slot)
	case h.Attempt > journal.MaxAttempts:
		return fmt.Errorf("handover: attempt %d, at most %d", h.Attempt, journal.MaxAttempts)
	case h.Strength > OwnSecret:
		return fmt.Errorf("handover: strength %d of the SoC's secret is not known", h.Strength)
	case len(h.Log) == 0 || len(h.Log) > MaxLog:
		return fmt.Errorf("handover: event log of %d bytes, not 1 to %d", len(h.Log), MaxLog)
	}
	return nil
}

// Put writes the block into memory of [Size] bytes and zeroes the rest of it.
func Put(mem []byte, h *Handover) error {
	if len(mem) != Size {
		return fmt.Errorf("handover: %d bytes of memory, not %d", len(mem), Size)
	}
	if err := h.check(); err != nil {
		return err
	}
	clear(mem)
	copy(mem, magic)
	le := binary.LittleEndian
	le.PutUint32(mem[offLogLength:], uint32(len(h.Log)))
	le.PutUint32(mem[offSlot:], uint32(h.Slot))
	le.PutUint32(mem[offAttempt:], h.Attempt)
	le.PutUint32(mem[offOther:], uint32(h.Other))
	le.PutUint32(mem[offStrength:], uint32(h.Strength))
	le.PutUint32(mem[offExecuted:], h.Executed)
	copy(mem[offSecret:], h.Secret[:])
	copy(mem[offSeed:], h.Seed[:])
	le.PutUint64(mem[offElapsed:], h.Elapsed)
	copy(mem[offLog:], h.Log)
	sum := digest(mem, len(h.Log))
	copy(mem[offDigest:], sum[:])
	return nil
}

// digest is over the fields and the log, one behind the other.
func digest(mem []byte, log int) (sum [sha256.Size]byte) {
	h := sha256.New()
	h.Write(mem[:offDigest])
	h.Write(mem[offLog : offLog+log])
	h.Sum(sum[:0])
	return sum
}

// Take reads the block and zeroes the memory, also when the block is not valid. What it
// gives is a copy.
func Take(mem []byte) (*Handover, error) {
	defer clear(mem)
	if len(mem) != Size {
		return nil, code.HandoverDamaged.Errorf("handover: %d bytes of memory, not %d", len(mem), Size)
	}
	if !bytes.Equal(mem[:offLogLength], []byte(magic)) {
		return nil, code.HandoverDamaged.Errorf("handover: magic %x, not %q: no bootloader has run before", mem[:offLogLength], magic)
	}
	le := binary.LittleEndian
	n := le.Uint32(mem[offLogLength:])
	if n == 0 || n > MaxLog {
		return nil, code.HandoverDamaged.Errorf("handover: event log of %d bytes, not 1 to %d", n, MaxLog)
	}
	if sum := digest(mem, int(n)); !bytes.Equal(sum[:], mem[offDigest:offLog]) {
		return nil, code.HandoverDamaged.Errorf("handover: SHA-256 is %x, the block says %x", sum, mem[offDigest:offLog])
	}
	if slot, other := le.Uint32(mem[offSlot:]), le.Uint32(mem[offOther:]); slot > uint32(journal.B) || other > 0xffff {
		return nil, code.HandoverDamaged.Errorf("handover: slot %d, code %d of the other: out of bounds", slot, other)
	}
	for i, v := range mem[offReserved:offDigest] {
		if v != 0 {
			return nil, code.HandoverDamaged.Errorf("handover: reserved byte %d is %#x, not zero", offReserved+i, v)
		}
	}
	h := fields(mem)
	h.Log = bytes.Clone(mem[offLog : offLog+n])
	if err := h.check(); err != nil {
		h.Zero()
		return nil, code.HandoverDamaged.Errorf("%w", err)
	}
	return h, nil
}

// fields reads those of fixed size.
func fields(mem []byte) *Handover {
	le := binary.LittleEndian
	return &Handover{
		Slot:     journal.Slot(le.Uint32(mem[offSlot:])),
		Attempt:  le.Uint32(mem[offAttempt:]),
		Other:    code.Code(le.Uint32(mem[offOther:])),
		Strength: Strength(le.Uint32(mem[offStrength:])),
		Executed: le.Uint32(mem[offExecuted:]),
		Secret:   [32]byte(mem[offSecret:offSeed]),
		Seed:     [64]byte(mem[offSeed:offElapsed]),
		Elapsed:  le.Uint64(mem[offElapsed:]),
	}
}
