package store

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"nitro/boot/medium"
)

// resum changes a superblock and makes its digest right.
func resum(p []byte, change func([]byte)) []byte {
	change(p)
	sum := sha256.Sum256(p[:superDigest])
	copy(p[superDigest:], sum[:])
	return p
}

// TestRefusals: what is refused changes nothing and leaves the store usable.
func TestRefusals(t *testing.T) {
	b := smallBoard()
	format(t, b)
	s := mount(t, b)
	must(t, s.Put("a", nil))
	var many, long Batch
	for i := range MaxBatch + 1 {
		many.Put(fmt.Sprint(i), nil)
	}
	for i := range 5 {
		long.Put(fmt.Sprint(i), make([]byte, 4000))
	}
	for _, c := range []struct {
		name string
		err  error
		want error
	}{
		{"empty name", s.Put("", nil), ErrName},
		{"long name", s.Put(strings.Repeat("x", 256), nil), ErrName},
		{"long value", s.Put("a", make([]byte, MaxValue+1)), ErrTooLarge},
		{"many operations", s.Commit(&many), ErrTooLarge},
		{"long batch", s.Commit(&long), ErrTooLarge},
		{"delete nothing", s.Delete("b"), ErrNotFound},
	} {
		if !errors.Is(c.err, c.want) {
			t.Errorf("%s: %v", c.name, c.err)
		}
	}
	_, err := s.Get("b")
	want(t, err, ErrNotFound)
	_, err = s.Create("")
	want(t, err, ErrName)
	must(t, s.Commit(&Batch{}))
	must(t, model{"a": nil}.differs(s))

	must(t, s.Close())
	must(t, s.Close())
	_, err = s.Get("a")
	want(t, err, ErrClosed)
	_, err = s.Snapshot()
	want(t, err, ErrClosed)
	want(t, s.Put("a", nil), ErrClosed)
	want(t, s.Delete("a"), ErrClosed)
	want(t, s.Checkpoint(), ErrClosed)
	if s.keys != (keys{}) {
		t.Error("keys are left")
	}
}

// TestBatch: the last change of a name counts, and long values go with short ones.
func TestBatch(t *testing.T) {
	b := smallBoard()
	format(t, b)
	s := mount(t, b)
	must(t, s.Put("gone", []byte("x")))
	var c Batch
	c.Put("a", []byte("1"))
	c.Put("b", bytes.Repeat([]byte("2"), 40000))
	c.Delete("a")
	c.Delete("gone")
	c.Delete("never there")
	c.Put("c", []byte("3"))
	c.Put("c", []byte("4"))
	must(t, s.Commit(&c))
	is := model{"b": bytes.Repeat([]byte("2"), 40000), "c": []byte("4")}
	must(t, is.differs(s))
	must(t, is.differs(mount(t, b)))
}

// TestWindow counts steps: one a mount, one each so many records, one a checkpoint that
// has something to keep.
func TestWindow(t *testing.T) {
	b := smallBoard()
	format(t, b)
	before := b.value
	c := b.config()
	c.Window = 12
	c.background = func(step func()) { step() }
	s, err := Open(c)
	must(t, err)
	steps := func(n uint64, when string) {
		t.Helper()
		if got := b.value - before; got != n {
			t.Errorf("%d steps after %s, not %d", got, when, n)
		}
	}
	steps(1, "the mount")
	for range 8 {
		must(t, s.Put("a", nil))
	}
	steps(1, "8 records")
	must(t, s.Put("a", nil))
	steps(2, "9 records")
	var three Batch
	for i := range 3 {
		three.Put(fmt.Sprint(i), nil)
	}
	for range 3 {
		must(t, s.Commit(&three))
	}
	steps(2, "batches of three")
	must(t, s.Commit(&three))
	steps(3, "one more of them")
	must(t, s.Checkpoint())
	must(t, s.Checkpoint())
	steps(4, "a checkpoint")
	var many Batch
	for i := range 20 {
		many.Put(fmt.Sprint(i), nil)
	}
	must(t, s.Commit(&many))
	steps(4, "more than the window at once")
	must(t, s.Put("a", nil))
	steps(5, "one more")
	if n := s.Stats().Exposed; n != 1 {
		t.Errorf("%d records can be taken back", n)
	}
	must(t, s.Checkpoint())
	must(t, s.Close())
	steps(6, "closing with nothing to keep")
}

