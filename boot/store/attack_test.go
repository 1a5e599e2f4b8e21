package store

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"nitro/boot/medium"
)

// known are the errors that an attack on the medium may lead to.
var known = []error{ErrDamaged, ErrKey, ErrRolledBack, ErrCounter, ErrNotFormatted, ErrVersion, ErrUnreadable}

func isKnown(err error) bool {
	for _, k := range known {
		if errors.Is(err, k) {
			return true
		}
	}
	return false
}

// aged is a board whose store has been used: with large values, a log that was cleaned,
// and old epochs. What it holds is checkpointed.
func aged(t testing.TB) (*board, model) {
	t.Helper()
	r := newScript(smallBoard(), 3)
	format(t, r.b)
	r.s = mount(t, r.b)
	for range 500 {
		must(t, r.step())
	}
	must(t, r.s.Close())
	return r.b, r.is
}

// An outcome is what came of an attack.
type outcome int

const (
	harmless outcome = iota // all is right
	noticed                 // by an error
	wrong                   // other data, or a record that is silently missing
)

// inspect mounts what an attacker has left and compares it with a model.
func inspect(b *board, is model) (outcome, error) {
	s, err := Open(b.config())
	if err != nil {
		if isKnown(err) {
			return noticed, err
		}
		return wrong, err
	}
	result := harmless
	for name, v := range is {
		got, err := s.Get(name)
		switch {
		case err == nil && !bytes.Equal(got, v):
			return wrong, fmt.Errorf("record %q is another", name)
		case errors.Is(err, ErrDamaged) || errors.Is(err, ErrUnreadable):
			result = noticed
		case err != nil:
			return wrong, err
		}
	}
	p, err := s.Snapshot()
	if err != nil {
		return wrong, err
	}
	defer p.Close()
	for name, err := range p.Names() {
		if _, there := is[name]; err == nil && !there {
			return wrong, fmt.Errorf("record %q is there", name)
		}
	}
	if p.Len() != len(is) {
		return wrong, fmt.Errorf("%d records, not %d", p.Len(), len(is))
	}
	return result, s.consistent()
}

// live lists the sectors of the extent that something depends on which is there once: log
// frames, values, and the body of the newest root.
func live(t testing.TB, b *board) map[int]string {
	t.Helper()
	s, err := newStore(b.config())
	must(t, err)
	must(t, s.readSuperblock(b.config().Key))
	s.root, err = s.readRoot()
	must(t, err)
	must(t, s.recover())
	sectors := map[int]string{}
	add := func(segment, sector, n int, what string) {
		for i := range n {
			sectors[segment*segmentSectors+sector+i] = what
		}
	}
	for i, n := range s.root.body {
		add(n, 0, sectorsFor(min(s.root.length-i*chunkSize, chunkSize)), "body")
	}
	for _, e := range s.index {
		add(int(e.segment), int(e.sector), int(e.sectors), "log")
		if e.large != nil {
			for i, n := range e.large.segments {
				add(n, 0, sectorsFor(min(e.large.size-i*chunkSize, chunkSize)), "value")
			}
		}
	}
	return sectors
}

// TestFlippedBits flips bits in every sector of a store. Each one in a sector that
// something depends on is noticed; no other one does harm.
func TestFlippedBits(t *testing.T) {
	b, is := aged(t)
	depends := live(t, b)
	r := rand.New(rand.NewPCG(1, 2))
	flips, count := 3, [2]int{}
	stride := 1
	if testing.Short() {
		flips, stride = 1, 13
	}
	for n := 0; n < minSegments*segmentSectors; n += stride {
		for range flips {
			c := b.copy()
			p := c.sector(n)
			bit := r.IntN(8 * sectorSize)
			p[bit/8] ^= 1 << (bit % 8)
			c.setSector(n, p)
			got, err := inspect(c, is)
			if want := depends[n] != ""; got == wrong || want != (got == noticed) {
				t.Fatalf("bit %d of sector %d (%s): outcome %d, %v", bit, n, depends[n], got, err)
			}
			count[got]++
		}
	}
	t.Logf("%d flipped bits noticed, %d without effect, in %d sectors of which %d count", count[noticed], count[harmless], minSegments*segmentSectors, len(depends))
}

