// Package identity is who the board is, as its TPM can prove it: the endorsement key that
// the TPM's maker has certified, the attestation key that quotes, the board key that
// signs the board part of the known-good set, and the identity of one boot.
//
// It follows the TCG EK Credential Profile for TPM family 2.0, version 2.5 (template
// L-1), and the TPM 2.0 Library, part 1: 24 (credential protection), 31 (attestation).
package identity

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/subtle"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"time"

	"github.com/google/go-tpm/tpm2"

	"nitro/attest/tpm"
)

// Errors.
var (
	// ErrCertificate: the TPM's maker does not vouch for the endorsement key.
	ErrCertificate = errors.New("no certificate of a known TPM maker vouches for the endorsement key: check the roots and the TPM")
	// ErrCredential: the TPM did not give back what only the endorsement key's can.
	ErrCredential = errors.New("the TPM does not prove that it holds both keys")
	// ErrQuote: a quote is not the one that was asked for.
	ErrQuote = errors.New("the quote is not for this question")
)

// StorageTemplate is the storage primary: the TCG's template of an ECC P-256 storage
// root key, which has noDA.
var StorageTemplate = tpm2.ECCSRKTemplate

// EKTemplate is the TCG's default for RSA-2048 (L-1), with which the TPM makes the very
// key that its maker has certified.
var EKTemplate = tpm2.RSAEKTemplate

// signer is the template of a P-256 key that lives in this TPM alone.
func signer(attributes tpm2.TPMAObject, policy []byte) tpm2.TPMTPublic {
	attributes.FixedTPM, attributes.FixedParent, attributes.SensitiveDataOrigin = true, true, true
	attributes.NoDA, attributes.SignEncrypt = true, true
	return tpm2.TPMTPublic{
		Type: tpm2.TPMAlgECC, NameAlg: tpm2.TPMAlgSHA256, ObjectAttributes: attributes,
		AuthPolicy: tpm2.TPM2BDigest{Buffer: policy},
		Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{
			Scheme: tpm2.TPMTECCScheme{
				Scheme:  tpm2.TPMAlgECDSA,
				Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgECDSA, &tpm2.TPMSSigSchemeECDSA{HashAlg: tpm2.TPMAlgSHA256}),
			},
			CurveID: tpm2.TPMECCNistP256,
		}),
		Unique: tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{}),
	}
}

// AKTemplate is the attestation key. It is restricted: it signs nothing but what the TPM
// itself says, so nobody gets a forged quote signed. Its use needs an authorisation that
// the SoC's secret makes: who resets the TPM and replays the good measurements into it
// cannot have them quoted.
func AKTemplate() tpm2.TPMTPublic {
	return signer(tpm2.TPMAObject{UserWithAuth: true, Restricted: true}, nil)
}

// AKAuth is the authorisation of the attestation key; the caller zeroes it.
func AKAuth(soc []byte) ([]byte, error) { return tpm.AuthValue(soc, "attestation key") }

// AK is the attestation key as an entity, whose name is computed from what the TPM says
// its public area is. A wrong one is found by the first session that is bound to it:
// that takes the authorisation. The caller zeroes Auth.
func AK(t *tpm.TPM, soc []byte) (tpm.Entity, *tpm2.TPMTPublic, error) {
	public, err := t.ReadPublic(tpm.AKHandle)
	if err != nil {
		return tpm.Entity{}, nil, err
	}
	name, err := tpm2.ObjectName(public)
	if err != nil {
		return tpm.Entity{}, nil, fmt.Errorf("identity: attestation key: %w", err)
	}
	auth, err := AKAuth(soc)
	return tpm.Entity{Handle: tpm.AKHandle, Name: *name, Auth: auth}, public, err
}

// EKCertificateIndex is where the TPM's maker leaves the certificate of the RSA-2048
// endorsement key (EK Credential Profile 2.5, 2.2.1.4).
const EKCertificateIndex tpm2.TPMHandle = 0x01c00002

// maxCertificate bounds an EK certificate, in bytes; chunk is what every TPM gives of an
// index at once.
const (
	maxCertificate = 4096
	chunk          = 512
)

// EKCertificate reads the endorsement key's certificate (DER) from the TPM.
func EKCertificate(t *tpm.TPM, s *tpm.Session) ([]byte, error) {
	fail := func(what string, err error) ([]byte, error) {
		return nil, fmt.Errorf("identity: EK certificate in index %#08x: %s: %w", uint32(EKCertificateIndex), what, errors.Join(ErrCertificate, err))
	}
	r, err := tpm2.NVReadPublic{NVIndex: EKCertificateIndex}.Execute(t)
	if err != nil {
		return fail("TPM2_NV_ReadPublic", err)
	}
	public, err := r.NVPublic.Contents()
	if err != nil {
		return fail("public area", err)
	}
	name, err := tpm2.NVName(public)
	if err != nil {
		return fail("public area", err)
	}
	if public.DataSize > maxCertificate {
		return fail(fmt.Sprintf("%d bytes", public.DataSize), nil)
	}
	e := tpm.Entity{Handle: EKCertificateIndex, Name: *name}
	var der []byte
	for len(der) < int(public.DataSize) {
		n := min(chunk, public.DataSize-uint16(len(der)))
		r, err := tpm2.NVRead{AuthHandle: e.In(s.With(nil)), NVIndex: e.Named(), Size: n, Offset: uint16(len(der))}.Execute(t)
		if err != nil || len(r.Data.Buffer) != int(n) {
			return fail("TPM2_NV_Read", err)
		}
		der = append(der, r.Data.Buffer...)
	}
	// An index may be longer than what lies in it.
	var raw asn1.RawValue
	if _, err := asn1.Unmarshal(der, &raw); err != nil {
		return fail("certificate", err)
	}
	return raw.FullBytes, nil
}

