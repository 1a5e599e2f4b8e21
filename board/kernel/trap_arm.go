package kernel

import "unsafe"

// state returns the kernel's state.
func state() *kernel { return (*kernel)(at(stateVA)) }

// Exceptions, by the place of their vector.
const (
	vecUndefined = 1
	vecPrefetch  = 3
	vecData      = 4
	vecInterrupt = 6
	vecFast      = 7
)

// numCalls is the length of the table of system calls, a number that fits an
// instruction.
const numCalls = 424

// trap handles an exception from User mode other than a system call and returns
// the address of the registers of the thread that is to run.
func trap(vec uint32) uint32 {
	k := state()
	if vec == vecInterrupt {
		k.interrupt(counter())
	} else {
		k.fault((*thread)(at(k.running)), vec)
	}
	return workAfterCall()
}

// finishCall ends a pass of a system call that does not simply return. Calls that
// go on, or that may be restarted, return to their SWI.
func finishCall(result uint32) uint32 {
	k := state()
	t := (*thread)(at(k.running))
	switch result {
	case again:
		t.resumed = true
		t.regs.pc -= 4
		return workAfterCall()
	case restartSys:
		t.restart = true
		t.regs.pc -= 4
		k.work |= workSignals
	case asIs:
	default:
		t.regs.r[0] = result
	}
	t.resumed = false
	t.woken = notWoken
	return workAfterCall()
}

// workAfterCall does what was put off, and returns whose registers are to be
// loaded.
func workAfterCall() uint32 {
	k := state()
	if k.work != 0 {
		k.doWork()
	}
	return k.running
}

// doWork does what was put off to the end of an exception.
func (k *kernel) doWork() {
	if k.work&workSchedule != 0 {
		k.schedule()
	}
	if k.work&workTimer != 0 {
		k.setTimer()
	}
	if t := (*thread)(at(k.running)); !t.resumed {
		k.work &^= workSignals
		if t.hasSaved || k.deliverable(t) {
			k.deliverSignals(t)
		}
		t.restart = false
	}
}

// run makes a thread the running one.
func (k *kernel) run(th uint32) {
	k.current = th
	k.running = uint32(uintptr(unsafe.Pointer(&k.thread[th])))
	k.work |= workSignals
}

// schedule gives the processor to the thread that is next, or to the idle thread.
func (k *kernel) schedule() {
	now := counter()
	k.work &^= workSchedule
	k.charge(now)
	if k.thread[k.current].state == threadRunnable {
		k.enqueue(k.current)
	}
	next, ok := k.dequeue()
	if !ok {
		next = idleThread
	}
	k.work &^= workSchedule
	k.work |= workTimer
	if next == k.current {
		return
	}
	k.count.switches++
	o, n := &k.thread[k.current], &k.thread[next]
	o.tls[0], o.tls[1] = threadRegs()
	setThreadRegs(n.tls[0], n.tls[1])
	if next != idleThread && next != k.fpu {
		saveFPU(&k.thread[k.fpu].vfp)
		loadFPU(&n.vfp)
		k.fpu = next
	}
	k.run(next)
}

// setTimer has the timer interrupt at the next event: a deadline, the end of the
// running thread's slice if another waits, or the next second of the clock.
func (k *kernel) setTimer() {
	k.work &^= workTimer
	next := min(k.clock.base+uint64(k.clock.hz), k.nextTimer())
	if k.current != idleThread && k.othersRunnable() {
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
		k.work |= workSchedule
	}
	if k.current != idleThread && k.othersRunnable() {
		k.charge(now)
		if k.thread[k.current].slice == 0 {
			k.work |= workSchedule
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
