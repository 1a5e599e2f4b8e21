package cycle

import (
	"testing"

	"nitro/boot/code"
)

// TestCause has the very steps of the machine name their causes.
func TestCause(t *testing.T) {
	at := func(p Phase) State { return State{Phase: p, Lines: All, Keeps: true, Goal: Run} }
	runs := View{Nets: Protect, Commanded: Protect, Power: true}
	held := View{Nets: All, Commanded: All, Power: true}
	dark, dipped := held, runs
	dark.Power, dipped.Dipped = false, true
	for _, c := range []struct {
		name string
		s    State
		e    Event
		want Cause
	}{
		{"the first look at a held host", at(Looking), Seen{held}, Started},
		{"a ticket that does not vouch", at(Checking), Failed{code.HostNotAdopted}, Started},
		{"a host that runs, and may", at(Looking), Seen{runs}, Unchanged},
		{"adopted", at(Adopting), Done{}, AdoptedIt},
		{"adopted without the TPM", at(Adopting), Failed{code.TPMUnanswered}, AdoptedIt},
		{"asked for a restart", at(Running), Asked{AskReset}, AskedReset},
		{"asked to run while held", at(Held), Asked{AskOn}, AskedOn},
		{"asked to run while it does", at(Running), Asked{AskOn}, Unchanged},
		{"asked to hold", at(Running), Asked{AskHold}, AskedHold},
		{"asked to hold in the middle of a cycle", at(Hashing), Asked{AskHold}, AskedHold},
		{"asked to hold once more", at(Holding), Asked{AskHold}, AskedHold},
		{"asked to force off", at(Running), Asked{AskForceOff}, AskedHold},
		{"refused", at(Hashing), Asked{AskReset}, Unchanged},
		{"asked to switch off", at(Running), Asked{AskOff}, Unchanged},
		{"and has", at(Stopping), Seen{dark}, SwitchedOff},
		{"and was reset instead", at(Stopping), Seen{dipped}, ResetItself},
		{"and has not", at(Stopping), Failed{code.HostPower}, Unchanged},
		{"lost its power", at(Running), Seen{dark}, LostPower},
		{"reset itself", at(Running), Seen{dipped}, ResetItself},
		{"runs on", at(Running), Seen{runs}, Unchanged},
		{"firmware that does not verify", at(Recovering), Failed{code.HostFirmware}, Stopped},
		{"power that does not come", at(Powering), Seen{dark}, Stopped},
		{"the TPM is lost in a cycle", at(Measuring), TPMLost{code.TPMSessionLost}, Stopped},
		{"the TPM is lost beside it", at(Running), TPMLost{code.TPMSessionLost}, Unchanged},
		{"lines that fight", at(Running), Seen{View{Commanded: All, Nets: Protect}}, Stopped},
		{"held, and on to the cycle", at(Holding), Seen{held}, Unchanged},
		{"held, and not seen", at(Holding), Seen{View{Fault: code.HostLinesUnreadable}}, Unchanged},
	} {
		_, a := Step(c.s, c.e)
		if got := CauseOf(c.s.Phase, c.e, a); got != c.want {
			t.Errorf("%s: %q, not %q (action %d)", c.name, got, c.want, a.Do)
		}
	}
}
