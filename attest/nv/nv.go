// Package nv is what the board keeps in the TPM's NV memory: six indices, 0x01800001 to
// 0x01800006 (docs/attestation.md, "Objects in the TPM"; TPM 2.0 library, part 1, 37).
//
// # Who may do what
//
// Each index has an authorisation that the SoC's secret makes ([tpm.AuthValue]), and
// nothing else opens it: neither the owner's authorisation nor the platform's reads or
// writes one. So who takes the TPM, resets it alone, or stands on its bus, changes
// nothing and, since all answers come in a session that knows the authorisation, feigns
// nothing.
//
// None can be removed. An index that was removed could be defined again with a lower
// value: a floor of 0, a lower epoch, a latch that is open. They are defined under the
// platform's hierarchy, so neither the owner's authorisation nor TPM2_Clear removes
// them; and with TPMA_NV_POLICY_DELETE and a policy that nothing satisfies, so the
// platform's authorisation, which is empty for whoever resets the TPM alone, does not
// either (TPM2_NV_UndefineSpace refuses such indices, TPM2_NV_UndefineSpaceSpecial wants
// the policy). They last as long as the TPM; a board that is provisioned again keeps
// them.
//
// All have noDA: an index under dictionary attack protection counts each rude power cut
// as a failure, and three lock the TPM.
package nv

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"

	"github.com/google/go-tpm/tpm2"

	"nitro/attest/tpm"
)

// Errors.
var (
	// ErrDefinition: the index is not there, or is another's.
	ErrDefinition = errors.New("the index is not the board's: the TPM was exchanged or used elsewhere: provision the board with a new TPM")
	// ErrBack: a value that must not go back was to go back.
	ErrBack = errors.New("the value must not go back")
	// ErrGivenUp: in quarantine the board reaches the audit index alone.
	ErrGivenUp = errors.New("in quarantine the board has given up its authorisation: its next boot has it again")
	// ErrValue: what lies in an index is not what it may hold.
	ErrValue = errors.New("the index holds no valid value: provision the board again")
)

// An Index is one of the six.
type Index struct {
	Handle tpm2.TPMHandle
	Name   string // as in docs and logs
	kind   tpm2.TPMNT
	size   uint16
}

// The indices.
var (
	Floor     = Index{0x01800001, "rollback floor", tpm2.TPMNTBits, 8}
	Freshness = Index{0x01800002, "store freshness", tpm2.TPMNTCounter, 8}
	Epoch     = Index{0x01800003, "configuration epoch", tpm2.TPMNTOrdinary, 8}
	Latch     = Index{0x01800004, "latched quarantine", tpm2.TPMNTOrdinary, 8}
	Erase     = Index{0x01800005, "erase secret", tpm2.TPMNTOrdinary, 32}
	Audit     = Index{0x01800006, "quarantine audit", tpm2.TPMNTExtend, sha256.Size}
)

// All are the six, in the order of their handles.
var All = []Index{Floor, Freshness, Epoch, Latch, Erase, Audit}

// MaxSecurityVersion is the highest rollback floor: one bit each.
const MaxSecurityVersion = 64

// undeletable is the policy under which an index may be removed. No policy command makes
// a digest of these words.
var undeletable = sha256.Sum256([]byte("nitro: no policy removes this index"))

// public is the index's public area; its name depends on whether it was ever written.
func (i Index) public(written bool) tpm2.TPMSNVPublic {
	return tpm2.TPMSNVPublic{
		NVIndex: i.Handle,
		NameAlg: tpm2.TPMAlgSHA256,
		Attributes: tpm2.TPMANV{
			AuthWrite: true, AuthRead: true, NT: i.kind, NoDA: true, PlatformCreate: true, PolicyDelete: true, Written: written,
		},
		AuthPolicy: tpm2.TPM2BDigest{Buffer: undeletable[:]},
		DataSize:   i.size,
	}
}

// PublicName is the TPM's name of the index once it was written. It is the same on
// every board, so that policies that name it can be computed anywhere.
func (i Index) PublicName() (tpm2.TPM2BName, error) { return i.name(true) }

