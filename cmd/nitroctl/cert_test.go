package main

import (
	"bufio"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"nitro/net/https"
	"nitro/net/policy"
	"nitro/net/provisioning"
	"nitro/qemu-test/factory"
)

// A certificateBoard is the certificates' part of a board's API, with a board's own code
// behind it.
type certificateBoard struct {
	identity atomic.Pointer[https.Identity]
	own      tls.Certificate
	request  crypto.Signer // whose request it makes
	deaf     bool          // it answers, and shows what it did
}

func (c *certificateBoard) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	refuse := func(why error) {
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprintf(w, `{"error":{"code":"Base.1.18.ActionParameterValueFormatError","@Message.ExtendedInfo":[{"Message":"no","Resolution":%q}]}}`, why)
	}
	var ask struct {
		CommonName, CertificateString string
		AlternativeNames              []string
	}
	if r.Method == http.MethodPost {
		if err := json.NewDecoder(r.Body).Decode(&ask); err != nil {
			refuse(err)
			return
		}
	}
	switch r.URL.Path {
	case "/v1/status", boardCertificate:
		fmt.Fprint(w, `{"state":"in service"}`)
	case certificateActions + "GenerateCSR":
		der, err := https.Request(c.request, pkix.Name{CommonName: ask.CommonName}, ask.AlternativeNames)
		if err != nil {
			refuse(err)
			return
		}
		json.NewEncoder(w).Encode(map[string]string{"CSRString": string(encodePEM("CERTIFICATE REQUEST", der))})
	case certificateActions + "ReplaceCertificate":
		next, err := https.Certified(c.own, ask.CertificateString, time.Now())
		if err != nil {
			refuse(err)
			return
		}
		if !c.deaf {
			id := *c.identity.Load()
			id.Certificate = next
			c.identity.Store(&id)
		}
		w.WriteHeader(http.StatusNoContent)
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

// certifyByOpenSSL has a new CA certify a request by the command in the help.
func (b *bench) certifyByOpenSSL(name string) {
	b.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(b, err)
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, ca, ca, key.Public(), key)
	must(b, err)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	must(b, err)
	must(b, os.WriteFile(b.path("ca.pem"), encodePEM("CERTIFICATE", der), 0o644))
	must(b, os.WriteFile(b.path("ca.key"), encodePEM("PRIVATE KEY", pkcs8), 0o600))
	var recipe string
	for line := range strings.Lines(certGroup.find("request").about) {
		if strings.Contains(line, "openssl ") {
			recipe = strings.ReplaceAll(line, "NAME", name)
		}
	}
	cmd := exec.Command("sh", "-c", recipe)
	cmd.Dir = b.dir
	if out, err := cmd.CombinedOutput(); err != nil {
		b.Fatalf("%s: %v\n%s", recipe, err, out)
	}
}

