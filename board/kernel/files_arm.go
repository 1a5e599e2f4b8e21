package kernel

// openFile returns an open file, or nil.
func (k *kernel) openFile(fd uint32) *file {
	if fd >= MaxFiles || k.file[fd].kind == fileFree {
		return nil
	}
	return &k.file[fd]
}

// ioFile finds the file of a read or write, which must be open for it, and checks
// the buffer's place.
func (k *kernel) ioFile(t *thread, fd, addr, n, forbidden uint32) (f *file, errno uint32) {
	f = k.openFile(fd)
	switch {
	case f == nil || f.flags&oAccessMode == forbidden || !t.same(f):
		return nil, eBADF
	case int32(n) < 0:
		return nil, eINVAL
	case !inUserSpace(addr, n):
		return nil, eFAULT
	}
	return f, 0
}

func callRead(k *kernel, t *thread) uint32 {
	fd, addr, n := t.regs.r[0], t.regs.r[1], t.regs.r[2]
	f, errno := k.ioFile(t, fd, addr, n, oWronly)
	if f == nil {
		return errno
	}
	switch f.kind {
	case fileConsole, fileNull:
		return 0
	case fileEvent:
		return k.readEvent(t, f, fd, addr, n)
	case fileInterrupt:
		return k.readInterrupt(t, f, fd, addr, n)
	case filePipeRead:
		return k.readPipe(t, f, addr, n)
	case fileRandom:
		return k.randomBytes(t, addr, n)
	case fileKernel, fileCrash:
		return k.readText(f, addr, n)
	case fileHost:
		return k.hostRead(f, addr, n)
	}
	return eINVAL
}

func (k *kernel) sysWriteFile(t *thread, fd, addr, n uint32) uint32 {
	f, errno := k.ioFile(t, fd, addr, n, oRdonly)
	if f == nil {
		return errno
	}
	switch f.kind {
	case fileConsole:
		return k.writeConsole(t, f, fd, addr, n)
	case fileNull:
		return n
	case fileInterrupt:
		return k.writeInterrupt(f, addr, n)
	case filePipeWrite:
		return k.writePipe(t, f, addr, n)
	case fileSeed:
		return k.writeSeed(t, addr, n)
	case fileWatchdog:
		k.watchdog.service()
		return n
	case fileNext:
		return k.writeNext(addr, n)
	case fileHost:
		return k.hostWrite(f, addr, n)
	}
	return eINVAL
}

// block waits until something happens to a file, or says that it would.
func (k *kernel) block(t *thread, f *file, fd uint32) uint32 {
	if !f.blocks() {
		return eAGAIN
	}
	f.told = false
	t.serial = f.serial
	return k.await(t, nodeWait+fd, never, restartSys)
}

func (k *kernel) readEvent(t *thread, f *file, fd, addr, n uint32) uint32 {
	switch {
	case n < 8:
		return eINVAL
	case f.count == 0:
		return k.block(t, f, fd)
	case !k.canWrite(addr, 8):
		return eFAULT
	}
	store64(addr, f.eventRead())
	k.notify(f, epollOut)
	return 8
}

// callWrite makes the call write. An eventfd comes first: with it the Go scheduler
// wakes its poller.
func callWrite(k *kernel, t *thread) uint32 {
	fd := t.regs.r[0]
	if fd >= MaxFiles || k.file[fd].kind != fileEvent {
		return k.sysWriteFile(t, fd, t.regs.r[1], t.regs.r[2])
	}
	f := &k.file[fd]
	if t.resumed && !t.same(f) {
		return eBADF
	}
	if t.regs.r[2] < 8 {
		return eINVAL
	}
	low, high, fault := userLoad64(t.regs.r[1])
	if fault != 0 {
		if !k.canRead(t.regs.r[1], 8) {
			return eFAULT
		}
		low, high = load(t.regs.r[1]), load(t.regs.r[1]+4)
	}
	switch {
	case low&high == ^uint32(0):
		return eINVAL
	case !f.eventAdd(uint64(low) | uint64(high)<<32):
		return k.block(t, f, fd)
	case !f.told:
		k.notify(f, epollIn)
	}
	return 8
}

// An interrupt file is read and written as Linux's UIO has it: a read waits for
// interrupts and returns how many there were, 32 bits; writing 1 enables the line
// and 0 disables it.
func (k *kernel) readInterrupt(t *thread, f *file, fd, addr, n uint32) uint32 {
	switch {
	case n < 4:
		return eINVAL
	case f.count == 0:
		return k.block(t, f, fd)
	case !k.canWrite(addr, 4):
		return eFAULT
	}
	store(addr, uint32(f.count))
	f.count = 0
	return 4
}

