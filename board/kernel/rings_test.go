package kernel

import (
	"math/rand/v2"
	"slices"
	"testing"
)

func (r *rings) list(q uint32) (nodes []uint32) {
	for n := r.first(q); n != q; n = r.after(n) {
		nodes = append(nodes, n)
	}
	return nodes
}

// TestRings moves nodes between three queues and compares with slices.
func TestRings(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	r := new(rings)
	r.init()
	queues := []uint32{nodeActive, nodeExpired, nodeWait + 7}
	want := make([][]uint32, len(queues))
	for step := range 20000 {
		n := nodeThread + rnd.Uint32N(12)
		in := slices.IndexFunc(want, func(l []uint32) bool { return slices.Contains(l, n) })
		if r.alone(n) != (in < 0) {
			t.Fatalf("step %d: node %d alone: %v, stands in %d", step, n, r.alone(n), in)
		}
		if in >= 0 || rnd.IntN(4) == 0 {
			r.remove(n) // of a node in no ring: nothing
			if in >= 0 {
				want[in] = slices.DeleteFunc(want[in], func(m uint32) bool { return m == n })
			}
		} else {
			q := rnd.IntN(len(queues))
			r.push(queues[q], n)
			want[q] = append(want[q], n)
		}
		for i, q := range queues {
			if got := r.list(q); !slices.Equal(got, want[i]) {
				t.Fatalf("step %d: queue %d holds %v, not %v", step, i, got, want[i])
			}
			if r.alone(q) != (len(want[i]) == 0) {
				t.Fatalf("step %d: queue %d empty: %v", step, i, r.alone(q))
			}
		}
	}
}

// TestNodes: every queue and thing has a node of its own, which fits 16 bits.
func TestNodes(t *testing.T) {
	sizes := []struct{ first, n uint32 }{
		{nodeThread, MaxThreads}, {nodeActive, 1}, {nodeExpired, 1}, {nodeConsole, 1}, {nodeSeed, 1},
		{nodeFutex, futexBuckets}, {nodeWait, MaxFiles}, {nodeInterest, MaxFiles}, {nodeReady, MaxFiles},
		{nodeItem, maxItems}, {nodeReadied, maxItems},
	}
	next := uint32(0)
	for i, s := range sizes {
		if s.first != next {
			t.Errorf("group %d begins at %d, not %d", i, s.first, next)
		}
		next = s.first + s.n
	}
	if next != numNodes || numNodes > 1<<16 {
		t.Errorf("%d nodes, numNodes is %d", next, numNodes)
	}
}
