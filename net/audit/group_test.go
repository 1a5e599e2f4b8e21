package audit_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"nitro/boot/medium/mediumtest"
	"nitro/boot/store"
	"nitro/net/audit"
	"nitro/net/audit/verify"
)

// A heldStore holds commits back, until it is let, and can refuse them.
type heldStore struct {
	*store.Store
	entered, let chan struct{} // nil: nothing is held

	mu      sync.Mutex
	batches int
	refuse  func(*store.Batch) error
}

func (s *heldStore) Commit(b *store.Batch) error {
	s.mu.Lock()
	s.batches++
	entered, let := s.entered, s.let
	s.mu.Unlock()
	if entered != nil {
		entered <- struct{}{}
		<-let
	}
	s.mu.Lock()
	refuse := s.refuse
	s.mu.Unlock()
	if refuse != nil {
		if err := refuse(b); err != nil {
			return err
		}
	}
	return s.Store.Commit(b)
}

// hold holds commits from now on; what it gives lets them go, and further ones.
func (s *heldStore) hold() (let func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.entered, s.let = make(chan struct{}), make(chan struct{})
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		close(s.let)
		s.entered, s.let = nil, nil
	}
}

// openHeld opens a board's log on a heldStore.
func (b *board) openHeld(t testing.TB) (*audit.Log, *heldStore) {
	t.Helper()
	s, err := store.Open(b.store())
	if err != nil {
		t.Fatal(err)
	}
	h := &heldStore{Store: s}
	b.up, b.config.Store = 0, h
	l, err := audit.Open(b.config)
	if err != nil {
		t.Fatal(err)
	}
	return l, h
}

// An answered is what came of an intent.
type answered struct {
	resource string
	safe     bool
	token    *audit.Token
	err      error
}

// group has one intent be written and others wait behind it, every third of them in the
// safe direction, until all are in the log's queue; release lets the card go on. The first
// answer is that of the intent that was being written.
func group(t *testing.T, l *audit.Log, s *heldStore, others int) (release func() []answered) {
	t.Helper()
	let := s.hold()
	entered := s.entered
	answers := make(chan answered, others+1)
	ask := func(n int) {
		e := entry
		e.Resource = fmt.Sprint("/", n)
		a := answered{resource: e.Resource, safe: n%3 == 2}
		a.token, a.err = l.Begin(e, a.safe)
		answers <- a
	}
	room := l.Stats().Room
	go ask(0)
	<-entered
	for n := range others {
		go ask(n + 1)
	}
	for end := time.Now().Add(time.Minute); room-l.Stats().Room < uint64(others)+1; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the room went from %d to %d for %d", room, l.Stats().Room, others+1)
		}
	}
	if len(answers) > 0 {
		t.Error("an intent is answered for that nobody has written")
	}
	return func() (all []answered) {
		let()
		for range others + 1 {
			all = append(all, <-answers)
		}
		return all
	}
}

// TestGroup: those who come while a batch is written share the next one, and nobody is
// answered before.
func TestGroup(t *testing.T) {
	b := newBoard(t)
	l, s := b.openHeld(t)
	release := group(t, l, s, 8)
	before := s.batches // the one that is held among them
	all := release()
	if s.batches != before+1 {
		t.Errorf("%d batches for 8 intents", s.batches-before)
	}
	numbers := map[uint64]string{}
	for _, a := range all {
		if a.err != nil || !a.token.Recorded || numbers[a.token.N] != "" {
			t.Fatalf("%+v", a)
		}
		numbers[a.token.N] = a.resource
		if err := a.token.End(audit.Outcome{Status: 200}); err != nil {
			t.Error(err)
		}
	}
	again := b.open(t) // as a power cut leaves it
	records, err := again.Records(0, 100)
	if err != nil {
		t.Fatal(err)
	}
	for n, resource := range numbers {
		if r, err := audit.DecodeRecord(records[n]); err != nil || r.Resource != resource || r.N != n {
			t.Errorf("record %d is not of %s: %s", n, resource, records[n])
		}
	}
	if len(records) != 1+9+9+1 {
		t.Errorf("%d records", len(records))
	}
}

