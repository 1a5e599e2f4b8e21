package document

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	_ "embed"
	"encoding/asn1"
	"errors"
	"math/big"
	"slices"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/veraison/go-cose"

	"nitro/attest/akcert"
	"nitro/attest/eventlog"
	"nitro/attest/evidence"
	"nitro/attest/golden"
	"nitro/attest/tpm"
	"nitro/attest/verify"
	"nitro/internal/corpus"
)

const (
	product = "imx6ul-evk"
	number  = 0xabc
)

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func d(n byte) eventlog.Digest { return sha256.Sum256([]byte{n}) }

var (
	nonce     = []byte("a nonce of 32 random bytes, or so")
	publicKey = []byte("in the place of a recipient key")
	when      = time.UnixMilli(1_795_000_000_123).UTC()
)

// events are what a boot measures.
func events() []eventlog.Event {
	return []eventlog.Event{
		eventlog.Anchors(d(1), false), eventlog.Bootloader(d(2), "1", 1), eventlog.Board(product, number, eventlog.Closed, eventlog.OwnSecret),
		eventlog.Configuration(d(6), 1), eventlog.Controller(d(3), "1", 1), eventlog.Authority(d(4), d(5)), eventlog.SecurityVersion(1),
		eventlog.Cap(), eventlog.Identity(d(9), d(10)), eventlog.Recipient(sha256.Sum256(publicKey)),
	}
}

func release(t testing.TB) *golden.Release {
	t.Helper()
	return must(golden.Build(golden.Manifest{Anchors: []golden.Anchors{{Digest: d(1)}}, Bootloaders: []golden.Component{{Digest: d(2), Version: "1", SecurityVersion: 1}},
		Controller: golden.Component{Digest: d(3), Version: "1", SecurityVersion: 1}, Authorities: []golden.Authority{{Ed25519: d(4), MLDSA65: d(5)}}}))(t)
}

// owner issues certificates of attestation keys.
func owner(t testing.TB) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	k := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "the owner"}, NotBefore: time.Unix(0, 0), NotAfter: akcert.Forever,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der := must(x509.CreateCertificate(rand.Reader, template, template, k.Public(), k))(t)
	return must(x509.ParseCertificate(der))(t), k
}

// A soft board has its key in memory in the place of a TPM, so that tests can have it sign
// what no TPM would.
type soft struct {
	key         *ecdsa.PrivateKey
	certificate []byte
	log         *eventlog.Log
	policy      verify.Policy
	beside      *evidence.Evidence
}

// Sign implements Signer.
func (b *soft) Sign(text []byte) ([]byte, error) {
	digest := sha256.Sum256(text)
	return ecdsa.SignASN1(rand.Reader, b.key, digest[:])
}

func newSoft(t testing.TB, all []eventlog.Event) *soft {
	t.Helper()
	b := &soft{key: must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t), log: eventlog.New()}
	point := must(b.key.PublicKey.Bytes())(t)
	public := attestationKey(point[1:33], point[33:])
	ca, key := owner(t)
	b.certificate = must(akcert.New(akcert.Request{AK: public, EKCertificate: ca.Raw, Product: product, UniqueID: number, NotBefore: time.Unix(0, 0), NotAfter: akcert.Forever}, ca, key))(t)
	for _, e := range all {
		if err := b.log.Append(e); err != nil {
			t.Fatal(err)
		}
	}
	issuers := x509.NewCertPool()
	issuers.AddCert(ca)
	b.policy = verify.Policy{Nonce: nonce, Issuers: issuers, Releases: []*golden.Release{release(t)}, Configurations: []eventlog.Digest{d(6)}}
	b.beside = &evidence.Evidence{EventLog: b.log.Bytes()}
	return b
}

// document is a good one, before its quote.
func (b *soft) document(t testing.TB) *Document {
	t.Helper()
	doc := &Document{Time: when, Certificate: b.certificate, PublicKey: publicKey, Nonce: nonce}
	if err := doc.claim(b.log); err != nil {
		t.Fatal(err)
	}
	replayed := b.log.Replay()
	copy(doc.PCRs[:], replayed[:])
	return doc
}

