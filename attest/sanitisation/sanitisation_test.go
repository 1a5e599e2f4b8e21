package sanitisation

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	_ "embed"
	"encoding/hex"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"

	"nitro/attest/akcert"
	"nitro/attest/identity"
	"nitro/internal/corpus"
)

// A board has an attestation key in memory, and an owner who has certified it.
type board struct {
	key                  *ecdsa.PrivateKey
	public, name, signed []byte
	owner                *x509.CertPool
}

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// Sign implements Signer.
func (b *board) Sign(text []byte) ([]byte, error) {
	d := sha256.Sum256(text)
	return ecdsa.SignASN1(rand.Reader, b.key, d[:])
}

const number = 0x1122334455667788

func newBoard(t testing.TB) *board {
	t.Helper()
	b := &board{key: must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t)}
	point := must(b.key.PublicKey.Bytes())(t)
	ak := identity.AKTemplate()
	ak.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{X: tpm2.TPM2BECCParameter{Buffer: point[1:33]}, Y: tpm2.TPM2BECCParameter{Buffer: point[33:]}})
	b.public, b.name = tpm2.Marshal(ak), must(tpm2.ObjectName(&ak))(t).Buffer
	owner := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "the owner"}, NotBefore: time.Unix(0, 0), NotAfter: akcert.Forever,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der := must(x509.CreateCertificate(rand.Reader, template, template, owner.Public(), owner))(t)
	ca := must(x509.ParseCertificate(der))(t)
	b.owner = x509.NewCertPool()
	b.owner.AddCert(ca)
	b.signed = must(akcert.New(akcert.Request{AK: b.public, EKCertificate: der, Product: "imx6ul-evk", UniqueID: number, NotBefore: time.Unix(0, 0), NotAfter: akcert.Forever}, ca, owner))(t)
	return b
}

func (b *board) statement() Statement {
	return Statement{Product: "imx6ul-evk", UniqueID: "1122334455667788", AKName: hex.EncodeToString(b.name),
		MediumType: "SD card", MediumModel: "SD08G", MediumSerial: "0x0000002a", Volume: strings.Repeat("0f", 16), Name: "data", Kind: "Pool", Bytes: 1 << 20,
		Commitment: strings.Repeat("ab", 32), MethodType: "Purge", MethodUsed: "Cryptographic Erase", MethodDetails: "The secret in the TPM was overwritten.",
		VerificationMethod: "The TPM's index was read back.", Tool: "nitro controller", ToolVersion: "1.0",
		Time: When(time.Date(2026, 11, 24, 14, 0, 0, 5, time.FixedZone("x", 3600))), RequestedBy: "spiffe://owner.example/storage-control-plane/x"}
}

// TestVerify: a certificate verifies by the key's certificate, by its name, or both.
func TestVerify(t *testing.T) {
	b := newBoard(t)
	s := b.statement()
	c := must(Make(s, b, b.public, b.signed))(t)
	bare := must(Make(s, b, b.public, nil))(t)
	if s.Time != "2026-11-24T13:00:00Z" {
		t.Error(s.Time)
	}
	other := newBoard(t)
	for name, test := range map[string]struct {
		text  []byte
		trust Trust
		want  error
	}{
		"by its issuer":            {c, Trust{Issuers: b.owner}, nil},
		"by its name":              {bare, Trust{Names: [][]byte{other.name, b.name}}, nil},
		"by both":                  {c, Trust{Issuers: b.owner, Names: [][]byte{b.name}}, nil},
		"by nobody":                {c, Trust{}, ErrKey},
		"another issuer":           {c, Trust{Issuers: other.owner}, ErrKey},
		"another name":             {c, Trust{Names: [][]byte{other.name}}, ErrKey},
		"issuer, and another name": {c, Trust{Issuers: b.owner, Names: [][]byte{other.name}}, ErrKey},
		"no certificate":           {bare, Trust{Issuers: b.owner}, ErrKey},
		"not valid then":           {c, Trust{Issuers: b.owner, At: time.Unix(-1, 0)}, ErrKey},
		"the other's certificate":  {must(Make(s, b, b.public, other.signed))(t), Trust{Issuers: other.owner}, ErrKey},
		"the other's signature":    {must(Make(s, other, b.public, b.signed))(t), Trust{Issuers: b.owner}, ErrSignature},
		"the other's key":          {must(Make(s, other, other.public, other.signed))(t), Trust{Issuers: other.owner}, ErrSignature},
		"no attestation key":       {must(Make(s, b, b.public[:80], b.signed))(t), Trust{Issuers: b.owner}, ErrKey},
		"nothing":                  {nil, Trust{Issuers: b.owner}, ErrFormat},
	} {
		got, err := Verify(test.text, test.trust)
		if !errors.Is(err, test.want) || (err == nil) != (got == s) {
			t.Errorf("%s: %v, %+v", name, err, got)
		}
	}
	moved := s
	moved.UniqueID = "1122334455667789"
	if _, err := Verify(must(Make(moved, b, b.public, b.signed))(t), Trust{Issuers: b.owner}); !errors.Is(err, ErrKey) {
		t.Errorf("another board's number: %v", err)
	}
}

