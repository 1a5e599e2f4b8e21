// Package document is the board's attestation document in the format of AWS Nitro
// Enclaves: COSE_Sign1 (RFC 9052, 4.2) over a CBOR map (RFC 8949), as the AWS Nitro
// Enclaves User Guide, "Verifying the root of trust", has it. docs/document.md fixes the
// format, version 1, and says where it differs: ES256 by the TPM's attestation key, PCRs
// of SHA-256, no CA bundle, and a quote in user_data.
//
// [Make] makes one on the board; [Decode] reads one anywhere; [Verify] judges it together
// with the event log, which the format has no place for.
//
// # What it answers
//
// The attestation key signs whatever the firmware gives it that does not look like the
// TPM's own words, so the COSE signature does not make the PCRs true. The quote does, and
// its qualifying data binds it to this one payload. [Verify] makes evidence of the quote
// and has package verify judge that: there is one set of rules for what is good.
package document

import (
	"bytes"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/big"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/veraison/go-cose"

	"nitro/attest/eventlog"
	"nitro/attest/evidence"
	"nitro/attest/identity"
)

// Limits of the format, in bytes.
const (
	MaxSize      = 8 << 10
	maxModule    = 64
	maxPublicKey = 1024
	maxUserData  = 512 // of AWS's format
	minSignature = 1

	headSize = 8 + 3*sha256.Size
	magic    = "NCDOCUM1"
	digest   = "SHA256"
	domain   = "nitro attestation document v1\x00"
)

// Errors.
var (
	// ErrFormat: this is no document of version 1, or not in its one spelling.
	ErrFormat = errors.New("this is no attestation document of version 1: ask the board again, or use a tool of its time")
	// ErrCertificate: a document without one would be nobody's.
	ErrCertificate = errors.New("the board has no certificate of its attestation key: have its owner issue one, or ask for evidence")
)

// A Signer is the attestation key, as it signs the audit log's checkpoints.
type Signer interface {
	// Sign gives the signature over the SHA-256 of a text, in ASN.1 DER.
	Sign(text []byte) ([]byte, error)
}

// A Document is what the format holds. Sizes are within limits, and public key and its
// hash agree; nothing more is verified.
type Document struct {
	ModuleID    string
	Time        time.Time // zero if the board's clock was not set
	PCRs        [evidence.PCRs]eventlog.Digest
	Certificate []byte // of the attestation key, DER
	PublicKey   []byte // recipient key, SubjectPublicKeyInfo in DER; nil where none was asked for
	Nonce       []byte // nil where none was given

	TLSKey, WrapKey eventlog.Digest
	Recipient       eventlog.Digest // zero if no recipient key was made
	Quote           []byte          // TPMS_ATTEST
	QuoteSignature  []byte          // TPMT_SIGNATURE

	message cose.UntaggedSign1Message
}

// A Question is what a document answers.
type Question struct {
	Nonce     []byte    // 8 to 64 bytes, or nil
	PublicKey []byte    // this boot's recipient key, SubjectPublicKeyInfo in DER, measured before; or nil
	Time      time.Time // the board's; zero if it is not set
}

// Make has the TPM quote PCR 0 to 8, and the attestation key sign the document. It is for
// who owns the TPM: nothing may be measured meanwhile.
func Make(s *evidence.Source, signer Signer, q Question) ([]byte, error) {
	if s.AKCertificate == nil {
		return nil, fmt.Errorf("document: %w", ErrCertificate)
	}
	d := Document{Time: q.Time, Certificate: s.AKCertificate, PublicKey: q.PublicKey, Nonce: q.Nonce}
	if err := d.claim(s.Log); err != nil {
		return nil, err
	}
	pcrs := make([]uint, evidence.PCRs)
	for i := range pcrs {
		pcrs[i] = uint(i)
	}
	values, err := s.TPM.ReadPCRs(pcrs...)
	if err != nil {
		return nil, fmt.Errorf("document: %w", err)
	}
	copy(d.PCRs[:], values)
	binding, err := d.binding()
	if err != nil {
		return nil, err
	}
	quote, err := identity.NewQuote(s.TPM, s.Session, s.AK, binding[:], pcrs...)
	if err != nil {
		return nil, fmt.Errorf("document: %w", err)
	}
	d.Quote, d.QuoteSignature = quote.Attest, quote.Signature
	return d.sign(signer)
}

