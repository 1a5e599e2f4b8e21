package kernel

import "unsafe"

func crashAddr() uint32 { return regionVA + offCrash }

// flush sends all that is left on the console, polling. It gives up when a byte
// is not taken within 10 ms: the watchdog does not wait for a transmitter that
// hangs. It is for a dying kernel, which has nothing else to do.
func (c *console) flush(hz uint32) {
	if c.uart == 0 {
		return // died before there was a console
	}
	for {
		limit := counter() + uint64(hz)/100
		for readReg(c.uart+uartUTS)&utsTXFULL != 0 {
			if counter() >= limit {
				return
			}
		}
		b, ok := c.take()
		if !ok {
			break
		}
		writeReg(c.uart+uartTXD, uint32(b))
	}
	limit := counter() + uint64(hz)/100
	for readReg(c.uart+uartUSR2)&usr2TXDC == 0 && counter() < limit {
	}
}

// die ends the firmware: it says why, leaves a crash record, and resets the
// system. The fault is the running thread's.
func (k *kernel) die(reason, code uint32) {
	t := &k.thread[k.current]
	k.dieAt(reason, code, t.regs.pc, t.regs.r[14], t.regs.r[13], t.regs.cpsr)
}

func (k *kernel) dieAt(reason, code, pc, lr, sp, cpsr uint32) {
	if !k.dying {
		k.dying = true
		k.watchdog.service() // it resets should anything below hang
		k.console.flush(k.clock.hz)
		r := (*crashRecord)(at(crashAddr()))
		k.fillRecord(r, reason, code, pc, lr, sp, cpsr)
		k.text.n = 0
		k.text.str("\nkernel: ").describe(r)
		k.console.say(&k.text)
		k.sealRecord(r)
		k.console.flush(k.clock.hz)
	}
	exitHost(reason, code)
	k.watchdog.resetNow(k.clock.hz)
	for { // should neither reset have worked, its timeout will
	}
}

// resetNow resets the board through the watchdog's pin, where that is wired, and
// after 10 ms the chip. (Both at a time would let the chip start while the board
// still is in reset.) The bit is written more than once since a write can be lost
// between clock domains (i.MX6 errata ERR004346).
func (w *watchdog) resetNow(hz uint32) {
	writeReg16(w.base+wdogWCR, 1<<wcrWT|wcrSRS|wcrWDT|wcrWDE)
	for limit := counter() + uint64(hz)/100; counter() < limit; {
	}
	for range 3 {
		writeReg16(w.base+wdogWCR, 1<<wcrWT|wcrWDT|wcrWDE)
	}
}

func (k *kernel) fillRecord(r *crashRecord, reason, code, pc, lr, sp, cpsr uint32) {
	clearBytes(crashAddr(), uint32(unsafe.Sizeof(*r)))
	r.reason, r.code = reason, code
	if k.current < uint32(len(k.thread)) { // a fault in the kernel may come of nonsense
		r.tid = k.thread[k.current].tid
	}
	sec, _ := k.clock.monotonic(counter())
	r.uptime = uint32(sec)
	r.pc, r.sp, r.cpsr = pc, sp, cpsr
	if lr > k.symbols.text && lr < k.symbols.etext {
		r.lr = lr // else the program keeps something of its own in it
	}
	if reason == diedKernel && code == vecPrefetch {
		r.faultStatus, r.faultAddress = prefetchFault()
	} else if reason != diedExit && reason != diedWatchdog {
		r.faultStatus, r.faultAddress = dataFault()
	}
	if reason != diedExit {
		k.trace(r, sp)
	}
	for i := k.console.head - min(k.console.head, uint32(len(r.text))); i != k.console.head; i++ {
		r.text[r.textLen] = k.console.buf[i%consoleSize]
		r.textLen++
	}
}

// sealRecord makes the record valid and writes it through the cache.
func (k *kernel) sealRecord(r *crashRecord) {
	size := uint32(unsafe.Sizeof(*r))
	r.magic[0], r.magic[1], r.size = crashMagic0, crashMagic1, size
	r.crc = crc32(bytesAt(crashAddr()+crashHeader, size-crashHeader))
	for line := uint32(0); line < size; line += 64 {
		cleanLine(crashAddr() + line)
	}
	barrier()
}

// trace gathers return addresses from the stack at sp: words that point behind a
// call instruction of the image. Words that are not are data, and left alone.
func (k *kernel) trace(r *crashRecord, sp uint32) {
	const depth = 1024 // words looked at
	inKernel := sp >= regionVA
	for i := uint32(0); i < depth && r.traceLen < uint32(len(r.trace)); i++ {
		addr := sp&^3 + i*4
		if inKernel {
			if addr >= stackTop {
				return
			}
		} else if !k.canRead(addr, 4) {
			return
		}
		if pc := load(addr); k.returnAddress(pc) {
			r.trace[r.traceLen] = pc
			r.traceLen++
		}
	}
}

// returnAddress reports whether pc follows a BL or BLX in the image.
func (k *kernel) returnAddress(pc uint32) bool {
	if pc&3 != 0 || pc <= k.symbols.text || pc >= k.symbols.etext {
		return false
	}
	call := load(pc - 4)
	return call&0x0f000000 == 0x0b000000 || call&0x0ffffff0 == 0x012fff30
}

// readCrash takes over the record that the previous boot may have left. An image that
// starts another leaves it to that one too.
func (k *kernel) readCrash() {
	r := (*crashRecord)(at(crashAddr()))
	size := uint32(unsafe.Sizeof(*r))
	if r.magic[0] != crashMagic0 || !r.valid(size, crc32(bytesAt(crashAddr()+crashHeader, size-crashHeader))) {
		return
	}
	copy(bytesAt(uint32(uintptr(unsafe.Pointer(&k.crash))), size), bytesAt(crashAddr(), size))
	if k.next.End == 0 {
		r.magic[0] = 0
		cleanLine(crashAddr())
	}
}

// kernelFault is where an exception in the kernel ends. frame points to the
// return address and status, lr is the faulting code's.
func kernelFault(vec, frame, lr uint32) {
	k := state()
	k.dieAt(diedKernel, vec, load(frame), lr, frame+8, load(frame+4))
}

// watchdogInterrupt comes a second before the reset.
func (k *kernel) watchdogInterrupt() { k.die(diedWatchdog, 0) }