// quote puts a quote of these PCRs into a document, bound to it as it is.
func (b *soft) quote(t testing.TB, doc *Document) {
	t.Helper()
	binding := must(doc.binding())(t)
	h := sha256.New()
	var pcrs []uint
	for i, v := range doc.PCRs {
		pcrs = append(pcrs, uint(i))
		h.Write(v[:])
	}
	doc.Quote = tpm2.Marshal(tpm2.TPMSAttest{
		Magic: tpm2.TPMGeneratedValue, Type: tpm2.TPMSTAttestQuote, QualifiedSigner: tpm2.TPM2BName{Buffer: make([]byte, 34)}, ExtraData: tpm2.TPM2BData{Buffer: binding[:]},
		Attested: tpm2.NewTPMUAttest(tpm2.TPMSTAttestQuote, &tpm2.TPMSQuoteInfo{PCRSelect: tpm.PCRSelection(pcrs...), PCRDigest: tpm2.TPM2BDigest{Buffer: h.Sum(nil)}}),
	})
	var n struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(must(b.Sign(doc.Quote))(t), &n); err != nil {
		t.Fatal(err)
	}
	doc.QuoteSignature = tpm2.Marshal(tpm2.TPMTSignature{SigAlg: tpm2.TPMAlgECDSA, Signature: tpm2.NewTPMUSignature(tpm2.TPMAlgECDSA, &tpm2.TPMSSignatureECC{
		Hash: tpm2.TPMAlgSHA256, SignatureR: tpm2.TPM2BECCParameter{Buffer: n.R.FillBytes(make([]byte, 32))}, SignatureS: tpm2.TPM2BECCParameter{Buffer: n.S.FillBytes(make([]byte, 32))}})})
}

func (b *soft) text(t testing.TB) []byte {
	t.Helper()
	doc := b.document(t)
	b.quote(t, doc)
	return must(doc.sign(b))(t)
}

// TestVerify: what is good is accepted, and says what was put in.
func TestVerify(t *testing.T) {
	b := newSoft(t, events())
	text := b.text(t)
	doc, r, err := Verify(text, b.beside, b.policy)
	if err != nil {
		t.Fatal(err)
	}
	if doc.ModuleID != "imx6ul-evk-0000000000000abc" || !doc.Time.Equal(when) || !bytes.Equal(doc.PublicKey, publicKey) || r.Facts.Controller.Version != "1" {
		t.Errorf("%+v, %+v", doc, r.Facts)
	}
	if _, _, err := VerifyRecipient(text, b.beside, b.policy); err != nil {
		t.Error(err)
	}
	bare := b.document(t)
	bare.PublicKey, bare.Nonce, bare.Time = nil, nil, time.Time{}
	b.quote(t, bare)
	text = must(bare.sign(b))(t)
	if doc, err := Decode(text); err != nil || doc.Nonce != nil || doc.PublicKey != nil || !doc.Time.IsZero() {
		t.Errorf("%+v, %v", doc, err)
	}
	if _, _, err := Verify(text, b.beside, b.policy); !errors.Is(err, verify.ErrRefused) {
		t.Errorf("without nonce: %v", err)
	}
	if _, _, err := VerifyRecipient(text, b.beside, b.policy); !errors.Is(err, verify.ErrRefused) {
		t.Errorf("without public key: %v", err)
	}
}

