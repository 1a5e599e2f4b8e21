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
func callFutex(k *kernel, t *thread) uint32     { return k.sysFutex(t, false) }

func callExitGroup(k *kernel, t *thread) uint32 {
	k.die(diedExit, t.regs.r[0]&0xff)
	return 0
}
func callClockSettime(k *kernel, t *thread) uint32 {
	return k.sysSettime(t.regs.r[0], t.regs.r[1], false)
}
func callClockGettime(k *kernel, t *thread) uint32 {
	return k.sysGettime(t.regs.r[0], t.regs.r[1], false)
}
func callOpenat(k *kernel, t *thread) uint32 {
	return k.sysOpenAt(t.regs.r[0], t.regs.r[1], t.regs.r[2])
}
func callClockGettime64(k *kernel, t *thread) uint32 {
	return k.sysGettime(t.regs.r[0], t.regs.r[1], true)
}
func callClockSettime64(k *kernel, t *thread) uint32 {
	return k.sysSettime(t.regs.r[0], t.regs.r[1], true)
}
func callFutexTime64(k *kernel, t *thread) uint32 { return k.sysFutex(t, true) }

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

// readTime reads a struct timespec, or the 64-bit one of the time64 calls.
func (k *kernel) readTime(addr uint32, long bool) (sec uint64, nsec, errno uint32) {
	size := uint32(8)
	if long {
		size = 16
	}
	if !k.canRead(addr, size) {
		return 0, 0, eFAULT
	}
	sec, nsec = uint64(int32(load(addr))), load(addr+size/2)
	if long {
		sec = load64(addr)
	}
	if int64(sec) < 0 || nsec >= second {
		return 0, 0, eINVAL
	}
	return sec, nsec, 0
}

func (k *kernel) writeTime(addr uint32, long bool, sec uint64, nsec uint32) uint32 {
	if long {
		if !k.canWrite(addr, 16) {
			return eFAULT
		}
		store64(addr, sec)
		store64(addr+8, uint64(nsec))
		return 0
	}
	if !k.canWrite(addr, 8) {
		return eFAULT
	}
	store(addr, uint32(sec))
	store(addr+4, nsec)
	return 0
}

// sysFutex waits on a futex or wakes who does. Waking comes first: it is what the
// Go scheduler does most.
func (k *kernel) sysFutex(t *thread, long bool) uint32 {
	addr := t.regs.r[0]
	cmd := t.regs.r[1] &^ futexPrivate
	if cmd != futexWake {
		return k.sysFutexWait(t, cmd, long)
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

func (k *kernel) sysFutexWait(t *thread, cmd uint32, long bool) uint32 {
	addr, val, timeout := t.regs.r[0], t.regs.r[2], t.regs.r[3]
	until := never
	if t.resumed {
		until = t.until
	} else if cmd == futexWait && timeout != 0 {
		sec, nsec, errno := k.readTime(timeout, long)
		if errno != 0 {
			return errno
		}
		until = k.clock.after(counter(), sec, nsec)
	}
	if cmd != futexWait {
		return eNOSYS
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

func callNanosleep(k *kernel, t *thread) uint32 {
	request, remain := t.regs.r[0], t.regs.r[1]
	if !t.resumed {
		sec, nsec, errno := k.readTime(request, false)
		if errno != 0 {
			return errno
		}
		return k.await(t, 0, k.clock.after(counter(), sec, nsec), eINTR)
	}
	if t.woken == byTimeout {
		return 0
	}
	if remain != 0 {
		left := uint64(0)
		if now := counter(); t.until > now {
			left = t.until - now
		}
		sec, nsec := k.clock.span(left)
		if errno := k.writeTime(remain, false, sec, nsec); errno != 0 {
			return errno
		}
	}
	return eINTR
}

func (k *kernel) sysGettime(id, addr uint32, long bool) uint32 {
	var sec uint64
	var nsec uint32
	switch id {
	case clockRealtime, clockRealtimeCoarse:
		sec, nsec = k.clock.real(counter())
	case clockMonotonic, clockMonotonicRaw, clockMonotonicCoarse, clockBoottime:
		sec, nsec = k.clock.monotonic(counter())
	default:
		return eINVAL
	}
	return k.writeTime(addr, long, sec, nsec)
}

func (k *kernel) sysSettime(id, addr uint32, long bool) uint32 {
	if id != clockRealtime {
		return eINVAL
	}
	sec, nsec, errno := k.readTime(addr, long)
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
