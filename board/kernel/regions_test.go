package kernel

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// A pageModel is the address space as an array of pages. Only a window of it is
// free; around that lie regions which stay.
type pageModel struct {
	start uint32
	attr  []uint32
}

const fence = attrImage | protRead

// newWindow returns a map whose mmap area is taken but for size pages, and its
// model. The window lies before a fence, and behind one.
func newWindow(tb testing.TB, start, size, limit uint32) (*memoryMap, *pageModel) {
	m := new(memoryMap)
	m.init(limit)
	for _, r := range [][2]uint32{{areaStart >> pageShift, start}, {start + size, areaEnd >> pageShift}} {
		if r[0] < r[1] && !m.set(r[0], r[1], fence) {
			tb.Fatal("the fence does not fit")
		}
	}
	return m, &pageModel{start, make([]uint32, size)}
}

func (p *pageModel) set(start, end, attr uint32) {
	for i := start; i < end; i++ {
		p.attr[i-p.start] = attr
	}
}

func (p *pageModel) committed() uint32 {
	n := uint32(0)
	for _, a := range p.attr {
		if a&attrCommitted != 0 {
			n++
		}
	}
	return n
}

// gap is the lowest run of n free pages.
func (p *pageModel) gap(n uint32) (page uint32, ok bool) {
	run := uint32(0)
	for i, a := range p.attr {
		run++
		if a != 0 {
			run = 0
		}
		if run == n {
			return p.start + uint32(i) + 1 - n, true
		}
	}
	return 0, false
}

// check compares a map with its model, and looks at what must always hold.
func (p *pageModel) check(m *memoryMap) error {
	sum := uint32(0)
	for i := range m.n {
		r := m.region[i]
		if r.start >= r.end || r.attr == 0 {
			return fmt.Errorf("region %d is empty: %+v", i, r)
		}
		if r.attr&attrCommitted != 0 {
			sum += r.end - r.start
		}
		if i == 0 {
			continue
		}
		before := m.region[i-1]
		if before.end > r.start {
			return fmt.Errorf("regions overlap: %+v %+v", before, r)
		}
		if before.end == r.start && before.attr == r.attr {
			return fmt.Errorf("regions are not joined: %+v %+v", before, r)
		}
	}
	if sum != m.committed || sum != p.committed() || sum > m.limit {
		return fmt.Errorf("committed %d, regions say %d, pages %d, limit %d", m.committed, sum, p.committed(), m.limit)
	}
	for i, a := range p.attr {
		if got := m.attrOf(p.start + uint32(i)); got != a {
			return fmt.Errorf("page %d has attributes %#x, not %#x", i, got, a)
		}
	}
	return nil
}

// checkRange compares what the map says of a range.
func (p *pageModel) checkRange(m *memoryMap, start, end uint32) error {
	free, n := true, start
	first := p.attr[start-p.start]
	for ; n < end && p.attr[n-p.start] == first; n++ {
	}
	for i := start; i < end; i++ {
		free = free && p.attr[i-p.start] == 0
	}
	if got := m.free(start, end); got != free {
		return fmt.Errorf("free is %v", got)
	}
	attr, until := m.piece(start, end)
	if attr != first || until != n {
		return fmt.Errorf("piece is %#x until %d, not %#x until %d", attr, until-p.start, first, n-p.start)
	}
	return nil
}

// TestRegionsExhaustively sets every range of a small window to every attribute,
// three times over.
func TestRegionsExhaustively(t *testing.T) {
	const size = 4
	start := uint32(areaStart>>pageShift) + 100
	attrs := []uint32{0, attrAnonymous | protRead, attrAnonymous | attrCommitted | protRead}
	type step struct{ start, end, attr uint32 }
	var steps []step
	for s := range uint32(size) {
		for e := s + 1; e <= size; e++ {
			for _, a := range attrs {
				steps = append(steps, step{start + s, start + e, a})
			}
		}
	}
	apply := func(m *memoryMap, p *pageModel, s step) {
		if !m.set(s.start, s.end, s.attr) {
			t.Fatalf("set %+v failed", s)
		}
		p.set(s.start, s.end, s.attr)
		if err := p.check(m); err != nil {
			t.Fatalf("after %+v: %v", s, err)
		}
	}
	m, p := newWindow(t, start, size, 1<<20)
	empty := *m
	for _, a := range steps {
		for _, b := range steps {
			for _, c := range steps {
				m.n, m.committed, m.searchFrom, m.biggest = empty.n, 0, empty.searchFrom, empty.biggest
				copy(m.region[:], empty.region[:empty.n])
				clear(p.attr)
				for _, s := range []step{a, b, c} {
					apply(m, p, s)
				}
				if err := p.checkRange(m, a.start, start+size); err != nil {
					t.Fatalf("%+v %+v %+v: %v", a, b, c, err)
				}
				for n := uint32(1); n <= size; n++ {
					page, ok := m.gap(n)
					if want, has := p.gap(n); ok != has || ok && page != want {
						t.Fatalf("%+v %+v %+v: gap(%d) is %d %v, not %d %v", a, b, c, n, page, ok, want, has)
					}
				}
			}
		}
	}
}

