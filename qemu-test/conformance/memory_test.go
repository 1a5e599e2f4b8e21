//go:build linux && arm

package conformance

import (
	"math/rand"
	"runtime/debug"
	"syscall"
	"testing"
	"unsafe"
)

// access tries f and returns the fault's address if it faults.
func access(f func()) (addr uintptr, faulted bool) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		r := recover()
		if r == nil {
			return
		}
		faulted = true
		if a, hasAddr := r.(interface{ Addr() uintptr }); hasAddr {
			addr = a.Addr()
		}
	}()
	f()
	return 0, false
}

func readable(addr uintptr) bool {
	_, faulted := access(func() { load8(addr) })
	return !faulted
}

// writable writes back what is there.
func writable(addr uintptr) bool {
	_, faulted := access(func() { store8(addr, load8(addr)) })
	return !faulted
}

// protections checks a string of one letter a page: '-' no access, 'r', 'w'
// (which can be read as well).
func protections(t *testing.T, what string, base uintptr, want string) {
	t.Helper()
	for i, p := range want {
		addr := base + uintptr(i)*pageSize
		r, w := readable(addr+8), p != '-' && writable(addr+pageSize-1)
		if r != (p != '-') || w != (p == 'w') {
			t.Errorf("%s: page %d of %q: readable %v, writable %v", what, i, want, r, w)
		}
	}
}

func TestMmapErrors(t *testing.T) {
	p := pages(t, 4)
	event := must(t, sysEventfd2, 0, 0)
	defer call(sysClose, event)
	for _, c := range []struct {
		what                          string
		addr, size, prot, flags, file uintptr
		want                          syscall.Errno
	}{
		{"zero length", 0, 0, protRW, mapAnon, noFd, EINVAL},
		{"zero length, fixed", p, 0, protRW, mapFixed, noFd, EINVAL},
		{"no type", 0, pageSize, protRW, syscall.MAP_ANONYMOUS, noFd, EINVAL},
		{"length wraps when rounded", 0, 0xfffff001, protNone, mapAnon, noFd, ENOMEM},
		{"largest length", 0, 0xffffffff, protNone, mapAnon, noFd, ENOMEM},
		{"more than user space", 0, 0xf0000000, protNone, mapAnon, noFd, ENOMEM},
		{"fixed, unaligned", p + 1, pageSize, protRW, mapFixed, noFd, EINVAL},
		{"fixed, unaligned by half a page", p + 2048, pageSize, protRW, mapFixed, noFd, EINVAL},
		{"fixed, wraps", p, 0xfffff000, protNone, mapFixed, noFd, ENOMEM},
		{"fixed, ends in kernel space", p, 0xc0000000, protNone, mapFixed, noFd, ENOMEM},
		{"fixed in the last page", 0xfffff000, pageSize, protNone, mapFixed, noFd, ENOMEM},
		{"fixed in the last page, wraps", 0xfffff000, 2 * pageSize, protNone, mapFixed, noFd, ENOMEM},
		{"fixed in kernel space", 0xc0000000, pageSize, protNone, mapFixed, noFd, ENOMEM},
		{"fixed in kernel space, unaligned", 0xc0000001, pageSize, protNone, mapFixed, noFd, ENOMEM},
		{"fixed at zero", 0, pageSize, protRW, mapFixed, noFd, EINVAL},
		{"fixed in the page after zero", pageSize, pageSize, protRW, mapFixed, noFd, EINVAL},
		{"no such file", 0, pageSize, protRead, syscall.MAP_PRIVATE, noFd, EBADF},
		{"no such file, zero length", 0, 0, protRead, syscall.MAP_PRIVATE, noFd, EBADF},
		{"no such file, large number", 0, pageSize, protRead, syscall.MAP_PRIVATE, farAwayFd, EBADF},
		{"file that cannot be mapped", 0, pageSize, protRead, syscall.MAP_PRIVATE, event, ENODEV},
	} {
		if underUserEmulation && (c.addr < 0x2000 || c.addr >= 0xc0000000) && c.flags == mapFixed && c.size > 0 {
			continue // qemu-arm offers the whole 4 GiB and page 0 to the program
		}
		if underUserEmulation && c.size >= 0xc0000000 {
			continue // likewise, and maps over the program if told to
		}
		if underUserEmulation && c.file == noFd && c.want == EBADF && c.size == 0 {
			continue // qemu-arm looks at the length first
		}
		r, e := call(sysMmap2, c.addr, c.size, c.prot, c.flags, c.file, 0)
		if e == 0 {
			t.Errorf("%s: mapped at %#x; want %s", c.what, r, name(c.want))
			call(sysMunmap, r, c.size)
		} else if e != c.want {
			t.Errorf("%s: %s; want %s", c.what, name(e), name(c.want))
		}
	}
	protections(t, "after the errors", p, "wwww")
}

