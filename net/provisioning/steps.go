package provisioning

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"slices"

	"github.com/google/go-tpm/tpm2"

	"nitro/attest/eventlog"
	"nitro/attest/golden"
	"nitro/attest/identity"
	"nitro/attest/nv"
	"nitro/attest/provision"
	"nitro/attest/seal"
	"nitro/attest/tpm"
	"nitro/boot/code"
	"nitro/boot/handover"
	"nitro/boot/medium"
	"nitro/boot/pin"
	"nitro/boot/store"
)

// Records of the store (docs/provisioning.md, "In the store").
const (
	OwnerRecord       = "tpm/owner"
	EndorsementRecord = "tpm/endorsement"
	AKCertRecord      = "tpm/ak.certificate"
	lockoutRecord     = "tpm/lockout"
	digestRecord      = "tpm/lockout.sha256"
	namesRecord       = "tpm/names"
)

// quoted are the PCRs that the factory wants to see.
var quoted = []uint{0, 1, 2, 3, 4, 5, 6, 7, 8}

// auths are the authorisations of the hierarchies. Lockout is nil once the factory alone
// has it; its digest stays.
type auths struct {
	owner, endorsement, lockout []byte
	lockoutSHA256               []byte
}

func (a *auths) zero() {
	clear(a.owner)
	clear(a.endorsement)
	clear(a.lockout)
}

// provisionConfig is what package provision wants.
func (s *Server) provisionConfig() provision.Config {
	strength := map[handover.Strength]provision.Strength{handover.SharedSecret: provision.Shared, handover.OwnSecret: provision.Own}
	return provision.Config{
		SoC: s.SoC, Strength: strength[s.Strength], Development: s.Development, OwnerKey: s.Config.Owner,
		Owner: s.auths.owner, Endorsement: s.auths.endorsement, Lockout: s.auths.lockout,
	}
}

// hello makes the keys, or opens the store of an earlier run.
func (t *talk) hello(q helloQuestion) (a helloAnswer, err error) {
	approvals, err := approvalsOf(q.Approvals)
	if err != nil {
		return a, err
	}
	set, err := t.TPM.AuthsSet()
	if err != nil {
		return a, err
	}
	if set.LockedOut {
		return a, fmt.Errorf("provisioning: %w", provision.ErrLockedOut)
	}
	if err := t.checkLog(); err != nil {
		return a, err
	}
	resumed := set.Owner || set.Endorsement || set.Lockout
	if resumed && t.store == nil {
		if err := t.reopen(approvals); err != nil {
			return a, err
		}
	}
	t.approvals = approvals
	if t.made, err = provision.Make(t.TPM, t.provisionConfig()); err != nil {
		return a, err
	}
	if err := t.openSession(); err != nil {
		return a, err
	}
	storage, err := t.TPM.ReadPublicIn(t.s, tpm.StorageHandle)
	if err != nil {
		return a, err
	}
	return helloAnswer{
		Product: t.facts.board.Value("product"), UniqueID: t.facts.board.Value("unique-id"), Development: t.Development,
		EKCertificate: t.made.EKCertificate.Raw, EK: tpm2.Marshal(*t.made.EK), Storage: tpm2.Marshal(*storage),
		AK: tpm2.Marshal(*t.made.AK), BoardKey: tpm2.Marshal(*t.made.BoardKey), Resumed: resumed,
	}, nil
}

// approvalsOf reads what the factory delivers.
func approvalsOf(b []byte) ([]seal.Approval, error) {
	if len(b) == 0 {
		return nil, nil
	}
	set, err := seal.Decode(b)
	if err != nil || len(set.Objects) > 0 {
		return nil, fmt.Errorf("provisioning: approvals: %w", errors.Join(errMessage, err))
	}
	return set.Approvals, nil
}

// checkLog compares the log with the TPM: what is sealed and signed next stands on it.
func (s *Server) checkLog() error {
	pcrs, err := s.TPM.ReadPCRs(quoted...)
	if err != nil {
		return err
	}
	replayed := s.Log.Replay()
	for i, pcr := range quoted {
		if pcrs[i] != replayed[pcr] {
			return code.LogDoesNotReplay.Errorf("provisioning: PCR %d is %x, and the log gives %x", pcr, pcrs[i], replayed[pcr])
		}
	}
	return nil
}

// openSession opens the session of this boot, and what speaks through it.
func (s *Server) openSession() (err error) {
	if s.s != nil {
		return nil
	}
	if s.ak, _, err = identity.AK(s.TPM, s.SoC); err != nil {
		return err
	}
	if s.s, err = s.TPM.NewSession(s.ak); err != nil {
		return err
	}
	s.door = &seal.Door{T: s.TPM, S: s.s, AK: s.ak, NV: nv.New(s.TPM, s.s, s.SoC), SoC: s.SoC}
	return nil
}

