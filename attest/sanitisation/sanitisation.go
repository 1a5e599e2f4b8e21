// Package sanitisation is the certificate that a board gives when it has erased a volume:
// what was erased, how, when and for whom, signed by its attestation key.
// docs/sanitisation.md fixes the format, version 1, and says what it is worth; the fields
// are those of NIST SP 800-88 Rev. 1 (Guidelines for Media Sanitization), appendix G.
//
// [Make] is the board's, [Verify] anybody's. Left out is all that a board cannot know:
// people's titles, places and phones, classification, and where the medium goes.
package sanitisation

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"nitro/attest/akcert"
	"nitro/attest/ijson"
)

// Format is the version of the format.
const Format = 1

// Limits in bytes.
const (
	MaxSize      = 16 << 10
	maxText      = 512
	maxSignature = 72 // ECDSA P-256 in DER: two integers of 33 bytes at most
	maxPublic    = 512
	maxCert      = 4096
)

// Errors.
var (
	// ErrFormat: this is no certificate of version 1, or not in its one spelling.
	ErrFormat = errors.New("this is no certificate of sanitisation of version 1: ask the board again, or use a tool of its time")
	// ErrKey: nobody vouches for the key that signed.
	ErrKey = errors.New("nobody vouches for the key that signed: give its issuer's certificate, or the name of the key as verified evidence has it")
	// ErrSignature: the board has not signed this.
	ErrSignature = errors.New("the board has not signed this: do not take the volume for erased")
)

// A Statement is what a board certifies.
type Statement struct {
	Product  string `json:"product"`
	UniqueID string `json:"unique_id"` // of the SoC, 16 hexadecimal digits
	AKName   string `json:"ak_name"`   // TPM name, hexadecimal

	MediumType   string `json:"medium_type"` // "SD card", "RAM"
	MediumModel  string `json:"medium_model"`
	MediumSerial string `json:"medium_serial"`

	Volume     string `json:"volume"` // identity, 32 hexadecimal digits
	Name       string `json:"name"`
	Kind       string `json:"kind"` // "Pool", "RAM"
	Bytes      uint64 `json:"bytes"`
	Commitment string `json:"commitment"` // to its key, 64 hexadecimal digits

	MethodType         string `json:"method_type"` // "Purge", "Clear"
	MethodUsed         string `json:"method_used"` // "Cryptographic Erase", "Overwrite"
	MethodDetails      string `json:"method_details"`
	VerificationMethod string `json:"verification_method"`
	Tool               string `json:"tool"`
	ToolVersion        string `json:"tool_version"`

	Time        string `json:"time"`         // RFC 3339, UTC, whole seconds
	RequestedBy string `json:"requested_by"` // the principal
}

// When writes a time as a Statement has it.
func When(t time.Time) string { return t.UTC().Truncate(time.Second).Format(time.RFC3339) }

// A Signer is the attestation key, as it signs the audit log's checkpoints.
type Signer interface {
	// Sign gives the signature over the SHA-256 of a text, in ASN.1 DER.
	Sign(text []byte) ([]byte, error)
}

// A Certificate is what the format holds. Nothing of it is verified.
type Certificate struct {
	Statement     Statement
	Signature     []byte // ASN.1 DER
	AKPublic      []byte // TPMT_PUBLIC
	AKCertificate []byte // DER; nil where there is none
}

// wire is the JSON object of docs/sanitisation.md.
type wire struct {
	Format    int       `json:"format"`
	Statement Statement `json:"statement"`
	Signature string    `json:"signature"`
	AK        struct {
		Public      string `json:"public"`
		Certificate string `json:"certificate,omitempty"`
	} `json:"ak"`
}

