// Package dhchap does the arithmetic of DH-HMAC-CHAP, NVMe's in-band authentication
// (Base 2.0, section 8.13.5), for both ends: secrets, their transformation, responses to
// challenges, and the Diffie-Hellman groups of RFC 7919. The messages are in nvme/wire;
// who sends which when is the target's and the initiator's business.
//
// The null group is left out on purpose: without Diffie-Hellman, whoever records one
// authentication can try secrets against it at leisure.
package dhchap

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
)

// A Hash is a hash function by its identifier (Base 2.0, figure 439).
type Hash uint8

// The hash functions.
const (
	SHA256 Hash = 1
	SHA384 Hash = 2
	SHA512 Hash = 3
)

// hashNone marks a secret that is not transformed.
const hashNone Hash = 0

// MaxHash is the longest output of a hash function in bytes.
const MaxHash = sha512.Size

// Size is the length of the output in bytes; 0 for an unknown function.
func (h Hash) Size() int {
	switch h {
	case SHA256:
		return sha256.Size
	case SHA384:
		return sha512.Size384
	case SHA512:
		return sha512.Size
	}
	return 0
}

func (h Hash) make() hash.Hash {
	switch h {
	case SHA256:
		return sha256.New()
	case SHA384:
		return sha512.New384()
	}
	return sha512.New()
}

// ErrSecret says that a text is no secret. It does not quote the text.
var ErrSecret = errors.New("dhchap: not a secret of the form DHHC-1:hh:base64 of key and CRC-32:")

// A Secret is what two ends share: a key of 32, 48 or 64 bytes, and the hash function
// that transforms it. It must not be copied; Zero overwrites it.
type Secret struct {
	transform Hash
	size      int
	key       [MaxHash]byte
}

// Layout of a secret's text (Base 2.0, section 8.13.5.8).
const (
	textPrefix = "DHHC-1:"
	textStart  = len(textPrefix) + len("hh:")
	crcSize    = 4
)

// Set reads a secret's text, which is the caller's to zero. After an error the secret is
// empty.
func (s *Secret) Set(text []byte) error {
	s.Zero()
	if len(text) < textStart+1 || len(text) > 128 || string(text[:len(textPrefix)]) != textPrefix ||
		text[len(textPrefix)] != '0' || text[textStart-1] != ':' || text[len(text)-1] != ':' {
		return ErrSecret
	}
	transform := Hash(text[len(textPrefix)+1] - '0')
	if transform > SHA512 {
		return ErrSecret
	}
	var raw [2 * MaxHash]byte
	defer clear(raw[:])
	n, err := base64.StdEncoding.Decode(raw[:], text[textStart:len(text)-1])
	n -= crcSize
	if err != nil || n != 32 && n != 48 && n != 64 || transform != hashNone && transform.Size() != n ||
		crc32.ChecksumIEEE(raw[:n]) != binary.LittleEndian.Uint32(raw[n:]) {
		return ErrSecret
	}
	s.transform, s.size = transform, n
	copy(s.key[:], raw[:n])
	return nil
}

// Generate makes a new random secret for a hash function.
func (s *Secret) Generate(h Hash) error {
	s.Zero()
	if h.Size() == 0 {
		return fmt.Errorf("dhchap: no hash function %d: use 1, 2 or 3", h)
	}
	s.transform, s.size = h, h.Size()
	rand.Read(s.key[:s.size]) // never fails
	return nil
}

// SetKey makes a secret of a key that is derived elsewhere, as long as the hash
// function's output. After an error the secret is empty.
func (s *Secret) SetKey(h Hash, key []byte) error {
	s.Zero()
	if h.Size() == 0 || len(key) != h.Size() {
		return fmt.Errorf("dhchap: a key of %d bytes for hash function %d: use its output's length", len(key), h)
	}
	s.transform, s.size = h, len(key)
	copy(s.key[:], key)
	return nil
}

// Reveal gives the secret's text, to be handed to the host that it is for.
func (s *Secret) Reveal() string {
	var raw [MaxHash + crcSize]byte
	defer clear(raw[:])
	copy(raw[:], s.key[:s.size])
	binary.LittleEndian.PutUint32(raw[s.size:], crc32.ChecksumIEEE(raw[:s.size]))
	return fmt.Sprintf("%s%02d:%s:", textPrefix, s.transform, base64.StdEncoding.EncodeToString(raw[:s.size+crcSize]))
}

// Empty reports whether there is no secret.
func (s *Secret) Empty() bool { return s.size == 0 }

// Same reports whether two secrets have the same key, in constant time: one must not
// serve both directions (Base 2.0, section 8.13.5.8).
func (s *Secret) Same(o *Secret) bool {
	return s.size == o.size && subtle.ConstantTimeCompare(s.key[:], o.key[:]) == 1
}

// Copy sets a secret to another's.
func (s *Secret) Copy(from *Secret) { s.transform, s.size, s.key = from.transform, from.size, from.key }

// Zero overwrites the secret.
func (s *Secret) Zero() { s.transform, s.size, s.key = 0, 0, [MaxHash]byte{} }

// String hides the secret from whoever prints it.
func (s *Secret) String() string { return "dhchap.Secret" }

// GoString hides it as well.
func (s *Secret) GoString() string { return "dhchap.Secret" }

// transformed gives the key as it is used under a name: that of the end which
// authenticates with it (Base 2.0, section 8.13.5.7).
func (s *Secret) transformed(nqn string) []byte {
	if s.transform == hashNone {
		return append([]byte{}, s.key[:s.size]...)
	}
	m := hmac.New(s.transform.make, s.key[:s.size])
	m.Write([]byte(nqn))
	m.Write([]byte("NVMe-over-Fabrics"))
	return m.Sum(nil)
}

// A Role is the end that gives a response.
type Role string

// The two ends, as the texts in their responses.
const (
	Host       Role = "HostHost"
	Controller Role = "Controller"
)

// A Transaction is what both ends know when one answers the other's challenge.
type Transaction struct {
	Hash                   Hash
	ID                     uint16 // T_ID
	Sequence               uint32 // that came with the challenge
	HostNQN, ControllerNQN string
	Session                []byte // shared by Diffie-Hellman
}

// Response gives the response of an end with its secret to a challenge (Base 2.0, section
// 8.13.5.4 and 8.13.5.5).
func (t *Transaction) Response(role Role, s *Secret, challenge []byte) []byte {
	first, second := t.HostNQN, t.ControllerNQN
	if role == Controller {
		first, second = second, first
	}
	key := s.transformed(first)
	defer clear(key)
	d := t.Hash.make()
	d.Write(t.Session)
	session := d.Sum(nil)
	defer clear(session)
	augmented := hmac.New(t.Hash.make, session)
	augmented.Write(challenge)

	m := hmac.New(t.Hash.make, key)
	m.Write(augmented.Sum(nil))
	var numbers [7]byte // sequence, transaction, SC_C: no secure channel
	binary.LittleEndian.PutUint32(numbers[:], t.Sequence)
	binary.LittleEndian.PutUint16(numbers[4:], t.ID)
	m.Write(numbers[:])
	m.Write([]byte(role))
	m.Write([]byte(first))
	m.Write([]byte{0})
	m.Write([]byte(second))
	return m.Sum(nil)
}

// Verify reports whether a response is the right one, in constant time. An empty secret
// has no right one.
func (t *Transaction) Verify(role Role, s *Secret, challenge, response []byte) bool {
	return !s.Empty() && hmac.Equal(t.Response(role, s, challenge), response)
}
