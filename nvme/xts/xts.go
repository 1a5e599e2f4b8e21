// Package xts encrypts the sectors of a volume with AES-XTS in constant time.
//
// The mode is XTS-AES-256 and XTS-AES-128 of IEEE Std 1619-2018 and NIST
// SP 800-38E over the cipher of FIPS 197. Data units are whole blocks of 16
// bytes: ciphertext stealing, which only data units of other lengths need, is
// left out.
//
// No memory address and no branch depends on a key or on data. On arm the
// cipher is bit-sliced over 32 blocks in NEON registers, in assembly that
// internal/neon's generator writes; elsewhere it is fixsliced over 4 blocks in
// 64-bit words, in Go. docs/xts.md explains both and counts instructions.
//
// # Limits
//
// XTS keeps data secret, not whole. Whoever can write the medium can put back
// an older ciphertext of a sector, or garble 16 bytes at a time, unnoticed;
// whoever can read it twice sees which blocks changed. Where that matters a
// store needs authentication on top. One key must not encrypt more than 2^44
// blocks or so (IEEE Std 1619-2018, D.4.3 argues from the birthday bound), and
// a data unit not more than 2^20 blocks (SP 800-38E, section 4).
package xts

import (
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"math"
)

//go:generate go run ./internal/gen

const (
	// BlockSize is the size of the cipher's block in bytes (FIPS 197).
	BlockSize = 16
	// KeySize256 is the length in bytes of an XTS-AES-256 key: two AES-256
	// keys, the first for data and the second for tweaks (IEEE 1619, 5.1).
	KeySize256 = 64
	// KeySize128 is the length in bytes of an XTS-AES-128 key.
	KeySize128 = 32
	// MaxUnit is the longest data unit in bytes: 2^20 blocks (SP 800-38E,
	// section 4).
	MaxUnit = BlockSize << 20
)

// The errors of this package. None of them leaves anything written to dst.
var (
	// ErrKeySize says that a key is neither 64 nor 32 bytes long.
	ErrKeySize = errors.New("xts: key is not 64 or 32 bytes long")
	// ErrWeakKey says that both halves of a key are equal, which FIPS 140
	// (implementation guidance C.I) forbids: with them XTS is open to a
	// chosen-ciphertext attack (Rogaway, 2004).
	ErrWeakKey = errors.New("xts: both halves of the key are equal")
	// ErrNoKey says that a Key holds no key: Init has not succeeded, or Zero
	// came after it.
	ErrNoKey = errors.New("xts: no key")
	// ErrUnit says that a data unit is empty, is not whole blocks of 16
	// bytes, or is longer than MaxUnit.
	ErrUnit = errors.New("xts: data unit is not 1 to 2^20 blocks of 16 bytes")
	// ErrLength says that the data is not a whole number of sectors.
	ErrLength = errors.New("xts: data is not whole sectors")
	// ErrShort says that dst is shorter than src.
	ErrShort = errors.New("xts: output is shorter than input")
	// ErrOverlap says that dst and src overlap without being the same.
	ErrOverlap = errors.New("xts: output and input overlap")
	// ErrRange says that sector numbers would pass 2^64 - 1.
	ErrRange = errors.New("xts: sector numbers past the last")
)

// Key is an expanded key in memory of its owner's choosing: it holds no
// pointers, and Zero leaves nothing of the key in it. It must not be copied.
// Methods other than Init and Zero may run at the same time. The zero Key is
// valid and holds no key.
type Key struct {
	data  schedule
	tweak tweakSchedule
	ready bool
}

// Init expands key, of KeySize256 or KeySize128 bytes. After an error, which
// is ErrKeySize or ErrWeakKey, k holds no key.
func (k *Key) Init(key []byte) error {
	k.Zero()
	if len(key) != KeySize256 && len(key) != KeySize128 {
		return ErrKeySize
	}
	half := len(key) / 2
	if subtle.ConstantTimeCompare(key[:half], key[half:]) == 1 {
		return ErrWeakKey
	}
	k.data.expand(key[:half])
	k.tweak.expand(key[half:])
	k.ready = true
	return nil
}

