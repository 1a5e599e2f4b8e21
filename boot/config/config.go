// Package config is the board's configuration: who may sign releases and sealing
// policies, who owns and operates the board. docs/medium.md, "Configuration", has its
// format: strict JSON in a signed image, in two copies outside of the store, so that it
// is there before the store opens. This package decodes, validates, encodes and signs
// it, and says which copy counts.
//
// # What it answers
//
// The configuration is read before anything is unlocked, and decides what is unlocked to
// whom. So it is signed by an authority of its own purpose: a stolen release key makes no
// owner. An old one, properly signed, would bring back a key that was withdrawn, so the
// TPM keeps the highest epoch that the board has had and an older one is refused. Its
// digest is measured into PCR 3: verifiers see which one is in force.
//
// All keys and certificates are parsed here, once. A configuration that decodes has no
// key of another kind than its place demands, and none that is empty.
package config

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"io"
	"net/netip"

	"nitro/attest/seal"
	"nitro/boot/code"
	"nitro/boot/image"
	"nitro/boot/medium"
)

// Format is the version of the format.
const Format = 1

// MaxSize is the longest payload in bytes.
const MaxSize = 504 << 10

// Limits of the lists.
const (
	MaxAuthorities = 4
	MaxSealing     = 4
	MaxOperators   = 8
	MaxWitnesses   = 8
	MaxWitness     = 256 // bytes of a key's text
	MinTimeServers = 2   // where there are any: one alone could say what it likes
	MaxTimeServers = 8
	MaxName        = 253 // bytes of a collector's name: a DNS name's (RFC 1035, 2.3.4)
	MaxURL         = 256 // bytes of a key service's URL
	MaxServers     = 8   // storage servers
	MaxServerName  = 64  // bytes
	MaxNQN         = 223 // bytes (NVM Express Base 2.0, section 4.5)
)

// A Config is a valid configuration.
type Config struct {
	Epoch       uint64 // 1 or more
	Product     string
	Development bool // some key here is a development key

	// Release are 1 to 4 release authorities, in the order in which they are tried. They
	// add to those of the anchor block.
	Release []image.Authority

	// P384 and RSA3072 approve sealing policies, each the one for its secret of the two:
	// 1 to 4 keys each.
	P384    []*ecdsa.PublicKey
	RSA3072 []*rsa.PublicKey

	// Owner signs tickets and approves the board part of the known-good set: P-256.
	Owner *ecdsa.PublicKey

	// Factory may provision the board, alone; nil once nobody may any more.
	Factory *x509.Certificate

	// Operators are at most 8 CA certificates for clients of the API.
	Operators []*x509.Certificate
	// Witnesses are at most 8 keys whose cosignatures let audit records be cleared, as
	// docs/audit.md has them. They are text here: net/audit parses them.
	Witnesses []string
	// Revoked are at most 256 keys and certificates that let no client in any more.
	Revoked []Revoked
	// TimeServers are the NTP servers that are asked for the time: none, or 2 to 8 of
	// which more than half have to agree (package net/sntp).
	TimeServers []netip.AddrPort
	// Collector takes the audit records by syslog; nil where nothing does.
	Collector *Collector
	// SecurityKey tells that the store opens only with the removable security key.
	SecurityKey bool

	// Host is the host that the board guards; nil where it guards none.
	Host *Host

	// KeyService is who gives keys of volumes; nil: none, and volumes cannot be attached.
	KeyService *KeyService

	// StorageServers are at most 8, on which volumes may lie.
	StorageServers []StorageServer
}

// A StorageServer is an NVMe/TCP target on the management network, which gets ciphertext
// only.
type StorageServer struct {
	Name         string // by which volumes name it: 1 to 64 printable characters without space
	Address      netip.AddrPort
	SubsystemNQN string
}

// A KeyService is who gives keys of volumes.
type KeyService struct {
	Key *ecdsa.PublicKey // that signs grants: P-256
	// URL is where the board asks for standing leases after its own restart, and CA
	// vouches for the server there; both or none.
	URL string
	CA  *x509.Certificate
}

// A Collector is who takes the audit records: a syslog server over TLS (RFC 5425).
type Collector struct {
	Address netip.AddrPort
	Name    string            // in its certificate
	CA      *x509.Certificate // that issued it
}

// A Host is the host that a board guards.
type Host struct {
	Product string // of its board, as manifests of its firmware name it
	BMC     bool   // it has a BMC

	// Firmware are at most 4 release authorities that alone sign firmware of the host and
	// its BMC; none leaves that to those that sign releases.
	Firmware []image.Authority
}

// Authorities are those that may sign what runs: the anchor block's, then the
// configuration's.
func (c *Config) Authorities(a *medium.Anchors) []image.Authority {
	return append(append([]image.Authority(nil), a.Authorities...), c.Release...)
}

