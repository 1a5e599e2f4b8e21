package pool

import (
	"crypto/hmac"
	"encoding/binary"
	"fmt"
	"math/bits"

	"nitro/nvme/volume"
)

// Sizes in bytes, and counts (docs/pool.md, "Layout").
const (
	ExtentSize = 128 << 10

	sectorSize    = 512
	extentSectors = ExtentSize / sectorSize
	macSize       = 32
	tagSize       = 16
	payloadAt     = sectorSize - macSize // where the MAC of a sector begins

	rootPlaces      = 8
	chunkSectors    = 32
	chunkSize       = chunkSectors * sectorSize
	chunkHeader     = 32
	chunkBody       = chunkSize - chunkHeader - macSize
	descriptorSize  = 272
	chunkVolumes    = chunkBody / descriptorSize // 60
	volumeChunks    = 5                          // 300 places for 254 volumes
	tableEntry      = 6
	chunkExtents    = chunkBody / tableEntry // 2720
	recordAt        = 40
	mapEntry        = 10
	maxMap          = (payloadAt - recordAt) / mapEntry // 44
	wrapSize        = 72
	maxName         = 64
	maxSlot         = 254
	maxExtents      = 1 << 21
	maxVolume       = 1 << 27 * ExtentSize // bytes
	minRecords      = 64
	defaultRecords  = 2048
	maxRecords      = 1 << 16
	version         = 1
	minimumExtents  = 8
	superblockMagic = "NCPOOLS1"
	rootMagic       = "NCPOOLR1"
	recordMagic     = "NCPOOLL1"
	chunkMagic      = "NCPOOLC1"
)

// Kinds of records.
const (
	kindMap = 1 + iota
	kindVolume
	kindDelete
	kindEmpty
)

var le = binary.LittleEndian

// superblock is what Format fixed.
type superblock struct {
	extents, records uint32
	sectors          uint64 // of the whole pool
	id               [16]byte
}

func (s *superblock) encode(b []byte) {
	clear(b)
	copy(b, superblockMagic)
	le.PutUint32(b[8:], version)
	le.PutUint32(b[12:], s.extents)
	le.PutUint32(b[16:], s.records)
	le.PutUint64(b[20:], s.sectors)
	copy(b[32:], s.id[:])
}

// parseSuperblock reads a superblock of a size that the caller knows.
func parseSuperblock(b []byte, sectors uint64) (s superblock, err error) {
	s = superblock{extents: le.Uint32(b[12:]), records: le.Uint32(b[16:]), sectors: le.Uint64(b[20:]), id: [16]byte(b[32:48])}
	if v := le.Uint32(b[8:]); string(b[:8]) != superblockMagic || v != version || !zero(b[28:32]) || !zero(b[48:payloadAt]) {
		return s, fmt.Errorf("pool: superblock of version %d: this firmware knows %d", v, version)
	}
	g, err := geometryOf(sectors, s.records)
	if err != nil {
		return s, err
	}
	if s.sectors != sectors || s.extents != uint32(g.extents) {
		return s, fmt.Errorf("pool: made for %d sectors and %d extents, here are %d and %d: use the card as it was made", s.sectors, s.extents, sectors, g.extents)
	}
	return s, nil
}

// geometry is where things lie, in sectors from the pool's begin.
type geometry struct {
	base    uint64 // of the pool on the device
	sectors uint64
	records uint64
	extents int
	chunks  int
	data    uint64 // first sector of extent 0
}

// geometryOf lays a pool of a number of sectors out.
func geometryOf(sectors uint64, records uint32) (g geometry, err error) {
	if records < minRecords || records > maxRecords || bits.OnesCount32(records) != 1 {
		return g, fmt.Errorf("pool: a log of %d records: a power of two from %d to %d", records, minRecords, maxRecords)
	}
	// The chunks are reckoned for all sectors, so that they do not depend on what they leave.
	most := min(sectors/extentSectors, maxExtents)
	g = geometry{sectors: sectors, records: uint64(records), chunks: volumeChunks + int((most+chunkExtents-1)/chunkExtents)}
	meta := g.metadata()
	g.data = (meta + extentSectors - 1) / extentSectors * extentSectors
	if sectors < g.data+meta+minimumExtents*extentSectors {
		return g, fmt.Errorf("pool: %d bytes are too small: at least %d", sectors*sectorSize, (g.data+meta+minimumExtents*extentSectors)*sectorSize)
	}
	g.extents = int(min((sectors-g.data-meta)/extentSectors, maxExtents))
	if 2*g.chunks > int(records) {
		return g, fmt.Errorf("pool: a log of %d records for %d chunks: take at least twice as many", records, g.chunks)
	}
	return g, nil
}

