package key

import (
	"fmt"

	"nitro/attest/sha256"
)

const (
	requestMagic   = "NCKEYRQ1"
	evidenceDomain = "nitro key request v1\x00"
	// RequestSize is that of an encoded Request, in bytes.
	RequestSize = 72
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
	return b
}

// ParseRequest reads what Encode wrote. Nothing vouches for it but the evidence that
// comes with it, see [EvidenceNonce].
func ParseRequest(b []byte) (Request, error) {
	if len(b) != RequestSize || string(b[:8]) != requestMagic {
		return Request{}, fmt.Errorf("key: %d bytes are no request of version 1: use a board of this version", len(b))
	}
	return Request{Volume: [VolumeSize]byte(b[8:]), Nonce: [NonceSize]byte(b[24:]), Cycle: le.Uint64(b[56:]), Clock: le.Uint64(b[64:])}, nil
}

// EvidenceNonce is the nonce of the evidence that goes with a request: it binds the
// request, and the service's challenge makes it fresh.
func EvidenceNonce(challenge [ChallengeSize]byte, request []byte) [32]byte {
	b := append([]byte(evidenceDomain), challenge[:]...)
	return sha256.Sum256(append(b, request...))
}
