package audit_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/rfc6962"
	"golang.org/x/mod/sumdb/note"

	"nitro/internal/corpus"
	"nitro/net/audit"
	"nitro/net/audit/verify"
)

// What the fuzzer found: see package corpus.
var (
	//go:embed testdata/exports.hex
	keptExports string
	//go:embed testdata/records.hex
	keptRecords string
	//go:embed testdata/checkpoints.hex
	keptCheckpoints string
)

func fuzzCorpus(f *testing.F, lines string) { corpus.Add(f, lines) }

// signedRecords is an export of any records, signed as a log does it.
func signedRecords(t testing.TB, texts []string) (audit.Export, verify.Keys) {
	t.Helper()
	x := audit.Export{Format: 1, Origin: "x.example/log", Left: [][]byte{}}
	tree := (&compact.RangeFactory{Hash: rfc6962.DefaultHasher.HashChildren}).NewEmptyRange(0)
	for _, s := range texts {
		x.Records = append(x.Records, []byte(s))
		if err := tree.Append(rfc6962.DefaultHasher.HashLeaf([]byte(s)), nil); err != nil {
			t.Fatal(err)
		}
	}
	root, err := tree.GetRootHash(nil)
	if err != nil {
		t.Fatal(err)
	}
	checkpoint, keys := signedText(t, fmt.Sprintf("%s\n%d\n%s\n", x.Origin, len(texts), base64.StdEncoding.EncodeToString(root)))
	x.Checkpoint = string(checkpoint)
	return x, keys
}

// signedText is a note of the log x.example/log.
func signedText(t testing.TB, text string) ([]byte, verify.Keys) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	vkey, err := audit.VerifierKey("x.example/log", &key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	b, err := note.Sign(&note.Note{Text: text}, testSigner{vkey, key})
	if err != nil {
		t.Fatal(err)
	}
	return b, verify.Keys{Log: vkey}
}

// TestHeads: signed texts that are no checkpoint, or another spelling of one.
func TestHeads(t *testing.T) {
	const root = "f+7CoKgXKE/tNys9TTXcr/ad6U/K3xvznmzew9y6SP0="
	for text, good := range map[string]bool{
		"x.example/log\n7\n" + root + "\n":                   true,
		"x.example/log\n07\n" + root + "\n":                  false,
		"x.example/log\n+7\n" + root + "\n":                  false,
		"x.example/log\n7\n" + root[:42] + "1=\n":            false,
		"x.example/log\n7\n" + root[:40] + "\n":              false,
		"x.example/log\n7\n" + root + "\nmore\n":             false,
		"x.example/log\n7\n":                                 false,
		"y.example/log\n7\n" + root + "\n":                   false,
		"x.example/log\n9223372036854775808\n" + root + "\n": false,
	} {
		b, keys := signedText(t, text)
		v, err := audit.NewLogVerifier(keys.Log)
		if err != nil {
			t.Fatal(err)
		}
		if h, _, err := audit.OpenCheckpoint(b, v); (err == nil) != good || good && h.Size != 7 {
			t.Errorf("%q: %+v %v", text, h, err)
		}
	}
}

// A testSigner implements note.Signer.
type testSigner struct {
	vkey string
	key  *ecdsa.PrivateKey
}

func (s testSigner) Name() string { name, _, _ := strings.Cut(s.vkey, "+"); return name }
func (s testSigner) KeyHash() (h uint32) {
	fmt.Sscanf(strings.Split(s.vkey, "+")[1], "%x", &h)
	return h
}
func (s testSigner) Sign(text []byte) ([]byte, error) { return softSigner{s.key}.Sign(text) }

