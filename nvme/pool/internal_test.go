package pool

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

// TestTable compares the index with a map, at all degrees of fullness.
func TestTable(t *testing.T) {
	const extents = 500
	x := rand.New(rand.NewPCG(1, 1))
	tab := newTable(extents)
	tab.build(x.Uint64())
	type place struct {
		slot uint8
		at   uint32
	}
	model := map[place]uint32{}
	for i := range 200000 {
		k := place{1 + uint8(x.IntN(3)), uint32(x.IntN(400))}
		e, ok := tab.find(k.slot, k.at)
		if want, there := model[k]; ok != there || ok && e != want {
			t.Fatalf("step %d: %v: %d %v, want %d %v", i, k, e, ok, want, there)
		}
		switch {
		case ok && x.IntN(2) == 0:
			tab.drop(e)
			tab.release(e)
			delete(model, k)
		case !ok && tab.free > 0 && (i/20000%2 == 0 || x.IntN(3) == 0):
			e := tab.take()
			tab.set(e, k.slot, k.at)
			model[k] = e
		}
		if tab.free != extents-len(model) {
			t.Fatalf("%d free, %d used", tab.free, len(model))
		}
	}
	twice := newTable(4)
	twice.set(1, 2, 3)
	twice.set(2, 2, 3)
	if twice.build(5) {
		t.Error("two extents for one place pass")
	}
}

// FuzzFormat: whatever is authentic parses without harm, and what parses is what encodes
// to the same.
func FuzzFormat(f *testing.F) {
	const extents, sectors = 24, 1024 + 24*extentSectors
	b := make([]byte, sectorSize)
	g, err := geometryOf(sectors, 64)
	if err != nil {
		f.Fatal(err)
	}
	s := superblock{extents: uint32(g.extents), records: 64, sectors: sectors, id: [16]byte{1, 2}}
	s.encode(b)
	f.Add(bytes.Clone(b))
	root := root{revision: 3, era: 4, start: 5, reach: 9, generation: 1}
	root.encode(b)
	f.Add(bytes.Clone(b))
	d := descriptor{slot: 2, shift: 12, name: "data", blocks: 100, id: [16]byte{3}, commitment: [32]byte{4}}
	for _, r := range []record{
		{number: 1, kind: kindMap, maps: []mapping{{1, 2, 3}, {extent: 4}}}, {number: 2, kind: kindVolume, desc: d},
		{number: 3, kind: kindDelete, arg: 2}, {number: 4, kind: kindEmpty, arg: 2},
	} {
		r.encode(b)
		f.Add(bytes.Clone(b))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) != sectorSize {
			return
		}
		again := make([]byte, sectorSize)
		body := b[:payloadAt]
		if s, err := parseSuperblock(b, sectors); err == nil {
			if s.encode(again); !bytes.Equal(body, again[:payloadAt]) {
				t.Error("superblock")
			}
		}
		if r, ok := parseRoot(b); ok {
			if r.encode(again); !bytes.Equal(body, again[:payloadAt]) {
				t.Error("root")
			}
		}
		if r, ok := parseRecord(b, extents); ok {
			if r.encode(again); !bytes.Equal(body, again[:payloadAt]) {
				t.Error("record")
			}
			p := Pool{table: newTable(extents)}
			p.apply(&r)
		}
		chunk := make([]byte, chunkBody)
		copy(chunk, b)
		for _, i := range []int{0, volumeChunks} {
			p := Pool{table: newTable(extents), geo: g}
			p.parseChunk(chunk, i)
		}
	})
}
