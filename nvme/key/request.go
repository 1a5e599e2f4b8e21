package key

import (
	"bytes"
	"crypto/hpke"
	"fmt"

	"nitro/attest/sha256"
)

const (
	requestMagic   = "NCKEYRQ1"
	requestHead    = 72   // what is before the wrapping key
	wrappingSize   = 1216 // of a public key of MLKEM768-X25519: 1,184 and 32
	evidenceDomain = "nitro key request v1\x00"
	// RequestSize is that of an encoded Request, in bytes.
	RequestSize = requestHead + wrappingSize
	// ChallengeSize is that of a key service's challenge, in bytes.
	ChallengeSize = 32
)

// Encode writes a Request for the key service (docs/grant.md, "Request").
func (q *Request) Encode() []byte {
	b := make([]byte, RequestSize)
	copy(b, requestMagic)
	copy(b[8:], q.Volume[:])
	copy(b[24:], q.Nonce[:])
	le.PutUint64(b[56:], q.Cycle)
	le.PutUint64(b[64:], q.Clock)
	copy(b[requestHead:], q.Wrapping)
	return b
}

// ParseRequest reads what Encode wrote. Nothing vouches for it but the evidence that
// comes with it, see [EvidenceNonce]; for the wrapping key only its hash in PCR 8 does.
func ParseRequest(b []byte) (Request, error) {
	if len(b) != RequestSize || string(b[:8]) != requestMagic {
		return Request{}, fmt.Errorf("key: %d bytes are no request of version 1: use a board of this version", len(b))
	}
	return Request{Volume: [VolumeSize]byte(b[8:]), Nonce: [NonceSize]byte(b[24:]), Cycle: le.Uint64(b[56:]), Clock: le.Uint64(b[64:]),
		Wrapping: bytes.Clone(b[requestHead:])}, nil
}

// WrappingKey is the request's, if it is the one of this hash, which the evidence has.
func (q *Request) WrappingKey(hash [32]byte) (hpke.PublicKey, error) {
	if sha256.Sum256(q.Wrapping) != hash {
		return nil, fmt.Errorf("key: the request's wrapping key is not the one of the evidence: %w", ErrBoot)
	}
	k, err := hpke.MLKEM768X25519().NewPublicKey(q.Wrapping)
	if err != nil {
		return nil, fmt.Errorf("key: the request's wrapping key: %w", err)
	}
	return k, nil
}

// EvidenceNonce is the nonce of the evidence that goes with a request: it binds the
// request, and the service's challenge makes it fresh.
func EvidenceNonce(challenge [ChallengeSize]byte, request []byte) [32]byte {
	b := append([]byte(evidenceDomain), challenge[:]...)
	return sha256.Sum256(append(b, request...))
}