func (k *kernel) writeInterrupt(f *file, addr, n uint32) uint32 {
	switch {
	case n != 4:
		return eINVAL
	case !k.canRead(addr, 4):
		return eFAULT
	case load(addr) > 1:
		return eINVAL
	case load(addr) == 1:
		barrier() // what the driver has told its device comes first
		k.enableLine(f.arg)
	default:
		k.disableLine(f.arg)
	}
	return 4
}

// consolePass is how many bytes one pass of a write to the console takes.
const consolePass = 128

func (k *kernel) writeConsole(t *thread, f *file, fd, addr, n uint32) uint32 {
	if !t.resumed {
		t.done = 0
	}
	c := &k.console
	limit := min(n, t.done+consolePass)
	if !k.canRead(addr+t.done, limit-t.done) {
		return eFAULT
	}
	for t.done < limit && c.room() >= maxPut {
		b := load8(addr + t.done)
		if fd == 2 && redact {
			c.filter.write(c, b)
		} else {
			c.put(b)
		}
		t.done++
	}
	c.transmit()
	switch {
	case t.done == n:
		return n
	case t.done == limit:
		return again
	case !f.blocks() && t.done == 0:
		return eAGAIN
	case !f.blocks():
		return t.done
	case t.done == 0:
		return k.await(t, nodeConsole, never, restartSys)
	}
	return k.await(t, nodeConsole, never, t.done)
}

// maxSeed is how many bytes of a seed one write takes; minSeed makes the
// generator count as seeded.
const (
	maxSeed = 128
	minSeed = 32
)

// writeSeed mixes in a seed, a piece a pass.
func (k *kernel) writeSeed(t *thread, addr, n uint32) uint32 {
	if n < minSeed || n > maxSeed {
		return eINVAL
	}
	if !t.resumed {
		t.done = 0
	}
	piece := min(n-t.done, minSeed)
	if !k.canRead(addr+t.done, piece) {
		return eFAULT
	}
	var e [8]uint32
	for i := range piece {
		e[i/4] |= uint32(load8(addr+t.done+i)) << (i % 4 * 8)
	}
	k.random.add(&e)
	clear(e[:])
	if t.done += piece; t.done < n {
		return again
	}
	k.random.seeded = true
	k.wakeAll(nodeSeed)
	return n
}

func (k *kernel) readText(f *file, addr, n uint32) uint32 {
	k.text.n = 0
	if f.kind == fileCrash {
		k.crashText()
	} else {
		k.statistics()
	}
	pos := min(f.arg, k.text.n)
	n = min(n, k.text.n-pos)
	if !k.canWrite(addr, n) {
		return eFAULT
	}
	f.arg = pos + uint32(copy(bytesAt(addr, n), k.text.b[pos:]))
	k.text.n = 0
	return n
}

// crashText tells how the previous boot died, and what it said last. It is empty
// if it did not.
func (k *kernel) crashText() {
	if k.crash.reason == 0 {
		return
	}
	t := &k.text
	t.describe(&k.crash)
	t.n += uint32(copy(t.b[t.n:], k.crash.text[:min(k.crash.textLen, uint32(len(k.crash.text)))]))
}

// statistics are the counters of /dev/kernel: a name and a number a line.
func (k *kernel) statistics() {
	t := &k.text
	now := counter()
	sec, nsec := k.clock.span(k.count.idle)
	t.line("pages.used", k.pagesUsed())
	t.line("pages.peak", k.pagesUsed()-k.frames.used+k.frames.peakUsed)
	t.line("pages.committed", k.mem.committed)
	t.line("pages.limit", k.mem.limit)
	t.line("regions", k.mem.n)
	t.line("threads", k.numThreads)
	t.line("threads.made", k.lastTid)
	t.line("calls", k.count.calls)
	t.line("interrupts", k.count.interrupts)
	t.line("switches", k.count.switches)
	t.line("page.faults", k.count.faults)
	t.line("signals", k.count.signals)
	t.line("idle.s", uint32(sec))
	t.line("idle.us", nsec/1000)
	sec, nsec = k.clock.monotonic(now)
	t.line("uptime.s", uint32(sec))
	t.line("uptime.us", nsec/1000)
	t.line("seeded", b2u(k.random.seeded))
	t.line("reset.srsr", k.reset.srsr)
	t.line("reset.wrsr", k.reset.wrsr)
}

// maxPath bounds a path, its final zero included.
const maxPath = 256

// pathLength checks a path in user memory and returns its length, or an error.
func (k *kernel) pathLength(path uint32) uint32 {
	for n := uint32(0); n < maxPath; n++ {
		if (n == 0 || (path+n)%pageSize == 0) && !k.canRead(path+n, 1) {
			return eFAULT
		}
		if load8(path+n) == 0 {
			return n
		}
	}
	return eNAMETOOLONG
}

