// Package provision makes a new TPM the board's: keys, indices and authorisations, in
// small steps (TCG TPM v2.0 Provisioning Guidance 1.0, with the board's own rules of
// docs/attestation.md).
//
// Each step first finds out what is there, so that the whole can be cut at any command,
// by a power cut or by the factory, and simply be run again. What cannot be found out
// again, the authorisations, is the caller's to keep: he stores them before Run, and
// gives the same ones each time.
//
// [Run] is the whole, where the roots of TPM makers are at hand and the authorisations are
// kept. A board that is provisioned over the network has neither to begin with: [Make]
// makes what needs no authorisation, and leaves the certificate to the factory; [Close]
// sets the authorisations, once they lie in the store that Make's keys have opened.
//
// The indices want the platform hierarchy's authorisation to be empty, so the bootloader
// forgets it in boots that find an attestation key, which comes after the indices; the
// last step here does it for the boot in which the board is provisioned.
package provision

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/go-tpm/tpm2"

	"nitro/attest/identity"
	"nitro/attest/nv"
	"nitro/attest/tpm"
)

// Errors.
var (
	// ErrForeign: something of another's lies where ours should.
	ErrForeign = errors.New("the TPM holds something of another board's: TPM2_Clear it, or use a new one")
	// ErrTestSecret: the SoC's secret is no secret.
	ErrTestSecret = errors.New("the SoC's secret is the same on every chip: close the chip, or mark the board as development for ever")
	// ErrLockedOut: the TPM counts too many failures.
	ErrLockedOut = errors.New("the TPM is in lockout: reset it with the lockout authorisation")
)

// A Strength says how secret the SoC's secret is, as PCR 1 and the evidence tell.
type Strength int

// Strengths.
const (
	None   Strength = iota // there is none, under emulation
	Shared                 // a key that is the same on every chip
	Own                    // the chip's own
)

// Config is what a board is provisioned with.
type Config struct {
	SoC         []byte   // derived from the SoC's secret, 32 bytes
	Strength    Strength // of it
	Development bool     // the board is marked so for ever

	// Authorisations of the hierarchies, 32 random bytes each. Owner and endorsement
	// go into the encrypted store, lockout to the board's owner, before Run.
	Owner, Endorsement, Lockout []byte

	OwnerKey             *ecdsa.PublicKey // P-256, which approves the board key's use
	Roots, Intermediates *x509.CertPool   // of TPM makers
	At                   time.Time        // as of identity.VerifyEK
}

// A Result is what provisioning has made, for the board part and the pin.
type Result struct {
	StorageName, EKName, AKName, BoardKeyName []byte
	EK, AK, BoardKey                          *tpm2.TPMTPublic
	EKCertificate                             *x509.Certificate
}

// A run is one call of Run.
type run struct {
	Config
	t     *tpm.TPM
	s     *tpm.Session
	owner []byte // the owner hierarchy's authorisation as it is now
	r     Result
}

// Run provisions a board, or goes on where an earlier run was cut. A TPM that is
// provisioned already is no error.
func Run(t *tpm.TPM, c Config) (*Result, error) {
	r := &run{Config: c, t: t}
	if err := r.do(slices.Concat(r.begin(), []step{{"endorsement key's certificate", r.certificate}}, r.keys(), r.end())); err != nil {
		return nil, err
	}
	return &r.r, nil
}

// Make makes keys and indices, as Run does, and leaves the hierarchies as they are. That
// the TPM's maker vouches for the endorsement key is for the caller to verify, with
// identity.VerifyEK, before anything secret depends on it. Of the authorisations it needs
// the owner's, and that only if an earlier Close has set it.
func Make(t *tpm.TPM, c Config) (*Result, error) {
	r := &run{Config: c, t: t}
	if err := r.do(slices.Concat(r.begin(), []step{{"endorsement key's certificate", r.readCertificate}}, r.keys())); err != nil {
		return nil, err
	}
	return &r.r, nil
}

// Close sets the authorisations of the hierarchies, behind Make. It can be cut as Run can.
func Close(t *tpm.TPM, c Config) error {
	r := &run{Config: c, t: t}
	return r.do(slices.Concat(r.begin()[:3], r.end()))
}

