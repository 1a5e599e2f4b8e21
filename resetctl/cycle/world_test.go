package cycle

import "nitro/boot/code"

// A fault is what is wrong with the lines, from a moment on.
type fault uint8

const (
	none           fault = iota
	fightsPlatform       // the net is not held although it is commanded
	fightsBMC
	fightsHost
	fightsMux
	fightsProtect
	stuckPlatform // the net stays held although the line is let go
	stuckBMC
	stuckHost
	stuckMux
	disagree    // two inputs do
	unreadable  // the expander does not answer
	unprotected // the chip takes no protection
	faults
)

// A ticket is what the store has.
type ticket uint8

const (
	noTicket    ticket = iota
	staleTicket        // of an earlier cycle
	freshTicket        // of the last cycle
)

// base is the number of the last cycle in the store. All others are relative to it, or
// there would be no end of worlds.
const base = 10

// rooms is how many cycles a short log has room for, and endless is that of one without end:
// what ends by itself must not need a full log for that.
const (
	rooms   = 2
	endless = 255
)

// A world is a board and its host at one moment. What it remembers beyond that is what
// the properties speak of.
type world struct {
	s State
	a Action // that is under way

	keeps     bool  // a latch
	has       Lines // lines of the board
	cmd       Lines // what the driving parts hold
	power     bool
	fault     fault
	flash     bool // its static regions are good
	golden    bool // there is a good copy to recover from
	guarded   bool // the chip's block protection is set
	goal      Goal // in the store
	ticket    ticket
	nonce     bool  // the latch has the ticket's nonce
	room      uint8 // cycles that the log of this boot has room for
	rooms     uint8 // and that an empty one has
	nv        bool  // a latched code is in the TPM
	tpm       bool
	opened    bool  // this cycle's event was measured
	verified  bool  // the flash was hashed in this cycle, and nothing wrote since
	measured  uint8 // how often the digests were extended in this cycle
	legit     bool  // the host was released, verified in this cycle, and not held since
	mustAdopt bool  // the controller has started beside a host that it must leave alone
	broken    string
}

func (w *world) says(holds bool, property string) {
	if !holds && w.broken == "" {
		w.broken = property
	}
}

var fights = map[fault]Lines{fightsPlatform: Platform, fightsBMC: BMC, fightsHost: Host, fightsMux: Mux, fightsProtect: Protect}
var sticks = map[fault]Lines{stuckPlatform: Platform, stuckBMC: BMC, stuckHost: Host, stuckMux: Mux}

func (w *world) nets() Lines { return (w.cmd | sticks[w.fault]) &^ fights[w.fault] & w.has }

func (w *world) hostRuns() bool { return w.nets()&(Platform|Host) == 0 && w.power }

func (w *world) view() View {
	v := View{Commanded: w.cmd, Nets: w.nets(), Power: w.power}
	switch w.fault {
	case disagree:
		v.Fault = code.HostPinsDisagree
	case unreadable:
		v = View{Fault: code.HostLinesUnreadable}
	}
	return v
}

type stepper func(State, Event) (State, Action)

// A model is the step function and what can happen around it.
type model struct {
	step    stepper
	failing bool // actions fail by themselves
	faults  []fault
}

// do gives the machine an event, and checks what it wants to do then.
func (m *model) do(w world, e Event) world {
	before := w
	s, a := m.step(w.s, e)
	s.Why, a.Code = code.None, code.None // for people
	if s.TPM != code.None {
		s.TPM = code.TPMFailed
	}
	w.s = s
	w.judgeEvent(before, e, a)
	if a.Do != Nothing && a.Do != Refuse {
		w.a = a
		w.judgeAction()
	}
	if s.Phase != Quarantined { // the caller makes the goal durable when it changes
		if w.goal = StayHeld; s.Goal == Run {
			w.goal = Run
		}
	}
	if a.Do == Quarantine {
		// The caller holds at once; a latched code goes into the TPM.
		w.hold(All)
		if v, ok := e.(Seen); ok && (v.fighting() || v.Fault == code.HostPinsDisagree) {
			w.nv = true
		}
	}
	w.judgeRest()
	return w
}

