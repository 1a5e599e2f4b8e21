//go:build !arm

package server

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"nitro/attest/eventlog"
	"nitro/net/keyservice"
	"nitro/nvme/key"
)

// code is that of a refusal.
func code(err error) keyservice.Code {
	if e := (*keyservice.Error)(nil); errors.As(err, &e) {
		return e.Code
	}
	return ""
}

// accept hands a grant to the board, and its confirmation to the service.
func (r *rig) accept(b *board, g keyservice.Granted, v key.Volume) {
	r.t.Helper()
	_, confirmation, err := b.ring.Accept(g.Grant, g.Wrapped, v)
	if err != nil {
		r.t.Fatal(err)
	}
	if err := r.alone.Confirm(r.t.Context(), g.Grant, confirmation); err != nil {
		r.t.Fatal(err)
	}
	if err := r.alone.Confirm(r.t.Context(), g.Grant, confirmation); code(err) != keyservice.BadConfirmation {
		r.t.Errorf("confirmed twice: %v", err)
	}
}

// TestWay is the whole way of a key, with a real TPM, over TLS: made, granted, confirmed,
// asked for again by the board alone after a restart of both, deleted.
func TestWay(t *testing.T) {
	r := newRig(t)
	b := r.board(6)
	v := key.Volume{ID: [16]byte{1}, Salt: bytes.Repeat([]byte{5}, 32)}
	var err error
	if v.Commitment, err = r.control.CreateKey(t.Context(), v.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := r.control.CreateKey(t.Context(), v.ID); code(err) != keyservice.Exists {
		t.Errorf("made twice: %v", err)
	}
	ask := keyservice.Ask{Volume: v.ID, Standing: true, Lease: time.Minute}
	g, err := r.control.Obtain(t.Context(), ask, b.prove(v.ID))
	if err != nil {
		t.Fatal(err)
	}
	r.accept(b, g, v)
	first, err := key.OpenGrant(g.Grant, &r.grants.PublicKey)
	if err != nil || !first.Standing {
		t.Fatalf("%+v, %v", first, err)
	}

	r.open()
	b.restart(t)
	g, err = r.alone.Obtain(t.Context(), ask, b.prove(v.ID))
	if err != nil {
		t.Fatal(err)
	}
	r.accept(b, g, v)
	if again, err := key.OpenGrant(g.Grant, &r.grants.PublicKey); err != nil || again.Expires != first.Expires {
		t.Errorf("the lease went from %d to %d: %v", first.Expires, again.Expires, err)
	}

	if err := r.control.DeleteKey(t.Context(), v.ID); err != nil {
		t.Fatal(err)
	}
	if err := r.control.DeleteKey(t.Context(), v.ID); code(err) != keyservice.NoKey {
		t.Errorf("deleted twice: %v", err)
	}
	if _, err := r.alone.Obtain(t.Context(), ask, b.prove(v.ID)); code(err) != keyservice.Forbidden {
		t.Errorf("after deletion: %v", err)
	}
	if n := len(r.lines("grant")); n != 3 {
		t.Errorf("%d grants in the log, not 3", n)
	}
	if l := r.lines("confirmation"); len(l) != 4 || l[0].Result != "done" || l[0].AK == "" || l[1].Result != "refused" {
		t.Errorf("%+v", l)
	}
}

// TestEnvelope: a CMS grant names the recipient key that was measured, and the board takes
// the key in an envelope.
func TestEnvelope(t *testing.T) {
	r := newRig(t)
	b := r.board(6)
	v := key.Volume{ID: [16]byte{1}, Salt: bytes.Repeat([]byte{5}, 32)}
	v.Commitment, _ = r.control.CreateKey(t.Context(), v.ID)
	ask := keyservice.Ask{Volume: v.ID, Lease: time.Minute, Form: keyservice.CMS}
	if _, err := r.control.Obtain(t.Context(), ask, b.prove(v.ID)); code(err) != keyservice.BadRequest {
		t.Errorf("without a recipient key: %v", err)
	}
	der, err := b.recipient.Public(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	g, err := r.control.Obtain(t.Context(), ask, b.prove(v.ID))
	if err != nil || g.Wrapped != nil {
		t.Fatal(err)
	}
	k, _, err := r.keys.open(v.ID)
	if err != nil {
		t.Fatal(err)
	}
	to, err := key.ParseRecipient(der)
	if err != nil {
		t.Fatal(err)
	}
	if g.Wrapped, err = key.WrapEnvelope(to, k); err != nil {
		t.Fatal(err)
	}
	r.accept(b, g, v)
}

// TestRefused: each refusal of docs/keyservice.md, "Grants", each with a line in the log.
func TestRefused(t *testing.T) {
	r := newRig(t)
	good, other, changed := r.board(6), r.board(6), r.board(60)
	v, without := [16]byte{1}, [16]byte{2}
	if _, err := r.control.CreateKey(t.Context(), v); err != nil {
		t.Fatal(err)
	}
	ask := keyservice.Ask{Volume: v, Lease: time.Minute}
	prove := good.prove(v)
	var used [32]byte
	var usedRequest, usedEvidence []byte
	for _, c := range []struct {
		what  string
		code  keyservice.Code
		say   string
		ask   keyservice.Ask
		prove func(context.Context, [32]byte) ([]byte, []byte, error)
	}{
		{"good", "", "", ask, func(ctx context.Context, n [32]byte) (q, e []byte, err error) {
			q, e, err = prove(ctx, n)
			used, usedRequest, usedEvidence = n, q, e
			return q, e, err
		}},
		{"stale", keyservice.BadChallenge, "older", ask, func(ctx context.Context, n [32]byte) ([]byte, []byte, error) {
			r.pass(challengeLife + time.Second)
			return prove(ctx, n)
		}},
		{"another nonce", keyservice.BadEvidence, "nonce", ask, func(ctx context.Context, n [32]byte) ([]byte, []byte, error) {
			n[0]++
			return prove(ctx, n)
		}},
		{"another request", keyservice.BadEvidence, "nonce", ask, func(ctx context.Context, n [32]byte) ([]byte, []byte, error) {
			q, e, err := prove(ctx, n)
			q[30]++
			return q, e, err
		}},
		{"another configuration", keyservice.BadEvidence, "configuration", ask, changed.prove(v)},
		{"another wrapping key", keyservice.BadRequest, "wrapping key", ask, forge(good, func(q *key.Request) { q.Wrapping = other.config.Wrapping.PublicKey().Bytes() })},
		{"another host cycle", keyservice.BadRequest, "host cycle", ask, forge(good, func(q *key.Request) { q.Cycle++ })},
		{"a clock of the future", keyservice.BadRequest, "clock", ask, forge(good, func(q *key.Request) { q.Clock += 3_600_000 })},
		{"a clock of the past", keyservice.BadRequest, "clock", ask, forge(good, func(q *key.Request) { q.Clock -= 601_000 })},
		{"another volume", keyservice.BadRequest, "asks for volume", ask, good.prove(without)},
		{"too long", keyservice.BadLease, "lease", keyservice.Ask{Volume: v, Lease: time.Hour + time.Second}, prove},
		{"no time", keyservice.BadLease, "lease", keyservice.Ask{Volume: v}, prove},
		{"unknown volume", keyservice.NoKey, "no key", keyservice.Ask{Volume: without, Lease: time.Minute}, good.prove(without)},
		{"unknown form", keyservice.Malformed, "form", keyservice.Ask{Volume: v, Lease: time.Minute, Form: "PGP"}, prove},
	} {
		before := len(r.lines("grant"))
		_, err := r.control.Obtain(t.Context(), c.ask, c.prove)
		if code(err) != c.code || err != nil && (c.code == "" || !strings.Contains(err.Error(), c.say)) {
			t.Errorf("%s: %v", c.what, err)
		}
		l := r.lines("grant")
		if len(l) != before+1 || (l[before].Result == "refused") != (c.code != "") || l[before].Who == "" || l[before].Volume == "" {
			t.Errorf("%s: in the log: %+v", c.what, l[before:])
		}
		if c.code == "" { // again at once, while its challenge would be new enough
			if _, err := r.control.Grant(t.Context(), ask, used, usedRequest, usedEvidence); code(err) != keyservice.BadChallenge {
				t.Errorf("replayed: %v", err)
			}
		}
	}
	if _, err := r.alone.Obtain(t.Context(), ask, prove); code(err) != keyservice.Forbidden {
		t.Errorf("a board without a standing lease: %v", err)
	}
	// Another good board cannot have what stands for this one.
	standing := keyservice.Ask{Volume: v, Lease: time.Minute, Standing: true}
	if _, err := r.control.Obtain(t.Context(), standing, prove); err != nil {
		t.Error(err)
	}
	if _, err := r.alone.Obtain(t.Context(), standing, other.prove(v)); code(err) != keyservice.Forbidden {
		t.Errorf("another board: %v", err)
	}
	// The host has begun another cycle.
	if err := good.source.Log.Measure(chip{good.boot}, eventlog.HostCycle(cycle+1, eventlog.Verified)); err != nil {
		t.Fatal(err)
	}
	good.ring.Begin(cycle + 1)
	if _, err := r.alone.Obtain(t.Context(), standing, prove); code(err) != keyservice.Forbidden {
		t.Errorf("in another host cycle: %v", err)
	}
	// One whose key nobody has certified.
	r.issuer = newCA(t)
	r.open()
	if _, err := r.control.Obtain(t.Context(), ask, prove); code(err) != keyservice.BadEvidence || !strings.Contains(err.Error(), "key certificate") {
		t.Errorf("a stranger's board: %v", err)
	}
}

// forge is who may ask a board for evidence, and makes a request of his own.
func forge(b *board, change func(*key.Request)) func(context.Context, [32]byte) ([]byte, []byte, error) {
	return func(_ context.Context, challenge [32]byte) ([]byte, []byte, error) {
		q, err := b.ring.Request([16]byte{1})
		if err != nil {
			return nil, nil, err
		}
		change(&q)
		request := q.Encode()
		nonce := key.EvidenceNonce(challenge, request)
		text, err := b.source.Make(nonce[:])
		return request, text, err
	}
}

// TestClients: who has no control plane's certificate makes and deletes nothing.
func TestClients(t *testing.T) {
	r := newRig(t)
	for uri, want := range map[string]keyservice.Code{
		"": keyservice.Unauthenticated, "spiffe://" + owner + "/operator/one": keyservice.Forbidden, "spiffe://else.example/storage-control-plane/one": keyservice.Forbidden,
	} {
		client := r.alone
		if uri != "" {
			c := r.tls.issue(t, uri)
			client = r.client(&c)
		}
		if _, err := client.CreateKey(t.Context(), [16]byte{1}); code(err) != want {
			t.Errorf("%q: %v", uri, err)
		}
		if err := client.DeleteKey(t.Context(), [16]byte{1}); code(err) != want {
			t.Errorf("%q: %v", uri, err)
		}
	}
	for _, l := range append(r.lines("key"), r.lines("deletion")...) {
		if l.Result != "refused" {
			t.Errorf("%+v", l)
		}
	}
	stranger := newCA(t).issue(t, "spiffe://"+owner+"/storage-control-plane/one")
	if _, err := r.client(&stranger).CreateKey(t.Context(), [16]byte{1}); err == nil {
		t.Error("a stranger's CA passes")
	}
	for i := range maxFrom + 1 {
		_, err := r.alone.Challenge(t.Context())
		if (code(err) == keyservice.Busy) != (i == maxFrom) || err != nil && i < maxFrom {
			t.Errorf("challenge %d: %v", i, err)
		}
	}
	if _, err := r.control.Challenge(t.Context()); err != nil {
		t.Errorf("others keep control planes out: %v", err)
	}
	r.pass(challengeLife + time.Second)
	if _, err := r.alone.Challenge(t.Context()); err != nil {
		t.Errorf("after their time: %v", err)
	}
}

// TestBodies: what is malformed is refused, and the service goes on.
func TestBodies(t *testing.T) {
	r := newRig(t)
	c := r.tls.issue(t, "spiffe://"+owner+"/storage-control-plane/one")
	transport := r.http.Client().Transport.(*http.Transport).Clone()
	transport.TLSClientConfig.Certificates = append(transport.TLSClientConfig.Certificates, c)
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	for _, q := range []struct {
		method, path, body string
		status             int
	}{
		{"POST", "/v1/keys", `{}`, 400},
		{"POST", "/v1/keys", `{"volume":"01"}`, 400},
		{"POST", "/v1/keys", `{"volume":"0100000000000000000000000000000A"}`, 400},
		{"POST", "/v1/keys", `{"volume":"../../etc/passwd"}`, 400},
		{"POST", "/v1/keys", `{"volume":"01000000000000000000000000000000","more":1}`, 400},
		{"POST", "/v1/keys", `{"volume":"01000000000000000000000000000000"} `, 201},
		{"POST", "/v1/keys", strings.Repeat(" ", keyservice.MaxBody+1), 400},
		{"POST", "/v1/grants", `{}`, 400},
		{"POST", "/v1/grants", `{"volume":"01000000000000000000000000000000","challenge":"","request":"","evidence":{},"standing":false,"lease":1,"form":"HPKE"}`, 403},
		{"POST", "/v1/confirmations", `{"grant":"","confirmation":""}`, 403},
		{"DELETE", "/v1/keys/..%2fmaster.key", ``, 400},
		{"GET", "/v1/keys/01000000000000000000000000000000", ``, 404},
		{"GET", "/", ``, 404},
	} {
		req, err := http.NewRequestWithContext(t.Context(), q.method, r.http.URL+q.path, strings.NewReader(q.body))
		if err != nil {
			t.Fatal(err)
		}
		a, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		a.Body.Close()
		if a.StatusCode != q.status {
			t.Errorf("%s %s %.60s: %d, not %d", q.method, q.path, q.body, a.StatusCode, q.status)
		}
	}
}

// TestStore: keys are in the folder only encrypted, a damaged file is noticed at each
// byte, and one cannot stand for another volume's.
func TestStore(t *testing.T) {
	r := newRig(t)
	v, w := [16]byte{1}, [16]byte{2}
	for _, id := range [][16]byte{v, w} {
		if _, err := r.control.CreateKey(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	k, c, err := r.keys.open(v)
	if err != nil || key.Commitment(k) != c {
		t.Fatal(err)
	}
	path := filepath.Join(r.folder, keysFolder, keyservice.Identity(v))
	whole := must(os.ReadFile(path))(t)
	if bytes.Contains(whole, k[:16]) || len(whole) != keyFile {
		t.Error("the key is there in the clear")
	}
	for i := range whole {
		bad := bytes.Clone(whole)
		bad[i] ^= 1
		if err := replace(path, bad); err != nil {
			t.Fatal(err)
		}
		if _, _, err := r.keys.open(v); err == nil {
			t.Errorf("byte %d may be changed", i)
		}
	}
	if err := replace(path, must(os.ReadFile(filepath.Join(r.folder, keysFolder, keyservice.Identity(w))))(t)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := r.keys.open(v); err == nil {
		t.Error("another volume's key passes")
	}
	log := must(os.ReadFile(filepath.Join(r.folder, logFile)))(t)
	for _, form := range []string{string(k), hex.EncodeToString(k), fmt.Sprint(k)} {
		if bytes.Contains(log, []byte(form)) {
			t.Error("the key is in the log")
		}
	}
	// What cannot be logged is not given out.
	r.Service.log.file.Close()
	if _, err := r.control.Challenge(t.Context()); code(err) != keyservice.Internal {
		t.Errorf("without a log: %v", err)
	}
}

// TestStrangers: who has no certificate cannot fill the log; what was left out is counted.
func TestStrangers(t *testing.T) {
	r := newRig(t)
	for range 3 * maxStrangers {
		if _, err := r.alone.CreateKey(t.Context(), [16]byte{1}); code(err) != keyservice.Unauthenticated {
			t.Fatal(err)
		}
	}
	if n := len(r.lines("key")); n != maxStrangers {
		t.Errorf("%d lines, not %d", n, maxStrangers)
	}
	if _, err := r.control.CreateKey(t.Context(), [16]byte{1}); err != nil || len(r.lines("key")) != maxStrangers+1 {
		t.Errorf("a control plane's is not in the log: %v", err)
	}
	r.pass(time.Minute)
	if _, err := r.alone.Challenge(t.Context()); err != nil {
		t.Fatal(err)
	}
	if l := r.lines("challenge"); len(l) != 1 || l[0].Missed != 2*maxStrangers {
		t.Errorf("%+v", l)
	}
}
