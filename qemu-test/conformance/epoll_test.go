//go:build linux && arm

package conformance

import (
	"math"
	"os"
	"slices"
	"syscall"
	"testing"
	"time"
)

// The bits of struct epoll_event.
const (
	epollIn      = 0x1
	epollOut     = 0x4
	epollErr     = 0x8
	epollHup     = 0x10
	epollOneshot = 1 << 30
	epollEdge    = 1 << 31

	ctlAdd = 1
	ctlDel = 2
	ctlMod = 3
)

// event is struct epoll_event of the EABI: 16 bytes, data at 8.
type event struct {
	bits uint32
	_    uint32
	data uint64
}

// set is an epoll descriptor with memory for its arguments.
type set struct {
	t   *testing.T
	fd  uintptr
	mem uintptr
}

func newSet(t *testing.T) *set {
	s := &set{t: t, fd: must(t, sysEpollCreate1, syscall.EPOLL_CLOEXEC), mem: pages(t, 1)}
	t.Cleanup(func() { call(sysClose, s.fd) })
	return s
}

func (s *set) ctl(op int, fd uintptr, bits uint32, data uint64) syscall.Errno {
	*(*event)(pointer(s.mem)) = event{bits: bits, data: data}
	_, e := call(sysEpollCtl, s.fd, uintptr(op), fd, s.mem)
	return e
}

// control is ctl that has to succeed.
func (s *set) control(op int, fd uintptr, bits uint32, data uint64) {
	s.t.Helper()
	if e := s.ctl(op, fd, bits, data); e != 0 {
		s.t.Fatalf("epoll_ctl %d of %d: %s", op, fd, name(e))
	}
}

// ready returns what a wait of ms milliseconds reports.
func (s *set) ready(max, ms int32) []event {
	s.t.Helper()
	for {
		n, e := call(sysEpollPwait, s.fd, s.mem+64, uintptr(max), uintptr(uint32(ms)), 0, 8)
		if e == EINTR {
			continue
		}
		if e != 0 {
			s.t.Fatalf("epoll_pwait: %s", name(e))
		}
		var got []event
		for i := range n {
			got = append(got, *(*event)(pointer(s.mem + 64 + i*16)))
		}
		return got
	}
}

// expect compares the next report with pairs of data and bits, in this order.
func (s *set) expect(what string, want ...uint64) {
	s.t.Helper()
	var got []uint64
	for _, e := range s.ready(16, 0) {
		got = append(got, e.data, uint64(e.bits))
	}
	if !slices.Equal(got, want) {
		s.t.Errorf("%s: reported (data, bits) %x, want %x", what, got, want)
	}
}

// counter is an eventfd.
type counter struct {
	t   *testing.T
	fd  uintptr
	mem uintptr
}

func newCounter(t *testing.T, initial, flags uintptr) *counter {
	c := &counter{t, must(t, sysEventfd2, initial, flags), pages(t, 1)}
	t.Cleanup(func() { call(sysClose, c.fd) })
	return c
}

func (c *counter) add(n uint64) syscall.Errno {
	*longAt(c.mem) = n
	r, e := call(sysWrite, c.fd, c.mem, 8)
	if e == 0 && r != 8 {
		c.t.Errorf("write returned %d, want 8", r)
	}
	return e
}

func (c *counter) take() (uint64, syscall.Errno) {
	r, e := call(sysRead, c.fd, c.mem+8, 8)
	if e == 0 && r != 8 {
		c.t.Errorf("read returned %d, want 8", r)
	}
	return *longAt(c.mem + 8), e
}

// took checks what take returns.
func (c *counter) took(want uint64, wantErr syscall.Errno) {
	c.t.Helper()
	if got, e := c.take(); e != wantErr || e == 0 && got != want {
		c.t.Errorf("read %d, %s; want %d, %s", got, name(e), want, name(wantErr))
	}
}

func (c *counter) added(n uint64, want syscall.Errno) {
	c.t.Helper()
	if e := c.add(n); e != want {
		c.t.Errorf("write of %#x: %s; want %s", n, name(e), name(want))
	}
}

const nonblock = syscall.O_NONBLOCK

