package akcert

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
	"encoding/hex"
	"errors"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"

	"nitro/attest/identity"
	"nitro/internal/corpus"
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

func newKey(t testing.TB, c elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	return must(ecdsa.GenerateKey(c, rand.Reader))(t)
}

// attestation is a TPMT_PUBLIC of the template with a point, changed.
func attestation(key *ecdsa.PrivateKey, change func(*tpm2.TPMTPublic)) []byte {
	point, _ := key.PublicKey.Bytes()
	p := identity.AKTemplate()
	p.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{X: tpm2.TPM2BECCParameter{Buffer: point[1:33]}, Y: tpm2.TPM2BECCParameter{Buffer: point[33:]}})
	if change != nil {
		change(&p)
	}
	return tpm2.Marshal(p)
}

// certify makes a certificate, by itself or by another.
func certify(t testing.TB, template, parent *x509.Certificate, public any, by *ecdsa.PrivateKey) *x509.Certificate {
	t.Helper()
	template.SerialNumber, template.NotBefore, template.NotAfter = big.NewInt(1), time.Unix(1, 0), Forever
	if parent == nil {
		parent = template
	}
	return must(x509.ParseCertificate(must(x509.CreateCertificate(rand.Reader, template, parent, public, by))(t)))(t)
}

func ca(t testing.TB, key *ecdsa.PrivateKey) *x509.Certificate {
	return certify(t, &x509.Certificate{Subject: pkix.Name{CommonName: "the owner"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}, nil, key.Public(), key)
}

func pool(c *x509.Certificate) *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(c)
	return p
}

