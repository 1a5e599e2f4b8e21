// Package key takes keys of volumes from a key service, each for one board, boot, host
// cycle and time, and keeps them in one arena: docs/grant.md has the formats, version 1,
// and for each check the attack that it answers.
//
// [Ring] is the board's side. [Grant.Sign], [Wrap], [WrapEnvelope] and [OpenConfirmation]
// are the key service's. Transport, evidence and the decision who gets a key are others' business.
package key

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/hpke"
	"crypto/rand"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"

	"nitro/attest/sha256"
)

// Sizes in bytes.
const (
	GrantSize   = 320
	WrappedSize = 1120 + Size + 16 // enc of MLKEM768-X25519, ciphertext, tag
	Size        = 64               // of a key, as it is delivered and as it is used
	NameSize    = 34               // of an AK's TPM name: algorithm and SHA-256
	VolumeSize  = 16
	NonceSize   = 32
)

// Errors of what arrives. Each says what to do next.
var (
	ErrFormat     = errors.New("not a grant of version 1: use a key service of this version")
	ErrSignature  = errors.New("the grant is not signed by the configured key service: check the key service's key in the configuration")
	ErrBoard      = errors.New("the grant is for another board: ask for one with this board's evidence")
	ErrBoot       = errors.New("the grant is for another boot: ask again with this boot's evidence")
	ErrNonce      = errors.New("no request waits for this grant: it was used, replaced or is too late: ask again")
	ErrCycle      = errors.New("the grant is for another host cycle: ask again")
	ErrExpired    = errors.New("the grant's time is over, or longer than allowed: ask again, and compare the lease's length with the board's limit")
	ErrVolume     = errors.New("the grant is for another volume")
	ErrCommitment = errors.New("the key is not the one that the volume was made with: deliver that one")
	ErrKey        = errors.New("a volume's key is 64 bytes whose halves differ: make a random one")
	ErrWrapped    = errors.New("the wrapped key does not open: wrap it to this boot's key with the grant as info")
	ErrEnvelope   = errors.New("the envelope does not open, or holds another key than the volume's: encrypt the volume's key to this boot's recipient key")
)

const (
	grantMagic     = "NCGRANT1"
	grantDomain    = "nitro grant v1\x00"
	grantSigned    = 256                       // what the signature covers
	standing       = 1                         // flag
	cms            = 2                         // flag
	commitDomain   = "nitro key commitment v1" // with zeros, a block of the hash
	commitBlock    = 64
	effectiveLabel = "nitro volume key v1"
)

var le = binary.LittleEndian

// A Grant is a key service's word that a board may have a key.
type Grant struct {
	Standing   bool // the board may ask again after its own restart
	Volume     [VolumeSize]byte
	Commitment [32]byte
	AK         [NameSize]byte // TPM name of the board's attestation key
	CMS        bool           // the key comes in an envelope, to the recipient key
	Wrapping   [32]byte       // SHA-256 of this boot's wrapping key, or of its recipient key
	Nonce      [NonceSize]byte
	Cycle      uint64   // of the host
	Expires    uint64   // TPM's clock, ms
	ID         [16]byte // of the grant, for records
}

func (g *Grant) encode() []byte {
	b := make([]byte, GrantSize)
	copy(b, grantMagic)
	if g.Standing {
		b[8] |= standing
	}
	if g.CMS {
		b[8] |= cms
	}
	copy(b[16:], g.Volume[:])
	copy(b[32:], g.Commitment[:])
	copy(b[64:], g.AK[:])
	copy(b[104:], g.Wrapping[:])
	copy(b[136:], g.Nonce[:])
	le.PutUint64(b[168:], g.Cycle)
	le.PutUint64(b[176:], g.Expires)
	copy(b[184:], g.ID[:])
	return b
}

