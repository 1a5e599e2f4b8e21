package key

import (
	"fmt"

	"nitro/attest/sha256"
)

const (
	confirmationMagic  = "NCCONFM1"
	confirmationDomain = "nitro confirmation v1\x00"
	confirmationSize   = 160
	// MaxConfirmation is the longest confirmation with its signature, in bytes.
	MaxConfirmation = confirmationSize + 1024

	standingMagic = "NCSTAND1"
	// StandingSize is that of an encoded Standing, in bytes.
	StandingSize = 48
)

// A Confirmation is the board's word that it has the key of a grant.
type Confirmation struct {
	Grant          [32]byte // SHA-256
	Volume         [VolumeSize]byte
	Nonce          [NonceSize]byte
	AK             [NameSize]byte
	Cycle          uint64
	Expires, Clock uint64 // TPM's clock, ms
}

func (c *Confirmation) encode() []byte {
	b := make([]byte, confirmationSize)
	copy(b, confirmationMagic)
	copy(b[8:], c.Grant[:])
	copy(b[40:], c.Volume[:])
	copy(b[56:], c.Nonce[:])
	copy(b[88:], c.AK[:])
	le.PutUint64(b[128:], c.Cycle)
	le.PutUint64(b[136:], c.Expires)
	le.PutUint64(b[144:], c.Clock)
	return b
}

func parseConfirmation(b []byte) (c Confirmation, err error) {
	if len(b) != confirmationSize || string(b[:8]) != confirmationMagic || !zero(b[122:128]) || !zero(b[152:]) {
		return c, fmt.Errorf("key: %d bytes are no confirmation of version 1", len(b))
	}
	return Confirmation{
		Grant: [32]byte(b[8:]), Volume: [VolumeSize]byte(b[40:]), Nonce: [NonceSize]byte(b[56:]), AK: [NameSize]byte(b[88:]),
		Cycle: le.Uint64(b[128:]), Expires: le.Uint64(b[136:]), Clock: le.Uint64(b[144:]),
	}, nil
}

func confirmationText(b []byte) []byte { return append([]byte(confirmationDomain), b...) }

func confirmationDigest(b []byte) [32]byte { return sha256.Sum256(confirmationText(b)) }

// OpenConfirmation has a confirmation's signature verified, reads it, and compares it with
// the grant that it answers.
func OpenConfirmation(b, grant []byte, verify func(digest [32]byte, signature []byte) error) (Confirmation, error) {
	if len(b) < confirmationSize || len(b) > MaxConfirmation {
		return Confirmation{}, fmt.Errorf("key: a confirmation of %d bytes: %d to %d", len(b), confirmationSize, MaxConfirmation)
	}
	body := b[:confirmationSize]
	if err := verify(confirmationDigest(body), b[confirmationSize:]); err != nil {
		return Confirmation{}, fmt.Errorf("key: the confirmation's signature: %w", err)
	}
	c, err := parseConfirmation(body)
	if err != nil {
		return Confirmation{}, err
	}
	g, err := parseGrant(grant)
	if err != nil {
		return Confirmation{}, err
	}
	if c.Grant != sha256.Sum256(grant) || c.Volume != g.Volume || c.Nonce != g.Nonce || c.AK != g.AK || c.Cycle != g.Cycle || c.Expires != g.Expires {
		return Confirmation{}, fmt.Errorf("key: the confirmation is for another grant")
	}
	return c, nil
}

// A Standing is a lease's term: what the store keeps of one that may be asked for again
// after the board's own restart. It has no secret.
type Standing struct {
	Volume         [VolumeSize]byte
	Cycle, Expires uint64 // host cycle; TPM's clock, ms
}

// Encode writes a Standing for the store.
func (s *Standing) Encode() []byte {
	b := make([]byte, StandingSize)
	copy(b, standingMagic)
	copy(b[8:], s.Volume[:])
	le.PutUint64(b[24:], s.Cycle)
	le.PutUint64(b[32:], s.Expires)
	return b
}

// ParseStanding reads what Encode wrote.
func ParseStanding(b []byte) (s Standing, err error) {
	if len(b) != StandingSize || string(b[:8]) != standingMagic || !zero(b[40:]) {
		return s, fmt.Errorf("key: %d bytes are no standing lease of version 1: delete it", len(b))
	}
	return Standing{Volume: [VolumeSize]byte(b[8:]), Cycle: le.Uint64(b[24:]), Expires: le.Uint64(b[32:])}, nil
}