func TestNew(t *testing.T) {
	key, owner := newKey(t, elliptic.P256()), newKey(t, elliptic.P256())
	issuer := ca(t, owner)
	ek := certify(t, &x509.Certificate{}, nil, owner.Public(), owner).Raw
	r := Request{AK: attestation(key, nil), EKCertificate: ek, Product: "imx6ul-evk", UniqueID: 0xabc, NotBefore: time.Unix(1e9, 0), NotAfter: Forever}
	der := must(New(r, issuer, owner))(t)
	public, name, err := CheckKey(r.AK)
	if err != nil || !public.Equal(key.Public()) {
		t.Fatal(err)
	}
	now := time.Unix(2e9, 0) // the emulated board has no clock
	verify := func(der []byte, roots *x509.CertPool, name []byte, at time.Time) (Verified, error) {
		return Verify(der, public, name, roots, at)
	}
	v, err := verify(der, pool(issuer), name, now)
	if err != nil || v != (Verified{"imx6ul-evk", "0000000000000abc", sha256.Sum256(ek)}) {
		t.Fatalf("%+v, %v", v, err)
	}

	// The fields of docs/attestation.md.
	c := must(x509.ParseCertificate(der))(t)
	var oids []string
	for _, p := range c.Policies {
		oids = append(oids, p.String())
	}
	if c.KeyUsage != x509.KeyUsageDigitalSignature || c.IsCA || !c.BasicConstraintsValid || len(c.UnhandledCriticalExtensions) > 0 ||
		len(c.UnknownExtKeyUsage) != 1 || c.UnknownExtKeyUsage[0].String() != "2.23.133.8.3" || !c.NotAfter.Equal(Forever) || len(c.ExtKeyUsage) > 0 ||
		!slices.Equal(oids, []string{"2.23.133.11.1.1", "2.23.133.11.1.2", "2.23.133.11.1.3"}) || !bytes.Equal(c.AuthorityKeyId, issuer.SubjectKeyId) {
		t.Errorf("%+v, policies %v", c, oids)
	}
	if !bytes.Contains(der, []byte("99991231235959Z")) || !bytes.Contains(der, []byte(hex.EncodeToString(name))) {
		t.Error("no end of the validity as RFC 5280 has it, or no name")
	}
	if again := must(New(r, issuer, owner))(t); bytes.Equal(must(x509.ParseCertificate(again))(t).SerialNumber.Bytes(), c.SerialNumber.Bytes()) {
		t.Error("the same serial number twice")
	}

	stranger := newKey(t, elliptic.P256())
	other := sha256.Sum256(nil)
	for what, f := range map[string]func() (Verified, error){
		"another issuer's": func() (Verified, error) { return verify(der, pool(ca(t, stranger)), name, now) },
		"another name": func() (Verified, error) {
			return verify(der, pool(issuer), append([]byte{0, 11}, other[:]...), now)
		},
		"too early":           func() (Verified, error) { return verify(der, pool(issuer), name, time.Unix(1e9-1, 0)) },
		"cut":                 func() (Verified, error) { return verify(der[:len(der)-1], pool(issuer), name, now) },
		"another key":         func() (Verified, error) { return Verify(der, &stranger.PublicKey, name, pool(issuer), now) },
		"the issuer's itself": func() (Verified, error) { return Verify(issuer.Raw, &owner.PublicKey, name, pool(issuer), now) },
	} {
		if v, err := f(); !errors.Is(err, ErrCertificate) || v != (Verified{}) {
			t.Errorf("%s: %+v, %v", what, v, err)
		}
	}

	// Certificates of the same issuer for other uses.
	san := must(marshalNames(names{AK: name}))(t)
	var both []asn1.RawValue
	if _, err := asn1.Unmarshal(san, &both); err != nil {
		t.Fatal(err)
	}
	half := must(asn1.Marshal(both[:1]))(t)
	good := x509.Certificate{KeyUsage: x509.KeyUsageDigitalSignature, UnknownExtKeyUsage: []asn1.ObjectIdentifier{oidAIKCertificate}, BasicConstraintsValid: true,
		ExtraExtensions: []pkix.Extension{{Id: oidSubjectAltName, Value: san}}}
	for what, change := range map[string]func(c *x509.Certificate){
		"":      func(*x509.Certificate) {},
		"usage": func(c *x509.Certificate) { c.UnknownExtKeyUsage = nil },
		"client's": func(c *x509.Certificate) {
			c.UnknownExtKeyUsage, c.ExtKeyUsage = nil, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
		},
		"key usage":      func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageCertSign },
		"CA":             func(c *x509.Certificate) { c.IsCA = true },
		"no names":       func(c *x509.Certificate) { c.ExtraExtensions = nil },
		"other names":    func(c *x509.Certificate) { c.ExtraExtensions = nil; c.DNSNames = []string{"board"} },
		"half the names": func(c *x509.Certificate) { c.ExtraExtensions[0].Value = half },
	} {
		template := good
		template.ExtraExtensions = slices.Clone(good.ExtraExtensions)
		change(&template)
		c := certify(t, &template, issuer, key.Public(), owner)
		if _, err := verify(c.Raw, pool(issuer), name, now); (err == nil) != (what == "") {
			t.Errorf("%q: %v", what, err)
		}
	}

	// What is not issued.
	p384 := newKey(t, elliptic.P384())
	for what, f := range map[string]func() ([]byte, error){
		"key that signs anything": func() ([]byte, error) {
			r := r
			r.AK = attestation(key, func(p *tpm2.TPMTPublic) { p.ObjectAttributes.Restricted = false })
			return New(r, issuer, owner)
		},
		"another's CA": func() ([]byte, error) { return New(r, issuer, stranger) },
		"P-384":        func() ([]byte, error) { return New(r, ca(t, p384), p384) },
		"no CA": func() ([]byte, error) {
			return New(r, certify(t, &x509.Certificate{}, nil, owner.Public(), owner), owner)
		},
		"no EK certificate": func() ([]byte, error) { r := r; r.EKCertificate = nil; return New(r, issuer, owner) },
	} {
		if _, err := f(); err == nil {
			t.Errorf("%s: issued", what)
		}
	}
}