func TestMmapHint(t *testing.T) {
	p := pages(t, 2)
	*wordAt(p) = 0x1234567
	for _, hint := range []uintptr{0, p, p + 1, 0x20000000, 0x20000fff, 0xc0000000, 0xffffffff} {
		if underUserEmulation && hint >= 0xc0000000 {
			continue // qemu-arm's user space ends at 4 GiB
		}
		r := must(t, sysMmap2, hint, 3*pageSize-5, protRW, mapAnon, noFd, 0)
		if r%pageSize != 0 || r < p+2*pageSize && p < r+3*pageSize || r == 0 || r >= 0xc0000000 && !underUserEmulation {
			t.Errorf("hint %#x: mapped at %#x", hint, r)
		}
		b := bytesAt(r, 3*pageSize)
		for i, v := range b {
			if v != 0 {
				t.Fatalf("hint %#x: byte %d of a new mapping is %#x", hint, i, v)
			}
		}
		for i := range b {
			b[i] = 0xa5
		}
		must(t, sysMunmap, r, 3*pageSize)
	}
	if *wordAt(p) != 0x1234567 {
		t.Error("a hint replaced an old mapping")
	}
	// The page offset and the descriptor of an anonymous mapping are not looked at.
	r := must(t, sysMmap2, 0, 1, protRW, mapAnon, farAwayFd, 7)
	protections(t, "one byte is one page", r, "w")
	must(t, sysMunmap, r, 1)
	if readable(r) {
		t.Error("still there after munmap of one byte")
	}
}

func TestMmapFixedReplaces(t *testing.T) {
	p := pages(t, 5)
	for i := range uintptr(5) {
		*wordAt(p + i*pageSize) = uint32(i) + 1
	}
	if r := must(t, sysMmap2, p+pageSize, 3*pageSize, protRW, mapFixed, noFd, 0); r != p+pageSize {
		t.Fatalf("MAP_FIXED at %#x went to %#x", p+pageSize, r)
	}
	for i, want := range []uint32{1, 0, 0, 0, 5} {
		if got := *wordAt(p + uintptr(i)*pageSize); got != want {
			t.Errorf("page %d holds %d, want %d", i, got, want)
		}
	}
	*wordAt(p + 2*pageSize) = 9
	must(t, sysMmap2, p+2*pageSize, pageSize, protNone, mapFixed, noFd, 0)
	protections(t, "PROT_NONE over data", p, "ww-ww")
	must(t, sysMmap2, p+2*pageSize, pageSize, protRead, mapFixed, noFd, 0)
	protections(t, "read-only over PROT_NONE", p, "wwrww")
	must(t, sysMmap2, p+2*pageSize, pageSize, protRW, mapFixed, noFd, 0)
	protections(t, "read-write over read-only", p, "wwwww")
	if got := *wordAt(p + 2*pageSize); got != 0 {
		t.Errorf("the page came back with %d in it", got)
	}
}

