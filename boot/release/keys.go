package release

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/big"
	"slices"
	"strings"
	"time"

	"filippo.io/mldsa"

	"nitro/boot/config"
	"nitro/boot/image"
	"nitro/boot/medium"
)

// A Name is that of one key. It is also the name of the key's file.
type Name string

// The keys. Each may be in other custody; both of an authority are needed to sign.
const (
	ReleaseEd25519       Name = "release-ed25519"
	ReleaseMLDSA65       Name = "release-mldsa65"
	ConfigurationEd25519 Name = "configuration-ed25519"
	ConfigurationMLDSA65 Name = "configuration-mldsa65"
	SealingP384          Name = "sealing-p384"    // approves the first secret's policy, and the canary's
	SealingRSA3072       Name = "sealing-rsa3072" // approves the second secret's policy
	Owner                Name = "owner"           // signs tickets, approves the board part
	Factory              Name = "factory"         // provisions boards
)

// An algorithm makes keys and knows them.
type algorithm struct {
	name     string
	generate func() (crypto.Signer, error)
	is       func(crypto.PublicKey) bool
}

func ecdsaOn(c elliptic.Curve) algorithm {
	return algorithm{"ECDSA " + c.Params().Name,
		func() (crypto.Signer, error) { return ecdsa.GenerateKey(c, rand.Reader) },
		func(p crypto.PublicKey) bool {
			k, ok := p.(*ecdsa.PublicKey)
			return ok && k.Curve == c
		}}
}

// rsaBits is the length of the RSA key (docs/attestation.md, "Sealing").
const rsaBits = 3072

var (
	ed25519Keys = algorithm{"Ed25519",
		func() (crypto.Signer, error) { _, k, err := ed25519.GenerateKey(rand.Reader); return k, err },
		func(p crypto.PublicKey) bool { _, ok := p.(ed25519.PublicKey); return ok }}
	mldsaKeys = algorithm{"ML-DSA-65",
		func() (crypto.Signer, error) { return mldsa.GenerateKey(mldsa.MLDSA65()) },
		func(p crypto.PublicKey) bool {
			k, ok := p.(*mldsa.PublicKey)
			return ok && k.Parameters() == mldsa.MLDSA65()
		}}
	rsaKeys = algorithm{"RSA-3072",
		func() (crypto.Signer, error) { return rsa.GenerateKey(rand.Reader, rsaBits) },
		func(p crypto.PublicKey) bool {
			k, ok := p.(*rsa.PublicKey)
			return ok && k.N.BitLen() == rsaBits && k.E == 65537
		}}
)

var algorithms = map[Name]algorithm{
	ReleaseEd25519: ed25519Keys, ReleaseMLDSA65: mldsaKeys,
	ConfigurationEd25519: ed25519Keys, ConfigurationMLDSA65: mldsaKeys,
	SealingP384: ecdsaOn(elliptic.P384()), SealingRSA3072: rsaKeys,
	Owner: ecdsaOn(elliptic.P256()), Factory: ecdsaOn(elliptic.P256()),
}

// Names lists all keys, in the order of the constants.
func Names() []Name {
	return []Name{ReleaseEd25519, ReleaseMLDSA65, ConfigurationEd25519, ConfigurationMLDSA65, SealingP384, SealingRSA3072, Owner, Factory}
}

// Algorithm says of what kind the key is: "ML-DSA-65".
func (n Name) Algorithm() string { return algorithms[n].name }

// Keys are those that are at hand. Who signs a release need not have the key that signs
// configurations, or more of that than its public half. Printed it gives names alone.
type Keys struct {
	private map[Name]crypto.Signer
	public  map[Name]crypto.PublicKey // of the private ones too

	certificate *x509.Certificate // the factory's

	// Development marks keys that developers know: all that they sign is marked so, and
	// runs on development boards alone.
	development bool
}

func newKeys(development bool) *Keys {
	return &Keys{private: map[Name]crypto.Signer{}, public: map[Name]crypto.PublicKey{}, development: development}
}

// NewKeys makes new production keys, of these names or of all.
func NewKeys(names ...Name) (*Keys, error) { return generate(false, names) }

// DevelopmentKeys makes all keys anew, marked as development keys: what they sign runs on
// development boards alone, and such a board is one for ever.
func DevelopmentKeys() (*Keys, error) { return generate(true, nil) }

