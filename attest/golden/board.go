package golden

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"

	"nitro/attest/eventlog"
	"nitro/attest/ijson"
)

// A Board is the board part.
type Board struct {
	Board       string // product
	StorageName []byte // TPM name of the storage primary, which is pinned
	AKName      []byte // TPM name of the attestation key
	EKName      []byte // TPM name of the endorsement key
	UniqueID    uint64 // of the SoC
	Development bool
	PCR1        eventlog.Digest
	Events      []eventlog.Event // of PCR 1
}

// nameSize is that of a TPM name with SHA-256: the algorithm and a digest (TPM 2.0
// Library, part 1, 16).
const nameSize = 2 + sha256.Size

// boardWire is the payload of docs/medium.md. Names, digest and number are hexadecimal.
type boardWire struct {
	Format      int         `json:"format"`
	Board       string      `json:"board"`
	StorageName string      `json:"storage_name"`
	AKName      string      `json:"ak_name"`
	EKName      string      `json:"ek_name"`
	UniqueID    string      `json:"unique_id"`
	Development bool        `json:"development"`
	PCR1        string      `json:"pcr1"`
	Events      []eventWire `json:"events"`
}

// encode makes the payload.
func (b *Board) encode() ([]byte, error) {
	if err := b.check(); err != nil {
		return nil, err
	}
	return encode(boardWire{Format, b.Board, hex.EncodeToString(b.StorageName), hex.EncodeToString(b.AKName), hex.EncodeToString(b.EKName),
		fmt.Sprintf("%016x", b.UniqueID), b.Development, hex.EncodeToString(b.PCR1[:]), toWire(b.Events)})
}

// check has what is said twice agree.
func (b *Board) check() error {
	for _, name := range [][]byte{b.StorageName, b.AKName, b.EKName} {
		if len(name) != nameSize {
			return fmt.Errorf("golden: board part: a key's name of %d bytes, not %d", len(name), nameSize)
		}
	}
	log := eventlog.New()
	for _, e := range b.Events {
		if e.PCR != 1 {
			return fmt.Errorf("golden: board part: %q is not in PCR 1", e.Text)
		}
		if err := log.Append(e); err != nil {
			return fmt.Errorf("golden: board part: %w", err)
		}
	}
	if pcr := log.Replay()[1]; pcr != b.PCR1 {
		return fmt.Errorf("golden: board part: its events give PCR 1 %x, it says %x", pcr, b.PCR1)
	}
	if len(b.Events) == 0 || b.Events[0].Value("product") != b.Board || b.Events[0].Value("unique-id") != fmt.Sprintf("%016x", b.UniqueID) {
		return fmt.Errorf("golden: board part: its first event is not that of board %q with number %016x", b.Board, b.UniqueID)
	}
	return nil
}

// decodeBoard reads a payload whose signature was verified.
func decodeBoard(payload []byte) (*Board, error) {
	var w boardWire
	if err := ijson.Decode(payload, limit, &w); err != nil {
		return nil, fmt.Errorf("golden: board part: %w", err)
	}
	if w.Format != Format {
		return nil, fmt.Errorf("golden: board part: format %d, not %d", w.Format, Format)
	}
	b := &Board{Board: w.Board, Development: w.Development}
	var err error
	if b.Events, err = fromWire(w.Events); err != nil {
		return nil, fmt.Errorf("golden: board part: %w", err)
	}
	var id, pcr []byte
	for _, f := range []struct {
		name, from string
		to         *[]byte
		size       int
	}{{"storage_name", w.StorageName, &b.StorageName, nameSize}, {"ak_name", w.AKName, &b.AKName, nameSize}, {"ek_name", w.EKName, &b.EKName, nameSize},
		{"unique_id", w.UniqueID, &id, 8}, {"pcr1", w.PCR1, &pcr, sha256.Size}} {
		if *f.to, err = hex.DecodeString(f.from); err != nil || len(*f.to) != f.size || hex.EncodeToString(*f.to) != f.from {
			return nil, fmt.Errorf("golden: board part: %s: %q is not %d bytes in lower-case hexadecimal", f.name, f.from, f.size)
		}
	}
	b.UniqueID, b.PCR1 = binary.BigEndian.Uint64(id), eventlog.Digest(pcr)
	return b, b.check()
}

