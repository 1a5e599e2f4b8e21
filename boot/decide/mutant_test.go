//go:build !arm

// What the mutants tell is about the tests, not about the machine.

package decide

import (
	"math/rand/v2"
	"strings"
	"testing"

	"nitro/boot/code"
	"nitro/boot/journal"
)

// mutants are mistakes that one can make, planted around Step, and the property that has
// to catch each of them.
var mutants = []struct {
	name  string
	catch string // the beginning of the property
	step  stepper
}{
	{"forgets to count", "no more attempts", func(s State, e Event) (State, Action) {
		s, a := Step(s, e)
		if s.Phase == Counting {
			s.Next.Slots[s.Slot].Attempts++
			a.Record = s.Next
		}
		return s, a
	}},
	{"counts after the load", "no more attempts", func(s State, e Event) (State, Action) {
		if l, ok := e.(Loaded); ok && s.Phase == Loading {
			s.Journal.Slots[s.Slot].Attempts--
			return Step(s, l)
		}
		s, a := Step(s, e)
		if s.Phase == Counting { // the load comes first, nothing is written
			s.Phase = Loading
			return s, Action{Do: Load, Slot: s.Slot}
		}
		return s, a
	}},
	{"does not count a load that fails", "no more attempts", func(s State, e Event) (State, Action) {
		if l, ok := e.(Loaded); ok && l.Code != code.None && s.Phase == Loading {
			s.Journal.Slots[s.Slot].Attempts++
		}
		return Step(s, e)
	}},
	{"three attempts for an unproven slot", "no more attempts", func(s State, e Event) (State, Action) {
		s, a := Step(s, e)
		if s.Phase == Activating {
			s.Next.Slots[s.Slot.Other()].Attempts = ProvenAttempts
			a.Record = s.Next
		}
		return s, a
	}},
	{"raises the floor to the running slot's version", "the floor rises only as far", func(s State, e Event) (State, Action) {
		if h, ok := e.(Healthy); ok && s.Phase == Running {
			h.Slots[s.Slot.Other()] = h.Slots[s.Slot]
			return Step(s, h)
		}
		return Step(s, e)
	}},
	{"never raises the floor", "the floor rises once", func(s State, e Event) (State, Action) {
		if h, ok := e.(Healthy); ok {
			h.Slots[0].Code = code.ImageUnreadable
			return Step(s, h)
		}
		return Step(s, e)
	}},
	{"runs what is below the floor", "nothing below the floor", func(s State, e Event) (State, Action) {
		if l, ok := e.(Loaded); ok && l.Code == code.BelowFloor {
			return Step(s, Loaded{Verdict{SecurityVersion: s.Floor}})
		}
		return Step(s, e)
	}},
	{"only logs that an image does not verify", "only what verifies", func(s State, e Event) (State, Action) {
		if l, ok := e.(Loaded); ok {
			return Step(s, Loaded{Verdict{SecurityVersion: max(l.SecurityVersion, s.Floor)}})
		}
		return Step(s, e)
	}},
	{"does not fall back", "a board with a good slot", func(s State, e Event) (State, Action) {
		s, a := Step(s, e)
		if s.Phase == Counting && s.Slot != s.Journal.Preferred {
			return s.rest()
		}
		return s, a
	}},
	{"gives no attempt back at rest", "a board with a good slot", func(s State, e Event) (State, Action) {
		s, a := Step(s, e)
		if s.Phase == Resting {
			s.Next.Slots = s.Journal.Slots
			a.Record = s.Next
		}
		return s, a
	}},
	{"tries again without rest", "no more attempts", func(s State, e Event) (State, Action) {
		s, a := Step(s, e)
		if s.Phase == Resting {
			s.Journal = s.Next
			return s.choose()
		}
		return s, a
	}},
	{"goes on after the rest", "a boot comes to an end", func(s State, e Event) (State, Action) {
		s, a := Step(s, e)
		if s.Phase == Quarantined {
			return s.choose()
		}
		return s, a
	}},
	{"takes an error of reading for final", "a board with a good slot", func(s State, e Event) (State, Action) {
		if l, ok := e.(Loaded); ok && l.Code == code.ImageUnreadable {
			l.Code = code.WrongProduct
			return Step(s, l)
		}
		return Step(s, e)
	}},
	{"makes a slot active that will not unseal", "only a slot is made active", func(s State, e Event) (State, Action) {
		if u, ok := e.(Updated); ok {
			u.Unseals = true
			return Step(s, u)
		}
		return Step(s, e)
	}},
	{"rolls back to what will not unseal", "only a slot is made active", func(s State, e Event) (State, Action) {
		if r, ok := e.(RollbackAsked); ok {
			r.Unseals = true
			return Step(s, r)
		}
		return Step(s, e)
	}},
	{"opens a slot before the running one is healthy", "a slot is overwritten only", func(s State, e Event) (State, Action) {
		if _, ok := e.(ClearAsked); !ok || s.Phase != Running {
			return Step(s, e)
		}
		next := s.Journal
		next.Slots[s.Slot.Other()] = journal.SlotState{}
		next.Preferred = s.Slot
		return s.write(Clearing, next)
	}},
	{"opens a slot without telling the journal", "a slot is overwritten only", func(s State, e Event) (State, Action) {
		s, a := Step(s, e)
		if s.Phase == Clearing {
			s.Phase, s.Next = Running, journal.State{}
			return s, Action{Do: Open, Slot: s.Slot.Other()}
		}
		return s, a
	}},
	{"keeps the updated slot proven", "what is proven", func(s State, e Event) (State, Action) {
		s, a := Step(s, e)
		if s.Phase == Activating {
			s.Next.Slots[s.Slot.Other()].Status = journal.Proven
			a.Record = s.Next
		}
		return s, a
	}},
	{"does not prefer an update", "a good update", func(s State, e Event) (State, Action) {
		s, a := Step(s, e)
		if s.Phase == Activating {
			s.Next.Preferred = s.Slot
			a.Record = s.Next
		}
		return s, a
	}},
	{"a healthy report does not refill", "a good update", func(s State, e Event) (State, Action) {
		s, a := Step(s, e)
		if s.Phase == Reporting {
			s.Next.Slots[s.Slot].Status, s.Next.Slots[s.Slot].Attempts = journal.Unproven, 0
			a.Record = s.Next
		}
		return s, a
	}},
}

