package store

import (
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"golang.org/x/crypto/chacha20"
	"golang.org/x/crypto/chacha20poly1305"
)

// Keys (docs/store.md, "Keys"). Each purpose has its own.
type keys struct{ superblock, root, record, name [32]byte }

// derive makes the keys of a store from its own and its identity.
func derive(key []byte, identity []byte) (k keys, err error) {
	for _, x := range []struct {
		to  *[32]byte
		use string
	}{{&k.superblock, "superblock"}, {&k.root, "root"}, {&k.record, "record"}, {&k.name, "name"}} {
		b, err := hkdf.Key(sha256.New, key, identity, "nitro store v1 "+x.use, len(x.to))
		if err != nil {
			return k, fmt.Errorf("store: %w", err)
		}
		copy(x.to[:], b)
		clear(b)
	}
	return k, nil
}

func (k *keys) zero() { *k = keys{} }

// A hash finds a name in the index.
type hash [16]byte

func (k *keys) hash(name string) (h hash) {
	var b [32 + MaxName]byte
	copy(b[:], k.name[:])
	n := copy(b[32:], name)
	sum := sha256.Sum256(b[:32+n])
	copy(h[:], sum[:])
	clear(b[:32])
	return h
}

// An epochID is what an epoch's key comes from: 16 random bytes, and the value that the
// counter had after its mount's step. The latter keeps the epochs of mounts that came to
// their step apart even if the random generator repeats itself.
type epochID struct {
	random  [16]byte
	counter uint64
}

const epochSize = 16 + 8

func (id epochID) append(b []byte) []byte {
	return binary.LittleEndian.AppendUint64(append(b, id.random[:]...), id.counter)
}

func readEpochID(b []byte) (id epochID) {
	copy(id.random[:], b)
	id.counter = binary.LittleEndian.Uint64(b[16:])
	return id
}

// An epoch is what one mount encrypted under one key, which is made when it is needed.
type epoch struct {
	id   epochID
	key  [32]byte
	aead cipher.AEAD
}

func (e *epoch) cipher(k *keys) (cipher.AEAD, error) {
	if e.aead != nil {
		return e.aead, nil
	}
	b, err := hkdf.Expand(sha256.New, k.record[:], string(e.id.append([]byte("nitro store v1 epoch"))), len(e.key))
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	copy(e.key[:], b)
	clear(b)
	if e.aead, err = newAEAD(e.key[:]); err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	return e.aead, nil
}

// newAEAD makes the cipher of an epoch. Tests put one in its place that watches nonces.
var newAEAD = chacha20poly1305.New

func (e *epoch) zero() {
	clear(e.key[:])
	e.aead = nil
}

// peek decrypts the first bytes of a frame ahead of its authentication. The keystream of
// the plaintext begins with block 1 (RFC 8439, 2.8). What it gives is not to be trusted.
func (e *epoch) peek(nonce *[12]byte, sealed []byte) (b [frameHeader]byte, err error) {
	c, err := chacha20.NewUnauthenticatedCipher(e.key[:], nonce[:])
	if err != nil {
		return b, fmt.Errorf("store: %w", err)
	}
	c.SetCounter(1)
	c.XORKeyStream(b[:], sealed[:frameHeader])
	return b, nil
}

// What a frame is, in its nonce.
const (
	logFrame  = 1
	dataFrame = 2
	bodyFrame = 3
)

// nonceOf is the nonce of the frame at a place. In one epoch it is used once: a generation
// never writes a sector twice, and no two things that are written share a generation. The
// place in it keeps frames from being moved.
func nonceOf(generation uint64, segment, sector int, kind byte) *[12]byte {
	var n [12]byte
	binary.LittleEndian.PutUint64(n[:], generation)
	binary.LittleEndian.PutUint16(n[8:], uint16(segment))
	n[10] = byte(sector)
	n[11] = kind
	return &n
}

// A place is where a frame lies, and under what.
type place struct {
	epoch           *epoch
	generation      uint64
	segment, sector int
	kind            byte
}

// seal encrypts plain, filled up with zeros to whole sectors, into to.
func (s *Store) seal(at place, to, plain []byte) ([]byte, error) {
	a, err := s.aead(at.epoch)
	if err != nil {
		return nil, err
	}
	n := sectorsFor(len(plain))*sectorSize - tagSize
	copy(to, plain)
	clear(to[len(plain):n])
	return a.Seal(to[:0], nonceOf(at.generation, at.segment, at.sector, at.kind)[:], to[:n], nil), nil
}

// readFrame reads a frame of some sectors into b and gives its plaintext there.
func (s *Store) readFrame(at place, sectors int, b []byte) ([]byte, error) {
	b = b[:sectors*sectorSize]
	if err := s.read(at.segment, at.sector, b); err != nil {
		return nil, err
	}
	return s.unseal(at, b)
}

// unseal decrypts a frame in place.
func (s *Store) unseal(at place, b []byte) ([]byte, error) {
	a, err := s.aead(at.epoch)
	if err != nil {
		return nil, err
	}
	plain, err := a.Open(b[:0], nonceOf(at.generation, at.segment, at.sector, at.kind)[:], b, nil)
	if err != nil {
		s.stats.Damaged++
		return nil, fmt.Errorf("segment %d, sector %d: %w", at.segment, at.sector, ErrDamaged)
	}
	return plain, nil
}
