package kernel

const (
	elfMagic     = 0x464c457f
	elfPhoff     = 28
	elfPhnum     = 44
	phSize       = 32
	phVaddr      = 8
	phFilesz     = 16
	phMemsz      = 20
	phFlags      = 24
	ptLoad       = 1
	maxSegments  = 16
	segmentExec  = 1
	segmentWrite = 2
)

func roundUp(addr uint32) uint32 { return (addr + pageSize - 1) &^ (pageSize - 1) }

// read reads the program headers of the image that this code is part of; false if
// they are not what the kernel can map. The linker puts the text behind their page.
func (l *imageLayout) read() bool {
	l.start = linkerSymbols().text - pageSize
	if load(l.start) != elfMagic {
		return false
	}
	ph := l.start + load(l.start+elfPhoff)
	n := load(l.start+elfPhnum) & 0xffff
	if n > maxSegments || ph&3 != 0 || ph > l.start+pageSize-n*phSize {
		return false
	}
	for ; n > 0; n-- {
		start, size := load(ph+phVaddr), load(ph+phFilesz)
		flags := load(ph + phFlags)
		switch {
		case load(ph) != ptLoad:
		case flags&segmentExec != 0:
			l.textEnd = start + size
		case flags&segmentWrite != 0:
			l.dataStart, l.fileEnd, l.end = start, start+size, start+load(ph+phMemsz)
		}
		ph += phSize
	}
	return l.textEnd > l.start && l.dataStart >= l.textEnd && l.dataStart%pageSize == 0 &&
		l.fileEnd >= l.dataStart && l.end >= l.fileEnd && l.end <= l.start&^(imageSpan-1)+imageSpan
}

// buildTables makes the page tables. It runs with the MMU off, and touches nothing
// but them, the vectors, and the image's headers.
func buildTables() {
	var l imageLayout
	if !l.read() {
		for { // no image, no console: the watchdog, if it runs, resets
		}
	}
	for pa := uint32(ramStart); pa < kernelRegion; pa += mib {
		d := pa | l1Section | 1<<4 | 1<<10 | 1<<12 // privileged, never executed, normal
		if pa < DMAStart {
			d |= pteB | pteC // cached, as all other mappings of it
		}
		store(kernelRegion+(pa+directOffset)>>20<<2, d)
	}

	self := uint32(kernelRegion + offSelfL2)
	store(kernelRegion+regionVA>>20<<2, self|l1Table)
	for off := uint32(0); off < mib; off += pageSize {
		d := kernelRegion + off | pteNormal | ptePage
		switch off {
		case offVectors:
			d |= ptePriv | pteRO
		case offClock:
			d |= pteUser | pteXN
		case offStack - pageSize, offStack + stackSize:
			d = 0
		default:
			d |= ptePriv | pteXN
		}
		store(self+off>>pageShift<<2, d)
	}

	for m := uint32(0); m < 0x1000; m++ {
		i := deviceIndex(m << 20)
		if i < 0 {
			continue
		}
		table := kernelRegion + offDevL2 + uint32(i)*1024
		store(kernelRegion+m<<2, table|l1Table)
		for p := uint32(0); p < 256; p++ {
			store(table+p<<2, m<<20|p<<pageShift|pteDevice|ptePage|pteXN|ptePriv)
		}
	}
	l.mapImage()
	writeVectors()
}

// mapImage maps what the image's file holds. BSS comes on demand.
func (l *imageLayout) mapImage() {
	base := l.start &^ (imageSpan - 1)
	for m := base; m < roundUp(l.end); m += mib {
		store(kernelRegion+m>>20<<2, (kernelRegion+offImageL2+(m-base)>>20<<10)|l1Table)
	}
	for a := l.start; a < roundUp(l.fileEnd); a += pageSize {
		d := a | pteNormal | ptePage | pteUser | ptePriv
		switch {
		case a < roundUp(l.textEnd):
			d |= pteRO
		case a < l.dataStart:
			d |= pteRO | pteXN
		default:
			d |= pteXN
		}
		store(kernelRegion+offImageL2+(a-base)>>pageShift<<2, d)
	}
}

// writeVectors writes the vector page: eight times ldr pc, [pc, #24], the
// addresses, and the g by which Go code in the kernel finds its stack's limit.
func writeVectors() {
	s := linkerSymbols()
	page := uint32(kernelRegion + offVectors)
	for i := uint32(0); i < 8; i++ {
		store(page+i*4, 0xe59ff018)
	}
	store(page+32, s.vectors[0]) // reset: never taken
	for i := range s.vectors {
		store(page+36+uint32(i)*4, s.vectors[i])
	}
	const limit = regionVA + offStack + stackGuard
	g := uint32(kernelRegion + offG)
	store(g, regionVA+offStack)
	store(g+4, stackTop)
	store(g+8, limit)
	store(g+12, limit)
}