// A step is one of a run, each of which finds out first what is there.
type step struct {
	name string
	do   func() error
}

func (r *run) begin() []step {
	return []step{{"state of the hierarchies", r.state}, {"storage primary", r.storage}, {"session", r.session}, {"endorsement key", r.ek}}
}

func (r *run) keys() []step {
	return []step{{"indices", r.indices}, {"attestation key", r.ak}, {"board key", r.boardKey}}
}

func (r *run) end() []step { return []step{{"hierarchies", r.hierarchies}} }

func (r *run) do(steps []step) (err error) {
	if r.Strength != Own && !r.Development {
		return fmt.Errorf("provision: %w", ErrTestSecret)
	}
	if len(r.SoC) != tpm.AuthSize {
		return fmt.Errorf("provision: secret of %d bytes, not %d", len(r.SoC), tpm.AuthSize)
	}
	defer func() {
		if r.s != nil && r.t.Lost() == nil {
			err = errors.Join(err, r.s.Close())
		}
	}()
	for _, step := range steps {
		if err := step.do(); err != nil {
			return fmt.Errorf("provision: %s: %w", step.name, err)
		}
	}
	return nil
}

// state finds out how far the hierarchies are.
func (r *run) state() error {
	set, err := r.t.AuthsSet()
	if err != nil {
		return err
	}
	if set.LockedOut {
		return ErrLockedOut
	}
	if set.Owner {
		r.owner = r.Owner
		return sized(r.Owner)
	}
	return nil
}

// primary has the TPM make a primary key, which is the same each time as long as its
// hierarchy's seed is. There is no session yet that could protect the command, and
// nothing in it is secret but the authorisation of a hierarchy, which is empty before the
// board is provisioned.
func (r *run) primary(hierarchy tpm2.TPMHandle, auth tpm2.Session, template tpm2.TPMTPublic) (tpm.Entity, *tpm2.TPMTPublic, error) {
	made, err := tpm2.CreatePrimary{
		PrimaryHandle: tpm2.AuthHandle{Handle: hierarchy, Name: tpm2.HandleName(hierarchy), Auth: auth}, InPublic: tpm2.New2B(template),
	}.Execute(r.t)
	if err != nil {
		return tpm.Entity{}, nil, fmt.Errorf("TPM2_CreatePrimary: %w", err)
	}
	public, err := made.OutPublic.Contents()
	if err != nil {
		return tpm.Entity{}, nil, fmt.Errorf("TPM2_CreatePrimary: %w", errors.Join(tpm.ErrAnswer, err))
	}
	name, err := tpm2.ObjectName(public)
	if err != nil {
		return tpm.Entity{}, nil, fmt.Errorf("TPM2_CreatePrimary: %w", err)
	}
	return tpm.Entity{Handle: made.ObjectHandle, Name: *name}, public, nil
}

// persist gives an object its handle for ever.
func (r *run) persist(o tpm.Entity, handle tpm2.TPMHandle, auth tpm2.Session) error {
	_, err := tpm2.EvictControl{
		Auth:             tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Name: tpm2.HandleName(tpm2.TPMRHOwner), Auth: auth},
		ObjectHandle:     o.Named(),
		PersistentHandle: handle,
	}.Execute(r.t)
	if err != nil {
		return fmt.Errorf("TPM2_EvictControl to %#x: %w", uint32(handle), err)
	}
	return nil
}

// storage makes the storage primary and pins it. One that is there on a board whose
// owner hierarchy is still open is compared with what the hierarchy's seed makes; once
// it is closed, sessions with the owner's authorisation show that all is ours.
func (r *run) storage() error {
	there, err := r.t.ReadPublic(tpm.StorageHandle)
	if err != nil && !tpm.IsAbsent(err) {
		return err
	}
	if there == nil || r.owner == nil {
		if there, err = r.makeStorage(there); err != nil {
			return err
		}
	}
	name, err := tpm2.ObjectName(there)
	if err != nil {
		return err
	}
	r.r.StorageName = name.Buffer
	return r.t.PinPublic(there, name.Buffer)
}

