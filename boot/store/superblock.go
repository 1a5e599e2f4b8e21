package store

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/crypto/chacha20poly1305"
)

// The superblock (docs/store.md, "Layout").
const (
	magic    = "NCSTORE1"
	version  = 1
	identity = 32 // bytes

	superVersion  = 8
	superSegments = 12
	superIdentity = 16
	superDigest   = 448
	superTag      = 480
	superEnd      = superTag + tagSize
)

// A superblock is what Format fixes.
type superblock struct {
	segments int
	identity [identity]byte
}

// encode makes the sector, with the key check.
func (b *superblock) encode(k *keys) (*[sectorSize]byte, error) {
	p := new([sectorSize]byte)
	copy(p[:], magic)
	binary.LittleEndian.PutUint32(p[superVersion:], version)
	binary.LittleEndian.PutUint32(p[superSegments:], uint32(b.segments))
	copy(p[superIdentity:], b.identity[:])
	sum := sha256.Sum256(p[:superDigest])
	copy(p[superDigest:], sum[:])
	tag, err := keyCheck(k, p[:superTag])
	copy(p[superTag:], tag)
	return p, err
}

// keyCheck is a tag that only the right key makes. The superblock key is used for one
// superblock only, as its identity is new at each format.
func keyCheck(k *keys, over []byte) ([]byte, error) {
	a, err := chacha20poly1305.New(k.superblock[:])
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	return a.Seal(nil, make([]byte, chacha20poly1305.NonceSize), nil, over), nil
}

// decodeSuperblock reads what is plain. It does not know the key yet.
func decodeSuperblock(p *[sectorSize]byte) (b superblock, err error) {
	if !bytes.HasPrefix(p[:], []byte(magic)) {
		return b, ErrNotFormatted
	}
	if sum := sha256.Sum256(p[:superDigest]); !bytes.Equal(sum[:], p[superDigest:superTag]) {
		return b, fmt.Errorf("SHA-256 is %x, not %x: %w", sum[:4], p[superDigest:superDigest+4], ErrDamaged)
	}
	if v := binary.LittleEndian.Uint32(p[superVersion:]); v != version {
		return b, fmt.Errorf("version %d, and %d is known: %w", v, version, ErrVersion)
	}
	n := binary.LittleEndian.Uint32(p[superSegments:])
	if !zero(p[superIdentity+identity:superDigest]) || !zero(p[superEnd:]) || n < minSegments || n > maxSegments {
		return b, fmt.Errorf("%d segments, or a reserved byte: %w", n, ErrDamaged)
	}
	b.segments = int(n)
	copy(b.identity[:], p[superIdentity:])
	return b, nil
}

// readSuperblock finds the store's identity and derives its keys. Of two copies the first
// that is whole counts; the error, if none is, is that of the copy that came furthest.
func (s *Store) readSuperblock(key []byte) error {
	var problems [2]error
	for c := range copyOf(2) {
		if problems[c] = s.trySuperblock(c, key); problems[c] == nil {
			return nil
		}
	}
	for _, kind := range []error{ErrKey, ErrVersion, ErrDamaged, ErrUnreadable} {
		for c, err := range problems {
			if errors.Is(err, kind) {
				return fmt.Errorf("store: superblock %d: %w", c, err)
			}
		}
	}
	return fmt.Errorf("store: %w", problems[0])
}

func (s *Store) trySuperblock(c copyOf, key []byte) error {
	var p [sectorSize]byte
	if err := s.read(s.superblock(c), 0, p[:]); err != nil {
		return err
	}
	b, err := decodeSuperblock(&p)
	if err != nil {
		return err
	}
	if b.segments != s.segments {
		return fmt.Errorf("a store of %d segments in a place of %d: %w", b.segments, s.segments, ErrDamaged)
	}
	k, err := derive(key, b.identity[:])
	if err != nil {
		return err
	}
	tag, err := keyCheck(&k, p[:superTag])
	if err != nil {
		return err
	}
	if subtle.ConstantTimeCompare(tag, p[superTag:superEnd]) != 1 {
		k.zero()
		return ErrKey
	}
	s.keys = k
	return nil
}

// zero tells whether all bytes are zero.
func zero(b []byte) bool {
	for _, v := range b {
		if v != 0 {
			return false
		}
	}
	return true
}