func (i Index) name(written bool) (tpm2.TPM2BName, error) {
	public := i.public(written)
	n, err := tpm2.NVName(&public)
	if err != nil {
		return tpm2.TPM2BName{}, i.failed("name", err)
	}
	return *n, nil
}

func (i Index) failed(what string, err error) error {
	if rc := tpm2.TPMRC(0); errors.As(err, &rc) {
		return fmt.Errorf("nv: %s (%#08x): %s: code %#x: %w", i.Name, uint32(i.Handle), what, uint32(rc), err)
	}
	return fmt.Errorf("nv: %s (%#08x): %s: %w", i.Name, uint32(i.Handle), what, err)
}

// An NV is the board's indices in one boot.
type NV struct {
	t   *tpm.TPM
	s   *tpm.Session
	soc []byte

	audit []byte // authorisation of the audit index, where there is no soc any more
}

// New speaks to the indices in a session, with authorisations that come from the derived
// secret of the SoC, which is not copied.
func New(t *tpm.TPM, s *tpm.Session, soc []byte) *NV { return &NV{t: t, s: s, soc: soc} }

// AuditOnly is the same for who goes into quarantine: of all authorisations it keeps that
// of the audit index, which opens nothing else, so that the SoC's secret can be zeroed.
func (n *NV) AuditOnly() (*NV, error) {
	e, err := n.entity(Audit, true)
	if err != nil {
		return nil, err
	}
	return &NV{t: n.t, s: n.s, audit: e.Auth}, nil
}

// Entity is an index as a command's handle, with its authorisation, which the caller
// zeroes.
func (n *NV) Entity(i Index) (tpm.Entity, error) { return n.entity(i, true) }

func (n *NV) entity(i Index, written bool) (tpm.Entity, error) {
	name, err := i.name(written)
	if err != nil {
		return tpm.Entity{}, err
	}
	if n.soc == nil {
		if i != Audit {
			return tpm.Entity{}, i.failed("authorisation", ErrGivenUp)
		}
		return tpm.Entity{Handle: i.Handle, Name: name, Auth: bytes.Clone(n.audit)}, nil
	}
	auth, err := tpm.AuthValue(n.soc, fmt.Sprintf("nv %#08x", uint32(i.Handle)))
	return tpm.Entity{Handle: i.Handle, Name: name, Auth: auth}, err
}

// read reads an index. It is encrypted on the bus.
func (n *NV) read(i Index) ([]byte, error) {
	e, err := n.entity(i, true)
	if err != nil {
		return nil, err
	}
	defer clear(e.Auth)
	r, err := tpm2.NVRead{AuthHandle: e.In(n.s.With(e.Auth).Out()), NVIndex: e.Named(), Size: i.size}.Execute(n.t)
	if err == nil && len(r.Data.Buffer) != int(i.size) {
		err = tpm.ErrAnswer
	}
	if err != nil {
		return nil, i.failed("TPM2_NV_Read", err)
	}
	return r.Data.Buffer, nil
}

// write writes an index whole, encrypted on the bus.
func (n *NV) write(i Index, data []byte, written bool) error {
	e, err := n.entity(i, written)
	if err != nil {
		return err
	}
	defer clear(e.Auth)
	_, err = tpm2.NVWrite{AuthHandle: e.In(n.s.With(e.Auth).In()), NVIndex: e.Named(), Data: tpm2.TPM2BMaxNVBuffer{Buffer: data}}.Execute(n.t)
	if err != nil {
		return i.failed("TPM2_NV_Write", err)
	}
	return nil
}

// change executes one of the commands that go-tpm does not have.
func (n *NV) change(i Index, code tpm2.TPMCC, what string, parameters []byte, written bool) error {
	e, err := n.entity(i, written)
	if err != nil {
		return err
	}
	defer clear(e.Auth)
	if err := n.t.Execute(code, []tpm.Entity{e, e}, n.s.With(e.Auth), parameters); err != nil {
		return i.failed(what, err)
	}
	return nil
}

// Commands that go-tpm does not have (part 2, 6.5.2).
const (
	ccSetBits   tpm2.TPMCC = 0x135
	ccExtend    tpm2.TPMCC = 0x136
	ccIncrement tpm2.TPMCC = 0x134
)