// metadata is how many sectors one copy takes.
func (g *geometry) metadata() uint64 { return g.chunkPlace(1, g.chunks) }

// Offsets within the front copy of the metadata.
func (g *geometry) rootPlace(revision uint64) uint64 { return 1 + revision%rootPlaces }
func (g *geometry) recordPlace(number uint64) uint64 { return 1 + rootPlaces + number%g.records }
func (g *geometry) chunkPlace(gen uint8, i int) uint64 {
	return 1 + rootPlaces + g.records + (uint64(gen)*uint64(g.chunks)+uint64(i))*chunkSectors
}

// place is where a copy of what lies at an offset of the front is on the device. The end
// has the same in the same order, but the superblock last, where it is found without
// knowing how long the rest is.
func (g *geometry) place(copy int, offset uint64) uint64 {
	switch {
	case copy == 0:
		return g.base + offset
	case offset == 0:
		return g.base + g.sectors - 1
	}
	return g.base + g.sectors - g.metadata() + offset - 1
}

// extentPlace is the first sector of an extent on the device.
func (g *geometry) extentPlace(e uint32) uint64 { return g.base + g.data + uint64(e)*extentSectors }

// root is the state of the pool with the log behind it.
type root struct {
	revision, era, start, reach uint64
	tag                         [tagSize]byte
	checkpoint                  [16]byte
	generation                  uint8
}

func (r *root) encode(b []byte) {
	clear(b)
	copy(b, rootMagic)
	for i, v := range []uint64{r.revision, r.era, r.start, r.reach} {
		le.PutUint64(b[8+8*i:], v)
	}
	copy(b[40:], r.tag[:])
	copy(b[56:], r.checkpoint[:])
	b[72] = r.generation
}

func parseRoot(b []byte) (r root, ok bool) {
	r = root{
		revision: le.Uint64(b[8:]), era: le.Uint64(b[16:]), start: le.Uint64(b[24:]), reach: le.Uint64(b[32:]),
		tag: [tagSize]byte(b[40:56]), checkpoint: [16]byte(b[56:72]), generation: b[72],
	}
	return r, string(b[:8]) == rootMagic && r.generation <= 1 && r.start > 0 && r.reach >= r.start-1 && zero(b[73:payloadAt])
}

// mapping is one entry of a map record: whose an extent is from then on.
type mapping struct {
	extent uint32
	slot   uint16 // 0: free
	at     uint32
}

// record is one entry of the log.
type record struct {
	number uint64
	before [tagSize]byte
	kind   uint8
	arg    uint16 // slot, of delete and empty
	maps   []mapping
	desc   descriptor
}

func (r *record) encode(b []byte) {
	clear(b)
	copy(b, recordMagic)
	le.PutUint64(b[8:], r.number)
	copy(b[16:], r.before[:])
	b[32] = r.kind
	arg := r.arg
	switch r.kind {
	case kindMap:
		arg = uint16(len(r.maps))
		for i, m := range r.maps {
			e := b[recordAt+mapEntry*i:]
			le.PutUint32(e, m.extent)
			le.PutUint16(e[4:], m.slot)
			le.PutUint32(e[6:], m.at)
		}
	case kindVolume:
		r.desc.encode(b[recordAt:])
	}
	le.PutUint16(b[34:], arg)
}

