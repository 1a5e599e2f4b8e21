package resetctl

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"nitro/attest/eventlog"
	"nitro/attest/golden"
	"nitro/boot/code"
	"nitro/resetctl/cycle"
	"nitro/resetctl/ticket"
)

var kindNames = map[kind]string{bare: "bare pins", latched: "latch", expanded: "expander"}

// each runs a test on every kind of board.
func each(t *testing.T, f func(t *testing.T, k kind)) {
	for k := bare; k <= expanded; k++ {
		t.Run(kindNames[k], func(t *testing.T) { f(t, k) })
	}
}

// names are those of a log's events, in PCR 4 to 6.
func (r *rig) names() string {
	defer r.lock()()
	var names []string
	for _, e := range r.log.Events() {
		names = append(names, e.Name())
	}
	return strings.Join(names, " ")
}

const good = "host-cycle host-firmware bmc-firmware component"

// TestRelease: the order of everything, from held to running.
func TestRelease(t *testing.T) {
	each(t, func(t *testing.T, k kind) {
		r := newRig(t, k)
		r.fw.corrupt = true
		c := r.start(code.None)
		s := c.until(t, cycle.Running)
		c.stop()
		if s.State.Cycle != 42 || s.State.Adopted || !s.View.Running() || s.View.Owner() != cycle.TheHost || r.record != (Record{42, true}) {
			t.Errorf("%+v, record %+v", s, r.record)
		}
		if len(r.writes) != 1 || r.writes[0] != r.record {
			t.Errorf("the store was told %+v", r.writes)
		}
		if got, want := strings.Join(r.fw.calls, ", "), "own, recover, protect, protected, measure, hand over"; got != want {
			t.Errorf("the flash: %s; want %s", got, want)
		}
		if got, want := strings.Join(r.changes, ", "), "write protect released, write protect held, flash mux released, bmc reset released, platform reset released, power button released, power button held, host reset released"; got != want {
			t.Errorf("the lines: %s; want %s", got, want)
		}
		if got := r.names(); got != "host-cycle recovery host-firmware bmc-firmware component" {
			t.Errorf("measured: %s", got)
		}
		h, err := golden.CompareHost(r.log, golden.HostSet{Host: []eventlog.Firmware{{Digest: [32]byte{2}, Version: "F.30"}}, BMC: []eventlog.Firmware{{Digest: [32]byte{3}, Version: "2.14"}}})
		if err != nil || h.Number != 42 || h.Adopted || len(h.Recoveries) != 1 || r.log.Replay() != r.pcrs {
			t.Errorf("%+v, %v", h, err)
		}
	})
}

// TestRestart: the controller restarts while the host runs. Where lines keep their levels
// nothing on them moves; where they do not, the host is verified anew.
func TestRestart(t *testing.T) {
	each(t, func(t *testing.T, k kind) {
		r := newRig(t, k)
		c := r.start(code.None)
		c.until(t, cycle.Running)
		c.stop()
		r.restart()
		c = r.start(code.None)
		s := c.until(t, cycle.Running)
		c.stop()
		if k == bare {
			if s.State.Cycle != 43 || s.State.Adopted || r.names() != good {
				t.Errorf("%+v, measured %s", s, r.names())
			}
			return
		}
		if s.State.Cycle != 42 || !s.State.Adopted || len(r.changes) != 0 {
			t.Errorf("%+v, lines: %v", s, r.changes)
		}
		h, err := golden.LastHostCycle(r.log)
		if err != nil || !h.Adopted || h.Number != 42 || h.Firmware == nil || h.BMC == nil || len(h.Components) != 1 {
			t.Errorf("%+v, %v", h, err)
		}
		// And once more: the ticket is good until the cycle ends.
		r.restart()
		c = r.start(code.None)
		if s := c.until(t, cycle.Running); !s.State.Adopted || len(r.changes) != 0 {
			t.Errorf("a second time: %+v, lines: %v", s, r.changes)
		}
		if err := c.Ask(t.Context(), cycle.AskReset); err != nil {
			t.Fatal(err)
		}
		if s := c.runs(t, 43); s.State.Adopted {
			t.Errorf("after a reset: %+v", s)
		}
	})
}

