package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"encoding/base64"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"
)

var gatewayGroup = &group{"gateway", "Redfish for clients that know no client certificates", []*command{{
	summary: "serve a board's API on this machine, behind a password of this run",
	about: `
Serves the board's Redfish service on this machine's loopback interface, over HTTP, for
clients that know a user and a password and no client certificate. It speaks to the board
with -cert and -key, so whoever has the password is that principal: the board records him as
such. The password is drawn for this run and shown once, on standard error. The board's key
must be the pinned one. It ends with Ctrl-C.
`,
	example: "nitroctl gateway -board 192.0.2.10 -pin 5f2a4d0c9e1b7a3384c6d5e0f1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4 -cert operator.pem -key operator.key",
	setup:   gateway,
}}}

// gatewayUser is the name that clients have to give.
const gatewayUser = "nitro"

// Limits of the gateway's clients, who are on this machine.
const (
	gatewayHeader = 10 * time.Second
	gatewayStop   = 5 * time.Second // for what is under way when it ends
)

// A servedInfo is what is left to tell when a service has ended.
type servedInfo struct {
	Address string `json:"address"`
}

func (s servedInfo) print(w io.Writer) { table(w, [2]string{"served on", s.Address}) }

func gateway(f *flag.FlagSet) func(*call) (result, error) {
	board := apiFlags(f)
	listen := f.String("listen", "127.0.0.1:8080", "loopback `address` and port; port 0 takes a free one")
	return func(*call) (result, error) {
		r, err := board()
		if err != nil {
			return nil, err
		}
		host, _, err := net.SplitHostPort(*listen)
		if ip := net.ParseIP(host); err != nil || ip == nil || !ip.IsLoopback() {
			return nil, usage("-listen %q: give a loopback address and a port, such as 127.0.0.1:8080: a password over HTTP is for this machine alone", *listen)
		}
		l, err := net.Listen("tcp", *listen)
		if err != nil {
			return nil, err
		}
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		password := newPassword()
		fmt.Fprintf(os.Stderr, "gateway: http://%s/redfish/v1/ user %s password %s\n", l.Addr(), gatewayUser, password)
		return servedInfo{l.Addr().String()}, runGateway(ctx, l, r.gateway(*r.client, l.Addr().String(), password))
	}
}

// newPassword draws one of 128 bits.
func newPassword() string {
	b := make([]byte, 16)
	rand.Read(b)
	return base64.RawURLEncoding.EncodeToString(b)
}

// runGateway serves until the context ends.
func runGateway(ctx context.Context, l net.Listener, h http.Handler) error {
	return serveUntil(ctx, l, &http.Server{Handler: h, ReadHeaderTimeout: gatewayHeader}, gatewayStop)
}

// serveUntil serves until the context ends; what is under way then may take until the limit.
func serveUntil(ctx context.Context, l net.Listener, s *http.Server, stop time.Duration) error {
	s.ErrorLog = log.New(io.Discard, "", 0)
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(l) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
		limit, cancel := context.WithTimeout(context.Background(), stop)
		defer cancel()
		return s.Shutdown(limit)
	}
}

// gateway passes on what comes with the password and for this address: a page in a browser
// that has its own name resolve to this machine has neither.
func (r *remote) gateway(pair tls.Certificate, address, password string) http.Handler {
	transport := r.http().Transport.(*http.Transport)
	transport.DisableKeepAlives = false
	transport.TLSClientConfig.Certificates = []tls.Certificate{pair}
	transport.ResponseHeaderTimeout = r.limit
	proxy := &httputil.ReverseProxy{
		Transport: transport,
		ErrorLog:  log.New(io.Discard, "", 0), // the client is told
		Rewrite: func(p *httputil.ProxyRequest) {
			p.SetURL(&url.URL{Scheme: "https", Host: r.address})
			p.Out.Header.Del("Authorization") // is of this gateway
			p.Out.Header.Del("Cookie")
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			http.Error(w, "nitroctl gateway: "+(&unreachableError{r.address, err}).Error(), http.StatusBadGateway)
		},
	}
	want := sha256.Sum256([]byte(password))
	return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		user, given, _ := q.BasicAuth()
		got := sha256.Sum256([]byte(given))
		if _, tried := q.Header["Authorization"]; !tried && q.Host == address && serviceRoot(q) {
			proxy.ServeHTTP(w, q)
			return
		}
		if q.Host != address || user != gatewayUser || subtle.ConstantTimeCompare(got[:], want[:]) != 1 {
			w.Header().Set("WWW-Authenticate", `Basic realm="nitroctl gateway"`)
			http.Error(w, "nitroctl gateway: the user, the password or the Host is not the one that the gateway has shown", http.StatusUnauthorized)
			return
		}
		proxy.ServeHTTP(w, q)
	})
}

// serviceRoot tells whether a request only reads what every client of Redfish reads first,
// and expects to get without a password (DSP0266 13.3.2). It says what the board is.
func serviceRoot(q *http.Request) bool {
	return q.Method == http.MethodGet && q.URL.RawQuery == "" && slices.Contains([]string{"/redfish", "/redfish/v1", "/redfish/v1/"}, q.URL.Path)
}
