//go:build !arm

package verify

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-attestation/attest"
	"github.com/google/go-tpm/tpm2"

	"nitro/attest/akcert"
	"nitro/attest/eventlog"
	"nitro/attest/evidence"
	"nitro/attest/golden"
	"nitro/attest/identity"
	"nitro/attest/tpm"
	"nitro/internal/provisioned"
)

// A chip measures into a TPM.
type chip struct{ *provisioned.Boot }

func (c chip) Extend(pcr int, digest eventlog.Digest) error {
	return c.T.Extend(c.S, uint(pcr), digest)
}

// A real board has a TPM.
type real struct {
	*provisioned.Board
	certificate []byte
	issuers     *x509.CertPool
	public      []byte
}

func newReal(t *testing.T) *real {
	t.Helper()
	r := &real{Board: provisioned.New(t)}
	issuer, key := ca(t, "the owner", nil, nil)
	r.issuers = pool(issuer)
	r.public = tpm2.Marshal(r.Result.AK)
	r.certificate = must(akcert.New(akcert.Request{AK: r.public, EKCertificate: r.Result.EKCertificate.Raw, Product: product, UniqueID: number,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: akcert.Forever}, issuer, key))(t)
	return r
}

// start boots the board with these events, and gives what it makes evidence from.
func (r *real) start(t *testing.T, events []eventlog.Event) (*provisioned.Boot, *evidence.Source) {
	t.Helper()
	b := r.Boot(t, nil)
	log := eventlog.New()
	for _, e := range events {
		if err := log.Measure(chip{b}, e); err != nil {
			t.Fatal(err)
		}
	}
	ek := must(identity.EKCertificate(b.T, b.S))(t)
	return b, &evidence.Source{TPM: b.T, Session: b.S, AK: b.AK, AKPublic: r.Result.AK, AKCertificate: r.certificate, EKCertificates: [][]byte{ek},
		Log: log, NotChecked: []string{"the clock: it was not set yet"}}
}

func (r *real) policy(t *testing.T, nonce []byte) Policy {
	return Policy{
		Nonce: nonce, Issuers: r.issuers, Names: [][]byte{r.Result.AKName}, Makers: r.Config.Roots,
		Board: &golden.Board{Board: product, StorageName: r.Result.StorageName, AKName: r.Result.AKName, EKName: r.Result.EKName, UniqueID: number,
			PCR1: eventlog.Extend(eventlog.Digest{}, boardOf.Digest()), Events: []eventlog.Event{boardOf}},
		Releases: []*golden.Release{release(t, newController)}, SecurityVersion: 7, TLSKey: &tls, WrapKey: &wrap,
	}
}

// TestReal: what a board with a TPM hands out is accepted, and what an attacker makes of
// it is not.
func TestReal(t *testing.T) {
	board := newReal(t)
	b, source := board.start(t, boot(newController))
	text := must(source.Make(nonceOf))(t)
	p := board.policy(t, nonceOf)
	r, err := Evidence(text, p)
	if err != nil || r.Facts == nil {
		t.Fatalf("%v\n%s", err, list(r))
	}
	for _, c := range r.Checks {
		if (c.Outcome == OK) != c.Wanted || !c.Wanted && c.Name != "host firmware" { // TestHost has that
			t.Error(c)
		}
	}
	if len(text) > 10<<10 {
		t.Errorf("%d bytes, for %d events", len(text), len(source.Log.Events()))
	}
	for _, size := range []int{evidence.MinNonce, evidence.MaxNonce} {
		nonce := bytes.Repeat([]byte{7}, size)
		if _, err := Evidence(must(source.Make(nonce))(t), board.policy(t, nonce)); err != nil {
			t.Errorf("nonce of %d bytes: %v", size, err)
		}
	}
	p.Nonce = []byte("the next nonce")
	if r, err := Evidence(text, p); !errors.Is(err, ErrRefused) || fmt.Sprint(failed(r)) != "[nonce]" {
		t.Errorf("replayed: %v", err)
	}

	e := must(evidence.Decode(text))(t)
	p = board.policy(t, nonceOf)
	for name, part := range map[string]*[]byte{"quote": &e.Quote, "signature": &e.Signature, "log": &e.EventLog, "nonce": &e.Nonce, "public": &e.AKPublic} {
		whole := *part
		for i := 0; i < len(whole); i += 5 {
			*part = bytes.Clone(whole)
			(*part)[i] ^= 1
			if _, err := Evidence(encode(t, e), p); err == nil && !(name == "log" && told(whole, i)) {
				t.Errorf("%s, byte %d of %d: accepted", name, i, len(whole))
			}
		}
		*part = whole
	}

	// Another board of the same making answers for this one.
	other := newReal(t)
	_, stranger := other.start(t, boot(newController))
	if r, err := Evidence(must(stranger.Make(nonceOf))(t), p); !errors.Is(err, ErrRefused) || fmt.Sprint(failed(r)) != "[known key key certificate board part]" {
		t.Errorf("another board: %v", err)
	}

	// Something is measured that is not in the log, which the board does not notice.
	if err := b.T.Extend(b.S, 5, d(1)); err != nil {
		t.Fatal(err)
	}
	if r, err := Evidence(must(source.Make(nonceOf))(t), p); !errors.Is(err, ErrRefused) || fmt.Sprint(failed(r)) != "[replay]" || !strings.Contains(err.Error(), "PCR 5") {
		t.Errorf("measured past the log: %v", err)
	}

	// An older release.
	_, source = board.start(t, boot(oldController))
	p.Releases = append(p.Releases, release(t, oldController))
	if r, err := Evidence(must(source.Make(nonceOf))(t), p); !errors.Is(err, ErrRefused) || fmt.Sprint(failed(r)) != "[security version]" {
		t.Errorf("an older release: %v", err)
	}
	// No cap.
	_, source = board.start(t, without(boot(newController), "cap"))
	if r, err := Evidence(must(source.Make(nonceOf))(t), p); !errors.Is(err, ErrRefused) || fmt.Sprint(failed(r)) != "[cap]" {
		t.Errorf("not capped: %v", err)
	}
}