// prove shows that storage primary and AK lie in the TPM, and what this boot has measured.
func (t *talk) prove(q proveQuestion) (a proveAnswer, err error) {
	if len(q.Nonce) != nonceSize {
		return a, fmt.Errorf("provisioning: a nonce of %d bytes, not %d: %w", len(q.Nonce), nonceSize, errMessage)
	}
	set, err := t.TPM.AuthsSet()
	if err != nil {
		return a, err
	}
	var endorsement []byte // as the TPM has it now, not as close will set it
	if set.Endorsement {
		endorsement = t.auths.endorsement
	}
	ek := tpm.Entity{Handle: tpm.EKHandle, Name: tpm2.TPM2BName{Buffer: t.made.EKName}}
	storage := tpm.Entity{Handle: tpm.StorageHandle, Name: t.TPM.StorageName()}
	if a.StorageAnswer, err = identity.Activate(t.TPM, storage, ek, endorsement, identity.Challenge{Blob: q.StorageBlob, Secret: q.StorageSecret}); err != nil {
		return a, err
	}
	if a.AKAnswer, err = identity.Activate(t.TPM, t.ak, ek, endorsement, identity.Challenge{Blob: q.AKBlob, Secret: q.AKSecret}); err != nil {
		return a, err
	}
	quote, err := identity.NewQuote(t.TPM, t.s, t.ak, q.Nonce, quoted...)
	if err != nil {
		return a, err
	}
	a.Attest, a.Signature, a.Log = quote.Attest, quote.Signature, t.Log.Bytes()
	return a, nil
}

// seal makes secrets, store and authorisations, unless an earlier run has.
func (t *talk) seal(q sealQuestion) (a sealAnswer, err error) {
	for i, name := range [][]byte{q.StorageName, q.AKName, q.EKName, q.BoardKeyName} {
		if !bytes.Equal(name, namesOf(t.made)[i]) {
			return a, code.TPMSaltKey.Errorf("provisioning: name %d of 4: the factory has proved %x, the TPM has %x", i+1, name, namesOf(t.made)[i])
		}
	}
	if t.store == nil {
		if err := t.install(); err != nil {
			return a, err
		}
	}
	return sealAnswer{Lockout: t.auths.lockout, LockoutSHA256: t.auths.lockoutSHA256}, nil
}

// carried is the set on the card: objects of an earlier run, and approvals that a card is
// written with. A place that nothing was written to is an empty set.
func (s *Server) carried() *seal.Set {
	b, _, err := medium.Pair(medium.SealedObjects).Read(s.Device, rankSet)
	if err != nil {
		return &seal.Set{}
	}
	set, err := seal.Decode(b)
	if err != nil {
		return &seal.Set{}
	}
	return set
}

func rankSet(b []byte) (uint64, error) {
	set, err := seal.Decode(b)
	if err != nil {
		return 0, err
	}
	return set.Revision, nil
}

// approve adds approvals to those of a set, the new ones first, and leaves the oldest out
// where there are too many.
func approve(set *seal.Set, more []seal.Approval) {
	const most = 48 // docs/medium.md
	all := slices.Clone(more)
	for _, old := range set.Approvals {
		if !slices.ContainsFunc(all, func(a seal.Approval) bool {
			return a.Kind == old.Kind && a.Policy == old.Policy && bytes.Equal(a.Signature, old.Signature)
		}) {
			all = append(all, old)
		}
	}
	set.Approvals = all[:min(len(all), most)]
}

// covered checks, without the TPM's refusing, that this boot will unseal a set: a refusal
// would cap PCR 7 all the same.
func (s *Server) covered(set *seal.Set) error {
	if s.capped {
		return fmt.Errorf("provisioning: %w", seal.ErrCapped)
	}
	v, err := s.TPM.ReadPCRs(0, 1, 2, 7)
	if err != nil {
		return err
	}
	release := seal.Release{PCR0: v[0], PCR2: v[2], PCR7: v[3], SecurityVersion: s.facts.securityVersion}
	if err := set.Covers(s.Config.Sealing(), release, v[1]); err != nil {
		return err
	}
	floor, err := s.door.NV.SecurityVersion()
	if err != nil {
		return err
	}
	if floor > s.facts.securityVersion {
		return code.BelowFloor.Errorf("provisioning: security version %d, and the TPM's floor is %d", s.facts.securityVersion, floor)
	}
	epoch, err := s.door.NV.Epoch()
	if err != nil {
		return err
	}
	if epoch > s.Config.Epoch {
		return code.ConfigurationOld.Errorf("provisioning: the configuration has epoch %d, and the TPM has had %d", s.Config.Epoch, epoch)
	}
	return nil
}

