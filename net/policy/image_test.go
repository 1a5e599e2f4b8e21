package policy

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
	"math/big"
	"strings"
	"testing"
	"time"

	"nitro/boot/image"
	"nitro/boot/image/imagetest"
	"nitro/internal/corpus"
)

var (
	owner  = imagetest.Signer(image.Configure, "owner")
	accept = Want{Product: imagetest.Product, Development: true, Board: "board-1", Epoch: 7,
		Authorities: []image.Authority{imagetest.Authority(image.Release, "maker"), imagetest.Authority(image.Configure, "owner")}}
)

func sample() *Payload {
	return &Payload{Epoch: 7, Product: imagetest.Product, Development: true, Policies: Default,
		Issuers: []Issuer{{"owner.example", sha256.Sum256([]byte("ca")), []Role{Operator, Auditor}}}}
}

func TestImage(t *testing.T) {
	b, err := Sign(sample(), 1, owner)
	if err != nil {
		t.Fatal(err)
	}
	s, err := Read(bytes.NewReader(b), accept)
	if err != nil {
		t.Fatal(err)
	}
	if s.Epoch != 7 || s.Digest != sha256.Sum256(b[image.HeaderSize:]) || !s.Decide(ask(Operator, ResetHost, Host)).Allowed || len(s.Issuers) != 1 {
		t.Errorf("%+v", s)
	}
	for name, c := range map[string]func(*Want, []byte) []byte{
		"an older epoch":    func(w *Want, b []byte) []byte { w.Epoch = 8; return b },
		"another product":   func(w *Want, b []byte) []byte { w.Product = "other"; return b },
		"no development":    func(w *Want, b []byte) []byte { w.Development = false; return b },
		"release keys only": func(w *Want, b []byte) []byte { w.Authorities = w.Authorities[:1]; return b },
		"a changed policy":  func(w *Want, b []byte) []byte { b[len(b)-10] ^= 1; return b },
		"a changed header":  func(w *Want, b []byte) []byte { b[100] ^= 1; return b },
		"cut off":           func(w *Want, b []byte) []byte { return b[:len(b)-1] },
		"another component": func(w *Want, b []byte) []byte {
			return imagetest.Image(imagetest.Header(image.Configuration, "7", 0), b[image.HeaderSize:], owner)
		},
		"a header's product": func(w *Want, b []byte) []byte {
			return imagetest.Image(imagetest.Header(image.PolicySet, "7", 0), b[image.HeaderSize:], owner)
		},
		"not JSON": func(w *Want, b []byte) []byte {
			h := imagetest.Header(image.PolicySet, "7", 0)
			h.Development = true
			return imagetest.Image(h, []byte("x"), owner)
		},
		"too long for policy": func(w *Want, b []byte) []byte {
			h := imagetest.Header(image.PolicySet, "7", 0)
			h.Development = true
			return imagetest.Image(h, make([]byte, MaxPayload+1), owner)
		},
	} {
		w := accept
		if _, err := Read(bytes.NewReader(c(&w, bytes.Clone(b))), w); err == nil {
			t.Errorf("%s: not refused", name)
		}
	}
}

func TestDecode(t *testing.T) {
	good, err := sample().Encode()
	if err != nil {
		t.Fatal(err)
	}
	ca := strings.Repeat("ab", 32)
	for change, want := range map[[2]string]string{
		{`"format":1`, `"format":2`}:                   "format 2",
		{`"epoch":7`, `"epoch":0`}:                     "epoch 0",
		{`"epoch":7`, `"epoch":7,"epoch":8`}:           "epoch",
		{`"epoch":7`, `"epoch":7,"extra":8`}:           "extra",
		{`"owner":"owner.example"`, `"owner":"Owner"`}: "owner",
		{`["operator","auditor"]`, `[]`}:               "0 roles",
		{`["operator","auditor"]`, `["root"]`}:         "root",
		{`"issuers":[{`, `"issuers":[],"x":[{`}:        "x",
		{`"ca":"`, `"ca":"` + ca}:                      "SHA-256",
		{`"ca":"`, `"ca":"ZZ`}:                         "SHA-256",
	} {
		text := strings.Replace(string(good), change[0], change[1], 1)
		if text == string(good) {
			t.Fatalf("%v changes nothing", change)
		}
		if _, err := Decode([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, not %q", change, err, want)
		}
	}
	for _, many := range []int{0, MaxIssuers + 1} {
		p := sample()
		p.Issuers = make([]Issuer, many)
		for i := range p.Issuers {
			p.Issuers[i] = Issuer{"o", [32]byte{}, []Role{Operator}}
		}
		if _, err := p.Encode(); err == nil {
			t.Errorf("%d issuers: not refused", many)
		}
	}
}

func TestParsePrincipal(t *testing.T) {
	const good = "spiffe://owner.example/operator/mona.l_1-A"
	p, err := ParsePrincipal(good)
	if err != nil || p != (Principal{"owner.example", Operator, "mona.l_1-A"}) || p.String() != good {
		t.Fatalf("%+v %v", p, err)
	}
	long := strings.Repeat("a", 256)
	for _, uri := range []string{
		"", "spiffe://", "spiffe:///operator/x", "SPIFFE://owner.example/operator/x", "https://owner.example/operator/x",
		"spiffe://Owner.example/operator/x", "spiffe://owner.example:1/operator/x", "spiffe://u@owner.example/operator/x",
		"spiffe://owner.example/Operator/x", "spiffe://owner.example/root/x", "spiffe://owner.example//x", "spiffe://owner.example/operator/",
		"spiffe://owner.example/operator/x/", "spiffe://owner.example/operator/x/y", "spiffe://owner.example/operator",
		"spiffe://owner.example/operator/x?", "spiffe://owner.example/operator/x#", "spiffe://owner.example/operator/%78",
		"spiffe://owner.example/operator/.", "spiffe://owner.example/operator/..", "spiffe://owner.example/operator/x ", " " + good,
		"spiffe://owner.example/operator/\u00e4", "spiffe://owner.example/operator/x\x00", "spiffe://owner.example/operator/" + long[:65],
		"spiffe://" + long + "/operator/x", good + strings.Repeat("x", MaxURI),
	} {
		if p, err := ParsePrincipal(uri); err == nil || p != (Principal{}) {
			t.Errorf("%.60q: %+v", uri, p)
		}
	}
}

// What the fuzzer found: see package corpus.
var (
	//go:embed testdata/principals.hex
	keptPrincipals string
	//go:embed testdata/payloads.hex
	keptPayloads string
)

// FuzzPrincipal: what is taken has one spelling.
func FuzzPrincipal(f *testing.F) {
	f.Add([]byte("spiffe://owner.example/operator/mona"))
	corpus.Add(f, keptPrincipals)
	f.Fuzz(func(t *testing.T, uri []byte) {
		if p, err := ParsePrincipal(string(uri)); err == nil && p.String() != string(uri) {
			t.Errorf("%q is %q", uri, p)
		}
	})
}

func FuzzDecode(f *testing.F) {
	good, err := sample().Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"format":1,"epoch":1,"product":"p","development":true,"issuers":[{"owner":"o","ca":"` + strings.Repeat("00", 32) +
		`","roles":["auditor"]}],"policies":"@id(\"a\") permit (principal, action, resource) when { principal.name like \"a*\" };"}`))
	corpus.Add(f, keptPayloads)
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := Decode(b)
		if err != nil {
			return
		}
		s, err := Compile(p, "b")
		if err != nil {
			return
		}
		s.Explain(ask(Operator, ResetHost, Host))
		if _, err := p.Encode(); err != nil {
			t.Errorf("taken, but not made: %v", err)
		}
	})
}

