package kernel

import (
	"math/rand/v2"
	"slices"
	"testing"
)

const testSlice = 1000

// newKernel is a kernel with its queues, and threads that are running or parked.
func newKernel(tb testing.TB, threads int) *kernel {
	k := new(kernel)
	k.rings.init()
	k.slice = testSlice
	k.clock.init(62500000, 0)
	for i := range threads {
		th, ok := k.newThread()
		if !ok {
			tb.Fatalf("thread %d of %d was refused", i, threads)
		}
		if i == 0 {
			k.current = th
		} else {
			k.enqueue(th)
		}
	}
	return k
}

// reschedule does to the queues what schedule does, and reports whether a thread
// is left to run.
func (k *kernel) reschedule(now uint64) bool {
	k.charge(now)
	if k.thread[k.current].state == threadRunnable {
		k.enqueue(k.current)
	}
	next, ok := k.dequeue()
	if ok {
		k.current, k.switchedAt = next, now
	}
	return ok
}

func TestFirstComeFirstServed(t *testing.T) {
	k := newKernel(t, 6)
	first := k.current
	var order []uint32
	for i := range uint64(12) {
		k.thread[k.current].slice = 0 // used up
		k.reschedule(i)
		order = append(order, k.current-first)
	}
	if want := []uint32{1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5, 0}; !slices.Equal(order, want) {
		t.Errorf("threads ran in the order %v", order)
	}
}

// TestWokenRunsBeforeExpired: who has time left runs before those who do not.
func TestWokenRunsBeforeExpired(t *testing.T) {
	k := newKernel(t, 3)
	a, b, c := k.current, k.current+1, k.current+2
	k.reschedule(testSlice) // a has used its slice up
	if k.current != b {
		t.Fatal("b does not run")
	}
	k.park(nodeSeed, never) // with its slice whole
	k.reschedule(testSlice + 10)
	if k.current != c {
		t.Fatal("c does not run")
	}
	k.wakeAll(nodeSeed)
	k.reschedule(2*testSlice + 10) // c has used its slice up
	if k.current != b {
		t.Errorf("thread %d runs, not the one that woke", k.current-a)
	}
	if k.thread[c].slice != testSlice {
		t.Errorf("c has no new slice: %d", k.thread[c].slice)
	}
}

// TestNoStarvation: a thread that always wants to run does so after at most one
// slice of every other thread, whatever those do: run, sleep, yield, wake others.
func TestNoStarvation(t *testing.T) {
	for seed := range uint64(8) {
		r := rand.New(rand.NewPCG(seed, 3))
		threads := 2 + r.IntN(40)
		k := newKernel(t, threads)
		victim := k.current
		now, ranAt := uint64(0), uint64(0)
		for range 40000 {
			if k.current == victim {
				now += testSlice
				ranAt = now
			} else {
				now += 1 + r.Uint64N(1+r.Uint64N(testSlice))
			}
			k.expire(now)
			if r.IntN(2) == 0 {
				k.wakeFirst(nodeSeed)
			}
			if k.current != victim {
				switch r.IntN(4) {
				case 0:
					k.park(nodeSeed, never)
				case 1:
					k.park(0, now+r.Uint64N(50))
				case 2:
					k.thread[k.current].slice = 0
				}
			}
			if !k.reschedule(now) {
				t.Fatal("nobody runs")
			}
			if now-ranAt > 2*uint64(threads)*testSlice {
				t.Fatalf("seed %d: with %d threads one is starved", seed, threads)
			}
		}
	}
}

// TestTimerHeap compares the heap of deadlines with a sorted list.
func TestTimerHeap(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 5))
	k := newKernel(t, MaxThreads)
	want := map[uint32]uint64{}
	for step := range 30000 {
		th := r.Uint32N(MaxThreads)
		if _, has := want[th]; has {
			k.removeTimer(th)
			delete(want, th)
		} else if r.IntN(3) > 0 {
			k.thread[th].until = r.Uint64N(200)
			k.addTimer(th)
			want[th] = k.thread[th].until
		} else {
			k.removeTimer(th) // that has none
		}
		next := never
		for _, until := range want {
			next = min(next, until)
		}
		if got := k.nextTimer(); got != next {
			t.Fatalf("step %d: next deadline is %d, not %d", step, got, next)
		}
		if int(k.timers.n) != len(want) {
			t.Fatalf("step %d: %d timers, not %d", step, k.timers.n, len(want))
		}
		for i := range k.timers.n {
			th := uint32(k.timers.heap[i])
			if k.thread[th].timer != i+1 || i > 0 && k.earlier(i, (i-1)/2) {
				t.Fatalf("step %d: the heap is out of order at %d", step, i)
			}
		}
	}
	last := uint64(0)
	for k.timers.n > 0 {
		th := uint32(k.timers.heap[0])
		if until := k.thread[th].until; until < last {
			t.Fatalf("deadline %d after %d", until, last)
		} else {
			last = until
		}
		k.removeTimer(th)
	}
}