// check holds a statement to its limits.
func (s *Statement) check() error {
	for name, v := range map[string]string{
		"product": s.Product, "medium_type": s.MediumType, "medium_model": s.MediumModel, "medium_serial": s.MediumSerial, "name": s.Name, "kind": s.Kind,
		"method_type": s.MethodType, "method_used": s.MethodUsed, "method_details": s.MethodDetails, "verification_method": s.VerificationMethod,
		"tool": s.Tool, "tool_version": s.ToolVersion, "requested_by": s.RequestedBy,
	} {
		if !plain(v) {
			return fmt.Errorf("%s: %.40q: 1 to %d printable characters without quotes, backslashes, <, > and &", name, v, maxText)
		}
	}
	for _, d := range []struct {
		name, v string
		size    int
	}{{"unique_id", s.UniqueID, 8}, {"ak_name", s.AKName, 2 + sha256.Size}, {"volume", s.Volume, 16}, {"commitment", s.Commitment, sha256.Size}} {
		b, err := hex.DecodeString(d.v)
		if err != nil || len(b) != d.size || hex.EncodeToString(b) != d.v {
			return fmt.Errorf("%s: %.80q: %d bytes in lower-case hexadecimal", d.name, d.v, d.size)
		}
	}
	t, err := time.Parse(time.RFC3339, s.Time)
	if err != nil || When(t) != s.Time {
		return fmt.Errorf("time: %.40q: RFC 3339, UTC, in whole seconds", s.Time)
	}
	return nil
}

// plain: JSON, HTML and a terminal all show such text as it is.
func plain(s string) bool {
	return s != "" && len(s) <= maxText && !strings.ContainsFunc(s, func(c rune) bool { return c < ' ' || c > '~' || strings.ContainsRune(`"\<>&`, c) })
}

// text is what is signed (docs/sanitisation.md, "Signed").
func (s *Statement) text() ([]byte, error) {
	b, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	return fmt.Appendf(nil, "nitro sanitisation certificate v1\n%x\n", sha256.Sum256(b)), nil
}

// Make has the attestation key sign a statement, and gives the certificate. public is the
// key's TPMT_PUBLIC, certificate its certificate in DER or nil.
func Make(s Statement, signer Signer, public, certificate []byte) ([]byte, error) {
	if err := s.check(); err != nil {
		return nil, fmt.Errorf("sanitisation: %w", err)
	}
	text, err := s.text()
	if err != nil {
		return nil, fmt.Errorf("sanitisation: %w", err)
	}
	signature, err := signer.Sign(text)
	if err != nil {
		return nil, fmt.Errorf("sanitisation: %w", err)
	}
	c := Certificate{s, signature, public, certificate}
	return c.encode()
}

// encode writes the one text of a certificate.
func (c *Certificate) encode() ([]byte, error) {
	for _, p := range []struct {
		name        string
		size        int
		least, most int
	}{{"signature", len(c.Signature), 1, maxSignature}, {"ak.public", len(c.AKPublic), 1, maxPublic}, {"ak.certificate", len(c.AKCertificate), 0, maxCert}} {
		if p.size < p.least || p.size > p.most {
			return nil, fmt.Errorf("sanitisation: %s: %d bytes, not %d to %d", p.name, p.size, p.least, p.most)
		}
	}
	w := wire{Format: Format, Statement: c.Statement, Signature: base64.StdEncoding.EncodeToString(c.Signature)}
	w.AK.Public, w.AK.Certificate = base64.StdEncoding.EncodeToString(c.AKPublic), base64.StdEncoding.EncodeToString(c.AKCertificate)
	b, err := json.Marshal(w)
	if err == nil && len(b) > MaxSize {
		err = fmt.Errorf("%d bytes, at most %d", len(b), MaxSize)
	}
	if err != nil {
		return nil, fmt.Errorf("sanitisation: %w", err)
	}
	return b, nil
}

