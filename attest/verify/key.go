package verify

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	"github.com/google/go-tpm/tpm2"

	"nitro/attest/akcert"
	"nitro/attest/evidence"
	"nitro/attest/golden"
	"nitro/attest/identity"
)

func (v *verification) format() (string, error) {
	e, err := evidence.Decode(v.text)
	if err != nil {
		return "", err
	}
	v.evidence = e
	return fmt.Sprintf("%d bytes", len(v.text)), nil
}

// attestationKey answers a key that would sign a quote of the attacker's making.
func (v *verification) attestationKey() (string, error) {
	key, name, err := akcert.CheckKey(v.evidence.AKPublic)
	if err != nil {
		return "", err
	}
	if !bytes.Equal(name, v.evidence.AKName) {
		return "", differ("the name is not that of the public area", hex.EncodeToString(name), hex.EncodeToString(v.evidence.AKName))
	}
	v.key = key
	return hex.EncodeToString(name), nil
}

// keyCertificate answers a key of another TPM, or of none, and a TPM that was moved to
// another board.
func (v *verification) keyCertificate() (string, error) {
	if v.evidence.AKCertificate == nil {
		return "", errors.New("the board has no certificate of its attestation key: have its owner issue one")
	}
	c, err := akcert.Verify(v.evidence.AKCertificate, v.key, v.evidence.AKName, v.policy.Issuers, v.policy.At)
	if err != nil {
		return "", err
	}
	e, err := v.only("board")
	if err != nil {
		return "", err
	}
	if product, id := e.Value("product"), e.Value("unique-id"); c.Product != product || c.UniqueID != id {
		return "", differ("the certificate is for another board", fmt.Sprintf("%q number %q", c.Product, c.UniqueID), fmt.Sprintf("%q number %q", product, id))
	}
	v.certificate = &c
	return fmt.Sprintf("%s number %s", c.Product, c.UniqueID), nil
}

func (v *verification) knownKey() (string, error) {
	if !slices.ContainsFunc(v.policy.Names, func(n []byte) bool { return bytes.Equal(n, v.evidence.AKName) }) {
		return "", differ("the attestation key is not among those that the policy knows", fmt.Sprintf("one of %d names", len(v.policy.Names)), hex.EncodeToString(v.evidence.AKName))
	}
	return "", nil
}

// boardPart answers another board in the place of this one, and this board's TPM moved to
// another.
func (v *verification) boardPart() (string, error) {
	b, e := v.policy.Board, v.evidence
	if !bytes.Equal(b.AKName, e.AKName) {
		return "", differ("the attestation key is another board's", hex.EncodeToString(b.AKName), hex.EncodeToString(e.AKName))
	}
	if want := qualified(b.StorageName, e.AKName); !bytes.Equal(want, v.attest.QualifiedSigner.Buffer) {
		return "", differ("the key above the attestation key is not the board's storage primary", hex.EncodeToString(want), hex.EncodeToString(v.attest.QualifiedSigner.Buffer))
	}
	if b.Development != e.Development {
		return "", differ("development is not as it was provisioned", b.Development, e.Development)
	}
	if err := b.Compare(v.log); err != nil {
		return "", mismatch(err)
	}
	v.named = true
	return "", nil
}

// qualified is the qualified name of a child of the storage primary, which is one of the
// owner's hierarchy (TPM 2.0 Library, part 1, 16 and 26.5).
func qualified(storage, child []byte) []byte {
	name := []byte{0x40, 0, 0, 1} // of TPM_RH_OWNER: its handle
	for _, n := range [][]byte{storage, child} {
		digest := sha256.Sum256(append(slices.Clone(name), n...))
		name = append([]byte{0, 0x0b}, digest[:]...) // TPM_ALG_SHA256
	}
	return name
}

// endorsement answers a TPM that is none. The chain by itself says nothing of the
// attestation key: its certificate or the board part has to name the EK.
func (v *verification) endorsement() (string, error) {
	chain := v.evidence.EKCertificates
	if len(chain) == 0 {
		return "", errors.New("the evidence has no certificate of the endorsement key")
	}
	ek, name, err := v.endorsementKey(chain)
	if err != nil {
		return "", err
	}
	digest := sha256.Sum256(ek.Raw)
	switch {
	case v.certificate != nil && v.certificate.EK != digest:
		return "", differ("the attestation key's certificate is for another EK certificate", hex.EncodeToString(v.certificate.EK[:]), hex.EncodeToString(digest[:]))
	case v.named && !bytes.Equal(v.policy.Board.EKName, name):
		return "", differ("the endorsement key is another board's", hex.EncodeToString(v.policy.Board.EKName), hex.EncodeToString(name))
	}
	return hex.EncodeToString(name), nil
}

// endorsementKey verifies a chain, in which each certificate is signed by the next, and
// gives the first, with its key's TPM name.
func (v *verification) endorsementKey(chain [][]byte) (*x509.Certificate, []byte, error) {
	var above []*x509.Certificate
	pool := x509.NewCertPool()
	for i, der := range chain {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, nil, fmt.Errorf("certificate %d of the endorsement key's: %w", i+1, err)
		}
		if i > 0 {
			if err := above[i-1].CheckSignatureFrom(c); err != nil {
				return nil, nil, fmt.Errorf("certificate %d of the endorsement key's is not by the next one's key: %w", i, err)
			}
			pool.AddCert(c)
		}
		above = append(above, c)
	}
	key, ok := above[0].PublicKey.(*rsa.PublicKey)
	if !ok || key.N.BitLen() != 2048 || key.E != 65537 {
		return nil, nil, errors.New("the endorsement key is not RSA-2048 with exponent 65,537")
	}
	public := identity.EKTemplate
	public.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgRSA, &tpm2.TPM2BPublicKeyRSA{Buffer: key.N.Bytes()})
	c, err := identity.VerifyEK(chain[0], &public, v.policy.Makers, pool, v.policy.At)
	if err != nil {
		return nil, nil, err
	}
	name, err := tpm2.ObjectName(&public)
	if err != nil {
		return nil, nil, err
	}
	return c, name.Buffer, nil
}

// signature answers a quote that no TPM made.
func (v *verification) signature() (string, error) {
	r, s, err := golden.ECDSASignature(v.evidence.Signature)
	if err != nil {
		return "", err
	}
	digest := sha256.Sum256(v.evidence.Quote)
	if !ecdsa.Verify(v.key, digest[:], r, s) {
		return "", errors.New("it is not of the attestation key over this quote")
	}
	return "", nil
}
