package store

import (
	"encoding/binary"
	"fmt"
)

// The body is the index as it is written at a checkpoint (docs/store.md, "Body"). Sizes
// in bytes.
const (
	bodyHeader = 16
	logSize    = 2 + 2 + 8
	recordSize = 16 + 2 + 1 + 1 + 2 + 1 + 1
	largeSize  = 8 + 2 + 2 + 4 // and 2 a segment
)

// A body is what a checkpoint keeps.
type body struct {
	epochs  []epochID
	logs    []logSegment
	bad     []int
	records []record
}

// A logSegment is a log segment that has live operations, or is of the tail to come.
type logSegment struct {
	segment    int
	epoch      int // of epochs
	generation uint64
}

// A record is a line of the index.
type record struct {
	hash hash
	entry
}

// encode makes the body. Records come in any order.
func (b *body) encode() []byte {
	le := binary.LittleEndian
	number := map[epochID]int{}
	p := make([]byte, 0, b.size())
	for _, n := range []int{len(b.epochs), len(b.logs), len(b.bad), len(b.records)} {
		p = le.AppendUint32(p, uint32(n))
	}
	for i, id := range b.epochs {
		number[id] = i
		p = id.append(p)
	}
	for _, l := range b.logs {
		p = le.AppendUint16(p, uint16(l.segment))
		p = le.AppendUint16(p, uint16(l.epoch))
		p = le.AppendUint64(p, l.generation)
	}
	for _, n := range b.bad {
		p = le.AppendUint16(p, uint16(n))
	}
	for i := range b.records {
		p = b.records[i].append(p, number)
	}
	return p
}

// size is how long it is.
func (b *body) size() int {
	n := bodyHeader + len(b.epochs)*epochSize + len(b.logs)*logSize + 2*len(b.bad) + len(b.records)*recordSize
	for i := range b.records {
		if l := b.records[i].large; l != nil {
			n += largeSize + 2*len(l.segments)
		}
	}
	return n
}

func (r *record) append(p []byte, number map[epochID]int) []byte {
	le := binary.LittleEndian
	p = append(p, r.hash[:]...)
	p = le.AppendUint16(p, r.segment)
	p = append(p, r.sector, r.sectors)
	p = le.AppendUint16(p, r.length)
	if r.large == nil {
		return append(p, 0, 0)
	}
	p = append(p, 1, 0)
	p = le.AppendUint64(p, r.large.generation)
	p = le.AppendUint16(p, uint16(number[r.large.epoch]))
	p = le.AppendUint16(p, uint16(len(r.large.segments)))
	p = le.AppendUint32(p, uint32(r.large.size))
	for _, n := range r.large.segments {
		p = le.AppendUint16(p, uint16(n))
	}
	return p
}

// decodeBody reads a body of a store with a number of segments. What it names need not be
// free of contradictions yet: the tail comes on top.
func decodeBody(p []byte, segments int, records int) (b body, err error) {
	in := parser{rest: p}
	epochs, logs, bad, n := in.u32(), in.u32(), in.u32(), in.u32()
	if in.bad || epochs > uint32(2*segments) || logs > uint32(segments) || bad > maxBad || n > uint32(records) {
		return b, fmt.Errorf("body: %d epochs, %d log segments, %d bad, %d records: %w", epochs, logs, bad, n, ErrDamaged)
	}
	for range epochs {
		b.epochs = append(b.epochs, readEpochID(in.bytes(epochSize)))
	}
	within := func(n, limit int) int {
		in.bad = in.bad || n >= limit
		return n
	}
	for range logs {
		b.logs = append(b.logs, logSegment{within(in.u16(), segments), within(in.u16(), int(epochs)), in.u64()})
	}
	for range bad {
		b.bad = append(b.bad, within(in.u16(), segments))
	}
	for range n {
		r := record{hash: hash(in.bytes(len(hash{})))}
		r.segment = uint16(within(in.u16(), segments))
		r.sector, r.sectors = uint8(in.u8()), uint8(in.u8())
		r.length = uint16(in.u16())
		isLarge, reserved := in.u8(), in.u8()
		in.bad = in.bad || r.sectors == 0 || r.sectors > frameSectors || int(r.sector)+int(r.sectors) > segmentSectors || isLarge > 1 || reserved != 0
		if isLarge == 1 {
			generation, e, k := in.u64(), within(in.u16(), int(epochs)), in.u16()
			size := in.u32()
			if !in.bad {
				r.large = in.large(size, b.epochs[e], generation, k, segments)
			}
		}
		if in.bad {
			break
		}
		b.records = append(b.records, r)
	}
	if in.bad || len(in.rest) > 0 {
		return b, fmt.Errorf("body: record %d of %d, %d bytes left: %w", len(b.records), n, len(in.rest), ErrDamaged)
	}
	return b, nil
}

// state is what a checkpoint keeps of what is there now.
func (s *Store) state() body {
	var b body
	number := map[epochID]int{}
	epoch := func(id epochID) int {
		if _, known := number[id]; !known {
			number[id] = len(b.epochs)
			b.epochs = append(b.epochs, id)
		}
		return number[id]
	}
	for n := range s.table {
		switch t := &s.table[n]; {
		case t.kind == logged && t.live > 0:
			b.logs = append(b.logs, logSegment{n, epoch(t.epoch.id), t.generation})
		case t.kind == refused && len(b.bad) < maxBad:
			b.bad = append(b.bad, n)
		}
	}
	b.records = make([]record, 0, len(s.index))
	for h, e := range s.index {
		if e.large != nil {
			epoch(e.large.epoch)
		}
		b.records = append(b.records, record{h, e})
	}
	return b
}
