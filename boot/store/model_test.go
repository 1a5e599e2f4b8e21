package store

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"

	"nitro/boot/medium/mediumtest"
)

// A script runs random operations on a store and a model beside it.
type script struct {
	*rand.Rand
	b       *board
	s       *Store
	is      model // committed for certain
	maybe   model // if what was under way came through; nil if nothing was
	ops     int
	refused int    // with ErrFull
	cleaned uint64 // segments, by stores that were left since
}

func newScript(b *board, seed uint64) *script {
	return &script{Rand: rand.New(rand.NewPCG(seed, 1)), b: b, is: model{}}
}

var sizes = []int{0, 1, 20, 100, 300, 600, 1500, 4000, 4096, 4097, 20000, chunkSize, chunkSize + 1, 80000}

func (r *script) size() int {
	n := sizes[r.IntN(len(sizes))]
	if r.IntN(3) > 0 {
		n = min(n, 4000)
	}
	return n
}

func (r *script) name() string {
	n := r.IntN(150)
	if n == 0 {
		return string(make([]byte, MaxName))
	}
	return fmt.Sprintf("record/%d", n)
}

// step does one thing. It gives an error if the store does not do what it should; where
// the power went, r.maybe is what may have come of it.
func (r *script) step() error {
	r.ops++
	r.maybe = nil
	next := maps.Clone(r.is)
	err := r.change(next)
	switch {
	case err == nil:
		r.is = next
	case errors.Is(err, ErrFull):
		r.refused++
	case r.b.off:
		r.maybe = next
	default:
		return err
	}
	return nil
}

func (r *script) change(next model) error {
	switch k := r.IntN(20); {
	case k < 9:
		name, v := r.name(), value(r.Rand, r.size())
		next[name] = v
		return r.s.Put(name, v)
	case k < 11:
		name := r.name()
		_, there := next[name]
		delete(next, name)
		err := r.s.Delete(name)
		if errors.Is(err, ErrNotFound) && !there {
			return nil
		}
		return err
	case k < 16:
		return r.batch(next)
	case k < 18:
		return r.write(next)
	case k < 19:
		return r.s.Checkpoint()
	}
	return r.remount()
}

func (r *script) batch(next model) error {
	var b Batch
	b.Reserved = r.IntN(3) == 0
	for range 1 + r.IntN(6) {
		if name := r.name(); r.IntN(3) == 0 {
			b.Delete(name)
			delete(next, name)
		} else {
			v := value(r.Rand, min(r.size(), 1500))
			b.Put(name, v)
			next[name] = v
		}
	}
	return r.s.Commit(&b)
}

func (r *script) write(next model) error {
	name, v := r.name(), value(r.Rand, r.size())
	w, err := r.s.Create(name)
	if err != nil {
		return err
	}
	defer w.Abort()
	for p := v; len(p) > 0; {
		n := min(len(p), 1+r.IntN(50000))
		if _, err := w.Write(p[:n]); err != nil {
			return err
		}
		p = p[n:]
	}
	if r.IntN(4) == 0 {
		return nil // given up
	}
	next[name] = v
	err = w.Commit()
	if err == nil {
		return nil
	}
	return err
}

// remount closes the store or has it fall, and opens it again.
func (r *script) remount() error {
	r.cleaned += r.s.Stats().Cleaned
	if r.IntN(2) == 0 {
		if err := r.s.Close(); err != nil {
			return err
		}
	}
	s, err := Open(r.b.config())
	if err != nil {
		return err
	}
	r.s = s
	return r.is.differs(s)
}

// windows of the stores: long tails, and many checkpoints while others go on.
var windows = [2]int{DefaultWindow, 9}

// TestModel compares the store with a map, through mounts and full stores.
func TestModel(t *testing.T) {
	n := watch(t)
	seeds, steps := 12, 1000
	if testing.Short() {
		seeds = 3
	}
	ops, refused, cleaned, steppings := 0, 0, uint64(0), uint64(0)
	for seed := range seeds {
		b := smallBoard()
		b.window = windows[seed%2]
		format(t, b)
		r := newScript(b, uint64(seed))
		r.s = mount(t, b)
		before := b.value
		for i := range steps {
			refused := r.refused
			if err := r.step(); err != nil {
				t.Fatalf("seed %d, step %d: %v", seed, i, err)
			}
			if r.refused > refused {
				// What was refused has changed nothing.
				if err := r.is.differs(r.s); err != nil {
					t.Fatalf("seed %d, step %d, refused: %v", seed, i, err)
				}
			}
			if i%10 == 0 {
				if err := r.is.differs(r.s); err != nil {
					t.Fatalf("seed %d, step %d: %v", seed, i, err)
				}
			}
		}
		steppings += b.value - before
		ops, refused, cleaned = ops+r.ops, refused+r.refused, cleaned+r.cleaned
		n.forget()
	}
	t.Logf("%d operations, %d refused as the store was full, %d segments cleaned, %d steps of the counter, %d frames", ops, refused, cleaned, steppings, n.seals)
	if refused == 0 || cleaned == 0 {
		t.Error("the stores were never full, or never cleaned")
	}
}

