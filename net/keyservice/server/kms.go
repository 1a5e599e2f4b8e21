package server

import (
	"crypto/rsa"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"nitro/attest/document"
	"nitro/attest/verify"
	"nitro/net/keyservice"
	"nitro/net/keyservice/kms"
	"nitro/nvme/key"
)

// maxSignatures is how many signatures of one control plane are remembered.
const maxSignatures = 1024

// signatures are those that were used and would still be good, by control plane.
type signatures struct {
	mu   sync.Mutex
	used map[string]map[[sha256.Size]byte]time.Time
}

// use takes a signature once. Only verified ones come here, so nobody fills another's
// share.
func (s *signatures) use(who string, g *kms.Signature, now time.Time) *kms.Error {
	s.mu.Lock()
	defer s.mu.Unlock()
	own := s.used[who]
	if own == nil {
		own = map[[sha256.Size]byte]time.Time{}
		s.used[who] = own
	}
	for mac, at := range own {
		if now.Sub(at) > kms.Skew {
			delete(own, mac)
		}
	}
	if _, again := own[g.MAC]; again {
		return kms.Refuse(kms.InvalidSignature, "this signature was used already: sign again")
	}
	if len(own) >= maxSignatures {
		return kms.Refuse(kms.Throttling, "%d requests within %v: try again in some minutes", maxSignatures, 2*kms.Skew)
	}
	own[g.MAC] = g.Time
	return nil
}

// serveKMS answers on the KMS face.
func (s *Service) serveKMS(w http.ResponseWriter, c *call) {
	c.rec.Event = "decrypt"
	answer, problem := s.decrypt(c)
	if problem != nil {
		c.rec.Result, c.rec.Why = refused, string(problem.Type)+": "+problem.Message
	}
	if err := s.record(c); err != nil { // then nothing is given out
		problem = kmsInternal(fmt.Errorf("log: %w", err))
	}
	if problem != nil && problem.Type == kms.Internal && c.who == "" {
		problem = kms.Refuse(kms.Internal, nothingMore)
	}
	w.Header().Set("Content-Type", kms.ContentType)
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set(kms.HeaderRequest, c.rec.ID)
	// An SDK whose clock is wrong corrects it by this one, against which it is judged.
	w.Header().Set("Date", s.now().UTC().Format(http.TimeFormat))
	if problem != nil {
		w.WriteHeader(problem.Type.Status())
		json.NewEncoder(w).Encode(problem)
		return
	}
	json.NewEncoder(w).Encode(answer)
}

func kmsInternal(err error) *kms.Error {
	return kms.Refuse(kms.Internal, "%v: look at the service's disk and its standard error", err)
}

// authenticate finds out whose request it is, and reads its body. Nothing of the body is
// looked at before.
func (s *Service) authenticate(c *call) *kms.Error {
	if problem := s.identify(c); problem != nil {
		return kms.Refuse(kms.AccessDenied, "%s: %s", problem.Message, problem.Next)
	}
	g, problem := kms.ReadSignature(c.r)
	if problem != nil {
		return problem
	}
	var err error
	if c.body, err = io.ReadAll(io.LimitReader(c.r.Body, kms.MaxBody+1)); err != nil || len(c.body) > kms.MaxBody {
		return kms.Refuse(kms.TooLarge, "the body cannot be read, or has more than %d bytes", kms.MaxBody)
	}
	k, err := s.accesses.open(g.ID)
	void := false
	if err == nil {
		void, err = s.revoked.void(k.who.Name, k.made)
	}
	if void || errors.Is(err, errNoAccess) || err == nil && k.who.Owner != s.conf.Owner {
		return kms.Refuse(kms.UnrecognizedClient, "there is no access key %s here, or it was revoked", g.ID)
	}
	if err != nil {
		return kmsInternal(err)
	}
	defer clear(k.secret)
	if problem := g.Verify(c.r, c.body, k.secret, s.now()); problem != nil {
		return problem
	}
	who := k.who.String()
	if c.who != "" && c.who != who {
		return kms.Refuse(kms.AccessDenied, "the client certificate is of %s, the access key is not: use one control plane's, or no certificate", c.who)
	}
	c.who, c.rec.Who, c.rec.Access = who, who, g.ID
	return s.signatures.use(who, g, s.now())
}

