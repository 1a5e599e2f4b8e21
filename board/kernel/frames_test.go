package kernel

import (
	"math/rand/v2"
	"testing"
)

// TestFrames: no page is handed out twice, none is lost, and they end when they
// should.
func TestFrames(t *testing.T) {
	const n = 40
	mem := lowMemory(t, (n+1)*pageSize) - directOffset
	mem += pageSize // 0 stands for none
	f := new(frames)
	f.addRange(0, mem, mem+3*pageSize)
	f.addRange(2, mem+10*pageSize, mem+n*pageSize)
	if f.total != 33 {
		t.Fatalf("%d pages in all", f.total)
	}
	held := map[uint32]bool{}
	r := rand.New(rand.NewPCG(1, 1))
	for step := range 20000 {
		if r.IntN(2) == 0 {
			pa, ok := f.take()
			if ok != (len(held) < 33) {
				t.Fatalf("step %d: take says %v with %d held", step, ok, len(held))
			}
			if !ok {
				continue
			}
			page := (pa - mem) / pageSize
			if held[pa] || pa%pageSize != 0 || page >= n || page >= 3 && page < 10 {
				t.Fatalf("step %d: page %#x", step, pa)
			}
			held[pa] = true
			clear(bytesAt(pa+directOffset, pageSize)) // the owner writes all of it
		} else {
			for pa := range held {
				f.give(pa)
				delete(held, pa)
				break
			}
		}
		if f.used != uint32(len(held)) || f.peakUsed < f.used {
			t.Fatalf("step %d: %d used, %d held", step, f.used, len(held))
		}
	}
}
