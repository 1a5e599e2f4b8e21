//go:build linux && arm

package conformance

import (
	"math"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

const (
	futexWait    = 0
	futexWake    = 1
	futexPrivate = 128
)

// futexes are the two calls, which differ in the layout of the timeout.
var futexes = []struct {
	name    string
	nr      uintptr
	timeout func(addr uintptr, sec, nsec int64) uintptr
}{
	{"futex", sysFutex, func(addr uintptr, sec, nsec int64) uintptr {
		*pairAt(addr) = [2]int32{int32(sec), int32(nsec)}
		return addr
	}},
	{"futex_time64", sysFutex64, func(addr uintptr, sec, nsec int64) uintptr {
		*longsAt(addr) = [2]int64{sec, nsec}
		return addr
	}},
}

func TestFutexErrors(t *testing.T) {
	p := pages(t, 2)
	word, ts, none := p, p+64, p+pageSize
	must(t, sysMprotect, none, pageSize, protNone)
	*wordAt(word) = 5
	for _, f := range futexes {
		t.Run(f.name, func(t *testing.T) {
			for _, op := range []uintptr{futexWait, futexWait | futexPrivate} {
				zero := f.timeout(ts, 0, 0)
				refuse(t, "other value", EAGAIN, f.nr, word, op, 4, 0)
				refuse(t, "other value, timeout", EAGAIN, f.nr, word, op, 4, zero)
				refuse(t, "timeout of zero", ETIMEDOUT, f.nr, word, op, 5, zero)
				refuse(t, "no timeout readable", EFAULT, f.nr, word, op, 4, none)
				refuse(t, "timeout ends in a bad page", EFAULT, f.nr, word, op, 4, none-4)
				refuse(t, "no word readable", EFAULT, f.nr, none, op, 4, zero)
				refuse(t, "null word", EFAULT, f.nr, 0, op, 4, 0)
				refuse(t, "misaligned", EINVAL, f.nr, word+1, op, 5, zero)
				refuse(t, "misaligned by two", EINVAL, f.nr, word+2, op, 5, zero)
				refuse(t, "misaligned, bad page", EINVAL, f.nr, none+3, op, 5, zero)
				refuse(t, "both bad: the timeout comes first", EFAULT, f.nr, none+3, op, 5, none)
				for _, bad := range [][2]int64{{0, 1e9}, {0, math.MaxInt32}, {0, -1}, {-1, 0}, {-1, 999999999}, {math.MinInt32, 5}} {
					refuse(t, "timeout out of range", EINVAL, f.nr, word, op, 5, f.timeout(ts, bad[0], bad[1]))
					refuse(t, "timeout out of range comes first", EINVAL, f.nr, none, op, 4, ts)
				}
			}
			refuse(t, "wake, misaligned", EINVAL, f.nr, word+2, futexWake|futexPrivate, 1)
			if !underUserEmulation { // qemu-arm's user space ends at 4 GiB
				refuse(t, "wait in kernel space", EFAULT, f.nr, 0xc0000000, futexWait|futexPrivate, 0, 0)
				refuse(t, "wake in kernel space", EFAULT, f.nr, 0xc0000000, futexWake|futexPrivate, 1)
				refuse(t, "wake in kernel space, top", EFAULT, f.nr, 0xfffffffc, futexWake|futexPrivate, 1)
			}
			for _, cmd := range []uintptr{2, 14, 20, 100, 127} {
				refuse(t, "unknown command", ENOSYS, f.nr, word, cmd, 5, 0)
				refuse(t, "unknown command", ENOSYS, f.nr, word, cmd|futexPrivate, 5, 0)
			}
			refuse(t, "realtime clock", ENOSYS, f.nr, word, futexWait|256, 4, 0)
			refuse(t, "realtime clock", ENOSYS, f.nr, word, futexWake|256, 1, 0)
			for _, n := range []uintptr{1, 2, math.MaxInt32} {
				if r := must(t, f.nr, word, futexWake|futexPrivate, n); r != 0 {
					t.Errorf("woke %d of nobody", r)
				}
			}
			// A word that can only be read can be waited on.
			ro := pages(t, 1)
			must(t, sysMprotect, ro, pageSize, protRead)
			refuse(t, "read-only word", ETIMEDOUT, f.nr, ro, futexWait|futexPrivate, 0, f.timeout(ts, 0, 0))
		})
	}
	// The upper half of a 32-bit program's 64-bit nanoseconds is padding.
	*longsAt(ts) = [2]int64{0, 0x7f00000000000000}
	refuse(t, "padding in nanoseconds", ETIMEDOUT, sysFutex64, word, futexWait|futexPrivate, 5, ts)
	*longsAt(ts) = [2]int64{math.MinInt64, 0}
	refuse(t, "most negative second", EINVAL, sysFutex64, word, futexWait|futexPrivate, 5, ts)
}

func TestFutexTimeout(t *testing.T) {
	p := pages(t, 1)
	for _, f := range futexes {
		for _, d := range []time.Duration{time.Nanosecond, time.Millisecond, 30 * time.Millisecond, 120 * time.Millisecond} {
			ts := f.timeout(p+64, 0, int64(d))
			start := time.Now()
			_, e := call(f.nr, p, futexWait|futexPrivate, 0, ts)
			took := time.Since(start)
			if e != ETIMEDOUT && e != EINTR {
				t.Errorf("%s for %v: %s", f.name, d, name(e))
			}
			if e == ETIMEDOUT && took < d || took > d+5*time.Second {
				t.Errorf("%s for %v took %v", f.name, d, took)
			}
		}
	}
}

// sleeper is a thread that waits on a futex word of its own or of others.
type sleeper struct {
	tid  atomic.Uint32
	errs chan syscall.Errno
}

// sleep starts a locked thread that waits on word with the given timeout.
func sleep(t *testing.T, nr, word, val, ts uintptr) *sleeper {
	s := &sleeper{errs: make(chan syscall.Errno, 1)}
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		tid, _ := raw(sysGettid)
		s.tid.Store(uint32(tid))
		_, e := call(nr, word, futexWait|futexPrivate, val, ts)
		s.errs <- e
	}()
	for s.tid.Load() == 0 {
		runtime.Gosched()
	}
	return s
}

