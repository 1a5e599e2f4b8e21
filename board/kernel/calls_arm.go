package kernel

// call makes the system call that the thread's registers ask for, and returns
// its result: an error number negated, or [again] or restartSys.
func (k *kernel) call(t *thread) uint32 {
	r := &t.regs.r
	switch r[7] {
	case sysRead:
		return k.sysReadFile(t, r[0], r[1], r[2])
	case sysWrite:
		return k.sysWriteFile(t, r[0], r[1], r[2])
	case sysFutexTime64:
		return k.sysFutexCall(t, r[0], r[1], r[2], r[3], true)
	case sysFutex:
		return k.sysFutexCall(t, r[0], r[1], r[2], r[3], false)
	case sysEpollPwait:
		return k.sysEpollWait(t, r[0], r[1], r[2], r[3], r[4], r[5])
	case sysNanosleep:
		return k.sysSleep(t, r[0], r[1])
	case sysSchedYield:
		t.slice = 0
		k.resched = true
		return 0
	case sysClockGettime:
		return k.sysGettime(r[0], r[1], false)
	case sysClockGettime64:
		return k.sysGettime(r[0], r[1], true)
	case sysGetpid:
		return firstTid
	case sysGettid:
		return t.tid
	case sysTgkill:
		return k.sysTgkill(r[0], r[1], r[2])
	case sysRtSigprocmask:
		return k.sysSigprocmask(t, r[0], r[1], r[2], r[3])
	case sysRtSigreturn:
		return k.sysSigreturn(t)
	case sysMmap2:
		return k.sysMmap(t, r[0], r[1], r[2], r[3], r[4], r[5])
	case sysMunmap:
		return k.sysMunmap(t, r[0], r[1])
	case sysMadvise:
		return k.sysMadvise(t, r[0], r[1], r[2])
	case sysMprotect:
		return k.sysMprotect(t, r[0], r[1], r[2])
	case sysClone:
		return k.sysCloneThread(t, r[0], r[1], r[3])
	case sysExit:
		return k.sysExitThread(t, r[0])
	case sysExitGroup:
		k.die(diedExit, r[0]&0xff)
	}
	return k.rareCall(t)
}

// rareCall makes the system calls whose speed does not matter.
func (k *kernel) rareCall(t *thread) uint32 {
	r := &t.regs.r
	switch r[7] {
	case sysOpen:
		return k.sysOpenAt(atFdcwd, r[0], r[1])
	case sysOpenat:
		return k.sysOpenAt(r[0], r[1], r[2])
	case sysClose:
		return k.sysCloseFile(r[0])
	case sysFcntl, sysFcntl64:
		return k.sysFcntlFile(r[0], r[1], r[2])
	case sysFstat64:
		return k.sysFstat(r[0], r[1])
	case sysIoctl:
		if k.openFile(r[0]) == nil {
			return eBADF
		}
		return eNOTTY
	case sysLseek, sysLlseek, sysStat64, sysLstat64, sysFstatat64, sysUnlink, sysUnlinkat, sysRename:
		return k.hostCall(r)
	case sysEpollCreate1:
		return k.sysEpollCreate(r[0])
	case sysEpollCtl:
		return k.sysEpollControl(r[0], r[1], r[2], r[3])
	case sysEventfd2:
		return k.sysEventfd(r[0], r[1])
	case sysPipe2:
		return k.sysPipe(r[0], r[1])
	case sysRtSigaction:
		return k.sysSigaction(r[0], r[1], r[2], r[3])
	case sysSigaltstack:
		return k.sysSigaltstack(t, r[0], r[1])
	case sysKill:
		return k.sysKill(r[0], r[1])
	case sysGetaffinity:
		return k.sysAffinity(r[0], r[1], r[2])
	case sysGetrandom:
		return k.sysRandom(t, r[0], r[1], r[2])
	case sysClockSettime:
		return k.sysSettime(r[0], r[1], false)
	case sysClockSettime64:
		return k.sysSettime(r[0], r[1], true)
	case sysUname:
		return k.sysName(r[0])
	case sysBrk, sysGetppid, sysGetuid, sysGetgid, sysGeteuid, sysGetegid,
		sysGetuid32, sysGetgid32, sysGeteuid32, sysGetegid32:
		return 0
	case sysSetTLS:
		rw, _ := threadRegs()
		setThreadRegs(rw, r[0])
		return 0
	case sysPrctl:
		return eINVAL
	}
	return eNOSYS
}

func (k *kernel) sysCloneThread(t *thread, flags, stack, tls uint32) uint32 {
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
	k.enqueue(th)
	return n.tid
}

func (k *kernel) sysExitThread(t *thread, code uint32) uint32 {
	if k.numThreads == 1 {
		k.die(diedExit, code&0xff)
	}
	t.state = threadFree
	k.numThreads--
	k.resched = true
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

func (k *kernel) sysFutexCall(t *thread, addr, op, val, timeout uint32, long bool) uint32 {
	cmd := op &^ futexPrivate
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
	if cmd != futexWait && cmd != futexWake {
		return eNOSYS
	}
	if addr&3 != 0 {
		return eINVAL
	}
	if !inUserSpace(addr, 4) {
		return eFAULT
	}
	if cmd == futexWake {
		return k.futexWakeUp(addr, max(val, 1))
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

func (k *kernel) sysSleep(t *thread, request, remain uint32) uint32 {
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

// sysAffinity tells of two processors, so that the Go runtime keeps one thread in
// its poller while another computes: an interrupt then reaches its goroutine in a
// fraction of a millisecond, where it would take tens.
func (k *kernel) sysAffinity(pid, size, addr uint32) uint32 {
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

func (k *kernel) sysRandom(t *thread, addr, size, flags uint32) uint32 {
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

func (k *kernel) sysName(addr uint32) uint32 {
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
