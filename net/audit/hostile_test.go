package audit_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"nitro/boot/medium/mediumtest"
	"nitro/boot/store"
	"nitro/net/audit"
	"nitro/net/audit/verify"
)

// sample is an export with all that there can be in one, and its keys.
func sample(t testing.TB) (audit.Export, verify.Keys) {
	t.Helper()
	b := newBoard(t)
	l := b.open(t)
	work(t, l, 3)
	older := sign(t, l)
	work(t, l, 40)
	cosigned := newWitness("witness.example/w").cosign(t, b.key(t, l), sign(t, l))
	var x audit.Export
	if err := json.Unmarshal(export(t, l, 83, older), &x); err != nil {
		t.Fatal(err)
	}
	x.Checkpoint = string(cosigned)
	return x, verify.Keys{Log: b.key(t, l), Witnesses: b.config.Witnesses, Quorum: 1}
}

func marshal(t testing.TB, x audit.Export) []byte {
	t.Helper()
	b, err := json.Marshal(x)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestTamper changes each byte of each part of an export.
func TestTamper(t *testing.T) {
	x, keys := sample(t)
	if r, err := verify.Export(marshal(t, x), keys); err != nil || !r.Continues || r.Cosigned != 1 {
		t.Fatalf("untouched: %v", err)
	}
	flip := func(what string, b []byte, then func([]byte)) {
		step := 1
		if testing.Short() {
			step = 7
		}
		for i := 0; i < len(b); i += step {
			c := bytes.Clone(b)
			c[i] ^= 1
			then(c)
			if _, err := verify.Export(marshal(t, x), keys); err == nil {
				t.Errorf("%s, byte %d of %d: not noticed", what, i, len(b))
			}
		}
		then(b)
	}
	for i, r := range x.Records {
		flip(fmt.Sprintf("record %d", i), r, func(b []byte) { x.Records[i] = b })
	}
	for i, h := range x.Left {
		flip(fmt.Sprintf("subtree %d", i), h, func(b []byte) { x.Left[i] = b })
	}
	for i, h := range x.Consistency {
		flip(fmt.Sprintf("consistency %d", i), h, func(b []byte) { x.Consistency[i] = b })
	}
	flip("checkpoint", []byte(x.Checkpoint), func(b []byte) { x.Checkpoint = string(b) })
	flip("older", []byte(x.Older), func(b []byte) { x.Older = string(b) })
	flip("origin", []byte(x.Origin), func(b []byte) { x.Origin = string(b) })
}

// TestCutOffAndForked: what an export may not be.
func TestCutOffAndForked(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*audit.Export, *verify.Keys)
		want   error
	}{
		"the last record left out": {func(x *audit.Export, _ *verify.Keys) { x.Records = x.Records[:len(x.Records)-1] }, verify.ErrRecords},
		"the first one left out":   {func(x *audit.Export, _ *verify.Keys) { x.Records, x.First = x.Records[1:], x.First+1 }, verify.ErrRecords},
		"one from the middle":      {func(x *audit.Export, _ *verify.Keys) { x.Records = slices.Delete(x.Records, 1, 2) }, verify.ErrRecords},
		"two exchanged":            {func(x *audit.Export, _ *verify.Keys) { x.Records[0], x.Records[1] = x.Records[1], x.Records[0] }, verify.ErrRecords},
		"one too many":             {func(x *audit.Export, _ *verify.Keys) { x.Records = append(x.Records, x.Records[0]) }, verify.ErrRecords},
		"another beginning":        {func(x *audit.Export, _ *verify.Keys) { x.First-- }, verify.ErrRecords},
		"a far beginning":          {func(x *audit.Export, _ *verify.Keys) { x.First = 1 << 63 }, verify.ErrRecords},
		"an old checkpoint":        {func(x *audit.Export, k *verify.Keys) { x.Checkpoint, k.Quorum = x.Older, 0 }, verify.ErrRecords},
		"older and newer exchanged": {func(x *audit.Export, k *verify.Keys) {
			x.Checkpoint, x.Older, k.Quorum = x.Older, x.Checkpoint, 0
			x.First, x.Records = 7, [][]byte{}
			x.Left = [][]byte{make([]byte, 32), make([]byte, 32), make([]byte, 32)}
		}, verify.ErrRecords},
		"no proof":             {func(x *audit.Export, _ *verify.Keys) { x.Consistency = nil }, verify.ErrForked},
		"another log's older":  {func(x *audit.Export, _ *verify.Keys) { y, _ := sample(t); x.Older = y.Older }, nil},
		"another log's key":    {func(_ *audit.Export, k *verify.Keys) { _, other := sample(t); k.Log = other.Log }, nil},
		"no witness":           {func(_ *audit.Export, k *verify.Keys) { k.Witnesses = nil }, nil},
		"two witnesses wanted": {func(_ *audit.Export, k *verify.Keys) { k.Quorum = 2 }, nil},
		"an unknown format":    {func(x *audit.Export, _ *verify.Keys) { x.Format = 2 }, nil},
		"a short hash":         {func(x *audit.Export, _ *verify.Keys) { x.Left[0] = x.Left[0][:31] }, verify.ErrRecords},
	} {
		x, keys := sample(t)
		c.change(&x, &keys)
		if _, err := verify.Export(marshal(t, x), keys); err == nil || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestPowerCuts: whatever the moment of the cut, what was acknowledged is there, and
// nothing but what was tried.
func TestPowerCuts(t *testing.T) {
	cuts := 0
	for _, tear := range mediumtest.Tears {
		step := 1
		if testing.Short() {
			step = 7
		}
		for after := int(tear); ; after += step {
			b := newBoard(t)
			l := b.open(t)
			work(t, l, 30) // 61 records: the next ones are sealed
			sign(t, l)
			base := l.Stats().Size
			b.card.CutAfter(after, tear)
			acknowledged, tried, signed := script(l)
			if !b.card.Off() {
				break
			}
			b.card.PowerOn()
			cuts++
			again, err := b.boot()
			if err != nil {
				t.Fatalf("%v, %d sectors: %v", tear, after, err)
			}
			// the boot is a record too
			if n := again.Stats().Size - 1; n < base+acknowledged || n > base+tried {
				t.Fatalf("%v, %d sectors: %d records, of %d acknowledged, %d tried", tear, after, n, base+acknowledged, base+tried)
			}
			work(t, again, 40)
			older := signed
			sign(t, again)
			if _, err := verify.Export(export(t, again, 0, older), verify.Keys{Log: b.key(t, again)}); err != nil {
				t.Fatalf("%v, %d sectors: %v", tear, after, err)
			}
		}
	}
	if cuts < 20 {
		t.Errorf("only %d cuts", cuts)
	}
}

// script writes across the sealing of a segment and signs; it stops when the power goes.
func script(l *audit.Log) (acknowledged, tried uint64, signed []byte) {
	for range 4 {
		tried++
		token, err := l.Begin(entry, false)
		if err != nil {
			return
		}
		acknowledged, tried = acknowledged+1, tried+1
		if token.End(audit.Outcome{Status: 200}) != nil {
			return
		}
		acknowledged++
	}
	if b, err := l.Sign(); err == nil {
		signed = b
	}
	return
}

// A failingStore fails when it is told to.
type failingStore struct {
	audit.Store
	commit, checkpoint error
}

func (s *failingStore) Commit(b *store.Batch) error {
	if s.commit != nil {
		return s.commit
	}
	return s.Store.Commit(b)
}

func (s *failingStore) Checkpoint() error {
	if s.checkpoint != nil {
		return s.checkpoint
	}
	return s.Store.Checkpoint()
}

// TestStoreFails: what cannot be recorded is refused, what is safe runs, and the gap is
// recorded.
func TestStoreFails(t *testing.T) {
	b := newBoard(t)
	s, err := store.Open(b.store())
	if err != nil {
		t.Fatal(err)
	}
	f := &failingStore{Store: s}
	b.config.Store = f
	l, err := audit.Open(b.config)
	if err != nil {
		t.Fatal(err)
	}
	begun, err := l.Begin(entry, false)
	if err != nil {
		t.Fatal(err)
	}
	f.commit = errors.New("the card is gone")
	if _, err := l.Begin(entry, false); !errors.Is(err, audit.ErrUnrecorded) {
		t.Errorf("an intent: %v", err)
	}
	if token, err := l.Begin(entry, true); err != nil || token.Recorded {
		t.Errorf("a safe one: %v", err)
	}
	if err := l.Deny(entry); !errors.Is(err, audit.ErrUnrecorded) {
		t.Errorf("a denial: %v", err)
	}
	if err := begun.End(audit.Outcome{Status: 200}); err == nil {
		t.Error("an outcome is recorded nowhere")
	}
	if st := l.Stats(); st.Lost != 3 || st.Pending != 0 {
		t.Errorf("%+v", st)
	}
	f.commit = nil
	work(t, l, 1)
	f.checkpoint = errors.New("the TPM is gone")
	if b, err := l.Sign(); err == nil || b != nil {
		t.Error("signed what can be replayed away")
	}
	f.checkpoint = nil
	sign(t, l)
	r, err := verify.Export(export(t, l, 0, nil), verify.Keys{Log: b.key(t, l)})
	if err != nil {
		t.Fatal(err)
	}
	if r.Missing != 3 || len(r.Open) != 1 {
		t.Errorf("%d missing, %d open", r.Missing, len(r.Open))
	}
}

// TestSealFails: a store without room for segments leaves the tail's room.
func TestSealFails(t *testing.T) {
	b := newBoard(t)
	s, err := store.Open(b.store())
	if err != nil {
		t.Fatal(err)
	}
	f := &sealFails{Store: s, fail: true}
	b.config.Store = f
	l, err := audit.Open(b.config)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for ; ; n++ {
		token, err := l.Begin(entry, false)
		if err != nil {
			break
		}
		if err := token.End(audit.Outcome{}); err != nil {
			t.Fatal(err)
		}
	}
	if st := l.Stats(); !errors.Is(st.Stuck, store.ErrFull) || n < 29 || n > 32 {
		t.Errorf("%d requests, %+v", n, st)
	}
	f.fail = false
	if token, err := l.Begin(entry, true); err != nil || !token.Recorded {
		t.Errorf("a safe one: %v", err)
	}
	work(t, l, 100)
	sign(t, l)
	if _, err := verify.Export(export(t, l, 0, nil), verify.Keys{Log: b.key(t, l)}); err != nil {
		t.Error(err)
	}
}

// A sealFails has no room for segments. A log's batch behind the one that gives the tail a
// segment's worth of records is the one that seals.
type sealFails struct {
	audit.Store
	fail, next bool
}

func (s *sealFails) Commit(b *store.Batch) error {
	if s.next {
		s.next = false
		return fmt.Errorf("no room: %w", store.ErrFull)
	}
	err := s.Store.Commit(b)
	names, _ := s.List("audit/t/")
	s.next = s.fail && len(names) >= audit.SegmentRecords
	return err
}

// TestStoreFull: a store that others have filled still takes what is safe.
func TestStoreFull(t *testing.T) {
	b := newBoard(t)
	s, err := store.Open(b.store())
	if err != nil {
		t.Fatal(err)
	}
	b.config.Store = s
	l, err := audit.Open(b.config)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; err == nil; i++ {
		err = s.Put(fmt.Sprint("other/", i), make([]byte, 30000))
	}
	if !errors.Is(err, store.ErrFull) {
		t.Fatal(err)
	}
	for err = nil; err == nil; {
		_, err = l.Begin(entry, false)
	}
	if st := l.Stats(); !errors.Is(err, audit.ErrUnrecorded) || !errors.Is(st.Stuck, store.ErrFull) || st.Size > audit.MaxTail {
		t.Errorf("an intent: %v, %+v", err, st)
	}
	for range 20 {
		token, err := l.Begin(entry, true)
		if err != nil || !token.Recorded {
			t.Fatalf("a safe one: %v", err)
		}
		if err := token.End(audit.Outcome{Status: 204}); err != nil {
			t.Fatal(err)
		}
	}
}

// TestDamage: a store whose records do not fit together is no log.
func TestDamage(t *testing.T) {
	for name, c := range map[string]func(*store.Store) error{
		"a segment that is missing": func(s *store.Store) error { return s.Delete("audit/s/00000001") },
		"a segment in another's place": func(s *store.Store) error {
			return errors.Join(s.Delete("audit/s/00000001"), s.Put("audit/s/00000003", []byte("x")))
		},
		"a segment from nowhere":     func(s *store.Store) error { return s.Put("audit/s/00000009", []byte("x")) },
		"a hash too few":             func(s *store.Store) error { return s.Put("audit/h/00000000", make([]byte, 64)) },
		"another hash":               func(s *store.Store) error { return s.Put("audit/h/00000000", make([]byte, 96)) },
		"half a hash":                func(s *store.Store) error { return s.Put("audit/h/00000000", make([]byte, 95)) },
		"a tail with a hole":         func(s *store.Store) error { return s.Delete("audit/t/000000c1") },
		"a tail behind itself":       func(s *store.Store) error { return s.Put("audit/t/00000fff", []byte("x")) },
		"another record in the tail": func(s *store.Store) error { return s.Put("audit/t/000000c0", []byte("{}")) },
		"a long record":              func(s *store.Store) error { return s.Put("audit/t/000000c0", make([]byte, audit.MaxRecord+1)) },
		"a name that is no number":   func(s *store.Store) error { return s.Put("audit/t/x", []byte("x")) },
		"a name in capitals":         func(s *store.Store) error { return s.Put("audit/s/0000000A", []byte("x")) },
		"no name of the log":         func(s *store.Store) error { return s.Put("audit/log", []byte("2 x")) },
		"another checkpoint":         func(s *store.Store) error { return s.Put("audit/note", []byte("x\n1\nx\n\n")) },
		"a checkpoint of the future": func(s *store.Store) error { return s.Put("audit/note", future(s)) },
	} {
		b := newBoard(t)
		work(t, b.open(t), 99) // 199 records: 3 segments, 7 in the tail
		sign(t, b.open(t))
		s, err := store.Open(b.store())
		if err != nil {
			t.Fatal(err)
		}
		if err := c(s); err != nil {
			t.Fatal(err)
		}
		if _, err := b.boot(); err == nil {
			t.Errorf("%s: opened", name)
		}
	}
}

// future is the store's checkpoint, over a million records more.
func future(s *store.Store) []byte {
	b, _ := s.Get("audit/note")
	origin, rest, _ := strings.Cut(string(b), "\n")
	_, rest, _ = strings.Cut(rest, "\n")
	return []byte(origin + "\n1000000\n" + rest)
}

// TestStory: records that were signed, and do not fit together.
func TestStory(t *testing.T) {
	for name, texts := range map[string][]string{
		"no boot first":            {`{"v":1,"n":0,"up":1,"boot":0,"kind":"intent"}`},
		"a boot of another":        {`{"v":1,"n":0,"up":1,"boot":1,"kind":"boot"}`},
		"an index too far":         {`{"v":1,"n":1,"up":1,"boot":0,"kind":"boot"}`},
		"an outcome of none":       {`{"v":1,"n":0,"up":1,"boot":0,"kind":"boot"}`, `{"v":1,"n":1,"up":1,"boot":0,"kind":"outcome","of":0}`},
		"two outcomes of one":      {`{"v":1,"n":0,"up":1,"boot":0,"kind":"boot"}`, `{"v":1,"n":1,"up":1,"boot":0,"kind":"intent"}`, `{"v":1,"n":2,"up":1,"boot":0,"kind":"outcome","of":1}`, `{"v":1,"n":3,"up":1,"boot":0,"kind":"outcome","of":1}`},
		"an outcome after a boot":  {`{"v":1,"n":0,"up":1,"boot":0,"kind":"boot"}`, `{"v":1,"n":1,"up":1,"boot":0,"kind":"intent"}`, `{"v":1,"n":2,"up":1,"boot":2,"kind":"boot"}`, `{"v":1,"n":3,"up":1,"boot":2,"kind":"outcome","of":1}`},
		"another boot":             {`{"v":1,"n":0,"up":1,"boot":0,"kind":"boot"}`, `{"v":1,"n":1,"up":1,"boot":1,"kind":"intent"}`},
		"a sum of nothing":         {`{"v":1,"n":0,"up":1,"boot":0,"kind":"boot"}`, `{"v":1,"n":1,"up":9,"boot":0,"kind":"denials","from":1,"to":2}`},
		"a sum from back to front": {`{"v":1,"n":0,"up":1,"boot":0,"kind":"boot"}`, `{"v":1,"n":1,"up":9,"boot":0,"kind":"denials","count":2,"from":3,"to":2}`},
		"a sum of the future":      {`{"v":1,"n":0,"up":1,"boot":0,"kind":"boot"}`, `{"v":1,"n":1,"up":9,"boot":0,"kind":"denials","count":2,"from":3,"to":10}`},
		"back in time":             {`{"v":1,"n":0,"up":2,"boot":0,"kind":"boot"}`, `{"v":1,"n":1,"up":1,"boot":0,"kind":"intent"}`},
		"a clock set far back":     {`{"v":1,"n":0,"t":"2027-01-15T08:00:00.000Z","up":2,"boot":0,"kind":"boot"}`, `{"v":1,"n":1,"t":"2027-01-15T07:00:00.000Z","up":3,"boot":0,"kind":"intent"}`},
		"an unknown kind":          {`{"v":1,"n":0,"up":1,"boot":0,"kind":"key"}`},
		"an unknown version":       {`{"v":2,"n":0,"up":1,"boot":0,"kind":"boot"}`},
		"an unknown member":        {`{"v":1,"n":0,"up":1,"boot":0,"kind":"boot","x":1}`},
		"no time":                  {`{"v":1,"n":0,"t":"yesterday","up":1,"boot":0,"kind":"boot"}`},
	} {
		x, keys := signedRecords(t, texts)
		if _, err := verify.Export(marshal(t, x), keys); err == nil {
			t.Errorf("%s: believed", name)
		}
	}
	x, keys := signedRecords(t, []string{`{"v":1,"n":0,"up":1,"boot":0,"kind":"boot"}`, `{"v":1,"n":1,"up":1,"boot":0,"kind":"intent"}`})
	if r, err := verify.Export(marshal(t, x), keys); err != nil || len(r.Open) != 1 {
		t.Errorf("a good story: %v", err)
	}
}

func FuzzExport(f *testing.F) {
	x, keys := sample(f)
	f.Add(marshal(f, x))
	fuzzCorpus(f, keptExports)
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := verify.Export(b, keys)
		if err == nil && r.Head.Origin != x.Origin {
			t.Error("another log's export was believed")
		}
	})
}

