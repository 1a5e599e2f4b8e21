package image

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"

	"filippo.io/mldsa"
)

// A Signer is an authority's pair of private keys. They may be in different custody, each
// behind a device of its own: crypto.Signer is all that is asked of them. An Ed25519 key
// is an [ed25519.PrivateKey] or signs as one does; an ML-DSA-65 key is a
// [mldsa.PrivateKey] or takes *mldsa.Options.
type Signer struct {
	Purpose Purpose
	Ed25519 crypto.Signer
	MLDSA65 crypto.Signer
}

// Authority gives the public half.
func (s Signer) Authority() (Authority, error) {
	a := Authority{Purpose: s.Purpose}
	e, ok := s.Ed25519.Public().(ed25519.PublicKey)
	if !ok || len(e) != Ed25519KeySize {
		return a, fmt.Errorf("image: the first key is %T, not Ed25519", s.Ed25519.Public())
	}
	m, ok := s.MLDSA65.Public().(*mldsa.PublicKey)
	if !ok || m.Parameters() != mldsa.MLDSA65() {
		return a, fmt.Errorf("image: the second key is %T, not ML-DSA-65", s.MLDSA65.Public())
	}
	copy(a.Ed25519[:], e)
	copy(a.MLDSA65[:], m.Bytes())
	return a, a.Check()
}

// Sign makes the header of a payload. Of h it takes all but Length, Digest and the keys,
// which it fills in. The result has been verified as a board would.
func Sign(h Header, payload []byte, s Signer) (*[HeaderSize]byte, error) {
	a, err := s.Authority()
	if err != nil {
		return nil, err
	}
	if p := h.Component.Purpose(); a.Purpose != p {
		return nil, fmt.Errorf("image: a %v authority does not sign a %v", a.Purpose, h.Component)
	}
	h.Length, h.Digest = uint64(len(payload)), sha256.Sum256(payload)
	h.Ed25519Key, h.MLDSA65Key = a.Keys()
	b := new([HeaderSize]byte)
	if err := h.encode(b[:]); err != nil {
		return nil, fmt.Errorf("image: %w", err)
	}
	one, err := s.Ed25519.Sign(rand.Reader, ed25519Message(b[:SignedSize]), crypto.Hash(0))
	if err != nil {
		return nil, fmt.Errorf("image: signature 1 of 2 (Ed25519): %w", err)
	}
	two, err := s.MLDSA65.Sign(rand.Reader, b[:SignedSize], &mldsa.Options{Context: domain})
	if err != nil {
		return nil, fmt.Errorf("image: signature 2 of 2 (ML-DSA-65): %w", err)
	}
	if len(one) != Ed25519SignatureSize || len(two) != MLDSA65SignatureSize {
		return nil, errors.New("image: a signature has a wrong length")
	}
	copy(b[offEd25519:], one)
	copy(b[offMLDSA65:], two)
	_, err = Verify(b, Want{Where: "signed image", Component: h.Component, Product: h.Product, Development: true, Authorities: []Authority{a}})
	if err != nil {
		return nil, err
	}
	return b, nil
}