// TestFlippedSuperblocks flips bits of one superblock, and the same ones of both.
func TestFlippedSuperblocks(t *testing.T) {
	b, is := aged(t)
	last := (minSegments - 1) * segmentSectors
	step := 5
	if testing.Short() {
		step = 401
	}
	for bit := 0; bit < 8*sectorSize; bit += step {
		c := b.copy()
		for i, n := range []int{0, last} {
			p := c.sector(n)
			p[bit/8] ^= 1 << (bit % 8)
			c.setSector(n, p)
			got, err := inspect(c.copy(), is)
			if wanted := outcome(i); got != wanted {
				t.Fatalf("bit %d, %d superblocks: outcome %d, %v", bit, i+1, got, err)
			}
		}
	}
}

// TestSwap swaps segments, and sectors, that something depends on.
func TestSwap(t *testing.T) {
	b, is := aged(t)
	depends := live(t, b)
	r := rand.New(rand.NewPCG(1, 2))
	var sectors []int
	for n := range minSegments * segmentSectors {
		if depends[n] != "" {
			sectors = append(sectors, n)
		}
	}
	swaps := 0
	swap := func(x, y, n int) {
		c := b.copy()
		for i := range n {
			p, q := c.sector(x+i), c.sector(y+i)
			c.setSector(x+i, q)
			c.setSector(y+i, p)
		}
		if got, err := inspect(c, is); got != noticed {
			t.Fatalf("%d sectors at %d (%s) and %d (%s): outcome %d, %v", n, x, depends[x], y, depends[y], got, err)
		}
		swaps++
	}
	for x := 2; x < minSegments-2; x++ {
		for y := x + 1; y < minSegments-2; y++ {
			if depends[x*segmentSectors] != "" || depends[y*segmentSectors] != "" {
				swap(x*segmentSectors, y*segmentSectors, segmentSectors)
			}
		}
	}
	for range 300 {
		if x, y := sectors[r.IntN(len(sectors))], sectors[r.IntN(len(sectors))]; x != y {
			swap(x, y, 1)
		}
	}
	t.Logf("%d swaps noticed", swaps)
}

// TestReplayedSegments puts each segment of an older state of the card back, one by one
// and all but the roots together.
func TestReplayedSegments(t *testing.T) {
	r := newScript(smallBoard(), 3)
	format(t, r.b)
	r.s = mount(t, r.b)
	count := [2]int{}
	for round := range 6 {
		for range 150 {
			must(t, r.step())
		}
		must(t, r.s.Checkpoint())
		old := r.b.copy()
		for range 60 {
			must(t, r.step())
		}
		must(t, r.s.Checkpoint())
		now := r.b.copy()
		all := now.copy()
		for n := range minSegments {
			c := now.copy()
			c.copySegment(old, n, n)
			got, err := inspect(c, r.is)
			if got == wrong {
				t.Fatalf("round %d, segment %d: %v", round, n, err)
			}
			count[got]++
			if n != 1 && n != minSegments-2 {
				all.copySegment(old, n, n)
			}
		}
		if got, err := inspect(all, r.is); got != noticed {
			t.Fatalf("round %d, all but the roots: outcome %d, %v", round, got, err)
		}
	}
	t.Logf("%d old segments noticed, %d did no harm", count[noticed], count[harmless])
}

// TestReplayedCard puts whole older cards back.
func TestReplayedCard(t *testing.T) {
	b := smallBoard()
	format(t, b)
	s := mount(t, b)
	back := func(old *board) *board {
		c := old.copy()
		c.value = b.value
		return c
	}
	must(t, s.Put("a", []byte("1")))
	inWindow := b.copy()
	must(t, s.Put("a", []byte("2")))

	// Since the last checkpoint: not noticed, as docs/store.md says.
	got, err := inspect(back(inWindow), model{"a": []byte("1")})
	if got != harmless {
		t.Errorf("within the window: outcome %d, %v", got, err)
	}
	must(t, s.Checkpoint())
	atCheckpoint := b.copy()
	_, err = Open(back(inWindow).config())
	want(t, err, ErrRolledBack)

	// Nor does a mount leave anything that could be taken back to before it.
	s = mount(t, b)
	_, err = Open(back(atCheckpoint).config())
	want(t, err, ErrRolledBack)

	// The owner may accept the loss, and then it is the state that counts.
	c := back(inWindow).config()
	c.AcceptLoss = true
	accepted, err := Open(c)
	must(t, err)
	must(t, model{"a": []byte("1")}.differs(accepted))
	must(t, accepted.Put("b", nil))
	must(t, s.Close())
}

