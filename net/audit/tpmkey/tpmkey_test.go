package tpmkey_test

import (
	"bytes"
	"crypto/rand"
	"testing"
	"time"

	"nitro/attest/nv"
	"nitro/boot/medium"
	"nitro/boot/medium/mediumtest"
	"nitro/boot/store"
	"nitro/internal/provisioned"
	"nitro/net/audit"
	"nitro/net/audit/tpmkey"
	"nitro/net/audit/verify"
)

// The TPM's index is what quarantine's ring extends, and its counter the store's.
var (
	_ audit.Extender = (*nv.NV)(nil)
	_ audit.Store    = (*store.Store)(nil)
	_ audit.Signer   = (*tpmkey.Key)(nil)
)

// counter is the TPM's, as the store wants it.
type counter struct{ *nv.NV }

func (c counter) Read() (uint64, error)      { return c.Freshness() }
func (c counter) Increment() (uint64, error) { return c.Step() }

// TestLog: a log in a store that a real TPM keeps fresh, signed by its attestation key,
// verifies far from the board; so does quarantine's ring against the TPM's index.
func TestLog(t *testing.T) {
	b := provisioned.New(t).Boot(t, nil)
	public, err := b.T.ReadPublic(b.AK.Handle)
	if err != nil {
		t.Fatal(err)
	}
	key, err := tpmkey.New(b.T, b.S, b.AK, public)
	if err != nil {
		t.Fatal(err)
	}
	config := func() store.Config {
		return store.Config{Device: mediumtest.New(32 * 64), Place: medium.Place{Size: 32 * 64 * 512}, Key: make([]byte, store.KeySize), Counter: counter{b.NV}}
	}
	c := config()
	if err := store.Format(c); err != nil {
		t.Fatal(err)
	}
	c.Key = make([]byte, store.KeySize)
	s, err := store.Open(c)
	if err != nil {
		t.Fatal(err)
	}
	l, err := audit.Open(audit.Config{Store: s, Signer: key, Name: "owner.example/board/1", Random: rand.Read, Running: "test",
		Now: func() (time.Time, bool) { return time.Now(), true }, Up: func() time.Duration { return time.Second }})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		token, err := l.Begin(audit.Entry{Who: "spiffe://owner.example/operator/mona", Action: "resetHost"}, false)
		if err != nil {
			t.Fatal(err)
		}
		if err := token.End(audit.Outcome{Status: 204}); err != nil {
			t.Fatal(err)
		}
	}
	before, _ := b.NV.Freshness()
	if _, err := l.Sign(); err != nil {
		t.Fatal(err)
	}
	if after, _ := b.NV.Freshness(); after != before+1 {
		t.Errorf("the counter went from %d to %d", before, after)
	}
	write, err := l.Export(0, nil)
	if err != nil {
		t.Fatal(err)
	}
	var export bytes.Buffer
	if err := write(&export); err != nil {
		t.Fatal(err)
	}
	vkey, err := audit.VerifierKey(l.Origin(), key.Public())
	if err != nil {
		t.Fatal(err)
	}
	if r, err := verify.Export(export.Bytes(), verify.Keys{Log: vkey}); err != nil || r.Head.Size != 7 {
		t.Error(err)
	}

	ring, err := audit.NewRing(b.NV, "quarantine", func() (time.Time, bool) { return time.Time{}, false }, func() time.Duration { return time.Second })
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		if err := ring.Deny(audit.Entry{Action: "resetHost"}); err != nil {
			t.Fatal(err)
		}
	}
	if err := ring.Flush(); err != nil {
		t.Fatal(err)
	}
	index, err := b.NV.AuditDigest()
	if err != nil {
		t.Fatal(err)
	}
	if err := ring.Export().Verify(index); err != nil {
		t.Error(err)
	}
}

// TestRestricted: what could be taken for the TPM's own words is not signed.
func TestRestricted(t *testing.T) {
	b := provisioned.New(t).Boot(t, nil)
	public, err := b.T.ReadPublic(b.AK.Handle)
	if err != nil {
		t.Fatal(err)
	}
	key, err := tpmkey.New(b.T, b.S, b.AK, public)
	if err != nil {
		t.Fatal(err)
	}
	// More often than a TPM has places for sequences, of which none may be left behind.
	for _, size := range []int{1, 1024, 1025, 2048, 2049, tpmkey.MaxText} {
		if _, err := key.Sign(bytes.Repeat([]byte{'x'}, size)); err != nil {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
	for name, text := range map[string][]byte{
		"TPM_GENERATED": append([]byte{0xff, 'T', 'C', 'G'}, "a quote"...),
		"a long one":    append([]byte{0xff, 'T', 'C', 'G'}, bytes.Repeat([]byte{'x'}, 3000)...),
		"nothing":       nil,
		"too long":      bytes.Repeat([]byte{'x'}, tpmkey.MaxText+1),
	} {
		if _, err := key.Sign(text); err == nil {
			t.Errorf("%s: signed", name)
		}
	}
	for range 4 {
		if _, err := key.Sign(bytes.Repeat([]byte{'x'}, 3000)); err != nil {
			t.Errorf("after refusals: %v", err)
		}
	}
}