// TestCheckKey: one attribute that differs makes another kind of key.
func TestCheckKey(t *testing.T) {
	key := newKey(t, elliptic.P256())
	_, name, err := CheckKey(attestation(key, nil))
	if err != nil {
		t.Fatal(err)
	}
	public, err := tpm2.Unmarshal[tpm2.TPMTPublic](attestation(key, nil))
	if want := must(tpm2.ObjectName(public))(t); err != nil || !bytes.Equal(name, want.Buffer) {
		t.Errorf("name %x", name)
	}
	for what, change := range map[string]func(p *tpm2.TPMTPublic){
		"not restricted": func(p *tpm2.TPMTPublic) { p.ObjectAttributes.Restricted = false },
		"may be moved":   func(p *tpm2.TPMTPublic) { p.ObjectAttributes.FixedTPM = false },
		"from outside":   func(p *tpm2.TPMTPublic) { p.ObjectAttributes.SensitiveDataOrigin = false },
		"policy":         func(p *tpm2.TPMTPublic) { p.AuthPolicy.Buffer = make([]byte, 32) },
		"another hash":   func(p *tpm2.TPMTPublic) { p.NameAlg = tpm2.TPMAlgSHA384 },
		"no point":       func(p *tpm2.TPMTPublic) { p.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{}) },
		"not on the curve": func(p *tpm2.TPMTPublic) {
			p.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{X: tpm2.TPM2BECCParameter{Buffer: make([]byte, 32)}, Y: tpm2.TPM2BECCParameter{Buffer: make([]byte, 32)}})
		},
		"longer point": func(p *tpm2.TPMTPublic) {
			u, _ := p.Unique.ECC()
			p.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{X: tpm2.TPM2BECCParameter{Buffer: append([]byte{0}, u.X.Buffer...)}, Y: u.Y})
		},
	} {
		if _, _, err := CheckKey(attestation(key, change)); !errors.Is(err, ErrKey) {
			t.Errorf("%s: %v", what, err)
		}
	}
	b := attestation(key, nil)
	for n := range b {
		if _, _, err := CheckKey(b[:n]); !errors.Is(err, ErrKey) {
			t.Errorf("cut to %d bytes: %v", n, err)
		}
	}
	if _, _, err := CheckKey(append(b, 0)); !errors.Is(err, ErrKey) {
		t.Errorf("a byte more: %v", err)
	}
}

// TestNames: RFC 4043's structure, byte for byte, and no other.
func TestNames(t *testing.T) {
	der := must(marshalNames(names{AK: []byte{0, 0x0b}}))(t)
	const oid = "06082b06010505070803" // id-on-permanentIdentifier
	want := "306f" +
		"a057" + oid + "a04b3049" + "0c40" + strings.Repeat("30", 64) + "06056781050c01" + // tcg-on-ekPermIdSha256
		"a014" + oid + "a0083006" + "0c04" + hex.EncodeToString([]byte("000b"))
	if got := hex.EncodeToString(der); got != want {
		t.Errorf("%s\nnot %s", got, want)
	}
	for n := range len(der) * 8 {
		der[n/8] ^= 1 << (n % 8)
		if got, err := parseNames(der); err == nil && got.EK == ([32]byte{}) && bytes.Equal(got.AK, []byte{0, 0x0b}) {
			t.Errorf("bit %d: reads the same", n)
		}
		der[n/8] ^= 1 << (n % 8)
	}
}

// What the fuzzer found: see package corpus.
//
//go:embed testdata/names.hex
var keptNames string

func FuzzNames(f *testing.F) {
	corpus.Add(f, keptNames)
	der, err := marshalNames(names{AK: []byte{0, 0x0b}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(der)
	f.Fuzz(func(t *testing.T, der []byte) {
		n, err := parseNames(der)
		if err != nil {
			return
		}
		if again, err := marshalNames(n); err != nil || !bytes.Equal(again, der) {
			t.Errorf("%x, again %x (%v)", der, again, err)
		}
	})
}