func (r *run) makeStorage(there *tpm2.TPMTPublic) (_ *tpm2.TPMTPublic, err error) {
	if r.owner != nil {
		return nil, fmt.Errorf("the owner hierarchy has an authorisation, and there is no storage primary: %w", ErrForeign)
	}
	empty := tpm2.PasswordAuth(nil)
	o, public, err := r.primary(tpm2.TPMRHOwner, empty, identity.StorageTemplate)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.t.FlushHandle(o.Handle)) }()
	if there != nil {
		if name, err := tpm2.ObjectName(there); err != nil || !bytes.Equal(name.Buffer, o.Name.Buffer) {
			return nil, fmt.Errorf("another object is at %#x: %w", uint32(tpm.StorageHandle), ErrForeign)
		}
		return there, nil
	}
	return public, r.persist(o, tpm.StorageHandle, empty)
}

// session starts the session of all that follows. On a board that is far enough it
// shows that the owner's authorisation is the one that was given.
func (r *run) session() (err error) {
	r.s, err = r.t.NewSession(tpm.Hierarchy(tpm2.TPMRHOwner, r.owner))
	if err != nil {
		return err
	}
	if err := r.t.CheckReset(r.s); err != nil {
		return fmt.Errorf("with the owner's authorisation as given: %w", errors.Join(ErrForeign, err))
	}
	return nil
}

// ek makes the endorsement key. It is made before the endorsement hierarchy is closed.
func (r *run) ek() (err error) {
	public, err := r.t.ReadPublic(tpm.EKHandle)
	if err != nil && !tpm.IsAbsent(err) {
		return err
	}
	if public == nil {
		if public, err = r.makeEK(); err != nil {
			return err
		}
	}
	if !like(public, identity.EKTemplate) {
		return fmt.Errorf("another object is at %#x: %w", uint32(tpm.EKHandle), ErrForeign)
	}
	r.r.EK = public
	r.r.EKName, err = nameOf(public)
	return err
}

func (r *run) makeEK() (_ *tpm2.TPMTPublic, err error) {
	o, public, err := r.primary(tpm2.TPMRHEndorsement, r.s.With(nil), identity.EKTemplate)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.t.FlushHandle(o.Handle)) }()
	return public, r.persist(o, tpm.EKHandle, r.s.With(r.owner))
}

// certificate reads the endorsement key's certificate and verifies it.
func (r *run) certificate() error {
	if err := r.readCertificate(); err != nil {
		return err
	}
	_, err := identity.VerifyEK(r.r.EKCertificate.Raw, r.r.EK, r.Roots, r.Intermediates, r.At)
	return err
}

func (r *run) readCertificate() error {
	der, err := identity.EKCertificate(r.t, r.s)
	if err != nil {
		return err
	}
	if r.r.EKCertificate, err = x509.ParseCertificate(der); err != nil {
		return errors.Join(identity.ErrCertificate, err)
	}
	return nil
}

// indices defines and first writes the indices.
func (r *run) indices() error {
	var first [32]byte
	rand.Read(first[:])
	defer clear(first[:])
	return nv.New(r.t, r.s, r.SoC).Provision(first)
}

// ak makes the attestation key, or shows that the one that is there takes the
// authorisation that the SoC's secret makes.
func (r *run) ak() error {
	auth, err := identity.AKAuth(r.SoC)
	if err != nil {
		return err
	}
	defer clear(auth)
	if r.r.AK, r.r.AKName, err = r.child(tpm.AKHandle, identity.AKTemplate(), auth); err != nil {
		return err
	}
	e, _, err := identity.AK(r.t, r.SoC)
	if err != nil {
		return err
	}
	defer clear(e.Auth)
	if _, err := identity.NewQuote(r.t, r.s, e, []byte("provisioning"), 0); err != nil {
		return fmt.Errorf("trying it: %w", errors.Join(ErrForeign, err))
	}
	return nil
}

