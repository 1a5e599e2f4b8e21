package kernel

// An action is what a program wants done with a signal, laid out as Linux's struct
// sigaction (asm/signal.h).
type action struct {
	handler, flags, restorer uint32
	mask                     uint64
}

func bit(sig uint32) uint64 { return 1 << (sig - 1) }

const (
	actDefault = 0
	actIgnore  = 1
)

// unblockable are the signals that no mask holds.
const unblockable = 1<<(sigKILL-1) | 1<<(sigSTOP-1)

// ignored reports whether a signal has no effect. There is no job control: what
// would stop a process has none.
func (k *kernel) ignored(sig uint32) bool {
	switch k.action[sig].handler {
	case actIgnore:
		return true
	case actDefault:
		return sig >= sigCHLD && sig <= sigURG || sig == sigWINCH
	}
	return false
}

// post makes a signal pending for a thread, and ends its waiting.
func (k *kernel) post(th, sig uint32, fromUser bool) {
	t := &k.thread[th]
	if k.ignored(sig) && t.mask&bit(sig) == 0 {
		return
	}
	t.pending |= bit(sig)
	k.work |= workSignals
	if fromUser {
		t.fromUser |= bit(sig)
	}
	if t.state == threadWaiting && t.mask&bit(sig) == 0 {
		k.wake(th, bySignal)
	}
}

// postProcess makes a signal pending for any thread that does not block it, the
// running one if it can.
func (k *kernel) postProcess(sig uint32) {
	th := k.current
	if k.thread[th].mask&bit(sig) == 0 {
		k.post(th, sig, true)
		return
	}
	for th = range uint32(MaxThreads) {
		if t := &k.thread[th]; t.state != threadFree && t.mask&bit(sig) == 0 {
			k.post(th, sig, true)
			return
		}
	}
	k.pending |= bit(sig)
}

// nextSignal takes the lowest signal that is to be delivered to a thread. code
// tells who sent it.
func (k *kernel) nextSignal(t *thread) (sig, code uint32) {
	set := (t.pending | k.pending) &^ t.mask
	for sig = 1; set&1 == 0; sig++ {
		set >>= 1
	}
	code = siTkill
	if (t.fromUser|k.pending)&bit(sig) != 0 {
		code = siUser
	}
	if t.pending&bit(sig) != 0 {
		t.pending &^= bit(sig)
		t.fromUser &^= bit(sig)
	} else {
		k.pending &^= bit(sig)
	}
	return sig, code
}