// TestNotAdopted: a host that runs and that nothing vouches for is held, and verified.
func TestNotAdopted(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(r *rig)
		why    code.Code
	}{
		{"no ticket", func(r *rig) { r.ticket = nil }, code.HostNotAdopted},
		{"changed ticket", func(r *rig) { r.ticket[8] ^= 1 }, code.HostNotAdopted},
		{"older cycle", func(r *rig) { r.record.Cycle++ }, code.HostNotAdopted},
		{"latch without power", func(r *rig) { r.nonce = 0 }, code.HostLatchBroken},
		{"another nonce", func(r *rig) { r.nonce += 2 }, code.HostLatchBroken},
		{"BMC held meanwhile", func(r *rig) { r.nets[netBMC].latch = false }, code.HostLatchBroken},
		{"protection gone", func(r *rig) { r.nets[netProtect].latch = true }, code.HostLatchBroken},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, latched)
			run := r.start(code.None)
			run.until(t, cycle.Running)
			run.stop()
			r.restart()
			c.change(r)
			was := r.record.Cycle
			run = r.start(code.None)
			s := run.until(t, cycle.Running)
			run.stop()
			if s.State.Adopted || s.State.Cycle != was+1 || r.names() != good {
				t.Errorf("%+v, measured %s", s, r.names())
			}
			if !slices.Contains(r.whys, c.why) {
				t.Errorf("says %v, not %v", r.whys, c.why)
			}
			if len(r.changes) == 0 || !slices.Contains(r.changes, "host reset held") {
				t.Errorf("was not held: %v", r.changes)
			}
		})
	}
}

func at(b bool) *bool { return &b }

// TestLines: what is wrong with lines, and what comes of it.
func TestLines(t *testing.T) {
	for _, c := range []struct {
		name  string
		kind  kind
		fault func(r *rig)
		why   code.Code
	}{
		{"host reset shorted to released", bare, func(r *rig) { r.nets[netHost].short = at(true) }, code.HostLinesFighting},
		{"the same behind a latch", latched, func(r *rig) { r.nets[netHost].short, r.nets[netHost].other = at(true), nil }, code.HostLinesFighting},
		{"the same at an expander", expanded, func(r *rig) { r.nets[netHost].short = at(false) }, code.HostLinesFighting},
		{"BMC reset shorted", bare, func(r *rig) { r.nets[netBMC].short = at(true) }, code.HostLinesFighting},
		{"multiplexer shorted to the host", expanded, func(r *rig) { r.nets[netMux].short = at(false) }, code.HostLinesFighting},
		{"protection shorted to off", bare, func(r *rig) { r.nets[netProtect].short = at(true) }, code.HostLinesFighting},
		{"two inputs disagree", latched, func(r *rig) { r.nets[netHost].other = at(true) }, code.HostPinsDisagree},
		{"expander does not answer", expanded, func(r *rig) { r.gone.Store(true) }, code.HostLinesUnreadable},
		{"BMC reset stuck", bare, func(r *rig) { r.nets[netBMC].short = at(false) }, code.HostLineStuck},
		{"host reset stuck", latched, func(r *rig) { r.nets[netHost].short = at(false) }, code.HostLineStuck},
		{"multiplexer stuck", expanded, func(r *rig) { r.nets[netMux].short = at(true) }, code.HostLineStuck},
		{"platform reset stuck", bare, func(r *rig) { r.nets[netPlatform].short = at(false) }, code.HostLineStuck},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, c.kind)
			c.fault(r)
			run := r.start(code.None)
			s := run.until(t, cycle.Quarantined)
			err := run.Ask(t.Context(), cycle.AskOn)
			run.stop()
			if s.State.Why != c.why && !(c.why == code.HostLinesUnreadable && s.State.Why == code.HostLatchBroken) || code.Of(err) != s.State.Why {
				t.Errorf("%+v, want %v; asked on: %v", s, c.why, err)
			}
			if !slices.Equal(r.quarantined, []code.Code{s.State.Why}) {
				t.Errorf("told of %v", r.quarantined)
			}
			if strings.Contains(r.names(), "component") && c.why == code.HostLinesFighting {
				t.Error("went on to measure")
			}
		})
	}
}

