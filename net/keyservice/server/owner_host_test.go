//go:build !arm

package server

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"nitro/net/keyservice"
	"nitro/net/keyservice/kms"
	"nitro/net/policy"
	"nitro/nvme/key"
)

// TestRevoked: a running service sees at once that a control plane was revoked: its
// certificate, access keys, waiting grants and standing leases are void, and what is issued
// later counts.
func TestRevoked(t *testing.T) {
	r := newRig(t)
	b := r.board(6)
	o := r.owner()
	a := must(o.Access(principal("one")))(t)
	v, w := [16]byte{1}, [16]byte{2}
	must(r.control.CreateKey(t.Context(), v))(t)
	must(r.control.CreateKey(t.Context(), w))(t)
	text := b.document(t)
	must(r.control.Obtain(t.Context(), keyservice.Ask{Volume: w, Lease: time.Minute, Standing: true}, b.prove(w)))(t)
	blob := must(r.control.Obtain(t.Context(), keyservice.Ask{Volume: v, Lease: time.Minute, Form: keyservice.CMS}, b.prove(v)))(t).Ciphertext
	if _, err := r.sdk(a).Decrypt(t.Context(), envelopeOf(blob, text)); err != nil {
		t.Fatal(err)
	}
	if err := o.Revoke(principal("two")); err != nil {
		t.Fatal(err)
	}
	if _, err := r.control.Challenge(t.Context()); err != nil {
		t.Fatalf("another one was revoked: %v", err)
	}
	if err := o.Revoke(principal("one")); err != nil {
		t.Fatal(err)
	}
	if _, err := r.control.Challenge(t.Context()); code(err) != keyservice.Forbidden {
		t.Errorf("revoked: %v", err)
	}
	if _, err := r.sdk(a).Decrypt(t.Context(), envelopeOf(blob, text)); errorType(err) != kms.UnrecognizedClient {
		t.Errorf("its access key: %v", err)
	}
	if _, err := r.alone.Obtain(t.Context(), keyservice.Ask{Volume: w, Lease: time.Minute}, b.prove(w)); code(err) != keyservice.Forbidden || !strings.Contains(err.Error(), "revoked") {
		t.Errorf("its standing lease: %v", err)
	}
	// Admitted again in the same second.
	a = must(o.Access(principal("one")))(t)
	if _, err := r.sdk(a).Decrypt(t.Context(), envelopeOf(blob, text)); errorType(err) != kms.AccessDenied {
		t.Errorf("a grant of before: %v", err)
	}
	since := must(o.Since(principal("one")))(t)
	if void := must(r.revoked.void("one", since))(t); void || !since.After(r.now.Add(-time.Second)) {
		t.Errorf("a certificate from %v on is void", since)
	}
	if void := must(r.revoked.void("one", since.Add(-time.Second)))(t); !void {
		t.Errorf("a certificate from a second before %v on is not void", since)
	}
	// The owner's clock goes back: what was void stays so.
	r.pass(-time.Hour)
	if err := o.Revoke(principal("one")); err != nil {
		t.Fatal(err)
	}
	if void := must(r.revoked.void("one", since.Add(-time.Second)))(t); !void {
		t.Error("the time of a revocation went back")
	}
	// What cannot be read lets nobody in.
	if err := os.WriteFile(filepath.Join(r.folder, revokedFolder, "three"), []byte("0"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := r.tls.issue(t, principal("three").String())
	if _, err := r.client(&c).Challenge(t.Context()); code(err) != keyservice.Internal {
		t.Errorf("a damaged file: %v", err)
	}
	// One access key alone.
	if err := o.RevokeAccess(a.ID); err != nil {
		t.Fatal(err)
	}
	if err := o.RevokeAccess(a.ID); !errors.Is(err, errNoAccess) {
		t.Errorf("revoked twice: %v", err)
	}
	if _, err := r.sdk(a).Decrypt(t.Context(), envelopeOf(blob, text)); errorType(err) != kms.UnrecognizedClient {
		t.Errorf("one access key: %v", err)
	}
	for event, want := range map[string]int{"access": 2, "revocation": 4} {
		if l := r.lines(event); len(l) != want || l[0].From != "folder" || l[0].Who == "" {
			t.Errorf("%s: %+v", event, l)
		}
	}
	if _, err := ReadLog(r.folder, func([]byte, Head) error { return nil }); err != nil {
		t.Error(err)
	}
}

// TestOwner: whom the owner can admit, and what is recorded of it.
func TestOwner(t *testing.T) {
	r := newRig(t)
	o := r.owner()
	for _, p := range []policy.Principal{{}, {Owner: owner, Role: policy.Operator, Name: "one"}, principal(""), principal("../one"), principal("a/b")} {
		_, access := o.Access(p)
		_, since := o.Since(p)
		if access == nil || since == nil || o.Revoke(p) == nil || o.Admit(p, &x509.Certificate{}) == nil {
			t.Errorf("%+v passes", p)
		}
	}
	if o.RevokeAccess("../keys/0100000000000") == nil {
		t.Error("an identifier is a path")
	}
	if err := o.Admit(principal("one"), &x509.Certificate{Raw: []byte{1}}); err != nil {
		t.Fatal(err)
	}
	if l := r.lines("admission"); len(l) != 1 || len(l[0].Certificate) != 64 || l[0].Who != principal("one").String() {
		t.Errorf("%+v", l)
	}
	// An access key that cannot be recorded does not stay; a revocation does.
	o.log.file.Close()
	if _, err := o.Access(principal("one")); err == nil || len(must(os.ReadDir(filepath.Join(r.folder, accessFolder)))(t)) != 0 {
		t.Errorf("an access key that is not recorded: %v", err)
	}
	if err := o.Revoke(principal("one")); err == nil || !must(r.revoked.void("one", r.now))(t) {
		t.Errorf("a revocation that is not recorded: %v", err)
	}
}

// TestAccess: access keys lie there only encrypted, and a file that was changed, or is
// another's, opens nothing.
func TestAccess(t *testing.T) {
	r := newRig(t)
	o := r.owner()
	a, b := must(o.Access(principal("one")))(t), must(o.Access(principal("two")))(t)
	if !kms.ValidID(a.ID) || len(a.Secret) != kms.AccessSecretSize || a.ID == b.ID || a.Secret == b.Secret {
		t.Errorf("%+v, %+v", a, b)
	}
	path := func(a kms.Access) string { return filepath.Join(r.folder, accessFolder, a.ID) }
	whole := must(os.ReadFile(path(a)))(t)
	if bytes.Contains(whole, []byte(a.Secret)) || bytes.Contains(whole, []byte("one")) {
		t.Error("it is there in the clear")
	}
	if k := must(r.accesses.open(a.ID))(t); string(k.secret) != a.Secret || k.who != principal("one") || k.made.Unix() != r.now.Unix() {
		t.Errorf("%+v", k)
	}
	for i := range whole {
		bad := bytes.Clone(whole)
		bad[i] ^= 1
		if err := replace(path(a), bad); err != nil {
			t.Fatal(err)
		}
		if _, err := r.accesses.open(a.ID); err == nil {
			t.Errorf("byte %d may be changed", i)
		}
	}
	for what, bad := range map[string][]byte{"another's": must(os.ReadFile(path(b)))(t), "nothing": nil, "half": whole[:len(whole)/2], "a large one": make([]byte, maxAccess+1)} {
		if err := replace(path(a), bad); err != nil {
			t.Fatal(err)
		}
		if _, err := r.accesses.open(a.ID); err == nil {
			t.Errorf("%s passes", what)
		}
	}
	if _, err := r.sdk(a).Decrypt(t.Context(), envelopeOf(nil, nil)); errorType(err) != kms.Internal {
		t.Errorf("a damaged file: %v", err)
	}
}

// TestFolder: one service has a folder, until it ends.
func TestFolder(t *testing.T) {
	r := newRig(t)
	if _, err := Open(r.conf); err == nil || !strings.Contains(err.Error(), "runs on it already") {
		t.Errorf("a second service: %v", err)
	}
	if _, err := r.control.Challenge(t.Context()); err != nil {
		t.Errorf("the first one: %v", err)
	}
	r.open()
	if len(r.lines("start")) != 2 || len(r.lines("stop")) != 1 {
		t.Error("start and stop are not in the log")
	}
	// A folder of before has neither access keys nor revocations.
	r.Service.Close()
	for _, name := range []string{accessFolder, revokedFolder} {
		if err := os.Remove(filepath.Join(r.folder, name)); err != nil {
			t.Fatal(err)
		}
	}
	r.open()
	if _, err := r.owner().Access(principal("one")); err != nil {
		t.Error(err)
	}
}

// TestShares: nobody keeps another one from waiting, neither grants nor challenges.
func TestShares(t *testing.T) {
	now := time.Now()
	grant := func(volume, ak int) key.Grant {
		return key.Grant{Volume: [16]byte{byte(volume), byte(volume >> 8)}, AK: [key.NameSize]byte{byte(ak), byte(ak >> 8)}}
	}
	for _, c := range []struct {
		what  string
		share int
		add   func(l *waitingList, who, n int) bool
	}{
		{"control planes", planeShare, func(l *waitingList, who, n int) bool {
			return l.add(waiting{who: fmt.Sprint("plane", who), grant: grant(n, n), at: now})
		}},
		{"boards", boardShare, func(l *waitingList, who, n int) bool { return l.add(waiting{grant: grant(n, who), at: now}) }},
	} {
		l := &waitingList{}
		for who := range maxWaiting / c.share {
			for n := range c.share + 1 {
				if ok := c.add(l, who, n); ok != (n < c.share) {
					t.Fatalf("%s: number %d of one: %v", c.what, n, ok)
				}
			}
			if !c.add(l, who, 0) || len(l.all) != (who+1)*c.share {
				t.Fatalf("%s: a grant for the same volume and board does not take the place of the old one: %d", c.what, len(l.all))
			}
		}
		if c.add(l, 999, 0) {
			t.Errorf("%s: more than %d wait", c.what, maxWaiting)
		}
		if !l.add(waiting{who: "x", grant: grant(1, 1), at: now}) == (c.what == "boards") || !l.add(waiting{grant: grant(1, 999), at: now}) == (c.what == "control planes") {
			t.Errorf("%s keep others out", c.what)
		}
		if now = now.Add(confirmationLife + 1); !c.add(l, 999, 0) || len(l.all) != 1 {
			t.Errorf("%s: old ones stay: %d", c.what, len(l.all))
		}
	}
	h := newChallenges()
	for who := range maxChallenges / maxPlane {
		for n := range maxPlane + 1 {
			if _, ok := h.add(now, asker{plane: fmt.Sprint(who)}); ok != (n < maxPlane) {
				t.Fatalf("challenge %d of one: %v", n, ok)
			}
		}
	}
	if _, ok := h.add(now, asker{plane: "more"}); ok {
		t.Error("too many challenges wait")
	}
	if _, ok := h.add(now, asker{from: netip.MustParsePrefix("192.0.2.1/32")}); !ok {
		t.Error("control planes keep boards out")
	}
	if _, ok := h.add(now.Add(challengeLife+1), asker{plane: "more"}); !ok || len(h.counts) != 1 || h.planes != 1 {
		t.Errorf("old challenges stay: %d of %d", h.planes, len(h.counts))
	}
}

// TestLog: a line that is changed, taken out, put in or torn is noticed, and what two
// processes write is one chain.
func TestLog(t *testing.T) {
	folder := t.TempDir()
	path := filepath.Join(folder, logFile)
	open := func() *journal {
		j := must(openJournal(path))(t)
		t.Cleanup(func() { j.file.Close() })
		return j
	}
	one, two := open(), open()
	for i := range 6 {
		if err := []*journal{one, two, two}[i%3].add(record{Event: fmt.Sprint("event", i), Why: strings.Repeat("<", 2*maxWhy)}); err != nil {
			t.Fatal(err)
		}
	}
	read := func() (n int, h Head, err error) {
		h, err = ReadLog(folder, func([]byte, Head) error { n++; return nil })
		return n, h, err
	}
	n, head, err := read()
	if n != 6 || head.N != 6 || err != nil || head != two.head {
		t.Fatalf("%d lines, %+v, %v", n, head, err)
	}
	whole := must(os.ReadFile(path))(t)
	lines := bytes.SplitAfter(whole, []byte("\n"))[:6]
	for what, bad := range map[string][]byte{
		"changed":   bytes.Replace(whole, []byte("event2"), []byte("event9"), 1),
		"taken out": bytes.Join(append(append([][]byte{}, lines[:2]...), lines[3:]...), nil),
		"swapped":   bytes.Join([][]byte{lines[0], lines[2], lines[1], lines[3]}, nil),
		"twice":     bytes.Join([][]byte{lines[0], lines[1], lines[1]}, nil),
		"begun":     bytes.Join(lines[1:], nil),
		"no JSON":   append(bytes.Clone(whole), "x\n"...),
	} {
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, _, err := read(); err == nil {
			t.Errorf("%s: it passes", what)
		}
	}
	// Cut off the end: the chain is whole, but the head is an older one. A process that has
	// the log open goes on no more.
	if err := os.WriteFile(path, bytes.Join(lines[:5], nil), 0o600); err != nil {
		t.Fatal(err)
	}
	if n, h, err := read(); n != 5 || err != nil || h == head {
		t.Errorf("%d lines, %+v, %v", n, h, err)
	}
	if err := two.add(record{}); err == nil {
		t.Error("it goes on after a log that was cut")
	}
	// Torn by a power cut, anywhere in a line, or in the very first one.
	for _, cut := range []int{1, 5, len(lines[5]) - 1} {
		if err := os.WriteFile(path, whole[:len(whole)-cut], 0o600); err != nil {
			t.Fatal(err)
		}
		if err := open().add(record{Event: "after"}); err != nil {
			t.Fatal(err)
		}
		b := must(os.ReadFile(path))(t)
		if n, _, err := read(); n != 6 || err != nil || !bytes.Contains(b, fmt.Appendf(nil, `"torn":%d`, len(lines[5])-cut)) {
			t.Errorf("cut by %d: %d lines, %v", cut, n, err)
		}
	}
	if err := os.WriteFile(path, lines[0][:7], 0o600); err != nil {
		t.Fatal(err)
	}
	if err := open().add(record{}); err != nil {
		t.Error(err)
	}
	if n, _, err := read(); n != 1 || err != nil {
		t.Errorf("%d lines, %v", n, err)
	}
	// Of another version, or damaged where it goes on.
	for _, bad := range []string{"{}\n", `{"n":3,"prev":"00"}` + "\n", strings.Repeat("x", 3*maxLine)} {
		if err := os.WriteFile(path, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if j, err := openJournal(path); err == nil {
			j.file.Close()
			t.Errorf("%.20s opens", bad)
		}
	}
}

// TestStanding: one control plane does not fill the file of standing leases, and what cannot
// be written there is not granted.
func TestStanding(t *testing.T) {
	r := newRig(t)
	b := r.board(6)
	v := [16]byte{1}
	must(r.control.CreateKey(t.Context(), v))(t)
	must(b.recipient.Public(t.Context()))(t)
	for i := range standingShare {
		r.standing[keyservice.Identity([16]byte{2, byte(i), byte(i >> 8)})] = standing{Who: principal("one").String()}
	}
	ask := keyservice.Ask{Volume: v, Lease: time.Minute, Standing: true, Form: keyservice.CMS}
	if _, err := r.control.Obtain(t.Context(), ask, b.prove(v)); code(err) != keyservice.Busy {
		t.Errorf("more than %d stand: %v", standingShare, err)
	}
	c := r.tls.issue(t, principal("two").String())
	if _, err := r.client(&c).Obtain(t.Context(), ask, b.prove(v)); err != nil {
		t.Errorf("one keeps another out: %v", err)
	}
	clear(r.standing)
	r.waiting.all = nil
	r.conf.Folder = filepath.Join(r.folder, "none")
	if _, err := r.control.Obtain(t.Context(), ask, b.prove(v)); code(err) != keyservice.Internal || len(r.waiting.all) != 0 || len(r.standing) != 0 {
		t.Errorf("it cannot be written: %v, %d wait", err, len(r.waiting.all))
	}
}