func TestEventfd(t *testing.T) {
	const top = math.MaxUint64 - 1
	c := newCounter(t, 0, nonblock)
	c.took(0, EAGAIN)
	c.added(3, ok)
	c.added(4, ok)
	c.added(0, ok)
	c.took(7, ok)
	c.took(0, EAGAIN)
	c.added(math.MaxUint64, EINVAL)
	c.added(top, ok)
	c.added(1, EAGAIN)
	c.added(0, ok)
	c.took(top, ok)
	c.added(top-1, ok)
	c.added(2, EAGAIN)
	c.added(1, ok)
	c.took(top, ok)
	c.added(9, ok)
	if r := must(t, sysRead, c.fd, c.mem+8, 4000); r != 8 || *longAt(c.mem + 8) != 9 {
		t.Errorf("a long read returned %d bytes with %d", r, *longAt(c.mem + 8))
	}
	first := newCounter(t, 0xfffffff0, nonblock)
	first.took(0xfffffff0, ok)

	s := newCounter(t, 2, nonblock|1) // EFD_SEMAPHORE
	s.added(3, ok)
	for range 5 {
		s.took(1, ok)
	}
	s.took(0, EAGAIN)
}

func TestEventfdBlocks(t *testing.T) {
	c := newCounter(t, 0, 0)
	writer := *c
	writer.mem = pages(t, 1)
	finishes(t, "a blocking read", func() {
		go func() { time.Sleep(20 * time.Millisecond); writer.add(5) }()
		start := time.Now()
		c.took(5, ok)
		if d := time.Since(start); d < 15*time.Millisecond {
			t.Errorf("read returned after %v, before there was something", d)
		}
	})
	c.added(math.MaxUint64-1, ok)
	finishes(t, "a blocking write", func() {
		reader := *c
		reader.mem = pages(t, 1)
		go func() { time.Sleep(20 * time.Millisecond); reader.take() }()
		start := time.Now()
		c.added(6, ok)
		if d := time.Since(start); d < 15*time.Millisecond {
			t.Errorf("write returned after %v, before there was room", d)
		}
	})
	c.took(6, ok)
	// A semaphore of n lets n of its waiters through.
	s := newCounter(t, 0, 1)
	through := make(chan uint64, 8)
	for range 4 {
		one := *s
		one.mem = pages(t, 1)
		go func() { v, _ := one.take(); through <- v }()
	}
	time.Sleep(20 * time.Millisecond)
	s.added(3, ok)
	finishes(t, "three of four", func() {
		for range 3 {
			if v := <-through; v != 1 {
				t.Errorf("read %d of a semaphore", v)
			}
		}
	})
	select {
	case <-through:
		t.Error("a semaphore of three let four through")
	case <-time.After(20 * time.Millisecond):
	}
	s.added(1, ok)
	finishes(t, "the fourth", func() { <-through })
}

// O_NONBLOCK is a property of the open file that fcntl shows and sets.
func TestStatusFlags(t *testing.T) {
	for _, nr := range []uintptr{sysFcntl, sysFcntl64} {
		c := newCounter(t, 0, 0)
		flags := must(t, nr, c.fd, syscall.F_GETFL)
		if flags&(syscall.O_ACCMODE|nonblock) != syscall.O_RDWR {
			t.Errorf("flags of an eventfd: %#x", flags)
		}
		must(t, nr, c.fd, syscall.F_SETFL, flags|nonblock)
		if got := must(t, nr, c.fd, syscall.F_GETFL); got != flags|nonblock {
			t.Errorf("flags %#x, want %#x", got, flags|nonblock)
		}
		c.took(0, EAGAIN)
		// The access mode cannot be changed.
		must(t, nr, c.fd, syscall.F_SETFL, nonblock|syscall.O_WRONLY)
		if got := must(t, nr, c.fd, syscall.F_GETFL); got != flags|nonblock {
			t.Errorf("flags %#x, want %#x", got, flags|nonblock)
		}
		must(t, nr, c.fd, syscall.F_SETFL, 0)
		writer := *c
		writer.mem = pages(t, 1)
		finishes(t, "a read that blocks again", func() {
			go func() { time.Sleep(10 * time.Millisecond); writer.add(1) }()
			c.took(1, ok)
		})
		for _, v := range []uintptr{syscall.FD_CLOEXEC, 0} {
			must(t, nr, c.fd, syscall.F_SETFD, v)
			if got := must(t, nr, c.fd, syscall.F_GETFD); got != v {
				t.Errorf("descriptor flags %d, want %d", got, v)
			}
		}
	}
	p := pages(t, 1)
	for mode := range uintptr(3) {
		fd := must(t, sysOpen, cstring(p, "/dev/null"), mode)
		if got := must(t, sysFcntl, fd, syscall.F_GETFL); got&syscall.O_ACCMODE != mode {
			t.Errorf("opened with mode %d, flags %#x", mode, got)
		}
		must(t, sysClose, fd)
	}
}

