package metadata

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"time"
)

// Limits of the service: one host uses it, a few times in its life.
const (
	connections = 8
	stepLimit   = 5 * time.Second // for a request's header, and for an answer
	headerBytes = 4 << 10         // net/http adds 4096
	hopLimit    = 1
)

// A Service is the board's end.
type Service struct {
	address netip.AddrPort
	source  Source
	tokens  tokens
	now     func() time.Time
}

// New makes a service that is reached at an address, and tells what the source has.
func New(address netip.AddrPort, source Source) *Service {
	s := &Service{address: address, source: source, now: time.Now}
	s.tokens.init(s.now())
	return s
}

// Serve answers on a listener until it fails, and gives the reason. Its connections must be
// able to bound how far their packets go, as net/stack's are; it closes others.
func (s *Service) Serve(l net.Listener) error {
	server := &http.Server{
		Handler: s, ReadHeaderTimeout: stepLimit, ReadTimeout: stepLimit, WriteTimeout: 2 * stepLimit, MaxHeaderBytes: headerBytes,
		ErrorLog: log.New(io.Discard, "", 0), // what a host sends fills no console
	}
	server.SetKeepAlivesEnabled(false)
	err := server.Serve(&nearby{l, make(chan struct{}, connections)})
	return fmt.Errorf("metadata: %w", err)
}

// proxied are the headers that say that a request came through somebody else.
var proxied = []string{"X-Forwarded-For", "X-Forwarded-Host", "X-Real-Ip", "Forwarded", "Via", "Origin", "Sec-Fetch-Site"}

// ServeHTTP implements http.Handler.
func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if r.Host != s.address.Addr().String() && r.Host != s.address.String() {
		refuse(w, http.StatusMisdirectedRequest, "the Host header must be "+s.address.Addr().String())
		return
	}
	for _, name := range proxied {
		if _, there := r.Header[name]; there {
			refuse(w, http.StatusForbidden, "this is for the host alone: ask without a proxy or a browser")
			return
		}
	}
	if r.ContentLength != 0 {
		refuse(w, http.StatusRequestEntityTooLarge, "send no body")
		return
	}
	var method string
	var answer func(http.ResponseWriter, *http.Request, *Document)
	switch r.URL.Path {
	case TokenPath:
		method, answer = http.MethodPut, s.token
	case HostPath:
		method, answer = http.MethodGet, s.document
	default:
		refuse(w, http.StatusNotFound, "there are "+TokenPath+" and "+HostPath)
		return
	}
	if r.Method != method {
		w.Header().Set("Allow", method)
		refuse(w, http.StatusMethodNotAllowed, "use "+method)
		return
	}
	d, err := s.source.Metadata()
	if err != nil {
		w.Header().Set("Retry-After", "1")
		refuse(w, http.StatusServiceUnavailable, "there is no host cycle: ask again after a second")
		return
	}
	answer(w, r, d)
}

// refuse answers with one line.
func refuse(w http.ResponseWriter, status int, why string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	fmt.Fprintln(w, "metadata: "+why)
}

// token answers a PUT for a token.
func (s *Service) token(w http.ResponseWriter, r *http.Request, d *Document) {
	lifetimes := r.Header.Values(LifetimeHeader)
	seconds := uint64(0)
	if len(lifetimes) == 1 {
		seconds, _ = strconv.ParseUint(lifetimes[0], 10, 16) // 0 is refused
	}
	lifetime := time.Duration(seconds) * time.Second
	if lifetime == 0 || lifetime > MaxLifetime {
		refuse(w, http.StatusBadRequest, fmt.Sprintf("%s must be 1 to %d", LifetimeHeader, MaxLifetime/time.Second))
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set(LifetimeHeader, lifetimes[0])
	io.WriteString(w, s.tokens.give(s.now(), lifetime, d.Cycle))
}

// document answers a GET for the document.
func (s *Service) document(w http.ResponseWriter, r *http.Request, d *Document) {
	given := r.Header.Values(TokenHeader)
	if len(given) != 1 || !s.tokens.good(s.now(), given[0], d.Cycle) {
		refuse(w, http.StatusUnauthorized, "ask for a token by PUT "+TokenPath+", and send it as "+TokenHeader)
		return
	}
	d.Version = Version
	text, err := json.Marshal(d)
	if err == nil {
		err = d.check()
	}
	if err != nil || len(text) > MaxDocument {
		log.Printf("metadata: a document of %d bytes is not told: %v", len(text), err)
		refuse(w, http.StatusInternalServerError, "the document is out of its bounds")
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Write(text)
	clear(text)
}

// nearby is a listener of connections whose packets no router passes on, a few at once.
type nearby struct {
	net.Listener
	places chan struct{}
}

// Accept implements net.Listener.
func (l *nearby) Accept() (net.Conn, error) {
	l.places <- struct{}{} // the server's own limits give each one back
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			<-l.places
			return nil, err
		}
		if limit(c) == nil {
			return &place{c, sync.OnceFunc(func() { <-l.places })}, nil
		}
		c.Close()
	}
}

// limit bounds how far a connection's packets go.
func limit(c net.Conn) error {
	l, ok := c.(interface{ SetHopLimit(hops int) error })
	if !ok {
		return errors.New("metadata: a connection without a hop limit")
	}
	return l.SetHopLimit(hopLimit)
}

// A place is a connection that gives its place back.
type place struct {
	net.Conn
	leave func()
}

// Close implements net.Conn.
func (p *place) Close() error {
	p.leave()
	return p.Conn.Close()
}