// Go reserves address space far beyond what it uses.
func TestReservation(t *testing.T) {
	const size = 512 << 20
	p := must(t, sysMmap2, 0, size, protNone, mapAnon, noFd, 0)
	protections(t, "reserved", p, "---")
	protections(t, "reserved, end", p+size-2*pageSize, "--")
	mid := p + size/2
	must(t, sysMmap2, mid, 64<<20, protRW, mapFixed, noFd, 0)
	for i := uintptr(0); i < 64<<20; i += 1 << 20 {
		if v := *wordAt(mid + i); v != 0 {
			t.Fatalf("fresh page at %#x holds %#x", mid+i, v)
		}
		*wordAt(mid + i) = uint32(i) + 1
	}
	for i := uintptr(0); i < 64<<20; i += 1 << 20 {
		if v := *wordAt(mid + i); v != uint32(i)+1 {
			t.Fatalf("page at %#x holds %#x, want %#x", mid+i, v, i+1)
		}
	}
	protections(t, "below what is used", mid-2*pageSize, "--w")
	protections(t, "above what is used", mid+64<<20-pageSize, "w--")
	must(t, sysMunmap, p, size)
	if readable(mid) || readable(p) || readable(p+size-1) {
		t.Error("part of the reservation is still there")
	}
}

func TestMunmap(t *testing.T) {
	p := pages(t, 8)
	for _, c := range []struct {
		what       string
		addr, size uintptr
	}{
		{"zero length", p, 0},
		{"unaligned", p + 1, pageSize},
		{"unaligned, zero length", p + 1, 0},
		{"wraps", p, 0xffffffff},
		{"wraps to a page", p, -p + pageSize},
		{"length wraps when rounded", p, 0xfffff001},
		{"kernel space", 0xc0000000, pageSize},
		{"last page", 0xfffff000, pageSize},
		{"last page, wraps", 0xfffff000, 2 * pageSize},
	} {
		if underUserEmulation && c.addr >= 0xc0000000 {
			continue // qemu-arm's user space ends at 4 GiB
		}
		refuse(t, c.what, EINVAL, sysMunmap, c.addr, c.size)
	}
	protections(t, "after the errors", p, "wwwwwwww")
	must(t, sysMunmap, p+2*pageSize, 1)
	protections(t, "one byte in the middle", p, "ww-wwwww")
	must(t, sysMunmap, p+5*pageSize, pageSize+1)
	protections(t, "a page and a byte", p, "ww-ww--w")
	must(t, sysMunmap, p+2*pageSize, pageSize)
	must(t, sysMunmap, p+pageSize, 5*pageSize)
	protections(t, "across holes", p, "w------w")
	must(t, sysMunmap, p+7*pageSize, pageSize)
	protections(t, "the tail", p, "w-------")
	must(t, sysMmap2, p+pageSize, 7*pageSize, protRW, mapFixed, noFd, 0)
	protections(t, "mapped again", p, "wwwwwwww")
}

func TestMprotect(t *testing.T) {
	p := pages(t, 8)
	for i := range uintptr(8) {
		*wordAt(p + i*pageSize) = uint32(i) + 1
	}
	must(t, sysMprotect, p+2*pageSize, 3*pageSize, protNone)
	protections(t, "none in the middle", p, "ww---www")
	must(t, sysMprotect, p+3*pageSize, 1, protRead)
	protections(t, "one byte is one page", p, "ww-r-www")
	must(t, sysMprotect, p+pageSize, 4*pageSize+1, protRead)
	protections(t, "across the pieces", p, "wrrrrrww")
	must(t, sysMprotect, p, 8*pageSize, protNone)
	protections(t, "all", p, "--------")
	must(t, sysMprotect, p, 4*pageSize, protRW)
	must(t, sysMprotect, p+4*pageSize, 4*pageSize, syscall.PROT_WRITE)
	protections(t, "all back", p, "wwwwwwww")
	for i := range uintptr(8) {
		if got := *wordAt(p + i*pageSize); got != uint32(i)+1 {
			t.Errorf("page %d holds %d after mprotect", i, got)
		}
	}
	for _, c := range []struct {
		what             string
		addr, size, prot uintptr
		want             syscall.Errno
	}{
		{"zero length", p, 0, protNone, ok},
		{"zero length, bad protection", p, 0, 0x70, ok},
		{"zero length, not mapped", 0xfffff000, 0, protRW, ok},
		{"unaligned", p + 1, pageSize, protNone, EINVAL},
		{"unaligned, zero length", p + 1, 0, protNone, EINVAL},
		{"bad protection", p, pageSize, 0x70, EINVAL},
		{"bad protection, negative", p, pageSize, noFd &^ 0x03000000, EINVAL},
		{"wraps", p, -p + pageSize, protNone, ENOMEM},
		{"length wraps when rounded", p, 0xfffff001, protNone, ENOMEM},
		{"kernel space", 0xc0000000, pageSize, protNone, ENOMEM},
		{"last page", 0xfffff000, pageSize, protNone, ENOMEM},
		{"page zero", 0, pageSize, protRW, ENOMEM},
	} {
		if underUserEmulation && (c.size == 0 || c.addr < p || c.addr > p+8*pageSize) {
			continue // qemu-arm looks at length zero last, and not at all for mappings
		}
		if _, e := call(sysMprotect, c.addr, c.size, c.prot); e != c.want {
			t.Errorf("%s: %s; want %s", c.what, name(e), name(c.want))
		}
	}
	protections(t, "after the errors", p, "wwwwwwww")
	if underUserEmulation {
		return // qemu-arm makes holes accessible
	}
	must(t, sysMunmap, p+3*pageSize, pageSize)
	refuse(t, "across a hole", ENOMEM, sysMprotect, p+2*pageSize, 3*pageSize, protRW)
	refuse(t, "starts in a hole", ENOMEM, sysMprotect, p+3*pageSize, 3*pageSize, protRead)
	protections(t, "after the hole", p, "www-wwww")
}