// TestRegionsAtRandom makes a long run of changes near the limits of commitment
// and of the table. A refused one must change nothing.
func TestRegionsAtRandom(t *testing.T) {
	steps := 60000
	if testing.Short() {
		steps = 15000
	}
	for seed := range uint64(3) {
		r := rand.New(rand.NewPCG(seed, 1))
		size := []uint32{64, 700, 4096}[seed]
		start := []uint32{areaStart >> pageShift, areaStart>>pageShift + 5, areaEnd>>pageShift - 4096}[seed]
		m, p := newWindow(t, start, size, size/2)
		attrs := []uint32{0, 0, attrAnonymous, attrAnonymous | attrCommitted | protRead,
			attrAnonymous | attrCommitted | protRead | protWrite, attrDevice | protRead}
		refused := [2]int{}
		for i := range steps {
			length := 1 + r.Uint32N([]uint32{12, 12, 2}[seed])
			if r.IntN(50) == 0 && seed < 2 || r.IntN(9000) == 0 {
				length = 1 + r.Uint32N(size)
			}
			attr := attrs[r.IntN(len(attrs))]
			from := start + r.Uint32N(size-length+1)
			page, ok := m.gap(length)
			if want, has := p.gap(length); ok != has || ok && page != want {
				t.Fatalf("seed %d step %d: gap(%d) is %d %v, not %d %v", seed, i, length, page-start, ok, want-start, has)
			}
			if ok && r.IntN(3) > 0 {
				from = page
			}
			before := *m
			if m.set(from, from+length, attr) {
				p.set(from, from+length, attr)
			} else {
				if before.n != m.n || before.committed != m.committed || before.region != m.region {
					t.Fatalf("seed %d step %d: a refused change changed something", seed, i)
				}
				refused[b2i(before.n > maxRegions-3)]++
			}
			if i%64 == 0 || steps-i < 100 {
				if err := p.check(m); err != nil {
					t.Fatalf("seed %d step %d: %v", seed, i, err)
				}
			}
			if err := p.checkRange(m, from, from+length); err != nil {
				t.Fatalf("seed %d step %d: %v", seed, i, err)
			}
		}
		if size < 4096 && refused[0] == 0 {
			t.Errorf("seed %d: the limit was never met", seed)
		}
		if size == 4096 && refused[1] == 0 {
			t.Errorf("seed %d: the table was never full: %d regions", seed, m.n)
		}
	}
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

func TestRegionTableFull(t *testing.T) {
	start := uint32(areaStart >> pageShift)
	m := new(memoryMap)
	m.init(1 << 20)
	for i := range uint32(maxRegions) {
		if !m.set(start+2*i, start+2*i+1, attrAnonymous) {
			t.Fatalf("region %d of %d did not fit", i, maxRegions)
		}
	}
	before := *m
	for _, f := range []struct {
		name       string
		start, end uint32
		attr       uint32
		ok         bool
	}{
		{"one more", start + 2*maxRegions, start + 2*maxRegions + 1, attrAnonymous, false},
		{"one between, unlike", start + 1, start + 2, attrDevice, false},
		{"one between, alike", start + 1, start + 2, attrAnonymous, true},
		{"another in its place", start + 8, start + 9, attrDevice, true},
		{"a hole", start, start + 1, 0, true},
	} {
		*m = before
		if ok := m.set(f.start, f.end, f.attr); ok != f.ok {
			t.Errorf("%s: %v", f.name, ok)
		} else if !ok && *m != before {
			t.Errorf("%s: refused, but something changed", f.name)
		}
	}
}

// TestCommitLimit: what is given back in the same change counts.
func TestCommitLimit(t *testing.T) {
	const start, commit = areaStart >> pageShift, attrAnonymous | attrCommitted
	m := new(memoryMap)
	m.init(10)
	for i, s := range []struct {
		start, end, attr uint32
		ok               bool
		committed        uint32
	}{
		{0, 11, commit, false, 0},
		{0, 10, commit, true, 10},
		{10, 11, commit, false, 10},
		{10, 11, attrAnonymous, true, 10},
		{5, 15, commit, false, 10},
		{0, 10, commit | protRead, true, 10},
		{0, 5, attrAnonymous, true, 5},
		{5, 15, commit, true, 10},
		{0, 20, 0, true, 0},
	} {
		if ok := m.set(start+s.start, start+s.end, s.attr); ok != s.ok || m.committed != s.committed {
			t.Errorf("step %d: %v, committed %d", i, ok, m.committed)
		}
	}
	m.committed = 12 // over the limit, as no sequence of calls makes it
	if !m.set(start+30, start+31, attrAnonymous) {
		t.Error("a change that commits nothing was refused")
	}
}
