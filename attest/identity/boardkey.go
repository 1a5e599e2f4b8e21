package identity

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"

	"nitro/attest/tpm"
)

// ErrOwner: the owner did not approve, or not this.
var ErrOwner = errors.New("the owner's approval is not for this: ask for it anew")

// BoardKeyTemplate is the board key. It signs the board part of the known-good set, and
// its only way of use is its policy: TPM2_PolicySigned by the owner's key over the TPM's
// nonce and the command's parameters. It answers the firmware that was taken over and
// wants to approve itself, or its successor: for each signature the owner signs for what
// it is, and once.
func BoardKeyTemplate(owner *ecdsa.PublicKey) (tpm2.TPMTPublic, error) {
	public, err := verifyOnly(owner)
	if err != nil {
		return tpm2.TPMTPublic{}, err
	}
	name, err := tpm2.ObjectName(public)
	if err != nil {
		return tpm2.TPMTPublic{}, fmt.Errorf("identity: board key: %w", err)
	}
	policy, err := tpm2.NewPolicyCalculator(tpm2.TPMAlgSHA256)
	if err == nil {
		err = tpm2.PolicySigned{AuthObject: tpm2.NamedHandle{Name: *name}}.Update(policy)
	}
	if err != nil {
		return tpm2.TPMTPublic{}, fmt.Errorf("identity: board key: %w", err)
	}
	return signer(tpm2.TPMAObject{AdminWithPolicy: true}, policy.Hash().Digest), nil
}

// A Signing is the board key's one signature on its way: what the owner is asked for.
type Signing struct {
	// Approve is what the owner's key signs (ECDSA, SHA-256 of it): the TPM's nonce, no
	// expiration, the digest of the command's parameters (part 3, 23.3.1, aHash).
	Approve []byte

	t       *tpm.TPM
	session *tpm.Session
	key     tpm.Entity
	command tpm2.Sign
	cpHash  tpm2.TPM2BDigest
}

// BeginSigning begins to sign the SHA-256 of a board part. bind is what the session is
// bound to. Finish or Cancel ends it; a restart of the board does too, and then the
// approval is for nothing.
func BeginSigning(t *tpm.TPM, bind tpm.Entity, digest tpm.Digest) (*Signing, error) {
	public, err := t.ReadPublic(tpm.BoardKeyHandle)
	if err != nil {
		return nil, err
	}
	name, err := tpm2.ObjectName(public)
	if err != nil {
		return nil, fmt.Errorf("identity: board key: %w", err)
	}
	g := &Signing{t: t, key: tpm.Entity{Handle: tpm.BoardKeyHandle, Name: *name}}
	if g.command, g.cpHash, err = signCommand(g.key, digest); err != nil {
		return nil, err
	}
	if g.session, err = t.NewPolicySession(bind); err != nil {
		return nil, err
	}
	g.Approve = append(g.Approve, g.session.Nonce().Buffer...)
	g.Approve = binary.BigEndian.AppendUint32(g.Approve, 0)
	g.Approve = append(g.Approve, g.cpHash.Buffer...)
	return g, nil
}

// signCommand is the board key's TPM2_Sign of a digest, and the digest of its parameters.
func signCommand(key tpm.Entity, digest tpm.Digest) (c tpm2.Sign, cpHash tpm2.TPM2BDigest, err error) {
	c = tpm2.Sign{
		KeyHandle: key.Named(),
		Digest:    tpm2.TPM2BDigest{Buffer: digest[:]},
		InScheme: tpm2.TPMTSigScheme{
			Scheme: tpm2.TPMAlgECDSA, Details: tpm2.NewTPMUSigScheme(tpm2.TPMAlgECDSA, &tpm2.TPMSSchemeHash{HashAlg: tpm2.TPMAlgSHA256}),
		},
		Validation: tpm2.TPMTTKHashCheck{Tag: tpm2.TPMSTHashCheck, Hierarchy: tpm2.TPMRHNull},
	}
	h, err := tpm2.CPHash(tpm2.TPMAlgSHA256, c)
	if err != nil {
		return c, cpHash, fmt.Errorf("identity: board key: %w", err)
	}
	return c, *h, nil
}

// CheckApproval is the owner's look at what he is asked to sign: [Signing].Approve of this
// board key for this board part's digest, and nothing else. It answers the board that asks
// for one signature and uses it for another.
func CheckApproval(approve []byte, boardKey *tpm2.TPMTPublic, digest tpm.Digest) error {
	name, err := tpm2.ObjectName(boardKey)
	if err != nil {
		return fmt.Errorf("identity: board key: %w", err)
	}
	_, cpHash, err := signCommand(tpm.Entity{Handle: tpm.BoardKeyHandle, Name: *name}, digest)
	if err != nil {
		return err
	}
	want := append(make([]byte, 4), cpHash.Buffer...) // no expiration
	if len(approve) < len(want)+minNonce || len(approve) > len(want)+MaxNonce || subtle.ConstantTimeCompare(approve[len(approve)-len(want):], want) != 1 {
		return fmt.Errorf("identity: board key: what the board asks to be approved is not its board part: %w", ErrOwner)
	}
	return nil
}

// minNonce is the shortest nonce of a TPM's session, in bytes (part 1, 19.6.6).
const minNonce = 16

// ApproveSigning is the owner's part: it signs what [Signing].Approve holds, with a P-256
// key that may lie elsewhere.
func ApproveSigning(owner crypto.Signer, approve []byte) ([]byte, error) {
	digest := sha256.Sum256(approve)
	return owner.Sign(rand.Reader, digest[:], crypto.SHA256)
}

// Finish has the TPM sign, with the owner's approval (ECDSA, ASN.1), and gives the
// TPMT_SIGNATURE.
func (g *Signing) Finish(owner *ecdsa.PublicKey, approval []byte) (signature []byte, err error) {
	defer func() { err = errors.Join(err, g.Cancel()) }()
	public, err := verifyOnly(owner)
	if err != nil {
		return nil, err
	}
	sig, err := ecdsaSignature(approval)
	if err != nil {
		return nil, fmt.Errorf("identity: board key: %w", err)
	}
	key, err := g.t.LoadPublic(public)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, g.t.FlushHandle(key.Handle)) }()
	_, err = tpm2.PolicySigned{
		AuthObject: key.Named(), PolicySession: g.session.Handle(), NonceTPM: g.session.Nonce(), CPHashA: g.cpHash, Auth: sig,
	}.Execute(g.t)
	if err != nil {
		return nil, fmt.Errorf("identity: board key: TPM2_PolicySigned: %w", errors.Join(ErrOwner, err))
	}
	g.command.KeyHandle = g.key.In(g.session.With(nil))
	r, err := g.command.Execute(g.t)
	if err != nil {
		return nil, fmt.Errorf("identity: board key: TPM2_Sign: %w", errors.Join(ErrOwner, err))
	}
	return tpm2.Marshal(r.Signature), nil
}

// Cancel gives the signing up.
func (g *Signing) Cancel() error {
	if g.session == nil {
		return nil
	}
	s := g.session
	g.session = nil
	return s.Close()
}