// TestFirmware: firmware that has the key sign what is not so is found out by the quote,
// its binding or the log. Each case is signed by the true key.
func TestFirmware(t *testing.T) {
	b := newSoft(t, events())
	other := b.document(t)
	other.Nonce = []byte("another nonce")
	b.quote(t, other)
	for name, change := range map[string]func(doc *Document){
		"PCR":                     func(doc *Document) { doc.PCRs[0] = d(77) },
		"nonce":                   func(doc *Document) { doc.Nonce = nonce[:31] },
		"time":                    func(doc *Document) { doc.Time = doc.Time.Add(time.Millisecond) },
		"no public key":           func(doc *Document) { doc.PublicKey = nil },
		"public key":              func(doc *Document) { doc.PublicKey = []byte("mine"); doc.Recipient = sha256.Sum256([]byte("mine")) },
		"no recipient":            func(doc *Document) { doc.PublicKey, doc.Recipient = nil, eventlog.Digest{} },
		"TLS key":                 func(doc *Document) { doc.TLSKey = d(77) },
		"wrapping key":            func(doc *Document) { doc.WrapKey = d(77) },
		"module":                  func(doc *Document) { doc.ModuleID = "another-0000000000000abc" },
		"quote of another":        func(doc *Document) { doc.Quote, doc.QuoteSignature = other.Quote, other.QuoteSignature },
		"signature of the quote":  func(doc *Document) { doc.QuoteSignature[20] ^= 1 },
		"quote":                   func(doc *Document) { doc.Quote[60] ^= 1 },
		"certificate of somebody": func(doc *Document) { doc.Certificate = newSoft(t, events()).certificate },
	} {
		doc := b.document(t)
		b.quote(t, doc)
		change(doc)
		text, err := doc.sign(b)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		p := b.policy
		p.Nonce = doc.Nonce
		if _, _, err := Verify(text, b.beside, p); !errors.Is(err, verify.ErrRefused) {
			t.Errorf("%s: %v", name, err)
		}
		// With a quote for it: then the log or the policy has to tell.
		if bound := slices.Contains([]string{"nonce", "time", "no public key", "quote", "signature of the quote", "quote of another"}, name); !bound {
			b.quote(t, doc)
			if _, _, err := Verify(must(doc.sign(b))(t), b.beside, p); !errors.Is(err, verify.ErrRefused) {
				t.Errorf("%s, quoted: %v", name, err)
			}
		}
	}
	doc := b.document(t)
	doc.PublicKey = []byte("not the measured one")
	if _, err := doc.sign(b); err == nil {
		t.Error("a public key that was not measured: signed")
	}
}

// TestBeside: another log, none, and another policy are refused.
func TestBeside(t *testing.T) {
	b := newSoft(t, events())
	text := b.text(t)
	later := newSoft(t, append(events(), eventlog.Configuration(d(6), 2)))
	if _, _, err := Verify(text, later.beside, b.policy); !errors.Is(err, verify.ErrRefused) {
		t.Errorf("a later log: %v", err)
	}
	if _, _, err := Verify(text, nil, b.policy); !errors.Is(err, verify.ErrRefused) {
		t.Errorf("no log: %v", err)
	}
	if _, _, err := Verify(text, b.beside, later.policy); !errors.Is(err, verify.ErrRefused) {
		t.Errorf("another issuer: %v", err)
	}
	if _, _, err := VerifyRecipient(text, b.beside, verify.Policy{Issuers: b.policy.Issuers}); !errors.Is(err, verify.ErrPolicy) {
		t.Errorf("no releases: %v", err)
	}
	p := b.policy
	p.Nonce = []byte("another nonce")
	if _, _, err := Verify(text, b.beside, p); !errors.Is(err, verify.ErrRefused) {
		t.Errorf("another nonce: %v", err)
	}
}

// TestBits: a document with any one bit changed is refused.
func TestBits(t *testing.T) {
	b := newSoft(t, events())
	text := b.text(t)
	t.Logf("%d bytes", len(text))
	for i := range text {
		text[i] ^= 1 << (i % 8)
		if _, _, err := Verify(text, b.beside, b.policy); err == nil {
			t.Errorf("byte %d changed: accepted", i)
		}
		text[i] ^= 1 << (i % 8)
	}
	for i := range text {
		if _, err := Decode(text[:i]); !errors.Is(err, ErrFormat) {
			t.Errorf("%d bytes of it: %v", i, err)
		}
	}
}

