package audit_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"nitro/boot/code"
	"nitro/boot/medium"
	"nitro/boot/medium/mediumtest"
	"nitro/boot/store"
	"nitro/net/audit"
	"nitro/net/audit/verify"
)

// A softSigner is the log's key in the test's memory.
type softSigner struct{ *ecdsa.PrivateKey }

func (s softSigner) Public() *ecdsa.PublicKey { return &s.PublicKey }
func (s softSigner) Sign(text []byte) ([]byte, error) {
	digest := sha256.Sum256(text)
	return ecdsa.SignASN1(rand.Reader, s.PrivateKey, digest[:])
}

// A witness cosigns.
type witness struct {
	name string
	key  ed25519.PrivateKey
}

func newWitness(name string) witness {
	return witness{name, ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize))}
}

func (w witness) public() []byte { return append([]byte{4}, w.key.Public().(ed25519.PublicKey)...) }

func (w witness) Name() string { return w.name }
func (w witness) KeyHash() uint32 {
	h := sha256.Sum256(append([]byte(w.name+"\n"), w.public()...))
	return binary.BigEndian.Uint32(h[:])
}

func (w witness) Sign(text []byte) ([]byte, error) {
	s := binary.BigEndian.AppendUint64(nil, 1234567890)
	return append(s, ed25519.Sign(w.key, fmt.Appendf(nil, "cosignature/v1\ntime 1234567890\n%s", text))...), nil
}

func (w witness) vkey() string {
	return fmt.Sprintf("%s+%08x+%s", w.name, w.KeyHash(), base64.StdEncoding.EncodeToString(w.public()))
}