// Zero overwrites the key.
func (k *Key) Zero() { *k = Key{} }

// Encrypt encrypts src, consecutive sectors of size bytes each, into dst. The
// first sector has the number first, which is its tweak as a little-endian
// integer (IEEE 1619, 5.1). dst and src are the same memory or do not overlap.
// Many sectors in one call cost less than the same in many calls: their tweaks
// are encrypted together.
func (k *Key) Encrypt(dst, src []byte, size int, first uint64) error {
	return k.sectors(dst, src, size, first, encrypt)
}

// Decrypt is the inverse of Encrypt.
func (k *Key) Decrypt(dst, src []byte, size int, first uint64) error {
	return k.sectors(dst, src, size, first, decrypt)
}

// EncryptUnit encrypts one data unit with a tweak of 128 bits, for those who
// number data units otherwise than by 64-bit integers.
func (k *Key) EncryptUnit(dst, src []byte, tweak *[BlockSize]byte) error {
	return k.unit(dst, src, tweak, encrypt)
}

// DecryptUnit is the inverse of EncryptUnit.
func (k *Key) DecryptUnit(dst, src []byte, tweak *[BlockSize]byte) error {
	return k.unit(dst, src, tweak, decrypt)
}

// direction tells encryption from decryption.
type direction bool

const (
	encrypt direction = true
	decrypt direction = false
)

// check refuses what no call may ask for.
func (k *Key) check(dst, src []byte, unit int) error {
	switch {
	case !k.ready:
		return ErrNoKey
	case unit <= 0 || unit%BlockSize != 0 || unit > MaxUnit:
		return ErrUnit
	case len(src)%unit != 0:
		return ErrLength
	case len(dst) < len(src):
		return ErrShort
	case overlap(dst[:len(src)], src):
		return ErrOverlap
	}
	return nil
}

// tweakBatch is how many tweaks are encrypted together.
const tweakBatch = 32

// tweaks is room for so many. It is aligned to words because Go clears bytes
// one by one on arm, which here would take as long as encrypting four blocks.
type tweaks struct {
	_     [0]uint64
	bytes [tweakBatch * BlockSize]byte
}

// at is tweak i.
func (t *tweaks) at(i int) *[BlockSize]byte {
	return (*[BlockSize]byte)(t.bytes[BlockSize*i : BlockSize*(i+1)])
}

// sectors runs over sectors in batches, each of which has its tweaks
// encrypted together.
func (k *Key) sectors(dst, src []byte, size int, first uint64, dir direction) error {
	if err := k.check(dst, src, size); err != nil {
		return err
	}
	count := len(src) / size
	if count > 0 && uint64(count-1) > math.MaxUint64-first {
		return ErrRange
	}
	var t tweaks
	for done := 0; done < count; {
		n := min(count-done, tweakBatch)
		for i := range n {
			binary.LittleEndian.PutUint64(t.at(i)[:8], first+uint64(done+i))
			binary.LittleEndian.PutUint64(t.at(i)[8:], 0)
		}
		k.tweak.encryptTweaks(&t, n)
		for i := range n {
			at := (done + i) * size
			k.data.crypt(dst[at:at+size], src[at:at+size], t.at(i), dir)
		}
		done += n
	}
	clear(t.bytes[:])
	return nil
}

// unit runs over one data unit.
func (k *Key) unit(dst, src []byte, tweak *[BlockSize]byte, dir direction) error {
	if err := k.check(dst, src, len(src)); err != nil {
		return err
	}
	var t tweaks
	*t.at(0) = *tweak
	k.tweak.encryptTweaks(&t, 1)
	k.data.crypt(dst[:len(src)], src, t.at(0), dir)
	clear(t.bytes[:])
	return nil
}
