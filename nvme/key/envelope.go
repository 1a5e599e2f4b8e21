package key

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/rsa"
	"crypto/subtle"
	"crypto/x509"
	"encoding/asn1"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	casn1 "golang.org/x/crypto/cryptobyte/asn1"

	"nitro/attest/sha256"
)

// This file is the second form of a wrapped key: CMS EnvelopedData (RFC 5652, 6) with
// RSAES-OAEP (RFC 8017, 7.1; RFC 4055, 4.1) and AES-256-CBC (RFC 3565), as AWS KMS answers
// in CiphertextForRecipient. One recipient and DER alone are taken.

const (
	contentKey = 32
	padded     = Size + aes.BlockSize // PKCS #7 adds a whole block (RFC 5652, 6.3)
	// MaxEnvelope is the longest envelope in bytes: one has 465 with a key identifier of 32
	// bytes, and more where the recipient is named by its issuer.
	MaxEnvelope = 1024
	// RecipientBits is the size of a recipient key's modulus.
	RecipientBits = 2048
)

var (
	oidEnvelopedData = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 3}
	oidData          = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}
	oidOAEP          = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 7}
	oidMGF1          = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 8}
	oidSHA256        = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}
	oidAES256CBC     = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 42}
)

// tag is a context-specific one.
func tag(n uint8) casn1.Tag { return casn1.Tag(n).ContextSpecific() }

// RecipientHash is how grants and PCR 8 name a recipient key: SHA-256 of its
// SubjectPublicKeyInfo (DER).
func RecipientHash(k *rsa.PublicKey) (hash [32]byte, err error) {
	der, err := x509.MarshalPKIXPublicKey(k)
	return sha256.Sum256(der), err
}

// ParseRecipient reads a board's recipient key (SubjectPublicKeyInfo, DER).
func ParseRecipient(der []byte) (*rsa.PublicKey, error) {
	k, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return nil, fmt.Errorf("key: recipient key: %w", err)
	}
	public, ok := k.(*rsa.PublicKey)
	if !ok || public.N.BitLen() != RecipientBits || public.E != 65537 {
		return nil, fmt.Errorf("key: recipient key: a %T, not RSA-%d with exponent 65,537", k, RecipientBits)
	}
	return public, nil
}

// WrapEnvelope encrypts a key to a board's recipient key of RSA-2048.
func WrapEnvelope(board *rsa.PublicKey, key []byte) ([]byte, error) {
	if len(key) != Size {
		return nil, fmt.Errorf("key: %d bytes: %w", len(key), ErrKey)
	}
	if board.N.BitLen() != RecipientBits {
		return nil, fmt.Errorf("key: a recipient key of %d bits, not %d", board.N.BitLen(), RecipientBits)
	}
	id, err := RecipientHash(board)
	if err != nil {
		return nil, fmt.Errorf("key: recipient key: %w", err)
	}
	e := envelope{id: id[:], iv: make([]byte, aes.BlockSize), content: make([]byte, padded)}
	once := make([]byte, contentKey)
	defer clear(once)
	rand.Read(once)
	rand.Read(e.iv)
	if e.key, err = rsa.EncryptOAEP(sha256.New(), rand.Reader, board, once, nil); err != nil {
		return nil, fmt.Errorf("key: envelope: %w", err)
	}
	block, err := aes.NewCipher(once)
	if err != nil {
		return nil, fmt.Errorf("key: envelope: %w", err)
	}
	copy(e.content, key)
	copy(e.content[Size:], padding)
	cipher.NewCBCEncrypter(block, e.iv).CryptBlocks(e.content, e.content)
	return e.encode()
}

// padding is what is behind a key.
var padding = bytes.Repeat([]byte{aes.BlockSize}, aes.BlockSize)

// An envelope is what EnvelopedData has for its one recipient.
type envelope struct {
	id      []byte // subjectKeyIdentifier
	key     []byte // encryptedKey
	iv      []byte
	content []byte // encryptedContent
}

func (e *envelope) encode() ([]byte, error) {
	var b cryptobyte.Builder
	in := func(t casn1.Tag, parts ...func(*cryptobyte.Builder)) func(*cryptobyte.Builder) {
		return func(b *cryptobyte.Builder) {
			b.AddASN1(t, func(b *cryptobyte.Builder) {
				for _, p := range parts {
					p(b)
				}
			})
		}
	}
	oid := func(o asn1.ObjectIdentifier) func(*cryptobyte.Builder) {
		return func(b *cryptobyte.Builder) { b.AddASN1ObjectIdentifier(o) }
	}
	bytes := func(t casn1.Tag, v []byte) func(*cryptobyte.Builder) {
		return in(t, func(b *cryptobyte.Builder) { b.AddBytes(v) })
	}
	version := func(b *cryptobyte.Builder) { b.AddASN1Int64(2) } // with a key identifier (RFC 5652, 6.1 and 6.2.1)
	null := func(b *cryptobyte.Builder) { b.AddASN1NULL() }
	sha := in(casn1.SEQUENCE, oid(oidSHA256), null)
	in(casn1.SEQUENCE, oid(oidEnvelopedData), in(tag(0).Constructed(), in(casn1.SEQUENCE, version,
		in(casn1.SET, in(casn1.SEQUENCE, version, bytes(tag(0), e.id),
			in(casn1.SEQUENCE, oid(oidOAEP), in(casn1.SEQUENCE, in(tag(0).Constructed(), sha), in(tag(1).Constructed(), in(casn1.SEQUENCE, oid(oidMGF1), sha)))),
			bytes(casn1.OCTET_STRING, e.key))),
		in(casn1.SEQUENCE, oid(oidData), in(casn1.SEQUENCE, oid(oidAES256CBC), bytes(casn1.OCTET_STRING, e.iv)), bytes(tag(0), e.content)),
	)))(&b)
	der, err := b.Bytes()
	if err != nil {
		return nil, fmt.Errorf("key: envelope: %w", err)
	}
	return der, nil
}