func TestEpollCtlErrors(t *testing.T) {
	s, c := newSet(t), newCounter(t, 0, nonblock)
	p := pages(t, 1)
	null := must(t, sysOpen, cstring(p, "/dev/null"), syscall.O_RDWR)
	defer call(sysClose, null)
	check := func(what string, got, want syscall.Errno) {
		t.Helper()
		if got != want {
			t.Errorf("%s: %s; want %s", what, name(got), name(want))
		}
	}
	check("modify before add", s.ctl(ctlMod, c.fd, epollIn, 1), ENOENT)
	check("delete before add", s.ctl(ctlDel, c.fd, epollIn, 1), ENOENT)
	check("add", s.ctl(ctlAdd, c.fd, epollIn, 1), ok)
	check("add again", s.ctl(ctlAdd, c.fd, epollOut, 2), EEXIST)
	check("modify", s.ctl(ctlMod, c.fd, epollIn, 3), ok)
	check("delete", s.ctl(ctlDel, c.fd, 0, 0), ok)
	check("delete again", s.ctl(ctlDel, c.fd, 0, 0), ENOENT)
	check("add after delete", s.ctl(ctlAdd, c.fd, epollIn, 1), ok)
	check("operation 0", s.ctl(0, c.fd, epollIn, 1), EINVAL)
	check("operation 4", s.ctl(4, c.fd, epollIn, 1), EINVAL)
	check("operation -1", s.ctl(-1, c.fd, epollIn, 1), EINVAL)
	check("itself", s.ctl(ctlAdd, s.fd, epollIn, 1), EINVAL)
	for _, op := range []int{ctlAdd, ctlDel, ctlMod} {
		check("file that cannot be polled", s.ctl(op, null, epollIn, 1), EPERM)
		notSet := &set{t, c.fd, s.mem}
		check("not a set", notSet.ctl(op, c.fd, epollIn, 1), EINVAL)
		check("not a set, file that cannot be polled", notSet.ctl(op, null, epollIn, 1), EPERM)
	}
	// Nothing that failed changed the entry.
	c.add(1)
	s.expect("after the errors", 1, epollIn)
}

func TestEpollLevel(t *testing.T) {
	s, c := newSet(t), newCounter(t, 0, nonblock)
	const data = 0xfedcba9876543210
	s.control(ctlAdd, c.fd, epollIn, data)
	s.expect("nothing there")
	c.add(1)
	s.expect("once", data, epollIn)
	s.expect("and again", data, epollIn)
	c.take()
	s.expect("taken")
	s.control(ctlMod, c.fd, epollIn|epollOut, 2)
	s.expect("writable", 2, epollOut)
	c.add(math.MaxUint64 - 2)
	s.expect("one more fits", 2, epollIn|epollOut)
	c.add(1)
	s.expect("full", 2, epollIn)
	c.take()
	s.expect("empty", 2, epollOut)
	s.control(ctlMod, c.fd, 0, 3)
	c.add(1)
	s.expect("no interest")
	s.control(ctlMod, c.fd, epollIn, 4)
	s.expect("interest", 4, epollIn)
	s.control(ctlDel, c.fd, 0, 0)
	s.expect("deleted")
	s.control(ctlAdd, c.fd, epollIn, 5)
	s.expect("added while ready", 5, epollIn)
}

