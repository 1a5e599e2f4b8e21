// Package tpmkey is the audit log's key: the TPM's attestation key, as it signs
// checkpoints (docs/audit.md, "Signature"; TPM 2.0 library, part 3, 15.4 and 20.2).
//
// The attestation key is restricted: it signs digests only of what the TPM itself has
// hashed and has seen not to begin with TPM_GENERATED. So a checkpoint can never be taken
// for a quote, nor a quote for a checkpoint, with one and the same key. Whoever stands on
// the bus could have the TPM hash something else, since TPM2_Hash runs in no session; the
// digest that comes back is compared, and the one that is signed is protected by the
// session.
package tpmkey

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"

	"github.com/google/go-tpm/tpm2"

	"nitro/attest/tpm"
)

// MaxText is the longest text in bytes: TPM2_MAX_BUFFER of the smallest TPMs is 1,024.
const MaxText = 1024

// ErrSignature: what the TPM has signed is not what it was given.
var ErrSignature = errors.New("the TPM's signature does not verify: inspect the TPM and its bus")

// A Key signs with the attestation key. It implements audit.Signer.
type Key struct {
	tpm     *tpm.TPM
	session *tpm.Session
	ak      tpm.Entity
	public  *ecdsa.PublicKey
}

// New makes a Key of the attestation key and its public area, as identity.AK gives them.
func New(t *tpm.TPM, s *tpm.Session, ak tpm.Entity, public *tpm2.TPMTPublic) (*Key, error) {
	key, err := tpm2.Pub(*public)
	if err != nil {
		return nil, fmt.Errorf("tpmkey: %w", err)
	}
	p, ok := key.(*ecdsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("tpmkey: the attestation key is a %T, not ECDSA: provision the board again", key)
	}
	return &Key{t, s, ak, p}, nil
}

// Public is the key that verifies.
func (k *Key) Public() *ecdsa.PublicKey { return k.public }

// Sign signs the SHA-256 of a text, in ASN.1 DER. The TPM's commands are not to be mixed
// with others': the caller has the TPM to itself.
func (k *Key) Sign(text []byte) ([]byte, error) {
	if len(text) == 0 || len(text) > MaxText {
		return nil, fmt.Errorf("tpmkey: a text of %d bytes: 1 to %d", len(text), MaxText)
	}
	digest := sha256.Sum256(text)
	h, err := tpm2.Hash{Data: tpm2.TPM2BMaxBuffer{Buffer: text}, HashAlg: tpm2.TPMAlgSHA256, Hierarchy: tpm2.TPMRHOwner}.Execute(k.tpm)
	if err != nil {
		return nil, fmt.Errorf("tpmkey: TPM2_Hash: %w", err)
	}
	if subtle.ConstantTimeCompare(h.OutHash.Buffer, digest[:]) != 1 {
		return nil, fmt.Errorf("tpmkey: TPM2_Hash: %w", tpm.ErrAnswer)
	}
	r, err := tpm2.Sign{
		KeyHandle: k.ak.In(k.session.With(k.ak.Auth)), Digest: tpm2.TPM2BDigest{Buffer: digest[:]},
		InScheme: tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgNull}, Validation: h.Validation,
	}.Execute(k.tpm)
	if err != nil {
		return nil, fmt.Errorf("tpmkey: TPM2_Sign: %w", err)
	}
	s, err := r.Signature.Signature.ECDSA()
	if err != nil {
		return nil, fmt.Errorf("tpmkey: TPM2_Sign: %w", errors.Join(tpm.ErrAnswer, err))
	}
	der, err := asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(s.SignatureR.Buffer), new(big.Int).SetBytes(s.SignatureS.Buffer)})
	if err != nil {
		return nil, fmt.Errorf("tpmkey: %w", err)
	}
	if !ecdsa.VerifyASN1(k.public, digest[:], der) {
		return nil, fmt.Errorf("tpmkey: TPM2_Sign: %w", ErrSignature)
	}
	return der, nil
}
