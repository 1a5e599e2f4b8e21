// Package server is a key service of volumes (docs/keyservice.md, version 1): it makes
// keys, keeps them encrypted in a folder, and gives each to a board whose evidence it has
// verified, under a signed grant. Everything that it gives out is in its log first.
//
// It serves over TLS that its caller sets up, with client certificates taken where they
// are given: [TLS]. Its second face is AWS KMS's Decrypt, for SDKs of AWS. [Owner] admits
// and revokes control planes beside it.
package server

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
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
	masterFile    = "master.key"
	keysFolder    = "keys"
	accessFolder  = "access"
	revokedFolder = "revoked"
	standingFile  = "standing.json"
	logFile       = "log.jsonl"
	lockFile      = "lock"
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
	accesses   *accesses
	revoked    revoked
	challenges *challenges
	signatures signatures
	strangers  strangers
	now        func() time.Time
	lock       *os.File // the folder is this service's as long as it is open

	mu       sync.Mutex // of what follows, and of changes to the store
	standing map[string]standing
	waiting  waitingList
}

// Init makes a folder for a service, which must not be there, with a new master key.
func Init(folder string) error {
	if err := os.Mkdir(folder, 0o700); err != nil {
		return fmt.Errorf("key service: %w", err)
	}
	if err := makeFolders(folder); err != nil {
		return fmt.Errorf("key service: %w", err)
	}
	if err := writeNew(filepath.Join(folder, masterFile), newKey()[:masterSize]); err != nil {
		return fmt.Errorf("key service: master key: %w", err)
	}
	return nil
}

// makeFolders makes those that are not there: a service of before had fewer.
func makeFolders(folder string) error {
	for _, name := range []string{keysFolder, accessFolder, revokedFolder} {
		if err := os.Mkdir(filepath.Join(folder, name), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return nil
}

// Open opens a folder for a service, which has it alone until Close.
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
	s := &Service{conf: c, challenges: newChallenges(), signatures: signatures{used: map[string]map[[sha256.Size]byte]time.Time{}}, now: c.Now}
	if s.now == nil {
		s.now = time.Now
	}
	if err := s.open(); err != nil {
		s.release()
		return nil, fmt.Errorf("key service: %w", err)
	}
	return s, nil
}

// open takes the folder, and reads what it has.
func (s *Service) open() (err error) {
	folder := s.conf.Folder
	m, err := readMaster(folder)
	if err != nil {
		return err
	}
	if s.lock, err = own(folder); err != nil {
		return err
	}
	if err := makeFolders(folder); err != nil {
		return err
	}
	s.keys, s.accesses = &store{filepath.Join(folder, keysFolder), m}, &accesses{filepath.Join(folder, accessFolder), m}
	s.revoked = revoked{filepath.Join(folder, revokedFolder)}
	if s.standing, err = readStanding(filepath.Join(folder, standingFile)); err != nil {
		return err
	}
	if s.log, err = openJournal(filepath.Join(folder, logFile)); err != nil {
		return fmt.Errorf("log: %w", err)
	}
	return s.log.add(record{Time: s.now().UTC(), Event: "start", From: "folder", Result: done})
}

// Close records that the service ends, and lets go of the folder. No call may be under way.
func (s *Service) Close() error {
	err := s.log.add(record{Time: s.now().UTC(), Event: "stop", From: "folder", Result: done})
	clear(s.keys.master)
	return errors.Join(err, s.release())
}

// release closes the files.
func (s *Service) release() (err error) {
	if s.log != nil {
		err = s.log.file.Close()
	}
	if s.lock != nil {
		err = errors.Join(err, s.lock.Close())
	}
	return err
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

// nothingMore is all that strangers learn of what fails here: errors name files.
const nothingMore = "the service cannot do it now: its log says why"

func internal(err error) *keyservice.Error {
	return refuse(http.StatusInternalServerError, keyservice.Internal, "look at the service's disk and its standard error", "%v", err)
}

// ServeHTTP implements http.Handler.
func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id := make([]byte, 16)
	rand.Read(id)
	c := &call{r: r, rec: record{Time: s.now().UTC(), Event: "request", ID: hex.EncodeToString(id), From: r.RemoteAddr, Result: done}}
	if r.Method == http.MethodPost && r.URL.Path == "/" {
		s.serveKMS(w, c)
		return
	}
	status, answer, problem := s.serve(c)
	if problem != nil {
		c.rec.Result, c.rec.Why = refused, string(problem.Code)+": "+problem.Message
	}
	if err := s.record(c); err != nil { // then nothing is given out
		problem = internal(fmt.Errorf("log: %w", err))
	}
	if problem != nil && problem.Code == keyservice.Internal && c.who == "" {
		problem.Message = nothingMore
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
func (s *Service) record(c *call) error {
	if c.who == "" && (c.rec.Result == refused || c.rec.Event == "challenge") {
		var ok bool
		if c.rec.Missed, ok = s.strangers.take(c.rec.Time); !ok {
			return nil
		}
	}
	return s.log.add(c.rec)
}

func (s *Service) serve(c *call) (int, any, *keyservice.Error) {
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
	var err error
	c.body, err = io.ReadAll(io.LimitReader(c.r.Body, keyservice.MaxBody+1))
	if err != nil || len(c.body) > keyservice.MaxBody {
		return 0, nil, refuse(http.StatusBadRequest, keyservice.Malformed, "send less", "the body cannot be read, or has more than %d bytes", keyservice.MaxBody)
	}
	// Again: who sends slowly may have been revoked meanwhile.
	if problem := s.identify(c); problem != nil {
		return 0, nil, problem
	}
	return route.do(s, c)
}

// identify takes a certificate that TLS has verified for a control plane's, if there is one.
func (s *Service) identify(c *call) *keyservice.Error {
	if c.r.TLS == nil || len(c.r.TLS.VerifiedChains) == 0 {
		return nil
	}
	leaf := c.r.TLS.VerifiedChains[0][0]
	hash := sha256.Sum256(leaf.Raw)
	c.rec.Certificate = hex.EncodeToString(hash[:])
	if len(leaf.URIs) != 1 || leaf.IsCA {
		return s.noPlane(leaf)
	}
	p, err := policy.ParsePrincipal(leaf.URIs[0].String())
	if err != nil || p.Role != policy.StorageControlPlane || p.Owner != s.conf.Owner {
		return s.noPlane(leaf)
	}
	void, err := s.revoked.void(p.Name, leaf.NotBefore)
	if err != nil {
		return internal(err)
	}
	if void {
		return refuse(http.StatusForbidden, keyservice.Forbidden, "have the service's owner admit it again", "the client certificate of %s was revoked", p)
	}
	c.who = p.String()
	c.rec.Who = c.who
	return nil
}

func (s *Service) noPlane(leaf *x509.Certificate) *keyservice.Error {
	return refuse(http.StatusForbidden, keyservice.Forbidden, "use a certificate with the one URI spiffe://"+s.conf.Owner+"/storage-control-plane/NAME",
		"the client certificate of %.100q is no control plane's", leaf.Subject)
}

// void tells whether what a control plane had from a time was revoked. who is its URI.
func (s *Service) void(who string, since time.Time) (bool, error) {
	p, err := policy.ParsePrincipal(who)
	if err != nil {
		return false, err
	}
	return s.revoked.void(p.Name, since)
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
		port, err := netip.ParseAddrPort(c.r.RemoteAddr)
		if err != nil {
			return 0, nil, internal(fmt.Errorf("client's address: %w", err))
		}
		from = source(port.Addr())
	}
	n, ok := s.challenges.add(s.now(), asker{c.who, from})
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
