package kernel

// Each function below makes one system call, for the thread whose registers hold
// its arguments, and returns its result: an error number negated, or [again] or
// restartSys. The table in calls_arm.s says which call has which number.

func callOpen(k *kernel, t *thread) uint32   { return k.sysOpenAt(atFdcwd, t.regs.r[0], t.regs.r[1]) }
func callHost(k *kernel, t *thread) uint32   { return k.hostCall(&t.regs.r) }
func callGetpid(_ *kernel, _ *thread) uint32 { return firstTid }
func callZero(_ *kernel, _ *thread) uint32   { return 0 }

// callBrk says that there is no room above the break, which lies below all mappings.
func callBrk(_ *kernel, _ *thread) uint32 { return areaStart }

func callIoctl(k *kernel, t *thread) uint32 {
	if k.openFile(t.regs.r[0]) == nil {
		return eBADF
	}
	return eNOTTY
}

func callYield(k *kernel, t *thread) uint32 {
	t.slice = 0
	k.work |= workSchedule
	return 0
}
func callPrctl(_ *kernel, _ *thread) uint32     { return eINVAL }
func callSigreturn(k *kernel, t *thread) uint32 { return k.sysSigreturn(t) }
func callGettid(_ *kernel, t *thread) uint32    { return t.tid }

func callExitGroup(k *kernel, t *thread) uint32 {
	k.die(diedExit, t.regs.r[0]&0xff)
	return 0
}
func callOpenat(k *kernel, t *thread) uint32 {
	return k.sysOpenAt(t.regs.r[0], t.regs.r[1], t.regs.r[2])
}

func callClone(k *kernel, t *thread) uint32 {
	flags, stack, tls := t.regs.r[0], t.regs.r[1], t.regs.r[3]
	if flags&^(cloneSetTLS|cloneSysvsem) != cloneThread {
		return eINVAL
	}
	th, ok := k.newThread()
	if !ok {
		return eAGAIN
	}
	n := &k.thread[th]
	n.regs = t.regs
	n.regs.r[0] = 0
	if stack != 0 {
		n.regs.r[13] = stack
	}
	n.mask = t.mask
	saveFPU(&n.vfp)
	n.tls[0], n.tls[1] = threadRegs()
	if flags&cloneSetTLS != 0 {
		n.tls[1] = tls
	}
	t.slice /= 2
	n.slice = t.slice
	k.enqueue(th)
	return n.tid
}

func callExit(k *kernel, t *thread) uint32 {
	code := t.regs.r[0]
	if k.numThreads == 1 {
		k.die(diedExit, code&0xff)
	}
	t.state = threadFree
	k.numThreads--
	k.work |= workSchedule
	return 0
}

// timeSize is the length of the struct timespec of the thread's call. Calls with 64-bit
// times are numbered from 403 on, and share their functions with those that they replace.
func (t *thread) timeSize() uint32 {
	if t.regs.r[7] >= firstTime64 {
		return 16
	}
	return 8
}

// readTime reads a struct timespec for the thread's call.
func (k *kernel) readTime(t *thread, addr uint32) (sec uint64, nsec, errno uint32) {
	size := t.timeSize()
	if !k.canRead(addr, size) {
		return 0, 0, eFAULT
	}
	sec, nsec = uint64(int32(load(addr))), load(addr+size/2)
	if size == 16 {
		sec = load64(addr)
	}
	if int64(sec) < 0 || nsec >= second {
		return 0, 0, eINVAL
	}
	return sec, nsec, 0
}

func (k *kernel) writeTime(t *thread, addr uint32, sec uint64, nsec uint32) uint32 {
	size := t.timeSize()
	if !k.canWrite(addr, size) {
		return eFAULT
	}
	if size == 16 {
		store64(addr, sec)
		store64(addr+8, uint64(nsec))
	} else {
		store(addr, uint32(sec))
		store(addr+4, nsec)
	}
	return 0
}

// callFutex waits on a futex or wakes who does. Waking comes first: it is what the
// Go scheduler does most.
func callFutex(k *kernel, t *thread) uint32 {
	addr := t.regs.r[0]
	switch t.regs.r[1] &^ futexPrivate {
	case futexWait:
		return k.sysFutexWait(t, addr)
	case futexWake:
	default:
		return eNOSYS
	}
	if addr&3 != 0 {
		return eINVAL
	}
	if !inUserSpace(addr, 4) {
		return eFAULT
	}
	if k.rings.alone(futexQueue(addr)) && !t.resumed {
		return 0
	}
	return k.futexWakeUp(t, addr, max(t.regs.r[2], 1))
}

