package server

import (
	"crypto/ecdsa"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"nitro/attest/evidence"
	"nitro/attest/ijson"
	"nitro/attest/verify"
	"nitro/net/keyservice"
	"nitro/net/keyservice/kms"
	"nitro/nvme/key"
)

// Limits of standing leases: of their file in bytes, and of one control plane's, which take
// a quarter of it.
const (
	maxStanding   = 1 << 20
	standingShare = 1024
)

// A standing lease may be asked for again by its board.
type standing struct {
	AK    string `json:"ak"` // TPM name, hexadecimal
	Cycle uint64 `json:"cycle"`
	Ends  uint64 `json:"ends"` // TPM's clock, ms
	Who   string `json:"who"`  // control plane that asked for it
	At    int64  `json:"at"`   // when, seconds since 1970
}

func readStanding(path string) (map[string]standing, error) {
	all := map[string]standing{}
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return all, nil
	}
	if err == nil {
		err = ijson.Decode(b, ijson.Limit{Size: maxStanding, Depth: 2}, &all)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w: delete it; boards then need a control plane after their restart", path, err)
	}
	return all, nil
}

// stand remembers a volume's standing lease, or with nil forgets it. The caller has the lock.
func (s *Service) stand(volume [key.VolumeSize]byte, l *standing) error {
	id := keyservice.Identity(volume)
	old, had := s.standing[id]
	if l == nil && !had {
		return nil
	}
	delete(s.standing, id)
	if l != nil {
		s.standing[id] = *l
	}
	b, err := json.Marshal(s.standing)
	if err == nil && len(b) > maxStanding {
		err = fmt.Errorf("more than %d bytes of standing leases: delete keys that nobody needs", maxStanding)
	}
	if err == nil {
		err = replace(filepath.Join(s.conf.Folder, standingFile), b)
	}
	if err != nil { // as it was
		if delete(s.standing, id); had {
			s.standing[id] = old
		}
	}
	return err
}

// othersStand counts a control plane's standing leases of other volumes.
func (s *Service) othersStand(who, volume string) (n int) {
	for v, l := range s.standing {
		if l.Who == who && v != volume {
			n++
		}
	}
	return n
}

// An application is a request for a grant that has been verified.
type application struct {
	body    keyservice.GrantBody
	volume  [key.VolumeSize]byte
	request key.Request
	facts   *verify.Facts
}

