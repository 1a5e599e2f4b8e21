// Package server is a key service of volumes (docs/keyservice.md, version 1): it makes
// keys, keeps them encrypted in a folder, and gives each to a board whose evidence it has
// verified, under a signed grant. Everything it does or refuses is in its log first.
//
// It serves over TLS that its caller sets up, with client certificates taken where they
// are given: [TLS]. Left out is a face as AWS KMS has it, which would hand out envelopes:
// see docs/keyservice.md, "Grants", for grants that go with one.
package server

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"nitro/attest/ijson"
	"nitro/attest/verify"
	"nitro/net/keyservice"
	"nitro/net/policy"
	"nitro/nvme/key"
)

// Files of the folder.
const (
	masterFile   = "master.key"
	keysFolder   = "keys"
	standingFile = "standing.json"
	logFile      = "log.jsonl"
)

// A Config is what a service rests on.
type Config struct {
	Folder   string        // made by Init
	Signer   crypto.Signer // signs grants: ECDSA P-256, the configuration's anchor
	Policy   verify.Policy // for boards; without nonce
	MaxLease time.Duration // the longest lease, whole seconds
	Owner    string        // trust domain of the control planes' certificates
	Now      func() time.Time
}

// A Service is one key service. It implements http.Handler.
type Service struct {
	conf       Config
	keys       *store
	log        *journal
	challenges *challenges
	strangers  strangers
	now        func() time.Time

	mu       sync.Mutex // of what follows, and of changes to the store
	standing map[string]standing
	waiting  []waiting
}

// Init makes a folder for a service, which must not be there, with a new master key.
func Init(folder string) error {
	if err := os.Mkdir(folder, 0o700); err != nil {
		return fmt.Errorf("key service: %w", err)
	}
	if err := os.Mkdir(filepath.Join(folder, keysFolder), 0o700); err != nil {
		return fmt.Errorf("key service: %w", err)
	}
	if err := writeNew(filepath.Join(folder, masterFile), newKey()[:masterSize]); err != nil {
		return fmt.Errorf("key service: master key: %w", err)
	}
	return nil
}

// Open opens a folder for a service. One process has it at a time: the caller sees to it.
func Open(c Config) (*Service, error) {
	public, ok := c.Signer.Public().(*ecdsa.PublicKey)
	if !ok || public.Curve != elliptic.P256() || c.MaxLease < time.Second || c.Owner == "" {
		return nil, errors.New("key service: it needs a P-256 key for grants, a longest lease of a second at least, and the control planes' trust domain")
	}
	trial := c.Policy
	trial.Nonce = make([]byte, 32)
	if err := trial.Check(); err != nil {
		return nil, fmt.Errorf("key service: %w", err)
	}
	master, err := os.ReadFile(filepath.Join(c.Folder, masterFile))
	if err == nil && len(master) != masterSize {
		err = fmt.Errorf("%s has %d bytes, not %d: restore it", masterFile, len(master), masterSize)
	}
	if err != nil {
		return nil, fmt.Errorf("key service: %w", err)
	}
	s := &Service{conf: c, keys: &store{filepath.Join(c.Folder, keysFolder), master}, challenges: newChallenges(), now: c.Now}
	if s.now == nil {
		s.now = time.Now
	}
	if s.standing, err = readStanding(filepath.Join(c.Folder, standingFile)); err != nil {
		return nil, fmt.Errorf("key service: %w", err)
	}
	if s.log, err = openJournal(filepath.Join(c.Folder, logFile)); err != nil {
		return nil, fmt.Errorf("key service: log: %w", err)
	}
	return s, nil
}

// Close closes the log.
func (s *Service) Close() error {
	clear(s.keys.master)
	return s.log.file.Close()
}

// TLS is how a service speaks: with its certificate, to control planes of these CAs and to
// boards without a certificate.
func TLS(certificate tls.Certificate, controlPlanes *x509.CertPool) *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{certificate}, ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: controlPlanes}
}

