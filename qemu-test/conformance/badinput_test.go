//go:build linux && arm

package conformance

import (
	"bytes"
	"fmt"
	"math/rand"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// hostileMemory is a set of pages with every kind of access, and the addresses
// that a hostile program might pass.
type hostileMemory struct {
	good     uintptr // a page for input and output, then a hole
	end      uintptr // where the hole begins
	zero     uintptr // a read-only page of zeros
	readOnly []place // may be read, not written
	user     []place // no access, below kernel space
	kernel   []place // no access, in kernel space
	canaries []uintptr
	text     []byte // copy of the start of some text
}

type place struct {
	what string
	addr uintptr
}

const canary = 0x61 // 'a', so that it makes a path without an end

// newHostileMemory lays out, a page each: canary, good, hole, canary, none,
// read-only zeros, read-only canary, none.
func newHostileMemory(t *testing.T) *hostileMemory {
	p := pages(t, 8)
	at := func(i uintptr) uintptr { return p + i*pageSize }
	m := &hostileMemory{good: at(1), end: at(2), zero: at(5), canaries: []uintptr{at(0), at(3), at(6)}}
	for _, c := range append([]uintptr{at(1)}, m.canaries...) {
		for i := range bytesAt(c, pageSize) {
			bytesAt(c, pageSize)[i] = canary
		}
	}
	must(t, sysMunmap, at(2), pageSize)
	must(t, sysMprotect, at(4), pageSize, protNone)
	must(t, sysMprotect, at(5), 2*pageSize, protRead)
	must(t, sysMprotect, at(7), pageSize, protNone)
	text := noteSignalPC()
	m.text = bytes.Clone(bytesAt(text, 256))
	m.readOnly = []place{{"read-only page", at(6)}, {"misaligned read-only page", at(6) + 1}, {"text", text}, {"text, misaligned", text + 3}}
	m.user = []place{{"unmapped", at(2)}, {"unmapped, misaligned", at(2) + 1}, {"no access", at(4)}, {"no access, misaligned", at(4) + 3}, {"end of no access", at(5) - 1}}
	for _, addr := range []uintptr{0, 4, 0xfff, 0x7ffff000, 0x7fffffff, 0x80000000, 0x80000001} {
		if !readable(addr) { // where Linux puts mappings is its own affair
			m.user = append(m.user, place{fmt.Sprintf("%#x", addr), addr})
		}
	}
	for _, addr := range []uintptr{0xc0000000, 0xc0000001, 0xdffffffc, 0xfffff000, 0xfffffff0, 0xfffffffc, 0xffffffff} {
		if !readable(addr) { // under qemu-arm user space goes on up here
			m.kernel = append(m.kernel, place{fmt.Sprintf("kernel space %#x", addr), addr})
		}
	}
	return m
}

// intact checks everything that no call may have written.
func (m *hostileMemory) intact(t *testing.T, what string) {
	t.Helper()
	for _, c := range m.canaries {
		for i, v := range bytesAt(c, pageSize) {
			if v != canary {
				t.Fatalf("%s: byte %d of a canary page is %#x", what, i, v)
			}
		}
	}
	if !bytes.Equal(m.text, bytesAt(noteSignalPC(), len(m.text))) {
		t.Fatalf("%s: text changed", what)
	}
	for i, v := range bytesAt(m.zero, pageSize) {
		if v != 0 {
			t.Fatalf("%s: byte %d of the read-only zeros is %#x", what, i, v)
		}
	}
}

// descriptors is one file of each kind, all non-blocking.
type descriptors struct {
	event, epoll, readEnd, writeEnd, null, closed uintptr
}

func newDescriptors(t *testing.T) *descriptors {
	p := pages(t, 1)
	const flags = syscall.O_NONBLOCK | syscall.O_CLOEXEC
	must(t, sysPipe2, p, flags)
	d := &descriptors{
		event:    must(t, sysEventfd2, 3, flags),
		epoll:    must(t, sysEpollCreate1, syscall.O_CLOEXEC),
		readEnd:  uintptr(pairAt(p)[0]),
		writeEnd: uintptr(pairAt(p)[1]),
		null:     must(t, sysOpen, cstring(p+64, "/dev/null"), syscall.O_RDWR, 0),
	}
	// Far from the numbers that others get meanwhile.
	d.closed = 700
	t.Cleanup(func() {
		for _, fd := range []uintptr{d.event, d.epoll, d.readEnd, d.writeEnd, d.null} {
			call(sysClose, fd)
		}
	})
	return d
}

// here stands for the pointer under test in an argument list.
const here = 0xfeedf00d

// with returns args with the pointer put in.
func with(args []uintptr, p uintptr) []uintptr {
	out := append([]uintptr(nil), args...)
	for i := range out {
		if out[i] == here {
			out[i] = p
		}
	}
	return out
}

// errnos is what one kind of bad pointer may be answered with.
type errnos []syscall.Errno

var fault = errnos{EFAULT}

func TestBadPointers(t *testing.T) {
	lockThread(t)
	m, d := newHostileMemory(t), newDescriptors(t)
	aux := pages(t, 1)
	value, event := aux, aux+16
	*longAt(value) = 1
	*wordAt(event) = syscall.EPOLLIN
	must(t, sysEpollCtl, d.epoll, syscall.EPOLL_CTL_ADD, d.event, event)
	must(t, sysWrite, d.writeEnd, m.good, 64)
	signalled := func() {
		if _, e := call(sysWrite, d.event, value, 8); e != 0 {
			t.Fatalf("eventfd: %s", name(e))
		}
	}
	const in, out = false, true
	const path = 1 // a path is read until its end: the last byte before the hole suffices
	either := errnos{ok, EFAULT}
	for _, c := range []struct {
		what     string
		nr       uintptr
		args     []uintptr
		size     uintptr // bytes that the call reads or writes
		output   bool
		optional bool // NULL means none
		user     errnos
		straddle errnos // nil: like user
		before   func()
	}{
		{"read an eventfd", sysRead, []uintptr{d.event, here, 8}, 8, out, false, fault, nil, signalled},
		{"read a pipe", sysRead, []uintptr{d.readEnd, here, 16}, 16, out, false, fault, nil, nil},
		{"read /dev/null", sysRead, []uintptr{d.null, here, 16}, 16, out, false, either, nil, nil},
		{"write an eventfd", sysWrite, []uintptr{d.event, here, 8}, 8, in, false, fault, nil, nil},
		{"write a pipe", sysWrite, []uintptr{d.writeEnd, here, 16}, 16, in, false, fault, nil, nil},
		{"write /dev/null", sysWrite, []uintptr{d.null, here, 16}, 16, in, false, either, nil, nil},
		{"open", sysOpen, []uintptr{here, 0, 0}, path, in, false, fault, nil, nil},
		{"openat", sysOpenat, []uintptr{minus(100), here, 0, 0}, path, in, false, fault, nil, nil},
		{"openat of a bad directory", sysOpenat, []uintptr{noFd, here, 0, 0}, path, in, false, fault, nil, nil},
		{"fstat64", sysFstat64, []uintptr{d.null, here}, 104, out, false, fault, nil, nil},
		{"uname", sysUname, []uintptr{here}, 390, out, false, fault, nil, nil},
		{"nanosleep", sysNanosleep, []uintptr{here, 0}, 8, in, false, fault, nil, nil},
		{"clock_gettime, wall clock", sysClockGettime, []uintptr{0, here}, 8, out, false, fault, nil, nil},
		{"clock_gettime, monotonic", sysClockGettime, []uintptr{1, here}, 8, out, false, fault, nil, nil},
		{"clock_gettime64, wall clock", sysClockGettime64, []uintptr{0, here}, 16, out, false, fault, nil, nil},
		{"clock_gettime64, monotonic", sysClockGettime64, []uintptr{1, here}, 16, out, false, fault, nil, nil},
		{"getrandom", sysGetrandom, []uintptr{here, 16, 0}, 16, out, false, fault, either, nil},
		{"sched_getaffinity", sysSchedGetaffinity, []uintptr{0, 4, here}, 4, out, false, fault, nil, nil},
		{"rt_sigaction, new", sysRtSigaction, []uintptr{50, here, 0, 8}, 20, in, true, fault, nil, nil},
		{"rt_sigaction, old", sysRtSigaction, []uintptr{50, 0, here, 8}, 20, out, true, fault, nil, nil},
		{"rt_sigprocmask, new", sysRtSigprocmask, []uintptr{sigBlock, here, 0, 8}, 8, in, true, fault, nil, nil},
		{"rt_sigprocmask, old", sysRtSigprocmask, []uintptr{sigBlock, 0, here, 8}, 8, out, true, fault, nil, nil},
		{"sigaltstack, new", sysSigaltstack, []uintptr{here, 0}, 12, in, true, fault, nil, nil},
		{"sigaltstack, old", sysSigaltstack, []uintptr{0, here}, 12, out, true, fault, nil, nil},
		{"epoll_ctl, add", sysEpollCtl, []uintptr{d.epoll, 1, d.readEnd, here}, 16, in, false, fault, nil, nil},
		{"epoll_ctl, modify", sysEpollCtl, []uintptr{d.epoll, 3, d.event, here}, 16, in, false, fault, nil, nil},
		{"epoll_ctl, bad operation", sysEpollCtl, []uintptr{d.epoll, 77, d.event, here}, 16, in, false, fault, nil, nil},
		{"epoll_ctl, bad descriptors", sysEpollCtl, []uintptr{noFd, 1, noFd, here}, 16, in, false, fault, nil, nil},
		{"epoll_wait, ready", sysEpollWait, []uintptr{d.epoll, here, 1, 0}, 16, out, false, fault, nil, signalled},
		{"epoll_pwait, ready", sysEpollPwait, []uintptr{d.epoll, here, 1, 0, 0, 8}, 16, out, false, fault, nil, signalled},
		{"epoll_pwait, mask", sysEpollPwait, []uintptr{d.epoll, m.good, 1, 0, here, 8}, 8, in, true, fault, nil, nil},
		{"pipe2", sysPipe2, []uintptr{here, 0}, 8, out, false, fault, nil, nil},
		{"futex, word", sysFutex, []uintptr{here, futexWait | futexPrivate, 1, 0}, 4, in, false, fault, nil, nil},
		{"futex, timeout", sysFutex, []uintptr{m.good, futexWait | futexPrivate, 1, here}, 8, in, true, fault, nil, nil},
		{"futex_time64, timeout", sysFutex64, []uintptr{m.good, futexWait | futexPrivate, 1, here}, 16, in, true, fault, nil, nil},
	} {
		try := func(p place, want errnos) {
			t.Helper()
			if c.before != nil {
				c.before()
			}
			if c.optional && p.addr == 0 {
				return
			}
			if c.what == "futex, word" && p.addr%4 != 0 {
				want = errnos{EINVAL}
			}
			if underUserEmulation && c.nr == sysNanosleep {
				want = errnos{EFAULT, EINVAL} // qemu-arm takes a bad pointer for a bad time
			}
			if r, e := call(c.nr, with(c.args, p.addr)...); !among(e, want) {
				t.Errorf("%s, %s (%#x): %#x, %s; want one of %v", c.what, p.what, p.addr, r, name(e), want)
			}
		}
		for _, p := range m.user {
			try(p, c.user)
		}
		for _, p := range m.kernel {
			try(p, fault)
		}
		if c.output {
			for _, p := range m.readOnly {
				try(p, c.user)
			}
		}
		straddle := c.straddle
		if straddle == nil {
			straddle = c.user
		}
		for n := uintptr(1); n < max(c.size, 2); n = n*2 + 1 {
			if c.what != "futex, word" {
				try(place{"the end is unmapped", m.end - n}, straddle)
			}
		}
		m.intact(t, c.what)
	}
	// No bad pointer lost the pipe's data.
	if n := must(t, sysRead, d.readEnd, m.good, pageSize); n != 64 {
		t.Errorf("the pipe holds %d bytes, want 64", n)
	}
	if _, e := call(sysEpollPwait, d.epoll, m.good, 8, 0, 0, 0); e != 0 {
		t.Errorf("the epoll set: %s", name(e))
	}
	if !underUserEmulation { // qemu-arm looks at the event though nobody needs it
		refuse(t, "epoll_ctl, delete ignores the event", ENOENT, sysEpollCtl, d.epoll, 2, d.readEnd, 0xc0000000)
		must(t, sysEpollCtl, d.epoll, 2, d.event, m.end)
	}
}

// Data may lie at odd addresses; only futex words must be aligned.
func TestMisalignedPointers(t *testing.T) {
	lockThread(t)
	d := newDescriptors(t)
	p := pages(t, 2)
	*wordAt(p + 2048) = syscall.EPOLLIN
	copy(bytesAt(p+2051, 16), bytesAt(p+2048, 16))
	for _, odd := range []uintptr{1, 2, 3, 5, 7} {
		q := p + odd
		must(t, sysUname, q)
		must(t, sysFstat64, d.null, q)
		must(t, sysClockGettime, 1, q)
		must(t, sysClockGettime64, 1, q)
		must(t, sysSchedGetaffinity, 0, 64, q)
		must(t, sysRtSigprocmask, 0, 0, q, 8)
		must(t, sysRtSigaction, 50, 0, q, 8)
		must(t, sysSigaltstack, 0, q)
		must(t, sysRead, d.event, q, 8)
		for i := range uintptr(8) {
			store8(q+i, byte(1>>i))
		}
		must(t, sysWrite, d.event, q, 8)
		for i := range uintptr(16) {
			store8(q+i, 0)
		}
		must(t, sysNanosleep, q, 0)
		refuse(t, "misaligned timeout", ETIMEDOUT, sysFutex, p+1024, futexWait|futexPrivate, 0, q)
		refuse(t, "misaligned timeout", ETIMEDOUT, sysFutex64, p+1024, futexWait|futexPrivate, 0, q)
		must(t, sysEpollCtl, d.epoll, 1, d.event, p+2051)
		if n := must(t, sysEpollPwait, d.epoll, q, 1, 0, 0, 8); n != 1 || load8(q) != syscall.EPOLLIN {
			t.Errorf("misaligned events: %d, %#x", n, load8(q))
		}
		must(t, sysEpollCtl, d.epoll, 2, d.event, 0)
		must(t, sysOpen, cstring(q, "/dev/null"), 0, 0)
		must(t, sysPipe2, q, 0)
		for i := range 2 {
			fd := bytesAt(q+uintptr(i)*4, 4)
			must(t, sysClose, uintptr(fd[0])|uintptr(fd[1])<<8)
		}
		b := bytesAt(p, 64)
		clear(b)
		if n := must(t, sysGetrandom, q, 32, 0); n != 32 || b[0] != 0 || bytes.Count(b[odd:odd+32], []byte{0}) > 8 || !bytes.Equal(b[odd+32:], make([]byte, 32-odd)) {
			t.Errorf("getrandom at offset %d: %d, %x", odd, n, b)
		}
	}
}

func TestBadDescriptors(t *testing.T) {
	m, d := newHostileMemory(t), newDescriptors(t)
	ev := pages(t, 1)
	*wordAt(ev) = syscall.EPOLLIN
	bad := []uintptr{noFd, minus(2), farAwayFd, 0x7fffffff, 0x80000000, d.closed}
	for _, c := range []struct {
		what string
		nr   uintptr
		args []uintptr
	}{
		{"read", sysRead, []uintptr{here, m.good, 8}},
		{"read nothing", sysRead, []uintptr{here, m.good, 0}},
		{"read to a bad place", sysRead, []uintptr{here, m.end, 8}},
		{"write", sysWrite, []uintptr{here, m.good, 8}},
		{"write nothing", sysWrite, []uintptr{here, m.good, 0}},
		{"write from a bad place", sysWrite, []uintptr{here, m.end, 8}},
		{"close", sysClose, []uintptr{here}},
		{"fcntl, flags", sysFcntl, []uintptr{here, syscall.F_GETFL, 0}},
		{"fcntl, set flags", sysFcntl, []uintptr{here, syscall.F_SETFL, 0}},
		{"fcntl, unknown", sysFcntl, []uintptr{here, 999, 0}},
		{"fcntl64, flags", sysFcntl64, []uintptr{here, syscall.F_GETFL, 0}},
		{"fcntl64, unknown", sysFcntl64, []uintptr{here, 999, 0}},
		{"ioctl", sysIoctl, []uintptr{here, syscall.TCGETS, m.good}},
		{"fstat64", sysFstat64, []uintptr{here, m.good}},
		{"fstat64 to a bad place", sysFstat64, []uintptr{here, m.end}},
		{"epoll_ctl, the set", sysEpollCtl, []uintptr{here, 1, d.event, ev}},
		{"epoll_ctl, the file", sysEpollCtl, []uintptr{d.epoll, 1, here, ev}},
		{"epoll_ctl, delete", sysEpollCtl, []uintptr{d.epoll, 2, here, ev}},
		{"epoll_ctl, modify", sysEpollCtl, []uintptr{d.epoll, 3, here, ev}},
		{"epoll_ctl, bad operation", sysEpollCtl, []uintptr{d.epoll, 9, here, ev}},
		{"epoll_pwait", sysEpollPwait, []uintptr{here, m.good, 1, 0, 0, 8}},
		{"openat", sysOpenat, []uintptr{here, cstring(ev+64, "nothing"), 0, 0}},
	} {
		for _, fd := range bad {
			if c.what == "openat" && fd == minus(100) {
				continue
			}
			if underUserEmulation && (c.what == "read to a bad place" || c.what == "write from a bad place") {
				continue // qemu-arm looks at pointers first
			}
			if underUserEmulation && strings.HasSuffix(c.what, ", unknown") {
				continue // and at commands
			}
			refuse(t, c.what, EBADF, c.nr, with(c.args, fd)...)
		}
	}
	for _, c := range []struct {
		what string
		want syscall.Errno
		nr   uintptr
		args []uintptr
	}{
		{"read the writing end", EBADF, sysRead, []uintptr{d.writeEnd, m.good, 8}},
		{"write the reading end", EBADF, sysWrite, []uintptr{d.readEnd, m.good, 8}},
		{"read an epoll set", EINVAL, sysRead, []uintptr{d.epoll, m.good, 8}},
		{"write an epoll set", EINVAL, sysWrite, []uintptr{d.epoll, m.good, 8}},
		{"an eventfd is no set to wait for", EINVAL, sysEpollWait, []uintptr{d.event, m.good, 1, 0}},
		{"an eventfd is no set", EINVAL, sysEpollPwait, []uintptr{d.event, m.good, 1, 0, 0, 8}},
		{"a pipe is no set", EINVAL, sysEpollPwait, []uintptr{d.readEnd, m.good, 1, 0, 0, 8}},
		{"/dev/null is no set", EINVAL, sysEpollPwait, []uintptr{d.null, m.good, 1, 0, 0, 8}},
		{"unknown fcntl", EINVAL, sysFcntl, []uintptr{d.event, 999, 0}},
		{"unknown fcntl, negative", EINVAL, sysFcntl, []uintptr{d.event, noFd, 0}},
		{"unknown fcntl64", EINVAL, sysFcntl64, []uintptr{d.event, 999, 0}},
		{"eventfd as terminal", ENOTTY, sysIoctl, []uintptr{d.event, syscall.TCGETS, m.good}},
		{"pipe as terminal", ENOTTY, sysIoctl, []uintptr{d.readEnd, syscall.TCGETS, m.good}},
		{"/dev/null as terminal", ENOTTY, sysIoctl, []uintptr{d.null, syscall.TCGETS, m.good}},
		{"/dev/null as terminal, bad pointer", ENOTTY, sysIoctl, []uintptr{d.null, syscall.TCGETS, 0xc0000000}},
	} {
		refuse(t, c.what, c.want, c.nr, c.args...)
	}
	// Access modes.
	path := cstring(ev+64, "/dev/null")
	ro, wo := must(t, sysOpen, path, 0, 0), must(t, sysOpenat, noFd, path, 1, 0)
	refuse(t, "write a read-only file", EBADF, sysWrite, ro, m.good, 1)
	refuse(t, "read a write-only file", EBADF, sysRead, wo, m.good, 1)
	must(t, sysClose, ro)
	must(t, sysClose, wo)
	refuse(t, "close twice", EBADF, sysClose, wo)
	m.intact(t, "descriptors")
}

func TestBadLengths(t *testing.T) {
	m, d := newHostileMemory(t), newDescriptors(t)
	must(t, sysWrite, d.writeEnd, m.good, 40)
	p := m.good
	type lengths []uintptr
	for _, c := range []struct {
		what    string
		nr      uintptr
		args    []uintptr
		lengths lengths
		want    errnos
	}{
		{"read an eventfd", sysRead, []uintptr{d.event, p, here}, lengths{0, 1, 7}, errnos{EINVAL}},
		{"write an eventfd", sysWrite, []uintptr{d.event, p, here}, lengths{0, 1, 7}, errnos{EINVAL}},
		{"read nothing from a pipe", sysRead, []uintptr{d.readEnd, p, here}, lengths{0}, errnos{ok}},
		{"write nothing to a pipe", sysWrite, []uintptr{d.writeEnd, p, here}, lengths{0}, errnos{ok}},
		{"read nothing, no buffer", sysRead, []uintptr{d.readEnd, 0, here}, lengths{0}, errnos{ok}},
		{"read, negative", sysRead, []uintptr{d.readEnd, p, here}, lengths{0x80000000, 0xf0000000, noFd}, errnos{EINVAL, EFAULT}},
		{"write, negative", sysWrite, []uintptr{d.writeEnd, p, here}, lengths{0x80000000, 0xf0000000, noFd}, errnos{EINVAL, EFAULT}},
		{"write more than there is", sysWrite, []uintptr{d.writeEnd, m.end - 8, here}, lengths{9, 64, 4096}, errnos{EFAULT}},
		{"read /dev/null, negative", sysRead, []uintptr{d.null, p, here}, lengths{0x80000000, noFd}, errnos{EINVAL, EFAULT}},
		{"write /dev/null, negative", sysWrite, []uintptr{d.null, p, here}, lengths{0x80000000, noFd}, errnos{EINVAL, EFAULT}},
		{"getrandom, wrapping", sysGetrandom, []uintptr{p, here, 0}, lengths{noFd, 0xfffff000}, errnos{EFAULT}},
		{"getrandom, none", sysGetrandom, []uintptr{p, here, 0}, lengths{0}, errnos{ok}},
		{"getrandom, none, no buffer", sysGetrandom, []uintptr{0, here, 0}, lengths{0}, errnos{ok}},
		{"getrandom, too long", sysGetrandom, []uintptr{m.end - 100, here, 0}, lengths{101, 5000, 1 << 20, 0x40000000, 0x7fffffff}, errnos{ok, EFAULT}},
		{"sched_getaffinity", sysSchedGetaffinity, []uintptr{0, here, p}, lengths{0, 1, 2, 3, 5, 6, 7, 9, 63}, errnos{EINVAL}},
		{"epoll_pwait, events", sysEpollPwait, []uintptr{d.epoll, p, here, 0, 0, 8}, lengths{0, noFd, 0x80000000, 0x7fffffff, 0x08000000}, errnos{EINVAL}},
		{"epoll_pwait, events past user space", sysEpollPwait, []uintptr{d.epoll, p, here, 0, 0, 8}, lengths{0x07fffffe}, errnos{EFAULT, ok}},
		{"epoll_pwait, mask", sysEpollPwait, []uintptr{d.epoll, p, 1, 0, m.zero, here}, lengths{0, 1, 4, 7, 9, 16, noFd}, errnos{EINVAL}},
	} {
		for _, n := range c.lengths {
			if underUserEmulation && n > 0x10000000 && c.nr == sysSchedGetaffinity {
				continue // qemu-arm puts the mask on its stack
			}
			if underUserEmulation && c.nr == sysRead && n == 0 && c.args[1] == 0 {
				continue
			}
			r, e := call(c.nr, with(c.args, n)...)
			if !among(e, c.want) {
				t.Errorf("%s, length %#x: %#x, %s; want one of %v", c.what, n, r, name(e), c.want)
			}
			if c.what == "getrandom, too long" && e == 0 && (r == 0 || r > 100) {
				t.Errorf("%s, length %#x: filled %d of 100", c.what, n, r)
			}
		}
		m.intact(t, c.what)
	}
	if n := must(t, sysRead, d.readEnd, m.good, pageSize); n != 40 {
		t.Errorf("the pipe holds %d bytes, want 40", n)
	}
}

func TestBadFlags(t *testing.T) {
	m := newHostileMemory(t)
	many := []uintptr{2, 4, 0x100, 0x1000, 0x40000000, 0x80000000, noFd}
	if underUserEmulation {
		many = nil // qemu-arm translates the flags it knows and forgets the rest
	}
	for _, flags := range many {
		refuse(t, "epoll_create1", EINVAL, sysEpollCreate1, flags)
		refuse(t, "eventfd2", EINVAL, sysEventfd2, 0, flags)
		refuse(t, "pipe2", EINVAL, sysPipe2, m.good, flags&^(syscall.O_DIRECT|syscall.O_EXCL)|1)
	}
	refuse(t, "epoll_create1", EINVAL, sysEpollCreate1, syscall.O_NONBLOCK)
	for _, flags := range []uintptr{8, 6, 7, 0x10, 0x80000000, noFd} {
		refuse(t, "getrandom", EINVAL, sysGetrandom, m.good, 8, flags)
		if underUserEmulation {
			continue // qemu-arm looks at pointers first
		}
		refuse(t, "getrandom, flags come before the buffer", EINVAL, sysGetrandom, m.end, 8, flags)
	}
	for _, flags := range []uintptr{0, 1} {
		if n := must(t, sysGetrandom, m.good, 64, flags); n != 64 {
			t.Errorf("getrandom with flags %d gave %d bytes", flags, n)
		}
	}
	for _, option := range []uintptr{1000000, 0x7fffffff, 0x80000000, noFd} {
		refuse(t, "prctl", EINVAL, sysPrctl, option, 0, 0, 0, 0)
		refuse(t, "prctl, bad pointers", EINVAL, sysPrctl, option, 0xc0000000, 0xc0000000, noFd, 0)
	}
	for _, pid := range []uintptr{0x3fffffff, noFd, 0x80000000} {
		refuse(t, "sched_getaffinity of nobody", ESRCH, sysSchedGetaffinity, pid, 64, m.good)
	}
	m.intact(t, "flags")
}

func TestPaths(t *testing.T) {
	p := pages(t, 4)
	long := p + pageSize
	for i := range bytesAt(long, 2*pageSize) {
		bytesAt(long, 2*pageSize)[i] = 'a'
	}
	for _, c := range []struct {
		path string
		want syscall.Errno
	}{{"", ENOENT}, {"/no-such-file", ENOENT}, {"/dev/no-such-device", ENOENT}, {"no-such-file", ENOENT}, {"/no/such/directory", ENOENT}} {
		refuse(t, "open "+c.path, c.want, sysOpen, cstring(p, c.path), 0, 0)
		refuse(t, "openat "+c.path, c.want, sysOpenat, minus(100), cstring(p, c.path), 0, 0)
	}
	refuse(t, "no end in 4096 bytes", ENAMETOOLONG, sysOpen, long, 0, 0)
	refuse(t, "no end in 4096 bytes", ENAMETOOLONG, sysOpenat, minus(100), long, 0, 0)
	refuse(t, "empty, bad directory", ENOENT, sysOpenat, noFd, cstring(p, ""), 0, 0)
	// A path may cross into another page, and end at the last byte before a hole.
	for _, at := range []uintptr{pageSize - 4, 4*pageSize - 10} {
		fd := must(t, sysOpen, cstring(p+at, "/dev/null"), 2, 0)
		if n := must(t, sysWrite, fd, p, 100); n != 100 {
			t.Errorf("/dev/null took %d bytes of 100", n)
		}
		if n := must(t, sysRead, fd, p, 100); n != 0 {
			t.Errorf("/dev/null gave %d bytes", n)
		}
		must(t, sysFstat64, fd, p)
		if mode := *wordAt(p + 16); mode&syscall.S_IFMT != syscall.S_IFCHR {
			t.Errorf("mode of /dev/null: %#o", mode)
		}
		must(t, sysClose, fd)
	}
}

// Numbers that neither kernel knows.
func TestUnknownCalls(t *testing.T) {
	bad := []uintptr{0, 4, 0xc0000000, noFd}
	for nr := uintptr(600); nr <= 900; nr++ {
		a := bad[nr%4]
		refuse(t, "unknown", ENOSYS, nr, a, a, a, a, a, a)
	}
	for nr := uintptr(0xf0010); nr < 0xf0016; nr++ {
		refuse(t, "unknown private", ENOSYS, nr, noFd, 0, 0xc0000000)
	}
}

func TestIdentity(t *testing.T) {
	for _, nr := range []uintptr{sysGetpid, sysGettid, sysGetuid32, sysGetgid32, sysGeteuid32, sysGetegid32, sysSchedYield} {
		lockThread(t)
		plain, noise := must(t, nr), must(t, nr, 0xc0000000, noFd, 4, 1, 1, 1)
		if plain != noise {
			t.Errorf("call %d: %d, with arguments %d", nr, plain, noise)
		}
	}
	p := pages(t, 1)
	must(t, sysUname, p)
	for i := range uintptr(6) {
		if s := bytesAt(p+i*65, 65); bytes.IndexByte(s, 0) < 0 {
			t.Errorf("uname: field %d has no end: %q", i, s)
		}
	}
	if s := bytesAt(p, 6); string(s) != "Linux\x00" {
		t.Errorf("uname: system %q", s)
	}
	if n := must(t, sysSchedGetaffinity, 0, 64, p); n < 4 || n > 64 || n%4 != 0 || *wordAt(p) == 0 {
		t.Errorf("sched_getaffinity: %d bytes, %#x", n, *wordAt(p))
	}
}

// hostileCall is one call of the random fuzz: a pool of values an argument.
type hostileCall struct {
	nr      uintptr
	pools   [][]uintptr
	allowed errnos
	undo    func(r uintptr, args []uintptr)
}

// hostileCalls lists what the fuzz draws from. Left out are values that end or
// block the process by right: live memory for munmap and its like, waits
// without end, signals to oneself, closing what others use.
func hostileCalls(t *testing.T, m *hostileMemory, d *descriptors) []hostileCall {
	var badIn, badOut []uintptr
	for _, p := range append(append([]place(nil), m.user...), m.kernel...) {
		badIn = append(badIn, p.addr)
	}
	badIn = append(badIn, m.end-1, m.end-3, m.end-7)
	badOut = append(badOut, badIn...)
	for _, p := range m.readOnly {
		badOut = append(badOut, p.addr)
	}
	pid, _ := raw(sysGetpid)
	own := []uintptr{d.event, d.epoll, d.readEnd, d.writeEnd, d.null}
	bad := []uintptr{noFd, minus(2), farAwayFd, 0x7fffffff, 0x80000000, d.closed}
	join := func(lists ...[]uintptr) (all []uintptr) {
		for _, l := range lists {
			all = append(all, l...)
		}
		return all
	}
	anyFd := join(own, own, bad)
	// About as many good places as bad ones, or few calls get past their checks.
	in := join(badIn, []uintptr{m.zero, m.zero + 1, m.zero + 4000})
	out := join(badOut, []uintptr{m.good, m.good + 1, m.good + 2049})
	for i := range uintptr(12) {
		in, out = append(in, m.zero+i*64), append(out, m.good+i*64)
	}
	both := join(out, in)
	sizes := []uintptr{0, 1, 7, 8, 9, 16, 4095, 4096, 1 << 20, 0x7fffffff, 0x80000000, 0xfffff000, noFd}
	spans := []uintptr{0, 1, 4096, 0xfffff001, noFd}
	words := []uintptr{0, 1, 2, 3, 8, 100, 0x7fffffff, 0x80000000, noFd}
	var nonzero []uintptr // waits without a timeout have no end
	for _, p := range in {
		if p != 0 {
			nonzero = append(nonzero, p)
		}
	}
	// Memory that is nobody's: a hole, kernel space, and misaligned.
	nobody := []uintptr{m.end, m.end + 1, m.good + 1}
	if !underUserEmulation { // qemu-arm's user space ends at 4 GiB
		nobody = append(nobody, 0xc0000000, 0xfffff000, 0xffffffff)
	}
	closeIt := func(r uintptr, _ []uintptr) { call(sysClose, r) }
	affinity := []uintptr{0, 1, 3, 4, 8, 64}
	if !underUserEmulation {
		affinity = append(affinity, 0x20000000, 0xfffffffc, noFd)
	}
	return []hostileCall{
		{sysRead, [][]uintptr{anyFd, out, sizes}, errnos{ok, EBADF, EFAULT, EINVAL, EAGAIN}, nil},
		{sysWrite, [][]uintptr{anyFd, both, sizes}, errnos{ok, EBADF, EFAULT, EINVAL, EAGAIN}, nil},
		{sysOpen, [][]uintptr{in, {0, 1, 2}, words}, errnos{EFAULT, ENOENT}, nil},
		{sysOpenat, [][]uintptr{anyFd, in, {0, 1, 2}, words}, errnos{EFAULT, ENOENT, EBADF, syscall.ENOTDIR}, nil},
		{sysClose, [][]uintptr{bad}, errnos{EBADF}, nil},
		{sysFcntl, [][]uintptr{anyFd, {1, 3, 99, 0x7fffffff, noFd}, both}, errnos{ok, EBADF, EINVAL}, nil},
		{sysFcntl64, [][]uintptr{anyFd, {1, 3, 99, 0x7fffffff, noFd}, both}, errnos{ok, EBADF, EINVAL}, nil},
		{sysIoctl, [][]uintptr{anyFd, {syscall.TCGETS}, both}, errnos{EBADF, ENOTTY, EINVAL}, nil}, // EINVAL: epoll sets, from 6.9 on
		{sysFstat64, [][]uintptr{anyFd, out}, errnos{ok, EBADF, EFAULT}, nil},
		{sysUname, [][]uintptr{out}, errnos{ok, EFAULT}, nil},
		{sysGetrandom, [][]uintptr{out, sizes, words}, errnos{ok, EFAULT, EINVAL}, nil},
		{sysPrctl, [][]uintptr{{1000000, 0x7fffffff, noFd}, both, both, both, both}, errnos{EINVAL}, nil},
		{sysBrk, [][]uintptr{{0, 1, pageSize}}, errnos{ok}, nil},
		{sysClone, [][]uintptr{{0x10000, 0x10100, 0x800}, both, both, both, both}, errnos{EINVAL}, nil},
		{sysTgkill, [][]uintptr{{pid, 0, noFd, 0x3fffffff}, {pid, 0, noFd, 0x3fffffff, 0x80000000}, {0, 65, noFd, 0x7fffffff}}, errnos{ok, EINVAL, ESRCH}, nil},
		{sysKill, [][]uintptr{{pid, 0x3fffffff}, {0, 65, noFd, 0x7fffffff}}, errnos{ok, EINVAL, ESRCH}, nil},
		{sysSchedGetaffinity, [][]uintptr{{0, 0x3fffffff, noFd}, affinity, out}, errnos{ok, EINVAL, ESRCH, EFAULT}, nil},
		{sysRtSigaction, [][]uintptr{{0, 65, noFd, 9, 19, 50}, in, out, {8, 8, 8, 0, 4, noFd}}, errnos{ok, EINVAL, EFAULT}, nil},
		{sysRtSigprocmask, [][]uintptr{{0, 1, 3, noFd}, in, out, {8, 8, 8, 0, 4, noFd}}, errnos{ok, EINVAL, EFAULT}, nil},
		{sysSigaltstack, [][]uintptr{in, out}, errnos{ok, EFAULT, EINVAL, ENOMEM}, nil},
		{sysNanosleep, [][]uintptr{in, both}, errnos{ok, EFAULT, EINTR}, nil},
		{sysClockGettime, [][]uintptr{{0, 1, 16, 100, 0x7fffffff, noFd}, out}, errnos{ok, EINVAL, EFAULT}, nil},
		{sysClockGettime64, [][]uintptr{{0, 1, 16, 100, 0x7fffffff, noFd}, out}, errnos{ok, EINVAL, EFAULT}, nil},
		{sysFutex, [][]uintptr{both, {0, 128, 256, 2, 20, 127}, words, nonzero, both, words}, errnos{EAGAIN, ETIMEDOUT, EFAULT, EINVAL, ENOSYS}, nil},
		{sysFutex64, [][]uintptr{both, {0, 128, 256, 2, 20, 127}, words, nonzero, both, words}, errnos{EAGAIN, ETIMEDOUT, EFAULT, EINVAL, ENOSYS}, nil},
		{sysFutex64, [][]uintptr{both, {1, 129, 257}, {1, 2, 0x7fffffff}, both, both, words}, errnos{ok, EFAULT, EINVAL, ENOSYS}, nil},
		{sysMmap2, [][]uintptr{both, {0, 1, 4096, 0xfffff001, noFd}, {0, 1, 3}, {0x22, 0x20, 2}, anyFd, {0}}, errnos{ok, EINVAL, ENOMEM, EBADF, ENODEV, syscall.EACCES},
			func(r uintptr, args []uintptr) { must(t, sysMunmap, r, args[1]) }},
		{sysMunmap, [][]uintptr{nobody, spans}, errnos{ok, EINVAL}, nil},
		{sysMprotect, [][]uintptr{nobody, spans, {0, 1, 3, 0x70}}, errnos{ok, EINVAL, ENOMEM}, nil},
		{sysMadvise, [][]uintptr{nobody, spans, {dontNeed, 1000, noFd}}, errnos{ok, EINVAL, ENOMEM}, nil},
		{sysEpollCreate1, [][]uintptr{words}, errnos{ok, EINVAL}, closeIt},
		{sysEventfd2, [][]uintptr{words, words}, errnos{ok, EINVAL}, closeIt},
		{sysPipe2, [][]uintptr{badOut, {0, 0, 1, noFd}}, errnos{EFAULT, EINVAL}, nil},
		{sysEpollCtl, [][]uintptr{anyFd, {1, 2, 3, 0, 4, noFd}, anyFd, in}, errnos{ok, EBADF, EFAULT, EINVAL, EPERM, EEXIST, ENOENT, syscall.ELOOP}, nil},
		{sysEpollPwait, [][]uintptr{anyFd, out, {0, 1, 2, 100, 0x07ffffff, 0x08000000, 0x7fffffff, noFd}, {0, 0, 0, 1}, in, {8, 8, 0, 4, noFd}}, errnos{ok, EBADF, EFAULT, EINVAL, EINTR}, nil},
		{700, [][]uintptr{both, both, both, both, both, both}, errnos{ENOSYS}, nil},
	}
}

func TestHostileCalls(t *testing.T) {
	lockThread(t)
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // nothing else settles in the hole
	m, d := newHostileMemory(t), newDescriptors(t)
	saved := pages(t, 1)
	must(t, sysRtSigprocmask, 0, 0, saved, 8)
	must(t, sysRtSigaction, 50, 0, saved+64, 8)
	defer func() {
		must(t, sysRtSigprocmask, sigSetMask, saved, 0, 8)
		must(t, sysRtSigaction, 50, saved+64, 0, 8)
	}()
	calls := hostileCalls(t, m, d)
	if underUserEmulation {
		// qemu-arm forgets unknown flags, takes bad pointers for bad times, and
		// makes holes accessible.
		calls = slices.DeleteFunc(calls, func(c hostileCall) bool {
			return c.nr == sysNanosleep || c.nr == sysPipe2 || c.nr == sysMprotect
		})
	}
	rnd := rand.New(rand.NewSource(20))
	answers := make(map[uintptr]map[syscall.Errno]int)
	for n := range allow(30000, 8000) {
		c := &calls[rnd.Intn(len(calls))]
		args := make([]uintptr, len(c.pools))
		for i, pool := range c.pools {
			args[i] = pool[rnd.Intn(len(pool))]
		}
		r, e := call(c.nr, args...)
		if !among(e, c.allowed) {
			t.Errorf("step %d: call %d%s = %#x, %s; want one of %v", n, c.nr, hex(args), r, name(e), c.allowed)
		}
		if e == 0 && c.undo != nil {
			c.undo(r, args)
		}
		if answers[c.nr] == nil {
			answers[c.nr] = make(map[syscall.Errno]int)
		}
		answers[c.nr][e]++
		if n%64 == 0 {
			m.intact(t, fmt.Sprintf("step %d", n))
		}
		if t.Failed() {
			return
		}
	}
	m.intact(t, "the end")
	for _, c := range calls {
		t.Logf("call %d: %v", c.nr, answers[c.nr])
	}
}
