// Package decide is what the boot chain decides: which slot is tried, how often, when a
// slot counts as proven, when one may be overwritten, and when the rollback floor rises.
// All of it is one function without side effects, [Step]: from a [State] and an [Event]
// to the next state and the [Action] that the caller carries out. The bootloader and the
// controller call it, and a test explores it exhaustively: every state that can be
// reached and every event, power cuts between any two steps among them.
//
// # The rules, and what each one answers
//
//   - An attempt is counted, durably, before it is made. An image that crashes, or hangs
//     until the watchdog resets the board, can therefore not be tried for ever. A load
//     that fails has used its attempt up too.
//   - A slot that was never healthy is tried once, a proven one three times in a row. Then
//     the other slot has its turn.
//   - What an authentic header says (another product, below the floor) is final, and the
//     slot is bad. Anything else that is wrong with an image may be an error of reading,
//     and costs the attempt only.
//   - When no slot has an attempt left the board goes into quarantine, and each slot that
//     is not bad or empty is given one attempt for the next power-on. So there is no
//     endless loop while the power is on, and no number of power cuts makes a board with a
//     good image useless.
//   - Nothing below the floor runs. The floor rises only as far as both slots, verified
//     anew, satisfy: nobody can strand a board by raising it.
//   - A slot is overwritten only while the other one runs, has reported itself healthy and
//     is proven; the journal says that it is empty before its first byte changes. So there
//     is a good image whenever the power goes.
//   - A slot is made active only if the store will open under it: an update, or a rollback
//     to what no sealing authority has approved, must not lock the owner out.
//   - The healthy report makes a slot proven and preferred.
//
// The journal is not authenticated (package journal). Whoever changes it can make the
// function choose another slot and nothing more: what a slot holds it learns from
// verification, and the floor from the TPM.
package decide

import (
	"nitro/boot/code"
	"nitro/boot/journal"
)

// Attempts in a row.
const (
	UnprovenAttempts = 1
	ProvenAttempts   = journal.MaxAttempts
)

// A Phase is how far a boot has come. It is gone when the power goes.
type Phase uint8

const (
	Off         Phase = iota // nothing has been decided yet
	Counting                 // the record of an attempt is being written
	Loading                  // a slot is being read and verified
	Resting                  // the record of a quarantine is being written
	Quarantined              // the bootloader has no slot to run
	Running                  // a slot runs
	Reporting                // the record of the healthy report is being written
	Raising                  // the floor is being raised
	Clearing                 // the record that empties the other slot is being written
	Activating               // the record that makes the other slot preferred is being written
	Holding                  // the record that gives an attempt back is being written
	Unrecorded               // a slot runs and the journal cannot be written: until a restart
)

// A State is all that the decisions rest on. It can be compared with ==.
type State struct {
	Phase   Phase
	Journal journal.State // the record that counts, and what this boot has learnt since
	Next    journal.State // the one being written, if the phase says so
	Slot    journal.Slot  // that is tried or runs
	Healthy bool          // it has reported itself healthy in this boot
	Floor   uint32        // the TPM's
	Rise    uint32        // what the floor will rise to, if that is above it
	Why     code.Code     // of the quarantine
}

// A Verdict is what the verification of a slot said, just now and as a bootloader does
// it: header, both signatures, floor, payload.
type Verdict struct {
	Code            code.Code // None: it may run
	SecurityVersion uint32
	Digest          [32]byte // SHA-256 of the payload
}

// An Event is what has happened.
type Event interface{ event() }

// The bootloader's events.
type (
	// PowerOn begins a boot.
	PowerOn struct {
		Journal journal.State // as journal.Open has it
		Floor   uint32        // as the TPM has it
		// TPM is why nothing can be measured or the floor is not known: TPMAbsent,
		// TPMNotFresh, ... A latched code is no reason: the controller runs, and is what
		// serves the quarantine.
		TPM code.Code
	}
	// Written: the record is durable.
	Written struct{}
	// WriteFailed: it may be or not.
	WriteFailed struct{}
	// Loaded: the slot was read and verified.
	Loaded struct{ Verdict }
)

// The controller's events, while it runs.
type (
	// Healthy: the controller has unsealed its store and serves. Slots are verdicts of
	// both slots, for the floor; one that has not been verified has a code.
	Healthy struct{ Slots [2]Verdict }
	// Raised: the TPM's floor is what it was to rise to, or could not be raised.
	Raised struct{ Floor uint32 }
	// Held: the controller has come up in quarantine.
	Held struct{ Code code.Code }
	// ClearAsked: the other slot is to be overwritten.
	ClearAsked struct{}
	// Updated: the other slot, which was cleared, has been written.
	Updated struct{ Candidate }
	// RollbackAsked: the other slot is to run again as it is.
	RollbackAsked struct{ Candidate }
)

// A Candidate is what is known of a slot that is to be made active.
type Candidate struct {
	Verdict
	// Unseals tells that both secrets of the store's key will unseal under it: there is an
	// approval by each authority for the PCRs that it will have.
	Unseals bool
}

func (PowerOn) event()       {}
func (Written) event()       {}
func (WriteFailed) event()   {}
func (Loaded) event()        {}
func (Healthy) event()       {}
func (Raised) event()        {}
func (Held) event()          {}
func (ClearAsked) event()    {}
func (Updated) event()       {}
func (RollbackAsked) event() {}

// A Do is a kind of action.
type Do uint8