func (k *kernel) sysFutexWait(t *thread, addr uint32) uint32 {
	val, timeout := t.regs.r[2], t.regs.r[3]
	until := never
	if t.resumed {
		until = t.until
	} else if timeout != 0 {
		sec, nsec, errno := k.readTime(t, timeout)
		if errno != 0 {
			return errno
		}
		until = k.clock.after(counter(), sec, nsec)
	}
	if addr&3 != 0 {
		return eINVAL
	}
	if t.woken == notWoken {
		if !k.canRead(addr, 4) {
			return eFAULT
		}
		if load(addr) != val {
			return eAGAIN
		}
	}
	return k.futexWaitOn(t, addr, until)
}

// minSleep is how many of the shortest sleeps fit into a second: each takes 250 microseconds
// or more. Go's system monitor asks for 20 while anything runs, again and again, and each
// time costs an interrupt and two changes of threads; nothing else sleeps by this call.
const minSleep = 4000

func callNanosleep(k *kernel, t *thread) uint32 {
	request, remain := t.regs.r[0], t.regs.r[1]
	if !t.resumed {
		sec, nsec, errno := k.readTime(t, request)
		if errno != 0 {
			return errno
		}
		now := counter()
		return k.await(t, 0, max(k.clock.after(now, sec, nsec), now+uint64(k.clock.hz/minSleep)), eINTR)
	}
	if t.woken == byTimeout {
		return 0
	}
	if remain != 0 {
		sec, nsec := k.clock.span(t.until - min(t.until, counter()))
		if errno := k.writeTime(t, remain, sec, nsec); errno != 0 {
			return errno
		}
	}
	return eINTR
}

func callClockGettime(k *kernel, t *thread) uint32 {
	var sec uint64
	var nsec uint32
	switch t.regs.r[0] {
	case clockRealtime, clockRealtimeCoarse:
		sec, nsec = k.clock.real(counter())
	case clockMonotonic, clockMonotonicRaw, clockMonotonicCoarse, clockBoottime:
		sec, nsec = k.clock.monotonic(counter())
	default:
		return eINVAL
	}
	return k.writeTime(t, t.regs.r[1], sec, nsec)
}

func callClockSettime(k *kernel, t *thread) uint32 {
	if t.regs.r[0] != clockRealtime {
		return eINVAL
	}
	sec, nsec, errno := k.readTime(t, t.regs.r[1])
	if errno != 0 {
		return errno
	}
	now := counter()
	if m, _ := k.clock.monotonic(now); sec < m {
		return eINVAL // as in Linux, wall-clock time began before the machine did
	}
	k.clock.setReal(now, sec, nsec)
	k.publishClock()
	return 0
}

// callGetaffinity tells of two processors, so that the Go runtime keeps one thread in
// its poller while another computes: an interrupt then reaches its goroutine in a
// fraction of a millisecond, where it would take tens.
func callGetaffinity(k *kernel, t *thread) uint32 {
	pid, size, addr := t.regs.r[0], t.regs.r[1], t.regs.r[2]
	if size == 0 || size&3 != 0 {
		return eINVAL
	}
	if _, ok := k.byTid(pid); pid != 0 && !ok {
		return eSRCH
	}
	if !k.canWrite(addr, 4) {
		return eFAULT
	}
	store(addr, 3)
	return 4
}

func callGetrandom(k *kernel, t *thread) uint32 {
	addr, size, flags := t.regs.r[0], t.regs.r[1], t.regs.r[2]
	if flags&^(grndNonblock|grndRandom|grndInsecure) != 0 || flags&(grndRandom|grndInsecure) == grndRandom|grndInsecure {
		return eINVAL
	}
	if !inUserSpace(addr, size) {
		return eFAULT
	}
	if !k.random.seeded && k.mayBlockForSeed && flags&grndInsecure == 0 {
		if flags&grndNonblock != 0 {
			return eAGAIN
		}
		return k.await(t, nodeSeed, never, restartSys)
	}
	return k.randomBytes(t, addr, size)
}

// randomBytes fills user memory, a piece a pass.
func (k *kernel) randomBytes(t *thread, addr, size uint32) uint32 {
	if !t.resumed || t.woken != notWoken {
		t.done = 0
		t.woken = notWoken
	}
	size = min(size, 1<<25) // as Linux does for /dev/urandom
	if t.done < size {
		n := min(size-t.done, maxRandom)
		if !k.canWrite(addr+t.done, n) {
			return eFAULT
		}
		k.random.fill(bytesAt(addr+t.done, n))
		t.done += n
	}
	if t.done < size {
		return again
	}
	return size
}

func callUname(k *kernel, t *thread) uint32 {
	addr := t.regs.r[0]
	const field, fields = 65, 6
	if !k.canWrite(addr, field*fields) {
		return eFAULT
	}
	clearBytes(addr, field*fields)
	storeString(addr, "Linux")
	storeString(addr+field, "nitro")
	storeString(addr+2*field, "5.10.0")
	storeString(addr+3*field, "board/kernel")
	storeString(addr+4*field, "armv7l")
	return 0
}

func storeString(addr uint32, s string) {
	for i := 0; i < len(s); i++ {
		store8(addr+uint32(i), s[i])
	}
}
