//go:build linux && arm

package conformance

import (
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// Locked goroutines that end take their threads with them. With
// TestRawThreadsMadeAndGone that makes more than ten thousand threads.
func TestThreadsMadeAndGone(t *testing.T) {
	const atOnce = 40
	total := allow(2500, 500)
	if underUserEmulation {
		total /= 5 // a thread of qemu-arm's costs several times as much
	}
	var alive sync.Map
	var made atomic.Int64
	limit := make(chan struct{}, atOnce)
	var all sync.WaitGroup
	pid, _ := raw(sysGetpid)
	for range total {
		limit <- struct{}{}
		all.Add(1)
		go func() {
			runtime.LockOSThread() // and never unlocked
			defer func() { <-limit; all.Done() }()
			tid, _ := raw(sysGettid)
			if _, twice := alive.LoadOrStore(tid, true); twice {
				t.Errorf("two live threads with id %d", tid)
			}
			if _, e := raw(sysTgkill, pid, tid, 0); e != 0 {
				t.Errorf("thread %d does not exist for tgkill: %s", tid, name(e))
			}
			made.Add(1)
			if made.Load()%8 == 0 {
				runtime.Gosched()
			}
			alive.Delete(tid)
		}()
	}
	all.Wait()
	if made.Load() != int64(total) {
		t.Errorf("%d threads ran, want %d", made.Load(), total)
	}
}

// A thread that has ended is gone for tgkill.
func TestThreadIsGone(t *testing.T) {
	pid, _ := raw(sysGetpid)
	ids := make(chan uintptr)
	go func() {
		runtime.LockOSThread()
		tid, _ := raw(sysGettid)
		ids <- tid
	}()
	tid := <-ids
	for limit := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		_, e := call(sysTgkill, pid, tid, 0)
		if e == ESRCH {
			return
		}
		if e != 0 || time.Now().After(limit) {
			t.Fatalf("a thread that ended: %s", name(e))
		}
	}
}

// Many locked threads and many more free goroutines make progress together.
func TestManyThreads(t *testing.T) {
	const locked, free = 40, 400
	rounds := allow(60, 20)
	var all sync.WaitGroup
	var work atomic.Int64
	ids := make(chan uintptr, locked)
	ring := make([]chan int, locked)
	for i := range ring {
		ring[i] = make(chan int, 1)
	}
	for i := range locked {
		all.Add(1)
		go func() {
			defer all.Done()
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			tid, _ := raw(sysGettid)
			ids <- tid
			for range rounds {
				v := <-ring[i]
				if now, _ := raw(sysGettid); now != tid {
					t.Errorf("a locked goroutine moved from thread %d to %d", tid, now)
				}
				work.Add(1)
				ring[(i+1)%locked] <- v + 1
			}
		}()
	}
	ring[0] <- 0
	for range free {
		all.Add(1)
		go func() {
			defer all.Done()
			for range rounds {
				work.Add(1)
				runtime.Gosched()
			}
		}()
	}
	finishes(t, "threads that pass a token round", all.Wait)
	if got, want := work.Load(), int64((locked+free)*rounds); got != want {
		t.Errorf("%d pieces of work, want %d", got, want)
	}
	seen := make(map[uintptr]bool)
	for range locked {
		tid := <-ids
		if seen[tid] {
			t.Errorf("thread id %d twice", tid)
		}
		seen[tid] = true
	}
}

// Two threads that spin share the processor with the rest of the program.
func TestPreemption(t *testing.T) {
	var stop atomic.Bool
	var all sync.WaitGroup
	for range 4 {
		all.Add(1)
		go func() {
			defer all.Done()
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			for n := 0; !stop.Load(); n++ {
			}
		}()
	}
	for range 5 {
		start := time.Now()
		time.Sleep(time.Millisecond)
		if d := time.Since(start); d > 10*time.Second {
			t.Errorf("a sleep of 1 ms took %v", d)
		}
	}
	runtime.GC() // stops everybody
	stop.Store(true)
	all.Wait()
}

const goThread = syscall.CLONE_VM | syscall.CLONE_FS | syscall.CLONE_FILES |
	syscall.CLONE_SYSVSEM | syscall.CLONE_SIGHAND | syscall.CLONE_THREAD