// TestLater: the same once the host runs.
func TestLater(t *testing.T) {
	for _, c := range []struct {
		name  string
		kind  kind
		fault func(r *rig)
		phase cycle.Phase
		why   code.Code
	}{
		{"protection goes", bare, func(r *rig) { r.nets[netProtect].short = at(true) }, cycle.Quarantined, code.HostLinesFighting},
		{"inputs disagree", latched, func(r *rig) { r.nets[netBMC].other = at(false) }, cycle.Quarantined, code.HostPinsDisagree},
		{"expander goes", expanded, func(r *rig) { r.gone.Store(true) }, cycle.Quarantined, code.HostLinesUnreadable},
		{"the latch loses the protection", latched, func(r *rig) { r.nets[netProtect].latch = true }, cycle.Quarantined, code.HostLatchBroken},
		{"the host switches itself off", latched, func(r *rig) { r.powerOff() }, cycle.Held, code.None},
		{"the same, bare pins", bare, func(r *rig) { r.powerOff() }, cycle.Held, code.None},
		{"somebody holds the host for good", bare, func(r *rig) { r.nets[netHost].short = at(false) }, cycle.Quarantined, code.HostLineStuck},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, c.kind)
			run := r.start(code.None)
			run.until(t, cycle.Running)
			r.does(func() { c.fault(r) })
			s := run.until(t, c.phase)
			run.stop()
			if s.State.Why != c.why {
				t.Errorf("%+v, want %v", s, c.why)
			}
			if r.kind != expanded && r.nets[netHost].short == nil && !r.nets[netHost].held() {
				t.Error("the host is not held")
			}
			if c.phase == cycle.Held && r.record.Run {
				t.Error("the next boot would run it")
			}
		})
	}
}

// TestSelfReset: a host that was reset for a moment is verified anew.
func TestSelfReset(t *testing.T) {
	r := newRig(t, latched)
	run := r.start(code.None)
	run.until(t, cycle.Running)
	r.catch.Store(true)
	if s := run.runs(t, 43); s.State.Adopted {
		t.Errorf("%+v", s)
	}
}

// TestPower: it comes slowly, or not at all.
func TestPower(t *testing.T) {
	each(t, func(t *testing.T, k kind) {
		r := newRig(t, k)
		r.delay = powerLimit - time.Second
		r.start(code.None).until(t, cycle.Running)
		r = newRig(t, k)
		r.powers = false
		run := r.start(code.None)
		s := run.until(t, cycle.Held)
		if s.State.Why != code.HostPower || s.State.Cycle != 42+code.Retries || !r.record.Run {
			t.Errorf("%+v, record %+v", s, r.record)
		}
	})
}

// TestSlowNet: a net has time to follow, and no more.
func TestSlowNet(t *testing.T) {
	r := newRig(t, bare)
	r.nets[netHost].slow = Settle / 2
	r.start(code.None).until(t, cycle.Running)
	r = newRig(t, bare)
	r.nets[netMux].slow = 3 * Settle
	if s := r.start(code.None).until(t, cycle.Quarantined); s.State.Why != code.HostLineStuck {
		t.Errorf("%+v", s)
	}
}

// A bouncing input shows one level in a row of reads, and then the other.
type bouncing struct {
	reads int
	row   int
}

func (b *bouncing) High() bool {
	b.reads++
	return b.reads/b.row%2 == 1
}

// TestDebounce: a level counts when it was there three times in a row; a net that never
// comes to rest is one that nobody can judge.
func TestDebounce(t *testing.T) {
	for _, c := range []struct {
		row   int
		fault code.Code
	}{{1, code.HostPinsDisagree}, {Samples - 1, code.HostPinsDisagree}, {Samples + 1, code.None}} {
		r := newRig(t, bare)
		l := r.lines()
		l.BMC.Sense = Input(&bouncing{row: c.row})
		before := r.clock.Now()
		v, err := l.steady(t.Context(), &r.clock)
		if v.Fault != c.fault || (err == nil) != (c.fault == code.None) || r.clock.Now()-before > Settle+Sample {
			t.Errorf("%d in a row: %+v, %v", c.row, v, err)
		}
	}
}