// The envelope of docs/medium.md: magic, length of the payload (4), revision (4), payload,
// length of the signature (4), signature.
const (
	boardMagic  = "NCBOARD1"
	boardHeader = len(boardMagic) + 4 + 4
	// maxSignature is the longest TPMT_SIGNATURE of ECDSA P-256: two algorithms, two
	// TPM2B of 32 bytes.
	maxSignature = 2 + 2 + 2*(2+32)
)

var le, be = binary.LittleEndian, binary.BigEndian

// A Draft is an envelope that lacks its signature. The board key signs only what the
// owner has approved, which takes a while.
type Draft struct{ signed []byte }

// NewDraft begins an envelope. The revision tells which of two copies counts.
func NewDraft(b *Board, revision uint32) (*Draft, error) {
	payload, err := b.encode()
	if err != nil {
		return nil, err
	}
	env := append([]byte(boardMagic), make([]byte, 8)...)
	le.PutUint32(env[8:], uint32(len(payload)))
	le.PutUint32(env[12:], revision)
	return &Draft{append(env, payload...)}, nil
}

// Digest is what the board key signs: SHA-256 over magic, length, revision and payload.
// The magic keeps the signature from being one over anything else.
func (d *Draft) Digest() [sha256.Size]byte { return sha256.Sum256(d.signed) }

// Envelope adds the signature, a TPMT_SIGNATURE.
func (d *Draft) Envelope(signature []byte) ([]byte, error) {
	if _, _, err := ECDSASignature(signature); err != nil {
		return nil, fmt.Errorf("golden: board part: %w", err)
	}
	env := le.AppendUint32(bytes.Clone(d.signed), uint32(len(signature)))
	return append(env, signature...), nil
}

// OpenBoard verifies and decodes an envelope. Behind it there may be more: the rest of
// its place. Nothing of the payload is parsed before its signature has been verified.
func OpenBoard(env []byte, key *ecdsa.PublicKey) (b *Board, revision uint32, err error) {
	if len(env) < boardHeader || string(env[:8]) != boardMagic {
		return nil, 0, fmt.Errorf("golden: board part: does not begin with %q", boardMagic)
	}
	n := le.Uint32(env[8:])
	if n > MaxSize || int(n) > len(env)-boardHeader-4 {
		return nil, 0, fmt.Errorf("golden: board part: payload of %d bytes: at most %d, and %d are there", n, MaxSize, len(env))
	}
	signed, rest := env[:boardHeader+int(n)], env[boardHeader+int(n):]
	if n := le.Uint32(rest); n > maxSignature || int(n) > len(rest)-4 {
		return nil, 0, fmt.Errorf("golden: board part: signature of %d bytes: at most %d", n, maxSignature)
	}
	r, s, err := ECDSASignature(rest[4 : 4+le.Uint32(rest)])
	if err != nil {
		return nil, 0, fmt.Errorf("golden: board part: %w", err)
	}
	if key == nil || key.Curve != elliptic.P256() {
		return nil, 0, errors.New("golden: board part: the board's key is not one of P-256")
	}
	digest := sha256.Sum256(signed)
	if !ecdsa.Verify(key, digest[:], r, s) {
		return nil, 0, errors.New("golden: board part: the signature by the board's key does not verify")
	}
	b, err = decodeBoard(signed[boardHeader:])
	return b, le.Uint32(env[12:]), err
}

// Of TPM 2.0 Library, part 2, table 9.
const (
	algECDSA  = 0x0018
	algSHA256 = 0x000b
)

// ECDSASignature reads a TPMT_SIGNATURE with a TPMS_SIGNATURE_ECDSA (TPM 2.0 Library, part
// 2, 11.3), which is big endian.
func ECDSASignature(b []byte) (r, s *big.Int, err error) {
	if len(b) < 4 || be.Uint16(b) != algECDSA || be.Uint16(b[2:]) != algSHA256 {
		return nil, nil, errors.New("the signature is not a TPMT_SIGNATURE of ECDSA with SHA-256")
	}
	b = b[4:]
	var parts [2]*big.Int
	for i := range parts {
		if len(b) < 2 || be.Uint16(b) > 32 || int(be.Uint16(b)) > len(b)-2 {
			return nil, nil, fmt.Errorf("number %d of the signature is longer than 32 bytes, or than what is there", i+1)
		}
		n := 2 + int(be.Uint16(b))
		parts[i], b = new(big.Int).SetBytes(b[2:n]), b[n:]
	}
	if len(b) != 0 {
		return nil, nil, fmt.Errorf("%d bytes behind the signature", len(b))
	}
	return parts[0], parts[1], nil
}