func (r *run) boardKey() error {
	template, err := identity.BoardKeyTemplate(r.OwnerKey)
	if err != nil {
		return err
	}
	r.r.BoardKey, r.r.BoardKeyName, err = r.child(tpm.BoardKeyHandle, template, nil)
	return err
}

// child makes a key under the storage primary and persists it, if it is not there.
func (r *run) child(handle tpm2.TPMHandle, template tpm2.TPMTPublic, auth []byte) (public *tpm2.TPMTPublic, name []byte, err error) {
	public, err = r.t.ReadPublic(handle)
	if err != nil && !tpm.IsAbsent(err) {
		return nil, nil, err
	}
	if public == nil {
		public, err = r.makeChild(handle, template, auth)
	} else {
		// Again, so that the TPM itself says so: what follows stands on this key.
		public, err = r.t.ReadPublicIn(r.s, handle)
	}
	if err != nil {
		return nil, nil, err
	}
	if !like(public, template) {
		return nil, nil, fmt.Errorf("another object is at %#x: %w", uint32(handle), ErrForeign)
	}
	name, err = nameOf(public)
	return public, name, err
}

func (r *run) makeChild(handle tpm2.TPMHandle, template tpm2.TPMTPublic, auth []byte) (_ *tpm2.TPMTPublic, err error) {
	made, err := tpm2.Create{
		ParentHandle: tpm2.AuthHandle{Handle: tpm.StorageHandle, Name: r.t.StorageName(), Auth: r.s.With(nil).In()},
		InSensitive:  tpm2.TPM2BSensitiveCreate{Sensitive: &tpm2.TPMSSensitiveCreate{UserAuth: tpm2.TPM2BAuth{Buffer: auth}}},
		InPublic:     tpm2.New2B(template),
	}.Execute(r.t)
	if err != nil {
		return nil, fmt.Errorf("TPM2_Create: %w", err)
	}
	o, err := r.t.Load(r.s, made.OutPrivate, made.OutPublic)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.t.FlushHandle(o.Handle)) }()
	public, err := made.OutPublic.Contents()
	if err != nil {
		return nil, err
	}
	return public, r.persist(o, handle, r.s.With(r.owner))
}

// hierarchies closes them: endorsement and owner with random authorisations, lockout
// with the owner's, and platform with one that nobody knows. What is closed already was
// closed by an earlier run. The owner's is the last that lasts: until then the board
// counts as new.
func (r *run) hierarchies() error {
	set, err := r.t.AuthsSet()
	if err != nil {
		return err
	}
	for _, h := range []struct {
		handle tpm2.TPMHandle
		set    bool
		auth   []byte
	}{
		{tpm2.TPMRHEndorsement, set.Endorsement, r.Endorsement},
		{tpm2.TPMRHLockout, set.Lockout, r.Lockout},
		{tpm2.TPMRHOwner, set.Owner, r.Owner},
	} {
		if h.set {
			continue
		}
		if err := sized(h.auth); err != nil {
			return err
		}
		if err := r.t.SetAuth(r.s, h.handle, nil, h.auth); err != nil {
			return err
		}
	}
	err = r.t.ForgetPlatform(r.s)
	if errors.Is(err, tpm2.TPMRCBadAuth) || errors.Is(err, tpm2.TPMRCAuthFail) {
		return nil // forgotten already in this boot
	}
	return err
}

// sized refuses what is no authorisation: an empty one would leave a hierarchy open.
func sized(auth []byte) error {
	if len(auth) != tpm.AuthSize {
		return fmt.Errorf("an authorisation of %d bytes: each has %d", len(auth), tpm.AuthSize)
	}
	return nil
}

// like reports whether a key has a template's properties.
func like(public *tpm2.TPMTPublic, template tpm2.TPMTPublic) bool {
	p := *public
	p.Unique = template.Unique
	return bytes.Equal(tpm2.Marshal(p), tpm2.Marshal(template))
}

func nameOf(public *tpm2.TPMTPublic) ([]byte, error) {
	name, err := tpm2.ObjectName(public)
	if err != nil {
		return nil, err
	}
	return name.Buffer, nil
}