// VerifyEK verifies an EK certificate against the roots of TPM makers, and that it is
// for this key. It answers a TPM that is none: software, or a chip of the attacker's,
// behind which keys are not kept. Times are those of the certificate: at is when the
// certificate has to be valid, the zero time leaves that out, since a board that has
// no time yet is provisioned too.
func VerifyEK(der []byte, ek *tpm2.TPMTPublic, roots, intermediates *x509.CertPool, at time.Time) (*x509.Certificate, error) {
	fail := func(err error) (*x509.Certificate, error) {
		return nil, fmt.Errorf("identity: EK certificate: %w", errors.Join(ErrCertificate, err))
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return fail(err)
	}
	public, err := tpm2.Pub(*ek)
	if err != nil {
		return fail(err)
	}
	if k, ok := c.PublicKey.(*rsa.PublicKey); !ok || !k.Equal(public) {
		return fail(errors.New("it is for another key"))
	}
	// The profile has the TPM's make and model in a subject alternative name that
	// crypto/x509 does not read and that is critical where the subject is empty (3.1.2).
	subjectAltName := asn1.ObjectIdentifier{2, 5, 29, 17}
	c.UnhandledCriticalExtensions = slices.DeleteFunc(c.UnhandledCriticalExtensions, subjectAltName.Equal)
	if at.IsZero() {
		at = c.NotBefore
	}
	_, err = c.Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: intermediates, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	if err != nil {
		return fail(err)
	}
	return c, nil
}

// A Challenge is a credential that only the TPM with the endorsement key can open, and
// only if an object of the name lies in it too.
type Challenge struct {
	Blob   []byte // TPMS_ID_OBJECT
	Secret []byte // encrypted seed
}

// NewChallenge is made where the factory is, from a certified endorsement key and the
// name of an object. Answer is what [Activate] must give.
func NewChallenge(ek *tpm2.TPMTPublic, object []byte) (c Challenge, answer []byte, err error) {
	key, err := tpm2.ImportEncapsulationKey(ek)
	if err != nil {
		return c, nil, fmt.Errorf("identity: challenge: %w", err)
	}
	answer = make([]byte, 32)
	rand.Read(answer)
	if c.Blob, c.Secret, err = tpm2.CreateCredential(rand.Reader, key, object, answer); err != nil {
		return c, nil, fmt.Errorf("identity: challenge: %w", err)
	}
	return c, answer, nil
}

// Proved compares the answer to a challenge.
func Proved(got, want []byte) error {
	if subtle.ConstantTimeCompare(got, want) != 1 {
		return fmt.Errorf("identity: %w", ErrCredential)
	}
	return nil
}

// Activate answers a challenge (TPM2_ActivateCredential). It answers the attacker who
// shows the certificate of a good TPM and quotes with another. To prove the attestation
// key pass it; to prove the salt key, so that no interposer has put in his own while the
// board was provisioned, pass the storage primary.
func Activate(t *tpm.TPM, object tpm.Entity, ek tpm.Entity, endorsement []byte, c Challenge) ([]byte, error) {
	fail := func(what string, err error) ([]byte, error) {
		return nil, fmt.Errorf("identity: %s: %w", what, errors.Join(ErrCredential, err))
	}
	h := tpm.Hierarchy(tpm2.TPMRHEndorsement, endorsement)
	s, err := t.NewSession(h)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	policy, err := t.NewPolicySession(h)
	if err != nil {
		return nil, err
	}
	defer policy.Close()
	_, err = tpm2.PolicySecret{AuthHandle: h.In(s.With(endorsement)), PolicySession: policy.Handle(), NonceTPM: policy.Nonce()}.Execute(t)
	if err != nil {
		return fail("TPM2_PolicySecret of the endorsement hierarchy", err)
	}
	r, err := tpm2.ActivateCredential{
		ActivateHandle: object.In(s.With(object.Auth).Out()),
		KeyHandle:      ek.In(policy.With(nil)),
		CredentialBlob: tpm2.TPM2BIDObject{Buffer: c.Blob},
		Secret:         tpm2.TPM2BEncryptedSecret{Buffer: c.Secret},
	}.Execute(t)
	if err != nil {
		return fail("TPM2_ActivateCredential", err)
	}
	return r.CertInfo.Buffer, nil
}

// A Quote is what the TPM says of its PCRs, signed by the attestation key.
type Quote struct {
	Attest    []byte // TPMS_ATTEST
	Signature []byte // TPMT_SIGNATURE
}

