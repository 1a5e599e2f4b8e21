package decide

import (
	"testing"

	"nitro/boot/code"
	"nitro/boot/journal"
)

// boots has a board boot until it runs or is in quarantine; verdicts are those of loads,
// in order.
func boots(t *testing.T, j journal.State, floor uint32, verdicts ...Verdict) (State, Action) {
	t.Helper()
	s, a := Step(State{}, PowerOn{Journal: j, Floor: floor})
	for range 30 {
		switch a.Do {
		case Write:
			s, a = Step(s, Written{})
		case Load:
			if len(verdicts) == 0 {
				t.Fatal("loads once more")
			}
			s, a = Step(s, Loaded{verdicts[0]})
			verdicts = verdicts[1:]
		default:
			if len(verdicts) > 0 {
				t.Errorf("%d loads fewer", len(verdicts))
			}
			return s, a
		}
	}
	t.Fatal("the boot does not end")
	return s, a
}

// TestCodes: what the journal and the quarantine say of a failure.
func TestCodes(t *testing.T) {
	unreadable, digest, old := Verdict{Code: code.ImageUnreadable}, Verdict{Code: code.ImageDigest}, Verdict{SecurityVersion: 3}
	proven := journal.Fresh()
	proven.Slots[journal.A] = journal.SlotState{Status: journal.Proven, Attempts: ProvenAttempts}
	crashed := journal.Fresh()
	crashed.Slots[0].Attempts, crashed.Slots[1].Attempts, crashed.Trying, crashed.Pending = 0, 0, journal.B, true
	for _, c := range []struct {
		name     string
		j        journal.State
		verdicts []Verdict
		do       Action
		a, b     journal.SlotState
	}{
		{"digest, then unreadable", journal.Fresh(), []Verdict{digest, unreadable}, Action{Do: Quarantine, Code: code.ImageDigest},
			journal.SlotState{Status: journal.Unproven, Attempts: 1, Failure: code.ImageDigest}, journal.SlotState{Status: journal.Unproven, Attempts: 1, Failure: code.ImageUnreadable}},
		{"below the floor", journal.Fresh(), []Verdict{old, digest}, Action{Do: Quarantine, Code: code.BelowFloor},
			journal.SlotState{Status: journal.Bad, Failure: code.BelowFloor}, journal.SlotState{Status: journal.Unproven, Attempts: 1, Failure: code.ImageDigest}},
		{"a proven slot three times, then the other", proven, []Verdict{digest, unreadable, unreadable, {SecurityVersion: 4}}, Action{Do: Run, Slot: journal.B},
			journal.SlotState{Status: journal.Proven, Failure: code.ImageUnreadable}, journal.SlotState{Status: journal.Unproven}},
		{"both have crashed", crashed, nil, Action{Do: Quarantine, Code: code.SlotsExhausted},
			journal.SlotState{Status: journal.Unproven, Attempts: 1}, journal.SlotState{Status: journal.Unproven, Attempts: 1, Failure: code.NotHealthy}},
	} {
		s, a := boots(t, c.j, 4, c.verdicts...)
		if a != c.do || s.Journal.Slots != [2]journal.SlotState{c.a, c.b} {
			t.Errorf("%s: %+v, %+v", c.name, a, s.Journal)
		}
	}
}

// running is a board that runs slot A healthily, with floor 4.
func running(t *testing.T) State {
	t.Helper()
	s, a := boots(t, journal.Fresh(), 4, Verdict{SecurityVersion: 5})
	s, a = Step(s, Healthy{[2]Verdict{{SecurityVersion: 5}, {Code: code.ImageUnreadable}}})
	if a.Do != Write {
		t.Fatal(a)
	}
	s, _ = Step(s, Written{})
	return s
}

func TestRefusals(t *testing.T) {
	young, _ := boots(t, journal.Fresh(), 4, Verdict{SecurityVersion: 5})
	s := running(t)
	cleared, _ := Step(s, ClearAsked{})
	cleared, a := Step(cleared, Written{})
	if a != (Action{Do: Open, Slot: journal.B}) {
		t.Fatal(a)
	}
	good := Verdict{SecurityVersion: 5}
	stuck, _ := Step(s, ClearAsked{})
	stuck, _ = Step(stuck, WriteFailed{})
	for _, c := range []struct {
		name string
		s    State
		e    Event
		code code.Code
	}{
		{"clear before healthy", young, ClearAsked{}, code.UpdateUnsafe},
		{"update of what was not cleared", s, Updated{Candidate{good, true}}, code.UpdateUnsafe},
		{"update that does not verify", cleared, Updated{Candidate{Verdict{Code: code.ImageSignature}, true}}, code.ImageSignature},
		{"update below the floor", cleared, Updated{Candidate{Verdict{SecurityVersion: 3}, true}}, code.BelowFloor},
		{"update that will not unseal", cleared, Updated{Candidate{good, false}}, code.UnsealNotPredicted},
		{"rollback to nothing", cleared, RollbackAsked{Candidate{good, true}}, code.SlotEmpty},
		{"rollback below the floor", s, RollbackAsked{Candidate{Verdict{SecurityVersion: 3}, true}}, code.BelowFloor},
		{"rollback that will not unseal", s, RollbackAsked{Candidate{good, false}}, code.UnsealNotPredicted},
		{"anything after a write that failed", stuck, ClearAsked{}, code.JournalUnwritable},
		{"anything in the bootloader", State{Phase: Loading}, ClearAsked{}, code.UpdateUnsafe},
	} {
		after, a := Step(c.s, c.e)
		if a != (Action{Do: Refuse, Code: c.code}) || after != c.s {
			t.Errorf("%s: %+v", c.name, a)
		}
	}
	// What a refused update leaves can be tried again.
	s, a = Step(cleared, Updated{Candidate{good, true}})
	s, b := Step(s, Written{})
	if a.Record.Preferred != journal.B || b != (Action{Do: Restart, Slot: journal.B}) {
		t.Errorf("%+v, then %+v", a, b)
	}
	// A second healthy report does not undo it.
	if _, a := Step(s, Healthy{}); a != (Action{}) {
		t.Errorf("second healthy report: %+v", a)
	}
}

// TestHeld: a quarantine that no other slot would be spared costs no attempt.
func TestHeld(t *testing.T) {
	s, _ := boots(t, journal.Fresh(), 4, Verdict{SecurityVersion: 5})
	if _, a := Step(s, Held{code.UnsealRefused}); a != (Action{}) {
		t.Errorf("transient: %+v", a)
	}
	s, a := Step(s, Held{code.StoreRolledBack})
	if a.Do != Write || a.Record.Slots[0].Attempts != 1 || a.Record.Pending {
		t.Errorf("latched: %+v", a)
	}
	if s, _ = Step(s, Written{}); s.Phase != Running {
		t.Errorf("goes on in phase %d", s.Phase)
	}
}