// cutSteps is how many things a store does while its power is cut.
const cutSteps = 30

// TestPowerCut cuts the power at every sector that is written and before and after every
// step of the counter, with every tear, while a store that is nearly full is mounted,
// changed, cleaned, checkpointed and closed. Afterwards all that was committed is there,
// and what was under way is there as a whole or not at all.
func TestPowerCut(t *testing.T) {
	n := watch(t)
	type variant struct {
		seed   uint64
		window int
	}
	variants, stride := []variant{{99, windows[0]}, {99, windows[1]}, {100, windows[0]}, {101, windows[1]}}, 1
	if testing.Short() {
		variants, stride = variants[:2], 23
	}
	old := newScript(smallBoard(), 5)
	format(t, old.b)
	old.s = mount(t, old.b)
	for range 600 {
		must(t, old.step())
	}
	for _, v := range variants {
		start := func(left int, tear mediumtest.Tear) *script {
			r := newScript(old.b.copy(), v.seed)
			r.b.window = v.window
			r.is = maps.Clone(old.is)
			r.b.left, r.b.tear, r.b.events = left, tear, 0
			return r
		}
		whole := start(-1, mediumtest.Prefix)
		must(t, whole.untilCut())
		cuts, through := 0, 0
		for left := 0; left < whole.b.events; left += stride {
			for _, tear := range mediumtest.Tears {
				n.forget()
				r := start(left, tear)
				came, err := r.cut()
				if err != nil {
					t.Fatalf("%+v, cut after %d, %v: %v", v, left, tear, err)
				}
				cuts++
				if came {
					through++
				}
			}
		}
		t.Logf("%d cuts in %d events, with %d segments cleaned; what was under way had come through in %d", cuts, whole.b.events, whole.cleaned+whole.s.Stats().Cleaned, through)
	}
}

// untilCut mounts the store and uses it until the power goes, or it has done enough.
func (r *script) untilCut() error {
	s, err := Open(r.b.config())
	if err != nil {
		return err
	}
	r.s = s
	for range cutSteps {
		if err := r.step(); err != nil || r.b.off {
			return err
		}
	}
	return r.s.Close()
}

// cut runs into a power cut, mounts, compares, and goes on. It tells whether what was
// under way had come through.
func (r *script) cut() (came bool, err error) {
	if err := r.untilCut(); err != nil && !r.b.off {
		return false, err
	}
	if !r.b.off {
		return false, errors.New("the power did not go")
	}
	r.b.powerOn()
	if r.s, err = Open(r.b.config()); err != nil {
		return false, err
	}
	if err := r.is.differs(r.s); err != nil {
		if r.maybe == nil {
			return false, err
		}
		if or := r.maybe.differs(r.s); or != nil {
			return false, fmt.Errorf("%w; or else: %w", err, or)
		}
		came, r.is = true, r.maybe
	}
	for range 5 {
		if err := r.step(); err != nil {
			return came, fmt.Errorf("afterwards: %w", err)
		}
	}
	return came, r.remount()
}

// TestPowerCutInFormat: there is no store, or an empty one.
func TestPowerCutInFormat(t *testing.T) {
	old := newScript(smallBoard(), 5)
	format(t, old.b)
	old.s = mount(t, old.b)
	for range 20 {
		must(t, old.step())
	}
	whole := old.b.copy()
	whole.events = 0
	format(t, whole)
	none, empty := 0, 0
	for left := range whole.events {
		for _, tear := range mediumtest.Tears {
			b := old.b.copy()
			b.left, b.tear = left, tear
			if err := Format(b.config()); err == nil {
				t.Fatalf("cut after %d, %v: formatted", left, tear)
			}
			b.powerOn()
			s, err := Open(b.config())
			switch {
			case err == nil && left == 0:
				must(t, old.is.differs(s)) // the old store's second superblock
			case err == nil:
				// Until both superblocks are gone the old store is there.
				if model(nil).differs(s) != nil && old.is.differs(s) != nil {
					t.Fatalf("cut after %d, %v: neither empty nor the old store", left, tear)
				}
				empty++
			case errors.Is(err, ErrNotFormatted), errors.Is(err, ErrUnreadable), errors.Is(err, ErrDamaged):
				none++
			default:
				t.Fatalf("cut after %d, %v: %v", left, tear, err)
			}
		}
	}
	t.Logf("no store %d times, a store %d times", none, empty)
}