// TestStepBeside: while the counter is stepped others write, up to the window, and read; and
// a checkpoint that somebody asks for waits for its step alone.
func TestStepBeside(t *testing.T) {
	b := smallBoard()
	format(t, b)
	c := b.config()
	slow := &slowCounter{value: b.value, asked: make(chan struct{}, 9), let: make(chan struct{}, 9)}
	slow.let <- struct{}{} // the mount's
	c.Counter, c.Window, c.background = slow, 12, nil
	s, err := Open(c)
	must(t, err)
	<-slow.asked
	for i := range 12 { // the ninth begins a checkpoint
		must(t, s.Put(fmt.Sprint(i), nil))
	}
	<-slow.asked
	if st := s.Stats(); st.Exposed != 12 || st.Checkpoints != 2 {
		t.Errorf("%+v", st)
	}
	done := make(chan error)
	go func() { done <- s.Put("more", nil) }()
	select {
	case <-done:
		t.Error("a record beyond the window, before the step")
	case <-time.After(20 * time.Millisecond):
	}
	slow.let <- struct{}{}
	must(t, <-done)
	go func() { done <- s.Checkpoint() }()
	<-slow.asked
	must(t, s.Put("beside", nil))
	if _, err := s.Get("beside"); err != nil {
		t.Error(err)
	}
	slow.let <- struct{}{}
	must(t, <-done)
	if st := s.Stats(); st.Exposed != 1 || st.Steps != 3 {
		t.Errorf("%+v", st)
	}
	for i := range 9 { // with the one from before, the last one comes behind the root
		must(t, s.Put(fmt.Sprint(i), nil))
	}
	<-slow.asked
	go func() { done <- s.Checkpoint() }()
	slow.let <- struct{}{}
	select {
	case <-slow.asked: // for the root that has the last one
	case err := <-done:
		t.Fatalf("%v: a checkpoint without the last record", err)
	}
	slow.let <- struct{}{}
	must(t, <-done)
	if st := s.Stats(); st.Exposed != 0 || st.Steps != 5 {
		t.Errorf("%+v", st)
	}
	must(t, s.Close())
}

// A slowCounter steps when it is let.
type slowCounter struct {
	mu         sync.Mutex
	value      uint64
	asked, let chan struct{}
}

func (c *slowCounter) Read() (uint64, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.value, nil
}

func (c *slowCounter) Increment() (uint64, error) {
	c.asked <- struct{}{}
	<-c.let
	c.mu.Lock()
	defer c.mu.Unlock()
	c.value++
	return c.value, nil
}

// TestTailStays: segments of the tail in which nothing is alive are not used again before a
// checkpoint has made them dispensable: a mount replays them.
func TestTailStays(t *testing.T) {
	b := smallBoard()
	b.window = 1000
	format(t, b)
	s := mount(t, b)
	is := model{"small": nil, "large": nil}
	for i := range 20 { // eight to a segment
		is["small"] = bytes.Repeat([]byte{byte(i)}, 4000)
		must(t, s.Put("small", is["small"]))
	}
	for i := range 2 * minSegments { // each in a segment of its own, so all that are free have their turn
		is["large"] = bytes.Repeat([]byte{byte(i)}, 5000)
		must(t, s.Put("large", is["large"]))
	}
	if n := len(s.root.tail); n < 3 || s.Stats().Checkpoints > 1 {
		t.Fatalf("a tail of %d segments, %+v", n, s.Stats())
	}
	must(t, is.differs(mount(t, b)))
}