func generate(development bool, names []Name) (*Keys, error) {
	if len(names) == 0 {
		names = Names()
	}
	k := newKeys(development)
	for _, n := range names {
		a, ok := algorithms[n]
		if !ok {
			return nil, fmt.Errorf("release: no key is called %q: there are %v", n, Names())
		}
		s, err := a.generate()
		if err == nil {
			err = k.Add(n, s)
		}
		if err != nil {
			return nil, fmt.Errorf("release: key %s: %w", n, err)
		}
	}
	if slices.Contains(names, Factory) {
		return k, k.certify()
	}
	return k, nil
}

// certify makes the factory's certificate: self-signed, for a TLS client, with no limit in
// time, since a board that is being provisioned does not know the time (RFC 5280, 4.1.2.5,
// has 9999 for "no well-defined expiration date").
func (k *Keys) certify() error {
	der, err := x509.MarshalPKIXPublicKey(k.public[Factory])
	if err != nil {
		return fmt.Errorf("release: factory: %w", err)
	}
	id := sha256.Sum256(der)
	name := "nitro factory"
	if k.development {
		name = "nitro development factory"
	}
	t := &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes(id[:16]),
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    time.Unix(0, 0), NotAfter: time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
	}
	if der, err = x509.CreateCertificate(rand.Reader, t, t, k.public[Factory], k.private[Factory]); err == nil {
		k.certificate, err = x509.ParseCertificate(der)
	}
	if err != nil {
		return fmt.Errorf("release: factory's certificate: %w", err)
	}
	return nil
}

// Add adds a private key, which may be one behind a device. A name has one key.
func (k *Keys) Add(n Name, s crypto.Signer) error {
	if _, ok := k.private[n]; ok {
		return fmt.Errorf("release: there is a private key %s already: give one folder that has it", n)
	}
	if err := k.AddPublic(n, s.Public()); err != nil {
		return err
	}
	k.private[n] = s
	return nil
}

// AddPublic adds a public key. It must be that of the private one, if there is one.
func (k *Keys) AddPublic(n Name, p crypto.PublicKey) error {
	a, ok := algorithms[n]
	if !ok || !a.is(p) {
		return fmt.Errorf("release: key %s is a %T: it must be %s", n, p, a.name)
	}
	if old, ok := k.public[n].(interface{ Equal(crypto.PublicKey) bool }); ok && !old.Equal(p) {
		return fmt.Errorf("release: there are two different keys %s: give the folder of one", n)
	}
	k.public[n] = p
	return nil
}

// Development tells whether these are development keys.
func (k *Keys) Development() bool { return k.development }

// Private lists the names of the private keys that are at hand.
func (k *Keys) Private() []Name { return inOrder(k.private) }

// Public lists the names of the keys of which the public half is at hand.
func (k *Keys) Public() []Name { return inOrder(k.public) }

func inOrder[V any](m map[Name]V) (names []Name) {
	have := slices.Collect(maps.Keys(m))
	for _, n := range Names() {
		if slices.Contains(have, n) {
			names = append(names, n)
		}
	}
	return names
}

// PublicKey gives a public key; nil if it is not at hand.
func (k *Keys) PublicKey(n Name) crypto.PublicKey { return k.public[n] }

// FactoryCertificate is the factory's, or nil.
func (k *Keys) FactoryCertificate() *x509.Certificate { return k.certificate }

// Format prints names, whatever the verb: no private key reaches a log.
func (k *Keys) Format(f fmt.State, _ rune) {
	var names []string
	for _, n := range k.Private() {
		names = append(names, string(n))
	}
	fmt.Fprintf(f, "keys(%s)", strings.Join(names, " "))
}

// ErrKeyMissing: a key that is needed is not at hand.
var ErrKeyMissing = errors.New("the key is not at hand: name the folder that has it")

// Signer gives a private key that signs the same thing in the same way each time, where
// its algorithm can: releases are then reproducible by who has the keys. ECDSA takes its
// nonce from key and message (RFC 6979), ML-DSA-65 is the deterministic variant (FIPS 204,
// 3.4); the others are so by nature. Keys behind a device sign as that does.
func (k *Keys) Signer(n Name) (crypto.Signer, error) {
	s, ok := k.private[n]
	if !ok {
		return nil, fmt.Errorf("release: private key %s: %w", n, ErrKeyMissing)
	}
	switch s := s.(type) {
	case *ecdsa.PrivateKey:
		return reproducibleECDSA{s}, nil
	case *mldsa.PrivateKey:
		return reproducibleMLDSA{s}, nil
	}
	return s, nil
}