// install seals new secrets, formats the store with them, and puts the authorisations into
// it. Whatever an earlier run has left of these protects nothing, as no hierarchy has an
// authorisation yet.
func (t *talk) install() error {
	if t.capped {
		return fmt.Errorf("provisioning: %w", seal.ErrCapped)
	}
	set := t.carried()
	objects, first, second, err := t.door.SealNew(t.Config.Sealing())
	clear(first[:])
	clear(second[:])
	if err != nil {
		return err
	}
	set.Revision++
	set.Objects = objects
	approve(set, t.approvals)
	if err := t.covered(set); err != nil {
		return err
	}
	b, err := set.Encode()
	if err != nil {
		return err
	}
	if err := medium.Pair(medium.SealedObjects).Write(t.Device, b, rankSet); err != nil {
		return fmt.Errorf("provisioning: sealed objects: %w", err)
	}
	key, err := t.unseal(set)
	if err != nil {
		return err
	}
	defer clear(key)
	if err := store.Format(t.storeConfig(bytes.Clone(key))); err != nil {
		return err
	}
	opened, err := store.Open(t.storeConfig(key))
	if err != nil {
		return err
	}
	if err := t.draw(opened); err != nil {
		return errors.Join(err, opened.Close())
	}
	t.store = opened // only now: until then nothing may be closed with it
	return nil
}

// draw draws the authorisations and keeps them.
func (t *talk) draw(in *store.Store) error {
	a := auths{make([]byte, tpm.AuthSize), make([]byte, tpm.AuthSize), make([]byte, tpm.AuthSize), nil}
	rand.Read(a.owner)
	rand.Read(a.endorsement)
	rand.Read(a.lockout)
	sum := sha256.Sum256(a.lockout)
	a.lockoutSHA256 = sum[:]
	names := namesOf(t.made)
	var b store.Batch
	b.Put(OwnerRecord, a.owner)
	b.Put(EndorsementRecord, a.endorsement)
	b.Put(lockoutRecord, a.lockout)
	b.Put(digestRecord, a.lockoutSHA256)
	b.Put(namesRecord, slices.Concat(names[:]...))
	if err := in.Commit(&b); err != nil {
		return err
	}
	if err := in.Checkpoint(); err != nil {
		return err
	}
	t.auths = a
	return nil
}

// unseal gives the store's key, and caps PCR 7.
func (s *Server) unseal(set *seal.Set) ([]byte, error) {
	s.capped = true // whatever comes of it
	first, second, err := s.door.Unseal(set, s.Config.Sealing())
	if err == nil {
		err = s.Log.Append(eventlog.Cap())
	}
	defer clear(first)
	defer clear(second)
	if err != nil {
		return nil, err
	}
	return seal.StoreKey(first, second, s.SoC, s.Removable)
}

func (s *Server) storeConfig(key []byte) store.Config {
	return store.Config{Device: s.Device, Place: medium.Store, Key: key, Counter: freshness{s.door.NV}}
}

// reopen opens the store of an earlier run, which has the authorisations that the TPM has.
// The storage primary is not proved yet: see docs/provisioning.md.
func (s *Server) reopen(approvals []seal.Approval) error {
	storage, err := s.TPM.ReadPublic(tpm.StorageHandle)
	if err != nil {
		return foreign("no storage primary", err)
	}
	name, err := tpm2.ObjectName(storage)
	if err != nil {
		return foreign("storage primary", err)
	}
	if err := s.TPM.PinPublic(storage, name.Buffer); err != nil {
		return err
	}
	if err := s.openSession(); err != nil {
		return foreign("attestation key", err)
	}
	set := s.carried()
	if len(set.Objects) == 0 {
		return foreign("sealed objects", errors.New("there are none"))
	}
	approve(set, approvals)
	if err := s.covered(set); err != nil {
		return err
	}
	key, err := s.unseal(set)
	if err != nil {
		return err
	}
	opened, err := store.Open(s.storeConfig(key))
	if err != nil {
		return err
	}
	if err := s.recall(opened, name.Buffer); err != nil {
		return errors.Join(err, opened.Close())
	}
	s.store = opened
	return nil
}

// foreign says that authorisations are set which this card does not have.
func foreign(what string, err error) error {
	return code.TPMForeign.Errorf("provisioning: the TPM has authorisations, and the card does not belong to it: %s: %w", what, err)
}