func TestMadvise(t *testing.T) {
	p := pages(t, 8)
	fill := func() {
		for i := range bytesAt(p, 8*pageSize) {
			bytesAt(p, 8*pageSize)[i] = 0xee
		}
	}
	fill()
	must(t, sysMadvise, p+2*pageSize, 2*pageSize+1, dontNeed)
	must(t, sysMprotect, p+6*pageSize, pageSize, protNone)
	must(t, sysMadvise, p+6*pageSize, pageSize, dontNeed)
	must(t, sysMprotect, p+6*pageSize, pageSize, protRW)
	for i, v := range bytesAt(p, 8*pageSize) {
		page, want := i/pageSize, byte(0xee)
		if page >= 2 && page <= 4 || page == 6 {
			want = 0
		}
		if v != want {
			t.Fatalf("byte %#x of page %d is %#x, want %#x", i%pageSize, page, v, want)
		}
	}
	fill()
	for _, c := range []struct {
		what               string
		addr, size, advice uintptr
		want               syscall.Errno
	}{
		{"zero length", p, 0, dontNeed, ok},
		{"unaligned", p + 4, pageSize, dontNeed, EINVAL},
		{"unaligned, zero length", p + 4, 0, dontNeed, EINVAL},
		{"length wraps when rounded", p, 0xfffff001, dontNeed, EINVAL},
		{"wraps", p, -p + pageSize, dontNeed, EINVAL},
		{"unknown advice", p, pageSize, 1000, EINVAL},
		{"unknown advice, zero length", p, 0, 1000, EINVAL},
		{"unknown advice, negative", p, pageSize, noFd, EINVAL},
		{"kernel space", 0xc0000000, pageSize, dontNeed, ENOMEM},
		{"page zero", 0, pageSize, dontNeed, ENOMEM},
	} {
		if underUserEmulation && (c.want == ENOMEM || c.advice != dontNeed) {
			continue // qemu-arm looks at neither the advice nor the mapping
		}
		if _, e := call(sysMadvise, c.addr, c.size, c.advice); e != c.want {
			t.Errorf("%s: %s; want %s", c.what, name(e), name(c.want))
		}
	}
	for _, advice := range []uintptr{0, 1, 2, 3} {
		must(t, sysMadvise, p, 8*pageSize, advice)
	}
	for i, v := range bytesAt(p, 8*pageSize) {
		if v != 0xee {
			t.Fatalf("byte %#x is %#x after calls that change nothing", i, v)
		}
	}
	must(t, sysMadvise, p, pageSize, 8) // MADV_FREE: what was there, or zero
	if v := *wordAt(p); v != 0 && v != 0xeeeeeeee {
		t.Errorf("MADV_FREE left %#x", v)
	}
	if !underUserEmulation {
		must(t, sysMunmap, p+3*pageSize, pageSize)
		refuse(t, "across a hole", ENOMEM, sysMadvise, p+2*pageSize, 3*pageSize, dontNeed)
	}
}

