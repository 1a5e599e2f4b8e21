package pool

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"errors"
	"fmt"

	"nitro/attest/sha256"
)

// newPool checks a configuration.
func newPool(c Config) (*Pool, error) {
	d := c.Device
	if d == nil || c.Witness == nil || c.Erase == nil || len(c.Key) != KeySize {
		return nil, fmt.Errorf("pool: a device, a witness, an erase secret and a key of %d bytes are needed", KeySize)
	}
	if d.BlockSize() != sectorSize || c.Offset < 0 || c.Offset%ExtentSize != 0 || c.Size <= 0 {
		return nil, fmt.Errorf("pool: %d bytes at %#x on blocks of %d: whole extents of %d, blocks of %d", c.Size, c.Offset, d.BlockSize(), ExtentSize, sectorSize)
	}
	p := &Pool{dev: d, witness: c.Witness, erase: c.Erase}
	p.geo.base, p.geo.sectors = uint64(c.Offset)/sectorSize, uint64(c.Size)/sectorSize
	if n := d.Blocks(); p.geo.base > n || p.geo.sectors > n-p.geo.base {
		return nil, fmt.Errorf("pool: %d bytes at %#x: the card ends at block %d", c.Size, c.Offset, n)
	}
	return p, nil
}

// useKey derives the MAC's key: the superblock's, or, with an identity, all others'.
func (p *Pool) useKey(key, identity []byte, info string) error {
	k, err := hkdf.Key(sha256.New, key, identity, info, macSize)
	if err != nil {
		return fmt.Errorf("pool: %w", err)
	}
	p.mac = hmac.New(sha256.New, k)
	clear(k)
	return nil
}

const (
	superblockInfo = "nitro pool v1 superblock"
	poolInfo       = "nitro pool v1"
)

// Format makes an empty pool. What was there is gone, but for the data's ciphertext. A
// cut leaves the pool that was there, none, or a whole new one.
func Format(c Config) error {
	p, err := newPool(c)
	if err != nil {
		return err
	}
	if c.Records == 0 {
		c.Records = defaultRecords
	}
	g, err := geometryOf(p.geo.sectors, uint32(min(max(c.Records, 0), maxRecords+1)))
	if err != nil {
		return err
	}
	g.base = p.geo.base
	p.geo = g
	era, err := p.witness.Era()
	if err != nil {
		return fmt.Errorf("pool: the store's era: %w", err)
	}
	if err := p.put(0, p.sector[:]); err != nil {
		return err
	}
	s := superblock{extents: uint32(g.extents), records: uint32(g.records), sectors: g.sectors}
	rand.Read(s.id[:])
	if err := p.useKey(c.Key, s.id[:], poolInfo); err != nil {
		return err
	}
	p.table, p.root = newTable(g.extents), root{era: era + 1, generation: 1}
	for p.root.revision == 0 {
		if err := p.step(); err != nil {
			return err
		}
	}
	if err := p.useKey(c.Key, nil, superblockInfo); err != nil {
		return err
	}
	s.encode(p.sector[:])
	p.sign(p.sector[:])
	if err := p.put(0, p.sector[:]); err != nil {
		return err
	}
	return p.witnessed()
}

// Open mounts a pool: what is there after any power cut is what was acknowledged.
func Open(c Config) (*Pool, error) {
	p, err := newPool(c)
	if err != nil {
		return nil, err
	}
	if err := p.readSuperblock(c.Key); err != nil {
		return nil, err
	}
	if err := p.readRoot(); err != nil {
		return nil, err
	}
	if err := p.judge(); err != nil {
		return nil, err
	}
	p.table, p.extent = newTable(p.geo.extents), make([]byte, ExtentSize)
	if err := p.readCheckpoint(); err != nil {
		return nil, err
	}
	if err := p.replay(); err != nil {
		return nil, err
	}
	if err := p.index(); err != nil {
		return nil, err
	}
	return p, p.seal()
}