func TestEpollEdge(t *testing.T) {
	s, c := newSet(t), newCounter(t, 0, nonblock)
	s.control(ctlAdd, c.fd, epollIn|epollEdge, 1)
	s.expect("nothing there")
	c.add(1)
	s.expect("written", 1, epollIn)
	s.expect("not again")
	c.add(1)
	s.expect("written anew, not read in between", 1, epollIn)
	s.expect("not again")
	c.add(1)
	c.add(1)
	s.expect("written twice", 1, epollIn)
	s.expect("not again")
	c.take()
	s.expect("read")
	c.add(1)
	c.take()
	s.expect("written and read")
	c.add(1)
	s.expect("written", 1, epollIn)
	s.control(ctlMod, c.fd, epollIn|epollEdge, 2)
	s.expect("modified while ready", 2, epollIn)
	s.expect("not again")
	s.control(ctlDel, c.fd, 0, 0)
	s.control(ctlAdd, c.fd, epollIn|epollEdge, 3)
	s.expect("added while ready", 3, epollIn)
	s.expect("not again")
	// A write reports all that is ready and asked for.
	s.control(ctlMod, c.fd, epollIn|epollOut|epollEdge, 4)
	s.expect("both", 4, epollIn|epollOut)
	s.expect("not again")
	c.add(1)
	s.expect("both again", 4, epollIn|epollOut)
	c.take()
	s.expect("a read makes it writable", 4, epollOut)
	s.expect("not again")
	// Go watches with exactly this.
	s.control(ctlMod, c.fd, epollIn|epollOut|0x2000|epollEdge, 5)
	s.expect("as the runtime does", 5, epollOut)
}

func TestEpollOneshot(t *testing.T) {
	for _, edge := range []uint32{0, epollEdge} {
		s, c := newSet(t), newCounter(t, 1, nonblock)
		s.control(ctlAdd, c.fd, epollIn|epollOneshot|edge, 1)
		s.expect("first", 1, epollIn)
		s.expect("silent")
		c.add(1)
		s.expect("still silent")
		if e := s.ctl(ctlAdd, c.fd, epollIn, 9); e != EEXIST {
			t.Errorf("add while silent: %s", name(e))
		}
		s.control(ctlMod, c.fd, epollIn|epollOneshot|edge, 2)
		s.expect("armed", 2, epollIn)
		s.expect("silent again")
		c.take()
		s.control(ctlMod, c.fd, epollIn|epollOneshot|edge, 3)
		s.expect("armed, nothing there")
		c.add(1)
		s.expect("comes", 3, epollIn)
		s.expect("silent once more")
		s.control(ctlDel, c.fd, 0, 0)
	}
}

func TestEpollSets(t *testing.T) {
	a, b := newSet(t), newSet(t)
	c, d := newCounter(t, 0, nonblock), newCounter(t, 0, nonblock)
	a.control(ctlAdd, c.fd, epollIn|epollEdge, 1)
	b.control(ctlAdd, c.fd, epollIn, 2)
	b.control(ctlAdd, d.fd, epollOut, 3)
	b.expect("only the second", 3, epollOut)
	c.add(1)
	a.expect("first set", 1, epollIn)
	a.expect("first set, not again")
	if got := b.ready(16, 0); len(got) != 2 {
		t.Errorf("second set: %d reports, want 2", len(got))
	}
	a.control(ctlDel, c.fd, 0, 0)
	c.add(1)
	a.expect("first set, deleted")
	b.control(ctlDel, d.fd, 0, 0)
	b.expect("second set", 2, epollIn)
	must(t, sysClose, c.fd)
	a.expect("closed")
	b.expect("closed")
	if e := b.ctl(ctlDel, c.fd, 0, 0); e != EBADF {
		t.Errorf("delete after close: %s", name(e))
	}
	// The number comes back as another file, of which the set knows nothing.
	again := must(t, sysEventfd2, 1, nonblock)
	defer call(sysClose, again)
	b.expect("another file under the number")
	if again == c.fd {
		if e := b.ctl(ctlMod, again, epollIn, 0); e != ENOENT {
			t.Errorf("modify of another file under the number: %s", name(e))
		}
	}
	// Closing a set leaves its files alone.
	x := newSet(t)
	x.control(ctlAdd, d.fd, epollIn, 1)
	must(t, sysClose, x.fd)
	d.added(1, ok)
	d.took(1, ok)
}