func FuzzRecord(f *testing.F) {
	x, _ := sample(f)
	for _, r := range x.Records {
		f.Add(r)
	}
	fuzzCorpus(f, keptRecords)
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := audit.DecodeRecord(b); err != nil {
			return
		}
		m, err := audit.Syslog(b, "board")
		if err != nil || bytes.ContainsAny(m, "\n\r\x00") {
			t.Errorf("%q: %v", m, err)
		}
	})
}

func FuzzCheckpoint(f *testing.F) {
	x, keys := sample(f)
	f.Add([]byte(x.Checkpoint))
	fuzzCorpus(f, keptCheckpoints)
	v, err := audit.NewLogVerifier(keys.Log)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if h, _, err := audit.OpenCheckpoint(b, v); err == nil && (h.Origin != x.Origin || h.Size != 87) {
			t.Errorf("%+v", h)
		}
	})
}

// TestCutWhileClearing: a cut leaves one stretch of records, whose end nobody has touched.
func TestCutWhileClearing(t *testing.T) {
	cuts := 0
	for after := 0; ; after++ {
		b := newBoard(t)
		l := b.open(t)
		work(t, l, 100) // 201 records, three segments
		if err := l.Witness(newWitness("witness.example/w").cosign(t, b.key(t, l), sign(t, l))); err != nil {
			t.Fatal(err)
		}
		b.card.CutAfter(after, mediumtest.Prefix)
		n, _ := l.Compact()
		if !b.card.Off() {
			break
		}
		cuts++
		b.card.PowerOn()
		again := b.open(t)
		first := again.Stats().First
		if first%audit.SegmentRecords != 0 || first < uint64(n) || first > 192 {
			t.Fatalf("%d sectors: cleared %d, kept from %d on", after, n, first)
		}
		sign(t, again)
		if _, err := verify.Export(export(t, again, first, nil), verify.Keys{Log: b.key(t, again)}); err != nil {
			t.Fatalf("%d sectors: %v", after, err)
		}
	}
	if cuts < 3 {
		t.Errorf("only %d cuts", cuts)
	}
}
