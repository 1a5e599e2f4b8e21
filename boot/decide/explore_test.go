package decide

import (
	"fmt"
	"runtime"
	"testing"

	"nitro/boot/code"
	"nitro/boot/journal"
)

// powerOns bounds how often the power is switched on until a board with a good image runs
// it, if nothing else goes wrong. The test prints how often it takes.
const powerOns = 8

// explore visits every world that can be reached from some, and gives the first property
// that does not hold, with the way there.
func (m *model) explore(start []world, each func(world) string) (visited int, broken string, path []world) {
	from := map[key]key{}
	var level, next []world
	add := func(w world, parent key) {
		k := w.key()
		if _, seen := from[k]; !seen {
			from[k] = parent
			next = append(next, w)
		}
	}
	for _, w := range start {
		add(w, w.key())
	}
	for len(next) > 0 {
		level, next = next, level[:0:0]
		for _, w := range level {
			broken := w.broken
			if broken == "" {
				broken = each(w)
			}
			if broken != "" {
				return len(from), broken, m.way(start, from, w.key())
			}
			k := w.key()
			for _, n := range m.next(w) {
				add(n, k)
			}
		}
	}
	return len(from), "", nil
}

// way goes from a start to a world again.
func (m *model) way(start []world, from map[key]key, to key) (path []world) {
	keys := []key{to}
	for from[to] != to {
		to = from[to]
		keys = append([]key{to}, keys...)
	}
	candidates := start
	for _, k := range keys {
		for _, w := range candidates {
			if w.key() == k {
				path, candidates = append(path, w), m.next(w)
				break
			}
		}
	}
	return path
}

// fresh are boards as the factory makes them: a good image in slot A, and whatever in
// slot B.
func fresh() (start []world) {
	for b := range contents {
		start = append(start, world{disk: journal.Fresh(), slots: [2]content{good1, b}, allow: [2]uint8{1, 1}})
	}
	return start
}

// outcome is how the boots of an undisturbed board go on.
type outcome struct {
	first   journal.Slot // that runs in the first boot
	healthy bool         // in at most powerOns of them
	boots   int
	end     world
	broken  string // a property that does not hold on the way
}

// undisturbed switches the power on until a slot is healthy: no cuts, no faults, no asks.
func (m *model) undisturbed(w world) (o outcome) {
	o.first = journal.None
	for o.boots = 1; o.boots <= powerOns && o.broken == ""; o.boots++ {
		w = m.powerOn(w)
		for range 50 {
			if o.broken = w.broken; w.a.Do == Quarantine || o.broken != "" {
				break
			}
			if w.s.Phase == Running && w.a.Do == Run {
				if o.boots == 1 && o.first == journal.None {
					o.first = w.s.Slot
				}
				if !w.slots[w.s.Slot].good() {
					break
				}
				w = m.do(w, Healthy{[2]Verdict{w.slots[0].verify(w.floor), w.slots[1].verify(w.floor)}}, askHealthy)
				continue
			}
			switch w.a.Do {
			case Write:
				w = m.do(w.commit(), Written{}, w.ask)
			case Load:
				w = m.do(w, Loaded{w.slots[w.a.Slot].verify(w.floor)}, w.ask)
			case Raise:
				w.floor = w.a.Floor
				w = m.do(w, Raised{w.floor}, w.ask)
			}
			if w.s.Healthy && w.s.Phase == Running {
				o.healthy, o.end = true, w
				return o
			}
		}
	}
	return o
}

// always are the properties of the whole: there is a good slot, and it is found.
func (m *model) always(longest *int) func(world) string {
	known := map[key]string{}
	return func(w world) string {
		w = w.cut()
		k := w.key()
		if said, ok := known[k]; ok {
			return said
		}
		known[k] = m.judge(w, longest)
		return known[k]
	}
}

func (m *model) judge(w world, longest *int) string {
	runnable := func(c content) bool { return c.good() && c.version() >= w.floor }
	if !runnable(w.slots[0]) && !runnable(w.slots[1]) {
		return "there is always a good slot"
	}
	o := m.undisturbed(w)
	if o.broken != "" {
		return o.broken
	}
	if !o.healthy {
		return "a board with a good slot comes to run it"
	}
	*longest = max(*longest, o.boots)
	if w.active != wantNone {
		x := journal.Slot(w.active - wantA)
		if end := o.end.disk; runnable(w.slots[x]) && (o.first != x || end.Slots[x].Status != journal.Proven || end.Preferred != x) {
			return "a good update is run, becomes proven and stays preferred"
		}
	}
	if end := o.end; end.slots[0].good() && end.slots[1].good() && holds(end.disk.Slots[0]) && holds(end.disk.Slots[1]) {
		if low := min(end.slots[0].version(), end.slots[1].version()); end.floor < low {
			return "the floor rises once both slots satisfy it"
		}
	}
	return ""
}