// judgeEvent checks how the machine takes what happened.
func (w *world) judgeEvent(before world, e Event, a Action) {
	s, was := w.s, before.s
	switch e := e.(type) {
	case Seen:
		if was.Phase == Quarantined || was.Phase == Restarting || was.Phase == Off {
			return
		}
		w.says(!e.fighting() && e.Fault != code.HostPinsDisagree || s.Phase == Quarantined, "a line that fights or lies means quarantine")
		running := was.Phase == Running || was.Phase == Stopping
		w.says(!running || !e.Dipped && (e.Nets&Resets == 0 || e.Fault != code.None) || s.Phase == Holding || s.Phase == Quarantined, "a host that was reset is held")
		freeing := was.Phase >= HandingOver && was.Phase <= FreeingHost
		stuck := e.Fault == code.None && w.fault >= stuckPlatform && w.fault <= stuckMux && e.Nets&sticks[w.fault]&^e.Commanded != 0 && e.Commanded&Mux == 0 // else the latch was cleared
		w.says(!freeing || !stuck || s.Phase == Quarantined, "a stuck line means quarantine")
	case TPMLost:
		w.tpm = false
		w.says(was.Phase != Running && was.Phase != Stopping && was.Phase != Adopting || s.Phase == was.Phase, "a TPM that fails leaves a running host alone")
	case Asked:
		if was.Phase == Off || was.Phase == Quarantined {
			return
		}
		if e.Request == AskHold || e.Request == AskForceOff {
			w.says(a.Do == Hold, "holding is always possible")
		}
		if e.Request == AskOn || e.Request == AskReset {
			w.says(was.TPM == code.None || was.Phase != Running || s == was, "a request that would need the TPM is refused before the host is touched")
		}
	}
	w.says(was.Phase != Quarantined || s.Phase == Quarantined || s.Phase == Looking, "quarantine lasts")
}

// judgeAction checks an action before it is done.
func (w *world) judgeAction() {
	a := w.a
	touches := a.Do == Hold || a.Do == Own || a.Do == Release || a.Do == HandOver || a.Do == Quarantine || a.Do == Override || a.Do == Press
	w.says(!w.mustAdopt || !touches, "a restart of the controller leaves a verified host alone")
	switch a.Do {
	case Adopt:
		w.says(w.keeps && w.ticket == freshTicket && w.nonce && w.legit, "only the host that a ticket vouches for is adopted")
	case Count:
		w.says(a.Cycle == base+1, "each cycle has a number of its own")
		w.says(w.nets().Has(w.has&Resets) || w.fault != none, "a cycle begins with the host held")
		w.says(w.tpm, "no cycle begins that cannot be measured")
	case Open:
		w.says(a.Cycle == base && !w.opened, "the cycle's event comes first, and once")
	case Own, Recover, ProtectFlash, ReadBack, Hash:
		w.says(w.opened, "the cycle's event comes first, and once")
		w.says(w.cmd.Has(w.has&Resets), "the flash is the controller's only while all is held")
		w.says(a.Do == Own || w.nets().Has(Mux) || w.fault == fightsMux, "the flash is the controller's while it is verified")
	case Measure:
		w.says(w.opened && w.verified && w.measured == 0, "what was verified last is extended, once a cycle")
	case Arm:
		w.says(a.Cycle == base && w.measured == 1, "a ticket is written for what was measured")
	case HandOver, Release:
		w.says(w.verified && w.measured == 1 && w.guarded && w.cmd.Has(Protect), "the flash goes to the host verified, measured and protected")
		w.says(w.ticket == freshTicket, "the ticket is written before the release")
		w.says(w.tpm, "what cannot be measured is not released")
		w.says(a.Lines&BMC == 0 || w.nets()&Mux == 0, "the BMC is held until the multiplexer is gated")
		w.says(a.Lines&Host == 0 || w.cmd == Host|Protect && w.power, "the host's CPU is released last")
	}
}

