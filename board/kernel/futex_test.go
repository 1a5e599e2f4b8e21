package kernel

import (
	"slices"
	"testing"
)

// collide returns n futex addresses with the same hash.
func collide(n int) (addrs []uint32) {
	for a := uint32(areaStart); len(addrs) < n; a += 4 {
		if futexQueue(a) == futexQueue(areaStart) {
			addrs = append(addrs, a)
		}
	}
	return addrs
}

// wakeFutex makes as many passes as a call that wakes needs.
func (k *kernel) wakeFutex(t *testing.T, addr, n uint32) uint32 {
	var waker thread
	for pass := uint32(1); ; pass++ {
		before := waker.done
		r := k.futexWakeUp(&waker, addr, n)
		if waker.done-before > maxWakes || pass > MaxThreads {
			t.Fatalf("pass %d woke %d", pass, waker.done-before)
		}
		if r != again {
			return r
		}
		waker.resumed = true
	}
}

// TestFutexWakes: first come first served, as many as asked for, and nobody who
// waits on another address of the same hash.
func TestFutexWakes(t *testing.T) {
	addrs := collide(3)
	for _, ask := range []uint32{1, 2, 31, 32, 33, 64, 79, 80, 81, 1 << 31} {
		k := newKernel(t, 240)
		waiting := make(map[uint32][]uint32)
		for i := 0; ; i++ {
			a := addrs[i%len(addrs)]
			th := k.current
			waiting[a] = append(waiting[a], th)
			if r := k.futexWaitOn(&k.thread[th], a, never); r != again {
				t.Fatalf("waiting says %#x", r)
			}
			if !k.reschedule(0) {
				break
			}
		}
		n := k.wakeFutex(t, addrs[1], ask)
		want := waiting[addrs[1]][:min(uint32(len(waiting[addrs[1]])), ask)]
		if n != uint32(len(want)) {
			t.Errorf("asked for %d: %d woken, not %d", ask, n, len(want))
		}
		var woken []uint32
		for {
			th, ok := k.dequeue()
			if !ok {
				break
			}
			woken = append(woken, th)
			if r := k.futexWaitOn(&k.thread[th], addrs[1], never); r != 0 {
				t.Errorf("a woken thread is told %#x", r)
			}
		}
		if !slices.Equal(woken, want) {
			t.Errorf("asked for %d: woken %v, not %v", ask, woken, want)
		}
	}
}

// TestFutexResults: what a call is told that did not end by a wake.
func TestFutexResults(t *testing.T) {
	for _, c := range []struct {
		why   uint8
		until uint64
		want  uint32
	}{
		{byTimeout, 50, eTIMEDOUT}, {bySignal, 50, eINTR}, {bySignal, never, restartSys}, {byEvent, 50, 0},
	} {
		k := newKernel(t, 2)
		th := k.current
		k.futexWaitOn(&k.thread[th], areaStart, c.until)
		k.reschedule(0)
		k.wake(th, c.why)
		if r := k.futexWaitOn(&k.thread[th], areaStart, c.until); r != c.want {
			t.Errorf("woken by %d: %#x, not %#x", c.why, r, c.want)
		}
		if k.wakeFutex(t, areaStart, 1) != 0 {
			t.Errorf("woken by %d: still waits", c.why)
		}
	}
}