// HostAuthorities are those that may sign firmware of the host and its BMC.
func (c *Config) HostAuthorities(a *medium.Anchors) []image.Authority {
	if c.Host != nil && len(c.Host.Firmware) > 0 {
		return c.Host.Firmware
	}
	return c.Authorities(a)
}

// A Want is what the board will accept.
type Want struct {
	Product string
	Anchors *medium.Anchors
	// Epoch is the highest one that the board has had, from the TPM.
	Epoch uint64
}

// A Signed is a configuration that was verified.
type Signed struct {
	*Config
	Header image.Header // Digest is what is measured
	Copy   int          // of the two on the medium; 0 where it came from elsewhere
}

// Verify verifies and decodes a configuration: header and payload, and maybe something
// behind them. The epoch is not looked at.
func Verify(b []byte, w Want) (*Signed, error) {
	return w.read(bytes.NewReader(b), "configuration")
}

// read verifies, then decodes.
func (w Want) read(r io.Reader, where string) (*Signed, error) {
	i, err := image.Open(r, image.Want{Where: where, Component: image.Configuration, Product: w.Product,
		Development: w.Anchors.Development, Authorities: w.Anchors.Authorities})
	if err != nil {
		return nil, err
	}
	payload := make([]byte, i.Length)
	if err := i.Load(payload); err != nil {
		return nil, err
	}
	c, err := Decode(payload)
	if err != nil {
		return nil, code.ConfigurationBad.Errorf("boot: %s: %w", where, err)
	}
	if c.Product != i.Product || c.Development != i.Header.Development {
		return nil, code.ConfigurationBad.Errorf("boot: %s: product %q, development %v; its header says %q, %v",
			where, c.Product, c.Development, i.Product, i.Header.Development)
	}
	return &Signed{Config: c, Header: i.Header}, nil
}

// Read gives the configuration that counts: of the copies that are valid the one of the
// higher epoch, of equal ones the first. Each copy is read as far as its own length. One
// older than the TPM's epoch is refused, and the error says what is wrong with each copy
// where none is valid.
func Read(d medium.Device, w Want) (*Signed, error) {
	var best *Signed
	var problems [medium.Copies]error
	blank := true
	for n, place := range medium.Configurations {
		where := fmt.Sprintf("configuration, copy %d of %d", n+1, medium.Copies)
		r, err := medium.NewReader(d, place)
		if err != nil {
			return nil, code.ConfigurationBad.Errorf("boot: %s: %w", where, err)
		}
		s, err := w.read(r, where)
		if err != nil {
			problems[n] = err
			blank = blank && empty(d, place)
			continue
		}
		blank = false
		if s.Copy = n; best == nil || s.Epoch > best.Epoch {
			best = s
		}
	}
	switch {
	case blank:
		return nil, code.ConfigurationMissing.Errorf("boot: the medium has no configuration")
	case best == nil:
		return nil, code.ConfigurationBad.Errorf("boot: no copy of the configuration is valid: %w; %w", problems[0], problems[1])
	case best.Epoch < w.Epoch:
		return nil, code.ConfigurationOld.Errorf("boot: configuration has epoch %d, and the board has had %d", best.Epoch, w.Epoch)
	}
	return best, nil
}

// empty tells whether nothing was ever written to a place.
func empty(d medium.Device, p medium.Place) bool {
	b := make([]byte, image.HeaderSize)
	return medium.ReadPlace(d, p, b) == nil && bytes.Equal(b, make([]byte, len(b)))
}

// Write writes both copies of a signed configuration, which must be valid, not older than
// the TPM's epoch, and newer than what is there, or the same.
func Write(d medium.Device, b []byte, w Want) error {
	s, err := Verify(b, w)
	if err != nil {
		return err
	}
	if s.Epoch < w.Epoch {
		return code.ConfigurationOld.Errorf("boot: configuration has epoch %d, and the board has had %d", s.Epoch, w.Epoch)
	}
	return medium.Pair(medium.Configurations).Write(d, b, func(b []byte) (uint64, error) {
		s, err := Verify(b, w)
		if err != nil {
			return 0, err
		}
		return s.Epoch, nil
	})
}

// Sign makes the image of a configuration. Its version is its epoch.
func Sign(c *Config, built uint64, s image.Signer) ([]byte, error) {
	payload, err := c.Encode()
	if err != nil {
		return nil, err
	}
	head, err := image.Sign(image.Header{
		Component: image.Configuration, Product: c.Product, Development: c.Development, Built: built,
		Version: fmt.Sprintf("epoch-%d", c.Epoch),
	}, payload, s)
	if err != nil {
		return nil, err
	}
	return append(head[:], payload...), nil
}

// Sealing are the authorities that approve sealing policies.
func (c *Config) Sealing() seal.Authorities {
	return seal.Authorities{P384: publicKeys(c.P384), RSA3072: publicKeys(c.RSA3072)}
}

func publicKeys[K *ecdsa.PublicKey | *rsa.PublicKey](keys []K) (all []crypto.PublicKey) {
	for _, k := range keys {
		all = append(all, k)
	}
	return all
}
