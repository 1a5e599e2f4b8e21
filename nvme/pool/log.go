package pool

import (
	"crypto/rand"
	"fmt"
)

// commit records the frees that wait, and then maps, of which there are at most one
// record's: all maps are in one record, so they are there as a whole or not at all. With
// nothing to say it does nothing.
func (p *Pool) commit(maps []mapping) error {
	for len(p.pending)+len(maps) > 0 {
		n := min(len(p.pending), maxMap)
		entries := append([]mapping(nil), p.pending[:n]...)
		if n == len(p.pending) && n+len(maps) <= maxMap {
			entries, maps = append(entries, maps...), nil
		}
		if err := p.write(record{kind: kindMap, maps: entries}); err != nil {
			return err
		}
		p.pending = append(p.pending[:0], p.pending[n:]...)
	}
	return p.failed
}

// write appends a record to the log, applies it when it is durable, and takes the
// checkpoint a step further.
func (p *Pool) write(r record) error {
	if p.failed != nil {
		return p.failed
	}
	for p.seq+1-p.root.start >= p.geo.records { // no room: the checkpoint is late
		if err := p.step(); err != nil {
			return err
		}
	}
	r.number, r.before = p.seq+1, p.tag
	b := p.sector[:]
	r.encode(b)
	tag := [tagSize]byte(p.sign(b))
	if err := p.put(p.geo.recordPlace(r.number), b); err != nil {
		return err
	}
	p.seq, p.tag = r.number, tag
	p.apply(&r)
	if p.ck != nil || p.seq+1-p.root.start >= p.geo.records/2 {
		return p.step()
	}
	return nil
}

// put writes both copies of something of the metadata, the first one first. After an
// error nobody knows what is there, so the table takes no more changes.
func (p *Pool) put(offset uint64, b []byte) error {
	for c := range 2 {
		at := p.geo.place(c, offset)
		if err := p.dev.WriteBlocks(at, b); err != nil {
			p.failed = fmt.Errorf("%w (block %d: %w)", ErrFailed, at, err)
			return p.failed
		}
	}
	return nil
}

// apply does to the table in RAM what a record says. In replay the index is not there
// yet, and the extents that maps name hold whatever they held; later they are held.
func (p *Pool) apply(r *record) {
	t := p.table
	switch r.kind {
	case kindMap:
		for _, m := range r.maps {
			switch {
			case m.slot != free:
				t.set(m.extent, uint8(m.slot), m.at)
				p.use(m.slot, 1)
			case t.index == nil:
				t.slot[m.extent] = free
			default:
				t.release(m.extent)
			}
		}
	case kindVolume:
		v := p.vols[r.desc.slot]
		if v == nil {
			v = new(vol)
			p.vols[r.desc.slot] = v
		}
		before := v.extents()
		v.descriptor = r.desc
		if v.extents() < before {
			p.empty(r.desc.slot, v.extents())
		}
	case kindDelete:
		p.empty(r.arg, 0)
		p.vols[r.arg] = nil
	case kindEmpty:
		p.empty(r.arg, 0)
	}
}

// use counts a volume's extents, when all is replayed.
func (p *Pool) use(slot uint16, n int) {
	if p.table.index != nil {
		p.vols[slot].used += n
	}
}

// empty frees a volume's extents from one on. No record but the one that is applied says
// so, and that one is durable.
func (p *Pool) empty(slot uint16, from uint64) {
	t := p.table
	for e := range t.slot {
		if t.slot[e] != uint8(slot) || uint64(t.at[e]) < from {
			continue
		}
		if t.index == nil {
			t.slot[e] = free
			continue
		}
		t.drop(uint32(e))
		t.release(uint32(e))
		p.use(slot, -1)
	}
}

// checkpoint is one that is being written.
type checkpoint struct {
	id    [16]byte
	start uint64
	tag   [tagSize]byte
	next  int // chunk
	body  []byte
}

// step writes one chunk of the checkpoint, both copies, and after the last the root that
// names it. If none is under way one begins.
func (p *Pool) step() error {
	if p.ck == nil {
		p.ck = &checkpoint{start: p.seq + 1, tag: p.tag, body: make([]byte, chunkSize)}
		rand.Read(p.ck.id[:])
	}
	ck, gen := p.ck, 1-p.root.generation
	p.encodeChunk(ck)
	p.sign(ck.body)
	if err := p.put(p.geo.chunkPlace(gen, ck.next), ck.body); err != nil {
		return err
	}
	if ck.next++; ck.next < p.geo.chunks {
		return nil
	}
	r := p.root
	r.start, r.tag, r.checkpoint, r.generation = ck.start, ck.tag, ck.id, gen
	p.ck = nil
	return p.writeRoot(r)
}

// encodeChunk fills the next chunk from the table as it is now.
func (p *Pool) encodeChunk(ck *checkpoint) {
	b := ck.body
	clear(b)
	copy(b, chunkMagic)
	copy(b[8:], ck.id[:])
	le.PutUint32(b[24:], uint32(ck.next))
	b = b[chunkHeader:]
	if ck.next < volumeChunks {
		first := ck.next*chunkVolumes + 1
		for i := first; i < first+chunkVolumes && i <= maxSlot; i++ {
			if v := p.vols[i]; v != nil {
				v.encode(b[(i-first)*descriptorSize:])
			}
		}
		return
	}
	first := (ck.next - volumeChunks) * chunkExtents
	for e := first; e < min(first+chunkExtents, p.geo.extents); e++ {
		if s := p.table.slot[e]; s != held {
			le.PutUint16(b[(e-first)*tableEntry:], uint16(s))
			le.PutUint32(b[(e-first)*tableEntry+2:], p.table.at[e])
		}
	}
}

// writeRoot makes a root the newest.
func (p *Pool) writeRoot(r root) error {
	r.revision, r.reach = p.root.revision+1, p.seq
	b := p.sector[:]
	r.encode(b)
	p.sign(b)
	if err := p.put(p.geo.rootPlace(r.revision), b); err != nil {
		return err
	}
	p.root = r
	return nil
}

// seal begins an era, so that the card cannot be set back behind this moment.
func (p *Pool) seal() error {
	r := p.root
	r.era++
	if err := p.writeRoot(r); err != nil {
		return err
	}
	return p.witnessed()
}

// witnessed has the witness know of the era. If it fails, the root is one ahead and must
// not become two: the next mount makes it up.
func (p *Pool) witnessed() error {
	if err := p.witness.SetEra(p.root.era); err != nil {
		p.failed = fmt.Errorf("pool: era %d is not in the store: open the pool again: %w", p.root.era, err)
		return p.failed
	}
	return nil
}
