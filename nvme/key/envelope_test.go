package key

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	_ "embed"
	"errors"
	"sync"
	"testing"

	"nitro/internal/corpus"
)

// recipient is made once: it takes long.
var recipient = sync.OnceValues(func() (*Recipient, error) {
	r := NewRecipient(func([32]byte) error { return nil })
	_, err := r.Public(context.Background())
	return r, err
})

// withRecipient gives a rig's ring the recipient key.
func (r *rig) withRecipient() *rsa.PublicKey {
	r.t.Helper()
	k, err := recipient()
	if err != nil {
		r.t.Fatal(err)
	}
	r.conf.Recipient = k
	private, _ := k.private()
	return &private.PublicKey
}

// envelopeGrant is a good one for a request.
func (r *rig) envelopeGrant(q Request) Grant {
	g := r.grant(q)
	g.CMS = true
	g.Wrapping, _ = r.conf.Recipient.Made()
	return g
}

func (r *rig) deliverEnvelope(g Grant, envelope []byte) error {
	r.t.Helper()
	signed, err := g.Sign(r.service)
	if err != nil {
		r.t.Fatal(err)
	}
	_, _, err = r.Accept(signed, envelope, r.volume)
	return err
}

func wrapEnvelope(t testing.TB, k *rsa.PublicKey, plain []byte) []byte {
	t.Helper()
	b, err := WrapEnvelope(k, plain)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestEnvelope: a key comes in an envelope as it does by HPKE, and the arena has nothing
// but the slot's.
func TestEnvelope(t *testing.T) {
	r := newRig(t, 1)
	want := r.attach().slot.key
	r.Detach(r.volume.ID)
	k := r.withRecipient()
	b := wrapEnvelope(t, k, r.key)
	if len(b) > MaxEnvelope || bytes.Contains(b, r.key[:16]) {
		t.Errorf("%d bytes, or the key in the clear", len(b))
	}
	if err := r.deliverEnvelope(r.envelopeGrant(r.request()), b); err != nil {
		t.Fatal(err)
	}
	if r.leases[r.volume.ID].slot.key != want {
		t.Error("another key than by HPKE")
	}
	if !r.only(r.leases[r.volume.ID].slot) {
		t.Error("the arena has more than the slot's")
	}
}

// TestEnvelopeRefused: forms do not stand for each other, and whatever is wrong with an
// envelope is one error, after which nothing is there.
func TestEnvelopeRefused(t *testing.T) {
	r := newRig(t, 1)
	g := r.grant(r.request())
	g.CMS = true
	if err := r.deliverEnvelope(g, nil); !errors.Is(err, ErrBoot) {
		t.Errorf("a board without a recipient key: %v", err)
	}
	k := r.withRecipient()
	if err := r.deliverEnvelope(func() Grant { g := r.grant(r.request()); g.CMS = true; return g }(), wrapEnvelope(t, k, r.key)); !errors.Is(err, ErrBoot) {
		t.Errorf("the wrapping key's hash in a grant for an envelope: %v", err)
	}
	if err := r.deliverEnvelope(r.grant(r.request()), wrapEnvelope(t, k, r.key)); !errors.Is(err, ErrWrapped) {
		t.Errorf("an envelope for HPKE: %v", err)
	}
	hpkeGrant := r.grant(r.request())
	signed, err := hpkeGrant.Sign(r.service)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.deliverEnvelope(r.envelopeGrant(r.request()), r.wrap(signed, r.key)); !errors.Is(err, ErrEnvelope) {
		t.Errorf("HPKE for an envelope: %v", err)
	}
	other := wrapEnvelope(t, k, r.key)
	if !testing.Short() { // a second key takes long on the board
		o, err := rsa.GenerateKey(rand.Reader, RecipientBits)
		if err != nil {
			t.Fatal(err)
		}
		other = wrapEnvelope(t, &o.PublicKey, r.key)
	} else if e, ok := parseEnvelope(other); ok {
		copy(e.key, make([]byte, RecipientBits/8))
	}
	for what, b := range map[string][]byte{
		"another recipient": other, "another key": wrapEnvelope(t, k, bytes.Repeat([]byte{1, 2}, 32)), "nothing": nil,
		"long": make([]byte, MaxEnvelope+1), "something behind": append(wrapEnvelope(t, k, r.key), 0),
	} {
		if err := r.deliverEnvelope(r.envelopeGrant(r.request()), b); !errors.Is(err, ErrEnvelope) || !r.empty() {
			t.Errorf("%s: %v", what, err)
		}
	}
	good := wrapEnvelope(t, k, r.key)
	e, ok := parseEnvelope(good)
	if !ok {
		t.Fatal("a good envelope does not parse")
	}
	id := bytes.Index(good, e.id)
	step := 1
	if testing.Short() {
		step = 31
	}
	for i := 0; i < len(good); i += step {
		bad := bytes.Clone(good)
		bad[i] ^= 1
		err := r.deliverEnvelope(r.envelopeGrant(r.request()), bad)
		if named := i >= id && i < id+len(e.id); named != (err == nil) || err != nil && !errors.Is(err, ErrEnvelope) {
			t.Errorf("byte %d of %d: %v", i, len(good), err)
		}
		r.Detach(r.volume.ID)
	}
}

// TestPadding: each padding but the one of a key is refused, and by the same words as a key
// that is not the volume's.
func TestPadding(t *testing.T) {
	r := newRig(t, 1)
	k := r.withRecipient()
	say := func(plain []byte) string {
		once := make([]byte, contentKey)
		rand.Read(once)
		e := envelope{id: []byte{1}, iv: make([]byte, aes.BlockSize), content: bytes.Clone(plain)}
		block, _ := aes.NewCipher(once)
		cipher.NewCBCEncrypter(block, e.iv).CryptBlocks(e.content, e.content)
		e.key, _ = rsa.EncryptOAEP(sha256.New(), rand.Reader, k, once, nil)
		der, err := e.encode()
		if err != nil {
			t.Fatal(err)
		}
		if err = r.deliverEnvelope(r.envelopeGrant(r.request()), der); err == nil {
			r.Detach(r.volume.ID)
			return ""
		}
		return err.Error()
	}
	good := append(bytes.Clone(r.key), padding...)
	if s := say(good); s != "" {
		t.Fatal(s)
	}
	wrong := bytes.Clone(good)
	wrong[0] ^= 1
	want := say(wrong)
	for i := Size; i < padded; i++ {
		bad := bytes.Clone(good)
		bad[i] ^= 0x11
		if s := say(bad); s != want || s == "" {
			t.Errorf("byte %d: %q, not %q", i, s, want)
		}
	}
	for _, n := range []int{padded - aes.BlockSize, padded + aes.BlockSize} {
		if s := say(append(bytes.Clone(good), padding...)[:n]); s != want {
			t.Errorf("%d bytes: %q", n, s)
		}
	}
}

// TestRecipient: one key, that is measured before anybody sees it; none if it cannot be.
func TestRecipient(t *testing.T) {
	k, err := recipient()
	if err != nil {
		t.Fatal(err)
	}
	der, err := k.Public(t.Context())
	public, perr := ParseRecipient(der)
	if err != nil || perr != nil {
		t.Fatal(err, perr)
	}
	hash, herr := RecipientHash(public)
	if made, ok := k.Made(); herr != nil || !ok || made != hash {
		t.Error("another hash than the key's")
	}
	if testing.Short() {
		return
	}
	measured := 0
	bad := NewRecipient(func([32]byte) error { measured++; return errors.New("TPM") })
	for range 2 {
		if der, err := bad.Public(t.Context()); !errors.Is(err, ErrUnmeasured) || der != nil || measured != 1 {
			t.Errorf("not measured: %x, %v; tried %d times", der, err, measured)
		}
	}
	if _, ok := bad.Made(); ok {
		t.Error("a key is there that was not measured")
	}
}

// What the fuzzer found: see package corpus.
//
//go:embed testdata/envelopes.hex
var keptEnvelopes string

// FuzzEnvelope: what parses has the sizes that decryption takes for granted.
func FuzzEnvelope(f *testing.F) {
	corpus.Add(f, keptEnvelopes)
	good := envelope{make([]byte, 32), make([]byte, RecipientBits/8), make([]byte, aes.BlockSize), make([]byte, padded)}
	der, err := good.encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(der)
	f.Fuzz(func(t *testing.T, b []byte) {
		if e, ok := parseEnvelope(b); ok && (len(e.key) != 256 || len(e.iv) != 16 || len(e.content) != 80) {
			t.Errorf("%d, %d, %d", len(e.key), len(e.iv), len(e.content))
		}
	})
}
