package cycle

import (
	"fmt"
	"runtime"
	"testing"

	"nitro/boot/code"
)

// limit bounds how many actions follow each other without anything from outside. The test
// prints the longest way.
const limit = 200

// fresh are boards as the factory makes them: with and without a latch, all lines and only
// those that each board has, flashes that are good, corrupt and beyond recovery.
func fresh() (start []world) {
	for _, keeps := range []bool{false, true} {
		for _, has := range []Lines{All, Host | Mux | Protect} {
			for _, flash := range []bool{true, false} {
				for _, golden := range []bool{true, false} {
					for _, goal := range []Goal{StayHeld, Run} {
						w := world{keeps: keeps, has: has, flash: flash, golden: golden, goal: goal, rooms: rooms}
						start = append(start, w.cut())
						w.rooms = endless
						start = append(start, w.cut())
					}
				}
			}
		}
	}
	return start
}

// A graph is all that was found.
type graph struct {
	from  map[world]world // how a world was first reached
	order []world
}

// explore visits every world that can be reached from some, and gives the first property
// that does not hold, with the way there.
func (m *model) explore(start []world) (g graph, broken string, at world) {
	g.from = map[world]world{}
	add := func(w, parent world) {
		if _, seen := g.from[w]; !seen {
			g.from[w] = parent
			g.order = append(g.order, w)
		}
	}
	for _, w := range start {
		add(w, w)
	}
	for i := 0; i < len(g.order); i++ {
		w := g.order[i]
		if w.broken != "" {
			return g, w.broken, w
		}
		inside, outside := m.next(w)
		for _, n := range append(inside, outside...) {
			add(n, w)
		}
	}
	return g, "", world{}
}

// longest follows what happens by itself, and tells the longest way; a way that comes back
// to where it was has no end.
func (m *model) longest(g graph) (steps int, endless bool, at world) {
	const open = -1
	depth := map[world]int{}
	type frame struct {
		w    world
		next []world
		best int
	}
	for _, root := range g.order {
		if _, known := depth[root]; known {
			continue
		}
		inside, _ := m.next(root)
		depth[root] = open
		stack := []frame{{root, inside, 0}}
		for len(stack) > 0 {
			f := &stack[len(stack)-1]
			if len(f.next) == 0 {
				depth[f.w] = f.best
				steps = max(steps, f.best)
				best := f.best
				if stack = stack[:len(stack)-1]; len(stack) > 0 {
					p := &stack[len(stack)-1]
					p.best = max(p.best, best+1)
				}
				continue
			}
			n := f.next[0]
			f.next = f.next[1:]
			d, known := depth[n]
			switch {
			case known && d == open:
				return steps, true, n
			case known:
				f.best = max(f.best, d+1)
			default:
				inside, _ := m.next(n)
				depth[n] = open
				stack = append(stack, frame{n, inside, 0})
			}
		}
	}
	return steps, false, world{}
}

// settle lets a board go on with all that succeeds, until it comes to rest.
func (m *model) settle(w world) world {
	for range limit {
		if w.s.Phase == Off {
			w = m.boot(w)
			continue
		}
		if w.a.Do == Restart {
			w = w.restart()
			continue
		}
		ends := m.ends(w)
		if len(ends) == 0 {
			return w
		}
		n := m.do(ends[0].w, ends[0].e)
		if n == w {
			return w
		}
		w = n
	}
	return w
}

// serves tells whether a board without faults, with firmware that is good or can be
// recovered, runs its host when it is asked to; and holds it when it is asked to.
func (m *model) serves(w world) string {
	if w.fault != none || !w.flash && !w.golden || !w.tpm || w.s.TPM != code.None || w.nv || w.s.Phase == Quarantined {
		return ""
	}
	w = m.settle(w)
	if w.s.Phase == Quarantined || w.s.Phase != Running && w.s.Phase != Held {
		return "a board without faults comes to rest"
	}
	held := m.settle(m.do(w, Asked{AskHold}))
	if held.s.Phase != Held || !held.nets().Has(held.has&Resets) {
		return "a host is held when that is asked for"
	}
	if on := m.settle(m.do(w, Asked{AskOn})); on.broken != "" {
		return on.broken
	} else if on.s.Phase != Running || !on.hostRuns() {
		return "a good host runs when that is asked for"
	}
	return ""
}

// check is all of it.
func (m *model) check(start []world) (visited, steps int, broken string, path []world) {
	g, broken, at := m.explore(start)
	if broken == "" {
		var endless bool
		if steps, endless, at = m.longest(g); endless || steps > limit {
			broken = "nothing goes on for ever by itself"
		}
	}
	for i := 0; broken == "" && i < len(g.order); i++ {
		if broken = m.serves(g.order[i]); broken != "" {
			at = g.order[i]
		}
	}
	if broken == "" {
		return len(g.order), steps, "", nil
	}
	for path = []world{at}; g.from[at] != at; path = append([]world{at}, path...) {
		at = g.from[at]
	}
	return len(g.order), steps, broken, path
}

// show prints a path for people.
func show(path []world) (s string) {
	for i, w := range path {
		s += fmt.Sprintf("\n%3d %v, goal %d, tries %d, do %d; commanded %v, nets %v, fault %d, ticket %d %v, tpm %v, verified %v, legit %v, adopt %v", i, w.s.Phase, w.s.Goal, w.s.Tries, w.a.Do, w.cmd, w.nets(), w.fault, w.ticket, w.nonce, w.tpm, w.verified, w.legit, w.mustAdopt)
	}
	return s
}

// few is a model and boards that are enough for most mistakes.
func few(step stepper) (*model, []world) {
	latched := world{keeps: true, has: All, flash: true, golden: true, goal: Run, rooms: endless}
	bare := latched
	bare.keeps, bare.flash, bare.rooms = false, false, rooms
	return &model{step: step, faults: []fault{fightsHost, stuckBMC, disagree, unreadable, unprotected}}, []world{latched.cut(), bare.cut()}
}

// TestExplore explores all boards and all faults. With -short, and on an emulated board,
// which has neither the memory nor the time, only a few; and nothing fails that is not
// broken.
func TestExplore(t *testing.T) {
	m, start := few(Step)
	least := 50000
	switch {
	case runtime.GOARCH == "arm":
		m.faults, start, least = nil, start[1:], 500
	case !testing.Short():
		m.failing, m.faults, start, least = true, nil, fresh(), 1000000
		for f := none + 1; f < faults; f++ {
			m.faults = append(m.faults, f)
		}
	}
	n, steps, broken, path := m.check(start)
	t.Logf("%d states; at most %d steps follow each other by themselves", n, steps)
	if broken != "" {
		t.Fatalf("does not hold: %s%s", broken, show(path))
	}
	if n < least {
		t.Errorf("only %d states: the model is not what it was", n)
	}
}

// TestOutOfPlace: what does not belong into a phase changes nothing.
func TestOutOfPlace(t *testing.T) {
	for p := Off; p <= Quarantined; p++ {
		s := State{Phase: p, Lines: All, Cycle: 3}
		if p != Checking && p != Adopting && (p < Counting || p > Arming) {
			if got, a := Step(s, Done{}); got != s || a != (Action{}) {
				t.Errorf("%v: Done gives %+v, %+v", p, got, a)
			}
		}
		if p == Off || p == Quarantined || p == Restarting {
			if got, a := Step(s, Seen{View{Fault: code.HostPinsDisagree}}); got != s || a != (Action{}) {
				t.Errorf("%v: Seen gives %+v, %+v", p, got, a)
			}
		}
		if p.String() == "" {
			t.Errorf("phase %d has no name", p)
		}
	}
}
