// Package pin is the record of which keys are the board's TPM's (docs/medium.md, "Pin").
//
// # Why it is there
//
// A boot's first TPM session is salted with the storage primary. Which key that is, the
// bootloader must know beforehand: an interposer on the bus could offer his own, and read
// what the session should hide. The board part of the known-good set says it too, but a
// key in the TPM has signed that, and which key this is the TPM tells. So the names stand
// here, under a MAC whose key comes from the SoC's secret: who has the card, the TPM and
// the bus, and not the SoC, cannot make one.
//
// The pin lies at the end of the board part's own place, and has the digest of the board
// part in it: one write brings both, and neither goes with another one's.
//
// # What it does not answer
//
// An old pin of the same board, put back together with its board part, is valid: it names
// the keys that the TPM had then. If they are the same there is nothing to gain; if the
// TPM was cleared meanwhile they are not in it any more. Under emulation and on an open
// chip the SoC's secret is none, and neither is the MAC.
package pin

import (
	"bytes"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"nitro/boot/code"
	"nitro/boot/medium"
)

// Sizes in bytes.
const (
	Size        = 4096                // of the record
	MaxEnvelope = 60 << 10            // of the board part's envelope
	MaxName     = 64                  // of a TPM name; one with SHA-256 has 34
	SoCSize     = 32                  // of the secret derived from the SoC's
	offset      = MaxEnvelope         // of the record in its place
	placeSize   = MaxEnvelope + Size  // 64 KiB
	macAt       = Size - sha256.Size  // of the MAC in the record
	boardHeader = len("NCBOARD1") + 8 // of an envelope: magic, length, revision
)

// Errors, beside those of the medium. Each comes with a code.
var (
	// ErrNone: the place of the pin is all zero.
	ErrNone = errors.New("the board was never provisioned: provision it")
	// ErrMAC: the record is not of this board.
	ErrMAC = errors.New("the pin does not authenticate: the card is another board's, the SoC's secret is another, or the card is damaged")
	// ErrFormat: the bytes are no pin of this version, or its board part is another.
	ErrFormat = errors.New("damaged, or of another version: provision the board again")
)

const (
	magic   = "NCPINNED"
	version = 1
	kdfInfo = "nitro pin v1"
)

// A Pin is the record.
type Pin struct {
	Revision uint32 // the board part's
	// Names of TPM objects (TPM 2.0 Library, part 1, 16), each of 1 to MaxName bytes.
	Storage, AK, EK, BoardKey []byte
	BoardPart                 [sha256.Size]byte // SHA-256 of its envelope
	Length                    uint32            // of that envelope, at most MaxEnvelope
}

var le = binary.LittleEndian

// mac computes the MAC over a record.
func mac(record, soc []byte) ([]byte, error) {
	if len(soc) != SoCSize {
		return nil, fmt.Errorf("pin: the SoC's derived secret has %d bytes, not %d", len(soc), SoCSize)
	}
	key, err := hkdf.Key(sha256.New, soc, nil, kdfInfo, sha256.Size)
	if err != nil {
		return nil, fmt.Errorf("pin: %w", err)
	}
	defer clear(key)
	h := hmac.New(sha256.New, key)
	h.Write(record[:macAt])
	return h.Sum(nil), nil
}

// names are the four, in the record's order.
func (p *Pin) names() [4]*[]byte { return [4]*[]byte{&p.Storage, &p.AK, &p.EK, &p.BoardKey} }

// Encode makes the record, of Size bytes.
func (p Pin) Encode(soc []byte) ([]byte, error) {
	if p.Length < uint32(boardHeader) || p.Length > MaxEnvelope {
		return nil, fmt.Errorf("pin: a board part of %d bytes: at most %d", p.Length, MaxEnvelope)
	}
	b := append(make([]byte, 0, Size), magic...)
	b = le.AppendUint32(b, version)
	b = le.AppendUint32(b, p.Revision)
	for _, name := range p.names() {
		if len(*name) == 0 || len(*name) > MaxName {
			return nil, fmt.Errorf("pin: a TPM name of %d bytes: 1 to %d", len(*name), MaxName)
		}
		b = le.AppendUint32(b, uint32(len(*name)))
		b = append(b, *name...)
		b = append(b, make([]byte, MaxName-len(*name))...)
	}
	b = append(b, p.BoardPart[:]...)
	b = le.AppendUint32(b, p.Length)
	b = b[:Size]
	sum, err := mac(b, soc)
	if err != nil {
		return nil, err
	}
	copy(b[macAt:], sum)
	return b, nil
}