// judgeRest checks the world itself.
func (w *world) judgeRest() {
	runs := w.s.Phase == Running || w.s.Phase == Stopping || w.s.Phase == Adopting
	w.says(!runs || w.legit || w.cmd.Has(Host), "what runs was verified in this cycle, or adopted by ticket")
	early := w.s.Phase == Off || w.s.Phase == Looking || w.s.Phase == Checking || w.a.Do == Hold
	w.says(runs || early || w.cmd.Has(Host) || w.a.Do == Release && w.legit, "what runs was verified in this cycle, or adopted by ticket")
	writes := w.nets()&(Host|Platform) == 0 && w.power || w.nets()&BMC == 0 && w.has&BMC != 0
	if writes && w.nets()&Mux == 0 && w.legit && w.fault != fightsProtect {
		w.says(w.guarded && w.nets().Has(Protect) && w.flash, "a running host cannot write its static flash")
	}
	w.says(w.s.Tries <= code.Retries+1 && w.s.Misses <= code.Retries+1, "retries are bounded")
}

// hold drives lines to held. The latch forgets its nonce.
func (w *world) hold(l Lines) {
	w.cmd |= l & w.has
	if l&Resets != 0 {
		w.nonce, w.legit = false, false
	}
}

// restart is one of the controller alone.
func (w world) restart() world {
	w.s, w.a, w.room, w.tpm, w.opened, w.mustAdopt = State{}, Action{}, w.rooms, true, false, false
	if !w.keeps {
		w.hold(All)
	}
	return w
}

// cut is one of the power of all.
func (w world) cut() world {
	w = w.restart()
	w.hold(All)
	w.power = false
	return w
}

// powerFails: the host's power goes, and a latch is cleared by it.
func (w world) powerFails() world {
	w.power = false
	if w.keeps {
		w.hold(All)
	}
	return w
}

func (m *model) boot(w world) world {
	e := Boot{Lines: w.has, Keeps: w.keeps, Cycle: base, Goal: w.goal}
	if w.nv {
		e.Why = code.HostLinesFighting
	}
	w.mustAdopt = w.keeps && w.legit && w.view().Running() && w.ticket == freshTicket && w.nonce && w.fault == none && !w.nv
	return m.do(w, e)
}

// counted makes the number of a new cycle durable.
func (w world) counted() world {
	w.s.Cycle -= w.a.Cycle - base
	w.a.Cycle = base
	if w.ticket == freshTicket {
		w.ticket = staleTicket
	}
	w.opened, w.verified, w.measured = false, false, 0
	return w
}

// An end is how an action ends: what it has done to the world, and what it says.
type end struct {
	w world
	e Event
}

