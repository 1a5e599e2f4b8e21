package kernel

import "unsafe"

// The frame that a signal handler gets (struct rt_sigframe, arch/arm/kernel/
// signal.h): siginfo, then ucontext, with the registers of the interrupted code
// and its floating-point state.
const (
	frameSize = infoSize + contextSize

	infoSize = 128
	infoCode = 8
	infoAddr = 12

	contextSize   = 744
	contextStack  = 8  // stack_t: pointer, flags, size
	contextTrap   = 20 // trap number, error code, old mask
	contextRegs   = 32 // as in [registers]
	contextFault  = 100
	contextMask   = 104
	contextVFP    = 232 // magic, size, d0 to d31, FPSCR
	vfpMagic      = 0x56465001
	vfpRecordSize = 0x118

	cpsrUser  = 0x10 // User mode, ARM state, interrupts on; FIQ masked
	cpsrFIQ   = 1 << 6
	cpsrFlags = 0xf80f0000 // N, Z, C, V, Q and GE are the program's
)

// maxDeliveries bounds the frames that one return to User mode builds; the rest
// follow at the next exception.
const maxDeliveries = 8

// deliverSignals has the running thread's handlers run for the signals that wait.
func (k *kernel) deliverSignals(t *thread) {
	for n := 0; k.deliverable(t); n++ {
		if n == maxDeliveries {
			k.work |= workSignals
			return
		}
		sig, code := k.nextSignal(t)
		if k.ignored(sig) {
			continue
		}
		k.deliver(t, sig, code, 0, 0)
	}
	k.restoreMask(t)
}

// raise delivers the signal of a fault. A program that does not handle it, or
// blocks it, dies of it.
func (k *kernel) raise(t *thread, sig, code, addr, status uint32) {
	if t.mask&bit(sig) != 0 || k.action[sig].handler <= actIgnore {
		k.die(diedSignal, sig)
	}
	k.deliver(t, sig, code, addr, status)
}

// deliver builds a frame on the thread's stack, or its signal stack, and makes
// the thread run the handler.
func (k *kernel) deliver(t *thread, sig, code, addr, status uint32) {
	a := &k.action[sig]
	if a.handler == actDefault {
		k.die(diedSignal, sig)
	}
	k.count.signals++
	if t.restart {
		// The interrupted call's thread stands at its SWI again.
		if a.flags&saRestart == 0 {
			t.regs.pc += 4
			t.regs.r[0] = eINTR
		}
		t.restart = false
	}
	sp := t.regs.r[13]
	if a.flags&saOnstack != 0 && t.altSize != 0 && !t.onAltStack() {
		sp = t.altStack + t.altSize
	}
	sp = (sp - frameSize) &^ 7
	if !k.canWrite(sp, frameSize) {
		k.die(diedSignal, sigSEGV)
	}
	clearBytes(sp, frameSize)
	store(sp, sig)
	store(sp+infoCode, code)
	if code == siUser || code == siTkill {
		store(sp+infoAddr, firstTid) // si_pid
	} else {
		store(sp+infoAddr, addr)
	}
	uc := sp + infoSize
	t.storeAltStack(uc + contextStack)
	store(uc+contextTrap+4, status)
	*(*registers)(at(uc + contextRegs)) = t.regs
	store(uc+contextFault, addr)
	was := t.mask
	if t.hasSaved {
		was, t.hasSaved = t.savedMask, false
	}
	store64(uc+contextMask, was)
	store(uc+contextVFP, vfpMagic)
	store(uc+contextVFP+4, vfpRecordSize)
	saveFPU((*[65]uint32)(at(uc + contextVFP + 8)))
	resetFPU()

	t.mask |= a.mask
	if a.flags&saNodefer == 0 {
		t.mask |= bit(sig)
	}
	t.regs.r[0], t.regs.r[1], t.regs.r[2] = sig, sp, uc
	t.regs.r[13], t.regs.r[14] = sp, k.symbols.signalReturn
	t.regs.pc = a.handler
	t.regs.cpsr = cpsrUser | cpsrFIQ
	if a.flags&saResethand != 0 {
		a.handler = actDefault
	}
}

// sysSigreturn puts back what deliver saved. The program may have changed it;
// what is not its business is not taken from it.
func (k *kernel) sysSigreturn(t *thread) uint32 {
	sp := t.regs.r[13]
	uc := sp + infoSize
	if sp&7 != 0 || !k.canRead(sp, frameSize) || load(uc+contextVFP) != vfpMagic || load(uc+contextVFP+4) != vfpRecordSize {
		k.die(diedSignal, sigSEGV)
	}
	t.regs = *(*registers)(at(uc + contextRegs))
	t.regs.cpsr = t.regs.cpsr&cpsrFlags | cpsrUser | cpsrFIQ
	t.mask = load64(uc+contextMask) &^ unblockable
	k.work |= workSignals
	loadFPU((*[65]uint32)(at(uc + contextVFP + 8)))
	return asIs
}