// decrypt goes through docs/keyservice.md, "The KMS face".
func (s *Service) decrypt(c *call) (*kms.DecryptOutput, *kms.Error) {
	if problem := s.authenticate(c); problem != nil {
		return nil, problem
	}
	if t := c.r.Header.Get(kms.HeaderTarget); t != kms.Target {
		return nil, kms.Refuse(kms.UnknownOperation, "%.80q: there is %s alone", t, kms.Target)
	}
	if t := c.r.Header.Get("Content-Type"); t != kms.ContentType {
		return nil, kms.Refuse(kms.Serialization, "Content-Type %.80q: it is %s", t, kms.ContentType)
	}
	in, problem := kms.ReadDecrypt(c.body)
	if problem != nil {
		return nil, problem
	}
	r, problem := kms.ParseReference(in.CiphertextBlob)
	if problem != nil {
		return nil, problem
	}
	volume := keyservice.Identity(r.Volume)
	c.rec.Volume, c.rec.Form = volume, string(keyservice.CMS)
	if in.KeyID != "" && in.KeyID != volume {
		return nil, kms.Refuse(kms.IncorrectKey, "the ciphertext is of the key of volume %s", volume)
	}
	w, to, problem := s.recipient(c, r, in.Recipient.AttestationDocument)
	if problem != nil {
		return nil, problem
	}
	envelope, problem := s.envelope(c, r, w, to)
	if problem == nil && in.DryRun {
		problem = kms.Refuse(kms.DryRun, "the request would have been done")
	}
	if problem != nil {
		return nil, problem
	}
	return &kms.DecryptOutput{KeyID: volume, EncryptionAlgorithm: kms.Algorithm, CiphertextForRecipient: envelope}, nil
}

// noGrant is the same whatever is missing, so that nobody finds out what others were granted.
func noGrant() *kms.Error {
	return kms.Refuse(kms.AccessDenied, "you have no grant of form CMS that waits for this volume and this recipient key: ask for one with the board's evidence")
}

// recipient judges a document, for whose recipient key a grant must wait, and gives both.
func (s *Service) recipient(c *call, r kms.Reference, text []byte) (w waiting, to *rsa.PublicKey, problem *kms.Error) {
	c.judges(text)
	d, err := document.Decode(text)
	if err == nil && d.PublicKey == nil {
		err = errors.New("it has no public key: ask the board for one with its recipient key")
	}
	if err == nil {
		to, err = key.ParseRecipient(d.PublicKey)
	}
	if err != nil {
		return w, nil, kms.Refuse(kms.Validation, "AttestationDocument: %v", err)
	}
	s.mu.Lock()
	w, ok := s.waiting.envelope(s.now(), c.who, r.Volume, d.Recipient)
	s.mu.Unlock()
	if !ok {
		return w, nil, noGrant()
	}
	p := s.conf.Policy
	p.At = s.now()
	_, result, err := document.VerifyRecipient(text, w.beside, p)
	if err != nil {
		return w, nil, kms.Refuse(kms.AccessDenied, "the document is refused: %v", err)
	}
	c.proved(result.Facts)
	if subtle.ConstantTimeCompare(result.Facts.AKName, w.grant.AK[:]) != 1 {
		return w, nil, noGrant()
	}
	return w, to, nil
}

// envelope encrypts a key to the recipient of a document that was judged for a grant, which
// must wait still: it may have been confirmed or replaced meanwhile.
func (s *Service) envelope(c *call, r kms.Reference, judged waiting, to *rsa.PublicKey) ([]byte, *kms.Error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w, ok := s.waiting.envelope(s.now(), c.who, r.Volume, judged.grant.Wrapping)
	if !ok || w.grant.ID != judged.grant.ID {
		return nil, noGrant()
	}
	if void, err := s.void(c.who, w.at); err != nil {
		return nil, kmsInternal(err)
	} else if void {
		return nil, noGrant()
	}
	k, commitment, err := s.keys.open(r.Volume)
	if errors.Is(err, errNoKey) {
		return nil, kms.Refuse(kms.NotFound, "volume %s has no key any more", c.rec.Volume)
	}
	if err != nil {
		return nil, kmsInternal(err)
	}
	defer clear(k)
	if r.Commitment != commitment || w.grant.Commitment != commitment {
		return nil, kms.Refuse(kms.InvalidCiphertext, "the ciphertext is of a key that volume %s does not have any more", c.rec.Volume)
	}
	c.rec.Grant, c.rec.Cycle, c.rec.Ends = hex.EncodeToString(w.grant.ID[:]), w.grant.Cycle, w.grant.Expires
	envelope, err := key.WrapEnvelope(to, k)
	if err != nil {
		return nil, kmsInternal(err)
	}
	return envelope, nil
}

// judges notes for the log what is about to be judged, good or bad.
func (c *call) judges(text []byte) {
	hash := sha256.Sum256(text)
	c.rec.Evidence = hex.EncodeToString(hash[:])
}

// proved notes for the log what evidence or a document proves.
func (c *call) proved(f *verify.Facts) {
	c.rec.AK, c.rec.Board = hex.EncodeToString(f.AKName), f.Board+"-"+f.UniqueID
	c.rec.Controller = hex.EncodeToString(f.Controller.Digest[:])
}
