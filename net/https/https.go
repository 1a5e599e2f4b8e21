// Package https serves HTTP/1.1 over TLS 1.3 (RFC 9112, RFC 8446) on a small machine,
// with limits that keep one client from taking more than its share: of time for each
// step, of header and body bytes. How many connections there are is the listener's to
// limit (net/stack). HTTP/2 is left out: its streams would need limits of their own,
// and no client of a Redfish service needs them.
//
// # Who may come in
//
// Clients authenticate by certificate (RFC 8446, 4.4.2), on one port with those who have
// none: a [Route] that is not Open is reached only by who has shown a certificate of one
// of the [Identity]'s CAs, before a byte of the body is read. One port, since what a board
// proves to strangers (its evidence) it has to prove by the very key that operators see. A
// certificate that does not verify ends the handshake, on open routes as well.
//
// What the server shows and whom it knows may change at any time ([Config.Identity]): each
// handshake and each request asks anew. Connections stay open over a change; the next
// request of a client whose CA is gone, or whose certificate has ended or was revoked
// meanwhile, is refused. There is no resumption: a ticket would carry an old verdict into a new
// connection.
//
// Key exchange is X25519MLKEM768 (draft-ietf-tls-ecdhe-mlkem) with each client that offers
// it, else X25519 or P-256: what is recorded today must not be readable to a later quantum
// computer.
package https

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"log"
	"math/big"
	"net"
	"net/http"
	"path"
	"slices"
	"strings"
	"time"
)

// Limits of a connection. A request that is slower or larger ends it, or is refused
// with 413 or 431.
const (
	HeaderLimit  = 30 * time.Second // for the TLS handshake, of which a busy board does many at a time, and the request's header
	RequestLimit = 60 * time.Second // for reading a request, and for answering it
	IdleLimit    = 2 * time.Minute  // between two requests
	HeaderBytes  = 16 << 10
	BodyBytes    = 1 << 20 // of a route that names no limit of its own
)

// validity is that of a certificate that a board makes for itself. Its key ends with
// the boot.
const validity = 365 * 24 * time.Hour

// SelfSigned makes a P-256 key and a certificate that it signs itself, for a server
// with a name. It proves nothing of who the server is.
func SelfSigned(name string) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("https: %w", err)
	}
	serial := make([]byte, 16)
	rand.Read(serial)
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes(serial),
		Subject:      pkix.Name{CommonName: name},
		DNSNames:     []string{name},
		NotBefore:    now.Add(-time.Hour), // clients' clocks may be behind
		NotAfter:     now.Add(validity),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("https: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}

// An Identity is what a server shows, and whom it knows. It does not change: another one
// takes its place.
type Identity struct {
	Certificate tls.Certificate
	// CAs issue clients' certificates. Without any, no client is asked for one.
	CAs []*x509.Certificate
	// Revokes tells whether something in a chain that was verified is revoked, from the
	// client's certificate to the CA's. Nil revokes nothing.
	Revokes func(chain []*x509.Certificate) bool
}

// A Route is a part of what is served.
type Route struct {
	Pattern string // as http.ServeMux has it
	Handler http.Handler
	Body    int64 // bytes of a request's body at most; 0 means BodyBytes
	Open    bool  // to clients without a certificate as well
	// Upload is how long a request's body may take on a route that takes large ones, as
	// long as something comes within each RequestLimit; 0 means RequestLimit for all.
	Upload time.Duration
}

// A Failure is what keeps a client out before it is known who it is.
type Failure int

// The failures.
const (
	Handshake     Failure = iota // it did not come to an end: no TLS 1.3, or a wrong certificate
	NoCertificate                // on a route that is not open
	Crowded                      // the address has PeerConnections already
	Path                         // a path with an empty segment, or with . or ..
)

// A Config says what is served to whom.
type Config struct {
	// Identity is asked at each handshake and each request.
	Identity func() *Identity
	Routes   []Route
	// Refuse answers who has no certificate where one is needed. It must not read the
	// body. Nil answers 401 without words.
	Refuse http.Handler
	// Failed is told of each failure, by several goroutines; it may be nil.
	Failed func(Failure)
	// Opened is told of each handshake that has come to its end; it may be nil.
	Opened func()
	// Now is the time by which certificates are valid; nil means time.Now.
	Now func() time.Time
}

// Serve answers requests on a listener until it fails, and gives the reason.
func Serve(l net.Listener, c Config) error {
	if c.Failed == nil {
		c.Failed = func(Failure) {}
	}
	if c.Opened == nil {
		c.Opened = func() {}
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Refuse == nil {
		c.Refuse = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) })
	}
	mux := http.NewServeMux()
	for _, r := range c.Routes {
		mux.Handle(r.Pattern, c.route(r))
	}
	server := &http.Server{
		Handler:           onePath(mux, c.Failed),
		ReadHeaderTimeout: HeaderLimit,
		ReadTimeout:       RequestLimit,
		WriteTimeout:      RequestLimit,
		IdleTimeout:       IdleLimit,
		MaxHeaderBytes:    HeaderBytes,
		ErrorLog:          log.New(handshakes(c.Failed), "", 0),
	}
	crowded := func() { c.Failed(Crowded) }
	err := server.Serve(tls.NewListener(limitPeers(l, crowded), &tls.Config{
		MinVersion:         tls.VersionTLS13,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return c.tls(), nil },
	}))
	return fmt.Errorf("https: %w", err)
}