// asleep reports that the sleeper is still in its call after d.
func (s *sleeper) asleep(d time.Duration) (syscall.Errno, bool) {
	for limit := time.Now().Add(d); ; time.Sleep(time.Millisecond) {
		select {
		case e := <-s.errs:
			s.errs <- e
			return e, false
		default:
		}
		if !time.Now().Before(limit) {
			return 0, true
		}
	}
}

// result waits for the call to end.
func (s *sleeper) result(t *testing.T) syscall.Errno {
	t.Helper()
	select {
	case e := <-s.errs:
		return e
	case <-time.After(20 * time.Second):
		t.Fatal("still asleep after 20 s")
		return 0
	}
}

// wakeOne wakes exactly one sleeper, however long it takes to fall asleep.
func wakeOne(t *testing.T, nr, word uintptr) {
	t.Helper()
	for limit := time.Now().Add(20 * time.Second); time.Now().Before(limit); {
		switch r := must(t, nr, word, futexWake|futexPrivate, 1); r {
		case 1:
			return
		case 0:
			time.Sleep(time.Millisecond)
		default:
			t.Fatalf("asked to wake one, woke %d", r)
		}
	}
	t.Fatal("nobody to wake for 20 s")
}

// A timeout that overflows when added to the clock must not end at once.
func TestFutexLongTimeout(t *testing.T) {
	for _, f := range futexes {
		for _, sec := range []int64{1 << 20, math.MaxInt32 - 1, math.MaxInt32, math.MaxUint32 + 1, 1 << 33, 1 << 35, 1 << 62, math.MaxInt64} {
			if f.nr == sysFutex && sec > math.MaxInt32 {
				continue
			}
			p := pages(t, 1)
			ts := f.timeout(p+64, sec, 999999999)
			s := sleep(t, f.nr, p, 0, ts)
			e, still := s.asleep(15 * time.Millisecond)
			for !still && e == EINTR { // a signal of the runtime's
				s = sleep(t, f.nr, p, 0, ts)
				e, still = s.asleep(15 * time.Millisecond)
			}
			if !still {
				t.Errorf("%s for %d s returned at once: %s", f.name, sec, name(e))
				continue
			}
			wakeOne(t, f.nr, p)
			if e := s.result(t); e != 0 {
				t.Errorf("%s woken: %s", f.name, name(e))
			}
		}
	}
}

// Waiters are woken first come, first served, and by both calls alike.
func TestFutexOrder(t *testing.T) {
	p := pages(t, 1)
	const waiters = 12
	for round := range allow(4, 2) {
		nr := futexes[round%2].nr
		var mu sync.Mutex
		var order []int
		var all sync.WaitGroup
		for i := range waiters {
			var tid atomic.Uint32
			all.Add(1)
			go func() {
				defer all.Done()
				runtime.LockOSThread()
				defer runtime.UnlockOSThread()
				id, _ := raw(sysGettid)
				tid.Store(uint32(id))
				for {
					_, e := call(nr, p, futexWait|futexPrivate, 0, 0)
					if e == 0 {
						break
					}
					t.Errorf("waiter %d: %s", i, name(e))
					return
				}
				mu.Lock()
				order = append(order, i)
				mu.Unlock()
			}()
			for tid.Load() == 0 {
				runtime.Gosched()
			}
			time.Sleep(4 * time.Millisecond) // let it fall asleep before the next one
		}
		for n := range waiters {
			wakeOne(t, futexes[(round+1)%2].nr, p)
			for limit := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
				mu.Lock()
				up := len(order)
				mu.Unlock()
				if up > n {
					break
				}
				if time.Now().After(limit) {
					t.Fatalf("the woken waiter %d did not return", n)
				}
			}
		}
		all.Wait()
		if !slices.IsSorted(order) {
			t.Errorf("woken in the order %v", order)
		}
	}
}