// What is ready takes turns when not all of it fits.
func TestEpollFairness(t *testing.T) {
	s := newSet(t)
	const n = 5
	var files []*counter
	for i := range uint64(n) {
		c := newCounter(t, 0, nonblock)
		s.control(ctlAdd, c.fd, epollIn, i)
		files = append(files, c)
	}
	for _, i := range []int{3, 0, 4, 1, 2} {
		files[i].add(1)
	}
	var order []uint64
	for range 3 * n {
		e := s.ready(1, 0)
		if len(e) != 1 {
			t.Fatalf("%d reports, want 1", len(e))
		}
		order = append(order, e[0].data)
	}
	if want := []uint64{3, 0, 4, 1, 2, 3, 0, 4, 1, 2, 3, 0, 4, 1, 2}; !slices.Equal(order, want) {
		t.Errorf("one at a time: %d, want %d", order, want)
	}
	order = nil
	for range 5 {
		for _, e := range s.ready(2, 0) {
			order = append(order, e.data)
		}
	}
	if want := []uint64{3, 0, 4, 1, 2, 3, 0, 4, 1, 2}; !slices.Equal(order, want) {
		t.Errorf("two at a time: %d, want %d", order, want)
	}
	if got := s.ready(100, 0); len(got) != n {
		t.Errorf("all: %d reports, want %d", len(got), n)
	}
}

func TestEpollTimeout(t *testing.T) {
	s, c := newSet(t), newCounter(t, 0, nonblock)
	s.control(ctlAdd, c.fd, epollIn, 1)
	for _, ms := range []int32{0, 1, 2, 7, 25, 110} {
		start := time.Now()
		got := s.ready(4, ms)
		took := time.Since(start)
		if len(got) != 0 || took < time.Duration(ms)*time.Millisecond || took > 5*time.Second {
			t.Errorf("%d ms: %d reports after %v", ms, len(got), took)
		}
	}
	for _, ms := range []int32{-1, -2, math.MinInt32, math.MaxInt32, 30000} {
		finishes(t, "a wait that is ended by a write", func() {
			writer := *c
			writer.mem = pages(t, 1)
			go func() { time.Sleep(15 * time.Millisecond); writer.add(1) }()
			start := time.Now()
			got := s.ready(4, ms)
			if d := time.Since(start); len(got) != 1 || d < 10*time.Millisecond {
				t.Errorf("%d ms: %d reports after %v", ms, len(got), d)
			}
			c.take()
		})
	}
	c.add(1)
	start := time.Now()
	if got := s.ready(4, 30000); len(got) != 1 || time.Since(start) > 10*time.Second {
		t.Errorf("ready before: %d reports after %v", len(got), time.Since(start))
	}
	// A set can be changed while somebody waits on it.
	c.take()
	late := newCounter(t, 1, nonblock)
	finishes(t, "a wait that is ended by an addition", func() {
		other := *s
		other.mem = pages(t, 1)
		go func() { time.Sleep(15 * time.Millisecond); other.control(ctlAdd, late.fd, epollIn, 7) }()
		if got := s.ready(4, -1); len(got) != 1 || got[0].data != 7 {
			t.Errorf("reports %v", got)
		}
	})
}

// epoll_pwait ends with EINTR when a handler has run, restart or not, and its
// mask holds for the time of the call.
func TestEpollSignal(t *testing.T) {
	lockThread(t)
	const sig = 46
	s := newSet(t)
	p := pages(t, 1)
	pid, _ := raw(sysGetpid)
	tid, _ := raw(sysGettid)
	for _, flags := range []uint32{0, saRestart} {
		restore := install(t, p+128, sig, uint32(noteSignalPC()), flags|saSiginfo|saOnStack)
		note = noted{}
		// Blocked now, let in by the call's own mask.
		*longAt(p) = 1 << (sig - 1)
		must(t, sysRtSigprocmask, sigBlock, p, p+8, 8)
		must(t, sysTgkill, pid, tid, sig)
		*longAt(p + 16) = 0
		start := time.Now()
		refuse(t, "a pending signal", EINTR, sysEpollPwait, s.fd, p+512, 4, 15000, p+16, 8)
		if d := time.Since(start); d > 10*time.Second || note.count != 1 {
			t.Errorf("took %v, the handler ran %d times", d, note.count)
		}
		if m := mask(t, p+24); m&(1<<(sig-1)) == 0 {
			t.Error("the call's mask stayed")
		}
		// Shut out by the call's mask.
		must(t, sysRtSigprocmask, sigSetMask, p+8, 0, 8)
		*longAt(p + 16) = ^uint64(0)
		other := make(chan struct{})
		go func() {
			defer close(other)
			time.Sleep(20 * time.Millisecond)
			call(sysTgkill, pid, tid, sig)
		}()
		if n := must(t, sysEpollPwait, s.fd, p+512, 4, 60, p+16, 8); n != 0 {
			t.Errorf("%d reports", n)
		}
		<-other
		must(t, sysSchedYield)
		if note.count != 2 && !underUserEmulation { // qemu-arm keeps the call's mask for a while
			t.Errorf("the handler ran %d times, want 2", note.count)
		}
		restore()
	}
}

