package store

import (
	"fmt"

	"nitro/boot/medium"
)

// Sizes (docs/store.md, "Layout"), in bytes unless they say otherwise.
const (
	sectorSize     = 512
	segmentSectors = 64
	segmentSize    = segmentSectors * sectorSize
	frameSectors   = 32 // of the longest frame of the log
	tagSize        = 16 // Poly1305

	maxPlain  = frameSectors*sectorSize - tagSize
	chunkSize = segmentSize - tagSize // of a value or body in a segment
	inlineMax = 4096                  // the longest value in the log

	minSegments = 32
	maxSegments = 1 << 15

	maxTail  = 16 // segments that a root can name
	maxBody  = 8
	ringSize = segmentSectors // slots

	maxBad = 64 // segments, from where on the medium is worn
)

// sectorsFor is how many sectors a frame with n bytes has.
func sectorsFor(n int) int { return (n + tagSize + sectorSize - 1) / sectorSize }

// chunksFor is how many segments a value of n bytes takes.
func chunksFor(n int) int { return (n + chunkSize - 1) / chunkSize }

// Limits follow from the number of segments, so that small stores, as tests have them,
// work as large ones do. For 1,536 segments they are those of docs/store.md, "Space".
type limits struct {
	records         int // at most
	reservedRecords int // of these, for reserved writes only
	tail            int // segments of the tail, at most
	body            int // segments of a body, at most
	low             int // free segments below which is cleaned
	capacity        int // segments that live data may take, before bad ones
	reserved        int // of these, for reserved writes only
}

func limitsOf(segments int) limits {
	l := limits{records: min(4096, 8*segments), tail: min(maxTail, segments/8), reserved: min(8, segments/16)}
	l.reservedRecords = min(96, l.records/8)
	l.body = min(maxBody, chunksFor(bodyBound(segments, l.records)))
	l.low = l.body + 3
	l.capacity = segments - fixedSegments - l.tail - 2*l.body - 4
	return l
}

// bodyBound is the longest body.
func bodyBound(segments, records int) int {
	return bodyHeader + segments*(epochSize+logSize) + maxBad*2 + records*recordSize + segments*(largeSize+2)
}

// An extent is the store's part of the device.
type extent struct {
	device   medium.Device
	first    uint64 // sector
	segments int

	reads, writes, writeErrors uint64
}

const fixedSegments = 4 // superblocks and rings

func newExtent(d medium.Device, p medium.Place) (extent, error) {
	if bs := d.BlockSize(); bs != sectorSize {
		return extent{}, fmt.Errorf("store: the device has blocks of %d bytes: it must have %d", bs, sectorSize)
	}
	n := p.Size / segmentSize
	if n < minSegments || n > maxSegments || p.Size%segmentSize != 0 || p.Offset%sectorSize != 0 || p.Offset < 0 {
		return extent{}, fmt.Errorf("store: %d bytes at %#x: they must be %d to %d times 32 KiB, on whole sectors", p.Size, p.Offset, minSegments, maxSegments)
	}
	x := extent{device: d, first: uint64(p.Offset / sectorSize), segments: int(n)}
	if end := x.first + uint64(n)*segmentSectors; end > d.Blocks() {
		return extent{}, fmt.Errorf("store: it goes up to block %d and the device has %d: %w", end, d.Blocks(), ErrUnreadable)
	}
	return x, nil
}

// fixed are the segments of superblocks and rings.
func (x *extent) fixed() [fixedSegments]int {
	return [...]int{0, 1, x.segments - 2, x.segments - 1}
}

// A copyOf tells the two superblocks and the two rings apart.
type copyOf int

func (x *extent) superblock(c copyOf) int { return [...]int{0, x.segments - 1}[c] }
func (x *extent) ring(c copyOf) int       { return [...]int{1, x.segments - 2}[c] }

// read reads whole sectors.
func (x *extent) read(segment, sector int, p []byte) error {
	x.reads += uint64(len(p) / sectorSize)
	if err := x.device.ReadBlocks(x.block(segment, sector), p); err != nil {
		return fmt.Errorf("segment %d, sector %d: %w: %w", segment, sector, ErrUnreadable, err)
	}
	return nil
}

// write writes whole sectors.
func (x *extent) write(segment, sector int, p []byte) error {
	x.writes += uint64(len(p) / sectorSize)
	if err := x.device.WriteBlocks(x.block(segment, sector), p); err != nil {
		x.writeErrors++
		return fmt.Errorf("segment %d, sector %d: %w", segment, sector, err)
	}
	return nil
}

func (x *extent) block(segment, sector int) uint64 {
	return x.first + uint64(segment)*segmentSectors + uint64(sector)
}

// readEach reads sectors one by one where not all can be read at once: those that cannot
// are zero. It fails if more than some of them cannot.
func (x *extent) readEach(segment, sector int, p []byte, some int) error {
	err := x.read(segment, sector, p)
	if err == nil {
		return nil
	}
	clear(p)
	for i := 0; i < len(p); i += sectorSize {
		b := p[i : i+sectorSize]
		if x.read(segment, sector+i/sectorSize, b) != nil {
			clear(b)
			some--
		}
	}
	if some < 0 {
		return err
	}
	return nil
}
