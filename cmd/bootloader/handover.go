package main

import (
	"crypto/sha256"
	"encoding/binary"

	"nitro/board/next"
	"nitro/board/phase"
)

// A handover is what the bootloader tells the controller (docs/medium.md, Hand-over).
// Secret, seed and event log are not there yet: zero, as the block has them then.
type handover struct {
	slot         uint32
	instructions uint32 // executed by the bootloader; 0 where they are not counted
	microseconds uint64 // since the kernel's start
}

// handoverSize is that of the block's fixed part.
const handoverSize = 256

// encode gives the block's fixed part.
func (h handover) encode() (b [handoverSize]byte) {
	copy(b[:], "NCHANDO1")
	binary.LittleEndian.PutUint32(b[12:], h.slot)
	binary.LittleEndian.PutUint32(b[28:], h.instructions)
	binary.LittleEndian.PutUint64(b[128:], h.microseconds)
	sum := sha256.Sum256(b[:224]) // then of the event log, which is empty
	copy(b[224:], sum[:])
	return b
}

// handOver fills the block.
func (l *loader) handOver() error {
	block, err := next.Handover()
	if err != nil {
		return err
	}
	c := phase.Count()
	clear(block)
	b := handover{
		slot:         l.slot,
		instructions: uint32(c.Instructions(l.instructionTime)),
		microseconds: uint64(c.Uptime().Microseconds()),
	}.encode()
	copy(block, b[:])
	return nil
}
