package pool_test

import (
	"bytes"
	"math/rand/v2"
	"runtime"
	"testing"

	"nitro/boot/medium/mediumtest"
	. "nitro/nvme/pool"
)

// meter counts what goes to a card.
type meter struct {
	*mediumtest.Card
	writes, sectors, read int
}

func (m *meter) WriteBlocks(first uint64, b []byte) error {
	m.writes++
	m.sectors += len(b) / 512
	return m.Card.WriteBlocks(first, b)
}

func (m *meter) ReadBlocks(first uint64, b []byte) error {
	m.read += len(b) / 512
	return m.Card.ReadBlocks(first, b)
}

// TestFigures measures what docs/pool.md, "Figures", has, and holds it to that.
func TestFigures(t *testing.T) {
	const gib = 1 << 30
	m := &meter{Card: mediumtest.New(32 * gib / 512)}
	r := &rig{t: t, card: m.Card, model: map[string]*model{}}
	r.store = &store{card: m.Card}
	r.conf = Config{Device: m, Size: 32 * gib, Key: bytes.Repeat([]byte{7}, KeySize), Witness: r.store, Erase: r.store}
	if err := Format(r.conf); err != nil {
		t.Fatal(err)
	}
	m.Settle()
	m.read = 0
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	r.open()
	runtime.GC()
	runtime.ReadMemStats(&after)
	heap := int(after.HeapAlloc) - int(before.HeapAlloc)
	t.Logf("32 GiB: %d KiB of RAM, %d KiB read by an empty mount", heap>>10, m.read>>1)
	if heap > 3<<20 {
		t.Errorf("%d bytes of RAM for 32 GiB", heap)
	}
	v := r.create("a", 4096, 1<<20)
	data := make([]byte, ExtentSize)
	measure := func(what string, n int, most float64, do func(i int) error) {
		m.writes, m.sectors = 0, 0
		for i := range n {
			if err := do(i); err != nil {
				t.Fatal(err)
			}
		}
		writes, sectors := float64(m.writes)/float64(n), float64(m.sectors)/float64(n)
		t.Logf("%s: %.2f writes, %.1f sectors each", what, writes, sectors)
		if sectors > most {
			t.Errorf("%s: more than %.1f sectors", what, most)
		}
		m.Settle()
	}
	n := 600
	if few() {
		n = 60
	}
	measure("new, 128 KiB in sequence", n, 270, func(i int) error { return v.WriteAt(t.Context(), uint64(i)*32, data) })
	measure("mapped, 128 KiB in sequence", n, 256, func(i int) error { return v.WriteAt(t.Context(), uint64(i)*32, data) })
	x := rand.New(rand.NewPCG(1, 1))
	measure("mapped, 4 KiB at random", n, 8, func(i int) error { return v.WriteAt(t.Context(), x.Uint64N(uint64(n)*32), data[:4096]) })
	measure("new, 4 KiB at random", n, 270, func(i int) error { return v.WriteAt(t.Context(), uint64(n+x.IntN(20000)+1)*32, data[:4096]) })
	measure("trim of 128 KiB, one at a time", n, 1, func(i int) error { return v.Deallocate(t.Context(), uint64(i)*32, 32) })
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	m.read = 0
	r.model = nil
	r.open()
	t.Logf("mount: %d KiB read", m.read>>1)
}