// TestPublishedKeys: checkpoints that others have published verify, so what signed-note
// says about type 0x02 is understood as they understand it.
func TestPublishedKeys(t *testing.T) {
	const pixel = "pixel6_transparency_log+91c16e30+AjBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABN+4x0Jk1yTwvLFI9A4NDdGZcX0aiWVdWM5XJVy0M4VWD3AvyW5Q6Hs9A0mcDkpUoYgn+KKPNzFC0H3nN3q6JQ8="
	const checkpoint = "DEFAULT\n10\nbsWRucJU5xJPHb5eBdOm6+DM+VelCZBuvtI3sHERJ9Y=\n\n— pixel6_transparency_log kcFuMDBFAiEAhqMAP8P6qf6QxtUJhzMhbN+MbZ9dwfUHzGQJmffJHtoCIGD0cNe47dHWBoPwYdgBCepB06/+g5O1FmYjXl06owL4\n"
	v, err := audit.NewLogVerifier(pixel)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := note.Open([]byte(checkpoint), note.VerifierList(v)); err != nil {
		t.Error(err)
	}
	// Its origin is not its key's name, which this log's always is.
	if _, _, err := audit.OpenCheckpoint([]byte(checkpoint), v); err == nil {
		t.Error("a checkpoint of another origin than its key's name")
	}
}

func TestKeys(t *testing.T) {
	w := newWitness("witness.example/w").vkey()
	p384, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	other, _ := audit.VerifierKey("x", &p384.PublicKey)
	for _, k := range []string{"", "x", "x+00000000", "x+00000000+", "x+0000000g+AjBZ", "x+00000000+!!!!", "+00000000+AjBZ", w, other,
		"pixel6_transparency_log+91c16e31+AjBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABN+4x0Jk1yTwvLFI9A4NDdGZcX0aiWVdWM5XJVy0M4VWD3AvyW5Q6Hs9A0mcDkpUoYgn+KKPNzFC0H3nN3q6JQ8="} {
		if _, err := audit.NewLogVerifier(k); err == nil {
			t.Errorf("a log's key: %q", k)
		}
	}
	if _, err := audit.NewWitnessVerifier(w); err != nil {
		t.Error(err)
	}
	for _, k := range []string{"", strings.Replace(w, "+BB", "+AR", 1), strings.Replace(w, "witness", "Witness", 1), other} {
		if _, err := audit.NewWitnessVerifier(k); err == nil && k != w {
			t.Errorf("a witness's key: %q", k)
		}
	}
}

// TestText: a record is never longer than its limit, whatever goes in.
func TestText(t *testing.T) {
	b := newBoard(t)
	b.config.Up = func() time.Duration { return 1 << 62 }
	l := b.open(t)
	evil := strings.Repeat("\x00\"\\<é\n", 200)
	denied := audit.Entry{Who: evil, Action: evil, Type: evil, Resource: evil, Method: evil, Reset: evil, Why: evil}
	token, err := l.Begin(denied, false)
	if err != nil {
		t.Fatal(err)
	}
	if err := token.End(audit.Outcome{Status: 599, Detail: evil}); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		err = errors.Join(err, l.Deny(denied))
	}
	if err = errors.Join(err, l.Summarise(true)); err != nil {
		t.Fatal(err)
	}
	records, err := l.Records(1, 19)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range records {
		if len(r) > audit.MaxRecord-12 { // further digits of n and boot

			t.Errorf("%d bytes", len(r))
		}
		if _, err := audit.DecodeRecord(r); err != nil {
			t.Error(err)
		}
	}
	t.Logf("the longest intent has %d bytes, its outcome %d, a denial %d, a sum of them %d", len(records[0]), len(records[1]), len(records[17]), len(records[18]))
}

