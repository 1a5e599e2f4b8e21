//go:build linux && arm

package conformance

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

const (
	saSiginfo  = 4
	saOnStack  = 0x08000000
	saRestart  = 0x10000000
	saNoDefer  = 0x40000000
	sigBlock   = 0
	sigUnblock = 1
	sigSetMask = 2
	ssOnStack  = 1
	ssDisable  = 2
)

// action is struct sigaction as rt_sigaction takes it.
type action struct {
	handler, flags, restorer uint32
	mask                     uint64
}

func actionAt(addr uintptr) *action { return (*action)(pointer(addr)) }
func stackAt(addr uintptr) *stack   { return (*stack)(pointer(addr)) }

// install sets the action of sig, using 64 bytes at mem, and returns what puts
// the old action back.
func install(t testing.TB, mem uintptr, sig uintptr, handler, flags uint32) (restore func()) {
	*actionAt(mem) = action{handler: handler, flags: flags}
	must(t, sysRtSigaction, sig, mem, mem+32, 8)
	old := *actionAt(mem + 32)
	return func() {
		*actionAt(mem) = old
		must(t, sysRtSigaction, sig, mem, 0, 8)
	}
}

func TestSigaction(t *testing.T) {
	p := pages(t, 2)
	none := p + pageSize
	must(t, sysMprotect, none, pageSize, protNone)
	act, old := p, p+32
	const sig = 40
	must(t, sysRtSigaction, sig, 0, old, 8)
	first := *actionAt(old)
	defer func() {
		*actionAt(act) = first
		must(t, sysRtSigaction, sig, act, 0, 8)
	}()
	for _, want := range []action{
		{handler: uint32(emptySignalPC()), flags: saSiginfo | saOnStack | saRestart, mask: 0x123456789a},
		{handler: uint32(noteSignalPC()), flags: saSiginfo | saNoDefer, mask: 0},
		{handler: 1, flags: 0, mask: 1 << 63},
		{handler: 0, flags: 0, mask: 0},
		{handler: uint32(emptySignalPC()), flags: saSiginfo, mask: ^uint64(0)},
	} {
		*actionAt(act) = want
		must(t, sysRtSigaction, sig, act, 0, 8)
		*actionAt(old) = action{1, 2, 3, 4}
		must(t, sysRtSigaction, sig, 0, old, 8)
		got := *actionAt(old)
		if !underUserEmulation { // qemu-arm keeps the two
			want.mask &^= 1<<(syscall.SIGKILL-1) | 1<<(syscall.SIGSTOP-1)
		}
		got.restorer = want.restorer
		if got != want {
			t.Errorf("set %+v, got %+v", want, got)
		}
	}
	// Setting and getting at once returns what was before.
	*actionAt(act) = action{handler: 1}
	must(t, sysRtSigaction, sig, act, act, 8)
	if h := actionAt(act).handler; h != uint32(emptySignalPC()) {
		t.Errorf("old handler %#x through the same buffer, want %#x", h, emptySignalPC())
	}

	*actionAt(act) = action{handler: 1}
	for _, size := range []uintptr{0, 4, 7, 9, 16, noFd} {
		refuse(t, "size of the mask", EINVAL, sysRtSigaction, sig, act, old, size)
	}
	for _, bad := range []uintptr{0, 65, 66, 1000, 0x7fffffff, 0x80000000, noFd} {
		refuse(t, "signal number", EINVAL, sysRtSigaction, bad, act, 0, 8)
		refuse(t, "signal number, query", EINVAL, sysRtSigaction, bad, 0, old, 8)
	}
	for _, fixed := range []uintptr{uintptr(syscall.SIGKILL), uintptr(syscall.SIGSTOP)} {
		refuse(t, "signal that cannot be caught", EINVAL, sysRtSigaction, fixed, act, 0, 8)
		must(t, sysRtSigaction, fixed, 0, old, 8)
		if h := actionAt(old).handler; h != 0 {
			t.Errorf("signal %d has the handler %#x", fixed, h)
		}
	}
	refuse(t, "bad action", EFAULT, sysRtSigaction, sig, none, 0, 8)
	refuse(t, "action ends in a bad page", EFAULT, sysRtSigaction, sig, none-8, 0, 8)
	refuse(t, "bad old action", EFAULT, sysRtSigaction, sig, 0, none, 8)
	refuse(t, "old action ends in a bad page", EFAULT, sysRtSigaction, sig, 0, none-8, 8)
	must(t, sysRtSigaction, sig, 0, 0, 8)
}

