package audit

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
)

// MaxNote is the longest checkpoint in bytes, with all its signatures, of which 16 fit
// (C2SP signed-note, "Format").
const MaxNote = 8 << 10

// Signature types of C2SP signed-note.
const (
	typeECDSA       = 0x02
	typeCosignature = 0x04 // C2SP tlog-cosignature
)

// A Hash is one of the tree's.
type Hash = [sha256.Size]byte

// A Head is what a checkpoint says.
type Head struct {
	Origin string
	Size   uint64
	Root   Hash
}

// text is the note's text (C2SP tlog-checkpoint, "Note text").
func (h Head) text() string {
	return fmt.Sprintf("%s\n%d\n%s\n", h.Origin, h.Size, base64.StdEncoding.EncodeToString(h.Root[:]))
}

// parseHead reads a note's text. There is one spelling of each head.
func parseHead(text string) (Head, error) {
	lines := strings.Split(text, "\n")
	if len(lines) != 4 {
		return Head{}, errors.New("audit: checkpoint: it does not have the three lines origin, size, root")
	}
	size, err := strconv.ParseUint(lines[1], 10, 63)
	if err != nil {
		return Head{}, fmt.Errorf("audit: checkpoint: size: %w", err)
	}
	root, err := base64.StdEncoding.Strict().DecodeString(lines[2])
	if err != nil || len(root) != sha256.Size {
		return Head{}, errors.New("audit: checkpoint: the root is no SHA-256 in base64")
	}
	h := Head{Origin: lines[0], Size: size, Root: Hash(root)}
	if h.text() != text {
		return Head{}, errors.New("audit: checkpoint: it is not spelt as the format says")
	}
	return h, nil
}

// A Signer is the log's key: the TPM's attestation key.
type Signer interface {
	// Public is a key on P-256.
	Public() *ecdsa.PublicKey
	// Sign gives the signature over the SHA-256 of a text, in ASN.1 DER. A TPM's
	// restricted key wants to hash the text itself.
	Sign(text []byte) ([]byte, error)
}

// VerifierKey is a log's key in the form that verifiers are given: docs/audit.md,
// "Signature".
func VerifierKey(origin string, key *ecdsa.PublicKey) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return "", fmt.Errorf("audit: key: %w", err)
	}
	return fmt.Sprintf("%s+%08x+%s", origin, keyID(der), base64.StdEncoding.EncodeToString(append([]byte{typeECDSA}, der...))), nil
}

// keyID is that of an ECDSA key (C2SP signed-note, "Signature types").
func keyID(der []byte) uint32 {
	h := sha256.Sum256(der)
	return binary.BigEndian.Uint32(h[:])
}

// NewLogVerifier reads a log's key.
func NewLogVerifier(vkey string) (note.Verifier, error) {
	name, id, key, err := splitKey(vkey)
	if err != nil {
		return nil, err
	}
	if key[0] != typeECDSA {
		return nil, fmt.Errorf("audit: key of %s: type %d: a log's is %d", name, key[0], typeECDSA)
	}
	public, err := x509.ParsePKIXPublicKey(key[1:])
	if err != nil {
		return nil, fmt.Errorf("audit: key of %s: %w", name, err)
	}
	p, ok := public.(*ecdsa.PublicKey)
	if !ok || p.Curve != elliptic.P256() || id != keyID(key[1:]) {
		return nil, fmt.Errorf("audit: key of %s: it is no P-256 key, or has another ID than %08x", name, id)
	}
	return &verifier{name, id, func(text, signature []byte) bool {
		digest := sha256.Sum256(text)
		return ecdsa.VerifyASN1(p, digest[:], signature)
	}}, nil
}