// TestFull fills a store: reserved batches go further, deletes always work, and what was
// deleted can be used again.
func TestFull(t *testing.T) {
	for _, size := range []int{0, 700, 4096, 4097, 30000, 70000} {
		b := smallBoard()
		format(t, b)
		s := mount(t, b)
		is := model{}
		fill := func(reserved bool) (n int) {
			for ; ; n++ {
				name := fmt.Sprint(reserved, len(is))
				v := bytes.Repeat([]byte{byte(n)}, size)
				c := Batch{Reserved: reserved}
				c.Put(name, v)
				if err := s.Commit(&c); err != nil {
					want(t, err, ErrFull)
					return n
				}
				is[name] = v
			}
		}
		first := fill(false)
		again := fill(false)
		reserve := fill(true)
		if again != 0 || first == 0 || reserve == 0 && size <= chunkSize {
			t.Errorf("%d bytes: full after %d, then %d, reserved %d", size, first, again, reserve)
		}
		must(t, is.differs(s))
		s = mount(t, b)
		must(t, is.differs(s))
		// Overwriting what has the same size in the log works on a full store.
		if size <= inlineMax {
			for name := range is {
				must(t, s.Put(name, bytes.Repeat([]byte{0xee}, size)))
				is[name] = bytes.Repeat([]byte{0xee}, size)
			}
			must(t, is.differs(s))
		}
		for name := range is {
			must(t, s.Delete(name))
			delete(is, name)
		}
		must(t, is.differs(s))
		if n := fill(false); n != first {
			t.Errorf("%d bytes: %d when it was empty again, %d at first", size, n, first)
		}
		t.Logf("records of %d bytes: %d, and %d reserved", size, first, reserve)
	}
}

// TestBrokenBlocks has blocks that refuse to be written: others are taken.
func TestBrokenBlocks(t *testing.T) {
	watch(t)
	r := newScript(smallBoard(), 8)
	format(t, r.b)
	first := uint64(small.Offset / sectorSize)
	rnd := rand.New(rand.NewPCG(4, 4))
	for range 6 {
		r.b.broken[first+uint64(2+rnd.IntN(minSegments-4))*segmentSectors+uint64(rnd.IntN(segmentSectors))] = true
	}
	for range 4 { // roots
		r.b.broken[first+uint64([]int{1, minSegments - 2}[rnd.IntN(2)])*segmentSectors+uint64(rnd.IntN(segmentSectors))] = true
	}
	r.s = mount(t, r.b)
	var errs, rootErrs uint64
	for i := range 600 {
		if err := r.step(); err != nil {
			t.Fatalf("step %d: %v", i, err)
		}
		errs, rootErrs = max(errs, r.s.Stats().WriteErrors), max(rootErrs, r.s.Stats().RootErrors)
	}
	must(t, r.is.differs(r.s))
	must(t, r.s.Checkpoint())
	s := mount(t, r.b)
	must(t, r.is.differs(s))
	if s.Stats().Bad == 0 || errs == 0 || rootErrs == 0 {
		t.Errorf("%d bad segments, %d and %d errors", s.Stats().Bad, errs, rootErrs)
	}
	t.Logf("%d segments are bad", s.Stats().Bad)

	// When nothing can be written any more it says so, and can still be read.
	for n := range r.b.Blocks() {
		r.b.broken[n] = true
	}
	want(t, s.Put("x", nil), ErrWorn)
	want(t, s.Put("x", make([]byte, 5000)), ErrWorn)
	must(t, r.is.differs(s))
	clear(r.b.broken)
	want(t, s.Put("x", nil), ErrWorn)
	must(t, r.is.differs(mount(t, r.b)))
}