// mask returns this thread's blocked signals.
func mask(t testing.TB, mem uintptr) uint64 {
	must(t, sysRtSigprocmask, 0, 0, mem, 8)
	return *longAt(mem)
}

func TestSigprocmask(t *testing.T) {
	lockThread(t)
	p := pages(t, 2)
	none := p + pageSize
	must(t, sysMprotect, none, pageSize, protNone)
	set, old := p, p+8
	before := mask(t, old)
	defer func() {
		*longAt(set) = before
		must(t, sysRtSigprocmask, sigSetMask, set, 0, 8)
	}()
	for _, size := range []uintptr{0, 4, 7, 9, 16, noFd} {
		refuse(t, "size of the mask", EINVAL, sysRtSigprocmask, sigBlock, set, old, size)
	}
	*longAt(set) = 1 << 50
	for _, how := range []uintptr{3, 4, noFd, 0x80000000} {
		refuse(t, "how", EINVAL, sysRtSigprocmask, how, set, old, 8)
		must(t, sysRtSigprocmask, how, 0, old, 8)
	}
	refuse(t, "bad set", EFAULT, sysRtSigprocmask, sigBlock, none, 0, 8)
	refuse(t, "set ends in a bad page", EFAULT, sysRtSigprocmask, sigBlock, none-4, 0, 8)
	refuse(t, "bad old set", EFAULT, sysRtSigprocmask, sigBlock, 0, none, 8)
	refuse(t, "old set ends in a bad page", EFAULT, sysRtSigprocmask, sigBlock, 0, none-4, 8)
	if m := mask(t, old); m != before {
		t.Errorf("the errors changed the mask from %#x to %#x", before, m)
	}

	const unblockable = 1<<(syscall.SIGKILL-1) | 1<<(syscall.SIGSTOP-1)
	// Signals 32 and 33 belong to C libraries, which is why qemu-arm keeps some
	// of the real-time signals to itself.
	const private = uint64(3)<<31 | 3<<62
	want := before
	for _, c := range []struct {
		how uintptr
		set uint64
	}{{sigBlock, 1 << 40}, {sigBlock, 1<<41 | 1<<57}, {sigUnblock, 1<<40 | 1<<39}, {sigSetMask, ^private}, {sigUnblock, 1 << 57}, {sigSetMask, 5 << 33}} {
		*longAt(set) = c.set
		must(t, sysRtSigprocmask, c.how, set, old, 8)
		if got := *longAt(old); got != want {
			t.Errorf("old mask %#x, want %#x", got, want)
		}
		switch c.how {
		case sigBlock:
			want |= c.set
		case sigUnblock:
			want &^= c.set
		default:
			want = c.set
		}
		want &^= unblockable
	}
	if got := mask(t, old); got != want {
		t.Errorf("mask %#x, want %#x", got, want)
	}
}

// A blocked signal waits, once, and comes before the unblocking call returns.
func TestBlockedSignal(t *testing.T) {
	lockThread(t)
	const sig = int(syscall.SIGUSR2)
	p := pages(t, 1)
	set, old := p, p+8
	pid, _ := raw(sysGetpid)
	tid, _ := raw(sysGettid)
	defer install(t, p+128, uintptr(sig), uint32(noteSignalPC()), saSiginfo|saOnStack)()
	note = noted{}
	*longAt(set) = 1 << (sig - 1)
	must(t, sysRtSigprocmask, sigBlock, set, old, 8)
	for range 3 {
		must(t, sysTgkill, pid, tid, uintptr(sig))
	}
	must(t, sysSchedYield)
	if n := atomic.LoadUint32(&note.count); n != 0 {
		t.Errorf("a blocked signal came %d times", n)
	}
	must(t, sysRtSigprocmask, sigUnblock, set, 0, 8)
	if n := atomic.LoadUint32(&note.count); n != 1 {
		t.Errorf("unblocked: came %d times, want once", n)
	}
	must(t, sysTgkill, pid, tid, uintptr(sig))
	if n := atomic.LoadUint32(&note.count); n != 2 {
		t.Errorf("not blocked: came %d times, want twice", n)
	}
	const siTkill = -6
	if note.sig != uint32(sig) || note.code != siTkill || note.fault != uint32(pid) {
		t.Errorf("signal %d, code %d, sender %d; want %d, %d, %d", note.sig, note.code, note.fault, sig, siTkill, pid)
	}
	must(t, sysKill, pid, uintptr(sig))
	for limit := time.Now().Add(10 * time.Second); atomic.LoadUint32(&note.count) != 3 && time.Now().Before(limit); {
		time.Sleep(time.Millisecond)
	}
	if n := atomic.LoadUint32(&note.count); n != 3 || note.code != 0 {
		t.Errorf("kill: came %d times with code %d; want 3, 0", n, note.code)
	}
}

