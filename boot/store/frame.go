package store

import (
	"encoding/binary"
	"fmt"
)

// A log frame holds one batch (docs/store.md, "Log").
const frameHeader = 16

// What an operation does.
const (
	opSmall  = 1
	opLarge  = 2
	opDelete = 3
)

// An op is an operation of a batch.
type op struct {
	kind  byte
	name  string
	value []byte // of opSmall
	large *large // of opLarge
}

// A large value has segments of its own. It is never changed.
type large struct {
	epoch      epochID
	generation uint64
	size       int   // bytes
	segments   []int // in order
}

// size is how long the operation is in the log.
func (o *op) size() int {
	n := 2 + len(o.name)
	switch o.kind {
	case opSmall:
		n += 2 + len(o.value)
	case opLarge:
		n += 4 + epochSize + 8 + 2 + 2*len(o.large.segments)
	}
	return n
}

func (o *op) append(b []byte) []byte {
	le := binary.LittleEndian
	b = append(b, o.kind, byte(len(o.name)))
	b = append(b, o.name...)
	switch o.kind {
	case opSmall:
		b = le.AppendUint16(b, uint16(len(o.value)))
		b = append(b, o.value...)
	case opLarge:
		b = le.AppendUint32(b, uint32(o.large.size))
		b = o.large.epoch.append(b)
		b = le.AppendUint64(b, o.large.generation)
		b = le.AppendUint16(b, uint16(len(o.large.segments)))
		for _, n := range o.large.segments {
			b = le.AppendUint16(b, uint16(n))
		}
	}
	return b
}

// appendFrame makes the plaintext of a frame.
func appendFrame(b []byte, commit uint64, ops []op) []byte {
	b = append(b, make([]byte, frameHeader)...)
	for i := range ops {
		b = ops[i].append(b)
	}
	h := frameStart{sectors: sectorsFor(len(b)), ops: len(ops), commit: commit}
	h.put(b)
	return b
}

// A frameStart is the first bytes of a frame's plaintext.
type frameStart struct {
	sectors, ops int
	commit       uint64
}

func (h *frameStart) put(b []byte) {
	binary.LittleEndian.PutUint16(b, uint16(h.sectors))
	binary.LittleEndian.PutUint32(b[4:], uint32(h.ops))
	binary.LittleEndian.PutUint64(b[8:], h.commit)
}

// readStart reads it, and tells whether it can be one.
func readStart(b *[frameHeader]byte) (h frameStart, ok bool) {
	le := binary.LittleEndian
	ops := le.Uint32(b[4:])
	h = frameStart{int(le.Uint16(b[:])), int(ops), le.Uint64(b[8:])}
	return h, h.sectors >= 1 && h.sectors <= frameSectors && le.Uint16(b[2:]) == 0 && ops <= maxPlain
}

// decodeFrame reads the plaintext of a frame and calls do for each operation, whose value
// is part of b. Segments of large values are below a number.
func decodeFrame(b []byte, segments int, do func(o *op) error) (h frameStart, err error) {
	if len(b) < frameHeader {
		return h, fmt.Errorf("a frame of %d bytes: %w", len(b), ErrDamaged)
	}
	h, ok := readStart((*[frameHeader]byte)(b))
	if !ok || h.sectors*sectorSize-tagSize != len(b) {
		return h, fmt.Errorf("a frame of %d bytes begins with %x: %w", len(b), b[:frameHeader], ErrDamaged)
	}
	p := parser{rest: b[frameHeader:]}
	for i := range h.ops {
		o := p.op(segments)
		if p.bad {
			return h, fmt.Errorf("operation %d of %d: %w", i, h.ops, ErrDamaged)
		}
		if err := do(&o); err != nil {
			return h, err
		}
	}
	if !zero(p.rest) {
		return h, fmt.Errorf("bytes behind the last operation: %w", ErrDamaged)
	}
	return h, nil
}

// A parser takes fields from the front. Once something is wrong it stays bad and gives
// zeros.
type parser struct {
	rest []byte
	bad  bool
}

func (p *parser) bytes(n int) []byte {
	if n < 0 || n > len(p.rest) {
		p.bad, p.rest = true, nil
		return make([]byte, max(0, min(n, MaxName)))
	}
	b := p.rest[:n]
	p.rest = p.rest[n:]
	return b
}

func (p *parser) u8() int     { return int(p.bytes(1)[0]) }
func (p *parser) u16() int    { return int(binary.LittleEndian.Uint16(p.bytes(2))) }
func (p *parser) u32() uint32 { return binary.LittleEndian.Uint32(p.bytes(4)) }
func (p *parser) u64() uint64 { return binary.LittleEndian.Uint64(p.bytes(8)) }

func (p *parser) op(segments int) (o op) {
	o.kind = byte(p.u8())
	o.name = string(p.bytes(p.u8()))
	switch o.kind {
	case opSmall:
		n := p.u16()
		o.value = p.bytes(n)
		p.bad = p.bad || n > inlineMax
	case opLarge:
		size := p.u32()
		id := readEpochID(p.bytes(epochSize))
		o.large = p.large(size, id, p.u64(), p.u16(), segments)
	case opDelete:
	default:
		p.bad = true
	}
	p.bad = p.bad || o.name == ""
	return o
}

// large reads the segments of a large value. Their number must be that of its size.
func (p *parser) large(size uint32, id epochID, generation uint64, n, segments int) *large {
	if size == 0 || size > MaxValue || n != chunksFor(int(size)) || 2*n > len(p.rest) {
		p.bad = true
		return nil
	}
	l := &large{epoch: id, generation: generation, size: int(size), segments: make([]int, n)}
	for i := range l.segments {
		l.segments[i] = p.u16()
		p.bad = p.bad || l.segments[i] >= segments
	}
	return l
}
