package kernel

// maxRegions bounds the regions of the address space, as vm.max_map_count does
// in Linux; a call that would need more fails with ENOMEM.
const maxRegions = 1024

// Attributes of a region: its protection, and what stands behind it. A region
// is never without attributes.
const (
	attrProt      = protRead | protWrite | protExec
	attrAnonymous = 0x08 // pages on demand
	attrCommitted = 0x10 // counted against RAM; stays when access is taken away
	attrDevice    = 0x20 // device registers or DMA memory, at their own address
	attrImage     = 0x40 // part of the image, or the first stack: not to be changed
)

// A region is a run of pages that are treated alike.
type region struct {
	start, end uint32 // page numbers; end is the first page after
	attr       uint32
}

// A memoryMap is the address space of User mode: regions in rising order that
// do not overlap and are joined where they touch and are alike. Look-ups are by
// bisection. Free space is found first-fit from a remembered place below which
// every hole is known to be too small.
//
// Memory is committed when it is mapped, never at a page fault: the sum of all
// pages that may ever be touched stays within limit, so a page fault cannot run
// out of memory.
type memoryMap struct {
	n         uint32
	committed uint32 // pages
	limit     uint32 // pages

	searchFrom uint32 // page; holes below are at most biggest pages
	biggest    uint32

	region [maxRegions]region
}

func (m *memoryMap) init(limit uint32) {
	m.n = 0
	m.committed = 0
	m.limit = limit
	m.forgetHoles()
}

func (m *memoryMap) forgetHoles() {
	m.searchFrom = areaStart >> pageShift
	m.biggest = 0
}

// after returns the index of the first region that ends after page.
func (m *memoryMap) after(page uint32) uint32 {
	lo, hi := uint32(0), m.n
	for lo < hi {
		mid := (lo + hi) / 2
		if m.region[mid].end <= page {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo
}

// attrOf returns the attributes of the region that holds page; 0 is a hole.
func (m *memoryMap) attrOf(page uint32) uint32 {
	if i := m.after(page); i < m.n && m.region[i].start <= page {
		return m.region[i].attr
	}
	return 0
}

// piece returns the attributes at page and the first page up to end where they
// may change.
func (m *memoryMap) piece(page, end uint32) (attr, until uint32) {
	i := m.after(page)
	if i == m.n || m.region[i].start >= end {
		return 0, end
	}
	r := &m.region[i]
	if r.start > page {
		return 0, r.start
	}
	return r.attr, min(r.end, end)
}

// gap finds n free pages in the mmap area. Its loop is short: with a full table it
// runs a thousand times with interrupts masked.
func (m *memoryMap) gap(n uint32) (page uint32, ok bool) {
	if n <= m.biggest {
		m.forgetHoles()
	}
	const limit = areaEnd >> pageShift
	page = m.searchFrom
	regions := m.region[m.after(page):m.n]
	if len(regions) > 0 && regions[0].start < page {
		page, regions = regions[0].end, regions[1:]
	}
	hole, biggest := uint32(0), m.biggest
	for i := range regions {
		r := &regions[i]
		if r.start >= limit {
			break
		}
		if hole = r.start - page; hole >= n {
			m.searchFrom, m.biggest = page, biggest
			return page, true
		}
		biggest = max(biggest, hole)
		page = r.end
	}
	if hole = limit - min(page, limit); hole >= n {
		m.searchFrom, m.biggest = page, biggest
		return page, true
	}
	m.searchFrom, m.biggest = limit, max(biggest, hole)
	return 0, false
}

// free reports whether no region lies between start and end.
func (m *memoryMap) free(start, end uint32) bool {
	i := m.after(start)
	return i == m.n || m.region[i].start >= end
}

// set gives the pages from start to end the attributes attr, whatever was there;
// 0 makes a hole. It fails, and changes nothing, if more memory would be
// committed than there is, or more regions were needed than fit.
func (m *memoryMap) set(start, end, attr uint32) bool {
	i := m.after(start)
	j := i
	was := uint32(0)
	for ; j < m.n && m.region[j].start < end; j++ {
		if r := &m.region[j]; r.attr&attrCommitted != 0 {
			was += min(end, r.end) - max(start, r.start)
		}
	}
	will := uint32(0)
	if attr&attrCommitted != 0 {
		will = end - start
	}
	if m.committed-was+will > m.limit && will > was {
		return false
	}

	// What replaces regions i to j: a rest on the left, the new one, a rest on
	// the right, joined where alike.
	var p [3]region
	n := uint32(0)
	overlap := j > i
	switch {
	case overlap && m.region[i].start < start:
		p[0].start, p[0].end, p[0].attr = m.region[i].start, start, m.region[i].attr
		n = 1
	case i > 0 && m.region[i-1].end == start && m.region[i-1].attr == attr:
		i--
		p[0] = m.region[i]
		n = 1
	}
	n = join(&p, n, start, end, attr)
	switch {
	case overlap && m.region[j-1].end > end:
		n = join(&p, n, end, m.region[j-1].end, m.region[j-1].attr)
	case j < m.n && m.region[j].start == end && m.region[j].attr == attr:
		n = join(&p, n, end, m.region[j].end, attr)
		j++
	}

	if m.n-(j-i)+n > maxRegions {
		return false
	}
	copy(m.region[i+n:], m.region[j:m.n])
	m.n = m.n - (j - i) + n
	for k := uint32(0); k < n; k++ {
		m.region[i+k] = p[k]
	}
	m.committed = m.committed - was + will
	if attr == 0 && start < m.searchFrom {
		m.forgetHoles()
	}
	return true
}

// join appends a region to p, or lengthens the last one.
func join(p *[3]region, n, start, end, attr uint32) uint32 {
	if attr == 0 {
		return n
	}
	if n > 0 && p[n-1].end == start && p[n-1].attr == attr {
		p[n-1].end = end
		return n
	}
	p[n].start, p[n].end, p[n].attr = start, end, attr
	return n + 1
}
