package factory

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"nitro/boot/image"
	"nitro/net/policy"
)

// Owner is the trust domain of the rack's clients: docs/policy.md, "Who asks".
const Owner = "rack.example"

// clientValidity is that of the rack's CA and clients: it has to outlast a folder that is
// used for long.
const clientValidity = 10 * 365 * 24 * time.Hour

// Clients are those of the API of the rack's boards: a CA, and for each role a certificate
// of it.
type Clients struct {
	CA  *x509.Certificate
	key *ecdsa.PrivateKey
}

// NewClients makes a CA.
func NewClients() (*Clients, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("factory: %w", err)
	}
	c := &Clients{key: key}
	c.CA, err = c.issue(&x509.Certificate{
		Subject: pkix.Name{CommonName: "operators of " + Owner}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}, key)
	return c, err
}

// issue issues a certificate; the CA's own it signs itself.
func (c *Clients) issue(template *x509.Certificate, key *ecdsa.PrivateKey) (*x509.Certificate, error) {
	serial := make([]byte, 16)
	rand.Read(serial)
	template.SerialNumber = new(big.Int).SetBytes(serial)
	if template.NotAfter.IsZero() {
		template.NotBefore = time.Now().Add(-24 * time.Hour) // boards' clocks may be behind
		template.NotAfter = time.Now().Add(clientValidity)
	}
	parent := c.CA
	if parent == nil {
		parent = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), c.key)
	if err != nil {
		return nil, fmt.Errorf("factory: %w", err)
	}
	return x509.ParseCertificate(der)
}

// Certificate makes a client's key and certificate.
func (c *Clients) Certificate(role policy.Role, name string) (tls.Certificate, error) {
	return c.Changed(role, name, func(*x509.Certificate) {})
}

// Changed is Certificate, of which change changes something: boards have to refuse most of
// those.
func (c *Clients) Changed(role policy.Role, name string, change func(*x509.Certificate)) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("factory: %w", err)
	}
	uri, err := url.Parse(policy.Principal{Owner: Owner, Role: role, Name: name}.String())
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("factory: %w", err)
	}
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, URIs: []*url.URL{uri}, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	change(template)
	cert, err := c.issue(template, key)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key, Leaf: cert}, nil
}

// Server certifies a board's key, as it asks for.
func (c *Clients) Server(csr *x509.CertificateRequest) (*x509.Certificate, error) {
	serial := make([]byte, 16)
	rand.Read(serial)
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes(serial), Subject: csr.Subject, DNSNames: csr.DNSNames, IPAddresses: csr.IPAddresses,
		NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: time.Now().Add(clientValidity),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, c.CA, csr.PublicKey, c.key)
	if err != nil {
		return nil, fmt.Errorf("factory: %w", err)
	}
	return x509.ParseCertificate(der)
}

// Issuer says in a policy set that the CA may make clients of all roles.
func (c *Clients) Issuer() policy.Issuer {
	return policy.Issuer{Owner: Owner, CA: sha256.Sum256(c.CA.RawSubjectPublicKeyInfo), Roles: policy.Roles}
}

// Policy signs the boards' policy set: the default one, but for what change does.
func (f *Factory) Policy(epoch uint64, change func(*policy.Payload)) ([]byte, error) {
	p := &policy.Payload{Epoch: epoch, Product: Product, Development: true, Issuers: []policy.Issuer{f.Clients.Issuer()}, Policies: policy.Default}
	if change != nil {
		change(p)
	}
	signer, err := f.Keys.ImageSigner(image.Configure)
	if err != nil {
		return nil, fmt.Errorf("factory: %w", err)
	}
	return policy.Sign(p, 0, signer)
}

// OpenClients are those whose CA, and for each role key and certificate, are kept in a
// folder in PEM: ca.pem, ca.key, <role>.pem, <role>.key. They are made if the folder is not
// there.
func OpenClients(folder string) (*Clients, error) {
	switch _, err := os.Stat(folder); {
	case errors.Is(err, fs.ErrNotExist):
		c, err := NewClients()
		if err != nil {
			return nil, err
		}
		return c, c.save(folder)
	case err != nil:
		return nil, fmt.Errorf("factory: %w", err)
	}
	pair, err := tls.LoadX509KeyPair(filepath.Join(folder, "ca.pem"), filepath.Join(folder, "ca.key"))
	if err != nil {
		return nil, fmt.Errorf("factory: %s: %w: remove the folder to have another CA made", folder, err)
	}
	key, ok := pair.PrivateKey.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("factory: %s: the CA's key is a %T, not ECDSA", folder, pair.PrivateKey)
	}
	return &Clients{pair.Leaf, key}, nil
}

// save writes a new folder, whole or not at all.
func (c *Clients) save(folder string) error {
	next := folder + ".new"
	if err := errors.Join(os.RemoveAll(next), os.MkdirAll(next, 0o700)); err != nil {
		return fmt.Errorf("factory: %w", err)
	}
	if err := savePair(next, "ca", tls.Certificate{Certificate: [][]byte{c.CA.Raw}, PrivateKey: c.key}); err != nil {
		return err
	}
	for _, role := range policy.Roles {
		pair, err := c.Certificate(role, "rack")
		if err != nil {
			return err
		}
		if err := savePair(next, string(role), pair); err != nil {
			return err
		}
	}
	return os.Rename(next, folder)
}

func savePair(folder, name string, pair tls.Certificate) error {
	der, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		return fmt.Errorf("factory: %w", err)
	}
	for file, block := range map[string]*pem.Block{
		name + ".pem": {Type: "CERTIFICATE", Bytes: pair.Certificate[0]},
		name + ".key": {Type: "PRIVATE KEY", Bytes: der},
	} {
		if err := os.WriteFile(filepath.Join(folder, file), pem.EncodeToMemory(block), 0o600); err != nil {
			return fmt.Errorf("factory: %w", err)
		}
	}
	return nil
}
