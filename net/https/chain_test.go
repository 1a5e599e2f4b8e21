package https

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"
)

// An issuer is a CA of the tests.
type issuer struct {
	*x509.Certificate
	key *ecdsa.PrivateKey
}

// issue issues a certificate for a key; without an issuer it is signed by a key of its own.
func issue(t testing.TB, by *issuer, template *x509.Certificate, key crypto.PublicKey, sign *ecdsa.PrivateKey) *x509.Certificate {
	t.Helper()
	parent := template
	if by != nil {
		parent, sign = by.Certificate, by.key
	}
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key, sign)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func newIssuer(t testing.TB, by *issuer, name string) *issuer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &issuer{issue(t, by, &x509.Certificate{Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}, key.Public(), key), key}
}

func pemOf(all ...*x509.Certificate) string {
	var b bytes.Buffer
	for _, c := range all {
		pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
	}
	return b.String()
}

// TestCertified: a chain is taken if it is for the server's key, for a server, valid now and
// in its order; whatever is not leaves what was there.
func TestCertified(t *testing.T) {
	own, err := SelfSigned("board")
	if err != nil {
		t.Fatal(err)
	}
	self, err := x509.ParseCertificate(own.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	other, err := SelfSigned("other")
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := x509.ParseCertificate(other.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	root := newIssuer(t, nil, "root")
	middle := newIssuer(t, root, "middle")
	server := func(change func(*x509.Certificate)) *x509.Certificate {
		c := &x509.Certificate{Subject: pkix.Name{CommonName: "board"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, BasicConstraintsValid: true,
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
		change(c)
		return issue(t, middle, c, own.PrivateKey.(crypto.Signer).Public(), nil)
	}
	good := server(func(*x509.Certificate) {})
	ended := server(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })
	for _, c := range []struct {
		name, chain string
		now         time.Time
		says        string
	}{
		{"its own once more", pemOf(self), time.Now(), ""},
		{"a leaf", pemOf(good), time.Now(), ""},
		{"a chain", pemOf(good, middle.Certificate, root.Certificate) + "\n \n", time.Now(), ""},
		{"one that has ended, at a time that is not known", pemOf(ended), time.Time{}, ""},
		{"one that has ended", pemOf(ended), time.Now(), "certificate 1 is valid from"},
		{"nothing", " \n", time.Now(), "no PEM block"},
		{"text", "certificate", time.Now(), "1 to 5 PEM blocks"},
		{"something behind it", pemOf(good) + "x", time.Now(), "1 to 5 PEM blocks"},
		{"a key", pemOf(good) + string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY"})), time.Now(), "1 to 5 PEM blocks"},
		{"too many", pemOf(slices.Repeat([]*x509.Certificate{good}, MaxChain+1)...), time.Now(), "1 to 5 PEM blocks"},
		{"no certificate", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte{1}})), time.Now(), "certificate 1: "},
		{"another key", pemOf(stranger), time.Now(), "another key"},
		{"the CA first", pemOf(middle.Certificate, good), time.Now(), "another key"},
		{"a CA of its key", pemOf(server(func(c *x509.Certificate) { c.IsCA = true })), time.Now(), "is a CA's"},
		{"for clients", pemOf(server(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} })), time.Now(), "not for server"},
		{"a gap", pemOf(good, root.Certificate), time.Now(), "certificate 1 was not issued"},
		{"another CA behind it", pemOf(good, middle.Certificate, stranger), time.Now(), "certificate 2 was not issued"},
	} {
		next, err := Certified(own, c.chain, c.now)
		if c.says == "" {
			if err != nil || next.Leaf == nil || next.PrivateKey != own.PrivateKey || len(next.Certificate) != strings.Count(c.chain, "BEGIN") {
				t.Errorf("%s: %v", c.name, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), c.says) || &next.Certificate[0] != &own.Certificate[0] {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// TestRequest: names come into the request as what they are.
func TestRequest(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := Request(key, pkix.Name{CommonName: "board"}, []string{"board.example", "DNS:b", "192.0.2.10", "IP:2001:db8::1"})
	if err != nil {
		t.Fatal(err)
	}
	r, err := x509.ParseCertificateRequest(der)
	if err != nil || r.CheckSignature() != nil || fmt.Sprint(r.DNSNames, r.IPAddresses, r.Subject) != "[board.example b] [192.0.2.10 2001:db8::1] CN=board" {
		t.Errorf("%v %+v", err, r)
	}
	for _, name := range []string{"", "a b", "a..b", "-a", "a-", "*", "a\x00", "a:443", strings.Repeat("a", 64), strings.Repeat("a.", 127) + "a"} {
		if _, err := Request(key, pkix.Name{}, []string{name}); err == nil {
			t.Errorf("%q is taken", name)
		}
	}
	if _, err := Request(key, pkix.Name{}, slices.Repeat([]string{"a"}, MaxNames+1)); err == nil {
		t.Error("any number of names is taken")
	}
}

// FuzzCertified: nothing that is sent gets a chain in place whose key is not the server's.
func FuzzCertified(f *testing.F) {
	own, err := SelfSigned("board")
	if err != nil {
		f.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(own.Certificate[0])
	if err != nil {
		f.Fatal(err)
	}
	root := newIssuer(f, nil, "root")
	f.Add(pemOf(leaf))
	f.Add(pemOf(root.Certificate, leaf))
	f.Add("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n")
	f.Fuzz(func(t *testing.T, chain string) {
		next, err := Certified(own, chain, time.Time{})
		if err == nil && !leaf.PublicKey.(*ecdsa.PublicKey).Equal(next.Leaf.PublicKey) {
			t.Errorf("%q is taken", chain)
		}
	})
}
