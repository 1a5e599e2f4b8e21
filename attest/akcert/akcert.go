// Package akcert is the certificate of a board's attestation key: what the factory or the
// owner issues at provisioning, once TPM2_ActivateCredential has shown that the key lies
// in the TPM of a verified endorsement key, and what a verifier of evidence makes of it.
// docs/attestation.md, "The attestation key's certificate", has the fields.
//
// It follows RFC 5280, and TCG, TPM 2.0 Keys for Device Identity and Attestation 1.0,
// section 8, with the permanent identifiers of RFC 4043. Left out are hardwareModuleName,
// whose parts the digest of the EK certificate stands for, and revocation lists.
//
// The firmware carries a certificate as bytes and needs nothing of this package.
package akcert

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/go-tpm/tpm2"

	"nitro/attest/identity"
)

// Errors.
var (
	// ErrKey: a key is not of the kind that it has to be.
	ErrKey = errors.New("the key is not of the kind that it should be")
	// ErrCertificate: a certificate does not vouch for this key.
	ErrCertificate = errors.New("the certificate does not vouch for this attestation key: ask its issuer for one")
)

// Object identifiers.
var (
	oidSubjectAltName      = asn1.ObjectIdentifier{2, 5, 29, 17}              // RFC 5280, 4.2.1.6
	oidPermanentIdentifier = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 8, 3} // RFC 4043, 2: id-on-permanentIdentifier
	oidEKCertificateDigest = asn1.ObjectIdentifier{2, 23, 133, 12, 1}         // tcg-on-ekPermIdSha256
	oidAIKCertificate      = asn1.ObjectIdentifier{2, 23, 133, 8, 3}          // tcg-kp-AIKCertificate
)

// policies say what the issuer has verified: tcg-cap-verifiedTPMResidency,
// tcg-cap-verifiedTPMFixed, tcg-cap-verifiedTPMRestricted.
var policies = [][]uint64{{2, 23, 133, 11, 1, 1}, {2, 23, 133, 11, 1, 2}, {2, 23, 133, 11, 1, 3}}

// Forever is the end of a validity that has none (RFC 5280, 4.1.2.5).
var Forever = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)

// CheckKey gives the public key of an attestation key, if it is one: with all of the
// template's properties (identity.AKTemplate), so that it signs nothing but what its TPM
// says. public is a TPMT_PUBLIC; name is its TPM name (TPM 2.0 Library, part 1, 16).
func CheckKey(public []byte) (key *ecdsa.PublicKey, name []byte, err error) {
	// What is not the point is the same in all, so nothing else is ever parsed.
	template := identity.AKTemplate()
	fixed := tpm2.Marshal(template)
	fixed = fixed[:len(fixed)-4] // two empty coordinates
	if !bytes.HasPrefix(public, fixed) {
		return nil, nil, fmt.Errorf("akcert: attestation key: not a restricted P-256 key of the template: %w", ErrKey)
	}
	point := public[len(fixed):]
	const n = 32 // coordinates are padded to the curve's size (part 1, C.8)
	if len(point) != 2*(2+n) || !bytes.Equal(point[:2], []byte{0, n}) || !bytes.Equal(point[2+n:4+n], []byte{0, n}) {
		return nil, nil, fmt.Errorf("akcert: attestation key: a point of %d bytes, not twice %d: %w", len(point), n, ErrKey)
	}
	key, err = ecdsa.ParseUncompressedPublicKey(elliptic.P256(), slices.Concat([]byte{4}, point[2:2+n], point[4+n:]))
	if err != nil {
		return nil, nil, fmt.Errorf("akcert: attestation key: %w", errors.Join(ErrKey, err))
	}
	digest := sha256.Sum256(public)
	return key, append([]byte{0, 0x0b}, digest[:]...), nil // TPM_ALG_SHA256
}

// A Request is what a certificate is issued for. The issuer has verified the EK
// certificate (identity.VerifyEK) and that both keys lie in one TPM (identity.NewChallenge).
type Request struct {
	AK            []byte // TPMT_PUBLIC
	EKCertificate []byte // DER, the EK's own
	Product       string
	UniqueID      uint64 // of the SoC

	NotBefore, NotAfter time.Time // NotAfter may be Forever
}

// New issues a certificate (DER) with the key of issuer, which is a CA's certificate of
// an ECDSA P-256 key. The serial number is random.
func New(r Request, issuer *x509.Certificate, key *ecdsa.PrivateKey) ([]byte, error) {
	public, name, err := CheckKey(r.AK)
	if err != nil {
		return nil, err
	}
	if key.Curve != elliptic.P256() || !key.PublicKey.Equal(issuer.PublicKey) || !issuer.IsCA {
		return nil, fmt.Errorf("akcert: issuer %q: not a CA with this P-256 key: %w", issuer.Subject, ErrKey)
	}
	if _, err := x509.ParseCertificate(r.EKCertificate); err != nil {
		return nil, fmt.Errorf("akcert: EK certificate: %w", err)
	}
	san, err := marshalNames(names{EK: sha256.Sum256(r.EKCertificate), AK: name})
	if err != nil {
		return nil, fmt.Errorf("akcert: %w", err)
	}
	template := &x509.Certificate{
		Subject:            pkix.Name{CommonName: r.Product, SerialNumber: fmt.Sprintf("%016x", r.UniqueID)},
		NotBefore:          r.NotBefore,
		NotAfter:           r.NotAfter,
		KeyUsage:           x509.KeyUsageDigitalSignature,
		UnknownExtKeyUsage: []asn1.ObjectIdentifier{oidAIKCertificate},
		// Not critical, as the subject is not empty (RFC 5280, 4.2.1.6).
		ExtraExtensions:       []pkix.Extension{{Id: oidSubjectAltName, Value: san}},
		BasicConstraintsValid: true,
	}
	for _, p := range policies {
		oid, err := x509.OIDFromInts(p)
		if err != nil {
			return nil, fmt.Errorf("akcert: %w", err)
		}
		template.Policies = append(template.Policies, oid)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, issuer, public, key)
	if err != nil {
		return nil, fmt.Errorf("akcert: %w", err)
	}
	return der, nil
}

