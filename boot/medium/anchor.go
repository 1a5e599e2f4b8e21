package medium

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"

	"nitro/boot/code"
	"nitro/boot/image"
)

// Sizes and offsets of the anchor block (docs/medium.md, "Anchor block"), in bytes.
const (
	AnchorSize     = 8192
	MaxAuthorities = 4

	anchorMagic       = "NCANCHR1"
	anchorFlags       = 8
	anchorCount       = 12
	anchorAuthorities = 16
	anchorDigest      = AnchorSize - sha256.Size
	authoritySize     = 4 + 28 + image.Ed25519KeySize + image.MLDSA65KeySize

	anchorDevelopment = 1 << 0
)

// Anchors is the anchor block: the root of trust. On a closed part the boot ROM verifies
// it together with the bootloader; on every part it is measured into PCR 0 as it lies on
// the medium, so another one changes what the board can prove and unseal. Its digest is
// against damage only: who can write the block can compute it.
type Anchors struct {
	// Development marks a board, for ever, as one of which secrets are known to
	// developers.
	Development bool
	// Authorities are 1 to 4, in the order in which they are tried.
	Authorities []image.Authority
}

// Encode makes the block.
func (a *Anchors) Encode() (*[AnchorSize]byte, error) {
	if err := a.check(); err != nil {
		return nil, err
	}
	b := new([AnchorSize]byte)
	copy(b[:], anchorMagic)
	le := binary.LittleEndian
	if a.Development {
		le.PutUint32(b[anchorFlags:], anchorDevelopment)
	}
	le.PutUint32(b[anchorCount:], uint32(len(a.Authorities)))
	for i := range a.Authorities {
		at := b[anchorAuthorities+i*authoritySize:]
		le.PutUint32(at, uint32(a.Authorities[i].Purpose))
		copy(at[32:], a.Authorities[i].Ed25519[:])
		copy(at[64:], a.Authorities[i].MLDSA65[:])
	}
	sum := sha256.Sum256(b[:anchorDigest])
	copy(b[anchorDigest:], sum[:])
	return b, nil
}

// check refuses anchors with which nothing could be verified, or anything could.
func (a *Anchors) check() error {
	if n := len(a.Authorities); n < 1 || n > MaxAuthorities {
		return code.AnchorBlock.Errorf("medium: anchor block: %d authorities, not 1 to %d", n, MaxAuthorities)
	}
	for i := range a.Authorities {
		if err := a.Authorities[i].Check(); err != nil {
			return code.AnchorBlock.Errorf("medium: anchor block: authority %d: %w", i+1, err)
		}
	}
	return nil
}

// DecodeAnchors reads a block. The digest comes first; then no byte of the block is left
// without a meaning, so that there is one encoding only.
func DecodeAnchors(b *[AnchorSize]byte) (*Anchors, error) {
	if string(b[:anchorFlags]) != anchorMagic {
		return nil, code.AnchorBlock.Errorf("medium: anchor block: magic %x, not %q", b[:anchorFlags], anchorMagic)
	}
	if sum := sha256.Sum256(b[:anchorDigest]); !bytes.Equal(sum[:], b[anchorDigest:]) {
		return nil, code.AnchorBlock.Errorf("medium: anchor block: SHA-256 is %x, the block says %x", sum, b[anchorDigest:])
	}
	le := binary.LittleEndian
	flags, n := le.Uint32(b[anchorFlags:]), le.Uint32(b[anchorCount:])
	if flags&^anchorDevelopment != 0 {
		return nil, code.AnchorBlock.Errorf("medium: anchor block: flags %#x are not known", flags)
	}
	if n > MaxAuthorities {
		return nil, code.AnchorBlock.Errorf("medium: anchor block: %d authorities, not 1 to %d", n, MaxAuthorities)
	}
	a := &Anchors{Development: flags&anchorDevelopment != 0, Authorities: make([]image.Authority, n)}
	for i := range a.Authorities {
		at := b[anchorAuthorities+i*authoritySize:]
		a.Authorities[i].Purpose = image.Purpose(le.Uint32(at))
		copy(a.Authorities[i].Ed25519[:], at[32:])
		copy(a.Authorities[i].MLDSA65[:], at[64:])
	}
	// What is not zero between the fields shows when the block is made again.
	again, err := a.Encode()
	if err != nil {
		return nil, err
	}
	if *again != *b {
		return nil, code.AnchorBlock.Errorf("medium: anchor block: a reserved byte is not zero")
	}
	return a, nil
}

// ReadAnchors reads the block of a medium. The bytes themselves are what is measured.
func ReadAnchors(d Device) (a *Anchors, block *[AnchorSize]byte, err error) {
	block = new([AnchorSize]byte)
	if err := ReadPlace(d, AnchorBlock, block[:]); err != nil {
		return nil, nil, code.AnchorBlock.Errorf("medium: anchor block: %w", err)
	}
	a, err = DecodeAnchors(block)
	return a, block, err
}