// cosign adds the witness's signature.
func (w witness) cosign(t testing.TB, log string, checkpoint []byte) []byte {
	t.Helper()
	v, err := audit.NewLogVerifier(log)
	if err != nil {
		t.Fatal(err)
	}
	n, err := note.Open(checkpoint, note.VerifierList(v))
	if err != nil {
		t.Fatal(err)
	}
	b, err := note.Sign(n, w)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// A counter is the TPM's.
type counter struct {
	mu    sync.Mutex
	value uint64
	boots int
}

// boot is the counter as a boot sees it: what goes on in an earlier one reaches it no more.
func (c *counter) boot() store.Counter {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.boots++
	return &booted{c, c.boots}
}

type booted struct {
	*counter
	boot int
}

func (b *booted) Read() (uint64, error) { return b.add(0) }

func (b *booted) Increment() (uint64, error) { return b.add(1) }

func (b *booted) add(n uint64) (uint64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.boot != b.boots {
		return 0, mediumtest.ErrPowerCut
	}
	b.value += n
	return b.value, nil
}

// A board is a card, a counter, a key and clocks.
type board struct {
	card    *mediumtest.Card
	counter counter
	config  audit.Config
	up      time.Duration
	known   bool
}

const blocks = 48 * 64 // of the smallest store that is comfortable: 48 segments

var place = medium.Place{Size: blocks * 512}

func newBoard(t testing.TB) *board {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	b := &board{card: mediumtest.New(blocks), known: true}
	b.config = audit.Config{Signer: softSigner{key}, Name: "owner.example/board/1", Segments: 4, Random: rand.Read, Running: "controller 1.0",
		Witnesses: []string{newWitness("witness.example/w").vkey()}}
	b.clocks()
	if err := store.Format(b.store()); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *board) clocks() {
	b.config.Up = func() time.Duration { b.up += time.Millisecond; return b.up }
	b.config.Now = func() (time.Time, bool) { return time.Unix(1800000000, 0).Add(b.up), b.known }
}

func (b *board) store() store.Config {
	return store.Config{Device: b.card, Place: place, Key: bytes.Repeat([]byte{1}, store.KeySize), Counter: b.counter.boot()}
}

// boot mounts the store and opens the log.
func (b *board) boot() (*audit.Log, error) {
	s, err := store.Open(b.store())
	if err != nil {
		return nil, err
	}
	b.up, b.config.Store = 0, s
	return audit.Open(b.config)
}

func (b *board) open(t testing.TB) *audit.Log {
	t.Helper()
	l, err := b.boot()
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// key is the log's, for verifiers.
func (b *board) key(t testing.TB, l *audit.Log) string {
	t.Helper()
	k, err := audit.VerifierKey(l.Origin(), b.config.Signer.Public())
	if err != nil {
		t.Fatal(err)
	}
	return k
}

var entry = audit.Entry{Who: "spiffe://owner.example/operator/mona", Action: "resetHost", Type: "Host",
	Resource: "/redfish/v1/Systems/host", Method: "POST", Reset: "On", Why: "operators-run-servers"}

// work records whole requests.
func work(t testing.TB, l *audit.Log, n int) {
	t.Helper()
	for range n {
		token, err := l.Begin(entry, false)
		if err != nil {
			t.Fatal(err)
		}
		if err := token.End(audit.Outcome{Status: 204}); err != nil {
			t.Fatal(err)
		}
	}
}

func sign(t testing.TB, l *audit.Log) []byte {
	t.Helper()
	b, err := l.Sign()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func export(t testing.TB, l *audit.Log, from uint64, older []byte) []byte {
	t.Helper()
	write, err := l.Export(from, older)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := write(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestLog: what is recorded can be verified, in this boot and in the next.
func TestLog(t *testing.T) {
	b := newBoard(t)
	l := b.open(t)
	key := verify.Keys{Log: b.key(t, l)}
	work(t, l, 50)
	older := sign(t, l)
	if again := sign(t, l); !bytes.Equal(older, again) {
		t.Error("a log that has not grown was signed again")
	}
	if err := l.Deny(entry); err != nil {
		t.Fatal(err)
	}
	l.Count(func(c *audit.Counters) { c.TLS += 3 })
	if _, err := l.Begin(entry, false); err != nil { // the reset cuts it off
		t.Fatal(err)
	}
	l = b.open(t)
	work(t, l, 20)
	l.Count(func(c *audit.Counters) { c.Busy++ })
	token, _ := l.Begin(entry, false)
	sign(t, l)
	r, err := verify.Export(export(t, l, 0, older), key)
	if err != nil {
		t.Fatal(err)
	}
	// boot, 50 requests, denial, cut intent; boot, 20 requests, open intent, counters
	if len(r.Records) != 1+100+2+1+40+2 || !r.Continues || len(r.Cut) != 1 || r.Cut[0] != 102 || len(r.Open) != 1 || r.Open[0] != token.N || r.Missing != 0 {
		t.Errorf("%d records, %+v %v %v %v", len(r.Records), r.Head, r.Continues, r.Cut, r.Open)
	}
	if last := r.Records[len(r.Records)-1]; last.Kind != audit.KindCounters || last.Counters.Busy != 1 || last.T == "" {
		t.Errorf("%+v", last)
	}
	if first := r.Records[0]; first.Kind != audit.KindBoot || first.Detail != "controller 1.0" || first.Boot != 0 {
		t.Errorf("%+v", first)
	}
	if i := r.Records[1]; i.Kind != audit.KindIntent || i.Who != entry.Who || i.Action != entry.Action || i.Resource != entry.Resource || i.Reset != "On" || i.Why != entry.Why {
		t.Errorf("%+v", i)
	}
	if o := r.Records[2]; o.Kind != audit.KindOutcome || o.Of != 1 || o.Status != 204 {
		t.Errorf("%+v", o)
	}
	if _, err := verify.Export(export(t, l, 70, nil), key); err != nil {
		t.Errorf("from the middle: %v", err)
	}
	if err := token.End(audit.Outcome{Status: 200}); err != nil {
		t.Error(err)
	}
	if err := token.End(audit.Outcome{}); !errors.Is(err, audit.ErrEnded) {
		t.Errorf("the second end: %v", err)
	}
}

// TestProofs: each record in each tree, and each tree in each later one.
func TestProofs(t *testing.T) {
	b := newBoard(t)
	l := b.open(t)
	var heads []audit.Head
	v, err := audit.NewLogVerifier(b.key(t, l))
	if err != nil {
		t.Fatal(err)
	}
	for range 10 {
		work(t, l, 8)
		h, _, err := audit.OpenCheckpoint(sign(t, l), v)
		if err != nil {
			t.Fatal(err)
		}
		heads = append(heads, h)
	}
	records, err := l.Records(0, 1000)
	if err != nil || len(records) != 161 {
		t.Fatalf("%d records, %v", len(records), err)
	}
	step := uint64(1)
	if testing.Short() {
		step = 5
	}
	for i, h := range heads {
		for n := uint64(i) % step; n < h.Size; n += step {
			p, err := l.Inclusion(n, h.Size)
			if err != nil {
				t.Fatal(err)
			}
			if err := verify.Included(h, n, records[n], p); err != nil {
				t.Errorf("record %d of %d: %v", n, h.Size, err)
			}
			if err := verify.Included(h, n, records[(n+1)%h.Size], p); !errors.Is(err, verify.ErrRecords) {
				t.Errorf("record %d in the place of %d: %v", (n+1)%h.Size, n, err)
			}
		}
		for _, older := range heads[:i+1] {
			p, err := l.Consistency(older.Size, h.Size)
			if err != nil {
				t.Fatal(err)
			}
			var hashes [][]byte
			for _, h := range p {
				hashes = append(hashes, h[:])
			}
			if err := verify.Continues(older, h, hashes); err != nil {
				t.Error(err)
			}
			older.Root[0] ^= 1
			if err := verify.Continues(older, h, hashes); !errors.Is(err, verify.ErrForked) {
				t.Errorf("another root of %d records: %v", older.Size, err)
			}
		}
	}
	for _, err := range []error{
		func() error { _, err := l.Inclusion(5, 5); return err }(),
		func() error { _, err := l.Inclusion(0, 1000); return err }(),
		func() error { _, err := l.Consistency(6, 5); return err }(),
		func() error { _, err := l.Consistency(5, 1000); return err }(),
		func() error { _, err := l.Records(1000, 1); return err }(),
	} {
		if !errors.Is(err, audit.ErrRange) {
			t.Errorf("out of range: %v", err)
		}
	}
}

// TestFull: a full log stops what changes things, and not what is safe, until it has been
// witnessed and cleared.
func TestFull(t *testing.T) {
	b := newBoard(t)
	l := b.open(t)
	began, _ := l.Begin(entry, false)
	var refused error
	for n := 0; refused == nil; n++ {
		if n > 10000 {
			t.Fatal("the log is never full")
		}
		var token *audit.Token
		if token, refused = l.Begin(entry, false); refused == nil {
			if err := token.End(audit.Outcome{Status: 200}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if !errors.Is(refused, audit.ErrUnrecorded) || code.Of(refused) != code.AuditUnwritable {
		t.Errorf("full: %v", refused)
	}
	if s := l.Stats(); s.Size < 4*64 || s.Room < audit.Reserve || s.Room > audit.Reserve+4 {
		t.Errorf("full: %+v", s)
	}
	_ = l.Deny(entry) // of which one may fit where an intent and its outcome do not
	if err := l.Deny(entry); !errors.Is(err, audit.ErrUnrecorded) {
		t.Errorf("a denial: %v", err)
	}
	if err := l.Note(audit.Event{Action: "hostHeld"}); !errors.Is(err, audit.ErrUnrecorded) {
		t.Errorf("an event: %v", err)
	}
	relief := entry
	relief.Relief = true
	for l.Stats().Lost < 3 { // what relieves the log goes on, and leaves half of the reserve
		token, err := l.Begin(relief, false)
		if err != nil {
			t.Fatalf("relief: %v", err)
		}
		if err := token.End(audit.Outcome{Status: 200}); err != nil {
			t.Errorf("its outcome: %v", err)
		}
	}
	if s := l.Stats(); s.Room < audit.Reserve/2 || s.Room > audit.Reserve/2+4 {
		t.Errorf("behind the relief: %+v", s)
	}
	recorded := 0
	for range 3 * audit.Reserve {
		token, err := l.Begin(entry, true)
		if err != nil {
			t.Fatalf("a safe action: %v", err)
		}
		if token.Recorded {
			recorded++
		}
		if err := token.End(audit.Outcome{Status: 204}); err != nil {
			t.Errorf("its outcome: %v", err)
		}
	}
	if recorded < audit.Reserve/4-4 || recorded > audit.Reserve/4 {
		t.Errorf("%d safe actions recorded", recorded)
	}
	if err := began.End(audit.Outcome{Status: 200}); err != nil {
		t.Errorf("the outcome of what began before: %v", err)
	}
	lost := l.Stats().Lost
	if want := uint64(3*audit.Reserve - recorded); lost != want { // that of the denial is recorded
		t.Errorf("%d lost, not %d", lost, want)
	}
	l = b.open(t) // full still: not even the boot has room
	if token, err := l.Begin(entry, true); err != nil || token.Recorded {
		t.Errorf("full, after a restart: %v %v", token, err)
	}
	sign(t, l)
	write, err := l.Export(0, nil)
	if err != nil {
		t.Fatal(err)
	}
	clearLog(t, b, l)
	if err := write(io.Discard); !errors.Is(err, audit.ErrGone) {
		t.Errorf("an export whose records were cleared meanwhile: %v", err)
	}
	if _, err := l.Export(0, nil); !errors.Is(err, audit.ErrGone) {
		t.Errorf("an export of records that were cleared: %v", err)
	}
	work(t, l, 1)
	sign(t, l)
	r, err := verify.Export(export(t, l, l.Stats().First, nil), verify.Keys{Log: b.key(t, l)})
	if err != nil {
		t.Fatal(err)
	}
	if r.Missing != 6 { // the denial, the event, three reliefs, and the safe action after the restart
		t.Errorf("%d missing", r.Missing)
	}
	if kinds := fmt.Sprint(r.Records[len(r.Records)-4].Kind, r.Records[len(r.Records)-3].Kind); kinds != "bootgap" {
		t.Errorf("behind the clearing: %s", kinds)
	}
}

// clearLog has a witness cosign, and clears.
func clearLog(t testing.TB, b *board, l *audit.Log) {
	t.Helper()
	if n, err := l.Compact(); n != 0 || err != nil {
		t.Errorf("cleared %d without a witness: %v", n, err)
	}
	cosigned := newWitness("witness.example/w").cosign(t, b.key(t, l), sign(t, l))
	if err := l.Witness(cosigned); err != nil {
		t.Fatal(err)
	}
	if n, err := l.Compact(); n == 0 || err != nil {
		t.Errorf("cleared %d: %v", n, err)
	}
}

// TestCompact: what is cleared is gone, what is kept can be proved, also after a restart.
func TestCompact(t *testing.T) {
	b := newBoard(t)
	l := b.open(t)
	work(t, l, 70) // 141 records, two segments
	clearLog(t, b, l)
	for again := range 2 {
		if again == 1 {
			l = b.open(t)
		}
		if s := l.Stats(); s.First != 128 || s.Witnessed != 141 || s.Signed != 141+uint64(again)*80 {
			t.Errorf("%+v", s)
		}
		if _, err := l.Records(127, 1); !errors.Is(err, audit.ErrGone) {
			t.Errorf("a record that was cleared: %v", err)
		}
		if _, err := l.Consistency(100, 141); !errors.Is(err, audit.ErrGone) {
			t.Errorf("a size within what was cleared: %v", err)
		}
		work(t, l, 40)
		sign(t, l)
		witnessed, _ := l.Witnessed()
		r, err := verify.Export(export(t, l, 128, witnessed), verify.Keys{Log: b.key(t, l), Witnesses: b.config.Witnesses})
		if err != nil || !r.Continues {
			t.Error(err)
		}
	}
}

// TestWitness: what does not let records be cleared.
func TestWitness(t *testing.T) {
	b := newBoard(t)
	l := b.open(t)
	work(t, l, 70)
	own := sign(t, l)
	w := newWitness("witness.example/w")
	good := w.cosign(t, b.key(t, l), own)
	other := newBoard(t)
	foreign := other.open(t)
	work(t, foreign, 70)
	fork := newBoard(t)
	fork.config.Signer, fork.config.Random = b.config.Signer, func(id []byte) (int, error) {
		return hex.Decode(id, []byte(l.Origin()[strings.LastIndex(l.Origin(), "/")+1:]))
	}
	forked := fork.open(t)
	work(t, forked, 71)
	for name, c := range map[string]struct {
		b    []byte
		want error
	}{
		"the log's own signature only": {own, audit.ErrWitness},
		"an unknown witness":           {newWitness("other.example/w").cosign(t, b.key(t, l), own), audit.ErrWitness},
		"another log":                  {w.cosign(t, other.key(t, foreign), sign(t, foreign)), audit.ErrWitness},
		"a changed root":               {bytes.Replace(good, []byte("\n141\n"), []byte("\n140\n"), 1), audit.ErrWitness},
		"a fork of the log":            {w.cosign(t, b.key(t, l), sign(t, forked)), audit.ErrForked},
		"too long":                     {append(bytes.Clone(good), make([]byte, audit.MaxNote)...), audit.ErrWitness},
		"nothing":                      {nil, audit.ErrWitness},
	} {
		if err := l.Witness(c.b); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
		if n, err := l.Compact(); n != 0 || err != nil {
			t.Fatalf("%s: cleared %d: %v", name, n, err)
		}
	}
	if forked.Origin() != l.Origin() {
		t.Fatal("the fork is none")
	}
	if err := l.Witness(good); err != nil {
		t.Error(err)
	}
}

// TestSignedIsForEver: who puts an older card back does not get a log that contradicts a
// checkpoint: the store refuses the card, or the log has all that was signed.
func TestSignedIsForEver(t *testing.T) {
	b := newBoard(t)
	l := b.open(t)
	work(t, l, 10)
	b.card.Settle()
	var copies []*mediumtest.Card
	work(t, l, 2)
	sign(t, l)
	size := l.Stats().Size
	work(t, l, 2)
	for _, c := range b.card.States() {
		copies = append(copies, c)
	}
	late := 0
	for i, c := range copies {
		b.card = c
		l, err := b.boot()
		if err != nil {
			if !errors.Is(err, store.ErrRolledBack) && !errors.Is(err, store.ErrCounter) {
				t.Fatalf("copy %d: %v", i, err)
			}
			continue
		}
		late++
		if got := l.Stats().Size; got < size {
			t.Fatalf("copy %d: %d records, of %d that were signed", i, got, size)
		}
	}
	if late == 0 || late == len(copies) {
		t.Errorf("%d of %d copies opened", late, len(copies))
	}
}

// TestConfig: what no log can do without.
func TestConfig(t *testing.T) {
	b := newBoard(t)
	b.open(t)
	for name, change := range map[string]func(*audit.Config){
		"no store":       func(c *audit.Config) { c.Store = nil },
		"no name":        func(c *audit.Config) { c.Name = "" },
		"a space":        func(c *audit.Config) { c.Name = "a b" },
		"a plus":         func(c *audit.Config) { c.Name = "a+b" },
		"another board":  func(c *audit.Config) { c.Name = "owner.example/board/2" },
		"many segments":  func(c *audit.Config) { c.Segments = 1 << 20 },
		"a negative one": func(c *audit.Config) { c.Segments = -1 },
	} {
		c := b.config
		if change(&c); func() error { _, err := audit.Open(c); return err }() == nil {
			t.Errorf("%s: not refused", name)
		}
	}
}

// TestConcurrent: many requests, checkpoints and witnesses at a time.
func TestConcurrent(t *testing.T) {
	b := newBoard(t)
	var up atomic.Int64
	b.config.Up = func() time.Duration { return time.Duration(up.Add(1)) * time.Millisecond }
	b.config.Now = func() (time.Time, bool) { return time.Unix(1800000000, 0), true }
	b.config.Segments = 30
	l := b.open(t)
	key := b.key(t, l)
	var requests, others sync.WaitGroup
	for range 8 {
		requests.Go(func() {
			for range 25 {
				token, err := l.Begin(entry, false)
				if err != nil {
					t.Error(err)
					return
				}
				if err := token.End(audit.Outcome{Status: 200}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	stop := make(chan struct{})
	others.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			if b, err := l.Sign(); err != nil {
				t.Error(err)
			} else if err := l.Witness(newWitness("witness.example/w").cosign(t, key, b)); err != nil {
				t.Error(err)
			}
			l.Count(func(c *audit.Counters) { c.TLS++ })
			if s := l.Stats(); s.Size > 0 {
				if _, err := l.Inclusion(s.Size-1, s.Size); err != nil {
					t.Error(err)
				}
			}
		}
	})
	requests.Wait()
	close(stop)
	others.Wait()
	sign(t, l)
	r, err := verify.Export(export(t, l, 0, nil), verify.Keys{Log: key})
	if err != nil || r.Head.Size < 401 || len(r.Open) > 0 || len(r.Cut) > 0 {
		t.Errorf("%v", err)
	}
}