// Open verifies and reads a record. Nothing of it but magic and version is looked at
// before its MAC has been verified.
func Open(b, soc []byte) (p Pin, err error) {
	if len(b) != Size {
		return p, fmt.Errorf("pin: %d bytes, not %d: %w", len(b), Size, ErrFormat)
	}
	if bytes.Equal(b, make([]byte, Size)) {
		return p, fmt.Errorf("pin: %w", ErrNone)
	}
	if string(b[:8]) != magic || le.Uint32(b[8:]) != version {
		return p, fmt.Errorf("pin: begins with %q, version %d: %w", b[:8], le.Uint32(b[8:]), ErrFormat)
	}
	sum, err := mac(b, soc)
	if err != nil {
		return p, err
	}
	if !hmac.Equal(sum, b[macAt:]) {
		return p, fmt.Errorf("pin: %w", ErrMAC)
	}
	p.Revision = le.Uint32(b[12:])
	rest := b[16:]
	for _, name := range p.names() {
		n := min(le.Uint32(rest), MaxName)
		*name = bytes.Clone(rest[4 : 4+n])
		rest = rest[4+MaxName:]
	}
	p.BoardPart = [sha256.Size]byte(rest)
	p.Length = le.Uint32(rest[sha256.Size:])
	// What else could have made these bytes: lengths out of range, names with something
	// behind them, reserved bytes that are used.
	again, err := p.Encode(soc)
	if err != nil || !bytes.Equal(again, b) {
		return Pin{}, fmt.Errorf("pin: %w", errors.Join(ErrFormat, err))
	}
	return p, nil
}

// openPlace reads one copy: pin and board part.
func openPlace(place, soc []byte) (p Pin, envelope []byte, err error) {
	if len(place) != placeSize {
		return p, nil, fmt.Errorf("pin: a place of %d bytes, not %d", len(place), placeSize)
	}
	if p, err = Open(place[offset:], soc); err != nil {
		return p, nil, err
	}
	envelope = place[:p.Length]
	if sha256.Sum256(envelope) != p.BoardPart || le.Uint32(envelope[12:]) != p.Revision {
		return Pin{}, nil, fmt.Errorf("pin: the board part beside it is not the one of %d bytes, revision %d, that it was made for: %w", p.Length, p.Revision, ErrFormat)
	}
	return p, envelope, nil
}

// rank judges a copy. The envelope's signature is for the reader to verify, with the
// board key that the pin names.
func rank(soc []byte) medium.Rank {
	return func(place []byte) (uint64, error) {
		p, _, err := openPlace(place, soc)
		return uint64(p.Revision), err
	}
}

// Read reads the copy that counts. The board was never provisioned (ErrNone) if neither
// counts and the pin of one is all zero: a torn copy beside a blank one is what a cut in
// the very first write leaves, and nothing else does.
func Read(d medium.Device, soc []byte) (p Pin, envelope []byte, err error) {
	place, _, err := medium.Pair(medium.BoardParts).Read(d, rank(soc))
	if err == nil {
		return openPlace(place, soc)
	}
	c := code.KnownGoodBad
	switch {
	case errors.Is(err, ErrNone):
		return p, nil, code.NotProvisioned.Errorf("boot: %w", ErrNone)
	case errors.Is(err, ErrMAC):
		c = code.BoardMismatch
	}
	return p, nil, c.Errorf("boot: %w", err)
}

// Write writes both copies of a board part and its pin, which gets the names from p, and
// the rest from the envelope. Afterwards the board counts as provisioned.
func Write(d medium.Device, soc []byte, p Pin, envelope []byte) error {
	if len(envelope) < boardHeader || len(envelope) > MaxEnvelope {
		return fmt.Errorf("pin: a board part of %d bytes: %d to %d", len(envelope), boardHeader, MaxEnvelope)
	}
	p.Revision, p.BoardPart, p.Length = le.Uint32(envelope[12:]), sha256.Sum256(envelope), uint32(len(envelope))
	record, err := p.Encode(soc)
	if err != nil {
		return err
	}
	place := make([]byte, placeSize)
	copy(place, envelope)
	copy(place[offset:], record)
	return medium.Pair(medium.BoardParts).Write(d, place, rank(soc))
}