// pathIs reports whether a checked path of n bytes is s.
func pathIs(path, n uint32, s string) bool {
	return n == uint32(len(s)) && string(bytesAt(path, n)) == s
}

func (k *kernel) sysOpenAt(dir, path, flags uint32) uint32 {
	n := k.pathLength(path)
	switch {
	case isError(n):
		return n
	case n == 0:
		return eNOENT
	case load8(path) != '/' && dir != atFdcwd && k.openFile(dir) == nil:
		return eBADF
	}
	const irq = "/dev/irq/"
	if n > uint32(len(irq)) && pathIs(path, uint32(len(irq)), irq) {
		return k.openLine(lineNumber(path+uint32(len(irq)), n-uint32(len(irq))), flags)
	}
	kind, mode := uint8(fileFree), uint32(oRdonly)
	switch {
	case pathIs(path, n, "/dev/null"):
		kind, mode = fileNull, oRdwr
	case pathIs(path, n, "/dev/mem"):
		kind, mode = fileMemory, oRdwr
	case pathIs(path, n, "/dev/urandom"):
		kind = fileRandom
	case pathIs(path, n, "/dev/seed"):
		kind, mode = fileSeed, oWronly
	case pathIs(path, n, "/dev/watchdog"):
		kind, mode = fileWatchdog, oWronly
	case pathIs(path, n, "/dev/next"):
		if kind, mode = fileNext, oWronly; k.next.End == 0 {
			return ePERM
		}
	case pathIs(path, n, "/dev/kernel"):
		kind = fileKernel
	case pathIs(path, n, "/dev/crash"):
		kind = fileCrash
	default:
		return k.hostOpen(path, n, flags)
	}
	if mode != oRdwr && flags&oAccessMode != mode {
		return eACCES
	}
	fd := k.newFile(kind, flags)
	if kind == fileWatchdog && !isError(fd) {
		k.watchdog.open = true
	}
	return fd
}

// lineNumber reads a decimal number; anything else is no line's number.
func lineNumber(addr, n uint32) uint32 {
	v := uint32(0)
	for i := uint32(0); i < n; i++ {
		c := load8(addr + i)
		if c < '0' || c > '9' || v >= numLines {
			return 0
		}
		v = v*10 + uint32(c-'0')
	}
	return v
}

func callClose(k *kernel, t *thread) uint32 {
	fd := t.regs.r[0]
	f := k.openFile(fd)
	if f == nil {
		return eBADF
	}
	k.forget(fd)
	switch f.kind {
	case fileInterrupt:
		k.closeLine(f.arg)
	case filePipeRead, filePipeWrite:
		k.closePipe(f)
	case fileHost:
		k.hostClose(f)
	}
	f.kind = fileFree
	k.wakeAll(nodeWait + fd) // who waits for it finds it closed
	return 0
}

func callEventfd2(k *kernel, t *thread) uint32 {
	count, flags := t.regs.r[0], t.regs.r[1]
	if flags&^(efdSemaphore|oNonblock|oCloexec) != 0 {
		return eINVAL
	}
	fd := k.newFile(fileEvent, flags&^oAccessMode|oRdwr)
	if f := k.openFile(fd); f != nil {
		f.count, f.which = uint64(count), uint8(flags&efdSemaphore)
	}
	return fd
}

func callFcntl(k *kernel, t *thread) uint32 {
	fd, cmd, arg := t.regs.r[0], t.regs.r[1], t.regs.r[2]
	f := k.openFile(fd)
	if f == nil {
		return eBADF
	}
	switch cmd {
	case fGetfd:
		return b2u(f.flags&oCloexec != 0)
	case fSetfd:
		f.flags = f.flags&^oCloexec | arg&1*oCloexec
		return 0
	case fGetfl:
		return f.flags &^ oCloexec
	case fSetfl:
		const settable = oNonblock | oAppend
		f.flags = f.flags&^settable | arg&settable
		return 0
	}
	return eINVAL
}

// struct stat64 (arch/arm/include/uapi/asm/stat.h).
const (
	statSize   = 104
	statMode   = 16
	statLinks  = 20
	statLength = 48
	statBlock  = 56

	modeFIFO    = 0010000
	modeChar    = 0020000
	modeRegular = 0100000
)

func callFstat(k *kernel, t *thread) uint32 {
	fd, addr := t.regs.r[0], t.regs.r[1]
	f := k.openFile(fd)
	if f == nil {
		return eBADF
	}
	mode, length := uint32(modeChar|0600), uint32(0)
	switch f.kind {
	case filePipeRead, filePipeWrite:
		mode = modeFIFO | 0600
	case fileEvent, fileEpoll:
		mode = 0600
	case fileHost:
		mode, length = modeRegular|0600, k.hostLength(f)
	}
	return k.storeStat(addr, mode, length)
}