const (
	Nothing    Do = iota // go on
	Write                // Record to the journal; then Written or WriteFailed
	Load                 // read and verify Slot; then Loaded
	Run                  // measure what was loaded of Slot, and jump into it
	Quarantine           // hold all and show Code, until the power is switched off
	Raise                // raise the TPM's floor to Floor; then Raised
	Open                 // Slot may be overwritten; then Updated, with its verdict
	Restart              // Slot is active: restart when it suits
	Refuse               // Code says why; nothing has changed
)

// An Action is what is to be done. Its fields are set as Do says.
type Action struct {
	Do     Do
	Slot   journal.Slot
	Record journal.State
	Floor  uint32
	Code   code.Code
}

// Step decides. An event that does not belong into the phase changes nothing.
func Step(s State, e Event) (State, Action) {
	switch e := e.(type) {
	case PowerOn:
		return powerOn(e)
	case Written:
		return s.written()
	case WriteFailed:
		return s.writeFailed()
	case Loaded:
		if s.Phase == Loading {
			return s.loaded(e.Verdict)
		}
	case Raised:
		if s.Phase == Raising {
			s.Phase, s.Floor = Running, max(s.Floor, e.Floor)
		}
	default:
		return s.asked(e)
	}
	return s, Action{}
}

// powerOn begins a boot. If the last one has not said that it was healthy, its slot has
// failed.
func powerOn(e PowerOn) (State, Action) {
	s := State{Journal: e.Journal, Slot: journal.None, Floor: e.Floor}
	if e.TPM != code.None {
		s.Phase, s.Why = Quarantined, e.TPM
		return s, Action{Do: Quarantine, Code: e.TPM}
	}
	if j := &s.Journal; j.Pending {
		j.Slots[j.Trying].Failure = code.NotHealthy
	}
	return s.choose()
}

// choose counts an attempt of the next slot, or gives up.
func (s State) choose() (State, Action) {
	s.Slot = journal.None
	for _, slot := range []journal.Slot{s.Journal.Preferred, s.Journal.Preferred.Other()} {
		if mayTry(s.Journal.Slots[slot]) {
			s.Slot = slot
			break
		}
	}
	if s.Slot == journal.None {
		return s.rest()
	}
	next := s.Journal
	next.Slots[s.Slot].Attempts--
	next.Trying, next.Pending = s.Slot, true
	return s.write(Counting, next)
}

func mayTry(slot journal.SlotState) bool { return holds(slot) && slot.Attempts > 0 }

// holds tells whether a slot has something that may run one day.
func holds(slot journal.SlotState) bool {
	return slot.Status == journal.Unproven || slot.Status == journal.Proven
}

// rest gives up for this boot, with an attempt for the next one. Its code is what was
// wrong with the preferred slot, if it was not loaded.
func (s State) rest() (State, Action) {
	s.Why = code.SlotsExhausted
	if f := s.Journal.Slots[s.Journal.Preferred].Failure; f != code.None && f != code.NotHealthy {
		s.Why = f
	}
	next := s.Journal
	next.Trying, next.Pending = journal.None, false
	for i := range next.Slots {
		if holds(next.Slots[i]) {
			next.Slots[i].Attempts = 1
		}
	}
	return s.write(Resting, next)
}

// write begins to write a record.
func (s State) write(p Phase, next journal.State) (State, Action) {
	s.Phase, s.Next = p, next
	return s, Action{Do: Write, Record: next}
}

// written goes on once the record is durable.
func (s State) written() (State, Action) {
	phase := s.Phase
	switch phase {
	case Counting, Resting, Reporting, Clearing, Activating, Holding:
		s.Journal, s.Next = s.Next, journal.State{}
		s.Phase = Running
	}
	switch phase {
	case Counting:
		s.Phase = Loading
		return s, Action{Do: Load, Slot: s.Slot}
	case Resting:
		s.Phase = Quarantined
		return s, Action{Do: Quarantine, Code: s.Why}
	case Reporting:
		s.Healthy = true
		if s.Rise > s.Floor {
			s.Phase = Raising
			return s, Action{Do: Raise, Floor: s.Rise}
		}
	case Clearing:
		return s, Action{Do: Open, Slot: s.Slot.Other()}
	case Activating:
		return s, Action{Do: Restart, Slot: s.Slot.Other()}
	}
	return s, Action{}
}

// writeFailed: an attempt that cannot be counted is not made, and a controller that
// cannot know which record counts changes nothing any more.
func (s State) writeFailed() (State, Action) {
	switch s.Phase {
	case Counting, Resting:
		s.Phase, s.Why = Quarantined, code.JournalUnwritable
		return s, Action{Do: Quarantine, Code: s.Why}
	case Reporting, Clearing, Activating, Holding:
		s.Phase = Unrecorded
		return s, Action{Do: Refuse, Code: code.JournalUnwritable}
	}
	return s, Action{}
}

// judge makes sure of the floor, whoever made the verdict.
func (s State) judge(v Verdict) code.Code {
	if v.Code == code.None && v.SecurityVersion < s.Floor {
		return code.BelowFloor
	}
	return v.Code
}

// final tells whether a code is what an authentic header says. Anything else may be an
// error of reading.
func final(c code.Code) bool {
	switch c {
	case code.BelowFloor, code.WrongProduct, code.WrongComponent, code.DevelopmentImage:
		return true
	}
	return false
}

// loaded runs what may run, and else tries what is left.
func (s State) loaded(v Verdict) (State, Action) {
	c := s.judge(v)
	if c == code.None {
		s.Phase = Running
		return s, Action{Do: Run, Slot: s.Slot}
	}
	slot := &s.Journal.Slots[s.Slot]
	slot.Failure = c
	if final(c) {
		slot.Status, slot.Attempts = journal.Bad, 0
	}
	s.Journal.Pending = false
	return s.choose()
}