// boot starts the kernel, with the MMU on, and makes thread 1. It returns the
// address of the thread's registers.
func boot(c *Config) uint32 {
	writeAll(c.Setup[:])
	k := state()
	k.image.read()
	k.symbols = *linkerSymbols()
	k.watchdog.base, k.watchdog.line = c.Watchdog, c.WatchdogLine
	k.reset.read(c)
	k.watchdog.start(c.WatchdogSeconds)
	if c.Wipe {
		k.image.wipeOthers()
	}
	k.rings.init()
	if silicon(c) {
		writeAll(c.SiliconSetup[:])
	}
	k.startClock(c)
	k.console.uart, k.console.line = c.UART, c.UARTLine
	k.console.start()
	k.setUpInterrupts()
	k.enableLine(c.UARTLine)
	k.enableLine(c.WatchdogLine)
	k.setUpNext(c)
	k.allow(c)
	k.setUpMemory()
	k.startRandom(c)
	k.readCrash()
	k.greet(c)

	for fd := range 3 {
		k.file[fd].kind, k.file[fd].flags = fileConsole, oRdwr
	}
	th, _ := k.newThread()
	k.thread[idleThread].regs.pc = k.symbols.idle
	k.thread[idleThread].regs.cpsr = cpsrUser | cpsrFIQ
	k.thread[idleThread].mask = ^uint64(0)
	k.run(th)
	k.fpu = th
	k.switchedAt = counter()
	t := &k.thread[th]
	t.regs.r[13] = k.firstStack(c)
	t.regs.pc = k.symbols.entry
	t.regs.cpsr = cpsrUser | cpsrFIQ
	k.setTimer()
	return k.running
}

// wipeOthers zeroes all RAM but the image, the kernel's region, which enter has
// zeroed, and the crash record. It runs with the caches on.
func (l *imageLayout) wipeOthers() {
	wipe(ramStart+directOffset, l.start+directOffset)
	wipe(roundUp(l.fileEnd)+directOffset, kernelRegion+directOffset)
}

// setUpNext takes over what the board says of the next image, and how to stop what
// runs beside the processor: the kernel's own devices, then the board's. A window
// that reaches this image is none.
func (k *kernel) setUpNext(c *Config) {
	if c.Next.End <= k.image.start {
		k.next = c.Next
	}
	k.stop[0].Address = gicDistributor + gicdCtlr
	k.stop[1].Address = gicInterface + giccCtlr
	k.stop[2].Address = c.UART + uartUCR1
	copy(k.stop[3:], c.Stop[:])
}

// allow lists what /dev/mem maps: those of the board's devices for which there are
// second-level tables, DMA memory, the hand-over block and the next image's window.
func (k *kernel) allow(c *Config) {
	n := 0
	for i := range c.Devices {
		if r := &c.Devices[i]; deviceIndex(r.Start) >= 0 && deviceIndex(r.End-1) >= 0 {
			k.allowed[n] = *r
			n++
		}
	}
	k.allowed[n] = DeviceRange{DMAStart, DMAEnd}
	k.allowed[n+1] = DeviceRange{HandoverStart, HandoverEnd}
	k.allowed[n+2] = k.next
}

// silicon tells whether this is a real chip and not the emulator's.
func silicon(c *Config) bool { return c.ChipID != 0 && readReg(c.ChipID)&0xffff != 0 }

// writeAll makes a list of register writes.
func writeAll(list []RegisterWrite) {
	for i := range list {
		r := &list[i]
		if r.Address == 0 {
			return
		}
		v := r.Value
		if r.Keep != 0 {
			v |= readReg(r.Address) & r.Keep
		}
		writeReg(r.Address, v)
	}
}

// startClock starts the system counter, where nobody has (IMX6ULRM, system
// counter), and the clock on it. What CNTFRQ says counts only if the counter runs:
// out of reset it does not, and CNTFRQ is anything.
func (k *kernel) startClock(c *Config) {
	hz, before := counterHz(), counter()
	for range 1000 {
		barrier()
	}
	if counter() == before || hz < minCounterHz || hz > maxCounterHz {
		hz = c.CounterHz
		setCounterHz(hz)
		writeReg(c.Counter, 1)
	}
	permitCounter()
	k.clock.init(hz, counter())
	k.slice = hz / 250 // 4 ms
	k.writeVDSO()
	k.publishClock()
}