func TestFutexWakeCount(t *testing.T) {
	p := pages(t, 1)
	const waiters = 9
	var asleep []*sleeper
	for range waiters {
		asleep = append(asleep, sleep(t, sysFutex, p, 0, 0))
	}
	other := sleep(t, sysFutex, p+4, 0, 0)
	time.Sleep(50 * time.Millisecond)
	for _, c := range []struct{ n, want uintptr }{{3, 3}, {1, 1}, {4, 4}, {math.MaxInt32, 1}, {5, 0}} {
		if r := must(t, sysFutex64, p, futexWake|futexPrivate, c.n); r != c.want {
			t.Errorf("asked for %d: woke %d, want %d", c.n, r, c.want)
		}
	}
	for range waiters {
		must(t, sysFutex, p, futexWake|futexPrivate, waiters)
	}
	for _, s := range asleep {
		if e := s.result(t); e != 0 {
			t.Errorf("woken: %s", name(e))
		}
	}
	if _, still := other.asleep(10 * time.Millisecond); !still {
		t.Error("a waiter on the next word was woken")
	}
	wakeOne(t, sysFutex, p+4)
	other.result(t)
}

// Every wake that reports one waiter ends exactly one wait, and the others time
// out, though both come at the same time.
func TestFutexWakeAgainstTimeout(t *testing.T) {
	const threads, rounds = 4, 60
	p := pages(t, 1)
	var woken, timeouts atomic.Int64
	var all sync.WaitGroup
	for i := range threads {
		all.Add(1)
		go func() {
			defer all.Done()
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			for n := range rounds {
				ts := futexes[n%2].timeout(p+64+uintptr(i)*32, 0, int64(200000+n*20000))
				switch _, e := call(futexes[n%2].nr, p, futexWait|futexPrivate, 0, ts); e {
				case 0:
					woken.Add(1)
				case ETIMEDOUT:
					timeouts.Add(1)
				case EINTR:
				default:
					t.Errorf("wait: %s", name(e))
				}
			}
		}()
	}
	var reported int64
	stop := make(chan struct{})
	go func() { all.Wait(); close(stop) }()
	for {
		select {
		case <-stop:
			if woken.Load() != reported {
				t.Errorf("%d wakes reported, %d waits woken", reported, woken.Load())
			}
			if timeouts.Load() == 0 || reported == 0 {
				t.Errorf("no race: %d timeouts, %d wakes", timeouts.Load(), reported)
			}
			return
		default:
		}
		r := must(t, sysFutex, p, futexWake|futexPrivate, 1)
		reported += int64(r)
		time.Sleep(100 * time.Microsecond)
	}
}

// A signal whose handler asks for it restarts a wait without timeout; a wait
// with a timeout ends with EINTR in any case.
func TestFutexSignal(t *testing.T) {
	const sig = 42
	pid, _ := raw(sysGetpid)
	p := pages(t, 1)
	act := p + 128
	for _, f := range futexes {
		for _, c := range []struct {
			restart bool
			timeout bool
			want    syscall.Errno
		}{{true, false, ok}, {false, false, EINTR}, {true, true, EINTR}, {false, true, EINTR}} {
			if underUserEmulation && c.restart && c.timeout {
				continue // qemu-arm restarts, with the whole timeout again
			}
			flags := uint32(saOnStack | saSiginfo)
			if c.restart {
				flags |= saRestart
			}
			installed := install(t, act, sig, uint32(emptySignalPC()), flags)
			ts := uintptr(0)
			if c.timeout {
				ts = f.timeout(p+64, 100, 0)
			}
			s := sleep(t, f.nr, p, 0, ts)
			time.Sleep(20 * time.Millisecond)
			// The first signal may come before the thread sleeps.
			patience := 20
			if c.want == 0 {
				patience = 3
			}
			for range patience {
				must(t, sysTgkill, pid, uintptr(s.tid.Load()), sig)
				if _, still := s.asleep(10 * time.Millisecond); !still {
					break
				}
			}
			if _, still := s.asleep(0); still {
				if c.want != 0 {
					t.Errorf("%s, restart %v, timeout %v: still asleep after a signal", f.name, c.restart, c.timeout)
				}
				wakeOne(t, f.nr, p)
			}
			if e := s.result(t); e != c.want {
				t.Errorf("%s, restart %v, timeout %v: %s; want %s", f.name, c.restart, c.timeout, name(e), name(c.want))
			}
			installed()
		}
	}
}
