//go:build !arm

// What the mutants tell is about the tests, not about the machine.

package cycle

import (
	"strings"
	"testing"

	"nitro/boot/code"
)

// skip leaves a phase of the cycle out, as if its action had succeeded.
func skip(p Phase) stepper {
	return func(s State, e Event) (State, Action) {
		s, a := Step(s, e)
		if s.Phase == p {
			return Step(s, Done{})
		}
		return s, a
	}
}

// blind does not see a failure in a phase.
func blind(p Phase) stepper {
	return func(s State, e Event) (State, Action) {
		if _, ok := e.(Failed); ok && s.Phase == p {
			return Step(s, Done{})
		}
		return Step(s, e)
	}
}

// sees changes what the machine sees.
func sees(change func(s State, v *View)) stepper {
	return func(s State, e Event) (State, Action) {
		if v, ok := e.(Seen); ok {
			change(s, &v.View)
			return Step(s, v)
		}
		return Step(s, e)
	}
}

// mutants are mistakes that one can make, planted around Step, and the property that has
// to catch each of them.
var mutants = []struct {
	name  string
	catch string // the beginning of the property
	step  stepper
}{
	{"holds first and looks then", "a restart of the controller leaves", func(s State, e Event) (State, Action) {
		s, a := Step(s, e)
		if s.Phase == Looking {
			return s.hold()
		}
		return s, a
	}},
	{"never adopts", "a restart of the controller leaves", func(s State, e Event) (State, Action) {
		if _, ok := e.(Done); ok && s.Phase == Checking {
			return s.hold()
		}
		return Step(s, e)
	}},
	{"adopts without a ticket", "only the host that a ticket", blind(Checking)},
	{"does not look at the ticket", "only the host that a ticket", skip(Checking)},
	{"adopts on any board", "only the host that a ticket", func(s State, e Event) (State, Action) {
		if v, ok := e.(Seen); ok && s.Phase == Looking && v.Running() {
			s.Phase = Adopting
			return s, Action{Do: Adopt, Cycle: s.Cycle}
		}
		return Step(s, e)
	}},
	{"releases what runs already", "what runs was verified", func(s State, e Event) (State, Action) {
		if v, ok := e.(Seen); ok && s.Phase == Looking && v.Running() {
			return s.run()
		}
		return Step(s, e)
	}},
	{"goes on with the old number", "each cycle has a number", func(s State, e Event) (State, Action) {
		s, a := Step(s, e)
		if a.Do == Count {
			a.Cycle--
		}
		return s, a
	}},
	{"does not count", "the cycle's event comes first", skip(Counting)},
	{"does not measure the number", "the cycle's event comes first", skip(Opening)},
	{"does not own the flash", "the flash is the controller's while", skip(Owning)},
	{"recovers and does not protect", "a board without faults|a good host runs|the flash goes to the host verified", skip(Protecting)},
	{"does not read the protection back", "the flash goes to the host verified", skip(ReadingBack)},
	{"only logs that the protection is not there", "the flash goes to the host verified", blind(ReadingBack)},
	{"does not hash", "what was verified last is extended", skip(Hashing)},
	{"only logs that the hash is wrong", "what was verified last is extended", blind(Hashing)},
	{"hashes before it recovers", "what was verified last is extended|a running host cannot write", func(s State, e Event) (State, Action) {
		if _, ok := e.(Done); ok {
			switch s.Phase {
			case Owning:
				return s.to(Hashing, Hash)
			case Hashing:
				return s.to(Recovering, Recover)
			case ReadingBack:
				return s.to(Measuring, Measure)
			}
		}
		return Step(s, e)
	}},
	{"does not extend", "a ticket is written for what", skip(Measuring)},
	{"extends twice", "what was verified last is extended", func(s State, e Event) (State, Action) {
		if _, ok := e.(Done); ok && s.Phase == Measuring && s.Tries == 0 {
			s.Tries = 1
			return s.to(Measuring, Measure)
		}
		return Step(s, e)
	}},
	{"does not write the ticket", "the ticket is written before", skip(Arming)},
	{"releases the BMC before the flash is handed over", "the BMC is held until", func(s State, e Event) (State, Action) {
		if _, ok := e.(Done); ok && s.Phase == Arming {
			return s.release(FreeingBMC, BMC)
		}
		return Step(s, e)
	}},
	{"releases all at once", "the host's CPU is released last", func(s State, e Event) (State, Action) {
		s, a := Step(s, e)
		if a.Do == Release {
			a.Lines = Resets
		}
		return s, a
	}},
	{"releases without power", "the host's CPU is released last", func(s State, e Event) (State, Action) {
		s, a := Step(s, e)
		if s.Phase == Powering {
			return s.release(FreeingHost, Host)
		}
		return s, a
	}},
	{"tries again in the same cycle", "nothing goes on|the cycle's event|what was verified|the flash is the controller's|a board without", func(s State, e Event) (State, Action) {
		if f, ok := e.(Failed); ok && s.Phase == Hashing && f.Code == code.HostFirmware {
			return s.to(Recovering, Recover)
		}
		return Step(s, e)
	}},
	{"tries for ever", "retries are bounded|nothing goes on", func(s State, e Event) (State, Action) {
		s, a := Step(s, e)
		s.Tries = 0
		return s, a
	}},
	{"looks for ever", "nothing goes on|retries", func(s State, e Event) (State, Action) {
		s, a := Step(s, e)
		if s.Phase == Holding {
			s.Misses = 0
		}
		return s, a
	}},
	{"fights on", "a line that fights or lies", sees(func(s State, v *View) { v.Nets |= v.Commanded })},
	{"believes one of two inputs", "a line that fights or lies", sees(func(s State, v *View) {
		if v.Fault == code.HostPinsDisagree {
			v.Fault = code.None
		}
	})},
	{"waits for a stuck line", "a stuck line means", func(s State, e Event) (State, Action) {
		if v, ok := e.(Seen); ok && s.Phase == FreeingBMC && v.Nets.Has(BMC) && v.Fault == code.None && !v.fighting() {
			return s.failed(code.HostPower)
		}
		return Step(s, e)
	}},
	{"leaves quarantine when asked", "quarantine lasts|no cycle begins", func(s State, e Event) (State, Action) {
		if q, ok := e.(Asked); ok && s.Phase == Quarantined && q.Request == AskOn {
			s.Goal = Run
			return s.hold()
		}
		return Step(s, e)
	}},
	{"lets a host reset itself", "a host that was reset is held", sees(func(s State, v *View) { v.Dipped = false })},
	{"kills a running host when the TPM fails", "a TPM that fails leaves", func(s State, e Event) (State, Action) {
		if l, ok := e.(TPMLost); ok && s.Phase == Running {
			s.TPM = l.Code
			return s.hold()
		}
		return Step(s, e)
	}},
	{"does not mind that the TPM fails", "no cycle begins that cannot|what cannot be measured", func(s State, e Event) (State, Action) {
		if _, ok := e.(TPMLost); ok {
			return s, Action{}
		}
		return Step(s, e)
	}},
	{"resets a host that it cannot release again", "a request that would need the TPM", func(s State, e Event) (State, Action) {
		if q, ok := e.(Asked); ok && q.Request == AskReset && s.Phase == Running {
			return s.hold()
		}
		return Step(s, e)
	}},
	{"does not hold while it is busy", "holding is always possible", func(s State, e Event) (State, Action) {
		if q, ok := e.(Asked); ok && q.Request == AskHold && s.cycling() {
			return s, Action{Do: Refuse, Code: code.HostBusy}
		}
		return Step(s, e)
	}},
	{"does not run what it recovered", "a good host runs", func(s State, e Event) (State, Action) {
		if q, ok := e.(Asked); ok && q.Request == AskOn && s.Phase == Held {
			return s, Action{}
		}
		return Step(s, e)
	}},
	{"takes a cycle for held without the net", "a cycle begins with the host held|a line that fights|quarantine", func(s State, e Event) (State, Action) {
		if _, ok := e.(Asked); ok && s.Phase == Running {
			s, a := Step(s, e)
			if s.Phase == Holding && s.Goal == Run {
				return s.begin()
			}
			return s, a
		}
		return Step(s, e)
	}},
}

// TestMutants: each mistake breaks a property that is there for it.
func TestMutants(t *testing.T) {
	for _, x := range mutants {
		m, start := few(x.step)
		n, _, broken, path := m.check(start)
		if broken == "" {
			t.Errorf("%s: not caught in %d states", x.name, n)
			continue
		}
		caught := false
		for _, c := range strings.Split(x.catch, "|") {
			caught = caught || strings.HasPrefix(broken, c)
		}
		if !caught {
			t.Errorf("%s: caught by %q, not by %q%s", x.name, broken, x.catch, show(path))
		}
	}
}
