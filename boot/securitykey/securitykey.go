// Package securitykey is the removable security key: an EEPROM on the board's I2C bus
// that holds a part of the store's key (docs/medium.md, "Security key"). Whoever takes it
// out of a board has a board whose store no software opens; destroying it destroys what
// the store holds, whatever else is kept. It is the security key of a rack that stands in
// somebody else's room.
//
// The key protects nothing by itself: who holds it can copy it. It counts together with
// the two sealed secrets and the SoC's.
package securitykey

import (
	"crypto/sha256"
	"errors"
	"fmt"
)

// SecretSize is that of what the key gives, in bytes.
const SecretSize = 32

// Size is that of the record, which lies at the EEPROM's beginning.
const Size = 8 + SecretSize + sha256.Size

const magic = "NCSECKY1"

// Errors.
var (
	// ErrMissing: nothing answers.
	ErrMissing = errors.New("the security key does not answer: insert the board's")
	// ErrBlank: it is no security key, or a damaged one.
	ErrBlank = errors.New("what is inserted is no security key, or is damaged: insert the board's")
)

// Encode makes the record of a secret.
func Encode(secret [SecretSize]byte) []byte {
	b := append([]byte(magic), secret[:]...)
	sum := sha256.Sum256(b)
	return append(b, sum[:]...)
}

// Read reads the secret, with a function that reads the EEPROM's first bytes. The caller
// zeroes it.
func Read(eeprom func(b []byte) error) ([]byte, error) {
	b := make([]byte, Size)
	defer clear(b)
	if err := eeprom(b); err != nil {
		return nil, fmt.Errorf("security key: %w: %w", ErrMissing, err)
	}
	end := Size - sha256.Size
	if string(b[:len(magic)]) != magic || sha256.Sum256(b[:end]) != [sha256.Size]byte(b[end:]) {
		return nil, fmt.Errorf("security key: %w", ErrBlank)
	}
	return append([]byte(nil), b[len(magic):end]...), nil
}