type reproducibleECDSA struct{ *ecdsa.PrivateKey }

func (s reproducibleECDSA) Sign(_ io.Reader, digest []byte, o crypto.SignerOpts) ([]byte, error) {
	return s.PrivateKey.Sign(nil, digest, o)
}

type reproducibleMLDSA struct{ *mldsa.PrivateKey }

func (s reproducibleMLDSA) Sign(_ io.Reader, message []byte, o crypto.SignerOpts) ([]byte, error) {
	return s.SignDeterministic(message, o)
}

// authorityKeys are the names of an authority's two keys.
func authorityKeys(p image.Purpose) (ed25519Key, mldsa65Key Name) {
	if p == image.Release {
		return ReleaseEd25519, ReleaseMLDSA65
	}
	return ConfigurationEd25519, ConfigurationMLDSA65
}

// ImageSigner gives an authority's pair of private keys.
func (k *Keys) ImageSigner(p image.Purpose) (image.Signer, error) {
	one, two := authorityKeys(p)
	e, err := k.Signer(one)
	if err != nil {
		return image.Signer{}, err
	}
	m, err := k.Signer(two)
	return image.Signer{Purpose: p, Ed25519: e, MLDSA65: m}, err
}

// Authority gives an authority's public half.
func (k *Keys) Authority(p image.Purpose) (image.Authority, error) {
	one, two := authorityKeys(p)
	e, err := public[ed25519.PublicKey](k, one)
	if err != nil {
		return image.Authority{}, err
	}
	m, err := public[*mldsa.PublicKey](k, two)
	if err != nil {
		return image.Authority{}, err
	}
	a := image.Authority{Purpose: p}
	copy(a.Ed25519[:], e)
	copy(a.MLDSA65[:], m.Bytes())
	return a, a.Check()
}

// public gives a public key that must be at hand. AddPublic had it of the right type.
func public[K crypto.PublicKey](k *Keys, n Name) (key K, err error) {
	key, ok := k.public[n].(K)
	if !ok {
		return key, fmt.Errorf("release: public key %s: %w", n, ErrKeyMissing)
	}
	return key, nil
}

// Anchors makes the anchor block of boards that trust these keys: one release and one
// configuration authority.
func (k *Keys) Anchors() (*medium.Anchors, error) {
	a := &medium.Anchors{Development: k.development}
	for _, p := range []image.Purpose{image.Release, image.Configure} {
		one, err := k.Authority(p)
		if err != nil {
			return nil, err
		}
		a.Authorities = append(a.Authorities, one)
	}
	return a, nil
}

// Config makes the configuration of a product that trusts these keys and nobody else:
// without CAs of operators, which the caller may add. It takes public keys alone.
func (k *Keys) Config(product string, epoch uint64) (*config.Config, error) {
	r, err := k.Authority(image.Release)
	if err != nil {
		return nil, err
	}
	p, err := public[*ecdsa.PublicKey](k, SealingP384)
	if err != nil {
		return nil, err
	}
	q, err := public[*rsa.PublicKey](k, SealingRSA3072)
	if err != nil {
		return nil, err
	}
	o, err := public[*ecdsa.PublicKey](k, Owner)
	if err != nil {
		return nil, err
	}
	return &config.Config{Epoch: epoch, Product: product, Development: k.development,
		Release: []image.Authority{r}, P384: []*ecdsa.PublicKey{p}, RSA3072: []*rsa.PublicKey{q},
		Owner: o, Factory: k.certificate}, nil
}

// SignConfig signs a configuration: the image that a card holds.
func (k *Keys) SignConfig(c *config.Config, built uint64) ([]byte, error) {
	s, err := k.ImageSigner(image.Configure)
	if err != nil {
		return nil, err
	}
	if k.development && !c.Development {
		return nil, errors.New("release: development keys sign only a configuration that says development: true")
	}
	return config.Sign(c, built, s)
}