// told tells whether a byte of a log is in the event that is not measured.
func told(log []byte, i int) bool {
	at := bytes.Index(log, []byte("nitro slot"))
	return i >= at && i < at+len("nitro slot slot=a attempt=3")
}

// TestSource: what evidence cannot be made of.
func TestSource(t *testing.T) {
	board := newReal(t)
	b, source := board.start(t, boot(newController))
	for _, n := range []int{0, evidence.MinNonce - 1, evidence.MaxNonce + 1} {
		if _, err := source.Make(make([]byte, n)); err == nil {
			t.Errorf("a nonce of %d bytes", n)
		}
	}
	log := source.Log
	source.Log = logOf(t, without(boot(newController), "identity"))
	if _, err := source.Make(nonceOf); !errors.Is(err, evidence.ErrIncomplete) {
		t.Errorf("without the keys of the boot: %v", err)
	}
	source.Log = log
	source.NotChecked = []string{"two\nlines"}
	if _, err := source.Make(nonceOf); err == nil {
		t.Error("words with a line break")
	}
	source.NotChecked = nil
	board.Chip.Reset()
	if _, err := source.Make(nonceOf); !errors.Is(err, tpm.ErrLost) || b.T.Lost() == nil {
		t.Errorf("after a reset of the TPM alone: %v", err)
	}
}

// stock are a quote and its log for verifiers that know nothing of this board.
func stock(t *testing.T) (*evidence.Evidence, string) {
	t.Helper()
	board := newReal(t)
	_, source := board.start(t, boot(newController))
	e := must(evidence.Decode(must(source.Make(nonceOf))(t)))(t)
	return e, t.TempDir()
}

// TestCheckquote: tpm2_checkquote of tpm2-tools accepts the quote, the PCRs and the log,
// and refuses others.
func TestCheckquote(t *testing.T) {
	e, dir := stock(t)
	key, _, err := akcert.CheckKey(e.AKPublic)
	if err != nil {
		t.Fatal(err)
	}
	spki := must(x509.MarshalPKIXPublicKey(key))(t)
	run := func(e *evidence.Evidence) (string, error) {
		t.Helper()
		for name, b := range map[string][]byte{
			"key.pem": pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki}), "quote": e.Quote, "signature": e.Signature, "pcrs": e.ToolPCRs(), "log": e.EventLog,
		} {
			if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		cmd := exec.Command("tpm2_checkquote", "-u", "key.pem", "-m", "quote", "-s", "signature", "-g", "sha256", "-q", hex.EncodeToString(e.Nonce),
			"-f", "pcrs", "-e", "log")
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if out, err := run(e); err != nil {
		t.Fatalf("tpm2_checkquote (Debian's tpm2-tools, which internal/deps/install.sh installs): %v\n%s", err, out)
	}
	for name, change := range map[string]func(e *evidence.Evidence){
		"nonce":     func(e *evidence.Evidence) { e.Nonce = []byte("another nonce") },
		"quote":     func(e *evidence.Evidence) { e.Quote = bytes.Clone(e.Quote); e.Quote[60] ^= 1 },
		"PCR":       func(e *evidence.Evidence) { e.PCRs[3][0] ^= 1 },
		"other log": func(e *evidence.Evidence) { e.EventLog = logOf(t, boot(oldController)).Bytes() },
	} {
		changed := *e
		change(&changed)
		if out, err := run(&changed); err == nil {
			t.Errorf("%s changed: tpm2_checkquote accepts\n%s", name, out)
		}
	}
}

// TestGoAttestation: so does go-attestation.
func TestGoAttestation(t *testing.T) {
	e, _ := stock(t)
	ak := must(attest.ParseAKPublic(e.AKPublic))(t)
	pcrs := func() (all []attest.PCR) {
		for i, v := range e.PCRs {
			all = append(all, attest.PCR{Index: i, Digest: bytes.Clone(v[:]), DigestAlg: crypto.SHA256})
		}
		return all
	}
	values, quote := pcrs(), attest.Quote{Quote: e.Quote, Signature: e.Signature}
	if err := ak.VerifyAll([]attest.Quote{quote}, values, nonceOf); err != nil {
		t.Fatal(err)
	}
	log := must(attest.ParseEventLog(e.EventLog))(t)
	events, err := log.Verify(values)
	if err != nil {
		t.Fatal(err)
	}
	// It does not hand out what is told and not measured.
	measured := without(boot(newController), "slot")
	if len(events) != len(measured) {
		t.Errorf("%d events, measured are %d", len(events), len(measured))
	}
	for i, ev := range events {
		if i < len(measured) && (ev.Index != measured[i].PCR || string(ev.Data) != measured[i].Text) {
			t.Errorf("event %d: PCR %d: %q", i, ev.Index, ev.Data)
		}
	}
	if err := ak.VerifyAll([]attest.Quote{quote}, pcrs(), []byte("another nonce")); err == nil {
		t.Error("another nonce: accepted")
	}
	other := must(attest.ParseEventLog(logOf(t, boot(oldController)).Bytes()))(t)
	if _, err := other.Verify(values); err == nil {
		t.Error("another log: accepted")
	}
}
