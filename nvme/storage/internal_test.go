package storage

import (
	"bytes"
	"testing"

	"nitro/nvme/key"
	"nitro/nvme/volume"
)

// TestEraseMemory: what a volume in RAM held is overwritten, and its salt is another one.
func TestEraseMemory(t *testing.T) {
	data, err := volume.NewRAM(512, 8)
	if err != nil {
		t.Fatal(err)
	}
	m := &memoryVolume{of: Spec{BlockSize: 512, Blocks: 8}, data: data, own: [32]byte{1}}
	held := bytes.Repeat([]byte{5}, 8*512)
	if err := data.WriteAt(t.Context(), 0, held); err != nil {
		t.Fatal(err)
	}
	if err := m.erase(); err != nil {
		t.Fatal(err)
	}
	if err := data.ReadAt(t.Context(), 0, held); err != nil || !bytes.Equal(held, make([]byte, len(held))) || m.own == [32]byte{1} {
		t.Errorf("%v; overwritten %v; salt %x", err, bytes.Equal(held, make([]byte, len(held))), m.own)
	}
}

// FuzzStanding: what is read is what is written again.
func FuzzStanding(f *testing.F) {
	one := due{key.Standing{Volume: [16]byte{1}, Cycle: 7, Expires: 1000}, 1}
	two := due{key.Standing{Volume: [16]byte{2}, Cycle: 7, Expires: 2000}, 64}
	both := encodeStanding([]due{two, one})
	f.Add([]byte(nil))
	f.Add(both)
	f.Add(both[:len(both)-1])
	f.Add(append(bytes.Clone(both[entrySize:]), both[:entrySize]...))
	f.Fuzz(func(t *testing.T, b []byte) {
		list, err := parseStanding(b)
		if err == nil && !bytes.Equal(encodeStanding(list), b) {
			t.Errorf("%x is read as %+v", b, list)
		}
	})
}

// TestStandingRefuses: no list has a namespace twice, or one that no host can see.
func TestStandingRefuses(t *testing.T) {
	entry := func(n uint32) []byte { return encodeStanding([]due{{key.Standing{Volume: [16]byte{1}}, n}}) }
	for name, b := range map[string][]byte{
		"namespace 0":   entry(0),
		"namespace 65":  entry(65),
		"twice":         append(entry(3), entry(3)...),
		"not ascending": append(entry(3), entry(2)...),
		"cut":           entry(1)[1:],
		"65 entries":    make([]byte, 65*entrySize),
		"no lease":      make([]byte, entrySize),
	} {
		if list, err := parseStanding(b); err == nil {
			t.Errorf("%s: %+v", name, list)
		}
	}
}