// parseRecord reads a record of a pool of so many extents.
func parseRecord(b []byte, extents int) (r record, ok bool) {
	r = record{number: le.Uint64(b[8:]), before: [tagSize]byte(b[16:32]), kind: b[32], arg: le.Uint16(b[34:])}
	if string(b[:8]) != recordMagic || b[33] != 0 || !zero(b[36:recordAt]) {
		return r, false
	}
	rest := b[recordAt:payloadAt]
	switch r.kind {
	case kindMap:
		n := int(r.arg)
		if n < 1 || n > maxMap {
			return r, false
		}
		for e := rest[:n*mapEntry]; len(e) > 0; e = e[mapEntry:] {
			m := mapping{le.Uint32(e), le.Uint16(e[4:]), le.Uint32(e[6:])}
			if m.extent >= uint32(extents) || m.slot > maxSlot || m.slot == free && m.at != 0 {
				return r, false
			}
			r.maps = append(r.maps, m)
		}
		r.arg, rest = 0, rest[n*mapEntry:]
	case kindVolume:
		if r.desc, ok = parseDescriptor(rest[:descriptorSize]); !ok || r.desc.slot == 0 || r.arg != 0 {
			return r, false
		}
		rest = rest[descriptorSize:]
	case kindDelete, kindEmpty:
		if r.arg < 1 || r.arg > maxSlot {
			return r, false
		}
	default:
		return r, false
	}
	return r, zero(rest)
}

// descriptor is what the medium has of a volume.
type descriptor struct {
	slot       uint16 // 0: none
	shift      uint8  // block size's logarithm
	name       string
	id         [16]byte
	blocks     uint64
	commitment [32]byte
	wraps      [2]wrap
}

// extents is how many extents the volume has.
func (d *descriptor) extents() uint64 { return (d.blocks<<d.shift + ExtentSize - 1) / ExtentSize }

func (d *descriptor) encode(b []byte) {
	b = b[:descriptorSize]
	clear(b)
	le.PutUint16(b, d.slot)
	b[2], b[3] = d.shift, uint8(len(d.name))
	copy(b[4:], d.name)
	copy(b[68:], d.id[:])
	le.PutUint64(b[84:], d.blocks)
	copy(b[92:], d.commitment[:])
	copy(b[124:], d.wraps[0][:])
	copy(b[124+wrapSize:], d.wraps[1][:])
}

func parseDescriptor(b []byte) (d descriptor, ok bool) {
	if d.slot = le.Uint16(b); d.slot == 0 {
		return d, zero(b)
	}
	n := int(b[3])
	if d.slot > maxSlot || n > maxName || !zero(b[4+n:68]) || !zero(b[124+2*wrapSize:]) {
		return d, false
	}
	d.shift, d.name, d.id, d.blocks = b[2], string(b[4:4+n]), [16]byte(b[68:84]), le.Uint64(b[84:])
	d.commitment = [32]byte(b[92:124])
	d.wraps = [2]wrap{wrap(b[124:]), wrap(b[124+wrapSize:])}
	return d, checkName(d.name) == nil && (d.shift == 9 || d.shift == 12) && d.blocks > 0 && d.blocks <= maxVolume>>d.shift
}

// checkName holds a name to what a descriptor takes.
func checkName(name string) error {
	bad := len(name) < 1 || len(name) > maxName
	for _, c := range []byte(name) {
		bad = bad || c <= ' ' || c > '~'
	}
	if bad {
		return fmt.Errorf("pool: volume name %.80q: 1 to %d printable ASCII characters without space", name, maxName)
	}
	return nil
}

func zero(b []byte) bool {
	var x byte
	for _, c := range b {
		x |= c
	}
	return x == 0
}

// sign puts the MAC at the end of a structure, and gives it.
func (p *Pool) sign(b []byte) []byte {
	body := b[:len(b)-macSize]
	p.mac.Reset()
	p.mac.Write(body)
	return p.mac.Sum(body)[len(body):]
}

// authentic verifies a structure's MAC.
func (p *Pool) authentic(b []byte) bool {
	body := b[:len(b)-macSize]
	p.mac.Reset()
	p.mac.Write(body)
	var sum [macSize]byte
	return hmac.Equal(p.mac.Sum(sum[:0]), b[len(body):])
}

// medium makes an error of the device one that the target knows.
func medium(what string, at uint64, err error) error {
	return fmt.Errorf("%w: %s at block %d: %w", volume.ErrMedium, what, at, err)
}
