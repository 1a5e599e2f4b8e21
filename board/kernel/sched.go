package kernel

// registers is what an exception saves. The assembly relies on its layout.
type registers struct {
	r    [15]uint32
	pc   uint32
	cpsr uint32
}

// Why a waiting thread was made to run again.
const (
	notWoken  = iota
	byEvent   // what it waits for may have happened
	byTimeout // its deadline has passed
	bySignal  // a signal is to be delivered to it
)

const (
	threadFree = iota
	threadRunnable
	threadWaiting
)

// A thread is one thread of User mode. A system call that must wait parks the
// thread with its program counter back at the SWI; when it is woken it makes the
// call again, in its own context, with resumed set. So nobody else ever writes
// to a waiting thread's memory.
type thread struct {
	regs  registers // first: the assembly finds a thread by its registers
	vfp   [65]uint32
	tls   [2]uint32 // TPIDRURW, TPIDRURO
	tid   uint32
	state uint8
	woken uint8

	resumed bool   // the call in progress goes on; no signal is delivered
	restart bool   // the call was interrupted and may be restarted
	done    uint32 // how far the call in progress has come
	holes   bool   // a madvise in progress has met unmapped pages
	until   uint64 // deadline of the call in progress, in ticks
	timer   uint32 // its place in the timer heap, plus one
	slice   uint32 // ticks left of its time slice
	futex   uint32 // address waited on
	serial  uint32 // of the file that the call in progress is about

	mask      uint64 // blocked signals
	pending   uint64
	fromUser  uint64 // of pending: sent by kill rather than tgkill
	savedMask uint64 // mask to restore after an interrupted epoll_pwait
	hasSaved  bool

	altStack, altSize uint32
}

// idleThread is the number of the thread that runs when no other can: in User
// mode, with interrupts on, it waits for them. It is in no queue and gets no
// signals.
const idleThread = MaxThreads

// never is the deadline of a wait without one.
const never = ^uint64(0)

// timers is a heap of waiting threads, earliest deadline first.
type timers struct {
	n    uint32
	heap [MaxThreads]uint16
}

func (k *kernel) earlier(i, j uint32) bool {
	return k.thread[k.timers.heap[i]].until < k.thread[k.timers.heap[j]].until
}

func (k *kernel) place(i uint32, th uint16) {
	k.timers.heap[i] = th
	k.thread[th].timer = i + 1
}

func (k *kernel) swap(i, j uint32) {
	a, b := k.timers.heap[i], k.timers.heap[j]
	k.place(i, b)
	k.place(j, a)
}

func (k *kernel) siftUp(i uint32) {
	for i > 0 && k.earlier(i, (i-1)/2) {
		k.swap(i, (i-1)/2)
		i = (i - 1) / 2
	}
}

func (k *kernel) siftDown(i uint32) {
	for {
		c := 2*i + 1
		if c >= k.timers.n {
			return
		}
		if c+1 < k.timers.n && k.earlier(c+1, c) {
			c++
		}
		if !k.earlier(c, i) {
			return
		}
		k.swap(i, c)
		i = c
	}
}

func (k *kernel) addTimer(th uint32) {
	i := k.timers.n
	k.timers.n++
	k.place(i, uint16(th))
	k.siftUp(i)
	k.work |= workTimer
}

func (k *kernel) removeTimer(th uint32) {
	i := k.thread[th].timer
	if i == 0 {
		return
	}
	i--
	k.thread[th].timer = 0
	k.timers.n--
	if i == k.timers.n {
		return
	}
	k.place(i, k.timers.heap[k.timers.n])
	k.siftDown(i)
	k.siftUp(i)
}

// nextTimer returns the earliest deadline.
func (k *kernel) nextTimer() uint64 {
	if k.timers.n == 0 {
		return never
	}
	return k.thread[k.timers.heap[0]].until
}

// maxExpiries bounds how many threads one timer interrupt wakes; the rest follow
// with the next, which is set to come at once.
const maxExpiries = 32

// expire wakes the threads whose deadline has passed.
func (k *kernel) expire(now uint64) {
	for n := 0; n < maxExpiries && k.nextTimer() <= now; n++ {
		k.wake(uint32(k.timers.heap[0]), byTimeout)
	}
}

// The run queues. A thread that wakes with time left in its slice stands in the
// first queue; one that has used its slice up gets a new one and stands in the
// second. When the first is empty the two change places. So a thread that sleeps
// a lot runs soon after it wakes, and a thread that wants to run all the time
// waits for at most one slice of every other thread.

