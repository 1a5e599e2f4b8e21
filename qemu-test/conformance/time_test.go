//go:build linux && arm

package conformance

import (
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const (
	realtime  = 0
	monotonic = 1
)

// now reads a clock with the 32-bit or the 64-bit call into mem.
func now(t testing.TB, nr, clock, mem uintptr) time.Duration {
	must(t, nr, clock, mem)
	if nr == sysClockGettime64 {
		v := longsAt(mem)
		if v[1] < 0 || v[1] >= 1e9 {
			t.Errorf("clock %d: %d nanoseconds", clock, v[1])
		}
		return time.Duration(v[0])*time.Second + time.Duration(v[1])
	}
	v := pairAt(mem)
	if v[1] < 0 || v[1] >= 1e9 {
		t.Errorf("clock %d: %d nanoseconds", clock, v[1])
	}
	return time.Duration(uint32(v[0]))*time.Second + time.Duration(v[1])
}

func TestClockGettime(t *testing.T) {
	p := pages(t, 2)
	none := p + pageSize
	must(t, sysMprotect, none, pageSize, protNone)
	for _, nr := range []uintptr{sysClockGettime, sysClockGettime64} {
		for _, id := range []uintptr{16, 17, 100, 0x7fffffff, noFd} {
			refuse(t, "unknown clock", EINVAL, nr, id, p)
			refuse(t, "unknown clock, bad place", EINVAL, nr, id, none)
		}
		for _, id := range []uintptr{realtime, monotonic} {
			refuse(t, "bad place", EFAULT, nr, id, none)
			*longAt(p + 8), *longAt(p + 16) = ^uint64(0), ^uint64(0)
			must(t, nr, id, p)
			if nr == sysClockGettime && *longAt(p + 8) != ^uint64(0) || *longAt(p + 16) != ^uint64(0) {
				t.Errorf("call %d wrote more than its struct", nr)
			}
		}
	}
	for _, id := range []uintptr{realtime, monotonic} {
		a := now(t, sysClockGettime, id, p)
		b := now(t, sysClockGettime64, id, p)
		c := now(t, sysClockGettime, id, p)
		if a > b || b > c || c-a > time.Minute {
			t.Errorf("clock %d: %v, %v, %v by the two calls in turn", id, a, b, c)
		}
	}
	// The runtime's clock, which may not make a call, is the same.
	a := now(t, sysClockGettime64, realtime, p)
	b := time.Duration(time.Now().UnixNano())
	c := now(t, sysClockGettime64, realtime, p)
	if a > b || b > c {
		t.Errorf("time.Now %v is not between %v and %v", b, a, c)
	}
}

// The monotonic clock never goes back, on one thread or from thread to thread.
func TestMonotonic(t *testing.T) {
	const threads = 4
	var latest atomic.Int64
	var all sync.WaitGroup
	for i := range threads {
		all.Add(1)
		go func() {
			defer all.Done()
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			p := pages(t, 1)
			base := time.Now()
			before := time.Duration(0)
			for n := range allow(4000, 1500) {
				floor := latest.Load()
				v := int64(now(t, []uintptr{sysClockGettime, sysClockGettime64}[(n+i)%2], monotonic, p))
				if v < floor {
					t.Errorf("%d after %d had been seen", v, floor)
					return
				}
				for old := latest.Load(); v > old && !latest.CompareAndSwap(old, v); old = latest.Load() {
				}
				if d := time.Since(base); d < before {
					t.Errorf("time.Since: %v after %v", d, before)
					return
				} else {
					before = d
				}
			}
		}()
	}
	all.Wait()
}

func TestNanosleep(t *testing.T) {
	p := pages(t, 1)
	req, rem := p, p+16
	for _, bad := range [][2]int32{{0, 1e9}, {0, -1}, {-1, 0}, {-1 << 31, 0}, {0, 1<<31 - 1}} {
		*pairAt(req) = bad
		refuse(t, "out of range", EINVAL, sysNanosleep, req, rem)
		refuse(t, "out of range, no remainder", EINVAL, sysNanosleep, req, 0)
	}
	for _, d := range []time.Duration{0, 1, time.Microsecond, time.Millisecond, 3 * time.Millisecond, 40 * time.Millisecond} {
		*pairAt(req) = [2]int32{0, int32(d)}
		*pairAt(rem) = [2]int32{-5, -6}
		start := time.Now()
		_, e := call(sysNanosleep, req, rem)
		took := time.Since(start)
		if e == EINTR {
			continue // a signal of the runtime's
		}
		if e != 0 || took < d || took > d+5*time.Second {
			t.Errorf("%v took %v: %s", d, took, name(e))
		}
		if *pairAt(rem) != [2]int32{-5, -6} {
			t.Errorf("%v left the remainder %v", d, *pairAt(rem))
		}
	}
	// A bad place for the remainder does not matter when nothing remains.
	*pairAt(req) = [2]int32{0, 1}
	if _, e := call(sysNanosleep, req, 0xc0000000); e != 0 && e != EFAULT && e != EINTR {
		t.Errorf("remainder in kernel space: %s", name(e))
	}
}

// A handler ends a nanosleep, whether it asks for a restart or not, and the
// remainder tells what was left.
func TestNanosleepSignal(t *testing.T) {
	const sig = 47
	p := pages(t, 1)
	req, rem := p, p+16
	pid, _ := raw(sysGetpid)
	for _, flags := range []uint32{0, saRestart} {
		restore := install(t, p+128, sig, uint32(emptySignalPC()), flags|saSiginfo|saOnStack)
		*pairAt(req) = [2]int32{60, 0}
		*pairAt(rem) = [2]int32{}
		ids, ended := make(chan uintptr, 1), make(chan error, 1)
		go func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			tid, _ := raw(sysGettid)
			ids <- tid
			_, e := call(sysNanosleep, req, rem)
			ended <- e
		}()
		tid := <-ids
		time.Sleep(30 * time.Millisecond)
		var e error
		for tries := 0; e == nil && tries < 100; tries++ {
			must(t, sysTgkill, pid, tid, sig)
			select {
			case e = <-ended:
			case <-time.After(30 * time.Millisecond):
			}
		}
		if e != EINTR {
			t.Fatalf("flags %#x: %v; want %s", flags, e, name(EINTR))
		}
		if left := *pairAt(rem); left[0] < 30 || left[0] > 59 || left[1] < 0 || left[1] >= 1e9 {
			t.Errorf("flags %#x: %v of 60 s left", flags, left)
		}
		restore()
	}
}