// MaxNonce is the longest nonce that goes into a quote, in bytes (TPM2B_DATA with room
// for a SHA-512, part 2, 10.4.3).
const MaxNonce = 64

// NewQuote has the attestation key quote PCRs with the caller's nonce. That it is of this
// boot's TPM the session shows, which no reset survives. (The counts of resets in it are
// no help: for a key that is not the endorsement hierarchy's the TPM adds a secret number
// to them, the same each time; part 1, 36.7.)
func NewQuote(t *tpm.TPM, s *tpm.Session, ak tpm.Entity, nonce []byte, pcrs ...uint) (*Quote, error) {
	if len(nonce) == 0 || len(nonce) > MaxNonce {
		return nil, fmt.Errorf("identity: quote: nonce of %d bytes: give 1 to %d", len(nonce), MaxNonce)
	}
	r, err := tpm2.Quote{
		SignHandle: ak.In(s.With(ak.Auth)), QualifyingData: tpm2.TPM2BData{Buffer: nonce}, PCRSelect: tpm.PCRSelection(pcrs...),
	}.Execute(t)
	if err != nil {
		return nil, fmt.Errorf("identity: TPM2_Quote: %w", err)
	}
	attest, err := r.Quoted.Contents()
	if err != nil {
		return nil, fmt.Errorf("identity: TPM2_Quote: %w", errors.Join(tpm.ErrAnswer, err))
	}
	if attest.Magic != tpm2.TPMGeneratedValue || attest.Type != tpm2.TPMSTAttestQuote || subtle.ConstantTimeCompare(attest.ExtraData.Buffer, nonce) != 1 {
		return nil, fmt.Errorf("identity: TPM2_Quote: type %#x: %w", attest.Type, ErrQuote)
	}
	return &Quote{r.Quoted.Bytes(), tpm2.Marshal(r.Signature)}, nil
}

// BootPCR binds the keys of one boot (eventlog.Identity).
const BootPCR = 8

// ecdsaSignature makes a TPMT_SIGNATURE of what crypto/ecdsa gives.
func ecdsaSignature(der []byte) (tpm2.TPMTSignature, error) {
	var sig struct{ R, S *big.Int }
	if rest, err := asn1.Unmarshal(der, &sig); err != nil || len(rest) > 0 {
		return tpm2.TPMTSignature{}, fmt.Errorf("ECDSA signature of %d bytes is malformed: %w", len(der), errors.Join(err, ErrOwner))
	}
	return tpm2.TPMTSignature{SigAlg: tpm2.TPMAlgECDSA, Signature: tpm2.NewTPMUSignature(tpm2.TPMAlgECDSA, &tpm2.TPMSSignatureECC{
		Hash:       tpm2.TPMAlgSHA256,
		SignatureR: tpm2.TPM2BECCParameter{Buffer: sig.R.Bytes()},
		SignatureS: tpm2.TPM2BECCParameter{Buffer: sig.S.Bytes()},
	})}, nil
}

// PublicKey is the ECDSA key of a public area that the TPM gave, which must have the name
// that it should have.
func PublicKey(public *tpm2.TPMTPublic, name []byte) (*ecdsa.PublicKey, error) {
	got, err := tpm2.ObjectName(public)
	if err != nil {
		return nil, fmt.Errorf("identity: %w", err)
	}
	if subtle.ConstantTimeCompare(got.Buffer, name) != 1 {
		return nil, fmt.Errorf("identity: the key's name is %x, not %x: %w", got.Buffer, name, tpm.ErrName)
	}
	key, err := tpm2.Pub(*public)
	if err != nil {
		return nil, fmt.Errorf("identity: %w", err)
	}
	ec, ok := key.(*ecdsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("identity: a %T, not an ECDSA key: %w", key, tpm.ErrName)
	}
	return ec, nil
}

// verifyOnly is the owner's public key as the TPM takes it.
func verifyOnly(owner *ecdsa.PublicKey) (*tpm2.TPMTPublic, error) {
	if owner == nil || owner.Curve != elliptic.P256() {
		return nil, fmt.Errorf("identity: the owner's key is not P-256: %w", ErrOwner)
	}
	point, err := owner.Bytes()
	if err != nil {
		return nil, fmt.Errorf("identity: the owner's key: %w", errors.Join(ErrOwner, err))
	}
	return &tpm2.TPMTPublic{
		Type: tpm2.TPMAlgECC, NameAlg: tpm2.TPMAlgSHA256,
		ObjectAttributes: tpm2.TPMAObject{UserWithAuth: true, SignEncrypt: true},
		Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{
			Scheme: tpm2.TPMTECCScheme{
				Scheme:  tpm2.TPMAlgECDSA,
				Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgECDSA, &tpm2.TPMSSigSchemeECDSA{HashAlg: tpm2.TPMAlgSHA256}),
			},
			CurveID: tpm2.TPMECCNistP256,
		}),
		Unique: tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{
			X: tpm2.TPM2BECCParameter{Buffer: point[1:33]}, Y: tpm2.TPM2BECCParameter{Buffer: point[33:]},
		}),
	}, nil
}
