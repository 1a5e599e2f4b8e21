package kernel

import "testing"

func TestIgnoredSignals(t *testing.T) {
	k := new(kernel)
	none := map[uint32]bool{17: true, 18: true, 19: true, 20: true, 21: true, 22: true, 23: true, 28: true}
	for sig := uint32(1); sig <= numSignals; sig++ {
		k.action[sig].handler = actDefault
		if k.ignored(sig) != none[sig] {
			t.Errorf("signal %d by default: ignored is %v", sig, k.ignored(sig))
		}
		if k.action[sig].handler = actIgnore; !k.ignored(sig) {
			t.Errorf("signal %d is not ignored", sig)
		}
		if k.action[sig].handler = 0x80010000; k.ignored(sig) {
			t.Errorf("signal %d is ignored though it is handled", sig)
		}
	}
}

func TestPost(t *testing.T) {
	for _, c := range []struct {
		name           string
		ignore, mask   bool
		pending, woken bool
	}{
		{"handled", false, false, true, true},
		{"blocked", false, true, true, false},
		{"ignored", true, false, false, false},
		{"ignored and blocked", true, true, true, false}, // it may be handled when it is unblocked
	} {
		k := newKernel(t, 2)
		k.action[sigURG].handler = uint32(b2i(c.ignore))
		if !c.ignore {
			k.action[sigURG].handler = 0x80010000
		}
		th := k.current
		if c.mask {
			k.thread[th].mask = bit(sigURG)
		}
		k.park(nodeSeed, 100)
		k.reschedule(0)
		k.post(th, sigURG, false)
		if got := k.thread[th].pending == bit(sigURG); got != c.pending {
			t.Errorf("%s: pending is %v", c.name, got)
		}
		if got := k.thread[th].state == threadRunnable; got != c.woken || got && k.thread[th].woken != bySignal {
			t.Errorf("%s: woken is %v", c.name, got)
		}
	}
}

// TestPostProcess: a signal to the process goes to the running thread, else to one
// that does not block it, else it waits for any.
func TestPostProcess(t *testing.T) {
	k := newKernel(t, 3)
	k.action[sigURG].handler = 0x80010000
	a, b, c := &k.thread[k.current], &k.thread[k.current+1], &k.thread[k.current+2]
	for _, step := range []struct {
		blocked []*thread
		to      *uint64
	}{
		{nil, &a.pending}, {[]*thread{a}, &b.pending}, {[]*thread{a, b}, &c.pending}, {[]*thread{a, b, c}, &k.pending},
	} {
		for _, th := range []*thread{a, b, c} {
			th.mask, th.pending = 0, 0
		}
		for _, th := range step.blocked {
			th.mask = bit(sigURG)
		}
		k.postProcess(sigURG)
		if *step.to != bit(sigURG) {
			t.Errorf("with %d blocked it did not arrive", len(step.blocked))
		}
	}
	c.mask = 0
	if !k.deliverable(c) || k.deliverable(b) {
		t.Error("a waiting signal is not offered to who unblocks it")
	}
}

// TestNextSignal: the lowest first, each once, with the right sender.
func TestNextSignal(t *testing.T) {
	k := new(kernel)
	th := &k.thread[0]
	th.mask = bit(5)
	th.pending = bit(5) | bit(10) | bit(64)
	th.fromUser = bit(10)
	k.pending = bit(7) | bit(64)
	for _, want := range [][2]uint32{{7, siUser}, {10, siUser}, {64, siUser}, {64, siUser}} {
		sig, code := k.nextSignal(th)
		if sig != want[0] || code != want[1] {
			t.Errorf("signal %d code %d, not %d", sig, int32(code), want)
		}
	}
	if th.pending != bit(5) || k.pending != 0 || th.fromUser != 0 || k.deliverable(th) {
		t.Errorf("left: %#x, %#x, %#x", th.pending, k.pending, th.fromUser)
	}
	th.mask = 0
	if sig, code := k.nextSignal(th); sig != 5 || code != siTkill {
		t.Errorf("signal %d code %d", sig, int32(code))
	}
}