// TestForks has a counter that was not stepped: the state before the checkpoint and the
// one after it are both the newest, and no other one is.
func TestForks(t *testing.T) {
	watch(t)
	b := smallBoard()
	format(t, b)
	s := mount(t, b)
	must(t, s.Put("a", []byte("0")))
	must(t, s.Checkpoint())
	before := b.copy()
	must(t, s.Put("a", []byte("1")))
	b.dumb = errors.New("no answer")
	want(t, s.Checkpoint(), ErrCounter)
	want(t, s.Put("a", []byte("2")), ErrCounter) // nothing lies behind a root that was not reached
	after := b.copy()
	b.dumb = nil
	must(t, s.Put("a", []byte("3")))

	for _, fork := range []struct {
		*board
		is string
	}{{before, "0"}, {after, "1"}} {
		fork.dumb = nil
		s := mount(t, fork.board)
		must(t, model{"a": []byte(fork.is)}.differs(s))
		must(t, s.Put("a", []byte("4")))
	}
	// Frames of one fork mean nothing in the other.
	for n := 2; n < minSegments-2; n++ {
		c := before.copy()
		c.copySegment(after, n, n)
		if got, err := inspect(c, model{"a": []byte("4")}); got == wrong {
			// The very last batch can be torn off.
			if got, _ := inspect(c, model{"a": []byte("0")}); got == wrong {
				t.Errorf("segment %d: %v", n, err)
			}
		}
	}
}

// TestTakenBack puts, at each moment of a store's life, back each state that its card was
// ever in: what a mount then takes lacks no more records than the window says, and nothing
// that was there when somebody's checkpoint was made. Steps of the counter come late, and
// some not at all before the power goes.
func TestTakenBack(t *testing.T) {
	type state struct {
		*board
		records int // that were put until then
	}
	const window = 9
	seeds := 6 // as many as there are delays of a step
	if testing.Short() {
		seeds = 2
	}
	r := rand.New(rand.NewPCG(6, 6))
	for seed := range seeds {
		b := smallBoard()
		b.value += uint64(seed)
		b.window = window
		format(t, b)
		s := mount(t, b)
		var states []state
		records, kept, accepted, most := 0, 0, 0, 0
		keep := func() {
			watch := b.watch
			b.watch = nil
			defer func() { b.watch = watch }()
			states = append(states, state{b.copy(), records})
			for _, old := range states {
				if old.value+1 < b.value {
					continue // its root is behind the counter in any case
				}
				x := old.copy()
				x.value = b.value
				got, err := Open(x.config())
				if err != nil {
					continue
				}
				accepted++
				n := got.Stats().Records
				most = max(most, records-n)
				if n < old.records || n < records-window || n < kept {
					t.Fatalf("seed %d: of %d records, %d of them checkpointed, an old card has %d and a mount %d", seed, records, kept, old.records, n)
				}
			}
		}
		b.watch = keep
		for range 60 {
			if r.IntN(15) == 0 {
				must(t, s.Checkpoint())
				kept = records
			} else {
				var batch Batch
				for i := range 1 + r.IntN(4) {
					batch.Put(fmt.Sprint(records+i), nil)
				}
				must(t, s.Commit(&batch))
				records += len(batch.changes)
			}
			keep()
		}
		b.watch = nil
		if most < window-3 {
			t.Errorf("seed %d: at most %d records were lost", seed, most)
		}
		t.Logf("seed %d: %d states, %d mounts of older ones, up to %d records lost", seed, len(states), accepted, most)
	}
}