// setUpMemory hands the RAM that is neither the image's nor the next one's to the page
// allocator.
func (k *kernel) setUpMemory() {
	l := &k.image
	dataEnd := roundUp(l.fileEnd)
	clearBytes(l.fileEnd, dataEnd-l.fileEnd)
	if k.next.End == 0 {
		k.frames.addRange(0, ramStart, l.start)
	} else {
		k.frames.addRange(0, ramStart, k.next.Start)
		k.frames.addRange(1, k.next.End, l.start)
	}
	k.frames.addRange(2, dataEnd, DMAStart)
	const mapped = areaEnd - areaStart + imageSpan + ramEnd - DMAStart
	const tables = mapped >> 22 // frames that second-level tables may take
	k.mem.init(k.frames.total - tables)
	page := func(addr uint32) uint32 { return addr >> pageShift }
	k.mem.set(page(l.start), page(roundUp(l.textEnd)), attrImage|protRead|protExec)
	if l.dataStart > roundUp(l.textEnd) {
		k.mem.set(page(roundUp(l.textEnd)), page(l.dataStart), attrImage|protRead)
	}
	if dataEnd > l.dataStart {
		k.mem.set(page(l.dataStart), page(dataEnd), attrImage|protRead|protWrite)
	}
	if l.end > dataEnd {
		k.mem.set(page(dataEnd), page(roundUp(l.end)), attrImage|attrAnonymous|attrCommitted|protRead|protWrite)
	}
	k.mem.set(page(areaEnd-firstStackSize), page(areaEnd), attrImage|attrAnonymous|attrCommitted|protRead|protWrite)
	k.mem.set(page(areaEnd-firstStackSize)-1, page(areaEnd-firstStackSize), attrImage) // guard
}

// firstStackSize is that of thread 1; the Go runtime takes 64 KiB of it.
const firstStackSize = 128 << 10

// pagesUsed is how many pages of physical memory are in use: image, kernel and what
// /dev/mem has mapped of it included.
func (k *kernel) pagesUsed() uint32 {
	return k.frames.used + k.mapped + (roundUp(k.image.fileEnd)-k.image.start)>>pageShift + mib/pageSize
}

// startRandom gives the generator what little is there before it is seeded: the
// counter. Nothing that is derived from it is secret.
func (k *kernel) startRandom(c *Config) {
	var e [8]uint32
	for i := range e {
		e[i] = uint32(counter())
	}
	k.random.add(&e)
	k.mayBlockForSeed = c.BlockUntilSeeded && silicon(c)
}

// greet says on the console which board this is, and how the last boot died.
func (k *kernel) greet(c *Config) {
	t := &k.text
	t.str("kernel: ").str(c.Name).str(", ").dec(k.mem.limit >> 8).str(" MiB free, counter ")
	t.dec(k.clock.hz / 1000).str(" kHz\n")
	if k.crash.reason != 0 {
		t.str("kernel: the previous boot died: ").describe(&k.crash)
	}
	k.console.say(t)
	k.console.transmit()
}

// The auxiliary vector (include/uapi/linux/auxvec.h).
const (
	atNull        = 0
	atPagesz      = 6
	atPlatform    = 15
	atHwcap       = 16
	atSecure      = 23
	atRandom      = 25
	atHwcap2      = 26
	atSysinfoEhdr = 33

	// HALF, THUMB, FASTMULT, VFP, EDSP, NEON, VFPv3, TLS, VFPv4, IDIVA, IDIVT,
	// LPAE (asm/hwcap.h): what every Cortex-A7 with NEON has.
	hwcap = 1<<1 | 1<<2 | 1<<4 | 1<<6 | 1<<7 | 1<<12 | 1<<13 | 1<<15 | 1<<16 | 1<<17 | 1<<18 | 1<<20
)

// firstStack writes arguments, environment and auxiliary vector on thread 1's
// stack, as Linux's execve does, and returns the stack pointer.
func (k *kernel) firstStack(c *Config) uint32 {
	const room = 16384
	k.canWrite(areaEnd-room, room)
	s := stackWriter{top: areaEnd, word: areaEnd - room/2}
	sp := s.word
	count := s.word
	s.put(0)
	n := k.hostArguments(&s)
	if n == 0 {
		s.put(s.str("firmware"))
		n = 1
	}
	store(count, n)
	s.put(0)
	k.hostEnvironment(&s)
	for i := range c.Env {
		if c.Env[i] != "" {
			s.put(s.str(c.Env[i]))
		}
	}
	s.put(0)
	s.top = s.top&^15 - 16
	k.random.fill(bytesAt(s.top, 16))
	s.pair(atRandom, s.top)
	s.pair(atPlatform, s.str("v7l"))
	s.pair(atPagesz, pageSize)
	s.pair(atHwcap, hwcap)
	s.pair(atHwcap2, 0)
	s.pair(atSecure, 0)
	s.pair(atSysinfoEhdr, vdsoHeader)
	s.pair(atNull, 0)
	return sp
}

// A stackWriter writes words upwards, and strings downwards from the top.
type stackWriter struct{ top, word uint32 }

func (s *stackWriter) put(v uint32) {
	store(s.word, v)
	s.word += 4
}

func (s *stackWriter) pair(a, b uint32) {
	s.put(a)
	s.put(b)
}

// str writes a string and its final zero, and returns its address.
func (s *stackWriter) str(v string) uint32 {
	s.top -= uint32(len(v) + 1)
	storeString(s.top, v)
	store8(s.top+uint32(len(v)), 0)
	return s.top
}
