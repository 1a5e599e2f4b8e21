package store

import (
	"bytes"
	"crypto/subtle"
	"encoding/binary"
	"fmt"
	"io"

	"golang.org/x/crypto/chacha20poly1305"
)

// A root is the state of the store (docs/store.md, "Root").
type root struct {
	sequence   uint64
	counter    uint64
	commits    uint64 // when the body was written
	epoch      epochID
	generation uint64 // of the body
	length     int    // of the body in bytes
	body       []int  // segments
	tail       []tailSegment
}

// A tailSegment is a log segment with frames behind the body.
type tailSegment struct {
	segment    int
	from, end  int // sectors; end is openEnd for the last one
	generation uint64
}

const (
	rootNonce = chacha20poly1305.NonceSizeX
	rootPlain = sectorSize - rootNonce - tagSize
	openEnd   = 255

	rootBodies = 64 // offsets in the plaintext
	rootTail   = rootBodies + 2*maxBody
	tailSize   = 12
	rootEnd    = rootTail + maxTail*tailSize
)

func (r *root) slot() int { return int(r.sequence % ringSize) }

// encode makes the plaintext.
func (r *root) encode() *[rootPlain]byte {
	p := new([rootPlain]byte)
	le := binary.LittleEndian
	le.PutUint64(p[0:], r.sequence)
	le.PutUint64(p[8:], r.counter)
	le.PutUint64(p[16:], r.commits)
	copy(p[24:], r.epoch.append(nil))
	le.PutUint64(p[48:], r.generation)
	le.PutUint32(p[56:], uint32(r.length))
	p[60], p[61] = byte(len(r.body)), byte(len(r.tail))
	for i, n := range r.body {
		le.PutUint16(p[rootBodies+2*i:], uint16(n))
	}
	for i, t := range r.tail {
		at := p[rootTail+tailSize*i:]
		le.PutUint16(at, uint16(t.segment))
		at[2], at[3] = byte(t.from), byte(t.end)
		le.PutUint64(at[4:], t.generation)
	}
	return p
}

// decodeRoot reads a plaintext of a store with a number of segments. It has been
// authenticated, so what is wrong with it was written by us.
func decodeRoot(p *[rootPlain]byte, segments int) (r root, err error) {
	le := binary.LittleEndian
	r = root{
		sequence: le.Uint64(p[0:]), counter: le.Uint64(p[8:]), commits: le.Uint64(p[16:]),
		epoch: readEpochID(p[24:]), generation: le.Uint64(p[48:]),
	}
	length, bodies, tails := le.Uint32(p[56:]), int(p[60]), int(p[61])
	if bodies > maxBody || tails < 1 || tails > maxTail || int64(length) > int64(bodies)*chunkSize || chunksFor(int(length)) != bodies {
		return r, fmt.Errorf("%d bytes in %d segments, tail of %d: %w", length, bodies, tails, ErrDamaged)
	}
	r.length = int(length)
	for i := range bodies {
		r.body = append(r.body, int(le.Uint16(p[rootBodies+2*i:])))
	}
	for i := range tails {
		at := p[rootTail+tailSize*i:]
		t := tailSegment{segment: int(le.Uint16(at)), from: int(at[2]), end: int(at[3]), generation: le.Uint64(at[4:])}
		if last := i == tails-1; last != (t.end == openEnd) || !last && t.end > segmentSectors || t.from > segmentSectors || t.from > t.end {
			return r, fmt.Errorf("tail %d from sector %d to %d: %w", i, t.from, t.end, ErrDamaged)
		}
		r.tail = append(r.tail, t)
	}
	seen := map[int]bool{}
	for _, n := range r.names() {
		if n < 2 || n >= segments-2 || seen[n] {
			return r, fmt.Errorf("segment %d is named, of %d: %w", n, segments, ErrDamaged)
		}
		seen[n] = true
	}
	if again := r.encode(); *again != *p {
		return r, fmt.Errorf("a reserved byte is not zero: %w", ErrDamaged)
	}
	return r, nil
}

// names are all segments that the root names.
func (r *root) names() (all []int) {
	all = append(all, r.body...)
	for _, t := range r.tail {
		all = append(all, t.segment)
	}
	return all
}

// rootTries is how many slots are tried before the medium counts as worn.
const rootTries = 4

// writeRoot writes both copies of a root with the next sequence number, and makes it the
// newest one. One copy is enough. Where neither can be written the next slot is tried. If
// none can, it is not known what the medium holds, and nothing is written any more.
func (s *Store) writeRoot(r root) error {
	var last error
	sequence := s.root.sequence
	for range rootTries {
		sequence++
		r.sequence = sequence
		sector, err := s.sealRoot(&r)
		if err != nil {
			return err
		}
		first := s.write(s.ring(0), r.slot(), sector[:])
		second := s.write(s.ring(1), r.slot(), sector[:])
		if first == nil || second == nil {
			if first != nil || second != nil {
				s.stats.RootErrors++
			}
			s.stats.Roots++
			s.root = r
			return nil
		}
		last = first
	}
	s.failed = fmt.Errorf("root: %w: %w", ErrWorn, last)
	return fmt.Errorf("store: %w", s.failed)
}

// sealRoot encrypts a root. Its nonce is random, since all epochs use the same key; the
// sequence number in it keeps nonces apart even if the random generator repeats itself.
func (s *Store) sealRoot(r *root) (*[sectorSize]byte, error) {
	a, err := chacha20poly1305.NewX(s.keys.root[:])
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	p := new([sectorSize]byte)
	if _, err := io.ReadFull(s.rand, p[:rootNonce]); err != nil {
		return nil, fmt.Errorf("store: random generator: %w", err)
	}
	var number [8]byte
	binary.LittleEndian.PutUint64(number[:], r.sequence)
	subtle.XORBytes(p[:8], p[:8], number[:])
	a.Seal(p[:rootNonce], p[:rootNonce], r.encode()[:], []byte{byte(r.slot())})
	return p, nil
}

// readRoot finds the newest root. Slots that do not open are passed over: they were never
// written, were torn, or are of a store that was here before.
func (s *Store) readRoot() (newest root, err error) {
	a, err := chacha20poly1305.NewX(s.keys.root[:])
	if err != nil {
		return newest, fmt.Errorf("store: %w", err)
	}
	found := false
	rings := [2][]byte{make([]byte, segmentSize), make([]byte, segmentSize)}
	var unreadable [2]error
	for c, ring := range rings {
		unreadable[c] = s.readEach(s.ring(copyOf(c)), 0, ring, ringSize-1)
	}
	if unreadable[0] != nil && unreadable[1] != nil {
		return newest, fmt.Errorf("store: roots: %w", unreadable[0])
	}
	for slot := range ringSize {
		for c, ring := range rings {
			p := ring[slot*sectorSize:][:sectorSize]
			if zero(p) || c == 1 && bytes.Equal(p, rings[0][slot*sectorSize:][:sectorSize]) {
				continue
			}
			plain, err := a.Open(nil, p[:rootNonce], p[rootNonce:], []byte{byte(slot)})
			if err != nil {
				continue
			}
			r, err := decodeRoot((*[rootPlain]byte)(plain), s.segments)
			if err != nil {
				return newest, fmt.Errorf("store: root in slot %d: %w", slot, err)
			}
			if !found || r.counter > newest.counter || r.counter == newest.counter && r.sequence > newest.sequence {
				newest, found = r, true
			}
		}
	}
	if !found {
		return newest, fmt.Errorf("store: no root authenticates: %w", ErrDamaged)
	}
	return newest, nil
}
