// Package tpmkey is the audit log's key: the TPM's attestation key, as it signs
// checkpoints (docs/audit.md, "Signature"; TPM 2.0 library, part 3, 15.4, 17.3 to 17.5 and
// 20.2), confirmations of grants and attestation documents.
//
// The attestation key is restricted: it signs digests only of what the TPM itself has
// hashed and has seen not to begin with TPM_GENERATED. So a checkpoint can never be taken
// for a quote, nor a quote for a checkpoint, with one and the same key. Whoever stands on
// the bus could have the TPM hash something else, since hashing runs in no session; the
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

// MaxText is the longest text in bytes: an attestation document has 8 KiB at most.
const MaxText = 16 << 10

// maxBuffer is what every TPM hashes at once, in bytes: MAX_DIGEST_BUFFER of the smallest
// ones.
const maxBuffer = 1024

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
	hashed, ticket, err := k.hash(text)
	if err != nil {
		return nil, fmt.Errorf("tpmkey: %w", err)
	}
	if subtle.ConstantTimeCompare(hashed, digest[:]) != 1 {
		return nil, fmt.Errorf("tpmkey: TPM2_Hash: %w", tpm.ErrAnswer)
	}
	r, err := tpm2.Sign{
		KeyHandle: k.ak.In(k.session.With(k.ak.Auth)), Digest: tpm2.TPM2BDigest{Buffer: digest[:]},
		InScheme: tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgNull}, Validation: ticket,
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

// hash has the TPM hash a text, and gives its ticket for that, with which the attestation
// key signs the digest.
func (k *Key) hash(text []byte) (digest []byte, ticket tpm2.TPMTTKHashCheck, err error) {
	if len(text) > maxBuffer {
		return k.sequence(text)
	}
	h, err := tpm2.Hash{Data: tpm2.TPM2BMaxBuffer{Buffer: text}, HashAlg: tpm2.TPMAlgSHA256, Hierarchy: tpm2.TPMRHOwner}.Execute(k.tpm)
	if err != nil {
		return nil, ticket, fmt.Errorf("TPM2_Hash: %w", err)
	}
	return h.OutHash.Buffer, h.Validation, nil
}

// sequence hashes piece by piece. The sequence's authorisation is empty: there is nothing
// in it to protect, and what is hashed is compared. TPM2_SequenceComplete ends it; else it
// would lie in the TPM's memory until a reset.
func (k *Key) sequence(text []byte) (digest []byte, ticket tpm2.TPMTTKHashCheck, err error) {
	start, err := tpm2.HashSequenceStart{HashAlg: tpm2.TPMAlgSHA256}.Execute(k.tpm)
	if err != nil {
		return nil, ticket, fmt.Errorf("TPM2_HashSequenceStart: %w", err)
	}
	defer func() {
		if err != nil {
			_, flushed := tpm2.FlushContext{FlushHandle: start.SequenceHandle}.Execute(k.tpm)
			err = errors.Join(err, flushed)
		}
	}()
	sequence := tpm2.AuthHandle{Handle: start.SequenceHandle, Auth: tpm2.PasswordAuth(nil)}
	for ; len(text) > maxBuffer; text = text[maxBuffer:] {
		_, err = tpm2.SequenceUpdate{SequenceHandle: sequence, Buffer: tpm2.TPM2BMaxBuffer{Buffer: text[:maxBuffer]}}.Execute(k.tpm)
		if err != nil {
			return nil, ticket, fmt.Errorf("TPM2_SequenceUpdate: %w", err)
		}
	}
	done, err := tpm2.SequenceComplete{SequenceHandle: sequence, Buffer: tpm2.TPM2BMaxBuffer{Buffer: text}, Hierarchy: tpm2.TPMRHOwner}.Execute(k.tpm)
	if err != nil {
		return nil, ticket, fmt.Errorf("TPM2_SequenceComplete: %w", err)
	}
	return done.Result.Buffer, done.Validation, nil
}