// Parse reads a certificate from somebody who may be an enemy, and verifies nothing.
func Parse(b []byte) (*Certificate, error) {
	fail := func(err error) (*Certificate, error) {
		return nil, fmt.Errorf("sanitisation: %w: %w", ErrFormat, err)
	}
	var w wire
	if err := ijson.Decode(b, ijson.Limit{Size: MaxSize, Depth: 2}, &w); err != nil {
		return fail(err)
	}
	if w.Format != Format {
		return fail(fmt.Errorf("format %d", w.Format))
	}
	if err := w.Statement.check(); err != nil {
		return fail(err)
	}
	c := &Certificate{Statement: w.Statement}
	for _, p := range []struct {
		name string
		from string
		to   *[]byte
	}{{"signature", w.Signature, &c.Signature}, {"ak.public", w.AK.Public, &c.AKPublic}, {"ak.certificate", w.AK.Certificate, &c.AKCertificate}} {
		v, err := base64.StdEncoding.Strict().DecodeString(p.from)
		if err != nil {
			return fail(fmt.Errorf("%s: %w", p.name, err))
		}
		if len(v) > 0 {
			*p.to = v
		}
	}
	again, err := c.encode()
	if err != nil {
		return fail(err)
	}
	if !bytes.Equal(again, b) {
		return fail(errors.New("it is not spelt as the format says"))
	}
	return c, nil
}

// A Trust says whose attestation key is good. What is there must all hold, and one of
// both must be.
type Trust struct {
	Issuers *x509.CertPool // CAs that certify attestation keys (package akcert)
	At      time.Time      // when their certificates must be valid; zero is now
	Names   [][]byte       // TPM names of keys: of verified evidence, or of records
}

// Verify verifies that a board has signed a certificate, and gives what it says. Whether
// that is the right board, volume and time is the caller's to compare.
func Verify(b []byte, trust Trust) (Statement, error) {
	c, err := Parse(b)
	if err != nil {
		return Statement{}, err
	}
	key, name, err := akcert.CheckKey(c.AKPublic)
	if err != nil {
		return Statement{}, fmt.Errorf("sanitisation: %w: %w", ErrKey, err)
	}
	if hex.EncodeToString(name) != c.Statement.AKName {
		return Statement{}, fmt.Errorf("sanitisation: the statement names the key %s, and %x is there: %w", c.Statement.AKName, name, ErrSignature)
	}
	if err := c.vouched(key, name, trust); err != nil {
		return Statement{}, err
	}
	text, err := c.Statement.text()
	if err != nil {
		return Statement{}, fmt.Errorf("sanitisation: %w", err)
	}
	digest := sha256.Sum256(text)
	if !ecdsa.VerifyASN1(key, digest[:], c.Signature) {
		return Statement{}, fmt.Errorf("sanitisation: %w", ErrSignature)
	}
	return c.Statement, nil
}

// vouched finds who vouches for the key.
func (c *Certificate) vouched(key *ecdsa.PublicKey, name []byte, trust Trust) error {
	if trust.Issuers == nil && len(trust.Names) == 0 {
		return fmt.Errorf("sanitisation: %w", ErrKey)
	}
	if len(trust.Names) > 0 && !slices.ContainsFunc(trust.Names, func(n []byte) bool { return bytes.Equal(n, name) }) {
		return fmt.Errorf("sanitisation: %x is none of %d known keys: %w", name, len(trust.Names), ErrKey)
	}
	if trust.Issuers == nil {
		return nil
	}
	if c.AKCertificate == nil {
		return fmt.Errorf("sanitisation: the key has no certificate: %w", ErrKey)
	}
	v, err := akcert.Verify(c.AKCertificate, key, name, trust.Issuers, trust.At)
	if err != nil {
		return fmt.Errorf("sanitisation: %w: %w", ErrKey, err)
	}
	if s := c.Statement; v.Product != s.Product || v.UniqueID != s.UniqueID {
		return fmt.Errorf("sanitisation: the key is of %q number %q, and the statement of %q number %q: %w", v.Product, v.UniqueID, s.Product, s.UniqueID, ErrKey)
	}
	return nil
}