// enqueue puts a runnable thread at the end of the run queue that it belongs to.
func (k *kernel) enqueue(th uint32) {
	q := nodeActive + k.runFirst
	if t := &k.thread[th]; t.slice == 0 {
		t.slice = k.slice
		q = nodeActive + 1 - k.runFirst
	}
	k.rings.push(q, nodeThread+th)
	k.runnableAdded()
}

// runnableAdded sees to it that a thread that has become runnable gets its turn.
func (k *kernel) runnableAdded() {
	k.work |= workTimer
	if k.current == idleThread {
		k.work |= workSchedule
	}
}

// dequeue takes the thread that is to run next; false if none is runnable.
func (k *kernel) dequeue() (th uint32, ok bool) {
	q := nodeActive + k.runFirst
	if k.rings.alone(q) {
		k.runFirst = 1 - k.runFirst
		q = nodeActive + k.runFirst
		if k.rings.alone(q) {
			return 0, false
		}
	}
	th = k.rings.first(q) - nodeThread
	k.rings.remove(nodeThread + th)
	return th, true
}

// othersRunnable reports whether a thread waits for the processor.
func (k *kernel) othersRunnable() bool {
	return !k.rings.alone(nodeActive) || !k.rings.alone(nodeExpired)
}

// charge takes the time since the current thread was switched to from its slice.
func (k *kernel) charge(now uint64) {
	t := &k.thread[k.current]
	used := now - k.switchedAt
	k.switchedAt = now
	if k.current == idleThread {
		k.count.idle += used
		return
	}
	t.slice -= uint32(min(used, uint64(t.slice)))
}

// deliverable reports whether a signal waits that the thread does not block.
func (k *kernel) deliverable(t *thread) bool { return (t.pending|k.pending)&^t.mask != 0 }

// await parks the current thread unless a signal waits for it; then the call ends
// with interrupted.
func (k *kernel) await(t *thread, q uint32, until uint64, interrupted uint32) uint32 {
	if k.deliverable(t) {
		return interrupted
	}
	return k.park(q, until)
}

// park makes the current thread wait in queue q (0 for none) until it is woken or
// the time is until; its call returns what park returns.
func (k *kernel) park(q uint32, until uint64) uint32 {
	t := &k.thread[k.current]
	t.state = threadWaiting
	t.until = until
	if q != 0 {
		k.rings.push(q, nodeThread+k.current)
	}
	if until != never {
		k.addTimer(k.current)
	}
	k.work |= workSchedule
	return again
}

// wake makes a waiting thread runnable.
func (k *kernel) wake(th uint32, why uint8) {
	t := &k.thread[th]
	t.state = threadRunnable
	t.woken = why
	k.rings.remove(nodeThread + th)
	k.removeTimer(th)
	k.enqueue(th)
}

// wakeAll wakes every thread in queue q.
func (k *kernel) wakeAll(q uint32) {
	if k.rings.alone(q) {
		return
	}
	for node := k.rings.first(q); node != q; node = k.rings.after(node) {
		t := &k.thread[node-nodeThread]
		t.state, t.woken = threadRunnable, byEvent
		k.removeTimer(node - nodeThread)
	}
	k.rings.splice(q, nodeActive+k.runFirst)
	k.runnableAdded()
}

// wakeFirst wakes the thread that has waited longest in queue q, if there is one.
func (k *kernel) wakeFirst(q uint32) {
	if !k.rings.alone(q) {
		k.wake(k.rings.first(q)-nodeThread, byEvent)
	}
}

// newThread returns a free thread, or false. Slots are taken in turn and thread
// numbers rise, so that neither is used again soon.
func (k *kernel) newThread() (th uint32, ok bool) {
	if k.numThreads == MaxThreads {
		return 0, false
	}
	for {
		k.lastTid = k.lastTid%maxTid + firstTid
		th = k.lastTid % MaxThreads
		if k.thread[th].state == threadFree {
			break
		}
	}
	k.numThreads++
	t := &k.thread[th]
	*t = thread{}
	t.tid = k.lastTid
	t.state = threadRunnable
	t.slice = k.slice
	return th, true
}

// Thread numbers. The process number is that of its first thread. A thread's
// number modulo MaxThreads is its slot.
const (
	firstTid = 1
	maxTid   = 1<<30 - 1
)

// byTid finds a live thread by its number.
func (k *kernel) byTid(tid uint32) (th uint32, ok bool) {
	th = tid % MaxThreads
	return th, tid != 0 && k.thread[th].state != threadFree && k.thread[th].tid == tid
}