func TestBrk(t *testing.T) {
	top := must(t, sysBrk, 0)
	if top == 0 {
		t.Error("the break is at zero")
	}
	for _, addr := range []uintptr{0, 1, pageSize, 0xc0000000, 0xfffff000, 0xffffffff} {
		if underUserEmulation && addr >= 0xc0000000 {
			continue // qemu-arm's user space ends at 4 GiB
		}
		if r := must(t, sysBrk, addr); r != top {
			t.Errorf("brk(%#x) = %#x, want %#x as before", addr, r, top)
		}
	}
}

// Text cannot be written, read-only data neither, data cannot be executed, and
// page zero does not exist; each time the fault's address is reported.
func TestForbiddenAccess(t *testing.T) {
	p := pages(t, 2)
	text := noteSignalPC()
	message := "read-only data"
	rodata := uintptr(unsafe.Pointer(unsafe.StringData(message)))
	heap := new([16]uint32)
	heap[0] = 0xe12fff1e // bx lr
	*wordAt(p) = 0xe12fff1e
	must(t, sysMprotect, p+pageSize, pageSize, protRead)
	for _, c := range []struct {
		what string
		f    func()
		addr uintptr
	}{
		{"write text", func() { store8(text, 0) }, text},
		{"write read-only data", func() { store8(rodata, 'R') }, rodata},
		{"write read-only page", func() { store8(p+pageSize+77, 1) }, p + pageSize + 77},
		{"read nil", func() { load8(0) }, 0},
		{"write nil", func() { store8(8, 1) }, 8},
		{"read end of page zero", func() { load8(0xfff) }, 0xfff},
		{"read below", func() { load8(p - 1) }, p - 1},
		{"write above", func() { store8(p+2*pageSize, 1) }, p + 2*pageSize},
		{"execute a page", func() { jump(p) }, p},
		{"execute the heap", func() { jump(uintptr(unsafe.Pointer(heap))) }, uintptr(unsafe.Pointer(heap))},
		{"execute nil", func() { jump(0) }, 0},
		{"read kernel space", func() { load8(0xc0000000) }, 0xc0000000},
		{"write kernel space", func() { store8(0xc0000004, 1) }, 0xc0000004},
		{"execute kernel space", func() { jump(0xc0000000) }, 0xc0000000},
		{"read the last byte", func() { load8(0xffffffff) }, 0xffffffff},
	} {
		addr, faulted := access(c.f)
		if !faulted {
			t.Errorf("%s at %#x: no fault", c.what, c.addr)
		} else if c.addr >= pageSize && addr != c.addr && !underUserEmulation {
			// Go takes it from the sigcontext's fault_address, which qemu-arm leaves zero.
			t.Errorf("%s: fault reported at %#x, want %#x", c.what, addr, c.addr)
		}
	}
	if message != "read-only data" || load8(text) == 0 {
		t.Error("a forbidden write went through")
	}
}

// model is what the tests believe of a region, page by page.
type model struct {
	t    *testing.T
	base uintptr
	page [96]struct {
		mapped bool
		prot   uintptr
		tag    byte // the page's content, 0 if untouched
	}
}

// holeLimit is the longest run of unmapped pages that the fuzz leaves: shorter
// than anything that the Go runtime maps, so it cannot settle in a hole.
const holeLimit = 14

func (m *model) longestHole(from, to int) int {
	longest, run := 0, 0
	for i := range m.page {
		if !m.page[i].mapped || i >= from && i < to {
			run++
			longest = max(longest, run)
		} else {
			run = 0
		}
	}
	return longest
}