// onePath refuses the paths that http.ServeMux would answer with a redirection to what it
// takes them to mean: each path has one spelling, and nobody is told what another means.
func onePath(mux *http.ServeMux, failed func(Failure)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p, clean := r.URL.Path, path.Clean(r.URL.Path)
		if strings.Contains(p, "//") || p != clean && p != clean+"/" {
			failed(Path)
			http.NotFound(w, r)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// tls is the configuration of one handshake.
func (c *Config) tls() *tls.Config {
	id := c.Identity()
	t := &tls.Config{
		Certificates:           []tls.Certificate{id.Certificate},
		MinVersion:             tls.VersionTLS13,
		CurvePreferences:       []tls.CurveID{tls.X25519MLKEM768, tls.X25519, tls.CurveP256},
		NextProtos:             []string{"http/1.1"},
		SessionTicketsDisabled: true,
		Time:                   c.Now,
		VerifyConnection:       func(tls.ConnectionState) error { c.Opened(); return nil },
	}
	if len(id.CAs) > 0 {
		t.ClientAuth, t.ClientCAs = tls.VerifyClientCertIfGiven, x509.NewCertPool()
		for _, ca := range id.CAs {
			t.ClientCAs.AddCert(ca)
		}
		t.VerifyConnection = func(s tls.ConnectionState) error {
			if len(s.PeerCertificates) > 0 && len(id.good(s.VerifiedChains)) == 0 {
				return errRevoked
			}
			return nil
		}
	}
	return t
}

var errRevoked = errors.New("https: the client's certificate is revoked")

// good gives those of verified chains in which nothing is revoked.
func (id *Identity) good(chains [][]*x509.Certificate) [][]*x509.Certificate {
	if id.Revokes == nil {
		return chains
	}
	return slices.DeleteFunc(slices.Clone(chains), id.Revokes)
}

// route holds a route to its limits.
func (c *Config) route(r Route) http.Handler {
	limit := r.Body
	if limit == 0 {
		limit = BodyBytes
	}
	h := http.MaxBytesHandler(r.Handler, limit)
	if r.Upload > 0 {
		h = patient(h, r.Upload)
	}
	if r.Open {
		return h
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		chains := c.valid(r.TLS.VerifiedChains)
		if len(chains) == 0 {
			c.Failed(NoCertificate)
			w.Header().Set("Connection", "close") // a certificate comes with a handshake only
			c.Refuse.ServeHTTP(w, r)
			return
		}
		state := *r.TLS
		state.VerifiedChains = chains
		with := *r
		with.TLS = &state
		h.ServeHTTP(w, &with)
	})
}

// valid gives those of a connection's chains that are good still: the handshake, which has
// verified them, may lie long behind.
func (c *Config) valid(chains [][]*x509.Certificate) (valid [][]*x509.Certificate) {
	if len(chains) == 0 {
		return nil
	}
	now, id := c.Now(), c.Identity()
	for _, chain := range id.good(chains) {
		ended := slices.ContainsFunc(chain, func(x *x509.Certificate) bool { return now.After(x.NotAfter) })
		if !ended && slices.ContainsFunc(id.CAs, chain[len(chain)-1].Equal) {
			valid = append(valid, chain)
		}
	}
	return valid
}

// handshakes counts the handshakes that fail, of which net/http tells its log and nobody
// else. What strangers send is no news otherwise.
type handshakes func(Failure)

// Write implements io.Writer: one call a message.
func (h handshakes) Write(b []byte) (int, error) {
	if strings.HasPrefix(string(b), "http: TLS handshake error") {
		h(Handshake)
	}
	return len(b), nil
}
