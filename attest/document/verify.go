package document

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/subtle"
	"crypto/x509"
	"fmt"

	"github.com/veraison/go-cose"

	"nitro/attest/akcert"
	"nitro/attest/eventlog"
	"nitro/attest/evidence"
	"nitro/attest/verify"
)

// Verify judges a document that was asked for with the policy's nonce. beside is evidence
// of the same state of the same boot: its event log and the endorsement key's certificates
// are taken from it, and held to what the document's quote signs. The Result is that of
// the quote, or nil if it did not come to that. Errors wrap ErrFormat, verify.ErrPolicy or
// verify.ErrRefused.
func Verify(text []byte, beside *evidence.Evidence, p verify.Policy) (*Document, *verify.Result, error) {
	d, err := Decode(text)
	if err != nil {
		return nil, nil, err
	}
	if err := p.Check(); err != nil {
		return nil, nil, err
	}
	if subtle.ConstantTimeCompare(d.Nonce, p.Nonce) != 1 {
		return nil, nil, refuse("it is for another question, or an old one: ask again with a new nonce")
	}
	return d.verify(beside, p)
}

// VerifyRecipient judges a document without regard to nonces. It is for who gives nothing
// but what the document's public key encrypts, of which there must be one: it is of one
// boot, so an old document opens nothing.
func VerifyRecipient(text []byte, beside *evidence.Evidence, p verify.Policy) (*Document, *verify.Result, error) {
	d, err := Decode(text)
	if err != nil {
		return nil, nil, err
	}
	if d.PublicKey == nil {
		return nil, nil, refuse("it has no public key: ask for one with the recipient key")
	}
	return d.verify(beside, p)
}

func refuse(format string, args ...any) error {
	return fmt.Errorf("document: %w: %w", verify.ErrRefused, fmt.Errorf(format, args...))
}

func (d *Document) verify(beside *evidence.Evidence, p verify.Policy) (*Document, *verify.Result, error) {
	public, err := d.signed()
	if err != nil {
		return nil, nil, err
	}
	text, binding, err := d.evidence(public, beside)
	if err != nil {
		return nil, nil, err
	}
	p.Nonce = binding[:] // the quote's
	r, err := verify.Evidence(text, p)
	if err != nil {
		return nil, r, fmt.Errorf("document: %w", err)
	}
	if want := moduleID(r.Facts.Board, r.Facts.UniqueID); d.ModuleID != want {
		return nil, r, refuse("module_id is %s, and the log is of %s", d.ModuleID, want)
	}
	if measured := r.Facts.Recipient; d.Recipient != (eventlog.Digest{}) && measured == nil || measured != nil && *measured != d.Recipient {
		return nil, r, refuse("the recipient key %x is not the one that was measured", d.Recipient)
	}
	return d, r, nil
}

// signed verifies the COSE signature, and gives the public area of the key. Whether that
// is a good one, package verify judges.
func (d *Document) signed() (public []byte, err error) {
	c, err := x509.ParseCertificate(d.Certificate)
	if err != nil {
		return nil, refuse("certificate: %w", err)
	}
	key, ok := c.PublicKey.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, refuse("certificate: its key is a %T, not ECDSA P-256", c.PublicKey)
	}
	v, err := cose.NewVerifier(cose.AlgorithmES256, key)
	if err == nil {
		err = d.message.Verify(nil, v)
	}
	if err != nil {
		return nil, refuse("signature: %w", err)
	}
	point, err := key.Bytes()
	if err != nil {
		return nil, refuse("certificate: %w", err)
	}
	return attestationKey(point[1:33], point[33:]), nil
}

// evidence is the document's quote as evidence, with the nonce that it must have.
func (d *Document) evidence(public []byte, beside *evidence.Evidence) (text []byte, binding eventlog.Digest, err error) {
	if binding, err = d.binding(); err != nil {
		return nil, binding, err
	}
	if beside == nil {
		return nil, binding, refuse("its event log is missing: fetch evidence of the same boot")
	}
	log, err := eventlog.Parse(beside.EventLog)
	if err != nil {
		return nil, binding, refuse("%w", err)
	}
	claims, err := evidence.ClaimsOf(log)
	if err != nil {
		return nil, binding, refuse("%w", err)
	}
	_, name, err := akcert.CheckKey(public)
	if err != nil {
		return nil, binding, refuse("%w", err)
	}
	e := evidence.Evidence{
		Nonce: binding[:], Quote: d.Quote, Signature: d.QuoteSignature, PCRs: d.PCRs, EventLog: beside.EventLog,
		AKPublic: public, AKName: name, AKCertificate: d.Certificate, EKCertificates: beside.EKCertificates,
		Board: claims.Board, Development: claims.Development, TLSKey: d.TLSKey, WrapKey: d.WrapKey, NotChecked: evidence.Limits(log),
	}
	if text, err = e.Encode(); err != nil {
		return nil, binding, refuse("%w", err)
	}
	return text, binding, nil
}
