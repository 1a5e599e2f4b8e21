package https

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"
)

// An authority issues certificates.
type authority struct {
	t    *testing.T
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func newAuthority(t *testing.T, name string) *authority {
	a := &authority{t: t}
	c := a.issue(&x509.Certificate{Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	a.key, a.cert = c.PrivateKey.(*ecdsa.PrivateKey), c.Leaf
	return a
}

// issue issues a certificate; its first one it signs itself.
func (a *authority) issue(template *x509.Certificate) tls.Certificate {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template.SerialNumber = big.NewInt(1)
	if template.NotAfter.IsZero() {
		template.NotAfter = time.Now().Add(time.Hour)
	}
	template.NotBefore = time.Now().Add(-time.Hour)
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		a.t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

func (a *authority) client() *tls.Certificate {
	c := a.issue(&x509.Certificate{KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	return &c
}

func (a *authority) server() tls.Certificate {
	return a.issue(&x509.Certificate{DNSNames: []string{"board"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
}

// A mutual is a server with an open route and one for known clients.
type mutual struct {
	t        *testing.T
	own      *authority // of the server
	addr     string
	identity atomic.Pointer[Identity]
	later    atomic.Int64 // how far the server's clock is ahead
	failures [Path + 1]atomic.Int64
}

func newMutual(t *testing.T, clients ...*authority) *mutual {
	t.Helper()
	m := &mutual{t: t, own: newAuthority(t, "server CA")}
	m.show(m.own.server(), clients...)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m.addr = l.Addr().String()
	ended := make(chan error)
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		echo(w, r)
		io.WriteString(w, r.TLS.CurveID.String())
	})
	go func() {
		ended <- Serve(l, Config{
			Identity: m.identity.Load, Failed: func(f Failure) { m.failures[f].Add(1) },
			Now:    func() time.Time { return time.Now().Add(time.Duration(m.later.Load())) },
			Routes: []Route{{Pattern: "/open", Handler: h, Body: 100, Open: true}, {Pattern: "/", Handler: h, Body: 2000}},
		})
	}()
	t.Cleanup(func() {
		l.Close()
		if err := <-ended; !errors.Is(err, net.ErrClosed) {
			t.Errorf("the server ended: %v", err)
		}
	})
	return m
}

// show puts another identity in place.
func (m *mutual) show(server tls.Certificate, clients ...*authority) {
	id := &Identity{Certificate: server}
	for _, c := range clients {
		id.CAs = append(id.CAs, c.cert)
	}
	m.identity.Store(id)
}

// client is one with a certificate, or none, that counts its connections.
func (m *mutual) client(certificate *tls.Certificate, change func(*tls.Config)) (*http.Client, *atomic.Int64) {
	roots := x509.NewCertPool()
	roots.AddCert(m.own.cert)
	c := &tls.Config{RootCAs: roots, ServerName: "board"}
	if certificate != nil { // whatever CAs the server asks for
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return certificate, nil }
	}
	if change != nil {
		change(c)
	}
	dials := new(atomic.Int64)
	transport := &http.Transport{DialTLS: func(string, string) (net.Conn, error) {
		dials.Add(1)
		return tls.Dial("tcp", m.addr, c)
	}}
	m.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: time.Minute}, dials
}

// ask gives the status and what the server says of the key exchange; 0 if there was no
// answer.
func (m *mutual) ask(c *http.Client, path string, body int) (int, string) {
	m.t.Helper()
	r, err := c.Post("https://board"+path, "", bytes.NewReader(make([]byte, body)))
	if err != nil {
		return 0, err.Error()
	}
	defer r.Body.Close()
	text, _ := io.ReadAll(r.Body)
	return r.StatusCode, string(text[min(body, len(text)):])
}

func (m *mutual) want(what string, c *http.Client, path string, body, status int) {
	m.t.Helper()
	if got, text := m.ask(c, path, body); got != status {
		m.t.Errorf("%s: %s: %d %s, not %d", what, path, got, text, status)
	}
}

// TestClients: who has a certificate of a known CA reaches all, who has none what is open,
// and who has another one nothing. Each failure is counted.
func TestClients(t *testing.T) {
	known, stranger := newAuthority(t, "known"), newAuthority(t, "stranger")
	m := newMutual(t, known)
	good, _ := m.client(known.client(), nil)
	m.want("a known client", good, "/", 2000, 200)
	m.want("a known client, too much", good, "/", 2001, 413)
	m.want("a known client", good, "/open", 100, 200)
	m.want("a known client, too much", good, "/open", 101, 413)
	none, _ := m.client(nil, nil)
	m.want("nobody", none, "/open", 1, 200)
	m.want("nobody", none, "/", 1, 401)
	if n := m.failures[NoCertificate].Load(); n != 1 {
		t.Errorf("%d without a certificate", n)
	}
	server := known.server()
	expired := known.issue(&x509.Certificate{NotAfter: time.Now().Add(-time.Minute), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	for i, c := range []*tls.Certificate{stranger.client(), &server, &expired} {
		bad, _ := m.client(c, nil)
		m.want("a wrong certificate", bad, "/", 1, 0)
		m.want("a wrong certificate", bad, "/open", 1, 0)
		end := time.Now().Add(time.Minute) // the client hears of it before the server counts it
		for m.failures[Handshake].Load() < int64(2*i+2) && time.Now().Before(end) {
			time.Sleep(time.Millisecond)
		}
		if n := m.failures[Handshake].Load(); n < int64(2*i+2) {
			t.Errorf("certificate %d: %d handshakes failed", i, n)
		}
	}
}

// TestNobodyKnown: a server without CAs asks for no certificate, and lets nobody in.
func TestNobodyKnown(t *testing.T) {
	m := newMutual(t)
	c, _ := m.client(newAuthority(t, "any").client(), nil)
	m.want("anybody", c, "/open", 1, 200)
	m.want("anybody", c, "/", 1, 401)
}

// TestRotation: certificate and CAs change under an open connection, which stays; the
// client whose CA is gone, or whose certificate ends meanwhile, does not get in by it.
func TestRotation(t *testing.T) {
	first, second := newAuthority(t, "first"), newAuthority(t, "second")
	m := newMutual(t, first)
	c, dials := m.client(first.client(), nil)
	m.want("before", c, "/", 1, 200)
	next := m.own.server()
	m.show(next, second, first)
	m.want("another server certificate and one CA more", c, "/", 1, 200)
	if dials.Load() != 1 {
		t.Errorf("%d connections", dials.Load())
	}
	var shown []byte
	fresh, _ := m.client(second.client(), func(c *tls.Config) {
		c.VerifyConnection = func(s tls.ConnectionState) error { shown = s.PeerCertificates[0].Raw; return nil }
	})
	m.want("a client of the new CA", fresh, "/", 1, 200)
	if !bytes.Equal(shown, next.Certificate[0]) {
		t.Error("the old certificate is shown")
	}
	m.show(next, second)
	m.want("the CA is gone", c, "/", 1, 401)
	m.want("the CA is gone, on a new connection", c, "/", 1, 0)
	m.later.Store(int64(2 * time.Hour))
	m.want("the certificate has ended", fresh, "/", 1, 401)
}

// TestRevocation: a client who is revoked does not come in, and is out in the middle of an
// open connection; others of his CA stay.
func TestRevocation(t *testing.T) {
	known := newAuthority(t, "known")
	m := newMutual(t, known)
	bad, good := known.client(), known.client()
	one, _ := m.client(bad, nil)
	two, dials := m.client(good, nil)
	m.want("before", one, "/", 1, 200)
	m.want("before", two, "/", 1, 200)
	id := *m.identity.Load()
	id.Revokes = func(chain []*x509.Certificate) bool {
		if len(chain) != 2 || !chain[1].Equal(known.cert) {
			t.Errorf("asked about a chain of %d", len(chain))
		}
		return chain[0].Equal(bad.Leaf)
	}
	m.identity.Store(&id)
	m.want("revoked, on an open connection", one, "/", 1, 401)
	m.want("revoked, on a new connection", one, "/", 1, 0)
	m.want("revoked, on an open route", one, "/open", 1, 0)
	m.want("another client of the CA", two, "/", 1, 200)
	if dials.Load() != 1 {
		t.Errorf("%d connections", dials.Load())
	}
	fresh, _ := m.client(good, nil)
	m.want("another client of the CA, on a new connection", fresh, "/", 1, 200)
	id.Revokes = nil
	m.identity.Store(&id)
	m.want("revoked no more", one, "/", 1, 200)
}

// TestUpload: a route for uploads takes a body that comes slowly but comes; at its end
// another request may follow, with the usual limits.
func TestUpload(t *testing.T) {
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); errors.As(err, new(*http.MaxBytesError)) {
			w.WriteHeader(http.StatusRequestEntityTooLarge)
		} else if err != nil {
			w.WriteHeader(http.StatusRequestTimeout)
		}
	})
	m := newMutual(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	m.addr = l.Addr().String()
	go Serve(l, Config{Identity: m.identity.Load, Routes: []Route{{Pattern: "/slow", Handler: h, Open: true, Body: 5, Upload: 300 * time.Millisecond}}})
	c, dials := m.client(nil, nil)
	send := func(gap time.Duration, body string) (int, error) {
		r, w := io.Pipe()
		go func() {
			for i := range body {
				time.Sleep(gap)
				if _, err := io.WriteString(w, body[i:i+1]); err != nil {
					return
				}
			}
			w.Close()
		}()
		answer, err := c.Post("https://board/slow", "", r)
		if err != nil {
			return 0, err
		}
		defer answer.Body.Close()
		io.Copy(io.Discard, answer.Body)
		return answer.StatusCode, nil
	}
	for range 2 {
		if status, err := send(time.Millisecond, "12345"); status != 200 || err != nil {
			t.Errorf("%d, %v", status, err)
		}
	}
	if status, _ := send(time.Millisecond, "123456"); status != 413 {
		t.Errorf("too much: %d", status)
	}
	if n := dials.Load(); n > 2 {
		t.Errorf("%d connections", n)
	}
	if status, err := send(time.Second, "12"); status == 200 && err == nil {
		t.Error("an upload that takes too long is taken")
	}
}

// TestKeyExchange: the hybrid key exchange with whoever knows it, no resumption, and the
// classical one else.
func TestKeyExchange(t *testing.T) {
	m := newMutual(t)
	sessions := tls.NewLRUClientSessionCache(1)
	for _, c := range []struct {
		curves []tls.CurveID
		want   string
	}{
		{nil, "X25519MLKEM768"},
		{[]tls.CurveID{tls.X25519, tls.CurveP256}, "X25519"},
		{[]tls.CurveID{tls.CurveP256}, "CurveP256"},
	} {
		client, _ := m.client(nil, func(t *tls.Config) {
			t.CurvePreferences, t.ClientSessionCache = c.curves, sessions
			t.VerifyConnection = func(s tls.ConnectionState) error {
				if s.DidResume {
					m.t.Error("resumed")
				}
				return nil
			}
		})
		if status, got := m.ask(client, "/open", 0); status != 200 || got != c.want {
			t.Errorf("%v: %d %q, not %s", c.curves, status, got, c.want)
		}
	}
	p384, _ := m.client(nil, func(t *tls.Config) { t.CurvePreferences = []tls.CurveID{tls.CurveP384} })
	m.want("a curve that is not offered", p384, "/open", 0, 0)
}
