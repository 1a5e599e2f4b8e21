package decide

import (
	"nitro/boot/code"
	"nitro/boot/journal"
)

// A content is what a slot really holds.
type content uint8

const (
	none    content = iota
	torn            // the power went while it was written, or someone changed it
	alien           // authentic, for another product
	good1           // of security version 1
	good2           // of security version 2
	crash2          // authentic, and the controller dies
	locked2         // runs, but the store does not open under it
	contents
)

func (c content) version() uint32 {
	switch c {
	case good1:
		return 1
	case good2, crash2, locked2:
		return 2
	}
	return 0
}

func (c content) good() bool    { return c == good1 || c == good2 }
func (c content) unseals() bool { return c != locked2 }

// verify is what an honest verification says.
func (c content) verify(floor uint32) Verdict {
	v := Verdict{SecurityVersion: c.version()}
	switch {
	case c == none || c == torn:
		v.Code = code.ImageDigest
	case c == alien:
		v.Code = code.WrongProduct
	case c.version() < floor:
		v.Code = code.BelowFloor
	}
	return v
}

// A world is a board, its medium and its TPM at one moment. What it remembers beyond that
// is what the properties speak of.
type world struct {
	s     State
	a     Action // that is under way
	disk  journal.State
	slots [2]content
	floor uint32

	proved [2]bool  // what is in the slot was healthy once
	allow  [2]uint8 // attempts that the rules still give the slot
	loads  uint8    // in this boot
	ask    ask      // why the record is being written
	active want     // the slot that was made active and has not been tried yet
	broken string   // the property that does not hold
}

// A want is a slot, or none: journal.Slot with a zero value for none.
type want uint8

const (
	wantNone want = iota
	wantA
	wantB
)

// A key tells worlds apart, in little room: millions of them are kept.
type key struct {
	disk, journal, next uint32
	state, slots, ghost uint32
}

// bits packs numbers of at most width bits each.
func bits(width int, numbers ...uint32) (packed uint32) {
	for _, n := range numbers {
		if n >= 1<<width {
			panic("a number has more bits than the key has for it")
		}
		packed = packed<<width | n
	}
	return packed
}

func bit(b bool) uint32 {
	if b {
		return 1
	}
	return 0
}

func pack(j journal.State) uint32 {
	a, b := j.Slots[0], j.Slots[1]
	return bits(2, uint32(j.Preferred), uint32(j.Trying)&3, bit(j.Pending),
		uint32(a.Status), uint32(a.Attempts), uint32(b.Status), uint32(b.Attempts))
}

func (w *world) key() key {
	s := &w.s
	return key{
		disk: pack(w.disk), journal: pack(s.Journal), next: pack(s.Next),
		state: bits(4, uint32(s.Phase), uint32(s.Slot)&3, bit(s.Healthy), s.Floor, s.Rise, uint32(w.a.Do), uint32(w.a.Slot)&3, w.a.Floor),
		slots: bits(4, uint32(w.slots[0]), uint32(w.slots[1]), w.floor, bit(w.proved[0]), bit(w.proved[1]), bit(w.broken != "")),
		ghost: bits(4, uint32(w.allow[0]), uint32(w.allow[1]), uint32(w.loads), uint32(w.ask), uint32(w.active)),
	}
}

// plain leaves out of a record what is for people only: no decision depends on it, as
// TestForPeople shows, and there would be many more worlds.
func plain(j journal.State) journal.State {
	for i := range j.Slots {
		j.Slots[i].Failure, j.Slots[i].SecurityVersion, j.Slots[i].Digest = code.None, 0, [32]byte{}
	}
	return j
}

// An ask is an event by which a record came to be written.
type ask uint8

const (
	askNothing ask = iota
	askHealthy
	askHeld
	askClear
	askUpdate
	askRollback
)

type stepper func(State, Event) (State, Action)

// A model is the step function and what can happen around it.
type model struct {
	step  stepper
	asks  bool // updates and rollbacks are asked for
	fault bool // loads fail by themselves, and writes too
}

// says notes a property that does not hold.
func (w *world) says(holds bool, property string) {
	if !holds && w.broken == "" {
		w.broken = property
	}
}

// do gives the machine an event, and checks what it wants to do then.
func (m *model) do(w world, e Event, a ask) world {
	w.s, w.a = m.step(w.s, e)
	w.s.Journal, w.s.Next, w.a.Record = plain(w.s.Journal), plain(w.s.Next), plain(w.a.Record)
	w.s.Why, w.a.Code, w.ask = code.None, code.None, a
	switch w.a.Do {
	case Load:
		x := w.a.Slot
		w.active = wantNone
		w.says(w.allow[x] > 0, "no more attempts than one for an unproven slot and three in a row for a proven one, counted before")
		w.allow[x] -= min(w.allow[x], 1)
		w.says(w.loads < 6, "a boot comes to an end")
		w.loads = min(w.loads+1, 6)
	case Run:
		c := w.slots[w.a.Slot]
		w.says(c.verify(0).Code == code.None, "only what verifies runs")
		w.says(c.version() >= w.floor, "nothing below the floor runs")
	case Raise:
		w.says(w.a.Floor > w.floor, "the floor rises")
		for _, c := range w.slots {
			v := c.verify(w.a.Floor)
			w.says(v.Code == code.None, "the floor rises only as far as both slots satisfy")
		}
	case Open:
		w.says(w.a.Slot == w.s.Slot.Other() && w.proved[w.s.Slot] && w.disk.Slots[w.a.Slot].Status == journal.Empty && w.disk.Preferred == w.s.Slot,
			"a slot is overwritten only when the other one is proven and preferred, and the journal says that it is empty")
	}
	return w
}