// number is an index of 8 bytes, big endian, as policies compare it.
func (n *NV) number(i Index) (uint64, error) {
	p, err := n.read(i)
	if err != nil {
		return 0, err
	}
	return binary.BigEndian.Uint64(p), nil
}

// FloorBits are the bits of a rollback floor: its lowest ones, so that floors compare as
// numbers.
func FloorBits(securityVersion uint32) uint64 {
	return ^uint64(0) >> (MaxSecurityVersion - securityVersion) // a shift by 64 gives 0
}

// SecurityVersion is the rollback floor: what has a lower one does not run.
func (n *NV) SecurityVersion() (uint32, error) {
	v, err := n.number(Floor)
	if err != nil {
		return 0, err
	}
	if v&(v+1) != 0 {
		return 0, Floor.failed(fmt.Sprintf("bits %#x", v), ErrValue)
	}
	return uint32(bits.Len64(v)), nil
}

// RaiseFloor raises the rollback floor, when both slots satisfy it. It answers the
// attacker who installs an old image that is signed and has a hole. The index is a bit
// field, whose bits TPM2_NV_SetBits sets and nothing clears; a counter could be raised
// for ever by defining it anew, since a new counter starts above every earlier one. A
// floor that is there already is no error, a lower one is [ErrBack].
func (n *NV) RaiseFloor(securityVersion uint32) error {
	if securityVersion > MaxSecurityVersion {
		return Floor.failed(fmt.Sprintf("security version %d, the highest is %d", securityVersion, MaxSecurityVersion), ErrValue)
	}
	now, err := n.SecurityVersion()
	if err != nil {
		return err
	}
	if securityVersion <= now {
		return n.notBack(Floor, uint64(now), uint64(securityVersion))
	}
	return n.setBits(FloorBits(securityVersion), true)
}

// setBits sets bits of the floor, and by that writes it.
func (n *NV) setBits(v uint64, written bool) error {
	return n.change(Floor, ccSetBits, "TPM2_NV_SetBits", binary.BigEndian.AppendUint64(nil, v), written)
}

func (n *NV) notBack(i Index, now, next uint64) error {
	if next < now {
		return i.failed(fmt.Sprintf("from %d to %d", now, next), ErrBack)
	}
	return nil
}

// Freshness is the count that the store was last written with. It answers the attacker
// who puts an old copy of the store back.
func (n *NV) Freshness() (uint64, error) { return n.number(Freshness) }

// Step steps the store's freshness by one and gives it. Chips take some hundred thousand
// steps: once in a boot and at each checkpoint, not at each write. What the store has
// written since the last step can be taken back by its attacker, and no more.
func (n *NV) Step() (uint64, error) {
	if err := n.step(true); err != nil {
		return 0, err
	}
	return n.Freshness()
}

func (n *NV) step(written bool) error {
	return n.change(Freshness, ccIncrement, "TPM2_NV_Increment", nil, written)
}

// Epoch is the highest epoch of a configuration that the board has accepted.
func (n *NV) Epoch() (uint64, error) { return n.number(Epoch) }

// RaiseEpoch notes the epoch of a configuration that is accepted. It answers the
// attacker who puts an old configuration back, with keys that were withdrawn. An epoch
// that is noted already is no error, an earlier one is [ErrBack]. That it only rises is
// this function's doing, which nobody without the SoC's secret gets around: TPMs have
// no index that takes any higher number and no lower one.
func (n *NV) RaiseEpoch(epoch uint64) error {
	now, err := n.Epoch()
	if err != nil {
		return err
	}
	if epoch <= now {
		return n.notBack(Epoch, now, epoch)
	}
	return n.write(Epoch, binary.BigEndian.AppendUint64(nil, epoch), true)
}

// A Quarantine is what latched the board: 0, 0 is none.
type Quarantine struct{ Code, Incident uint32 }

// Latched is the quarantine that outlasts restarts.
func (n *NV) Latched() (Quarantine, error) {
	p, err := n.read(Latch)
	if err != nil {
		return Quarantine{}, err
	}
	return Quarantine{binary.BigEndian.Uint32(p), binary.BigEndian.Uint32(p[4:])}, nil
}