// check compares page i with the machine, and writes a new tag where it may.
func (m *model) check(i int, tag byte) {
	p, addr := &m.page[i], m.base+uintptr(i)*pageSize
	canRead, canWrite := p.mapped && p.prot&protRead != 0, p.mapped && p.prot == protRW
	if r := readable(addr); r != canRead {
		m.t.Fatalf("page %d: readable %v, the model says %v", i, r, canRead)
	}
	if canRead {
		for _, off := range []uintptr{0, 1000, pageSize - 1} {
			if v := load8(addr + off); v != p.tag {
				m.t.Fatalf("page %d holds %#x at %#x, want %#x", i, v, off, p.tag)
			}
		}
	}
	if _, faulted := access(func() { store8(addr, tag) }); faulted == canWrite {
		m.t.Fatalf("page %d: writable %v, the model says %v", i, !faulted, canWrite)
	}
	if canWrite {
		store8(addr+1000, tag)
		store8(addr+pageSize-1, tag)
		p.tag = tag
	}
}

// step makes one random call and keeps the model in step.
func (m *model) step(rnd *rand.Rand) (from, to int) {
	from = rnd.Intn(len(m.page))
	to = min(len(m.page), from+1+rnd.Intn(1<<rnd.Intn(6)))
	addr, size := m.base+uintptr(from)*pageSize, uintptr(to-from)*pageSize-uintptr(rnd.Intn(pageSize))
	prot := []uintptr{protNone, protRead, protRW, protRW}[rnd.Intn(4)]
	hole := to // the first page that is not mapped
	for i := to - 1; i >= from; i-- {
		if !m.page[i].mapped {
			hole = i
		}
	}
	switch op := rnd.Intn(8); {
	case op < 2:
		if r := must(m.t, sysMmap2, addr, size, prot, mapFixed, noFd, 0); r != addr {
			m.t.Fatalf("MAP_FIXED at %#x went to %#x", addr, r)
		}
		for i := from; i < to; i++ {
			m.page[i].mapped, m.page[i].prot, m.page[i].tag = true, prot, 0
		}
	case op < 4:
		if m.longestHole(from, to) > holeLimit {
			return from, from
		}
		must(m.t, sysMunmap, addr, size)
		for i := from; i < to; i++ {
			m.page[i].mapped, m.page[i].tag = false, 0
		}
	case op < 6:
		want := ok
		if hole < to {
			if underUserEmulation {
				return from, from // qemu-arm makes holes accessible
			}
			want = ENOMEM
		}
		if _, e := call(sysMprotect, addr, size, prot); e != want {
			m.t.Fatalf("mprotect of pages %d-%d with a hole at %d: %s; want %s", from, to, hole, name(e), name(want))
		}
		// What lies before a hole may have changed; learn which.
		for i := from; i < to && i < hole; i++ {
			if hole == to {
				m.page[i].prot = prot
				continue
			}
			a := m.base + uintptr(i)*pageSize
			r := readable(a)
			w := r && writable(a)
			if r == (prot != protNone) && w == (prot == protRW) {
				m.page[i].prot = prot
			}
		}
	default:
		want := ok
		if hole < to {
			if underUserEmulation {
				return from, from // qemu-arm does not look at the mapping
			}
			want = ENOMEM
		}
		if _, e := call(sysMadvise, addr, size, dontNeed); e != want {
			m.t.Fatalf("madvise of pages %d-%d with a hole at %d: %s; want %s", from, to, hole, name(e), name(want))
		}
		for i := from; i < to; i++ {
			m.page[i].tag = 0 // holes do not keep the rest from being dropped
		}
	}
	return from, to
}

func TestMemoryModel(t *testing.T) {
	// Nothing but the fuzz maps memory meanwhile.
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	for seed := range int64(allow(4, 1)) {
		m := &model{t: t}
		m.base = pages(t, uintptr(len(m.page)))
		for i := range m.page {
			m.page[i].mapped, m.page[i].prot = true, protRW
		}
		rnd := rand.New(rand.NewSource(seed))
		for n := range 400 {
			from, to := m.step(rnd)
			for i := from; i < to; i++ {
				m.check(i, byte(n))
			}
			m.check(rnd.Intn(len(m.page)), byte(n))
			if t.Failed() {
				t.Fatalf("seed %d, step %d", seed, n)
			}
		}
		for i := range m.page {
			m.check(i, 1)
		}
		protections(t, "beside the region", m.base-pageSize, "-")
		protections(t, "beside the region", m.base+uintptr(len(m.page))*pageSize, "-")
	}
}
