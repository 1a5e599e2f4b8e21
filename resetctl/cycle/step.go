package cycle

import "nitro/boot/code"

// Step decides. An event that does not belong into the phase changes nothing.
func Step(s State, e Event) (State, Action) {
	switch e := e.(type) {
	case Boot:
		return boot(e)
	case Seen:
		return s.seen(e.View)
	case Done:
		return s.done()
	case Failed:
		return s.failed(e.Code)
	case TPMLost:
		return s.tpmLost(e.Code)
	case Asked:
		return s.asked(e.Request)
	}
	return s, Action{}
}

// boot begins. Nothing is driven before the pins were looked at: on a board whose lines
// keep their levels the host may be running.
func boot(e Boot) (State, Action) {
	s := State{Lines: e.Lines, Keeps: e.Keeps, Cycle: e.Cycle, Goal: e.Goal}
	if e.Why != code.None {
		return s.quarantine(e.Why)
	}
	s.Phase = Looking
	return s, Action{Do: Look}
}

// cycling tells whether a cycle is on its way to the release.
func (s State) cycling() bool { return s.Phase >= Counting && s.Phase <= FreeingHost }

func (s State) quarantine(c code.Code) (State, Action) {
	s.Phase, s.Why, s.Adopted = Quarantined, c, false
	return s, Action{Do: Quarantine, Code: c}
}

func (s State) hold() (State, Action) {
	s.Phase, s.Adopted, s.Misses = Holding, false, 0
	return s, Action{Do: Hold}
}

// rest leaves the host held. The goal stays: a later boot may reach it.
func (s State) rest() (State, Action) {
	s.Phase, s.Misses = Held, 0
	if s.Goal == CutPower {
		s.Goal = StayHeld
	}
	return s, Action{Do: Watch, Code: s.Why}
}

func (s State) to(p Phase, d Do) (State, Action) {
	s.Phase = p
	return s, Action{Do: d}
}

func (s State) run() (State, Action) {
	s.Tries, s.Misses, s.Why = 0, 0, code.None
	return s.to(Running, Watch)
}

// seen judges what the pins show.
func (s State) seen(v View) (State, Action) {
	switch s.Phase {
	case Off, Quarantined, Restarting:
		return s, Action{}
	}
	if v.Fault == code.HostLinesUnreadable {
		return s.unreadable()
	}
	s.Misses = 0
	switch {
	case v.Fault != code.None:
		return s.quarantine(v.Fault)
	case v.fighting():
		return s.quarantine(code.HostLinesFighting)
	}
	switch s.Phase {
	case Looking:
		return s.looked(v)
	case Holding, Cutting, Held:
		return s.seenHeld(v)
	case HandingOver, FreeingBMC, FreeingPlatform, Powering, FreeingHost:
		return s.seenFreeing(v)
	case Running, Stopping:
		return s.seenRunning(v)
	}
	return s, Action{}
}

// unreadable looks again, at most Retries times: an expander may miss a transfer, and a
// running host must not die of it.
func (s State) unreadable() (State, Action) {
	s.Misses++
	if s.Misses > code.Retries {
		return s.quarantine(code.HostLinesUnreadable)
	}
	switch s.Phase {
	case Looking:
		return s, Action{Do: Look}
	case Running, Stopping, Held:
		return s, Action{} // the next view comes by itself
	case Holding:
		return s, Action{Do: Hold}
	}
	return s.failed(code.HostLinesUnreadable)
}

// looked is the first look of a boot.
func (s State) looked(v View) (State, Action) {
	if s.Keeps && v.Running() && !v.Dipped {
		s.Phase = Checking
		return s, Action{Do: Check, Cycle: s.Cycle}
	}
	if s.Keeps && !v.Held(s.Lines) {
		s.Why = code.HostLatchBroken
	}
	return s.hold()
}

// seenHeld goes on once all that holds is commanded and seen to hold. A net that something
// else holds while the driving part does not is not the controller's.
func (s State) seenHeld(v View) (State, Action) {
	switch {
	case !(v.Nets & v.Commanded).Has(s.Lines&Resets | Protect):
		return s.quarantine(code.HostLatchBroken)
	case s.Phase == Held:
		return s, Action{}
	case s.Phase == Cutting:
		if v.Power {
			s.Why = code.HostPower
		}
		return s.rest()
	case s.Goal == CutPower && v.Power:
		return s.to(Cutting, Override)
	case s.Goal == Run && s.Tries <= code.Retries:
		return s.begin()
	}
	return s.rest()
}

// begin begins a cycle, if its measurements can be made.
func (s State) begin() (State, Action) {
	if s.TPM != code.None {
		s.Why = s.TPM
		return s.rest()
	}
	s.Phase = Counting
	return s, Action{Do: Count, Cycle: s.Cycle + 1}
}

// release lets a line go, or goes on where the board does not have it.
func (s State) release(p Phase, l Lines) (State, Action) {
	if s.Lines&l == 0 {
		return s.released(p)
	}
	s.Phase = p
	return s, Action{Do: Release, Lines: l}
}

// released goes on behind a line that was let go.
func (s State) released(p Phase) (State, Action) {
	switch p {
	case FreeingBMC:
		return s.release(FreeingPlatform, Platform)
	case FreeingPlatform:
		return s.to(Powering, PowerOn)
	case Powering:
		return s.release(FreeingHost, Host)
	}
	return s.run()
}