// SetLatch latches a quarantine, or with the zero value leaves it, on an owner's ticket
// for this very incident. It answers the attacker who restarts the board until it
// forgets.
func (n *NV) SetLatch(q Quarantine) error {
	p := binary.BigEndian.AppendUint32(nil, q.Code)
	return n.write(Latch, binary.BigEndian.AppendUint32(p, q.Incident), true)
}

// EraseSecret is the secret under which the erase salt of the volume pool lies wrapped.
// The caller zeroes it.
func (n *NV) EraseSecret() ([]byte, error) { return n.read(Erase) }

// EraseAll overwrites the erase secret with a new one: then even a key that is delivered
// again opens nothing that was written before. It is read back.
func (n *NV) EraseAll(secret [32]byte) error {
	defer clear(secret[:])
	if err := n.write(Erase, secret[:], true); err != nil {
		return err
	}
	got, err := n.read(Erase)
	defer clear(got)
	if err == nil && subtle.ConstantTimeCompare(got, secret[:]) != 1 {
		err = Erase.failed("reading back", ErrValue)
	}
	return err
}

// AuditDigest is the digest of all that quarantine has recorded in the TPM's life.
func (n *NV) AuditDigest() (tpm.Digest, error) {
	p, err := n.read(Audit)
	if err != nil {
		return tpm.Digest{}, err
	}
	return tpm.Digest(p), nil
}

// ExtendAudit extends the digest: it becomes SHA-256 of itself and the record's digest.
// In quarantine the audit is a ring in RAM; this is what a restart does not take away.
func (n *NV) ExtendAudit(record tpm.Digest) error { return n.extend(record[:], true) }

func (n *NV) extend(data []byte, written bool) error {
	return n.change(Audit, ccExtend, "TPM2_NV_Extend", tpm2.Marshal(tpm2.TPM2BMaxNVBuffer{Buffer: data}), written)
}

// Provision defines the indices that are missing and writes first values to those that
// were never written. It can be cut at any command and called again. It wants the
// platform hierarchy's authorisation to be empty, as it is until [tpm.TPM.ForgetPlatform].
func (n *NV) Provision(first [32]byte) error {
	defer clear(first[:])
	for _, i := range All {
		written, err := n.define(i)
		if err != nil {
			return err
		}
		if written {
			continue
		}
		if err := n.initialise(i, first[:]); err != nil {
			return err
		}
	}
	return nil
}

// initialise writes an index for the first time.
func (n *NV) initialise(i Index, secret []byte) error {
	switch i {
	case Floor:
		return n.setBits(0, false)
	case Freshness:
		return n.step(false)
	case Erase:
		return n.write(i, secret, false)
	case Audit:
		return n.extend(nil, false)
	default:
		return n.write(i, make([]byte, i.size), false)
	}
}

// define defines an index if it is not there.
func (n *NV) define(i Index) (written bool, err error) {
	r, err := tpm2.NVReadPublic{NVIndex: i.Handle}.Execute(n.t)
	if err == nil {
		return n.compare(i, r)
	}
	if !errors.Is(err, tpm2.TPMRCHandle) {
		return false, i.failed("TPM2_NV_ReadPublic", err)
	}
	e, err := n.entity(i, false)
	if err != nil {
		return false, err
	}
	defer clear(e.Auth)
	platform := tpm.Hierarchy(tpm2.TPMRHPlatform, nil)
	_, err = tpm2.NVDefineSpace{
		AuthHandle: platform.In(n.s.With(nil).In()),
		Auth:       tpm2.TPM2BAuth{Buffer: e.Auth},
		PublicInfo: tpm2.New2B(i.public(false)),
	}.Execute(n.t)
	if err != nil {
		return false, i.failed("TPM2_NV_DefineSpace", err)
	}
	return false, nil
}

// compare compares an index that is there with the one that should be.
func (n *NV) compare(i Index, r *tpm2.NVReadPublicResponse) (written bool, err error) {
	got, err := r.NVPublic.Contents()
	if err != nil {
		return false, i.failed("public area", err)
	}
	written = got.Attributes.Written
	if want := i.public(written); !bytes.Equal(tpm2.Marshal(*got), tpm2.Marshal(want)) {
		return false, i.failed(fmt.Sprintf("attributes %+v, size %d", got.Attributes, got.DataSize), ErrDefinition)
	}
	return written, nil
}