// No sleep, timer or ticker comes early.
func TestSleepBounds(t *testing.T) {
	for _, d := range []time.Duration{1, time.Microsecond, 100 * time.Microsecond, time.Millisecond, 1500 * time.Microsecond, 10 * time.Millisecond, 50 * time.Millisecond} {
		start := time.Now()
		time.Sleep(d)
		if took := time.Since(start); took < d || took > d+5*time.Second {
			t.Errorf("Sleep(%v) took %v", d, took)
		}
		start = time.Now()
		<-time.After(d)
		if took := time.Since(start); took < d || took > d+5*time.Second {
			t.Errorf("After(%v) took %v", d, took)
		}
	}
	start := time.Now()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	const ticks = 20
	for range ticks {
		<-tick.C
	}
	if took := time.Since(start); took < ticks*2*time.Millisecond-2*time.Millisecond {
		t.Errorf("%d ticks of 2 ms in %v", ticks, took)
	}
	// Many sleepers at once each wait their time.
	var all sync.WaitGroup
	for i := range 100 {
		all.Add(1)
		go func() {
			defer all.Done()
			d := time.Duration(i%17) * time.Millisecond
			start := time.Now()
			time.Sleep(d)
			if took := time.Since(start); took < d {
				t.Errorf("one of many: Sleep(%v) took %v", d, took)
			}
		}()
	}
	all.Wait()
}

// Setting the wall clock needs privilege and moves the whole machine's time.
func TestClockSettime(t *testing.T) {
	if os.Getenv("CONFORMANCE_SETTIME") != "1" {
		t.Skip("CONFORMANCE_SETTIME is not 1")
	}
	p := pages(t, 2)
	none := p + pageSize
	must(t, sysMprotect, none, pageSize, protNone)
	put := func(nr uintptr, sec, nsec int64) uintptr {
		if nr == sysClockSettime {
			*pairAt(p) = [2]int32{int32(sec), int32(nsec)}
		} else {
			*longsAt(p) = [2]int64{sec, nsec}
		}
		return p
	}
	started := time.Now()
	wall := now(t, sysClockGettime64, realtime, p+64)
	for _, nr := range []uintptr{sysClockSettime, sysClockSettime64} {
		get := sysClockGettime64
		good := int64(wall / time.Second)
		refuse(t, "monotonic clock", EINVAL, nr, monotonic, put(nr, good, 0))
		for _, id := range []uintptr{16, 100, noFd} {
			refuse(t, "unknown clock", EINVAL, nr, id, p)
		}
		refuse(t, "bad place", EFAULT, nr, realtime, none)
		refuse(t, "kernel space", EFAULT, nr, realtime, 0xc0000000)
		for _, bad := range [][2]int64{{good, 1e9}, {good, -1}, {-1, 0}} {
			refuse(t, "out of range", EINVAL, nr, realtime, put(nr, bad[0], bad[1]))
		}
		for _, sec := range []int64{1 << 30, 2000000000, good + 3600} {
			before := now(t, uintptr(get), monotonic, p+64)
			must(t, nr, realtime, put(nr, sec, 500000000))
			got := now(t, uintptr(get), realtime, p+64) - time.Duration(sec)*time.Second
			if got < 500*time.Millisecond || got > 10*time.Second {
				t.Errorf("set to %d.5 s, read %v later", sec, got)
			}
			if d := now(t, uintptr(get), monotonic, p+64) - before; d < 0 || d > 10*time.Second {
				t.Errorf("setting the wall clock moved the monotonic clock by %v", d)
			}
			if d := time.Now().Unix() - sec; d < 0 || d > 10 {
				t.Errorf("set to %d s, time.Now is %d s later", sec, d)
			}
		}
	}
	if d := time.Since(started); d < 0 || d > time.Minute {
		t.Errorf("time.Since over the changes: %v", d)
	}
	must(t, sysClockSettime64, realtime, put(sysClockSettime64, int64((wall+time.Since(started))/time.Second), 0))
}