// TestCertOfBoard: a board's request is certified and put in place; a connection that is open
// stays, and whatever is not for the board's key is refused, by this tool before the board.
func TestCertOfBoard(t *testing.T) {
	b := newBench(t)
	clients, err := factory.NewClients()
	must(t, err)
	pair, err := clients.Certificate(policy.Operator, "ada")
	must(t, err)
	b.savePair("ada", pair)
	board := &certificateBoard{own: selfSigned(t)}
	board.request = board.own.PrivateKey.(crypto.Signer)
	board.identity.Store(&https.Identity{Certificate: board.own, CAs: []*x509.Certificate{clients.CA}})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { l.Close() })
	go https.Serve(l, https.Config{Identity: board.identity.Load, Routes: []https.Route{{Pattern: "/v1/", Handler: board, Open: true}, {Pattern: "/", Handler: board}}})
	at, pin := " -board "+l.Addr().String(), hexOf(provisioning.KeyDigest(board.own.Leaf))
	as := " -cert @ada.pem -key @ada.key -pin " + pin + at

	var c, pinned certInfo
	b.json("cert show"+at, exitOK, &c)
	if len(c.Certificates) != 1 || c.Certificates[0].For != "server" || c.Certificates[0].Key != pin || c.Bound != "" || c.Connection.Verified {
		t.Errorf("%+v", c)
	}
	if b.json("cert show -pin "+pin+at, exitOK, &pinned); pinned.Bound != boundByPin || !pinned.Connection.Verified {
		t.Errorf("pinned: %+v", pinned)
	}

	var r requestInfo
	b.json("cert request -name rack-3.example -name 127.0.0.1 -out @board"+as, exitOK, &r)
	text, err := os.ReadFile(b.path("board.csr"))
	must(t, err)
	block, _ := pem.Decode(text)
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	must(t, err)
	if fmt.Sprint(csr.DNSNames, csr.IPAddresses, csr.Subject) != "[rack-3.example] [127.0.0.1] CN=rack-3.example" || r.Key != pin {
		t.Errorf("%v %v %v, %+v", csr.DNSNames, csr.IPAddresses, csr.Subject, r)
	}
	b.certifyByOpenSSL("board") // with what the request asks for
	var of certInfo
	if b.json("cert show -in @board.pem", exitOK, &of); of.Certificates[0].For != "server" || len(of.Certificates[0].Names) != 2 {
		t.Errorf("certified by OpenSSL: %+v", of)
	}
	issued, err := clients.Server(csr)
	must(t, err)
	must(t, os.WriteFile(b.path("board.pem"), append(encodePEM("CERTIFICATE", issued.Raw), encodePEM("CERTIFICATE", clients.CA.Raw)...), 0o644))

	open, err := tls.Dial("tcp", l.Addr().String(), &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{pair}})
	must(t, err)
	defer open.Close()
	b.json("cert replace -in @board.pem"+as, exitOK, &c)
	if len(c.Certificates) != 2 || c.Certificates[0].Issuer != "CN=operators of rack.example" || c.Certificates[1].For != "ca" || strings.Join(c.Certificates[0].Names, " ") != "rack-3.example 127.0.0.1" {
		t.Errorf("%+v", c)
	}
	fmt.Fprintf(open, "GET %s HTTP/1.1\r\nHost: board\r\nConnection: close\r\n\r\n", boardCertificate)
	if answer, err := http.ReadResponse(bufio.NewReader(open), nil); err != nil || answer.StatusCode != http.StatusOK {
		t.Errorf("an open connection: %v, %v", answer, err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(clients.CA)
	verified, err := tls.Dial("tcp", l.Addr().String(), &tls.Config{RootCAs: roots}) // by the address in it
	must(t, err)
	verified.Close()
	if out := b.ok("cert show -pin " + pin + at); !strings.Contains(out, "operators of rack.example") || !strings.Contains(out, "it is the pinned key") {
		t.Errorf("people see\n%s", out)
	}

	other := selfSigned(t)
	must(t, os.WriteFile(b.path("other.pem"), encodePEM("CERTIFICATE", other.Leaf.Raw), 0o644))
	for line, says := range map[string]string{
		"cert replace -in @other.pem":                         "is for another key than the board's",
		"cert replace -in @ada.pem":                           "is for another key than the board's",
		"cert request -name a..b -out @x":                     "is no host name",
		"cert request -name board -out @board":                "nothing is overwritten",
		"cert request -name board -who spiffe://a/b/c -out x": "give -who for a client, or",
		"cert request -out @x":                                "by -name",
		"cert replace":                                        "-in is missing",
	} {
		if exit, _, said := b.run(line + as); exit == exitOK || !strings.Contains(said, says) {
			t.Errorf("%s: %d %s", line, exit, said)
		}
	}
	board.deaf = true
	must(t, os.WriteFile(b.path("own.pem"), encodePEM("CERTIFICATE", board.own.Leaf.Raw), 0o644))
	if p := b.json("cert replace -in @own.pem"+as, exitRefused, nil); !strings.Contains(p.Message, "shows another one") {
		t.Errorf("one that does not do it: %+v", p)
	}
	board.request = other.PrivateKey.(crypto.Signer)
	if p := b.json("cert request -name board -out @x"+as, exitRefused, nil); !strings.Contains(p.Message, "have nobody certify that") {
		t.Errorf("a request for another key: %+v", p)
	}
	if _, err := os.Stat(b.path("x.csr")); err == nil {
		t.Error("a request for another key was kept")
	}
}

// TestCertOfClient: a client's request is certified by OpenSSL's command as the help has it,
// and then a board knows the principal.
func TestCertOfClient(t *testing.T) {
	b := newBench(t)
	var r requestInfo
	b.json("cert request -who spiffe://owner.example/operator/ada -out @ada", exitOK, &r)
	if info, err := os.Stat(b.path("ada.key")); err != nil || info.Mode().Perm() != 0o600 || r.Principal != "spiffe://owner.example/operator/ada" {
		t.Errorf("%+v %v %v", r, info, err)
	}
	b.certifyByOpenSSL("ada")
	var c certInfo
	b.json("cert show -in @ada.pem -key @ada.key", exitOK, &c)
	if i := c.Certificates[0]; i.For != "client" || i.Principal != r.Principal || i.Key != r.Key || !*c.KeyFits || i.Until-i.From != 90*24*3600 {
		t.Errorf("%+v", c)
	}
	if out := b.ok("cert show -in @ada.pem"); !strings.Contains(out, "client") || !strings.Contains(out, r.Principal) {
		t.Errorf("people see\n%s", out)
	}

	clients, err := factory.NewClients()
	must(t, err)
	for name, change := range map[string]func(*x509.Certificate){
		"old": func(c *x509.Certificate) {
			c.NotBefore, c.NotAfter = time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)
		},
		"later": func(c *x509.Certificate) {
			c.NotBefore, c.NotAfter = time.Now().Add(time.Hour), time.Now().Add(2*time.Hour)
		},
		"signs":   func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageKeyEncipherment },
		"nothing": func(c *x509.Certificate) { c.URIs = nil },
	} {
		pair, err := clients.Changed(policy.Operator, name, change)
		must(t, err)
		b.savePair(name, pair)
	}
	for line, want := range map[string]struct {
		exit int
		says string
	}{
		"cert show -in @old.pem":                                       {exitRefused, "has ended"},
		"cert show -in @later.pem":                                     {exitRefused, "is valid from"},
		"cert show -in @signs.pem":                                     {exitOK, "neither client nor server"},
		"cert show -in @nothing.pem":                                   {exitOK, "neither client nor server"},
		"cert show -in @ca.pem":                                        {exitOK, "ca"},
		"cert show -in @ada.pem -key @old.key":                         {exitRefused, "private key"},
		"cert show -in @ada.csr":                                       {exitRefused, "certificates alone"},
		"cert show -in @ada.pem -board x":                              {exitUsage, "give -in, or a board"},
		"cert show -board x -key @ada.key":                             {exitUsage, "-key goes with -in"},
		"cert request -who spiffe://owner.example/root/ada -out @x":    {exitUsage, "no such role"},
		"cert request -who spiffe://owner.example/auditor/x":           {exitUsage, "-out is missing"},
		"cert request -who spiffe://owner.example/auditor/x -out @ada": {exitIO, "nothing is overwritten"},
	} {
		exit, out, said := b.run(line)
		if exit != want.exit || !strings.Contains(out+said, want.says) {
			t.Errorf("%s: %d %s%s", line, exit, out, said)
		}
	}
	text, err := os.ReadFile(b.path("ada.key"))
	must(t, err)
	if secret := strings.Split(string(text), "\n")[1]; strings.Contains(b.printed.String(), secret) {
		t.Error("the private key was printed")
	}
}
