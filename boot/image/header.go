// Package image reads, verifies and signs the images of which the firmware is made:
// docs/medium.md, "Image". An image is a header of 4,096 bytes at fixed offsets and a
// payload. The header's first 512 bytes hold all that is known of the payload, its
// length and SHA-256 among it, and are signed twice, by Ed25519 (RFC 8032) and by
// ML-DSA-65 (FIPS 204); both signatures must hold, by keys that were named together.
//
// # Order
//
// Each step works only on what the one before has let through, so that whoever can
// write the medium reaches as little code as possible:
//
//  1. The header's structure: magic, sizes, reserved bytes, bounds. No length from the
//     medium is used before it is below its maximum.
//  2. An authority that may sign this kind of component and has both keys that the
//     header names.
//  3. The Ed25519 signature, then the ML-DSA-65 one, both over the 512 bytes.
//  4. What the header now says with authority: product, load address, development,
//     security version.
//  5. The payload, hashed once, while it is read into the place where it will be used,
//     from that place. Nothing is read twice, so there is no second reading for a card
//     to answer differently.
//  6. The comparison of digests. Until then nothing of the payload has been parsed, and
//     where it fails the payload has been zeroed.
//
// [Verify] is steps 1 to 4 and [Image.Load] steps 5 and 6.
//
// # What is left out
//
// There is no certificate chain and no date: authorities are pairs of keys in an anchor
// block or a configuration, and age is the security version's business. Payloads are
// not encrypted.
package image

import (
	"encoding/binary"
	"fmt"

	"nitro/boot/code"
)

// Sizes in bytes.
const (
	HeaderSize = 4096 // of the header
	SignedSize = 512  // of its first part, which is signed
	TextSize   = 32   // of the fields Version and Product, which are zero padded

	Ed25519KeySize       = 32   // RFC 8032, 5.1.5
	Ed25519SignatureSize = 64   // RFC 8032, 5.1.6
	MLDSA65KeySize       = 1952 // FIPS 204, table 2
	MLDSA65SignatureSize = 3309 // FIPS 204, table 2
)

// Offsets of the header's fields (docs/medium.md, "Image").
const (
	offMagic           = 0
	offHeaderSize      = 8
	offComponent       = 12
	offLength          = 16
	offDigest          = 24
	offSecurityVersion = 56
	offFlags           = 60
	offVersion         = 64
	offProduct         = 96
	offLoad            = 128
	offEntry           = 132
	offBuilt           = 136
	offEd25519Key      = 144
	offMLDSA65Key      = 176
	offReserved1       = 208
	offEd25519         = SignedSize
	offMLDSA65         = offEd25519 + Ed25519SignatureSize
	offReserved2       = offMLDSA65 + MLDSA65SignatureSize
)

const (
	magic           = "NCIMAGE1"
	flagDevelopment = 1 << 0
)

// MaxSecurityVersion is the highest security version. The rollback floor is a bit field
// of 64 bits in the TPM's NV memory (docs/attestation.md, "Objects in the TPM"), and a
// version above it could never be made the floor.
const MaxSecurityVersion = 64

// A Header is what the signed part of an image says.
type Header struct {
	Component       Component
	Length          uint64   // of the payload in bytes
	Digest          [32]byte // SHA-256 of the payload
	SecurityVersion uint32   // 0 to MaxSecurityVersion
	Development     bool
	Version         string   // 1 to 32 characters of printable ASCII, no space
	Product         string   // the same
	Load            uint32   // physical address of the payload; 0 for what is no code
	Entry           uint32   // where it starts; 0 for what is no code
	Built           uint64   // seconds since 1970
	Ed25519Key      [32]byte // SHA-256 of the key that signs
	MLDSA65Key      [32]byte // the same
}

// encode writes the signed part.
func (h *Header) encode(b []byte) error {
	clear(b[:SignedSize])
	copy(b[offMagic:], magic)
	le := binary.LittleEndian
	le.PutUint32(b[offHeaderSize:], HeaderSize)
	le.PutUint32(b[offComponent:], uint32(h.Component))
	le.PutUint64(b[offLength:], h.Length)
	copy(b[offDigest:], h.Digest[:])
	le.PutUint32(b[offSecurityVersion:], h.SecurityVersion)
	if h.Development {
		le.PutUint32(b[offFlags:], flagDevelopment)
	}
	if len(h.Version) > TextSize || len(h.Product) > TextSize {
		return fmt.Errorf("version %q or product %q is longer than %d characters", h.Version, h.Product, TextSize)
	}
	copy(b[offVersion:], h.Version)
	copy(b[offProduct:], h.Product)
	le.PutUint32(b[offLoad:], h.Load)
	le.PutUint32(b[offEntry:], h.Entry)
	le.PutUint64(b[offBuilt:], h.Built)
	copy(b[offEd25519Key:], h.Ed25519Key[:])
	copy(b[offMLDSA65Key:], h.MLDSA65Key[:])
	return nil
}