// A Verified is what a certificate says of its key.
type Verified struct {
	Product  string
	UniqueID string            // 16 hexadecimal digits
	EK       [sha256.Size]byte // SHA-256 of the EK certificate
}

// Verify verifies that an issuer vouches for this attestation key, by its public key and
// by its TPM name, at a time; the zero time is now.
func Verify(der []byte, key *ecdsa.PublicKey, name []byte, issuers *x509.CertPool, at time.Time) (v Verified, err error) {
	fail := func(err error) (Verified, error) {
		return Verified{}, fmt.Errorf("akcert: %w", errors.Join(ErrCertificate, err))
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return fail(err)
	}
	if !key.Equal(c.PublicKey) {
		return fail(errors.New("it is for another key"))
	}
	// crypto/x509 knows no constant for this usage, so it is looked for here.
	_, err = c.Verify(x509.VerifyOptions{Roots: issuers, Intermediates: x509.NewCertPool(), CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	if err != nil {
		return fail(err)
	}
	if c.IsCA || c.KeyUsage != x509.KeyUsageDigitalSignature || !slices.ContainsFunc(c.UnknownExtKeyUsage, oidAIKCertificate.Equal) {
		return fail(errors.New("it is no attestation key's: usage tcg-kp-AIKCertificate and digitalSignature, no CA"))
	}
	i := slices.IndexFunc(c.Extensions, func(e pkix.Extension) bool { return e.Id.Equal(oidSubjectAltName) })
	if i < 0 {
		return fail(errors.New("it has no permanent identifiers"))
	}
	n, err := parseNames(c.Extensions[i].Value)
	if err != nil {
		return fail(err)
	}
	if !bytes.Equal(n.AK, name) {
		return fail(fmt.Errorf("it is for the TPM name %x", n.AK))
	}
	return Verified{c.Subject.CommonName, c.Subject.SerialNumber, n.EK}, nil
}

// names are the two permanent identifiers.
type names struct {
	EK [sha256.Size]byte // of the EK certificate
	AK []byte            // TPM name
}

// permanentIdentifier is that of RFC 4043, 2.
type permanentIdentifier struct {
	Value    string                `asn1:"utf8"`
	Assigner asn1.ObjectIdentifier `asn1:"optional"`
}

// otherName is that of RFC 5280, 4.2.1.6: [0] of a GeneralName.
type otherName struct {
	Type  asn1.ObjectIdentifier
	Value permanentIdentifier `asn1:"tag:0,explicit"`
}

// marshalNames makes the GeneralNames.
func marshalNames(n names) ([]byte, error) {
	var all []asn1.RawValue
	for _, p := range []permanentIdentifier{{hex.EncodeToString(n.EK[:]), oidEKCertificateDigest}, {Value: hex.EncodeToString(n.AK)}} {
		der, err := asn1.MarshalWithParams(otherName{oidPermanentIdentifier, p}, "tag:0")
		if err != nil {
			return nil, err
		}
		all = append(all, asn1.RawValue{FullBytes: der})
	}
	return asn1.Marshal(all)
}

// parseNames reads what marshalNames makes, and nothing else.
func parseNames(der []byte) (n names, err error) {
	bad := errors.New("its permanent identifiers are not those of an EK certificate and an attestation key")
	var all []asn1.RawValue
	if rest, err := asn1.Unmarshal(der, &all); err != nil || len(rest) > 0 || len(all) != 2 {
		return names{}, bad
	}
	var values [2][]byte
	for i, raw := range all {
		var o otherName
		rest, err := asn1.UnmarshalWithParams(raw.FullBytes, &o, "tag:0")
		if err != nil || len(rest) > 0 || !o.Type.Equal(oidPermanentIdentifier) || (i == 0) != o.Value.Assigner.Equal(oidEKCertificateDigest) || len(o.Value.Value) > 2*(2+sha256.Size) {
			return names{}, bad
		}
		if values[i], err = hex.DecodeString(o.Value.Value); err != nil {
			return names{}, bad
		}
	}
	if len(values[0]) != sha256.Size {
		return names{}, bad
	}
	n = names{EK: [sha256.Size]byte(values[0]), AK: values[1]}
	if again, err := marshalNames(n); err != nil || !bytes.Equal(again, der) {
		return names{}, bad
	}
	return n, nil
}
