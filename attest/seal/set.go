package seal

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"nitro/attest/tpm"
)

// A Set is all that the medium keeps of the sealed objects (docs/medium.md, "Sealed
// objects").
type Set struct {
	Revision  uint64 // the copy with the higher one counts
	Objects   []Object
	Approvals []Approval
}

// ErrSet: the bytes are no set.
var ErrSet = errors.New("this is no set of sealed objects, or it is damaged: use the other copy, or provision again")

// Bounds of a set.
const (
	magic        = "NCSEALS1"
	maxSet       = 60 << 10 // bytes
	maxObjects   = 12       // three kinds with four authorities
	maxApprovals = 48       // of each for four releases
	maxPart      = 1024     // bytes of a public or private area, or a signature
)

// Encode gives the set's bytes.
func (s *Set) Encode() ([]byte, error) {
	if len(s.Objects) > maxObjects || len(s.Approvals) > maxApprovals {
		return nil, fmt.Errorf("seal: %d objects and %d approvals: at most %d and %d: %w", len(s.Objects), len(s.Approvals), maxObjects, maxApprovals, ErrSet)
	}
	le := binary.LittleEndian
	b := le.AppendUint64([]byte(magic), s.Revision)
	part := func(p []byte) { b = append(le.AppendUint32(b, uint32(len(p))), p...) }
	b = le.AppendUint32(b, uint32(len(s.Objects)))
	for _, o := range s.Objects {
		b = le.AppendUint32(b, uint32(o.Kind))
		part(o.Public)
		part(o.Private)
	}
	b = le.AppendUint32(b, uint32(len(s.Approvals)))
	for _, a := range s.Approvals {
		b = le.AppendUint32(b, uint32(a.Kind))
		b = le.AppendUint32(b, a.SecurityVersion)
		b = append(append(b, a.Policy[:]...), a.Ref[:]...)
		part(a.Signature)
	}
	sum := sha256.Sum256(b)
	if b = append(b, sum[:]...); len(b) > maxSet {
		return nil, fmt.Errorf("seal: set of %d bytes, at most %d: %w", len(b), maxSet, ErrSet)
	}
	return b, nil
}

// A reader takes a set's bytes apart. After the first thing that is not there it gives
// zeros.
type reader struct {
	rest []byte
	bad  bool
}

func (r *reader) bytes(n int) []byte {
	if r.bad || n > len(r.rest) {
		r.bad = true
		return make([]byte, min(n, maxPart))
	}
	p := r.rest[:n:n]
	r.rest = r.rest[n:]
	return p
}

// number reads a number of at most some size, such as a length.
func (r *reader) number(most uint32) uint32 {
	v := binary.LittleEndian.Uint32(r.bytes(4))
	if v > most {
		r.bad = true
		return 0
	}
	return v
}

func (r *reader) part() []byte { return r.bytes(int(r.number(maxPart))) }

// kind reads a kind.
func (r *reader) kind() Kind {
	k := Kind(r.number(uint32(Canary)))
	r.bad = r.bad || k == 0
	return k
}

// Decode reads a set's bytes, behind which there may be others, as on a medium.
func Decode(b []byte) (*Set, error) {
	r := &reader{rest: b[:min(len(b), maxSet)]}
	whole := len(r.rest)
	r.bad = string(r.bytes(len(magic))) != magic
	s := &Set{Revision: binary.LittleEndian.Uint64(r.bytes(8))}
	for range r.number(maxObjects) {
		s.Objects = append(s.Objects, Object{r.kind(), r.part(), r.part()})
	}
	for range r.number(maxApprovals) {
		s.Approvals = append(s.Approvals, Approval{r.kind(), r.number(^uint32(0)), tpm.Digest(r.bytes(32)), tpm.Digest(r.bytes(32)), r.part()})
	}
	used := whole - len(r.rest)
	if sum := sha256.Sum256(b[:used]); !same(r.bytes(len(sum)), sum) || r.bad {
		return nil, fmt.Errorf("seal: %d bytes: %w", len(b), ErrSet)
	}
	return s, nil
}

// Rank judges a copy of the set on the medium: of two that are whole the one with the
// higher revision counts.
func Rank(place []byte) (uint64, error) {
	s, err := Decode(place)
	if err != nil {
		return 0, err
	}
	return s.Revision, nil
}