// parseEnvelope reads an envelope of one recipient with these algorithms, whoever it says
// the recipient is: there is one key that could open it. Nothing in it is secret.
func parseEnvelope(der []byte) (e envelope, ok bool) {
	if len(der) > MaxEnvelope {
		return e, false
	}
	s := cryptobyte.String(der)
	var info, outer, data, recipients, recipient, content cryptobyte.String
	var version, recipientVersion int
	ok = s.ReadASN1(&info, casn1.SEQUENCE) && s.Empty() && readOID(&info, oidEnvelopedData) &&
		info.ReadASN1(&outer, tag(0).Constructed()) && info.Empty() &&
		outer.ReadASN1(&data, casn1.SEQUENCE) && outer.Empty() &&
		data.ReadASN1Integer(&version) && (version == 0 || version == 2) &&
		data.ReadASN1(&recipients, casn1.SET) && data.ReadASN1(&content, casn1.SEQUENCE) && data.Empty() &&
		recipients.ReadASN1(&recipient, casn1.SEQUENCE) && recipients.Empty() &&
		recipient.ReadASN1Integer(&recipientVersion) && recipientVersion == version && e.readID(&recipient, version) &&
		readOAEP(&recipient) && recipient.ReadASN1((*cryptobyte.String)(&e.key), casn1.OCTET_STRING) && recipient.Empty() &&
		e.readContent(&content)
	return e, ok && len(e.key) == RecipientBits/8 && len(e.iv) == aes.BlockSize && len(e.content) == padded
}

func readOID(s *cryptobyte.String, want asn1.ObjectIdentifier) bool {
	var got asn1.ObjectIdentifier
	return s.ReadASN1ObjectIdentifier(&got) && got.Equal(want)
}

// readID reads a RecipientIdentifier, of which the version tells the kind: issuer and
// serial number are skipped.
func (e *envelope) readID(s *cryptobyte.String, version int) bool {
	if version == 2 {
		return s.ReadASN1((*cryptobyte.String)(&e.id), tag(0))
	}
	return s.SkipASN1(casn1.SEQUENCE)
}

// readSHA256 reads the AlgorithmIdentifier of SHA-256, whose parameters are NULL or not
// there (RFC 5754, 2).
func readSHA256(s *cryptobyte.String) bool {
	var id, null cryptobyte.String
	return s.ReadASN1(&id, casn1.SEQUENCE) && readOID(&id, oidSHA256) && (id.Empty() || id.ReadASN1(&null, casn1.NULL) && null.Empty() && id.Empty())
}

// readOAEP reads RSAES-OAEP with SHA-256 in both places and no label.
func readOAEP(s *cryptobyte.String) bool {
	var id, parameters, hash, mask, mgf cryptobyte.String
	return s.ReadASN1(&id, casn1.SEQUENCE) && readOID(&id, oidOAEP) && id.ReadASN1(&parameters, casn1.SEQUENCE) && id.Empty() &&
		parameters.ReadASN1(&hash, tag(0).Constructed()) && readSHA256(&hash) && hash.Empty() &&
		parameters.ReadASN1(&mask, tag(1).Constructed()) && mask.ReadASN1(&mgf, casn1.SEQUENCE) && mask.Empty() &&
		readOID(&mgf, oidMGF1) && readSHA256(&mgf) && mgf.Empty() && parameters.Empty()
}

// readContent reads EncryptedContentInfo.
func (e *envelope) readContent(s *cryptobyte.String) bool {
	var id cryptobyte.String
	return readOID(s, oidData) && s.ReadASN1(&id, casn1.SEQUENCE) && readOID(&id, oidAES256CBC) &&
		id.ReadASN1((*cryptobyte.String)(&e.iv), casn1.OCTET_STRING) && id.Empty() &&
		s.ReadASN1((*cryptobyte.String)(&e.content), tag(0)) && s.Empty()
}

// openEnvelope decrypts an envelope into the working area. good is 1 if its padding is
// right: CBC has no integrity, so who changes an envelope must not learn whether it is,
// and load makes one error of it and of a key that is not the volume's.
//
// The library's AES looks up tables, whose timing tells of a key that is used for many
// blocks; this one is used for five. What the library keeps of the content key opens this
// envelope and no more, as the recipient key does, which stays as well.
func (w *work) openEnvelope(board *rsa.PrivateKey, wrapped []byte) (good int, err error) {
	e, ok := parseEnvelope(wrapped)
	if !ok {
		return 0, ErrEnvelope
	}
	once, err := rsa.DecryptOAEP(sha256.New(), nil, board, e.key, nil)
	if err != nil || len(once) != contentKey {
		return 0, ErrEnvelope
	}
	defer clear(once)
	block, err := aes.NewCipher(once)
	if err != nil {
		return 0, ErrEnvelope
	}
	plain := w.message[:padded]
	cipher.NewCBCDecrypter(block, e.iv).CryptBlocks(plain, e.content)
	copy(w.delivered[:], plain)
	return subtle.ConstantTimeCompare(plain[Size:], padding), nil
}
