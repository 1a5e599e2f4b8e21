// Package ticket is the owner's word that a board may leave a latched quarantine
// (docs/medium.md, "Ticket"). It is for one board and one incident, so it cannot be kept
// for the next time, and it lies on the card, where the next boot finds it: the board
// cannot be asked before it has booted.
//
// What latched the board did not happen by itself. The ticket says that somebody with the
// owner's key has looked into it; it makes nothing good that is not, and the boot is
// measured and compared as any other.
package ticket

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"

	"nitro/boot/medium"
)

// Size is that of a ticket in bytes.
const Size = 512

// Offsets in bytes.
const (
	magic        = "NCTICKT1"
	domain       = "nitro ticket v1\x00"
	offFlags     = 8
	offCode      = 12
	offIncident  = 16
	offReserved  = 20
	offBoard     = 32
	offSpare     = 64
	offSignature = 448
	acceptLoss   = 1 // flag
)

// Errors.
var (
	// ErrNone: there is no ticket.
	ErrNone = errors.New("the card has no ticket: have the owner sign one")
	// ErrSignature: the owner has not signed it.
	ErrSignature = errors.New("the ticket's signature is not the owner's: have the owner of this board's configuration sign one")
	// ErrOther: it is for something else.
	ErrOther = errors.New("the ticket is for another board or incident: have the owner sign one for this")
)

// A Ticket is what the owner signs.
type Ticket struct {
	Board    [sha256.Size]byte // SHA-256 of the TPM name of the board's attestation key
	Code     uint32            // that latched the board
	Incident uint32            // its number
	// AcceptLoss opens a store that is older than the TPM's counter says: what it had
	// since is lost, and what was revoked since is back.
	AcceptLoss bool
}

// BoardOf is how tickets name the board with an attestation key of a TPM name.
func BoardOf(akName []byte) [sha256.Size]byte { return sha256.Sum256(akName) }

// For checks that a ticket is for a board's incident.
func (t *Ticket) For(akName []byte, code, incident uint32) error {
	if t.Board != BoardOf(akName) || t.Code != code || t.Incident != incident {
		return fmt.Errorf("ticket: for code %d, incident %d, board %x: %w", t.Code, t.Incident, t.Board[:8], ErrOther)
	}
	return nil
}

// Sign makes the ticket with the owner's key, ECDSA on P-256.
func (t *Ticket) Sign(owner crypto.Signer) ([]byte, error) {
	b := make([]byte, Size)
	copy(b, magic)
	le := binary.LittleEndian
	if t.AcceptLoss {
		le.PutUint32(b[offFlags:], acceptLoss)
	}
	le.PutUint32(b[offCode:], t.Code)
	le.PutUint32(b[offIncident:], t.Incident)
	copy(b[offBoard:], t.Board[:])
	der, err := owner.Sign(rand.Reader, digest(b), crypto.SHA256)
	if err != nil {
		return nil, fmt.Errorf("ticket: %w", err)
	}
	var sig struct{ R, S *big.Int }
	if rest, err := asn1.Unmarshal(der, &sig); err != nil || len(rest) > 0 || sig.R.BitLen() > 256 || sig.S.BitLen() > 256 {
		return nil, fmt.Errorf("ticket: a signature of %d bytes: the owner's key is ECDSA on P-256", len(der))
	}
	sig.R.FillBytes(b[offSignature : offSignature+32])
	sig.S.FillBytes(b[offSignature+32:])
	return b, nil
}

func digest(b []byte) []byte {
	d := sha256.Sum256(append([]byte(domain), b[:offSignature]...))
	return d[:]
}

// Open verifies and reads a ticket. Nothing of it but the magic is looked at before.
func Open(b []byte, owner *ecdsa.PublicKey) (*Ticket, error) {
	if len(b) != Size || string(b[:len(magic)]) != magic {
		return nil, fmt.Errorf("ticket: %w", ErrNone)
	}
	r, s := new(big.Int).SetBytes(b[offSignature:offSignature+32]), new(big.Int).SetBytes(b[offSignature+32:])
	if !ecdsa.Verify(owner, digest(b), r, s) {
		return nil, fmt.Errorf("ticket: %w", ErrSignature)
	}
	le := binary.LittleEndian
	flags := le.Uint32(b[offFlags:])
	if flags&^acceptLoss != 0 || !zero(b[offReserved:offBoard]) || !zero(b[offSpare:offSignature]) {
		return nil, fmt.Errorf("ticket: it says more than this firmware knows, flags %#x: %w", flags, ErrOther)
	}
	return &Ticket{
		Board: [sha256.Size]byte(b[offBoard:]), Code: le.Uint32(b[offCode:]), Incident: le.Uint32(b[offIncident:]),
		AcceptLoss: flags&acceptLoss != 0,
	}, nil
}

func zero(b []byte) bool { return subtle.ConstantTimeCompare(b, make([]byte, len(b))) == 1 }

// Read reads the ticket of a card.
func Read(d medium.Device, owner *ecdsa.PublicKey) (*Ticket, error) {
	b := make([]byte, Size)
	if err := medium.ReadPlace(d, medium.Ticket, b); err != nil {
		return nil, fmt.Errorf("ticket: %w", err)
	}
	return Open(b, owner)
}

// Write puts a ticket on a card. It may be cut: half a ticket is none.
func Write(d medium.Device, b []byte) error {
	if len(b) != Size {
		return fmt.Errorf("ticket: %d bytes, not %d", len(b), Size)
	}
	return medium.WritePlace(d, medium.Ticket, b)
}