// parseGrant reads what the signature covers.
func parseGrant(b []byte) (g Grant, err error) {
	if len(b) != GrantSize || string(b[:8]) != grantMagic || le.Uint32(b[8:])&^(standing|cms) != 0 ||
		!zero(b[12:16]) || !zero(b[98:104]) || !zero(b[200:grantSigned]) {
		return g, fmt.Errorf("key: %d bytes: %w", len(b), ErrFormat)
	}
	return Grant{
		Standing: b[8]&standing != 0, CMS: b[8]&cms != 0, Volume: [VolumeSize]byte(b[16:]), Commitment: [32]byte(b[32:]), AK: [NameSize]byte(b[64:]),
		Wrapping: [32]byte(b[104:]), Nonce: [NonceSize]byte(b[136:]), Cycle: le.Uint64(b[168:]), Expires: le.Uint64(b[176:]),
		ID: [16]byte(b[184:]),
	}, nil
}

func digest(b []byte) []byte {
	d := sha256.Sum256(append([]byte(grantDomain), b[:grantSigned]...))
	return d[:]
}

// Sign makes the grant with the key service's key, ECDSA on P-256.
func (g *Grant) Sign(service crypto.Signer) ([]byte, error) {
	b := g.encode()
	der, err := service.Sign(rand.Reader, digest(b), crypto.SHA256)
	if err != nil {
		return nil, fmt.Errorf("key: signing the grant: %w", err)
	}
	var sig struct{ R, S *big.Int }
	if rest, err := asn1.Unmarshal(der, &sig); err != nil || len(rest) > 0 || sig.R.BitLen() > 256 || sig.S.BitLen() > 256 {
		return nil, fmt.Errorf("key: a signature of %d bytes: the service's key is ECDSA on P-256", len(der))
	}
	sig.R.FillBytes(b[grantSigned : grantSigned+32])
	sig.S.FillBytes(b[grantSigned+32:])
	return b, nil
}

// OpenGrant verifies a grant's signature, and reads it. Nothing is parsed before.
func OpenGrant(b []byte, service *ecdsa.PublicKey) (Grant, error) {
	if len(b) != GrantSize {
		return Grant{}, fmt.Errorf("key: %d bytes: %w", len(b), ErrFormat)
	}
	r, s := new(big.Int).SetBytes(b[grantSigned:grantSigned+32]), new(big.Int).SetBytes(b[grantSigned+32:])
	if !ecdsa.Verify(service, digest(b), r, s) {
		return Grant{}, fmt.Errorf("key: %w", ErrSignature)
	}
	return parseGrant(b)
}

// Commitment is what a volume's metadata has of its key.
func Commitment(key []byte) [32]byte {
	b := make([]byte, commitBlock+len(key))
	defer clear(b)
	copy(b, commitDomain)
	copy(b[commitBlock:], key)
	return sha256.Sum256(b)
}

// suite is HPKE's, without its KEM: no AES, whose tables are not constant time here.
func suite() (hpke.KDF, hpke.AEAD) { return hpke.HKDFSHA256(), hpke.ChaCha20Poly1305() }

// Wrap seals a key to a board, under a signed grant.
func Wrap(board hpke.PublicKey, grant, key []byte) ([]byte, error) {
	if len(key) != Size {
		return nil, fmt.Errorf("key: %d bytes: %w", len(key), ErrKey)
	}
	kdf, aead := suite()
	b, err := hpke.Seal(board, kdf, aead, grant, key)
	if err == nil && len(b) != WrappedSize {
		err = fmt.Errorf("%d bytes, not %d: the board's key is MLKEM768-X25519", len(b), WrappedSize)
	}
	if err != nil {
		return nil, fmt.Errorf("key: wrapping: %w", err)
	}
	return b, nil
}

// WrappingHash is how grants and PCR 8 name a wrapping key.
func WrappingHash(k hpke.PublicKey) [32]byte { return sha256.Sum256(k.Bytes()) }

func zero(b []byte) bool {
	var x byte
	for _, c := range b {
		x |= c
	}
	return x == 0
}