// A ca issues certificates for tests.
type ca struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func newCA(t *testing.T) ca {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return ca{key, issue(t, &x509.Certificate{Subject: pkix.Name{CommonName: "ca"}, IsCA: true, KeyUsage: x509.KeyUsageCertSign}, nil, key)}
}

// issue makes a certificate; without a CA it signs itself.
func issue(t *testing.T, template *x509.Certificate, by *ca, key *ecdsa.PrivateKey) *x509.Certificate {
	t.Helper()
	template.SerialNumber, template.NotAfter, template.BasicConstraintsValid = big.NewInt(1), time.Unix(4e9, 0), true
	parent, signer := template, key
	if by != nil {
		parent, signer = by.cert, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// san makes the extension of alternative names from URIs as they are.
func san(t *testing.T, uris ...string) pkix.Extension {
	t.Helper()
	names := []asn1.RawValue{{Class: asn1.ClassContextSpecific, Tag: 2, Bytes: []byte("dns.example")}}
	for _, u := range uris {
		names = append(names, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 6, Bytes: []byte(u)})
	}
	der, err := asn1.Marshal(names)
	if err != nil {
		t.Fatal(err)
	}
	return pkix.Extension{Id: subjectAltName, Value: der}
}

func TestIdentify(t *testing.T) {
	authority, other := newCA(t), newCA(t)
	s := development(t)
	s.Issuers = []Issuer{
		{"owner.example", sha256.Sum256(other.cert.RawSubjectPublicKeyInfo), []Role{StorageControlPlane}},
		{"owner.example", sha256.Sum256(authority.cert.RawSubjectPublicKeyInfo), []Role{Operator, Auditor}},
	}
	const good = "spiffe://owner.example/operator/mona"
	leaf := func(change func(*x509.Certificate), uris ...string) *x509.Certificate {
		c := &x509.Certificate{KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
		if len(uris) > 0 {
			c.ExtraExtensions = []pkix.Extension{san(t, uris...)}
		}
		if change != nil {
			change(c)
		}
		return issue(t, c, &authority, authority.key)
	}
	p, err := s.Identify([][]*x509.Certificate{{leaf(nil, good), authority.cert}})
	if err != nil || p.String() != good {
		t.Fatalf("%v %v", p, err)
	}
	if _, err := s.Identify([][]*x509.Certificate{{leaf(nil, good), other.cert}, {leaf(nil, good), authority.cert}}); err != nil {
		t.Errorf("the second chain: %v", err)
	}
	for name, chains := range map[string][][]*x509.Certificate{
		"nothing":              nil,
		"an empty chain":       {{}},
		"no CA":                {{leaf(nil, good)}},
		"a CA for other roles": {{leaf(nil, good), other.cert}},
		"a role not given":     {{leaf(nil, "spiffe://owner.example/fleet-verifier/x"), authority.cert}},
		"another owner":        {{leaf(nil, "spiffe://other.example/operator/mona"), authority.cert}},
		"no URI":               {{leaf(nil), authority.cert}},
		"two URIs":             {{leaf(nil, good, good), authority.cert}},
		"an empty fragment":    {{leaf(nil, good+"#"), authority.cert}},
		"an escaped name":      {{leaf(nil, "spiffe://owner.example/operator/mon%61"), authority.cert}},
		"a CA's certificate":   {{leaf(func(c *x509.Certificate) { c.IsCA = true }, good), authority.cert}},
		"for servers":          {{leaf(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }, good), authority.cert}},
		"for signing certs":    {{leaf(func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageCertSign }, good), authority.cert}},
	} {
		if p, err := s.Identify(chains); err == nil || p != (Principal{}) {
			t.Errorf("%s: %v", name, p)
		}
	}
}