// claim takes from a log what a document says of it.
func (d *Document) claim(log *eventlog.Log) error {
	c, err := evidence.ClaimsOf(log)
	if err != nil {
		return fmt.Errorf("document: %w", err)
	}
	d.TLSKey, d.WrapKey = c.TLSKey, c.WrapKey
	for _, e := range log.Events() {
		switch e.Name() {
		case "board":
			d.ModuleID = moduleID(c.Board, e.Value("unique-id"))
		case "recipient":
			hex.Decode(d.Recipient[:], []byte(e.Value("sha256"))) // the log has made sure that it is a digest
		}
	}
	return nil
}

func moduleID(product, number string) string { return product + "-" + number }

// sign makes the text.
func (d *Document) sign(signer Signer) ([]byte, error) {
	text, err := d.encode(d.userData())
	if err != nil {
		return nil, err
	}
	d.message = cose.UntaggedSign1Message{Headers: headers(), Payload: text}
	if err := d.message.Sign(nil, nil, es256{signer}); err != nil {
		return nil, fmt.Errorf("document: %w", err)
	}
	b, err := d.message.MarshalCBOR()
	if err == nil && len(b) > MaxSize {
		err = fmt.Errorf("%d bytes, at most %d", len(b), MaxSize)
	}
	if err != nil {
		return nil, fmt.Errorf("document: %w", err)
	}
	return b, nil
}

func headers() cose.Headers {
	return cose.Headers{Protected: cose.ProtectedHeader{cose.HeaderLabelAlgorithm: cose.AlgorithmES256}, Unprotected: cose.UnprotectedHeader{}}
}

// es256 signs as COSE wants it.
type es256 struct{ s Signer }

// Algorithm implements cose.Signer.
func (es256) Algorithm() cose.Algorithm { return cose.AlgorithmES256 }

// Sign implements cose.Signer: the signature is r and s, 32 bytes each (RFC 9053, 2.1).
func (e es256) Sign(_ io.Reader, content []byte) ([]byte, error) {
	der, err := e.s.Sign(content)
	if err != nil {
		return nil, err
	}
	var n struct{ R, S *big.Int }
	if rest, err := asn1.Unmarshal(der, &n); err != nil || len(rest) > 0 || n.R.Sign() <= 0 || n.S.Sign() <= 0 || n.R.BitLen() > 256 || n.S.BitLen() > 256 {
		return nil, errors.Join(errors.New("the signature is no ECDSA P-256 signature in DER"), err)
	}
	b := make([]byte, 64)
	n.R.FillBytes(b[:32])
	n.S.FillBytes(b[32:])
	return b, nil
}

// head is the proof without the quote.
func (d *Document) head() []byte {
	b := append([]byte(magic), d.TLSKey[:]...)
	return append(append(b, d.WrapKey[:]...), d.Recipient[:]...)
}

func (d *Document) userData() []byte {
	b := binary.LittleEndian.AppendUint16(d.head(), uint16(len(d.Quote)))
	return append(append(b, d.Quote...), d.QuoteSignature...)
}

// prove reads what userData wrote.
func (d *Document) prove(b []byte) error {
	if len(b) < headSize+2+minSignature || string(b[:8]) != magic {
		return fmt.Errorf("user_data: %d bytes are no proof of version 1", len(b))
	}
	copy(d.TLSKey[:], b[8:])
	copy(d.WrapKey[:], b[40:])
	copy(d.Recipient[:], b[72:])
	size, rest := int(binary.LittleEndian.Uint16(b[headSize:])), b[headSize+2:]
	if size == 0 || size >= len(rest) || len(rest)-size > evidence.MaxSignature {
		return fmt.Errorf("user_data: a quote of %d bytes, and %d for it and its signature", size, len(rest))
	}
	d.Quote, d.QuoteSignature = bytes.Clone(rest[:size]), bytes.Clone(rest[size:])
	return nil
}

// binding is the quote's qualifying data.
func (d *Document) binding() (eventlog.Digest, error) {
	text, err := d.encode(d.head())
	return sha256.Sum256(append([]byte(domain), text...)), err
}

// attestationKey is the public area of an attestation key of the template with this
// point: x and y, 32 bytes each.
func attestationKey(x, y []byte) []byte {
	public := identity.AKTemplate()
	public.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{X: tpm2.TPM2BECCParameter{Buffer: x}, Y: tpm2.TPM2BECCParameter{Buffer: y}})
	return tpm2.Marshal(public)
}