// readSuperblock finds the pool. An authentic one of the two is enough.
func (p *Pool) readSuperblock(key []byte) error {
	if err := p.useKey(key, nil, superblockInfo); err != nil {
		return err
	}
	b, err := p.sector[:], ErrNotFormatted
	for c := range 2 {
		at := p.geo.place(c, 0)
		if e := p.dev.ReadBlocks(at, b); e != nil {
			err = medium("superblock", at, e)
			continue
		}
		if string(b[:8]) != superblockMagic {
			continue
		}
		if !p.authentic(b) {
			err = ErrKey
			continue
		}
		s, e := parseSuperblock(b, p.geo.sectors)
		if e != nil {
			return e
		}
		g, e := geometryOf(p.geo.sectors, s.records)
		if e != nil {
			return e
		}
		g.base = p.geo.base
		p.geo = g
		return p.useKey(key, s.id[:], poolInfo)
	}
	return err
}

// readRoot finds the newest.
func (p *Pool) readRoot() error {
	found := false
	for i := range uint64(2 * rootPlaces) {
		place := p.geo.rootPlace(i / 2)
		if p.dev.ReadBlocks(p.geo.place(int(i%2), place), p.sector[:]) != nil || !p.authentic(p.sector[:]) {
			continue // torn, or of a card that was formatted anew
		}
		if r, ok := parseRoot(p.sector[:]); ok && p.geo.rootPlace(r.revision) == place && (!found || r.revision > p.root.revision) {
			p.root, found = r, true
		}
	}
	if !found {
		return fmt.Errorf("%w: no root", ErrDamaged)
	}
	return nil
}

// judge compares the pool's era with the witness's (docs/pool.md, "Freshness").
func (p *Pool) judge() error {
	era, err := p.witness.Era()
	if err != nil {
		return fmt.Errorf("pool: the store's era: %w", err)
	}
	switch p.root.era {
	case era:
		return nil
	case era + 1:
		return p.witnessed()
	}
	return fmt.Errorf("%w: era %d, the store has %d", ErrRolledBack, p.root.era, era)
}

// readCheckpoint reads the table that the root names, each chunk from the copy that is good.
func (p *Pool) readCheckpoint() error {
	b := make([]byte, chunkSize)
	for i := range p.geo.chunks {
		if !p.readChunk(b, i, 0) && !p.readChunk(b, i, 1) {
			return fmt.Errorf("%w: chunk %d of %d", ErrDamaged, i, p.geo.chunks)
		}
		if !p.parseChunk(b[chunkHeader:chunkHeader+chunkBody], i) {
			return fmt.Errorf("%w: what chunk %d says", ErrDamaged, i)
		}
	}
	return nil
}

// readChunk reads one copy.
func (p *Pool) readChunk(b []byte, i, copy int) bool {
	at := p.geo.place(copy, p.geo.chunkPlace(p.root.generation, i))
	return p.dev.ReadBlocks(at, b) == nil && p.authentic(b) && string(b[:8]) == chunkMagic &&
		[16]byte(b[8:24]) == p.root.checkpoint && le.Uint32(b[24:]) == uint32(i) && zero(b[28:chunkHeader])
}

// parseChunk takes volumes or extents over into the table.
func (p *Pool) parseChunk(b []byte, i int) bool {
	if i < volumeChunks {
		for slot := i*chunkVolumes + 1; len(b) > 0; slot, b = slot+1, b[descriptorSize:] {
			d, ok := parseDescriptor(b[:descriptorSize])
			if !ok || d.slot != 0 && int(d.slot) != slot {
				return false
			}
			if d.slot != 0 {
				p.vols[slot] = &vol{descriptor: d}
			}
		}
		return true
	}
	for e := (i - volumeChunks) * chunkExtents; len(b) > 0; e, b = e+1, b[tableEntry:] {
		slot, at := le.Uint16(b), le.Uint32(b[2:])
		if slot > maxSlot || e >= p.geo.extents && (slot != free || at != 0) {
			return false
		}
		if e < p.geo.extents {
			p.table.slot[e], p.table.at[e] = uint8(slot), at
		}
	}
	return true
}

// aheadOfEnd is how many records behind the log's end are looked for.
const aheadOfEnd = 31