// TestStreams writes and reads a large value in pieces, and replaces it while it is read.
func TestStreams(t *testing.T) {
	b := smallBoard()
	format(t, b)
	s := mount(t, b)
	v := value(rand.New(rand.NewPCG(1, 1)), 3*chunkSize+1000)
	w, err := s.Create("large")
	must(t, err)
	_, err = io.Copy(struct{ io.Writer }{w}, iotest.HalfReader(bytes.NewReader(v)))
	must(t, err)
	_, err = s.Get("large")
	want(t, err, ErrNotFound)
	must(t, w.Commit())
	want(t, w.Commit(), ErrClosed)
	w.Abort()
	r, err := s.Reader("large")
	must(t, err)
	must(t, iotest.TestReader(struct {
		io.Reader
		io.ReaderAt
	}{r, r}, v))
	if r.Size() != int64(len(v)) {
		t.Error(r.Size())
	}
	p, err := s.Snapshot()
	must(t, err)
	must(t, s.Put("large", []byte("short")))
	must(t, s.Put("other", make([]byte, 50000)))
	got := make([]byte, len(v))
	if _, err := r.ReadAt(got, 0); err != nil || !bytes.Equal(got, v) {
		t.Error("the old value, while it is open:", err)
	}
	must(t, r.Close())
	again, err := p.Get("large")
	if err != nil || !bytes.Equal(again, v) {
		t.Error("the old value in a snapshot:", err)
	}
	if s.Stats().Free+s.Stats().Log+s.Stats().Data+4 >= s.Stats().Segments {
		t.Errorf("nothing waits: %+v", s.Stats())
	}
	p.Close()
	must(t, model{"large": []byte("short"), "other": make([]byte, 50000)}.differs(s))

	// A value that is given up leaves nothing.
	before := s.Stats()
	w, err = s.Create("large")
	must(t, err)
	_, err = w.Write(v)
	must(t, err)
	w.Abort()
	if after := s.Stats(); after.Free != before.Free || after.Data != before.Data {
		t.Errorf("%+v, then %+v", before, after)
	}
}

// TestSnapshots holds a snapshot while the store runs full: it reads what was, until it is
// told that it cannot.
func TestSnapshots(t *testing.T) {
	b := smallBoard()
	format(t, b)
	s := mount(t, b)
	r := newScript(b, 77)
	r.s = s
	for range 60 {
		must(t, r.step())
	}
	p, err := r.s.Snapshot()
	must(t, err)
	was := clone(r.is)
	stale := 0
	for i := range 400 {
		must(t, changeOnly(r))
		for name, v := range was {
			got, err := p.Get(name)
			if errors.Is(err, ErrStale) {
				stale++
				break
			}
			if err != nil || !bytes.Equal(got, v) {
				t.Fatalf("change %d, record %q: %v", i, name, err)
			}
		}
		if stale == 0 {
			var names []string
			for n, err := range p.Names() {
				must(t, err)
				names = append(names, n)
			}
			if len(names) != len(was) {
				t.Fatalf("%d names of %d", len(names), len(was))
			}
		}
	}
	if stale == 0 {
		t.Error("never stale")
	}
	p.Close()
	must(t, r.is.differs(r.s))
}

func clone(m model) model {
	c := model{}
	for k, v := range m {
		c[k] = v
	}
	return c
}

// changeOnly does a step that does not mount.
func changeOnly(r *script) error {
	next := clone(r.is)
	name, v := r.name(), value(r.Rand, r.size())
	next[name] = v
	err := r.s.Put(name, v)
	if errors.Is(err, ErrFull) {
		for name := range r.is {
			delete(r.is, name)
			return r.s.Delete(name)
		}
	}
	if err == nil {
		r.is = next
	}
	return err
}

// A quickCounter steps at once.
type quickCounter struct{ slowCounter }

func (c *quickCounter) Increment() (uint64, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.value++
	return c.value, nil
}