// still are the lines that hold before the host runs, in each phase of the release.
var still = map[Phase]Lines{
	HandingOver: Resets | Protect, FreeingBMC: Platform | Host | Protect, FreeingPlatform: Host | Protect,
	Powering: Host | Protect, FreeingHost: Protect,
}

// seenFreeing goes on with the release if the lines are as they have to be by now.
func (s State) seenFreeing(v View) (State, Action) {
	want := still[s.Phase] & s.Lines
	switch {
	case !v.Nets.Has(want): // let go by something that does not fight: the latch has lost it
		return s.quarantine(code.HostLatchBroken)
	case v.Nets&^want != 0 && v.Commanded&^want == 0:
		return s.quarantine(code.HostLineStuck)
	case v.Nets&^want != 0:
		return s.failed(code.HostLatchBroken) // the host's power went, and the latch with it
	case s.Phase == Powering && !v.Power:
		return s.failed(code.HostPower)
	case s.Phase == HandingOver:
		return s.release(FreeingBMC, BMC)
	}
	return s.released(s.Phase)
}

// seenRunning watches a host that runs.
func (s State) seenRunning(v View) (State, Action) {
	switch {
	case !v.Nets.Has(Protect):
		return s.quarantine(code.HostLatchBroken)
	case !v.Power: // it has switched itself off, and the latch has cleared itself
		s.Goal = StayHeld
		return s.hold()
	case v.Dipped || v.Nets&(Resets|Mux) != 0: // reset by itself, or by somebody else
		return s.hold()
	}
	return s, Action{}
}

// done goes on when an action has succeeded.
func (s State) done() (State, Action) {
	switch s.Phase {
	case Checking:
		s.Phase = Adopting
		return s, Action{Do: Adopt, Cycle: s.Cycle}
	case Adopting:
		return s.adopted()
	case Counting:
		s.Cycle++
		s.Phase = Opening
		return s, Action{Do: Open, Cycle: s.Cycle}
	case Opening:
		return s.to(Owning, Own)
	case Owning:
		return s.to(Recovering, Recover)
	case Recovering:
		return s.to(Protecting, ProtectFlash)
	case Protecting:
		return s.to(ReadingBack, ReadBack)
	case ReadingBack:
		return s.to(Hashing, Hash)
	case Hashing:
		return s.to(Measuring, Measure)
	case Measuring:
		s.Phase = Arming
		return s, Action{Do: Arm, Cycle: s.Cycle}
	case Arming:
		return s.to(HandingOver, HandOver)
	}
	return s, Action{}
}

// adopted: the host that runs is the one that was verified.
func (s State) adopted() (State, Action) {
	s.Adopted, s.Goal = true, Run
	return s.run()
}

// ofTPM tells whether a code says that nothing can be measured any more: the TPM's own, and
// an event that was perhaps extended (then no log replays).
func ofTPM(c code.Code) bool {
	return c >= code.TPMAbsent && c <= code.TPMEntropyAbsent || c == code.LogDoesNotReplay
}

// failed is an action that did not succeed.
func (s State) failed(c code.Code) (State, Action) {
	switch s.Phase {
	case Checking:
		s.Why = c
		return s.hold()
	case Adopting: // it runs, and was verified; but this boot can say so to nobody
		s.TPM = c
		return s.adopted()
	case Stopping:
		s.Goal, s.Phase = Run, Running
		return s, Action{Do: Watch, Code: c}
	case Cutting:
		s.Why = c
		return s.rest()
	case Looking, Holding:
		return s.quarantine(c)
	}
	if !s.cycling() {
		return s, Action{}
	}
	switch {
	case s.Phase == Opening && c == code.LogFull:
		s.Phase = Restarting
		return s, Action{Do: Restart, Code: c}
	case ofTPM(c):
		return s.tpmLost(c)
	case c.Class() == code.Latched:
		return s.quarantine(c)
	}
	s.Tries++
	s.Why = c
	return s.hold()
}

// tpmLost stops a cycle that is under way, and disturbs nothing else.
func (s State) tpmLost(c code.Code) (State, Action) {
	if s.Phase == Off || s.Phase == Quarantined {
		return s, Action{}
	}
	s.TPM = c
	if s.cycling() {
		s.Why = c
		return s.hold()
	}
	return s, Action{}
}

// asked does what is asked for, if that is possible now.
func (s State) asked(r Request) (State, Action) {
	refuse := func(c code.Code) (State, Action) { return s, Action{Do: Refuse, Code: c} }
	switch {
	case s.Phase == Quarantined:
		return refuse(s.Why)
	case s.Phase == Off:
		return refuse(code.HostBusy)
	case r == AskHold, r == AskForceOff:
		s.Goal, s.Tries, s.Why = StayHeld, 0, code.None
		if r == AskForceOff {
			s.Goal = CutPower
		}
		return s.hold()
	case s.Phase == Restarting:
		return refuse(code.LogFull)
	}
	switch {
	case r == AskOff && s.Phase == Running:
		s.Goal = StayHeld
		return s.to(Stopping, Press)
	case r == AskOff && s.Phase == Held, r == AskOn && s.Phase == Running:
		return s, Action{}
	case s.Phase != Running && s.Phase != Held:
		return refuse(code.HostBusy)
	case s.TPM != code.None:
		return refuse(s.TPM)
	}
	s.Goal, s.Tries, s.Why = Run, 0, code.None
	return s.hold()
}
