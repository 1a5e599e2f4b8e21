package kernel

// The interrupt controller (GIC-400 in the Cortex-A7 MPCore: IHI 0048B 4.3 and
// 4.4) and interrupt lines as files.
const (
	gicDistributor = 0x00a01000
	gicInterface   = 0x00a02000

	gicdCtlr      = 0x000
	gicdIsenabler = 0x100
	gicdIcenabler = 0x180
	gicdIgroupr   = 0x080
	gicdIpriority = 0x400
	gicdItargets  = 0x800
	giccCtlr      = 0x00
	giccPmr       = 0x04
	giccIar       = 0x0c
	giccEoir      = 0x10

	firstLine  = 32 // the first shared line; those below belong to the CPU
	timerLine  = 29 // secure physical timer
	timerLineN = 30 // non-secure physical timer
	spurious   = 1020
)

func (k *kernel) setUpInterrupts() {
	writeReg(gicDistributor+gicdCtlr, 0)
	for i := uint32(0); i < numLines/32; i++ {
		writeReg(gicDistributor+gicdIcenabler+i*4, ^uint32(0))
		writeReg(gicDistributor+gicdIgroupr+i*4, 0)
	}
	for i := uint32(0); i < numLines; i += 4 {
		writeReg(gicDistributor+gicdIpriority+i, 0x80808080)
		if i >= firstLine {
			writeReg(gicDistributor+gicdItargets+i, 0x01010101)
		}
	}
	k.enableLine(timerLine)
	k.enableLine(timerLineN)
	writeReg(gicInterface+giccPmr, 0xff)
	writeReg(gicInterface+giccCtlr, 1)
	writeReg(gicDistributor+gicdCtlr, 1)
}

func (k *kernel) enableLine(n uint32) {
	writeReg(gicDistributor+gicdIsenabler+n/32*4, 1<<(n%32))
}

func (k *kernel) disableLine(n uint32) {
	writeReg(gicDistributor+gicdIcenabler+n/32*4, 1<<(n%32))
}

// maxInterrupts bounds how many interrupts one exception handles; those that are
// left raise another.
const maxInterrupts = 8

// interrupt handles what the GIC has pending.
func (k *kernel) interrupt(now uint64) {
	for range maxInterrupts {
		ack := readReg(gicInterface + giccIar)
		n := ack & 0x3ff
		if n >= spurious {
			return
		}
		k.count.interrupts++
		switch n {
		case timerLine, timerLineN:
			k.timerInterrupt(now)
		case k.console.line:
			k.consoleInterrupt()
		case k.watchdog.line:
			k.watchdogInterrupt()
		default:
			k.fileInterrupt(n)
		}
		writeReg(gicInterface+giccEoir, ack)
	}
}

// fileInterrupt masks a line and counts the interrupt for who has it open. The
// line stays masked until that program has dealt with its device and writes to
// the file, so an interrupt storm costs its own driver only.
func (k *kernel) fileInterrupt(n uint32) {
	k.disableLine(n)
	if n < numLines && k.irq.owner[n] != 0 {
		f := &k.file[uint32(k.irq.owner[n])-1]
		f.count++
		k.notify(f, epollIn)
		k.work |= workSchedule
	}
}

// openLine opens an interrupt line for a file and enables it.
func (k *kernel) openLine(n, flags uint32) uint32 {
	switch {
	case n < firstLine || n >= numLines:
		return eNOENT
	case n == k.console.line || n == k.watchdog.line || k.irq.owner[n] != 0:
		return eBUSY
	}
	fd := k.newFile(fileInterrupt, flags)
	if isError(fd) {
		return fd
	}
	k.file[fd].arg = n
	k.irq.owner[n] = uint16(fd) + 1
	k.enableLine(n)
	return fd
}

func (k *kernel) closeLine(n uint32) {
	k.disableLine(n)
	k.irq.owner[n] = 0
}