// commit makes the record that is being written durable.
func (w world) commit() world {
	w.disk = w.a.Record
	switch w.s.Phase {
	case Counting:
		w.active = wantNone
	case Resting:
		for i := range w.allow {
			w.allow[i] = max(w.allow[i], 1)
		}
	case Reporting:
		w.proved[w.s.Slot], w.allow[w.s.Slot], w.active = true, ProvenAttempts, wantNone
	case Clearing:
		w.active = wantNone
	case Activating:
		x := w.s.Slot.Other()
		w.allow[x], w.active = UnprovenAttempts, wantA+want(x)
		if w.ask == askRollback && w.proved[x] {
			w.allow[x] = ProvenAttempts
		}
		w.says(w.slots[x].unseals() && w.slots[x].verify(w.floor).Code == code.None, "only a slot is made active that verifies and under which the store opens")
	case Holding:
		w.allow[w.s.Slot] = min(w.allow[w.s.Slot]+1, ProvenAttempts)
	}
	for x, s := range w.disk.Slots {
		w.says(s.Status != journal.Proven || w.proved[x], "what is proven was healthy")
	}
	return w
}

// cut switches the power off.
func (w world) cut() world {
	w.s, w.a, w.loads, w.ask = State{}, Action{}, 0, askNothing
	return w
}

func (m *model) powerOn(w world) world {
	w = w.cut()
	return m.do(w, PowerOn{Journal: w.disk, Floor: w.floor}, askNothing)
}

// next gives all worlds that can follow.
func (m *model) next(w world) (all []world) {
	add := func(n world) { all = append(all, n) }
	if w.s.Phase == Off {
		add(m.powerOn(w))
		add(m.do(w, PowerOn{Journal: w.disk, Floor: w.floor, TPM: code.TPMAbsent}, askNothing))
		return all
	}
	add(w.cut())
	switch w.a.Do {
	case Write:
		done := w.commit()
		add(done.cut())
		add(m.do(done, Written{}, w.ask))
		if m.fault {
			add(m.do(w, WriteFailed{}, w.ask))
			add(m.do(done, WriteFailed{}, w.ask))
		}
	case Load:
		add(m.do(w, Loaded{w.slots[w.a.Slot].verify(w.floor)}, w.ask))
		if m.fault {
			add(m.do(w, Loaded{Verdict{Code: code.ImageUnreadable}}, w.ask))
		}
	case Raise:
		add(m.do(w, Raised{w.floor}, w.ask))
		w.floor = w.a.Floor
		add(w.cut())
		add(m.do(w, Raised{w.floor}, w.ask))
	case Open:
		m.open(w, add)
		m.runs(w, add)
	case Quarantine:
	default:
		m.runs(w, add)
	}
	return all
}

// open writes the other slot.
func (m *model) open(w world, add func(world)) {
	x := w.a.Slot
	w.proved[x], w.allow[x] = false, 0
	for c := torn; c < contents; c++ {
		w.slots[x] = c
		add(w.cut())
		add(m.do(w, Updated{Candidate{c.verify(w.floor), c.unseals()}}, askUpdate))
	}
}

// runs is what a controller does by itself and is asked for.
func (m *model) runs(w world, add func(world)) {
	own, x := w.slots[w.s.Slot], w.s.Slot.Other()
	if own == crash2 {
		return // its power is switched off, sooner or later
	}
	if own.good() {
		add(m.do(w, Healthy{[2]Verdict{w.slots[0].verify(w.floor), w.slots[1].verify(w.floor)}}, askHealthy))
		add(m.do(w, Healthy{[2]Verdict{{Code: code.ImageUnreadable}, {Code: code.ImageUnreadable}}}, askHealthy))
	}
	if m.fault {
		add(m.do(w, Held{code.LogDoesNotReplay}, askHeld))
		add(m.do(w, Held{code.PCRMismatch}, askHeld))
	}
	if m.asks {
		add(m.do(w, ClearAsked{}, askClear))
		add(m.do(w, Updated{Candidate{w.slots[x].verify(w.floor), w.slots[x].unseals()}}, askUpdate))
		add(m.do(w, RollbackAsked{Candidate{w.slots[x].verify(w.floor), w.slots[x].unseals()}}, askRollback))
	}
}