// TestSpelling: what says the same in another way is refused.
func TestSpelling(t *testing.T) {
	b := newSoft(t, events())
	text := b.text(t)
	resign := func(content []byte, h cose.Headers) []byte {
		m := cose.UntaggedSign1Message{Headers: h, Payload: content}
		if err := m.Sign(nil, nil, es256{b}); err != nil {
			t.Fatal(err)
		}
		return must(m.MarshalCBOR())(t)
	}
	doc := must(Decode(text))(t)
	whole := doc.message.Payload
	if _, err := Decode(resign(whole, headers())); err != nil {
		t.Fatal(err)
	}
	with := headers()
	with.Unprotected[cose.HeaderLabelKeyID] = []byte("x")
	typed := headers()
	typed.Protected[cose.HeaderLabelContentType] = "a/b"
	wide := append([]byte{0xb8, whole[0] & 0x1f}, whole[1:]...) // the map's size in a byte of its own
	for name, text := range map[string][]byte{
		"nothing":            nil,
		"tag":                append([]byte{0xd2}, text...),
		"something behind":   append(bytes.Clone(text), 0),
		"too long":           append(bytes.Clone(text), make([]byte, MaxSize)...),
		"unprotected header": resign(whole, with),
		"protected header":   resign(whole, typed),
		"no payload":         resign([]byte{}, headers()),
		"long form":          resign(wide, headers()),
		"payload and more":   resign(append(bytes.Clone(whole), 0xf6), headers()),
		"unknown name":       resign(append(append([]byte{whole[0] + 1}, whole[1:]...), 0x61, 'x', 0xf6), headers()),
		"name twice":         resign(append(append([]byte{whole[0] + 1}, whole[1:]...), append([]byte{0x65}, "nonce\xf6"...)...), headers()),
		"deep":               resign(bytes.Repeat([]byte{0x81}, 2000), headers()),
		"long map":           resign([]byte{0xbb, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, headers()),
	} {
		if _, err := Decode(text); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, change := range map[string]func(p *payload){
		"SHA384":            func(p *payload) { p.Digest = "SHA384" },
		"CA bundle":         func(p *payload) { p.CABundle = [][]byte{{1}} },
		"no CA bundle":      func(p *payload) { p.CABundle = nil },
		"PCR more":          func(p *payload) { p.PCRs[9] = make([]byte, 32) },
		"PCR less":          func(p *payload) { delete(p.PCRs, 8) },
		"another PCR":       func(p *payload) { delete(p.PCRs, 8); p.PCRs[9] = make([]byte, 32) },
		"PCR of SHA-384":    func(p *payload) { p.PCRs[8] = make([]byte, 48) },
		"no certificate":    func(p *payload) { p.Certificate = nil },
		"empty nonce":       func(p *payload) { p.Nonce = []byte{} },
		"long nonce":        func(p *payload) { p.Nonce = make([]byte, 65) },
		"public key":        func(p *payload) { p.PublicKey = []byte("another") },
		"time":              func(p *payload) { p.Timestamp = 1 << 63 },
		"module":            func(p *payload) { p.ModuleID = "a\x1b[2J" },
		"no user_data":      func(p *payload) { p.UserData = nil },
		"user_data's magic": func(p *payload) { p.UserData[0] ^= 1 },
		"user_data's size":  func(p *payload) { p.UserData[104], p.UserData[105] = 0xff, 0xff },
		"long signature":    func(p *payload) { p.UserData = append(p.UserData, make([]byte, 40)...) },
	} {
		var p payload
		if err := decMode.Unmarshal(whole, &p); err != nil {
			t.Fatal(err)
		}
		change(&p)
		if _, err := Decode(resign(must(encMode.Marshal(p))(t), headers())); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What the fuzzer found: see package corpus.
//
//go:embed testdata/documents.hex
var kept string

// FuzzDecode: what decodes is in its one spelling.
func FuzzDecode(f *testing.F) {
	corpus.Add(f, kept)
	b := newSoft(f, events())
	text := b.text(f)
	f.Add(text)
	doc := must(Decode(text))(f)
	f.Add(doc.message.Payload)
	f.Fuzz(func(t *testing.T, any []byte) {
		if d, err := Decode(any); err == nil {
			if again, err := d.message.MarshalCBOR(); err != nil || !bytes.Equal(again, any) {
				t.Errorf("%x: again %x, %v", any, again, err)
			}
		}
		m := cose.UntaggedSign1Message{Headers: headers(), Payload: any, Signature: make([]byte, 64)}
		text, err := m.MarshalCBOR()
		if err != nil {
			return
		}
		if d, err := Decode(text); err == nil {
			if again, err := d.encode(d.userData()); err != nil || !bytes.Equal(again, any) {
				t.Errorf("%x: again %x, %v", any, again, err)
			}
		}
	})
}