// recall takes the authorisations from the store.
func (s *Server) recall(from *store.Store, storage []byte) (err error) {
	for _, r := range []struct {
		name string
		to   *[]byte
	}{{OwnerRecord, &s.auths.owner}, {EndorsementRecord, &s.auths.endorsement}, {lockoutRecord, &s.auths.lockout}, {digestRecord, &s.auths.lockoutSHA256}} {
		*r.to, err = from.Get(r.name)
		if errors.Is(err, store.ErrNotFound) && r.name == lockoutRecord {
			continue
		}
		if err != nil {
			return foreign(r.name, err)
		}
	}
	names, err := from.Get(namesRecord)
	if err != nil {
		return foreign(namesRecord, err)
	}
	if !bytes.HasPrefix(names, slices.Concat(storage, s.ak.Name.Buffer)) {
		return code.TPMSaltKey.Errorf("provisioning: the store names storage primary and AK %x, the TPM has %x and %x", names, storage, s.ak.Name.Buffer)
	}
	return nil
}

// close sets the authorisations, once the factory has the one for lockout.
func (t *talk) close(q closeQuestion) (nothing, error) {
	if subtle.ConstantTimeCompare(q.LockoutSHA256, t.auths.lockoutSHA256) != 1 {
		return nothing{}, fmt.Errorf("provisioning: the factory has kept another lockout authorisation: %w", errMessage)
	}
	return nothing{}, provision.Close(t.TPM, t.provisionConfig())
}

// boardPart begins to sign the board part.
func (t *talk) boardPart(nothing) (a boardPartAnswer, err error) {
	const revision = 1 // the card has none
	b := newBoardPart(t.Log, t.facts, t.Development, namesOf(t.made))
	if t.draft, err = golden.NewDraft(b, revision); err != nil {
		return a, err
	}
	if t.signing, err = identity.BeginSigning(t.TPM, t.ak, t.draft.Digest()); err != nil {
		return a, err
	}
	return boardPartAnswer{revision, t.signing.Approve}, nil
}

// newBoardPart is the board part, as both ends compute it.
func newBoardPart(l *eventlog.Log, f facts, development bool, names [4][]byte) *golden.Board {
	b := &golden.Board{
		Board: f.board.Value("product"), UniqueID: f.uniqueID, Development: development,
		StorageName: names[0], AKName: names[1], EKName: names[2], PCR1: l.Replay()[1],
	}
	for _, e := range l.Events() {
		if e.PCR == 1 && e.Type != eventlog.NoAction {
			b.Events = append(b.Events, e)
		}
	}
	return b
}

// sign has the board key sign, with the owner's approval.
func (t *talk) sign(q signQuestion) (a signAnswer, err error) {
	signing := t.signing
	t.signing = nil // Finish ends it
	signature, err := signing.Finish(t.Config.Owner, q.Approval)
	if err != nil {
		return a, err
	}
	if t.env, err = t.draft.Envelope(signature); err != nil {
		return a, err
	}
	key, err := boardKey(t.made.BoardKey)
	if err != nil {
		return a, err
	}
	if _, _, err = golden.OpenBoard(t.env, key); err != nil {
		return a, err
	}
	return signAnswer{t.env}, nil
}

// commit makes the board a provisioned one.
func (t *talk) commit(q commitQuestion) (n nothing, err error) {
	if len(q.AKCertificate) == 0 || len(q.AKCertificate) > maxAKCert {
		return n, fmt.Errorf("provisioning: a certificate of %d bytes, 1 to %d: %w", len(q.AKCertificate), maxAKCert, errMessage)
	}
	if err := t.door.NV.RaiseEpoch(t.Config.Epoch); err != nil {
		return n, err
	}
	if err := t.door.NV.RaiseFloor(t.Floor); err != nil {
		return n, err
	}
	if err := t.settle(q.AKCertificate); err != nil {
		return n, err
	}
	r := &Result{Envelope: t.env, AKCertificate: q.AKCertificate, Pin: pin.Pin{
		Storage: t.made.StorageName, AK: t.made.AKName, EK: t.made.EKName, BoardKey: t.made.BoardKeyName,
	}}
	if err := pin.Write(t.Device, t.SoC, r.Pin, t.env); err != nil {
		return n, err
	}
	if r.Pin, _, err = pin.Read(t.Device, t.SoC); err != nil {
		return n, err
	}
	t.result = r
	return n, nil
}

// settle puts the AK's certificate into the store and takes the lockout authorisation out.
func (t *talk) settle(certificate []byte) error {
	t.broken = true
	var b store.Batch
	b.Put(AKCertRecord, certificate)
	b.Delete(lockoutRecord)
	if err := t.store.Commit(&b); err != nil {
		return err
	}
	if err := t.store.Checkpoint(); err != nil { // or an older copy would bring it back
		return err
	}
	clear(t.auths.lockout)
	t.auths.lockout = nil
	t.broken = false
	return nil
}