// TestCounters has the counter in every relation to the newest root.
func TestCounters(t *testing.T) {
	b := smallBoard()
	format(t, b)
	s := mount(t, b)
	must(t, s.Put("a", []byte("1")))
	for _, c := range []struct {
		ahead int // the root of the counter
		steps int
		want  error
	}{{2, 0, ErrCounter}, {1, 2, nil}, {0, 1, nil}, {-1, 0, ErrRolledBack}, {-2, 0, ErrRolledBack}, {-1000, 0, ErrRolledBack}} {
		x := b.copy()
		x.value -= uint64(c.ahead)
		before, writes := x.value, x.writes
		s, err := Open(x.config())
		if !errors.Is(err, c.want) || x.value-before != uint64(c.steps) || err != nil && x.writes > writes {
			t.Errorf("root %d ahead: %v, %d steps", c.ahead, err, x.value-before)
		}
		if err == nil {
			must(t, model{"a": []byte("1")}.differs(s))
			if s.root.counter != x.value {
				t.Errorf("root %d ahead: then the root has %d, the counter %d", c.ahead, s.root.counter, x.value)
			}
		}
	}
	b.dumb = errors.New("no answer")
	_, err := Open(b.config())
	want(t, err, ErrCounter)
}

// TestOtherCards: another key, another store, and parts of them.
func TestOtherCards(t *testing.T) {
	b, is := aged(t)
	c := b.config()
	c.Key[3] ^= 1
	_, err := Open(c)
	want(t, err, ErrKey)
	if !bytes.Equal(c.Key, make([]byte, KeySize)) {
		t.Error("the key was not zeroed")
	}

	// The same key and counter, another format.
	other := b.copy()
	format(t, other)
	s := mount(t, other)
	for name, v := range is {
		must(t, s.Put(name, v))
	}
	must(t, s.Close())
	other.value = b.value
	count := [2]int{}
	for n := range minSegments {
		x := b.copy()
		x.copySegment(other, n, n)
		got, err := inspect(x, is)
		if got == wrong {
			t.Fatalf("segment %d of another card: %v", n, err)
		}
		count[got]++
	}
	x := b.copy()
	for _, n := range []int{0, minSegments - 1} {
		x.copySegment(other, n, n)
	}
	_, err = Open(x.config())
	want(t, err, ErrDamaged) // its roots are not that store's
	t.Logf("%d segments of another card noticed, %d did no harm", count[noticed], count[harmless])

	_, err = Open(smallBoard().config())
	want(t, err, ErrNotFormatted)
}

// TestTornRoots damages the newest root, in one ring and in both.
func TestTornRoots(t *testing.T) {
	b := smallBoard()
	format(t, b)
	s := mount(t, b)
	must(t, s.Put("a", []byte("1")))
	must(t, s.Checkpoint())
	slot := s.root.slot()
	for i, n := range []int{1, minSegments - 2} {
		b.setSector(n*segmentSectors+slot, make([]byte, sectorSize))
		got, err := inspect(b.copy(), model{"a": []byte("1")})
		if got != outcome(i) {
			t.Errorf("%d copies gone: outcome %d, %v", i+1, got, err)
		}
	}
	_, err := Open(b.config())
	want(t, err, ErrRolledBack)
}

// TestDamagedTail damages batches behind the checkpoint: only the last can be taken for
// one that was torn.
func TestDamagedTail(t *testing.T) {
	b := smallBoard()
	format(t, b)
	s := mount(t, b)
	is := model{}
	for i := range 100 { // more than a segment
		name := fmt.Sprint("record ", i)
		s.window = 1000
		must(t, s.Put(name, []byte(name)))
		is[name] = []byte(name)
	}
	if len(s.root.tail) != 2 {
		t.Fatalf("a tail of %d segments", len(s.root.tail))
	}
	damaged := 0
	for i, tail := range s.root.tail {
		for sector := range segmentSectors {
			c := b.copy()
			n := tail.segment*segmentSectors + sector
			p := c.sector(n)
			p[17] ^= 4
			c.setSector(n, p)
			got, err := inspect(c, is)
			switch last := s.head.next - 1; {
			case i == 1 && sector == last:
				delete(is, "record 99")
				if got, err := inspect(c, is); got != harmless {
					t.Errorf("the last batch: outcome %d, %v", got, err)
				}
				is["record 99"] = []byte("record 99")
			case i == 1 && sector > last:
				if got != harmless {
					t.Errorf("sector %d of %d: outcome %d, %v", sector, last, got, err)
				}
			case !errors.Is(err, ErrDamaged):
				t.Errorf("tail %d, sector %d: outcome %d, %v", i, sector, got, err)
			default:
				damaged++
			}
		}
	}
	if damaged != 99 {
		t.Errorf("%d damaged batches", damaged)
	}
}