// TestGroupFails: a group that cannot be written is refused as a whole, but for what is safe,
// and what was written before it and comes after it is one log.
func TestGroupFails(t *testing.T) {
	b := newBoard(t)
	l, s := b.openHeld(t)
	release := group(t, l, s, 8)
	n := 0 // commits: the one that is held, and then the group's
	s.refuse = func(*store.Batch) error {
		if n++; n == 2 {
			return errors.New("the card is gone")
		}
		return nil
	}
	recorded, refused, ran := 0, 0, 0
	for _, a := range release() {
		switch {
		case a.err == nil && a.token.Recorded:
			recorded++
		case a.err == nil && a.safe:
			ran++
		case errors.Is(a.err, audit.ErrUnrecorded) && !a.safe:
			refused++
		default:
			t.Errorf("%+v", a)
		}
	}
	if recorded != 1 || ran+refused != 8 || ran < 2 {
		t.Errorf("%d recorded, %d refused, %d safe ones ran", recorded, refused, ran)
	}
	if st := l.Stats(); st.Pending != 1 || st.Lost != uint64(ran) || st.Size != 2 {
		t.Errorf("%+v", st)
	}
	work(t, l, 2)
	sign(t, l)
	r, err := verify.Export(export(t, l, 0, nil), verify.Keys{Log: b.key(t, l)})
	if err != nil || r.Missing != uint64(ran) || len(r.Records) != 2+1+4 {
		t.Errorf("%v, %+v", err, r)
	}
}

// TestGroupInReserve: where the store has its reserve left only, those of a group that may
// not use it do not, and the others are recorded.
func TestGroupInReserve(t *testing.T) {
	b := newBoard(t)
	l, s := b.openHeld(t)
	release := group(t, l, s, 8)
	s.refuse = func(b *store.Batch) error {
		if !b.Reserved {
			return store.ErrFull
		}
		return nil
	}
	for _, a := range release() {
		if a.safe && (a.err != nil || !a.token.Recorded) || !a.safe && !errors.Is(a.err, audit.ErrUnrecorded) {
			t.Errorf("%+v", a)
		}
	}
	if st := l.Stats(); st.Lost != 0 || int(st.Pending) != int(st.Size)-1 {
		t.Errorf("%+v", st)
	}
}

// TestGroupFillsLog: intents that come together take no more room than there is, and each
// that was taken has room for its outcome.
func TestGroupFillsLog(t *testing.T) {
	b := newBoard(t)
	l, s := b.openHeld(t)
	for l.Stats().Room > audit.Reserve+12 {
		work(t, l, 1)
	}
	room := l.Stats().Room
	let := s.hold()
	entered := s.entered
	var all sync.WaitGroup
	var mu sync.Mutex
	var tokens []*audit.Token
	refused := 0
	for range 20 {
		all.Go(func() {
			token, err := l.Begin(entry, false)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				refused++
			} else {
				tokens = append(tokens, token)
			}
		})
	}
	<-entered
	let()
	all.Wait()
	if want := int(room-audit.Reserve) / 2; len(tokens) != want || refused != 20-want {
		t.Errorf("%d taken, %d refused, with room for %d", len(tokens), refused, want)
	}
	for _, token := range tokens {
		if err := token.End(audit.Outcome{Status: 200}); err != nil {
			t.Error(err)
		}
	}
	if st := l.Stats(); st.Room < audit.Reserve || st.Lost != 0 {
		t.Errorf("%+v", st)
	}
}

// TestGapMeanwhile: what cannot be recorded while a gap is written is the next gap's.
func TestGapMeanwhile(t *testing.T) {
	b := newBoard(t)
	l, s := b.openHeld(t)
	event := audit.Event{Action: "hostHeld"}
	for l.Stats().Lost == 0 { // only what is safe has room
		_ = l.Note(event)
	}
	let := s.hold()
	entered := s.entered
	done := make(chan error)
	go func() {
		_, err := l.Begin(entry, true)
		done <- err
	}()
	<-entered
	if err := l.Note(event); !errors.Is(err, audit.ErrUnrecorded) {
		t.Errorf("an event: %v", err)
	}
	let()
	if err := <-done; err != nil || l.Stats().Lost != 1 {
		t.Errorf("%v, %+v", err, l.Stats())
	}
}