func TestSyslog(t *testing.T) {
	for record, want := range map[string]string{
		`{"v":1,"n":7,"t":"2027-01-15T08:00:00.129Z","up":5,"boot":3,"kind":"intent","who":"spiffe://o/operator/m","action":"resetHost","reset":"On"}`: `148 <109>1 2027-01-15T08:00:00.129Z board-1 nitro - intent [nitro@32473 n="7" boot="3" up="5" who="spiffe://o/operator/m" action="resetHost" reset="On"]`,
		`{"v":1,"n":8,"up":5,"boot":3,"kind":"denied","resource":"a]b"}`:                                                                               `83 <108>1 - board-1 nitro - denied [nitro@32473 n="8" boot="3" up="5" resource="a\]b"]`,
		`{"v":1,"n":9,"up":5,"boot":3,"kind":"outcome","of":7,"status":503}`:                                                                           `88 <108>1 - board-1 nitro - outcome [nitro@32473 n="9" boot="3" up="5" of="7" status="503"]`,
		`{"v":1,"n":8,"up":70,"boot":3,"kind":"denials","who":"spiffe://o/operator/m","action":"readHost","count":984,"from":17,"to":64}`:              `145 <108>1 - board-1 nitro - denials [nitro@32473 n="8" boot="3" up="70" who="spiffe://o/operator/m" action="readHost" count="984" from="17" to="64"]`,
		`{"v":1,"n":7,"up":5,"boot":3,"kind":"denied","who":"spiffe://o/operator/m","rationed":true}`:                                                  `111 <108>1 - board-1 nitro - denied [nitro@32473 n="7" boot="3" up="5" who="spiffe://o/operator/m" rationed="true"]`,
		`{"v":1,"n":9,"up":5,"boot":3,"kind":"counters","counters":{"tls":1,"certificate":2,"principal":3,"request":4,"busy":0}}`:                      `128 <109>1 - board-1 nitro - counters [nitro@32473 n="9" boot="3" up="5" tls="1" certificate="2" principal="3" request="4" busy="0"]`,
	} {
		got, err := audit.Syslog([]byte(record), "board 1")
		if err != nil || string(got) != want {
			t.Errorf("%s %v", got, err)
		}
		if n, text, _ := strings.Cut(string(got), " "); fmt.Sprint(len(text)) != n {
			t.Errorf("%s: %d bytes", n, len(text))
		}
	}
	if _, err := audit.Syslog([]byte("x"), ""); err == nil {
		t.Error("no record")
	}
}

// An index is the TPM's NV extend index.
type index struct {
	value audit.Hash
	err   error
	count int
}

func (i *index) AuditDigest() (audit.Hash, error) { return i.value, i.err }
func (i *index) ExtendAudit(d audit.Hash) error {
	if i.err == nil {
		i.value = sha256.Sum256(append(i.value[:], d[:]...))
		i.count++
	}
	return i.err
}

