package release

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"time"
)

// Issuer is the owner as who certifies attestation keys: its certificate, which signs
// itself, and its private key. The certificate is the same each time.
func (k *Keys) Issuer() (*x509.Certificate, *ecdsa.PrivateKey, error) {
	key, ok := k.private[Owner].(*ecdsa.PrivateKey)
	if !ok {
		return nil, nil, fmt.Errorf("release: private key %s: %w", Owner, ErrKeyMissing)
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, nil, fmt.Errorf("release: owner: %w", err)
	}
	id := sha256.Sum256(der)
	name := "nitro owner"
	if k.development {
		name = "nitro development owner"
	}
	t := &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes(id[:16]),
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    time.Unix(0, 0), NotAfter: time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC), // no end: RFC 5280, 4.1.2.5
		KeyUsage: x509.KeyUsageCertSign, BasicConstraintsValid: true, IsCA: true, MaxPathLenZero: true,
	}
	der, err = x509.CreateCertificate(nil, t, t, key.Public(), reproducibleECDSA{key})
	if err != nil {
		return nil, nil, fmt.Errorf("release: owner's certificate: %w", err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, nil, fmt.Errorf("release: owner's certificate: %w", err)
	}
	return c, key, nil
}