// ends are the ways in which the action that is under way can end. The first one is the
// good one, where there is one.
func (m *model) ends(w world) (all []end) {
	add := func(w world, e Event) { all = append(all, end{w, e}) }
	seen := func(w world) { add(w, Seen{w.view()}) }
	// fails ends the action with a failure by itself; works, if something has to be so,
	// and with a failure if it is not.
	fails := func(w world, c code.Code) {
		if m.failing {
			add(w, Failed{c})
		}
	}
	works := func(so bool, done world, c code.Code) {
		if so {
			add(done, Done{})
			fails(w, c)
		} else {
			add(w, Failed{c})
		}
	}
	measure := func(done world) {
		if w.tpm {
			add(done, Done{})
		}
		if x := w; m.failing || !w.tpm {
			x.tpm = false
			add(x, Failed{code.TPMUnanswered})
		}
	}
	done := w
	switch w.a.Do {
	case Look, Watch:
		seen(w)
	case Check:
		if w.ticket == freshTicket && w.nonce && w.keeps {
			add(w, Done{})
		} else {
			add(w, Failed{code.HostNotAdopted})
		}
	case Adopt:
		measure(done)
	case Hold:
		done.hold(Resets | Protect)
		seen(done)
		done.cmd = w.cmd | Host // not further: the power goes, or the expander
		done.nonce, done.legit = false, false
		seen(done)
	case Count:
		add(w.counted(), Done{})
		fails(w, code.StoreUnreadable)
	case Open:
		if w.room == 0 {
			add(w, Failed{code.LogFull})
			return all
		}
		if w.room != endless {
			done.room--
		}
		done.opened = true
		measure(done)
	case Own:
		done.hold(Mux)
		done.cmd &^= Protect
		done.verified = false
		works(done.nets().Has(Mux), done, code.HostFlash)
	case Recover:
		done.guarded, done.flash = false, w.flash || w.golden
		works(done.flash, done, code.HostFirmware)
		done.flash = false // and then something changes it
		add(done, Done{})
	case ProtectFlash:
		done.guarded = w.fault != unprotected
		done.hold(Protect)
		add(done, Done{})
		fails(w, code.HostFlash)
	case ReadBack:
		works(w.guarded, w, code.HostFlash)
	case Hash:
		done.verified = true
		works(w.flash, done, code.HostFirmware)
	case Measure:
		done.measured++
		measure(done)
	case Arm:
		done.ticket, done.nonce = freshTicket, true
		add(done, Done{})
		done.ticket, done.nonce = w.ticket, false
		fails(done, code.StoreUnreadable)
	case HandOver, Release:
		done.cmd &^= w.a.Lines
		if w.a.Do == HandOver {
			done.cmd &^= Mux
		}
		if w.a.Lines&Host != 0 {
			done.legit = w.verified && w.measured == 1 && w.guarded
		}
		seen(done)
		fails(w, code.HostLinesUnreadable)
	case PowerOn:
		done.power = true
		seen(done)
		if !w.power {
			fails(w, code.HostPower)
		}
	case Press:
		seen(w.powerFails())
		add(w, Failed{code.HostPower})
	case Override:
		seen(w.powerFails())
		seen(w)
		fails(w, code.HostPower)
	}
	return all
}

// happens gives what can happen from outside, at any time.
func (m *model) happens(w world, add func(world)) {
	w.mustAdopt = false
	for r := AskOn; r <= AskHold; r++ {
		add(m.do(w, Asked{r}))
	}
	add(m.do(w, TPMLost{code.TPMFailed}))
	if w.hostRuns() && w.power {
		v := w.view()
		v.Dipped = v.Fault == code.None
		if v.Dipped && (w.a.Do == Watch || w.a.Do == Press) {
			add(m.do(w, Seen{v}))
		}
		add(w.powerFails())
	}
	if w.nets().Has(Resets) && !w.power {
		x := w
		x.power = true
		add(x)
	}
	x := w
	if w.fault != none {
		x.fault = none
		add(x)
		return
	}
	for _, x.fault = range m.faults {
		add(x)
	}
}

// next gives all worlds that can follow: by themselves, and from outside.
func (m *model) next(w world) (inside, outside []world) {
	out := func(n world) { outside = append(outside, n) }
	out(w.cut())
	out(w.restart())
	if w.s.Phase == Off {
		out(m.boot(w))
		if w.keeps { // somebody releases a host that the controller does not watch
			w.hold(Resets)
			w.cmd, w.power, w.measured, w.verified = Protect, true, 0, false
			out(w)
		}
		return nil, outside
	}
	if w.a.Do == Restart {
		return nil, append(outside, w.restart())
	}
	// The caller tells how an action has ended before it tells anything else; only the power
	// and a restart come between.
	for _, end := range m.ends(w) {
		if n := m.do(end.w, end.e); n != w || w.a.Do != Watch && w.a.Do != Press {
			inside = append(inside, n)
		}
		out(end.w.cut())
		out(end.w.restart())
	}
	m.happens(w, out)
	return inside, outside
}