// TestFirmware: what may be wrong with the flash.
func TestFirmware(t *testing.T) {
	for _, c := range []struct {
		name  string
		fault func(r *rig)
		why   code.Code
		tries uint64
		log   string // of the last cycle
	}{
		{"corrupt, and the golden copy too", func(r *rig) { r.fw.lost = true }, code.HostFirmware, 1 + code.Retries, "host-cycle"},
		{"changes between two reads", func(r *rig) { r.fw.changes = true }, code.HostFirmware, 1 + code.Retries, "host-cycle"},
		{"takes no protection", func(r *rig) { r.fw.open = true }, code.HostFlash, 1 + code.Retries, "host-cycle"},
		{"the TPM does not answer", func(r *rig) { r.tpmErr = code.TPMUnanswered.Errorf("PCR_Extend") }, code.TPMUnanswered, 1, ""},
		{"the TPM fails without a code", func(r *rig) { r.tpmErr = errors.New("bus") }, code.TPMUnanswered, 1, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, bare)
			c.fault(r)
			run := r.start(code.None)
			s := run.until(t, cycle.Held)
			run.stop()
			if s.State.Why != c.why || s.State.Cycle != 41+c.tries || !r.nets[netHost].held() || !r.record.Run {
				t.Errorf("%+v; want %v after %d cycles", s, c.why, c.tries)
			}
			if names := r.names(); !strings.HasSuffix(names, c.log) || strings.Contains(names, "firmware") {
				t.Errorf("measured %s", names)
			}
			if r.log.Replay() != r.pcrs {
				t.Error("the log does not replay")
			}
		})
	}
}

// TestStore: without the number of the last cycle nothing begins; without a new one no
// cycle does.
func TestStore(t *testing.T) {
	r := newRig(t, bare)
	r.store = code.StoreWorn.Errorf("card")
	c, err := New(Config{Lines: r.lines(), Firmware: &r.fw, Measurer: r, Store: r, Clock: &r.clock})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Run(t.Context()); code.Of(err) != code.StoreWorn || !r.nets[netHost].output || r.nets[netHost].high {
		t.Errorf("%v", err)
	}
	r = newRig(t, bare)
	run := r.start(code.None)
	run.until(t, cycle.Running)
	r.does(func() { r.store = code.StoreFull.Errorf("card") })
	if err := run.Ask(t.Context(), cycle.AskReset); err != nil {
		t.Fatal(err)
	}
	if s := run.until(t, cycle.Held); s.State.Why != code.StoreFull || s.State.Cycle != 42 {
		t.Errorf("%+v", s)
	}
	if strings.Count(r.names(), "host-cycle") != 1 {
		t.Errorf("measured %s", r.names())
	}
}

// TestTPMLost: a TPM that fails blocks the next release, and no more.
func TestTPMLost(t *testing.T) {
	r := newRig(t, latched)
	run := r.start(code.None)
	run.until(t, cycle.Running)
	if err := run.TPMLost(t.Context(), code.TPMUnanswered); err != nil {
		t.Fatal(err)
	}
	for _, q := range []cycle.Request{cycle.AskReset} {
		if err := run.Ask(t.Context(), q); code.Of(err) != code.TPMUnanswered {
			t.Errorf("asked %d: %v", q, err)
		}
	}
	if s := run.until(t, cycle.Running); s.State.Cycle != 42 || r.nets[netHost].held() {
		t.Errorf("%+v", s)
	}
	if err := run.Ask(t.Context(), cycle.AskHold); err != nil {
		t.Error(err)
	}
	run.until(t, cycle.Held)
	if err := run.Ask(t.Context(), cycle.AskOn); code.Of(err) != code.TPMUnanswered {
		t.Errorf("asked on: %v", err)
	}
}

// TestAdoptedWithoutTPM: the host that a ticket vouches for runs on, and that is all.
func TestAdoptedWithoutTPM(t *testing.T) {
	r := newRig(t, expanded)
	run := r.start(code.None)
	run.until(t, cycle.Running)
	run.stop()
	r.restart()
	r.tpmErr = errors.New("bus")
	run = r.start(code.None)
	if s := run.until(t, cycle.Running); !s.State.Adopted || s.State.TPM != code.TPMUnanswered || len(r.changes) != 0 {
		t.Errorf("%+v, lines: %v", s, r.changes)
	}
}