// A thread starts with the registers that its parent had, but for R0 and SP.
func TestClone(t *testing.T) {
	lockThread(t)
	p := pages(t, 3)
	blocked, saved, b := p, p+8, p+64
	*longAt(blocked) = ^uint64(0)
	seen := make(map[int32]bool)
	for range allow(200, 50) {
		state := (*birth)(pointer(b))
		*state = birth{r0: 77}
		top := p + 3*pageSize - 16
		must(t, sysRtSigprocmask, sigSetMask, blocked, saved, 8)
		tid := rawClone(goThread, top, b)
		must(t, sysRtSigprocmask, sigSetMask, saved, 0, 8)
		if tid <= 0 {
			t.Fatalf("clone: %d", tid)
		}
		for atomic.LoadUint32(&state.finished) == 0 {
			if _, e := call(sysFutex, b+28, futexWait|futexPrivate, 0, 0); e != 0 && e != EAGAIN && e != EINTR {
				t.Fatalf("wait for the thread: %s", name(e))
			}
		}
		want := birth{r5: 0x55aa1234, r6: 0x9abcdef0, tid: uint32(tid), sp: uint32(top), d8: 0x9abcdef055aa1234, finished: 1}
		if *state != want {
			t.Fatalf("the thread saw %+v, want %+v", *state, want)
		}
		seen[tid] = true
		// Until it is gone, its stack is in use.
		pid, _ := raw(sysGetpid)
		for limit := time.Now().Add(10 * time.Second); ; {
			if _, e := call(sysTgkill, pid, uintptr(tid), 0); e == ESRCH {
				break
			}
			if time.Now().After(limit) {
				t.Fatalf("thread %d does not go", tid)
			}
			call(sysSchedYield)
		}
	}
	if len(seen) < 2 {
		t.Errorf("thread ids are used again at once: %v", seen)
	}
}

// Threads that the runtime does not know come and go in great numbers, and no
// two that live at a time share an id.
func TestRawThreadsMadeAndGone(t *testing.T) {
	lockThread(t)
	const atOnce = 16
	p := pages(t, atOnce+1)
	blocked, saved := p+atOnce*pageSize, p+atOnce*pageSize+8
	*longAt(blocked) = ^uint64(0)
	must(t, sysRtSigprocmask, sigSetMask, blocked, saved, 8)
	defer call(sysRtSigprocmask, sigSetMask, saved, 0, 8)
	pid, _ := raw(sysGetpid)
	var slots [atOnce]int32 // the thread that has the slot's page
	gone := func(slot int) {
		state := (*birth)(pointer(p + uintptr(slot)*pageSize))
		for limit := time.Now().Add(10 * time.Second); slots[slot] != 0; call(sysSchedYield) {
			if _, e := raw(sysTgkill, pid, uintptr(slots[slot]), 0); e == ESRCH {
				if atomic.LoadUint32(&state.finished) != 1 || state.tid != uint32(slots[slot]) {
					t.Fatalf("thread %d went without its work: %+v", slots[slot], *state)
				}
				slots[slot] = 0
			} else if time.Now().After(limit) {
				t.Fatalf("thread %d does not go", slots[slot])
			}
		}
	}
	total := allow(8000, 600)
	if underUserEmulation {
		total /= 5 // a thread of qemu-arm's costs several times as much
	}
	for n := range total {
		slot := n % atOnce
		gone(slot)
		b := p + uintptr(slot)*pageSize
		*(*birth)(pointer(b)) = birth{}
		tid := rawClone(goThread, b+pageSize-16, b)
		if tid <= 0 {
			t.Fatalf("clone: %d", tid)
		}
		for other, id := range slots {
			if id != tid {
				continue
			}
			// The other one may have ended without our looking.
			state := (*birth)(pointer(p + uintptr(other)*pageSize))
			if atomic.LoadUint32(&state.finished) == 0 {
				t.Fatalf("two live threads with id %d", tid)
			}
			slots[other] = 0
		}
		slots[slot] = tid
	}
	for slot := range slots {
		gone(slot)
	}
}

func TestCloneErrors(t *testing.T) {
	p := pages(t, 1)
	for _, flags := range []uintptr{
		syscall.CLONE_THREAD,
		syscall.CLONE_THREAD | syscall.CLONE_VM,
		syscall.CLONE_SIGHAND,
		goThread &^ syscall.CLONE_SIGHAND,
		goThread &^ syscall.CLONE_VM,
	} {
		for _, sp := range []uintptr{p + pageSize, 0xc0000000} {
			refuse(t, "impossible combination", EINVAL, sysClone, flags, sp, 0, 0, 0)
		}
	}
}