func (k *kernel) storeStat(addr, mode, length uint32) uint32 {
	if !k.canWrite(addr, statSize) {
		return eFAULT
	}
	clearBytes(addr, statSize)
	store(addr+statMode, mode)
	store(addr+statLinks, 1)
	store(addr+statLength, length)
	store(addr+statBlock, pageSize)
	return 0
}

func callEpollCreate1(k *kernel, t *thread) uint32 {
	flags := t.regs.r[0]
	if flags&^oCloexec != 0 {
		return eINVAL
	}
	return k.newFile(fileEpoll, flags|oRdwr)
}

func callEpollCtl(k *kernel, t *thread) uint32 {
	epoll, op, fd, event := t.regs.r[0], t.regs.r[1], t.regs.r[2], t.regs.r[3]
	const eventSize = 16
	var events uint32
	var data uint64
	if op != epollCtlDel {
		if !k.canRead(event, eventSize) {
			return eFAULT
		}
		events, data = load(event), load64(event+8)
	}
	set, f := k.openFile(epoll), k.openFile(fd)
	switch {
	case set == nil || f == nil:
		return eBADF
	case !f.pollable() && f.kind != fileEpoll:
		return ePERM
	case epoll == fd || set.kind != fileEpoll || f.kind == fileEpoll: // sets are not nested
		return eINVAL
	}
	n, watched := k.findItem(epoll, fd)
	switch {
	case op < epollCtlAdd || op > epollCtlMod:
		return eINVAL
	case op == epollCtlAdd && watched:
		return eEXIST
	case op == epollCtlAdd:
		return k.addItem(epoll, fd, events, data)
	case !watched:
		return eNOENT
	case op == epollCtlMod:
		k.changeItem(n, events, data)
	default:
		k.removeItem(n)
	}
	return 0
}

func callEpollWait(k *kernel, t *thread) uint32 { return k.sysEpollWait(t, 0, 0) }

func callEpollPwait(k *kernel, t *thread) uint32 { return k.sysEpollWait(t, t.regs.r[4], t.regs.r[5]) }

func (k *kernel) sysEpollWait(t *thread, mask, maskSize uint32) uint32 {
	epoll, events, room, ms := t.regs.r[0], t.regs.r[1], t.regs.r[2], t.regs.r[3]
	const (
		eventSize = 16
		maxEvents = 0x7fffffff / eventSize
	)
	masks := mask != 0 && !t.resumed
	switch {
	case masks && maskSize != 8:
		return eINVAL
	case masks && !k.canRead(mask, 8):
		return eFAULT
	case int32(room) <= 0 || room > maxEvents:
		return eINVAL
	case !inUserSpace(events, room*eventSize):
		return eFAULT
	}
	set := k.openFile(epoll)
	if set == nil || set.kind != fileEpoll || !t.same(set) {
		k.restoreMask(t)
		if set == nil || t.resumed {
			return eBADF
		}
		return eINVAL
	}
	if masks {
		t.savedMask, t.hasSaved = t.mask, true
		t.mask = load64(mask) &^ unblockable
		k.work |= workSignals
	}
	if r := k.fetchEvents(epoll, events, room); r != 0 || ms == 0 || t.woken == byTimeout {
		if !k.rings.alone(nodeReady + epoll) {
			k.wakeFirst(nodeWait + epoll) // there is more for another waiter
		}
		k.restoreMask(t)
		return r
	}
	until := t.until
	if !t.resumed {
		until = never
		if int32(ms) > 0 {
			until = k.clock.after(counter(), uint64(ms/1000), ms%1000*1000000)
		}
	}
	return k.await(t, nodeWait+epoll, until, eINTR)
}

// restoreMask ends what epoll_pwait's mask began, where no handler will.
func (k *kernel) restoreMask(t *thread) {
	if t.hasSaved {
		t.mask = t.savedMask
		t.hasSaved = false
		k.work |= workSignals
	}
}

// maxFetch bounds the events that one call returns.
const maxFetch = 64

// fetchEvents stores what is ready. A level-triggered item that was reported goes
// to the end; meeting it again means that all have been looked at.
func (k *kernel) fetchEvents(epoll, addr, room uint32) uint32 {
	first := uint32(maxItems) // the first one that went to the end
	for n := uint32(0); ; n++ {
		i, events := k.nextReady(epoll)
		if events == 0 || i == first || n == min(room, maxFetch) {
			return n
		}
		if !k.canWrite(addr, 16) {
			if n == 0 {
				return eFAULT
			}
			return n
		}
		store(addr, events)
		store(addr+4, 0)
		store64(addr+8, k.item[i].data)
		addr += 16
		if k.reported(i) && first == maxItems {
			first = i
		}
	}
}
