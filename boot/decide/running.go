package decide

import (
	"nitro/boot/code"
	"nitro/boot/journal"
)

// asked is what a running controller reports and asks for.
func (s State) asked(e Event) (State, Action) {
	switch s.Phase {
	case Running:
	case Unrecorded:
		return s, Action{Do: Refuse, Code: code.JournalUnwritable}
	default:
		return s, Action{Do: Refuse, Code: code.UpdateUnsafe}
	}
	switch e := e.(type) {
	case Healthy:
		return s.healthy(e.Slots)
	case Held:
		return s.held(e.Code)
	case ClearAsked:
		return s.clear()
	case Updated:
		if s.Journal.Slots[s.Slot.Other()].Status != journal.Empty {
			return s, Action{Do: Refuse, Code: code.UpdateUnsafe}
		}
		return s.activate(e.Candidate, journal.Unproven)
	case RollbackAsked:
		other := s.Journal.Slots[s.Slot.Other()].Status
		if other == journal.Empty {
			return s, Action{Do: Refuse, Code: code.SlotEmpty}
		}
		return s.activate(e.Candidate, other)
	}
	return s, Action{}
}

// healthy makes the running slot proven and preferred, and then raises the floor as far
// as both slots satisfy. A second report of a boot must not undo an update.
func (s State) healthy(slots [2]Verdict) (State, Action) {
	if s.Healthy {
		return s, Action{}
	}
	next := s.Journal
	own := &next.Slots[s.Slot]
	own.Status, own.Attempts, own.Failure = journal.Proven, ProvenAttempts, code.None
	if v := slots[s.Slot]; v.Code == code.None {
		own.SecurityVersion, own.Digest = v.SecurityVersion, v.Digest
	}
	next.Preferred, next.Trying, next.Pending = s.Slot, journal.None, false
	s.Rise = 0
	if s.judge(slots[0]) == code.None && s.judge(slots[1]) == code.None && holds(next.Slots[s.Slot.Other()]) {
		s.Rise = min(slots[0].SecurityVersion, slots[1].SecurityVersion)
	}
	return s.write(Reporting, next)
}

// held gives the attempt back if the quarantine is one that the other slot would be in as
// well: the slot has not failed. A transient code may be the slot's own fault.
func (s State) held(c code.Code) (State, Action) {
	if s.Healthy || !s.Journal.Pending || c.Class() == code.Transient {
		return s, Action{}
	}
	next := s.Journal
	own := &next.Slots[s.Slot]
	own.Attempts = min(own.Attempts+1, journal.MaxAttempts)
	next.Trying, next.Pending = journal.None, false
	return s.write(Holding, next)
}

// clear lets the other slot be overwritten, if this one is sure to be there.
func (s State) clear() (State, Action) {
	if !s.Healthy || s.Journal.Slots[s.Slot].Status != journal.Proven {
		return s, Action{Do: Refuse, Code: code.UpdateUnsafe}
	}
	next := s.Journal
	next.Slots[s.Slot.Other()] = journal.SlotState{Status: journal.Empty}
	next.Preferred = s.Slot
	return s.write(Clearing, next)
}

// activate makes the other slot the preferred one. A bad slot that verifies now is one
// that nobody has tried.
func (s State) activate(c Candidate, status journal.Status) (State, Action) {
	if why := s.judge(c.Verdict); why != code.None {
		return s, Action{Do: Refuse, Code: why}
	}
	if !c.Unseals {
		return s, Action{Do: Refuse, Code: code.UnsealNotPredicted}
	}
	next := s.Journal
	slot := journal.SlotState{Status: journal.Unproven, Attempts: UnprovenAttempts, SecurityVersion: c.SecurityVersion, Digest: c.Digest}
	if status == journal.Proven {
		slot.Status, slot.Attempts = journal.Proven, ProvenAttempts
	}
	next.Slots[s.Slot.Other()] = slot
	next.Preferred = s.Slot.Other()
	return s.write(Activating, next)
}