// replay applies the log from the root's start on, and has its tail in both copies.
func (p *Pool) replay() error {
	p.seq, p.tag = p.root.start-1, p.root.tag
	l := logReader{p: p}
	for p.seq+1-p.root.start < p.geo.records {
		r, tag, which := l.read(p.seq + 1)
		if which == 0 {
			break
		}
		if r.before != p.tag {
			return fmt.Errorf("%w: record %d is of another time", ErrDamaged, r.number)
		}
		p.apply(&r)
		p.seq, p.tag = r.number, tag
		l.tail = which
	}
	for n := p.seq + 2; n <= p.seq+1+aheadOfEnd && n < p.root.start+p.geo.records; n++ {
		if _, _, which := l.read(n); which != 0 {
			return fmt.Errorf("%w: record %d of the log, and %d is there", ErrDamaged, p.seq+1, n)
		}
	}
	if p.seq < p.root.reach || l.newer {
		return fmt.Errorf("%w: the log ends at record %d, and had more", ErrDamaged, p.seq)
	}
	return l.repair()
}

// logReader reads records from both rings, a batch of sectors at a time.
type logReader struct {
	p     *Pool
	batch [2]struct {
		first uint64 // place + 1, 0: none
		b     [chunkSize]byte
	}
	newer bool // a place had a record of a later round
	tail  int  // copies that the last record has: bit 0 the first, bit 1 the second
}

// sector is one copy of a place.
func (l *logReader) sector(copy int, place uint64) []byte {
	g, c := &l.p.geo, &l.batch[copy]
	first := place / chunkSectors * chunkSectors
	if c.first != first+1 {
		c.first = first + 1
		at := g.place(copy, g.recordPlace(first))
		if l.p.dev.ReadBlocks(at, c.b[:]) != nil {
			for i := range uint64(chunkSectors) { // a sector that is bad must not hide the others
				if s := c.b[i*sectorSize:][:sectorSize]; l.p.dev.ReadBlocks(at+i, s) != nil {
					clear(s)
				}
			}
		}
	}
	return c.b[(place-first)*sectorSize:][:sectorSize]
}

// read gives a record by its number, and in which copies it is: 0 is in none.
func (l *logReader) read(number uint64) (r record, tag [tagSize]byte, which int) {
	for c := range 2 {
		b := l.sector(c, number%l.p.geo.records)
		if n := le.Uint64(b[8:]); string(b[:8]) != recordMagic || n < number || !l.p.authentic(b) {
			continue
		} else if n > number {
			l.newer = true
			continue
		}
		got, ok := parseRecord(b, l.p.geo.extents)
		if !ok {
			continue
		}
		r, tag = got, [tagSize]byte(b[payloadAt:])
		which |= 1 << c
	}
	return r, tag, which
}

// repair writes the last record to the copy that a cut has left without it. The other
// copy is not touched.
func (l *logReader) repair() error {
	p := l.p
	if l.tail == 0 || l.tail == 3 {
		return nil
	}
	good := l.tail >> 1
	b := l.sector(good, p.seq%p.geo.records)
	at := p.geo.place(1-good, p.geo.recordPlace(p.seq))
	if err := p.dev.WriteBlocks(at, b); err != nil {
		return medium("the log's last record", at, err)
	}
	return nil
}

// index makes the index, and holds what was replayed to what can be.
func (p *Pool) index() error {
	for e, s := range p.table.slot {
		if s == free {
			continue
		}
		v := p.vols[s]
		if v == nil || uint64(p.table.at[e]) >= v.extents() {
			return fmt.Errorf("%w: extent %d belongs to nothing", ErrDamaged, e)
		}
		v.used++
	}
	var seed [8]byte
	rand.Read(seed[:])
	if !p.table.build(le.Uint64(seed[:])) {
		return fmt.Errorf("%w: two extents for one place", ErrDamaged)
	}
	names := map[string]bool{}
	for _, v := range p.vols {
		if v != nil && names[v.name] {
			return errors.Join(ErrDamaged, fmt.Errorf("pool: two volumes %s", v.name))
		}
		if v != nil {
			names[v.name] = true
		}
	}
	return nil
}