// While a handler runs, its own signal and its action's mask are blocked, and
// both are as before afterwards; SA_NODEFER leaves its own signal open.
func TestHandlerMask(t *testing.T) {
	lockThread(t)
	const sig = 43
	p := pages(t, 1)
	pid, _ := raw(sysGetpid)
	tid, _ := raw(sysGettid)
	before := mask(t, p)
	for _, c := range []struct {
		flags      uint32
		mask, want uint64
	}{
		{saSiginfo | saOnStack, 0, 1 << (sig - 1)},
		{saSiginfo | saOnStack, 1<<50 | 1<<(sig-1), 1<<50 | 1<<(sig-1)},
		{saSiginfo | saOnStack | saNoDefer, 1 << 50, 1 << 50},
	} {
		restore := install(t, p+128, sig, uint32(noteSignalPC()), c.flags)
		actionAt(p + 128).mask = c.mask
		must(t, sysRtSigaction, sig, p+128, 0, 8)
		note = noted{}
		must(t, sysTgkill, pid, tid, sig)
		if n := atomic.LoadUint32(&note.count); n != 1 {
			t.Errorf("came %d times", n)
		}
		if note.mask != before|c.want {
			t.Errorf("flags %#x: mask in the handler %#x, want %#x", c.flags, note.mask, before|c.want)
		}
		if m := mask(t, p); m != before {
			t.Errorf("mask after the handler %#x, want %#x", m, before)
		}
		if note.context%8 != 0 || note.sp%8 != 0 {
			t.Errorf("handler entered with SP %#x (six words pushed), context %#x", note.sp, note.context)
		}
		restore()
	}
}

func TestSigaltstack(t *testing.T) {
	lockThread(t)
	p := pages(t, 6)
	none := p + 5*pageSize
	must(t, sysMprotect, none, pageSize, protNone)
	set, old, alt := p, p+16, p+pageSize
	const sig = 44
	pid, _ := raw(sysGetpid)
	tid, _ := raw(sysGettid)

	// No Go signal may come while the thread has not the runtime's stack.
	*longAt(p + 32) = ^uint64(1 << (sig - 1))
	must(t, sysRtSigprocmask, sigSetMask, p+32, p+40, 8)
	must(t, sysSigaltstack, 0, old)
	runtimes := *stackAt(old)
	defer func() {
		*stackAt(set) = runtimes
		must(t, sysSigaltstack, set, 0)
		must(t, sysRtSigprocmask, sigSetMask, p+40, 0, 8)
	}()
	if runtimes.flags != 0 || runtimes.sp == 0 || runtimes.size < 2048 {
		t.Errorf("the runtime's own stack: %+v", runtimes)
	}
	for _, c := range []struct {
		what  string
		stack stack
		want  syscall.Errno
	}{
		{"flags", stack{uint32(alt), 4, 3 * pageSize}, EINVAL},
		{"flags, both", stack{uint32(alt), 3, 3 * pageSize}, EINVAL},
		{"flags, high", stack{uint32(alt), 0x40000000, 3 * pageSize}, EINVAL},
		{"size", stack{uint32(alt), 0, 2047}, ENOMEM},
		{"no size", stack{uint32(alt), 0, 0}, ENOMEM},
		{"smallest", stack{uint32(alt), 0, 2048}, ok},
		{"SS_ONSTACK is accepted", stack{uint32(alt), ssOnStack, 3 * pageSize}, ok},
		{"disabled, size", stack{uint32(alt), ssDisable, 3}, ok},
		{"plain", stack{uint32(alt), 0, 3 * pageSize}, ok},
	} {
		if underUserEmulation && c.stack.size == 2048 {
			continue // qemu-arm wants more
		}
		must(t, sysSigaltstack, 0, old)
		was := *stackAt(old)
		*stackAt(set) = c.stack
		if _, e := call(sysSigaltstack, set, 0); e != c.want {
			t.Errorf("%s: %s; want %s", c.what, name(e), name(c.want))
		}
		must(t, sysSigaltstack, 0, old)
		got, want := *stackAt(old), was
		if c.want == 0 {
			want = stack{c.stack.sp, 0, c.stack.size}
			if c.stack.flags == ssDisable {
				want = stack{0, ssDisable, 0}
			}
			got.flags &^= ssOnStack // as Linux records it
		}
		want.flags &^= ssOnStack
		if underUserEmulation && want.flags == ssDisable {
			want.sp, want.size = got.sp, got.size // qemu-arm keeps the numbers
		}
		if got != want {
			t.Errorf("%s: then %+v, want %+v", c.what, got, want)
		}
	}
	refuse(t, "bad new stack", EFAULT, sysSigaltstack, none, 0)
	refuse(t, "new stack ends in a bad page", EFAULT, sysSigaltstack, none-4, 0)
	refuse(t, "bad old stack", EFAULT, sysSigaltstack, 0, none)
	refuse(t, "old stack ends in a bad page", EFAULT, sysSigaltstack, 0, none-4)
	must(t, sysSigaltstack, 0, 0)

	// A handler runs on it, sees so, and cannot change it.
	*stackAt(set) = stack{uint32(alt), 0, 3 * pageSize}
	must(t, sysSigaltstack, set, 0)
	restore := install(t, p+128, sig, uint32(noteSignalPC()), saSiginfo|saOnStack)
	defer restore()
	for range 3 {
		note = noted{set: stack{uint32(alt), 0, 2 * pageSize}}
		must(t, sysTgkill, pid, tid, sig)
		if note.count != 1 || uintptr(note.sp) < alt || uintptr(note.sp) >= alt+3*pageSize {
			t.Errorf("handler ran %d times, SP %#x; want it in %#x-%#x", note.count, note.sp, alt, alt+3*pageSize)
		}
		if want := (stack{uint32(alt), ssOnStack, 3 * pageSize}); note.old != want {
			t.Errorf("seen from the handler: %+v, want %+v", note.old, want)
		}
		if e := syscall.Errno(-note.setErr); e != EPERM {
			t.Errorf("changed while in use: %s; want %s", name(e), name(EPERM))
		}
	}
}