// TestAsk: what may be asked for, and what comes of it.
func TestAsk(t *testing.T) {
	each(t, func(t *testing.T, k kind) {
		r := newRig(t, k)
		r.record.Run = false
		run := r.start(code.None)
		run.until(t, cycle.Held)
		ask := func(q cycle.Request, p cycle.Phase) Status {
			t.Helper()
			if err := run.Ask(t.Context(), q); err != nil {
				t.Fatal(err)
			}
			return run.until(t, p)
		}
		ask(cycle.AskOff, cycle.Held)
		if s := ask(cycle.AskOn, cycle.Running); s.State.Cycle != 42 {
			t.Errorf("%+v", s)
		}
		if s := ask(cycle.AskOff, cycle.Held); s.View.Power {
			t.Errorf("asked to switch itself off: %+v", s)
		}
		ask(cycle.AskReset, cycle.Running)
		if s := ask(cycle.AskHold, cycle.Held); !s.View.Held(cycle.All) || !s.View.Power {
			t.Errorf("held: %+v", s)
		}
		if n, _ := r.Nonce(); n != 0 {
			t.Errorf("held, and the latch still has nonce %#x", n)
		}
		ask(cycle.AskOn, cycle.Running)
		r.does(func() { r.stops = false }) // only a long press does it
		if s := ask(cycle.AskForceOff, cycle.Held); s.View.Power {
			t.Errorf("forced off: %+v", s)
		}
		ask(cycle.AskOn, cycle.Running)
		if s := ask(cycle.AskOff, cycle.Stopping); s.State.Goal != cycle.StayHeld {
			t.Errorf("%+v", s)
		}
		if s := run.until(t, cycle.Running); s.State.Cycle != 45 { // a minute later
			t.Errorf("a host that does not switch itself off: %+v", s)
		}
	})
}

// TestHoldNow: holding does not wait for a flash that is being hashed; anything else is
// refused meanwhile.
func TestHoldNow(t *testing.T) {
	r := newRig(t, bare)
	r.fw.hang, r.fw.hashing, r.fw.heeds = make(chan struct{}), make(chan struct{}), true
	run := r.start(code.None)
	<-r.fw.hashing
	for _, q := range []cycle.Request{cycle.AskOn, cycle.AskReset, cycle.AskOff} {
		if err := run.Ask(t.Context(), q); code.Of(err) != code.HostBusy {
			t.Errorf("asked %d: %v", q, err)
		}
	}
	if err := run.Ask(t.Context(), cycle.AskHold); err != nil {
		t.Fatal(err)
	}
	if s := run.until(t, cycle.Held); s.State.Why != code.None || s.State.Goal != cycle.StayHeld {
		t.Errorf("%+v", s)
	}
}

// TestGivenUp: what does not return is given up, and nothing is released after it.
func TestGivenUp(t *testing.T) {
	r := newRig(t, bare)
	r.fw.hang, r.fw.hashing = make(chan struct{}), make(chan struct{})
	run := r.start(code.None)
	<-r.fw.hashing
	if err := run.Ask(t.Context(), cycle.AskHold); err != nil {
		t.Fatal(err)
	}
	run.until(t, cycle.Held)
	if err := run.Ask(t.Context(), cycle.AskOn); err != nil {
		t.Fatal(err)
	}
	run.await(t, "held by a flash that was given up", func(s Status) bool {
		return s.State.Phase == cycle.Held && s.State.Why == code.HostFlash && s.State.Tries > code.Retries
	})
	close(r.fw.hang)
}

// TestLogFull: the controller is to restart before a cycle that would not fit, with the
// host held.
func TestLogFull(t *testing.T) {
	r := newRig(t, latched)
	for r.log.Fits(largest...) {
		if err := r.log.Append(eventlog.Cap()); err != nil {
			t.Fatal(err)
		}
	}
	run := r.start(code.None)
	run.until(t, cycle.Restarting)
	if err := run.Ask(t.Context(), cycle.AskOn); code.Of(err) != code.LogFull {
		t.Error(err)
	}
	run.stop()
	if r.restarts != 1 || !r.record.Run || !r.nets[netHost].held() {
		t.Errorf("%d restarts, record %+v", r.restarts, r.record)
	}
	r.restart()
	r.start(code.None).until(t, cycle.Running)
}

