package kernel

import "unsafe"

// state returns the kernel's state.
func state() *kernel { return (*kernel)(at(stateVA)) }

// Exceptions, by the place of their vector.
const (
	vecUndefined = 1
	vecCall      = 2
	vecPrefetch  = 3
	vecData      = 4
	vecInterrupt = 6
	vecFast      = 7
)

// trap handles an exception from User mode and returns the address of the
// registers of the thread that is to run.
func trap(vec uint32) uint32 {
	k := state()
	t := &k.thread[k.current]
	switch vec {
	case vecCall:
		k.count.calls++
		k.finish(t, k.call(t))
	case vecInterrupt:
		k.interrupt(counter())
	default:
		k.fault(t, vec)
	}
	if k.resched {
		k.schedule()
	}
	if k.retime {
		k.setTimer()
	}
	t = &k.thread[k.current]
	if !t.resumed && k.deliverable(t) {
		k.deliverSignals(t)
	}
	t.restart = false
	return uint32(uintptr(unsafe.Pointer(&t.regs)))
}

// finish ends a pass of a system call. Calls that go on, or that may be
// restarted, return to their SWI.
func (k *kernel) finish(t *thread, result uint32) {
	switch result {
	case again:
		t.resumed = true
		t.regs.pc -= 4
		return
	case restartSys:
		t.restart = true
		t.regs.pc -= 4
	default:
		t.regs.r[0] = result
	}
	t.resumed = false
	t.woken = notWoken
}

// schedule gives the processor to the thread that is next.
func (k *kernel) schedule() {
	now := counter()
	k.resched = false
	k.charge(now)
	old := k.current
	if k.thread[old].state == threadRunnable {
		k.enqueue(old)
	}
	next, ok := k.dequeue()
	for !ok {
		k.idle = true
		k.setTimer()
		asleep := counter()
		waitForInterrupt()
		now = counter()
		k.count.idle += now - asleep
		k.interrupt(now)
		k.idle = false
		next, ok = k.dequeue()
	}
	k.resched = false
	k.switchedAt = now
	k.retime = true
	if next == old {
		return
	}
	k.count.switches++
	o, n := &k.thread[old], &k.thread[next]
	saveFPU(&o.vfp)
	o.tls[0], o.tls[1] = threadRegs()
	loadFPU(&n.vfp)
	setThreadRegs(n.tls[0], n.tls[1])
	k.current = next
}

// setTimer has the timer interrupt at the next event: a deadline, the end of the
// running thread's slice if another waits, or the next second of the clock.
func (k *kernel) setTimer() {
	k.retime = false
	next := min(k.clock.base+uint64(k.clock.hz), k.nextTimer())
	if !k.idle && k.othersRunnable() {
		next = min(next, k.switchedAt+uint64(k.thread[k.current].slice))
	}
	setTimer(tick(next))
}

// timerInterrupt moves time on.
func (k *kernel) timerInterrupt(now uint64) {
	if k.clock.advance(now) {
		k.publishClock()
		if !k.watchdog.open {
			k.watchdog.service()
		}
	}
	if k.nextTimer() <= now {
		k.expire(now)
		k.resched = true
	}
	if !k.idle && k.othersRunnable() {
		k.charge(now)
		if k.thread[k.current].slice == 0 {
			k.resched = true
		}
	}
	torment(k)
	k.setTimer()
}

// fault handles an abort or an undefined instruction in User mode.
func (k *kernel) fault(t *thread, vec uint32) {
	switch vec {
	case vecUndefined:
		sig, code := uint32(sigILL), uint32(illIllopc)
		if k.canRead(t.regs.pc, 4) && load(t.regs.pc) == breakpoint {
			sig, code = sigTRAP, trapBrkpt
		}
		k.raise(t, sig, code, t.regs.pc, 0)
	case vecPrefetch:
		status, addr := prefetchFault()
		k.abort(t, status, addr, false)
	case vecData:
		status, addr := dataFault()
		k.abort(t, status, addr, status&(1<<11) != 0)
	default:
		k.die(diedKernel, vec)
	}
}

// breakpoint is the undefined instruction that debuggers and runtimes on Linux
// plant (arch/arm/kernel/ptrace.c).
const breakpoint = 0xe7f001f0

// abort handles a fault of the MMU or the bus (ARM ARM B3.13, table B3-23).
func (k *kernel) abort(t *thread, status, addr uint32, write bool) {
	switch status&0xf | status>>6&0x10 {
	case 0x05, 0x07: // translation
		if k.pageIn(addr, write) {
			return
		}
		code := uint32(segvMaperr)
		if k.mem.attrOf(addr>>pageShift) != 0 {
			code = segvAccerr
		}
		k.raise(t, sigSEGV, code, addr, status)
	case 0x0d, 0x0f: // permission
		k.raise(t, sigSEGV, segvAccerr, addr, status)
	case 0x01:
		k.raise(t, sigBUS, busAdraln, addr, status)
	case 0x02: // BKPT
		k.raise(t, sigTRAP, trapBrkpt, addr, status)
	case 0x16, 0x18: // asynchronous: which access it was nobody knows
		k.die(diedAbort, status)
	default:
		k.raise(t, sigBUS, busObjerr, addr, status)
	}
}