// A call is one request.
type call struct {
	r    *http.Request
	who  string // principal of a control plane
	from netip.Addr
	body []byte
	rec  record
}

// route is what a method and path do.
type route struct {
	event string
	open  bool // without a client certificate
	do    func(s *Service, c *call) (status int, answer any, err *keyservice.Error)
}

func find(method, path string) (route, bool) {
	if _, volume := strings.CutPrefix(path, keyservice.PathKeys+"/"); volume && method == http.MethodDelete {
		return route{"deletion", false, (*Service).remove}, true
	}
	if method != http.MethodPost {
		return route{}, false
	}
	switch path {
	case keyservice.PathChallenges:
		return route{"challenge", true, (*Service).challenge}, true
	case keyservice.PathKeys:
		return route{"key", false, (*Service).create}, true
	case keyservice.PathGrants:
		return route{"grant", true, (*Service).grant}, true
	case keyservice.PathConfirmations:
		return route{"confirmation", true, (*Service).confirm}, true
	}
	return route{}, false
}

func refuse(status int, code keyservice.Code, next, format string, args ...any) *keyservice.Error {
	return &keyservice.Error{Status: status, Code: code, Message: fmt.Sprintf(format, args...), Next: next}
}

func internal(err error) *keyservice.Error {
	return refuse(http.StatusInternalServerError, keyservice.Internal, "look at the service's disk and its standard error", "%v", err)
}

// ServeHTTP implements http.Handler.
func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := &call{r: r, rec: record{Time: s.now().UTC(), Event: "request", From: r.RemoteAddr}}
	status, answer, problem := s.serve(c)
	c.rec.Result = "done"
	if problem != nil {
		c.rec.Result, c.rec.Why = "refused", string(problem.Code)+": "+problem.Message
	}
	if err := s.record(c, problem != nil); err != nil { // then nothing is given out
		problem = internal(fmt.Errorf("log: %w", err))
	}
	if problem != nil {
		status, answer = problem.Status, keyservice.ErrorAnswer{Error: *problem}
		if problem.Code == keyservice.Busy {
			w.Header().Set("Retry-After", "60")
		}
	}
	if answer == nil {
		w.WriteHeader(status)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(answer)
}

// record writes a call's line, if it has a place: what gives out a key always has.
func (s *Service) record(c *call, refused bool) error {
	if c.who == "" && (refused || c.rec.Event == "challenge") {
		var ok bool
		if c.rec.Missed, ok = s.strangers.take(c.rec.Time); !ok {
			return nil
		}
	}
	return s.log.add(c.rec)
}

func (s *Service) serve(c *call) (int, any, *keyservice.Error) {
	port, err := netip.ParseAddrPort(c.r.RemoteAddr)
	if err != nil {
		return 0, nil, internal(fmt.Errorf("client's address: %w", err))
	}
	c.from = port.Addr()
	route, ok := find(c.r.Method, c.r.URL.Path)
	if !ok {
		return 0, nil, refuse(http.StatusNotFound, keyservice.Malformed, "see docs/keyservice.md", "there is no %.10q of %.100q", c.r.Method, c.r.URL.Path)
	}
	c.rec.Event = route.event
	if problem := s.identify(c); problem != nil {
		return 0, nil, problem
	}
	if c.who == "" && !route.open {
		return 0, nil, refuse(http.StatusUnauthorized, keyservice.Unauthenticated, "present a control plane's client certificate", "no client certificate")
	}
	c.body, err = io.ReadAll(io.LimitReader(c.r.Body, keyservice.MaxBody+1))
	if err != nil || len(c.body) > keyservice.MaxBody {
		return 0, nil, refuse(http.StatusBadRequest, keyservice.Malformed, "send less", "the body cannot be read, or has more than %d bytes", keyservice.MaxBody)
	}
	return route.do(s, c)
}

