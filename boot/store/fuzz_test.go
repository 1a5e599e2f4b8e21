package store

import (
	"bytes"
	"errors"
	"testing"
)

// The parsers see authenticated bytes only, but for the superblock's and a frame's first
// ones. They are fuzzed all the same: what they take, they must give back unchanged, and
// anything else is ErrDamaged.

func FuzzSuperblock(f *testing.F) {
	b := smallBoard()
	format(f, b)
	f.Add(b.sector(0))
	f.Add([]byte(magic))
	f.Fuzz(func(t *testing.T, p []byte) {
		sector := (*[sectorSize]byte)(resum(append(p[:min(len(p), sectorSize)], make([]byte, sectorSize-min(len(p), sectorSize))...), func([]byte) {}))
		b, err := decodeSuperblock(sector)
		if err != nil {
			if !isKnown(err) {
				t.Error(err)
			}
			return
		}
		again, err := b.encode(new(keys))
		if err != nil || !bytes.Equal(again[:superTag], sector[:superTag]) {
			t.Errorf("another encoding: %v", err)
		}
	})
}

func FuzzRoot(f *testing.F) {
	r := root{sequence: 7, counter: 9, commits: 3, generation: 2, length: chunkSize + 1, body: []int{4, 5},
		tail: []tailSegment{{6, 3, 40, 8}, {7, 0, openEnd, 9}}}
	f.Add(r.encode()[:])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, p []byte) {
		var b [rootPlain]byte
		copy(b[:], p)
		r, err := decodeRoot(&b, minSegments)
		if err != nil {
			if !errors.Is(err, ErrDamaged) {
				t.Error(err)
			}
			return
		}
		if *r.encode() != b {
			t.Error("another encoding")
		}
	})
}

// lively is a body with all that one can have.
func lively() *body {
	id := epochID{random: [16]byte{1, 2}, counter: 5}
	return &body{
		epochs: []epochID{id}, logs: []logSegment{{4, 0, 7}}, bad: []int{9},
		records: []record{
			{hash{1}, entry{segment: 4, sector: 3, sectors: 2, length: 600}},
			{hash{2}, entry{segment: 4, sector: 5, sectors: 1, length: 60, large: &large{id, 8, chunkSize + 5, []int{6, 7}}}},
		},
	}
}

func FuzzBody(f *testing.F) {
	f.Add(lively().encode())
	f.Add((&body{}).encode())
	f.Fuzz(func(t *testing.T, p []byte) {
		b, err := decodeBody(p, minSegments, 256)
		if err != nil {
			if !errors.Is(err, ErrDamaged) {
				t.Error(err)
			}
			return
		}
		if again := b.encode(); len(again) != len(p) {
			t.Errorf("%d bytes, then %d", len(p), len(again))
		}
	})
}

func FuzzFrame(f *testing.F) {
	l := lively().records[1].large
	frame := appendFrame(nil, 5, []op{{kind: opSmall, name: "a", value: []byte("v")}, {kind: opDelete, name: "b"}, {kind: opLarge, name: "c", large: l}})
	f.Add(frame)
	f.Add(frame[:20])
	f.Fuzz(func(t *testing.T, p []byte) {
		b := make([]byte, max(1, sectorsFor(len(p)))*sectorSize-tagSize)
		copy(b, p)
		if len(b) > maxPlain {
			return
		}
		var ops []op
		h, err := decodeFrame(b, minSegments, func(o *op) error {
			ops = append(ops, *o)
			return nil
		})
		if err != nil {
			if !errors.Is(err, ErrDamaged) {
				t.Error(err)
			}
			return
		}
		again := appendFrame(nil, h.commit, ops)
		if !bytes.HasPrefix(b, again) && h.sectors == sectorsFor(len(again)) {
			t.Error("another encoding")
		}
	})
}

// TestEncodings holds the encodings to docs/store.md by hand.
func TestEncodings(t *testing.T) {
	b := lively().encode()
	if len(b) != bodyHeader+epochSize+logSize+2+2*recordSize+largeSize+4 {
		t.Errorf("a body of %d bytes", len(b))
	}
	if n := lively().size(); n != len(b) {
		t.Errorf("size tells %d", n)
	}
	if d, err := decodeBody(b, minSegments, 256); err != nil || !bytes.Equal(d.encode(), b) {
		t.Error(err)
	}
	frame := appendFrame(nil, 0x0807060504030201, []op{{kind: opSmall, name: "ab", value: []byte("xyz")}, {kind: opDelete, name: "c"}})
	if is := []byte("\x01\x00\x00\x00\x02\x00\x00\x00\x01\x02\x03\x04\x05\x06\x07\x08" + "\x01\x02ab\x03\x00xyz" + "\x03\x01c"); !bytes.Equal(frame, is) {
		t.Errorf("%q", frame)
	}
	r := root{sequence: 1, counter: 2, commits: 3, epoch: epochID{[16]byte{4}, 5}, generation: 6, length: 7, body: []int{8}, tail: []tailSegment{{9, 10, openEnd, 11}}}
	p := r.encode()
	for at, v := range map[int]byte{0: 1, 8: 2, 16: 3, 24: 4, 40: 5, 48: 6, 56: 7, 60: 1, 61: 1, 64: 8, 80: 9, 82: 10, 83: 255, 84: 11} {
		if p[at] != v {
			t.Errorf("root: byte %d is %d", at, p[at])
		}
		p[at] = 0
	}
	if !zero(p[:]) {
		t.Error("root: other bytes")
	}
}