func newRing(t *testing.T, i *index) *audit.Ring {
	t.Helper()
	var up time.Duration
	r, err := audit.NewRing(i, "controller 1.0", func() (time.Time, bool) { return time.Time{}, false }, func() time.Duration { up++; return up })
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestRing(t *testing.T) {
	i := &index{value: audit.Hash{1, 2, 3}}
	var r audit.Recorder = newRing(t, i)
	for n := range 400 { // so that the ring goes around
		token, err := r.Begin(entry, false)
		if err != nil {
			t.Fatal(err)
		}
		if err := token.End(audit.Outcome{Status: 200}); err != nil {
			t.Fatal(err)
		}
		if n == 200 {
			r.Count(func(c *audit.Counters) { c.TLS++ })
			if err := r.(*audit.Ring).Flush(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := r.Deny(entry); err != nil {
		t.Fatal(err)
	}
	ring := r.(*audit.Ring)
	if err := ring.Export().Verify(i.value); err != nil {
		t.Errorf("not flushed: %v", err)
	}
	if err := ring.Flush(); err != nil {
		t.Fatal(err)
	}
	x := ring.Export()
	if err := x.Verify(i.value); err != nil || len(x.Records) != audit.RingRecords || i.count != 404/audit.RingBlock+1+399/audit.RingBlock+1 {
		t.Errorf("%v, %d records, %d extends", err, len(x.Records), i.count)
	}
	b, err := x.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if y, err := audit.DecodeRing(b); err != nil || y.Verify(i.value) != nil || len(y.Records) != audit.RingRecords {
		t.Errorf("from JSON: %v", err)
	}
	for _, bad := range []string{`{}`, strings.Replace(string(b), `"format":1`, `"format":2`, 1), strings.Replace(string(b), `"chain":"`, `"chain":"AAAA`, 1)} {
		if _, err := audit.DecodeRing([]byte(bad)); err == nil {
			t.Errorf("believed: %.60s", bad)
		}
	}
	for name, change := range map[string]func(*audit.RingExport){
		"a changed record": func(x *audit.RingExport) {
			x.Records[5] = []byte(strings.Replace(string(x.Records[5]), "mona", "lisa", 1))
		},
		"one left out":       func(x *audit.RingExport) { x.Records = x.Records[1:] },
		"the last left out":  func(x *audit.RingExport) { x.Records = x.Records[:len(x.Records)-1] },
		"an extend left out": func(x *audit.RingExport) { x.Extended = x.Extended[1:] },
		"another beginning":  func(x *audit.RingExport) { x.Begin.Index[0] ^= 1 },
		"another chain":      func(x *audit.RingExport) { x.Begin.Chain[0] ^= 1 },
		"another index":      func(x *audit.RingExport) { x.End.Index[0] ^= 1 },
		"too many":           func(x *audit.RingExport) { x.Records = append(x.Records, x.Records...) },
	} {
		x := ring.Export()
		if change(&x); x.Verify(i.value) == nil {
			t.Errorf("%s: believed", name)
		}
	}
}

// TestRingWithoutTPM: what is not in the TPM soon is not recorded.
func TestRingWithoutTPM(t *testing.T) {
	i := &index{}
	r := newRing(t, i)
	i.err = errors.New("the TPM is gone")
	refused := 0
	for range 3 * audit.RingBlock {
		if err := r.Note(audit.Event{Action: "hostHeld"}); err != nil {
			refused++
		}
	}
	if refused != 2*audit.RingBlock+1 {
		t.Errorf("%d refused", refused)
	}
	if _, err := r.Begin(entry, false); !errors.Is(err, audit.ErrUnrecorded) {
		t.Errorf("an intent: %v", err)
	}
	if token, err := r.Begin(entry, true); err != nil || token.Recorded {
		t.Errorf("a safe one: %v", err)
	}
	i.err = nil
	if err := r.Note(audit.Event{Action: "hostHeld"}); err != nil {
		t.Error(err)
	}
	x := r.Export()
	if gap, err := audit.DecodeRecord(x.Records[audit.RingBlock]); err != nil || gap.Kind != audit.KindGap || gap.Count != uint64(refused)+1 {
		t.Errorf("%+v %v", gap, err)
	}
}

// TestOneSpelling: bits of a signature's last character that mean nothing are not free.
func TestOneSpelling(t *testing.T) {
	for range 64 {
		b, keys := signedText(t, "x.example/log\n7\nf+7CoKgXKE/tNys9TTXcr/ad6U/K3xvznmzew9y6SP0=\n")
		end := strings.TrimRight(string(b), "=\n")
		if len(b)-len(end) < 2 {
			continue // all its bits mean something
		}
		const digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
		b[len(end)-1] = digits[strings.IndexByte(digits, b[len(end)-1])^1]
		v, err := audit.NewLogVerifier(keys.Log)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := audit.OpenCheckpoint(b, v); err == nil {
			t.Error("two spellings of a signature")
		}
		return
	}
	t.Error("no signature with free bits in 64")
}

// TestEvents: what the board does by itself is recorded, in log and ring, and verifies.
func TestEvents(t *testing.T) {
	event := audit.Event{Action: "hostRunning", Type: "Host", Resource: "/redfish/v1/Systems/host", Detail: "cycle 3"}
	l := newBoard(t).open(t)
	ring := newRing(t, &index{})
	if err := errors.Join(l.Note(event), ring.Note(event)); err != nil {
		t.Fatal(err)
	}
	records, err := l.Records(0, 10)
	if err != nil {
		t.Fatal(err)
	}
	for _, all := range [][][]byte{records, ring.Export().Records} {
		r, err := audit.DecodeRecord(all[len(all)-1])
		if err != nil || r.Kind != audit.KindEvent || r.Action != event.Action || r.Resource != event.Resource || r.Detail != event.Detail {
			t.Errorf("%s: %v", all[len(all)-1], err)
		}
	}
}