// show prints a path for people.
func show(path []world) (s string) {
	for i, w := range path {
		s += fmt.Sprintf("\n%3d phase %d %v do %d; disk %v %v; slots %v floor %d allow %v", i, w.s.Phase, w.s.Slot, w.a.Do, w.disk.Preferred, short(w.disk), w.slots, w.floor, w.allow)
	}
	return s
}

func short(s journal.State) string {
	out := ""
	for i, x := range s.Slots {
		out += fmt.Sprintf("%v:%v/%d/%d ", journal.Slot(i), x.Status, x.Attempts, x.Failure)
	}
	return out
}

// TestExplore explores a board that nobody tampers with. With -short, and on an emulated
// board, which has neither the memory nor the time, nothing fails by itself.
func TestExplore(t *testing.T) {
	m := &model{step: Step, asks: true, fault: !testing.Short() && runtime.GOARCH != "arm"}
	var longest int
	n, broken, path := m.explore(fresh(), m.always(&longest))
	t.Logf("%d states; a good slot runs after at most %d boots", n, longest)
	if broken != "" {
		t.Fatalf("does not hold: %s%s", broken, show(path))
	}
	if n < 50000 {
		t.Errorf("only %d states: the model is not what it was", n)
	}
}

// tampered are all boards whose medium and floor somebody has chosen.
func tampered() (start []world) {
	var states []journal.SlotState
	for status := journal.Empty; status <= journal.Bad; status++ {
		for a := range uint8(journal.MaxAttempts + 1) {
			states = append(states, journal.SlotState{Status: status, Attempts: a, SecurityVersion: 64})
		}
	}
	for _, a := range states {
		for _, b := range states {
			for _, trying := range []journal.Slot{journal.A, journal.B, journal.None} {
				for c := range contents * contents {
					for floor := range uint32(3) {
						start = append(start, world{
							disk:  journal.State{Preferred: journal.A, Trying: trying, Pending: trying != journal.None, Slots: [2]journal.SlotState{a, b}},
							slots: [2]content{c % contents, c / contents}, floor: floor, allow: [2]uint8{99, 99}, proved: [2]bool{true, true},
						})
					}
				}
			}
		}
	}
	return start
}

// TestTampered has every journal with every medium and every floor: what must hold then
// is that nothing below the floor or unverified runs, and that each boot ends.
func TestTampered(t *testing.T) {
	start := tampered()
	ran, quarantined, broken := (&model{step: Step}).boots(start)
	if broken != "" {
		t.Fatal("does not hold: ", broken)
	}
	t.Logf("%d boards: %d run, %d are in quarantine", len(start), ran, quarantined)
	if ran == 0 || quarantined == 0 {
		t.Error("one of the ends was never reached")
	}
}

// boots has each board boot once.
func (m *model) boots(start []world) (ran, quarantined int, broken string) {
	for _, w := range start {
		w = m.powerOn(w)
		for w.broken == "" && w.a.Do != Quarantine && w.a.Do != Run {
			if w.a.Do == Write {
				w = m.do(w.commit(), Written{}, askNothing)
			} else {
				w = m.do(w, Loaded{w.slots[w.a.Slot].verify(w.floor)}, askNothing)
			}
		}
		if w.broken != "" {
			return ran, quarantined, w.broken + show([]world{w})
		}
		if w.a.Do == Run {
			ran++
		} else {
			quarantined++
		}
	}
	return ran, quarantined, ""
}

// TestTPM: without a floor nothing is tried and no attempt is spent.
func TestTPM(t *testing.T) {
	for _, c := range []code.Code{code.TPMAbsent, code.TPMNotFresh, code.TPMFloorMissing} {
		s, a := Step(State{}, PowerOn{Journal: journal.Fresh(), TPM: c})
		if a != (Action{Do: Quarantine, Code: c}) || s.Journal != journal.Fresh() {
			t.Errorf("%v: %+v", c, a)
		}
	}
}