// NewWitnessVerifier reads a witness's key: type 0x04, Ed25519.
func NewWitnessVerifier(vkey string) (note.Verifier, error) {
	name, id, key, err := splitKey(vkey)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(append([]byte(name+"\n"), key...))
	if key[0] != typeCosignature || len(key) != 1+ed25519.PublicKeySize || id != binary.BigEndian.Uint32(sum[:]) {
		return nil, fmt.Errorf("audit: key of %s: it is no witness's: type %d, Ed25519, is", name, typeCosignature)
	}
	public := ed25519.PublicKey(key[1:])
	return &verifier{name, id, func(text, signature []byte) bool {
		if len(signature) != 8+ed25519.SignatureSize {
			return false
		}
		message := fmt.Sprintf("cosignature/v1\ntime %d\n%s", binary.BigEndian.Uint64(signature), text)
		return ed25519.Verify(public, []byte(message), signature[8:])
	}}, nil
}

// splitKey takes a verifier key apart: name, ID, type and key.
func splitKey(vkey string) (name string, id uint32, key []byte, err error) {
	parts := strings.SplitN(vkey, "+", 3)
	if len(vkey) > 1024 || len(parts) != 3 || parts[0] == "" || len(parts[1]) != 8 {
		return "", 0, nil, errors.New("audit: a key is <name>+<8 hexadecimal digits>+<base64>")
	}
	n, err := strconv.ParseUint(parts[1], 16, 32)
	if err != nil {
		return "", 0, nil, fmt.Errorf("audit: key of %s: %w", parts[0], err)
	}
	key, err = base64.StdEncoding.Strict().DecodeString(parts[2])
	if err != nil || len(key) < 2 {
		return "", 0, nil, fmt.Errorf("audit: key of %s: it is not in base64", parts[0])
	}
	return parts[0], uint32(n), key, nil
}

// A verifier implements note.Verifier.
type verifier struct {
	name   string
	id     uint32
	verify func(text, signature []byte) bool
}

func (v *verifier) Name() string                       { return v.name }
func (v *verifier) KeyHash() uint32                    { return v.id }
func (v *verifier) Verify(text, signature []byte) bool { return v.verify(text, signature) }

// OpenCheckpoint verifies a checkpoint that the log has signed, and gives what it says
// and how many of the witnesses have cosigned it.
func OpenCheckpoint(b []byte, log note.Verifier, witnesses ...note.Verifier) (Head, int, error) {
	if len(b) > MaxNote {
		return Head{}, 0, fmt.Errorf("audit: checkpoint: %d bytes: at most %d", len(b), MaxNote)
	}
	n, err := note.Open(b, note.VerifierList(append([]note.Verifier{log}, witnesses...)...))
	if err != nil {
		return Head{}, 0, fmt.Errorf("audit: checkpoint: %w", err)
	}
	h, err := parseHead(n.Text)
	if err != nil {
		return Head{}, 0, err
	}
	cosigned, signed := 0, false
	for _, s := range n.Sigs {
		if _, err := base64.StdEncoding.Strict().DecodeString(s.Base64); err != nil { // one spelling of each signature
			return Head{}, 0, fmt.Errorf("audit: checkpoint: signature of %.100q: %w", s.Name, err)
		}
		if s.Name == log.Name() && s.Hash == log.KeyHash() {
			signed = true
		} else {
			cosigned++
		}
	}
	if !signed || h.Origin != log.Name() {
		return Head{}, 0, fmt.Errorf("audit: checkpoint of %.100q: it is not signed by the log %s", h.Origin, log.Name())
	}
	return h, cosigned, nil
}

// noteSigner implements note.Signer.
type noteSigner struct {
	name   string
	signer Signer
	id     uint32
}

func newNoteSigner(origin string, s Signer) (*noteSigner, error) {
	key := s.Public()
	if key == nil || key.Curve != elliptic.P256() {
		return nil, errors.New("audit: the log's key is none on P-256")
	}
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return nil, fmt.Errorf("audit: key: %w", err)
	}
	return &noteSigner{origin, s, keyID(der)}, nil
}

func (s *noteSigner) Name() string                     { return s.name }
func (s *noteSigner) KeyHash() uint32                  { return s.id }
func (s *noteSigner) Sign(text []byte) ([]byte, error) { return s.signer.Sign(text) }

// noteText is a note's text, without looking at its signatures.
func noteText(b []byte) string {
	text, _, _ := strings.Cut(string(b), "\n\n")
	return text + "\n"
}