// TestGroupCut cuts the power at each sector of a group's batch: it is there as a whole or
// not at all, and who was answered finds what was.
func TestGroupCut(t *testing.T) {
	cuts, whole := 0, 0
	for _, tear := range mediumtest.Tears {
		for after := 0; ; after++ {
			b := newBoard(t)
			l, s := b.openHeld(t)
			work(t, l, 27) // 55 records: the group has more than a segment's rest
			release := group(t, l, s, 12)
			before := l.Stats().Size
			b.card.CutAfter(after, tear)
			all := release()
			if !b.card.Off() {
				break
			}
			b.card.PowerOn()
			cuts++
			again := b.open(t)
			n := again.Stats().Size - 1 - before // the boot is a record too
			if n != 0 && n != 1 && n != 13 {
				t.Fatalf("%v, %d sectors: %d records of the group", tear, after, n)
			}
			if n == 13 {
				whole++
			}
			records, err := again.Records(before, 20)
			if err != nil {
				t.Fatal(err)
			}
			for _, a := range all {
				if a.err != nil || !a.token.Recorded {
					continue
				}
				if r, err := audit.DecodeRecord(records[a.token.N-before]); err != nil || r.Resource != a.resource {
					t.Errorf("%v, %d sectors: %s was answered, and record %d is %s", tear, after, a.resource, a.token.N, records[a.token.N-before])
				}
			}
		}
	}
	if cuts < 20 || whole == 0 {
		t.Errorf("%d cuts, and the group came through in %d", cuts, whole)
	}
}

// TestGroupClosed: a store that is closed while a group is written leaves nobody waiting.
func TestGroupClosed(t *testing.T) {
	b := newBoard(t)
	l, s := b.openHeld(t)
	release := group(t, l, s, 8)
	if err := s.Store.Close(); err != nil {
		t.Fatal(err)
	}
	for _, a := range release() {
		if a.safe != (a.err == nil) || a.err == nil && a.token.Recorded {
			t.Errorf("%+v", a)
		}
	}
}

// TestTogether: requests, refusals, events, signatures and readers at the same time make one
// log.
func TestTogether(t *testing.T) {
	b := newBoard(t)
	b.config.Segments = 30
	b.config.Up = func() func() time.Duration {
		start := time.Now()
		return func() time.Duration { return time.Since(start) }
	}()
	b.config.Now = func() (time.Time, bool) { return time.Now(), true }
	l, s := b.openHeld(t)
	var all sync.WaitGroup
	for g := range 8 {
		all.Go(func() {
			for n := range 40 {
				e := entry
				e.Who = fmt.Sprintf("spiffe://owner.example/operator/%d", g)
				token, err := l.Begin(e, n%5 == 0)
				if err == nil {
					err = token.End(audit.Outcome{Status: 200})
				}
				if n%4 == 0 {
					err = errors.Join(err, l.Deny(e), l.Note(audit.Event{Action: "hostHeld"}))
				}
				if n%13 == g {
					_, signed := l.Sign()
					_, read := l.Records(0, 100)
					err = errors.Join(err, signed, read)
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if err := l.Summarise(true); err != nil {
		t.Error(err)
	}
	sign(t, l)
	r, err := verify.Export(export(t, l, 0, nil), verify.Keys{Log: b.key(t, l)})
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[audit.Kind]int{}
	for _, rec := range r.Records {
		kinds[rec.Kind]++
	}
	if kinds[audit.KindOutcome] != 320 || kinds[audit.KindEvent] != 80 || kinds[audit.KindDenied]+int(r.Counted) != 80 || len(r.Open) != 0 || r.Missing != 0 {
		t.Errorf("%v, %d counted, open %v", kinds, r.Counted, r.Open)
	}
	t.Logf("%d records in %d batches", len(r.Records), s.batches)
}