// grant goes through docs/keyservice.md, "Grants". The challenge is spent first.
func (s *Service) grant(c *call) (int, any, *keyservice.Error) {
	var a application
	problem := s.apply(c, &a)
	if problem != nil {
		return 0, nil, problem
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	ends, problem := s.term(c, &a)
	if problem != nil {
		return 0, nil, problem
	}
	k, commitment, err := s.keys.open(a.volume)
	if errors.Is(err, errNoKey) {
		return 0, nil, noKey(a.body.Volume)
	} else if err != nil {
		return 0, nil, internal(err)
	}
	defer clear(k)
	answer, problem := s.sign(c, &a, ends, commitment, k)
	if problem != nil {
		return 0, nil, problem
	}
	if c.who != "" {
		var l *standing
		if a.body.Standing {
			l = &standing{c.rec.AK, a.request.Cycle, ends, c.who, c.rec.Time.Unix()}
		}
		if err := s.stand(a.volume, l); err != nil {
			s.waiting.drop(answer.Grant)
			return 0, nil, internal(err)
		}
	}
	return http.StatusCreated, answer, nil
}

// apply reads a body and verifies evidence and request.
func (s *Service) apply(c *call, a *application) (problem *keyservice.Error) {
	if problem = c.decode(4, &a.body); problem != nil {
		return problem
	}
	if a.volume, problem = c.volume(a.body.Volume); problem != nil {
		return problem
	}
	c.rec.Form = string(a.body.Form)
	if a.body.Form != keyservice.HPKE && a.body.Form != keyservice.CMS {
		c.rec.Form = ""
		return refuse(http.StatusBadRequest, keyservice.Malformed, "give HPKE or CMS", "form %.10q", a.body.Form)
	}
	if a.body.Form == keyservice.CMS && c.who == "" {
		return refuse(http.StatusForbidden, keyservice.Forbidden, "ask for HPKE", "form CMS is for control planes: the KMS face answers nobody else")
	}
	if len(a.body.Challenge) != key.ChallengeSize || !s.challenges.spend(s.now(), challenge(a.body.Challenge)) {
		return refuse(http.StatusForbidden, keyservice.BadChallenge, "ask for a new one", "the challenge is not this service's, was used, or is older than %v", challengeLife)
	}
	c.judges(a.body.Evidence)
	p := s.conf.Policy
	nonce := key.EvidenceNonce(challenge(a.body.Challenge), a.body.Request)
	p.Nonce, p.At = nonce[:], s.now()
	result, err := verify.Evidence(a.body.Evidence, p)
	if err != nil {
		return refuse(http.StatusForbidden, keyservice.BadEvidence, "give the board no key; nitroctl attest verify shows what is wrong with it", "%v", err)
	}
	a.facts = result.Facts
	c.proved(a.facts)
	return a.check()
}

// check holds the request to what the evidence proves.
func (a *application) check() *keyservice.Error {
	q, err := key.ParseRequest(a.body.Request)
	bad := func(format string, args ...any) *keyservice.Error {
		return refuse(http.StatusForbidden, keyservice.BadRequest, "have the board make a new request", format, args...)
	}
	if err != nil {
		return bad("%v", err)
	}
	a.request = q
	var cycle uint64
	if a.facts.Host != nil {
		cycle = a.facts.Host.Number
	}
	switch {
	case q.Volume != a.volume:
		return bad("the board asks for volume %x", q.Volume)
	case q.Cycle != cycle:
		return bad("the board asks for host cycle %d, and its log has %d last", q.Cycle, cycle)
	// Leases count from it, and nobody but the quote vouches for it: one of the future would
	// have a lease last longer than the service's limit.
	case q.Clock > a.facts.Clock || a.facts.Clock-q.Clock > uint64(key.RequestLife.Milliseconds()):
		return bad("the request says %d ms on the TPM's clock, and the quote %d", q.Clock, a.facts.Clock)
	case a.body.Form == keyservice.CMS && a.facts.Recipient == nil:
		return bad("the board has no recipient key yet: fetch its attestation document first")
	}
	if _, err := q.WrappingKey(a.facts.WrapKey); err != nil {
		return bad("%v", err)
	}
	return nil
}

// term is when the lease ends on the TPM's clock. A control plane says how long it is; a
// board by itself gets what is left of its standing lease.
func (s *Service) term(c *call, a *application) (uint64, *keyservice.Error) {
	longest := uint64(s.conf.MaxLease / time.Second)
	if a.body.Lease < 1 || a.body.Lease > longest {
		return 0, refuse(http.StatusForbidden, keyservice.BadLease, fmt.Sprintf("ask for 1 to %d seconds", longest), "a lease of %d seconds", a.body.Lease)
	}
	ends := a.request.Clock + 1000*a.body.Lease
	if ends < a.request.Clock {
		return 0, refuse(http.StatusForbidden, keyservice.BadRequest, "have the board make a new request", "the TPM's clock says %d ms", a.request.Clock)
	}
	if c.who != "" {
		if a.body.Standing && s.othersStand(c.who, a.body.Volume) >= standingShare {
			return 0, refuse(http.StatusServiceUnavailable, keyservice.Busy, "have leases stand that must, and delete keys that nobody needs", "%d leases of yours stand", standingShare)
		}
		return ends, nil
	}
	l, ok := s.standing[a.body.Volume]
	if !ok || l.AK != c.rec.AK || l.Cycle != a.request.Cycle || l.Ends <= a.request.Clock {
		return 0, refuse(http.StatusForbidden, keyservice.Forbidden, "have a control plane ask for the grant", "this board has no standing lease of volume %s in host cycle %d", a.body.Volume, a.request.Cycle)
	}
	if void, err := s.void(l.Who, time.Unix(l.At, 0)); err != nil {
		return 0, internal(err)
	} else if void {
		return 0, refuse(http.StatusForbidden, keyservice.Forbidden, "have another control plane ask for the grant", "the control plane that had the lease of volume %s stand was revoked", a.body.Volume)
	}
	a.body.Standing = true
	return l.Ends, nil
}

// sign makes the grant, and wraps the key under it.
func (s *Service) sign(c *call, a *application, ends uint64, commitment [32]byte, k []byte) (answer keyservice.GrantAnswer, problem *keyservice.Error) {
	g := key.Grant{
		Standing: a.body.Standing, CMS: a.body.Form == keyservice.CMS, Volume: a.volume, Commitment: commitment, AK: [key.NameSize]byte(a.facts.AKName),
		Wrapping: a.facts.WrapKey, Nonce: a.request.Nonce, Cycle: a.request.Cycle, Expires: ends,
	}
	if g.CMS {
		g.Wrapping = *a.facts.Recipient
	}
	rand.Read(g.ID[:])
	c.rec.Grant, c.rec.Cycle, c.rec.Ends = hex.EncodeToString(g.ID[:]), g.Cycle, ends
	grant, err := g.Sign(s.conf.Signer)
	if err != nil {
		return answer, internal(err)
	}
	answer.Grant = grant
	if !g.CMS {
		to, err := a.request.WrappingKey(a.facts.WrapKey)
		if err == nil {
			answer.Wrapped, err = key.Wrap(to, grant, k)
		}
		if err != nil {
			return answer, internal(err)
		}
	}
	w := waiting{text: grant, grant: g, who: c.who, ak: a.facts.AK, at: c.rec.Time}
	if g.CMS {
		answer.Ciphertext = kms.Reference{Volume: g.Volume, Commitment: commitment}.Encode()
		if w.beside, err = evidence.Decode(a.body.Evidence); err != nil {
			return answer, internal(err)
		}
		w.beside = &evidence.Evidence{EventLog: w.beside.EventLog, EKCertificates: w.beside.EKCertificates}
		if ends > a.facts.Clock { // or it has ended before it began
			w.until = w.at.Add(time.Duration(ends-a.facts.Clock) * time.Millisecond)
		}
	}
	if !s.waiting.add(w) {
		return keyservice.GrantAnswer{}, refuse(http.StatusServiceUnavailable, keyservice.Busy, "have boards confirm, or try again in some minutes", "too many grants wait for a confirmation")
	}
	return answer, nil
}

func (s *Service) confirm(c *call) (int, any, *keyservice.Error) {
	var b keyservice.ConfirmationBody
	if problem := c.decode(1, &b); problem != nil {
		return 0, nil, problem
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting.fresh(s.now())
	for i, w := range s.waiting.all {
		if string(w.text) != string(b.Grant) {
			continue
		}
		confirmation, err := key.OpenConfirmation(b.Confirmation, b.Grant, func(digest [32]byte, signature []byte) error {
			if !ecdsa.VerifyASN1(w.ak, digest[:], signature) {
				return errors.New("it is not of the board's attestation key")
			}
			return nil
		})
		if err != nil {
			return 0, nil, refuse(http.StatusForbidden, keyservice.BadConfirmation, "have the board confirm again", "%v", err)
		}
		c.rec.Volume, c.rec.AK = keyservice.Identity(confirmation.Volume), hex.EncodeToString(confirmation.AK[:])
		c.rec.Cycle, c.rec.Ends = confirmation.Cycle, confirmation.Expires
		c.rec.Grant = hex.EncodeToString(w.grant.ID[:])
		s.waiting.remove(i)
		return http.StatusOK, struct{}{}, nil
	}
	return 0, nil, refuse(http.StatusForbidden, keyservice.BadConfirmation, fmt.Sprintf("confirm within %v", confirmationLife), "no such grant waits for a confirmation")
}