func TestKillErrors(t *testing.T) {
	lockThread(t)
	pid, _ := raw(sysGetpid)
	tid, _ := raw(sysGettid)
	const nobody = 0x3fffffff
	for _, c := range []struct {
		what      string
		pid, tid  uintptr
		sig       uintptr
		want, one syscall.Errno // of tgkill, of kill(pid, sig)
	}{
		{"nothing is sent", pid, tid, 0, ok, ok},
		{"signal 65", pid, tid, 65, EINVAL, EINVAL},
		{"signal -1", pid, tid, noFd, EINVAL, EINVAL},
		{"large signal", pid, tid, 0x7fffffff, EINVAL, EINVAL},
		{"nobody", nobody, nobody, 0, ESRCH, ESRCH},
		{"nobody, bad signal", nobody, nobody, 65, ESRCH, ESRCH},
		{"no such thread", pid, nobody, 0, ESRCH, ok},
		{"another process's thread", nobody, tid, 0, ESRCH, ESRCH},
		{"thread zero", pid, 0, 0, EINVAL, ok},
		{"negative thread", pid, noFd, 0, EINVAL, ok},
	} {
		if _, e := call(sysTgkill, c.pid, c.tid, c.sig); e != c.want {
			t.Errorf("tgkill, %s: %s; want %s", c.what, name(e), name(c.want))
		}
		if _, e := call(sysKill, c.pid, c.sig); e != c.one {
			t.Errorf("kill, %s: %s; want %s", c.what, name(e), name(c.one))
		}
	}
	refuse(t, "process zero", EINVAL, sysTgkill, 0, tid, 0)
	refuse(t, "negative process", EINVAL, sysTgkill, noFd, tid, 0)
}

