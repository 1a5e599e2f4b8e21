package image

import (
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"

	"filippo.io/mldsa"
)

// domain keeps a signature over an image from being one over anything else that is
// signed by the same keys, and the other way round.
const domain = "nitro image v1"

// An Authority is a pair of keys that sign together. Both must: neither a stolen key of
// one kind nor a break of one of the algorithms is enough.
type Authority struct {
	Purpose Purpose
	Ed25519 [Ed25519KeySize]byte
	MLDSA65 [MLDSA65KeySize]byte
}

// Check refuses what cannot be an authority.
func (a *Authority) Check() error {
	if a.Purpose != Release && a.Purpose != Configure {
		return fmt.Errorf("image: authority: purpose %d is not known", uint32(a.Purpose))
	}
	if a.blank() {
		return errors.New("image: authority: a key is all zero")
	}
	if _, err := mldsa.NewPublicKey(mldsa.MLDSA65(), a.MLDSA65[:]); err != nil {
		return fmt.Errorf("image: authority: ML-DSA-65 key: %w", err)
	}
	return nil
}

// blank tells whether a key is all zero: a place that nobody filled in. As a point of
// Ed25519 it is one of small order, for which anybody can make signatures.
func (a *Authority) blank() bool {
	_, e := zero(a.Ed25519[:])
	_, m := zero(a.MLDSA65[:])
	return e || m
}

// Keys gives the digests by which headers name the authority's keys.
func (a *Authority) Keys() (ed25519Key, mldsa65Key [32]byte) {
	return sha256.Sum256(a.Ed25519[:]), sha256.Sum256(a.MLDSA65[:])
}

// verify checks both signatures over the signed part of a header. The error names the
// one that fails.
func (a *Authority) verify(b *[HeaderSize]byte) error {
	if !ed25519.Verify(a.Ed25519[:], ed25519Message(b[:SignedSize]), b[offEd25519:offMLDSA65]) {
		return errors.New("signature 1 of 2 (Ed25519) does not verify")
	}
	key, err := mldsa.NewPublicKey(mldsa.MLDSA65(), a.MLDSA65[:])
	if err == nil {
		err = mldsa.Verify(key, b[:SignedSize], b[offMLDSA65:offReserved2], &mldsa.Options{Context: domain})
	}
	if err != nil {
		return fmt.Errorf("signature 2 of 2 (ML-DSA-65) does not verify: %w", err)
	}
	return nil
}

// ed25519Message is what Ed25519 signs: RFC 8032's plain Ed25519 has no context string,
// so the domain goes before the message, ended by a byte that it does not contain.
func ed25519Message(signed []byte) []byte {
	m := make([]byte, 0, len(domain)+1+len(signed))
	m = append(m, domain...)
	m = append(m, 0)
	return append(m, signed...)
}