func newPipe(t *testing.T, flags uintptr) (r, w uintptr) {
	p := pages(t, 1)
	must(t, sysPipe2, p, flags)
	r, w = uintptr(pairAt(p)[0]), uintptr(pairAt(p)[1])
	t.Cleanup(func() { call(sysClose, r); call(sysClose, w) })
	return r, w
}

func TestPipe(t *testing.T) {
	p := pages(t, 1)
	r, w := newPipe(t, nonblock)
	refuse(t, "empty", EAGAIN, sysRead, r, p, 10)
	copy(bytesAt(p, 10), "0123456789")
	if n := must(t, sysWrite, w, p, 10); n != 10 {
		t.Errorf("wrote %d of 10", n)
	}
	must(t, sysWrite, w, p+2, 3)
	if n := must(t, sysRead, r, p+100, 4); n != 4 || string(bytesAt(p+100, 4)) != "0123" {
		t.Errorf("read %d, %q", n, bytesAt(p+100, 4))
	}
	if n := must(t, sysRead, r, p+100, 100); n != 9 || string(bytesAt(p+100, 9)) != "456789234" {
		t.Errorf("read %d, %q", n, bytesAt(p+100, 9))
	}
	// Up to a page is written whole or not at all.
	total := uintptr(0)
	for {
		n, e := call(sysWrite, w, p, pageSize)
		if e == EAGAIN {
			break
		}
		if e != 0 || n != pageSize {
			t.Fatalf("wrote %d of a page: %s", n, name(e))
		}
		if total += n; total > 16<<20 {
			t.Fatal("a pipe without end")
		}
	}
	if total < pageSize {
		t.Errorf("a pipe holds %d bytes", total)
	}
	must(t, sysRead, r, p, 100)
	refuse(t, "not enough room", EAGAIN, sysWrite, w, p, pageSize)
	for total -= 100; total > 0; {
		total -= must(t, sysRead, r, p, pageSize)
	}
	refuse(t, "empty again", EAGAIN, sysRead, r, p, 1)
	must(t, sysWrite, w, p, 5)
	must(t, sysClose, w)
	if n := must(t, sysRead, r, p, 100); n != 5 {
		t.Errorf("read %d after the writer closed, want 5", n)
	}
	for range 2 {
		if n := must(t, sysRead, r, p, 100); n != 0 {
			t.Errorf("read %d at the end", n)
		}
	}
	r, w = newPipe(t, nonblock)
	must(t, sysClose, r)
	refuse(t, "no reader", EPIPE, sysWrite, w, p, 1)
	refuse(t, "no reader, again", EPIPE, sysWrite, w, p, 100)
}