// TestDamagedEnd damages the last batch of a segment that a root has closed, with nothing
// behind it yet: the root says that it was there.
func TestDamagedEnd(t *testing.T) {
	b := smallBoard()
	format(t, b)
	s := mount(t, b)
	s.window = 1000
	for s.head.next < segmentSectors {
		must(t, s.Put("a", []byte{byte(s.head.next)}))
	}
	closed := s.head.number
	b.left = 2 // both copies of the root, and not the batch
	if s.Put("a", nil) == nil || !b.off {
		t.Fatal("the power did not go")
	}
	b.powerOn()
	must(t, model{"a": []byte{segmentSectors - 1}}.differs(mount(t, b.copy())))
	b.setSector(closed*segmentSectors+segmentSectors-1, make([]byte, sectorSize))
	_, err := Open(b.config())
	want(t, err, ErrDamaged)
}

// TestGeometry: places and devices that do not fit.
func TestGeometry(t *testing.T) {
	b, _ := aged(t)
	for _, p := range []medium.Place{
		{Offset: small.Offset, Size: small.Size - segmentSize}, // too small for any store
		{Offset: small.Offset + 1, Size: small.Size},
		{Offset: -512, Size: small.Size},
		{Offset: small.Offset, Size: small.Size + 100},
		{Offset: small.Offset, Size: 1 << 40},
		{Offset: small.Offset, Size: small.Size + segmentSize}, // beyond the device
		{Offset: 1 << 62, Size: small.Size},
	} {
		c := b.config()
		c.Place = p
		if _, err := Open(c); err == nil {
			t.Errorf("%+v opens", p)
		}
		c = b.config()
		c.Place = p
		if Format(c) == nil {
			t.Errorf("%+v is formatted", p)
		}
	}
	// A store in a place of another size.
	large := newBoard(uint64(small.Offset+small.Size)/sectorSize + 64)
	for i := range minSegments {
		large.copySegment(b, i, i)
	}
	c := large.config()
	c.Place.Size += segmentSize
	_, err := Open(c)
	want(t, err, ErrDamaged)

	c = b.config()
	c.Key = c.Key[1:]
	if _, err := Open(c); err == nil {
		t.Error("a key of 31 bytes")
	}
	c = b.config()
	c.Window = -1
	if _, err := Open(c); err == nil {
		t.Error("a negative window")
	}
}

// TestVersion: a store of a later format.
func TestVersion(t *testing.T) {
	b := smallBoard()
	format(t, b)
	for _, n := range []int{0, (minSegments - 1) * segmentSectors} {
		b.setSector(n, resum(b.sector(n), func(p []byte) { p[superVersion] = 2 }))
	}
	_, err := Open(b.config())
	want(t, err, ErrVersion)
}

// stuck is a random generator that always gives the same.
type stuck struct{}

func (stuck) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// TestStuckGenerator: the counter keeps the epochs of mounts apart even then. One record is
// written again and again, so that places come back.
func TestStuckGenerator(t *testing.T) {
	n := watch(t)
	b := smallBoard()
	format(t, b)
	c := b.config()
	for i := range 60 {
		c.Key, c.Rand = b.config().Key, stuck{}
		s, err := Open(c)
		must(t, err)
		must(t, s.Put("a", make([]byte, 5000+i)))
	}
	if n.seals < 180 {
		t.Errorf("%d frames", n.seals)
	}
}