func (t *thread) onAltStack() bool {
	sp := t.regs.r[13]
	return t.altSize != 0 && sp > t.altStack && sp-t.altStack <= t.altSize
}

// storeAltStack writes the thread's stack_t.
func (t *thread) storeAltStack(addr uint32) {
	flags := uint32(0)
	if t.altSize == 0 {
		flags = ssDisable
	} else if t.onAltStack() {
		flags = ssOnstack
	}
	store(addr, t.altStack)
	store(addr+4, flags)
	store(addr+8, t.altSize)
}

func callSigaltstack(k *kernel, t *thread) uint32 {
	set, old := t.regs.r[0], t.regs.r[1]
	if !k.canRead(set, 12) && set != 0 || old != 0 && !inUserSpace(old, 12) {
		return eFAULT
	}
	var sp, flags, size uint32
	if set != 0 {
		sp, flags, size = load(set), load(set+4), load(set+8)
		switch {
		case t.onAltStack():
			return ePERM
		case flags > ssDisable:
			return eINVAL
		case flags == ssDisable:
			sp, size = 0, 0
		case size < minSigStack:
			return eNOMEM
		}
	}
	if old != 0 {
		if !k.canWrite(old, 12) {
			return eFAULT
		}
		t.storeAltStack(old)
	}
	if set != 0 {
		t.altStack, t.altSize = sp, size
	}
	return 0
}

func callSigaction(k *kernel, t *thread) uint32 {
	sig, set, old, size := t.regs.r[0], t.regs.r[1], t.regs.r[2], t.regs.r[3]
	const actionSize = uint32(unsafe.Sizeof(action{}))
	if size != 8 {
		return eINVAL
	}
	if set != 0 && !k.canRead(set, actionSize) {
		return eFAULT
	}
	if sig == 0 || sig > numSignals || set != 0 && bit(sig)&unblockable != 0 {
		return eINVAL
	}
	a := &k.action[sig]
	var n action
	if set != 0 {
		n = *(*action)(at(set))
		n.mask &^= unblockable
	}
	if old != 0 {
		if !k.canWrite(old, actionSize) {
			return eFAULT
		}
		*(*action)(at(old)) = *a
	}
	if set != 0 {
		*a = n
		if k.ignored(sig) {
			k.discard(sig)
		}
	}
	return 0
}

// discard forgets a signal wherever it is pending.
func (k *kernel) discard(sig uint32) {
	k.pending &^= bit(sig)
	for th := range uint32(MaxThreads) {
		k.thread[th].pending &^= bit(sig)
		k.thread[th].fromUser &^= bit(sig)
	}
}

func callSigprocmask(k *kernel, t *thread) uint32 {
	how, set, old, size := t.regs.r[0], t.regs.r[1], t.regs.r[2], t.regs.r[3]
	if size != 8 {
		return eINVAL
	}
	was := t.mask
	if set != 0 {
		if !k.canRead(set, 8) {
			return eFAULT
		}
		m := load64(set) &^ unblockable
		switch how {
		case 0:
			m |= was
		case 1:
			m = was &^ m
		case 2:
		default:
			return eINVAL
		}
		t.mask = m
		k.work |= workSignals
	}
	if old != 0 {
		if !k.canWrite(old, 8) {
			return eFAULT
		}
		store64(old, was)
	}
	return 0
}

func callTgkill(k *kernel, t *thread) uint32 {
	tgid, tid, sig := t.regs.r[0], t.regs.r[1], t.regs.r[2]
	if int32(tgid) <= 0 || int32(tid) <= 0 {
		return eINVAL
	}
	th, ok := k.byTid(tid)
	switch {
	case tgid != firstTid || !ok:
		return eSRCH
	case sig > numSignals:
		return eINVAL
	case sig != 0:
		k.post(th, sig, false)
	}
	return 0
}

func callKill(k *kernel, t *thread) uint32 {
	pid, sig := t.regs.r[0], t.regs.r[1]
	switch {
	case pid != firstTid && pid != 0 && pid != ^uint32(0):
		return eSRCH
	case sig > numSignals:
		return eINVAL
	case sig != 0:
		k.postProcess(sig)
	}
	return 0
}