// parkAll parks the running thread and all others in turn.
func (k *kernel) parkAll(q uint32, until func(i int) uint64) (order []uint32) {
	for i := 0; ; i++ {
		order = append(order, k.current)
		k.park(q, until(i))
		if !k.reschedule(0) {
			return order
		}
	}
}

// TestExpire: what is due is woken in order of its deadline, a bounded number at a
// time, nothing before its time.
func TestExpire(t *testing.T) {
	k := newKernel(t, 100)
	k.parkAll(0, func(i int) uint64 { return 1000 - uint64(i) })
	if k.expire(900); k.othersRunnable() {
		t.Fatal("woken before its time")
	}
	due := 100
	for due > 0 {
		k.expire(1000)
		n := 0
		for last := uint64(0); ; n++ {
			th, ok := k.dequeue()
			if !ok {
				break
			}
			if k.thread[th].until < last || k.thread[th].woken != byTimeout {
				t.Fatalf("deadline %d after %d, woken by %d", k.thread[th].until, last, k.thread[th].woken)
			}
			last = k.thread[th].until
		}
		if n != min(due, maxExpiries) {
			t.Fatalf("%d woken at once, %d were due", n, due)
		}
		due -= n
	}
}

// TestWakeLeavesNothing: a thread that is woken stands in no queue but its run
// queue, and has no timer.
func TestWakeLeavesNothing(t *testing.T) {
	for _, why := range []uint8{byEvent, byTimeout, bySignal} {
		k := newKernel(t, 2)
		th := k.current
		k.park(nodeWait+3, 77)
		k.reschedule(0)
		k.wake(th, why)
		if !k.rings.alone(nodeWait+3) || k.timers.n != 0 || k.thread[th].timer != 0 {
			t.Errorf("woken by %d: still waits", why)
		}
		if k.thread[th].state != threadRunnable || k.thread[th].woken != why {
			t.Errorf("woken by %d: state %d, woken by %d", why, k.thread[th].state, k.thread[th].woken)
		}
	}
}

// TestAwaitSignal: who has a signal to take does not wait.
func TestAwaitSignal(t *testing.T) {
	k := newKernel(t, 2)
	th := &k.thread[k.current]
	th.pending = bit(sigURG)
	if r := k.await(th, nodeSeed, never, restartSys); r != restartSys || th.state != threadRunnable {
		t.Errorf("result %#x, state %d", r, th.state)
	}
	th.mask = bit(sigURG)
	if r := k.await(th, nodeSeed, never, restartSys); r != again || th.state != threadWaiting {
		t.Errorf("with the signal blocked: result %#x, state %d", r, th.state)
	}
}

// TestThreadNumbers: numbers are never used by two threads, and not again soon.
func TestThreadNumbers(t *testing.T) {
	k := newKernel(t, MaxThreads)
	if _, ok := k.newThread(); ok {
		t.Fatal("one thread too many")
	}
	r := rand.New(rand.NewPCG(9, 9))
	k.lastTid = maxTid - 1000 // the numbers begin anew within this test
	for i := range k.thread {
		k.thread[i].tid = k.lastTid - (k.lastTid-uint32(i))%MaxThreads
	}
	last := map[uint32]int{}
	for step := range 5000 {
		th := r.Uint32N(MaxThreads)
		k.thread[th].state = threadFree
		k.numThreads--
		n, ok := k.newThread()
		if !ok {
			t.Fatal("no thread, though one is free")
		}
		tid := k.thread[n].tid
		if was, used := last[tid]; used && step-was < 1000 {
			t.Fatalf("number %d used again after %d threads", tid, step-was)
		}
		last[tid] = step
		if tid == 0 || tid > maxTid || tid%MaxThreads != n {
			t.Fatalf("number %d in slot %d", tid, n)
		}
		if found, ok := k.byTid(tid); !ok || found != n {
			t.Fatalf("number %d is not found", tid)
		}
	}
	k.lastTid = maxTid // and slots 0 and 1 are free
	k.thread[0].state, k.thread[1].state = threadFree, threadFree
	k.numThreads -= 2
	if th, ok := k.newThread(); !ok || k.thread[th].tid != firstTid {
		t.Errorf("after the highest number comes %d", k.thread[th].tid)
	}
	if _, ok := k.byTid(0); ok {
		t.Error("a thread has number 0")
	}
}