func TestPipeBlocks(t *testing.T) {
	r, w := newPipe(t, 0)
	p, q := pages(t, 1), pages(t, 1)
	finishes(t, "a blocking read", func() {
		go func() { time.Sleep(15 * time.Millisecond); call(sysWrite, w, q, 7) }()
		if n := must(t, sysRead, r, p, 100); n != 7 {
			t.Errorf("read %d", n)
		}
	})
	const size = 1 << 20
	big := must(t, sysMmap2, 0, size, protRW, mapAnon, noFd, 0)
	defer call(sysMunmap, big, size)
	for i := range bytesAt(big, size) {
		bytesAt(big, size)[i] = byte(i ^ i>>8 ^ i>>16)
	}
	finishes(t, "a blocking write", func() {
		go func() {
			// A signal ends a write that has begun with what was written.
			for done := uintptr(0); done < size; {
				done += must(t, sysWrite, w, big+done, size-done)
			}
			call(sysClose, w)
		}()
		at := 0
		for {
			n := int(must(t, sysRead, r, p, 3000))
			if n == 0 {
				break
			}
			for i, v := range bytesAt(p, n) {
				if j := at + i; v != byte(j^j>>8^j>>16) {
					t.Fatalf("byte %d is %#x", j, v)
				}
			}
			at += n
		}
		if at != size {
			t.Errorf("read %d of %d", at, size)
		}
	})
	r, w = newPipe(t, 0)
	finishes(t, "a read that is ended by close", func() {
		go func() { time.Sleep(15 * time.Millisecond); call(sysClose, w) }()
		if n := must(t, sysRead, r, p, 100); n != 0 {
			t.Errorf("read %d", n)
		}
	})
}

func TestPipePoll(t *testing.T) {
	s := newSet(t)
	p := pages(t, 1)
	r, w := newPipe(t, nonblock)
	s.control(ctlAdd, r, epollIn, 1)
	s.expect("empty")
	s.control(ctlAdd, w, epollOut, 2)
	s.expect("empty", 2, epollOut)
	must(t, sysWrite, w, p, 1)
	if got := s.ready(16, 0); len(got) != 2 {
		t.Errorf("one byte: %d reports, want 2", len(got))
	}
	for {
		if _, e := call(sysWrite, w, p, pageSize); e != 0 {
			break
		}
	}
	s.expect("full", 1, epollIn)
	for {
		if _, e := call(sysRead, r, p, pageSize); e != 0 {
			break
		}
	}
	s.expect("drained", 2, epollOut)
	must(t, sysWrite, w, p, 1)
	s.control(ctlDel, w, 0, 0)
	must(t, sysClose, w)
	s.expect("data and no writer", 1, epollIn|epollHup)
	must(t, sysRead, r, p, 10)
	s.expect("no writer", 1, epollHup)
	s.control(ctlMod, r, 0, 3)
	s.expect("not asked for", 3, epollHup)

	r, w = newPipe(t, nonblock)
	s = newSet(t)
	s.control(ctlAdd, w, epollOut|epollEdge, 1)
	s.expect("edge", 1, epollOut)
	s.expect("edge, not again")
	must(t, sysClose, r)
	s.expect("no reader", 1, epollOut|epollErr)
	s.expect("no reader, not again")
	s.control(ctlMod, w, epollOut, 2)
	s.expect("no reader, level", 2, epollOut|epollErr)

	r, w = newPipe(t, nonblock)
	s = newSet(t)
	s.control(ctlAdd, r, epollIn|epollEdge, 1)
	must(t, sysWrite, w, p, 1)
	s.expect("edge", 1, epollIn)
	s.expect("edge, not again")
	must(t, sysWrite, w, p, 1)
	s.expect("edge, more data", 1, epollIn)
	must(t, sysClose, w)
	s.expect("edge, the end", 1, epollIn|epollHup)
	s.expect("edge, not again")
}

// The standard library's use of all this: deadlines and Close end a Read.
func TestFileDeadline(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	b := make([]byte, 10)
	start := time.Now()
	if err := r.SetReadDeadline(start.Add(20 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Read(b); !os.IsTimeout(err) {
		t.Errorf("read: %v", err)
	}
	if d := time.Since(start); d < 20*time.Millisecond {
		t.Errorf("deadline after %v", d)
	}
	r.SetReadDeadline(time.Time{})
	go func() { time.Sleep(10 * time.Millisecond); w.WriteString("hello") }()
	if n, err := r.Read(b); n != 5 || err != nil {
		t.Errorf("read %d, %v", n, err)
	}
	finishes(t, "Close during Read", func() {
		go func() { time.Sleep(10 * time.Millisecond); r.Close() }()
		if _, err := r.Read(b); err == nil {
			t.Error("read of a closed file succeeded")
		}
	})
}