// Parse reads a header without verifying anything: for tools that show what an image
// says of itself. It checks the structure (step 1 of the package's order). Firmware
// takes [Verify].
func Parse(b *[HeaderSize]byte) (Header, error) {
	h, err := parse(b)
	if err != nil {
		return Header{}, code.ImageMalformed.Errorf("image: header: %w", err)
	}
	return h, nil
}

// parse checks the structure of a header that nobody has vouched for yet. All that is
// at a fixed place is compared, and each number is bounded, before the next step.
func parse(b *[HeaderSize]byte) (h Header, err error) {
	le := binary.LittleEndian
	if string(b[offMagic:offHeaderSize]) != magic {
		return h, fmt.Errorf("magic %x, not %q: there is no image here", b[offMagic:offHeaderSize], magic)
	}
	if n := le.Uint32(b[offHeaderSize:]); n != HeaderSize {
		return h, fmt.Errorf("size %d, not %d: a format that this firmware does not know", n, HeaderSize)
	}
	for _, r := range [][2]int{{offReserved1, SignedSize}, {offReserved2, HeaderSize}} {
		if at, ok := zero(b[r[0]:r[1]]); !ok {
			return h, fmt.Errorf("reserved byte %d is %#x, not zero", r[0]+at, b[r[0]+at])
		}
	}
	h.Component = Component(le.Uint32(b[offComponent:]))
	k, ok := h.Component.kind()
	if !ok {
		return h, fmt.Errorf("component %d is not known", uint32(h.Component))
	}
	if h.Length = le.Uint64(b[offLength:]); h.Length == 0 || h.Length > k.max {
		return h, fmt.Errorf("payload of %d bytes: a %v has 1 to %d", h.Length, h.Component, k.max)
	}
	if h.SecurityVersion = le.Uint32(b[offSecurityVersion:]); h.SecurityVersion > MaxSecurityVersion {
		return h, fmt.Errorf("security version %d is above %d", h.SecurityVersion, MaxSecurityVersion)
	}
	flags := le.Uint32(b[offFlags:])
	if flags&^flagDevelopment != 0 {
		return h, fmt.Errorf("flags %#x are not known", flags)
	}
	h.Development = flags&flagDevelopment != 0
	if h.Version, err = text(b[offVersion : offVersion+TextSize]); err != nil {
		return h, fmt.Errorf("version: %w", err)
	}
	if h.Product, err = text(b[offProduct : offProduct+TextSize]); err != nil {
		return h, fmt.Errorf("product: %w", err)
	}
	h.Load, h.Entry = le.Uint32(b[offLoad:]), le.Uint32(b[offEntry:])
	h.Built = le.Uint64(b[offBuilt:])
	copy(h.Digest[:], b[offDigest:])
	copy(h.Ed25519Key[:], b[offEd25519Key:])
	copy(h.MLDSA65Key[:], b[offMLDSA65Key:])
	return h, nil
}

// zero tells whether all is zero, and where not.
func zero(b []byte) (at int, ok bool) {
	for i, v := range b {
		if v != 0 {
			return i, false
		}
	}
	return 0, true
}

// text reads a zero-padded field. Its value goes into the event log as it is, so it must
// be one word: with a space in it, it could pass for two values.
func text(b []byte) (string, error) {
	n := 0
	for n < len(b) && b[n] != 0 {
		if b[n] <= ' ' || b[n] > '~' {
			return "", fmt.Errorf("byte %#x is not printable ASCII", b[n])
		}
		n++
	}
	if n == 0 {
		return "", fmt.Errorf("is empty")
	}
	if at, ok := zero(b[n:]); !ok {
		return "", fmt.Errorf("byte %#x behind its end", b[n+at])
	}
	return string(b[:n]), nil
}