// TestTogether has goroutines write, read and look at the same time.
func TestTogether(t *testing.T) {
	b := smallBoard()
	format(t, b)
	c := b.config()
	c.Counter, c.background = &quickCounter{slowCounter{value: b.value}}, nil
	s, err := Open(c)
	must(t, err)
	var all sync.WaitGroup
	for g := range 4 {
		all.Go(func() {
			r := rand.New(rand.NewPCG(uint64(g), 9))
			for i := range 40 {
				name := fmt.Sprint(g, "/", i%5)
				v := value(r, []int{10, 3000, 9000, 40000}[r.IntN(4)])
				if err := s.Put(name, v); err != nil {
					if errors.Is(err, ErrFull) {
						continue
					}
					t.Error(err)
					return
				}
				if i%9 == g {
					if err := s.Checkpoint(); err != nil {
						t.Error(err)
					}
				}
				got, err := s.Reader(name)
				if err != nil {
					t.Error(err)
					return
				}
				have, err := io.ReadAll(got)
				if err != nil && !errors.Is(err, ErrStale) || err == nil && !bytes.Equal(have, v) {
					t.Errorf("%s: %v", name, err)
				}
				got.Close()
				if _, err := s.List(fmt.Sprint(g)); err != nil && !errors.Is(err, ErrStale) {
					t.Error(err)
				}
				s.Stats()
			}
		})
	}
	all.Wait()
	must(t, s.consistent())
}

// TestLargestStore fills a store of 48 MiB with as many records and as much as it takes,
// and counts what a mount reads of it and what is in memory.
func TestLargestStore(t *testing.T) {
	if testing.Short() {
		t.Skip("writes 48 MiB")
	}
	place := medium.Place{Size: 48 << 20}
	b := newBoard(48 << 11)
	config := func() Config {
		c := b.config()
		c.Place, c.Window = place, 1000
		return c
	}
	must(t, Format(config()))
	s, err := Open(config())
	must(t, err)
	golden := value(rand.New(rand.NewPCG(1, 1)), MaxValue)
	must(t, s.Put("golden/bios", golden))
	for i := range 600 {
		must(t, s.Put(fmt.Sprintf("audit/%d", i), golden[i:i+20000]))
	}
	n := 0
	for {
		err := s.Put(fmt.Sprintf("%s/%d", strings.Repeat("volume", 30), n), golden[n:n+300])
		if errors.Is(err, ErrFull) {
			break
		}
		must(t, err)
		n++
	}
	for i := range 200 { // a tail
		must(t, s.Put("audit/0", golden[i:i+3000]))
	}
	var empty, mounted runtime.MemStats
	s = nil
	runtime.GC()
	runtime.ReadMemStats(&empty)
	before := b.reads
	s, err = Open(config())
	must(t, err)
	runtime.GC()
	runtime.ReadMemStats(&mounted)
	st := s.Stats()
	held := int64(mounted.HeapAlloc) - int64(empty.HeapAlloc)
	// The card of the test keeps what was written twice, in memory.
	t.Logf("the mounted store holds at most %d KiB", (held-2*int64(st.SectorsWritten)*sectorSize)>>10)
	t.Logf("%d records; a mount reads %d sectors of %d, and writes %d; body of %d bytes", st.Records, b.reads-before, 48<<11, st.SectorsWritten, s.root.length)
	if bound := 755 << 10 / sectorSize; b.reads-before > bound {
		t.Errorf("more than %d", bound)
	}
	got, err := s.Get("golden/bios")
	if err != nil || !bytes.Equal(got, golden) {
		t.Error(err)
	}
	names, err := s.List("audit/")
	if err != nil || len(names) != 600 || !slices.IsSorted(names) {
		t.Errorf("%d names, %v", len(names), err)
	}
	must(t, s.consistent())
	if limit := limitsOf(1536); limit.records != 4096 || limit.tail != 16 || limit.body != 6 || limit.capacity != 1500 || limit.reserved != 8 || limit.reservedRecords != 96 {
		t.Errorf("limits of docs/store.md: %+v", limit)
	}
}