// TestHeldByQuarantine: a controller that is in quarantine holds the host, whatever
// vouches for it.
func TestHeldByQuarantine(t *testing.T) {
	r := newRig(t, latched)
	run := r.start(code.None)
	run.until(t, cycle.Running)
	run.stop()
	r.restart()
	run = r.start(code.StoreRolledBack)
	if s := run.until(t, cycle.Quarantined); s.State.Why != code.StoreRolledBack {
		t.Errorf("%+v", s)
	}
	run.stop()
	if !r.nets[netHost].held() || r.nonce != 0 {
		t.Error("the host is not held")
	}
}

func TestNew(t *testing.T) {
	for name, change := range map[string]func(l *Lines){
		"no host":   func(l *Lines) { l.Host = nil },
		"no mux":    func(l *Lines) { l.Mux = nil },
		"no sense":  func(l *Lines) { l.BMC.Sense = nil },
		"no port":   func(l *Lines) { l.Protect.Port = nil },
		"no button": func(l *Lines) { l.Button.Port = nil },
		"no input":  func(l *Lines) { l.PowerGood.Sense = nil },
	} {
		l := newRig(t, bare).lines()
		change(l)
		if _, err := New(Config{Lines: l}); code.Of(err) != code.HostLinesMissing {
			t.Errorf("%s: %v", name, err)
		}
	}
	l := newRig(t, latched).lines()
	if !l.Keeps() || l.Has() != cycle.All {
		t.Error("a latch does not keep")
	}
	l.BMC.Kept = false
	if l.Keeps() {
		t.Error("keeps with one bare pin")
	}
	l.BMC, l.Button, l.PowerGood = nil, nil, nil
	c, err := New(Config{Lines: l})
	if err != nil || l.Has() != cycle.All&^cycle.BMC {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := c.Ask(ctx, cycle.AskOff); code.Of(err) != code.HostUnsupported {
		t.Error(err)
	}
	if err := c.Ask(ctx, cycle.AskHold); code.Of(err) != code.HostBusy {
		t.Error(err)
	}
}

// TestLargest: what a log has room for is what fits into a ticket.
func TestLargest(t *testing.T) {
	if len(largest) != 1+ticket.MaxEvents {
		t.Errorf("%d events", len(largest))
	}
	l := eventlog.New()
	for _, e := range largest {
		if err := l.Append(e); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("a cycle has at most %d bytes of log, of %d", len(l.Bytes())-len(eventlog.New().Bytes()), eventlog.MaxSize)
	k := testKey
	tk := ticket.Ticket{Cycle: 1<<64 - 1, Nonce: 1, Events: largest[1:]}
	if b, err := tk.Seal(&k); err != nil || len(b) > ticket.MaxSize {
		t.Errorf("%d bytes: %v", len(b), err)
	}
}

// starved is a clock by which much time passes between any two looks.
type starved struct{ *clock }

func (s starved) Sleep(ctx context.Context, d time.Duration) error {
	return s.clock.Sleep(ctx, d+2*Settle)
}

// TestStarved: lines that stand still have settled, however seldom the controller comes to
// look at them; lines that two inputs disagree on have not.
func TestStarved(t *testing.T) {
	for _, k := range []kind{bare, latched, expanded} {
		r := newRig(t, k)
		if v, err := r.lines().steady(t.Context(), starved{&r.clock}); v.Fault != code.None || err != nil {
			t.Errorf("kind %d: %+v, %v", k, v, err)
		}
	}
	r := newRig(t, latched)
	high := true
	r.nets[netBMC].other = &high
	before := r.clock.Now()
	if v, err := r.lines().steady(t.Context(), starved{&r.clock}); v.Fault != code.HostPinsDisagree || err == nil || r.clock.Now()-before < Looks*Settle {
		t.Errorf("inputs that disagree: %+v, %v", v, err)
	}
}