func TestNotify(t *testing.T) {
	c := make(chan os.Signal, 8)
	sigs := []syscall.Signal{syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGWINCH, syscall.SIGTERM, syscall.Signal(45)}
	for _, s := range sigs {
		signal.Notify(c, s)
	}
	defer signal.Stop(c)
	pid := os.Getpid()
	for n := range allow(40, 10) {
		s := sigs[n%len(sigs)]
		if err := syscall.Kill(pid, s); err != nil {
			t.Fatal(err)
		}
		select {
		case got := <-c:
			if got != s {
				t.Fatalf("sent %v, got %v", s, got)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("%v did not come", s)
		}
	}
	signal.Ignore(syscall.SIGUSR1)
	defer signal.Reset(syscall.SIGUSR1)
	if err := syscall.Kill(pid, syscall.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	select {
	case got := <-c:
		t.Errorf("ignored signal came as %v", got)
	case <-time.After(20 * time.Millisecond):
	}
}

// pattern fills all registers with values that differ from each other.
func pattern(seed uint32) *registers {
	r := &registers{fpscr: 0xf0c00010 | seed&0x8f}
	x := seed | 1
	next := func() uint32 {
		x ^= x << 13
		x ^= x >> 17
		x ^= x << 5
		return x
	}
	for i := range r.core {
		r.core[i] = next()
	}
	for i := range r.d {
		r.d[i] = uint64(next())<<32 | uint64(next())
	}
	return r
}

func (r *registers) differs(o *registers) error {
	for i := range r.core {
		if r.core[i] != o.core[i] {
			return fmt.Errorf("core register %d of R1-R9,R11,R12,R14: %#x became %#x", i, r.core[i], o.core[i])
		}
	}
	for i := range r.d {
		if r.d[i] != o.d[i] {
			return fmt.Errorf("D%d: %#x became %#x", i, r.d[i], o.d[i])
		}
	}
	if r.fpscr != o.fpscr {
		return fmt.Errorf("FPSCR: %#x became %#x", r.fpscr, o.fpscr)
	}
	return nil
}

// A system call changes R0 and nothing else.
func TestCallKeepsRegisters(t *testing.T) {
	pid, _ := raw(sysGetpid)
	for n := range uint32(200) {
		in, out := pattern(n*77+1), new(registers)
		nr := []uint32{sysGetpid, sysSchedYield, 700}[n%3]
		r0 := callKeeps(nr, in, out)
		if want := []uint32{uint32(pid), 0, uint32(minus(int32(ENOSYS)))}[n%3]; r0 != want {
			t.Errorf("call %d returned %#x, want %#x", nr, r0, want)
		}
		in.core[6] = nr
		if err := in.differs(out); err != nil {
			t.Fatalf("call %d: %v", nr, err)
		}
	}
}

// Asynchronous signals find all registers in use and leave them as they were.
func TestSignalKeepsRegisters(t *testing.T) {
	notify := make(chan os.Signal, 1)
	signal.Notify(notify, syscall.SIGUSR1)
	defer signal.Stop(notify)
	pid, _ := raw(sysGetpid)
	const threads = 2
	var all sync.WaitGroup
	var stop atomic.Bool
	var tids [threads]atomic.Uint32
	for i := range threads {
		all.Add(1)
		go func() {
			defer all.Done()
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			id, _ := raw(sysGettid)
			tids[i].Store(uint32(id))
			for n := uint32(i); !stop.Load(); n += threads {
				in, out := pattern(n*2654435761+12345), new(registers)
				holdRegisters(in, out, 200000)
				if err := in.differs(out); err != nil {
					t.Errorf("round %d: %v", n, err)
					return
				}
			}
		}()
	}
	for n := range allow(1500, 400) {
		if id := tids[n%threads].Load(); id != 0 {
			sig := syscall.SIGURG
			if n%4 < 2 {
				sig = syscall.SIGUSR1
			}
			must(t, sysTgkill, pid, uintptr(id), uintptr(sig))
		}
		select {
		case <-notify:
		default:
		}
		if n%16 == 0 {
			time.Sleep(time.Millisecond)
		}
	}
	stop.Store(true)
	all.Wait()
}

type fields struct{ a, b int }

// Nil dereferences on many goroutines and threads at once are all recovered.
func TestFaultStorm(t *testing.T) {
	var all sync.WaitGroup
	var recovered atomic.Int64
	goroutines, rounds := allow(40, 20), 50
	for i := range goroutines {
		all.Add(1)
		go func() {
			defer all.Done()
			if i%4 == 0 {
				runtime.LockOSThread()
				defer runtime.UnlockOSThread()
			}
			for range rounds {
				func() {
					defer func() {
						var fault runtime.Error
						if err, isErr := recover().(error); isErr && errors.As(err, &fault) {
							recovered.Add(1)
						}
					}()
					var f *fields
					f.b = i
				}()
				if i%3 == 0 {
					runtime.Gosched()
				}
			}
		}()
	}
	all.Wait()
	if got, want := recovered.Load(), int64(goroutines*rounds); got != want {
		t.Errorf("%d faults recovered, want %d", got, want)
	}
}
