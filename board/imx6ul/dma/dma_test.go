package dma

import (
	"errors"
	"math/rand/v2"
	"testing"
)

func TestLines(t *testing.T) {
	for _, c := range []struct {
		addr, n, start, end uint32
		first, last         bool
	}{
		{0x1000, 0, 0x1000, 0x1000, false, false},
		{0x1001, 0, 0x1001, 0x1001, false, false},
		{0x1000, 1, 0x1000, 0x1040, false, true},
		{0x1000, 64, 0x1000, 0x1040, false, false},
		{0x1000, 65, 0x1000, 0x1080, false, true},
		{0x103f, 1, 0x1000, 0x1040, true, false},
		{0x103f, 2, 0x1000, 0x1080, true, true},
		{0x1020, 32, 0x1000, 0x1040, true, false},
		{0x1020, 96, 0x1000, 0x1080, true, false},
		{0x9fefffc0, 64, 0x9fefffc0, 0x9ff00000, false, false},
	} {
		if start, end := Lines(c.addr, c.n); start != c.start || end != c.end {
			t.Errorf("%d bytes at %#x: lines from %#x to %#x", c.n, c.addr, start, end)
		}
		if first, last := Shares(c.addr, c.n); first != c.first || last != c.last {
			t.Errorf("%d bytes at %#x: shares %v, %v", c.n, c.addr, first, last)
		}
	}
}

const testBase = 0x9f000000

func arena(pages int) *Arena { return Over(make([]byte, pages*4096), testBase) }

func TestAlloc(t *testing.T) {
	a := arena(4)
	for i := range a.mem {
		a.mem[i] = 0xee
	}
	var all []Buffer
	for _, c := range []struct {
		n, align int
		addr     uint32
	}{
		{1, 1, testBase}, {100, 64, testBase + 64}, {64, 4096, testBase + 4096}, {64, 1, testBase + 192},
		{2048, 2048, testBase + 2048}, {8192, 64, testBase + 4096 + 64},
	} {
		b, err := a.Alloc(c.n, c.align)
		if err != nil || b.Addr != c.addr || len(b.Bytes) != c.n || cap(b.Bytes) != c.n {
			t.Fatalf("%d bytes aligned to %d: %#x, %d bytes, capacity %d, %v", c.n, c.align, b.Addr, len(b.Bytes), cap(b.Bytes), err)
		}
		for i, v := range b.Bytes {
			if v != 0 {
				t.Fatalf("byte %d of %#x is not zero", i, b.Addr)
			}
		}
		if &b.Bytes[0] != &a.mem[b.Addr-testBase] {
			t.Errorf("%#x is not where its bytes are", b.Addr)
		}
		all = append(all, b)
	}
	for _, b := range all {
		if err := a.Free(b); err != nil {
			t.Error(err)
		}
	}
	if n, used, free := a.Usage(); n != 0 || used != 0 || free != 4*4096 || len(a.free) != 1 {
		t.Errorf("after all were freed: %d buffers, %d used, %d free in %d gaps", n, used, free, len(a.free))
	}
}

func TestRefusals(t *testing.T) {
	a := arena(1)
	for _, c := range [][2]int{{0, 1}, {-1, 1}, {1, 0}, {1, -64}, {1, 96}} {
		if _, err := a.Alloc(c[0], c[1]); err == nil || errors.Is(err, ErrNoMemory) {
			t.Errorf("%v: %v", c, err)
		}
	}
	for _, c := range [][2]int{{4097, 1}, {1 << 30, 1}, {1, 1 << 30}, {1, 8192}} {
		if _, err := a.Alloc(c[0], c[1]); !errors.Is(err, ErrNoMemory) {
			t.Errorf("%v: %v", c, err)
		}
	}
	b, err := a.Alloc(4096, 1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Alloc(1, 1); !errors.Is(err, ErrNoMemory) {
		t.Errorf("a full arena: %v", err)
	}
	if err := a.Free(Buffer{Addr: b.Addr + 64}); err == nil {
		t.Error("an address within a buffer was freed")
	}
	if err := a.Free(b); err != nil {
		t.Error(err)
	}
	if err := a.Free(b); err == nil {
		t.Error("a buffer was freed twice")
	}
	for _, size := range []uint32{0, 100, 16 << 20} {
		if _, err := Open(size); err == nil {
			t.Errorf("an arena of %d bytes was opened", size)
		}
	}
}

// TestRandom allocates and frees at random: buffers never overlap, not even in a
// line, and what is freed can be used again.
func TestRandom(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	a := arena(16)
	var live []Buffer
	for round := range 20000 {
		if len(live) > 0 && r.IntN(2) == 0 {
			i := r.IntN(len(live))
			if err := a.Free(live[i]); err != nil {
				t.Fatal(err)
			}
			live = append(live[:i], live[i+1:]...)
		} else if b, err := a.Alloc(1+r.IntN(6000), 1<<r.IntN(13)); err == nil {
			live = append(live, b)
		} else if !errors.Is(err, ErrNoMemory) {
			t.Fatal(err)
		}
		if round%50 == 0 {
			disjoint(t, a, live)
		}
	}
	for _, b := range live {
		if err := a.Free(b); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := a.Alloc(16*4096, 64); err != nil {
		t.Errorf("after all were freed, the whole arena: %v", err)
	}
}

func disjoint(t *testing.T, a *Arena, live []Buffer) {
	owner := map[uint32]int{}
	used := uint32(0)
	for i, b := range live {
		start, end := Lines(b.Addr, uint32(len(b.Bytes)))
		used += end - start
		for line := start; line < end; line += LineSize {
			if o, taken := owner[line]; taken {
				t.Fatalf("the line at %#x belongs to %v and %v", line, live[o].Addr, b.Addr)
			}
			owner[line] = i
		}
	}
	if n, u, free := a.Usage(); n != len(live) || u != used || u+free != uint32(len(a.mem)) {
		t.Fatalf("usage is %d buffers, %d used, %d free; %d and %d are", n, u, free, len(live), used)
	}
	for i := 1; i < len(a.free); i++ {
		if a.free[i-1].end >= a.free[i].start {
			t.Fatalf("gaps %v", a.free)
		}
	}
}

func TestWords(t *testing.T) {
	b, err := arena(1).Alloc(12, 4)
	if err != nil {
		t.Fatal(err)
	}
	w := b.Words()
	Store(&w[1], 0x11223344)
	if got := Load(&w[1]); got != 0x11223344 || len(w) != 3 || b.Bytes[4] != 0x44 || b.Bytes[7] != 0x11 || b.Bytes[3] != 0 || b.Bytes[8] != 0 {
		t.Errorf("%#x in % x, %d words", got, b.Bytes, len(w))
	}
	for _, bad := range []Buffer{{b.Bytes[:10], b.Addr}, {b.Bytes[1:9], b.Addr + 1}} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("words of %d bytes at %#x", len(bad.Bytes), bad.Addr)
				}
			}()
			bad.Words()
		}()
	}
}