// TestMutants: each mistake breaks the property that is there for it.
func TestMutants(t *testing.T) {
	for _, x := range mutants {
		m := &model{step: x.step, asks: true, fault: true}
		var longest int
		if x.name == "runs what is below the floor" { // nobody puts an old image there but who tampers
			if _, _, broken := m.boots(tampered()); !strings.HasPrefix(broken, x.catch) {
				t.Errorf("%s: %q", x.name, broken)
			}
			continue
		}
		n, broken, path := m.explore(fresh(), m.always(&longest))
		if broken == "" {
			t.Errorf("%s: not caught in %d states", x.name, n)
		} else if !strings.HasPrefix(broken, x.catch) {
			t.Errorf("%s: caught by %q, not by %q%s", x.name, broken, x.catch, show(path))
		}
	}
}

// TestForPeople: failures, versions and digests in the journal change no decision, and
// neither do those that the exploration leaves out.
func TestForPeople(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	noise := func(j *journal.State) {
		for i := range j.Slots {
			j.Slots[i].Failure, j.Slots[i].SecurityVersion = code.Code(r.IntN(3)*100), uint32(r.IntN(65))
			j.Slots[i].Digest[0] = byte(r.IntN(256))
		}
	}
	m := &model{asks: true, step: func(s State, e Event) (State, Action) {
		want, do := Step(s, e)
		noise(&s.Journal)
		noise(&s.Next)
		if p, ok := e.(PowerOn); ok {
			noise(&p.Journal)
			e = p
		}
		got, did := Step(s, e)
		for _, x := range []*State{&want, &got} {
			x.Journal, x.Next, x.Why = plain(x.Journal), plain(x.Next), code.None
		}
		for _, x := range []*Action{&do, &did} {
			x.Record = plain(x.Record)
			if x.Do == Quarantine {
				x.Code = code.None
			}
		}
		if got != want || did != do {
			t.Fatalf("%T in phase %d: %+v, %+v\nwith other notes %+v, %+v", e, s.Phase, want, do, got, did)
		}
		return got, did
	}}
	m.explore(fresh(), func(world) string { return "" })
}