// identify takes a certificate that TLS has verified for a control plane's.
func (s *Service) identify(c *call) *keyservice.Error {
	if c.r.TLS == nil || len(c.r.TLS.VerifiedChains) == 0 {
		return nil
	}
	leaf := c.r.TLS.VerifiedChains[0][0]
	if len(leaf.URIs) == 1 && !leaf.IsCA {
		p, err := policy.ParsePrincipal(leaf.URIs[0].String())
		if err == nil && p.Role == policy.StorageControlPlane && p.Owner == s.conf.Owner {
			c.who = p.String()
			c.rec.Who = c.who
			return nil
		}
	}
	return refuse(http.StatusForbidden, keyservice.Forbidden, "use a certificate with the one URI spiffe://"+s.conf.Owner+"/storage-control-plane/NAME",
		"the client certificate of %.100q is no control plane's", leaf.Subject)
}

// decode reads a body; depth is that of objects in it.
func (c *call) decode(depth int, v any) *keyservice.Error {
	if err := ijson.Decode(c.body, ijson.Limit{Size: keyservice.MaxBody, Depth: depth}, v); err != nil {
		return refuse(http.StatusBadRequest, keyservice.Malformed, "see docs/keyservice.md, \"Requests\"", "%v", err)
	}
	return nil
}

// volume reads a volume's identity, and notes it for the log.
func (c *call) volume(s string) ([key.VolumeSize]byte, *keyservice.Error) {
	v, err := keyservice.ParseIdentity(s)
	if err != nil {
		return v, refuse(http.StatusBadRequest, keyservice.Malformed, "give the volume's identity", "%v", err)
	}
	c.rec.Volume = s
	return v, nil
}

func (s *Service) challenge(c *call) (int, any, *keyservice.Error) {
	if problem := c.decode(1, &struct{}{}); problem != nil {
		return 0, nil, problem
	}
	var from netip.Prefix
	if c.who == "" {
		from = source(c.from)
	}
	n, ok := s.challenges.add(s.now(), from)
	if !ok {
		return 0, nil, refuse(http.StatusServiceUnavailable, keyservice.Busy, "try again in a minute", "too many challenges wait")
	}
	return http.StatusCreated, keyservice.ChallengeAnswer{Challenge: n[:]}, nil
}

func (s *Service) create(c *call) (int, any, *keyservice.Error) {
	var b keyservice.KeyBody
	if problem := c.decode(1, &b); problem != nil {
		return 0, nil, problem
	}
	v, problem := c.volume(b.Volume)
	if problem != nil {
		return 0, nil, problem
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	commitment, _, err := s.keys.create(v)
	switch {
	case errors.Is(err, errExists):
		return 0, nil, refuse(http.StatusConflict, keyservice.Exists, "use it, or delete it first, with all that is encrypted under it", "volume %s has a key already", b.Volume)
	case err != nil:
		return 0, nil, internal(err)
	}
	return http.StatusCreated, keyservice.KeyAnswer{Volume: b.Volume, Commitment: commitment}, nil
}

func (s *Service) remove(c *call) (int, any, *keyservice.Error) {
	v, problem := c.volume(strings.TrimPrefix(c.r.URL.Path, keyservice.PathKeys+"/"))
	if problem != nil {
		return 0, nil, problem
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	// The standing lease first: no board asks for what is about to go.
	if err := s.stand(v, nil); err != nil {
		return 0, nil, internal(err)
	}
	if err := s.keys.remove(v); errors.Is(err, errNoKey) {
		return 0, nil, noKey(c.rec.Volume)
	} else if err != nil {
		return 0, nil, internal(err)
	}
	return http.StatusNoContent, nil, nil
}

func noKey(volume string) *keyservice.Error {
	return refuse(http.StatusNotFound, keyservice.NoKey, "have one made first: POST "+keyservice.PathKeys, "volume %s has no key", volume)
}