// TestEveryByte: no byte of a certificate can be changed.
func TestEveryByte(t *testing.T) {
	b := newBoard(t)
	c := must(Make(b.statement(), b, b.public, nil))(t)
	trust := Trust{Names: [][]byte{b.name}}
	step := 1
	if testing.Short() { // signatures are slow on the board
		step = 5
	}
	for i := 0; i < len(c); i += step {
		bad := bytes.Clone(c)
		bad[i] ^= 1
		if s, err := Verify(bad, trust); err == nil {
			t.Errorf("byte %d: %+v", i, s)
		}
	}
	for name, bad := range map[string][]byte{"a space behind it": append(bytes.Clone(c), ' '), "cut": c[:len(c)-1], "a later format": bytes.Replace(c, []byte(`"format":1`), []byte(`"format":2`), 1)} {
		if _, err := Verify(bad, trust); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestStatements: what a statement cannot say is refused before it is signed.
func TestStatements(t *testing.T) {
	b := newBoard(t)
	for name, change := range map[string]func(*Statement){
		"no name":            func(s *Statement) { s.Name = "" },
		"an escape sequence": func(s *Statement) { s.Name = "\x1b[2J" },
		"a quote":            func(s *Statement) { s.Name = `"` },
		"HTML":               func(s *Statement) { s.Name = "<b>" },
		"too long":           func(s *Statement) { s.MethodDetails = strings.Repeat("x", maxText+1) },
		"upper case":         func(s *Statement) { s.Volume = strings.ToUpper(s.Volume) },
		"short":              func(s *Statement) { s.Commitment = "ab" },
		"another zone":       func(s *Statement) { s.Time = "2026-11-24T14:00:00+01:00" },
		"fractions":          func(s *Statement) { s.Time = "2026-11-24T14:00:00.5Z" },
		"no time":            func(s *Statement) { s.Time = "" },
	} {
		s := b.statement()
		if change(&s); s == b.statement() {
			t.Fatal(name)
		}
		if _, err := Make(s, b, b.public, nil); err == nil {
			t.Errorf("%s: signed", name)
		}
	}
	if _, err := Make(b.statement(), b, b.public, make([]byte, maxCert+1)); err == nil {
		t.Error("a long certificate was taken")
	}
}

// What the fuzzer found: see package corpus.
//
//go:embed testdata/certificates.hex
var keptCertificates string

// FuzzParse: what is read is written again as it was.
func FuzzParse(f *testing.F) {
	b := newBoard(f)
	corpus.Add(f, keptCertificates)
	f.Add(must(Make(b.statement(), b, b.public, b.signed))(f))
	f.Add(must(Make(b.statement(), b, b.public, nil))(f))
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := Parse(text)
		if err != nil {
			return
		}
		if again, err := c.encode(); err != nil || !bytes.Equal(again, text) {
			t.Errorf("%q, again %q: %v", text, again, err)
		}
		if _, err := Verify(text, Trust{Names: [][]byte{append([]byte{0, 11}, make([]byte, 32)...)}}); err == nil {
			t.Error("verified")
		}
	})
}
