package config

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
)

// MaxRevoked is how many certificates and keys a configuration can revoke. Each is looked
// for in each request.
const MaxRevoked = 256

// maxSerial is the length of a serial number in bytes (RFC 5280, 4.1.2.2).
const maxSerial = 20

// A Revoked is a key that no client may have any more, or one certificate. Keys are named
// by SHA-256 of their SubjectPublicKeyInfo.
type Revoked struct {
	Key [sha256.Size]byte // of the certificate; zero where one certificate is named

	CA     [sha256.Size]byte // of the certificate's issuer
	Serial string            // the bytes of its number, the first one not zero
}

// wireRevoked is its JSON. Byte strings are hexadecimal.
type wireRevoked struct {
	Key    string `json:"key,omitempty"`
	CA     string `json:"ca,omitempty"`
	Serial string `json:"serial,omitempty"`
}

func (w wireRevoked) revoked() (r Revoked, err error) {
	if (w.Key != "") == (w.CA != "") || (w.CA != "") != (w.Serial != "") {
		return r, errors.New("give key, or ca and serial")
	}
	if w.Key != "" {
		return r, lowerHex("key", w.Key, r.Key[:])
	}
	serial := make([]byte, len(w.Serial)/2)
	if len(serial) < 1 || len(serial) > maxSerial {
		return r, fmt.Errorf("serial %.100q: 1 to %d bytes", w.Serial, maxSerial)
	}
	if err := errors.Join(lowerHex("ca", w.CA, r.CA[:]), lowerHex("serial", w.Serial, serial)); err != nil {
		return r, err
	}
	if serial[0] == 0 {
		return r, fmt.Errorf("serial %s: write it without zeros before it", w.Serial)
	}
	r.Serial = string(serial)
	return r, nil
}

// lowerHex reads hexadecimal in its one spelling.
func lowerHex(what, s string, to []byte) error {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(to) || hex.EncodeToString(b) != s {
		return fmt.Errorf("%s %.100q: %d bytes in lower-case hexadecimal", what, s, len(to))
	}
	copy(to, b)
	return nil
}

func (r Revoked) wire() wireRevoked {
	if r.Serial == "" {
		return wireRevoked{Key: hex.EncodeToString(r.Key[:])}
	}
	return wireRevoked{CA: hex.EncodeToString(r.CA[:]), Serial: hex.EncodeToString([]byte(r.Serial))}
}

// String says what is revoked: "key" and a digest, or "serial", a number, "of" and the CA.
func (r Revoked) String() string {
	w := r.wire()
	if w.Key != "" {
		return "key " + w.Key
	}
	return "serial " + w.Serial + " of " + w.CA
}

// Revokes tells whether something in a chain is revoked. The chain is one that was
// verified: each certificate is issued by the next, and the last by itself.
func (c *Config) Revokes(chain []*x509.Certificate) bool {
	if len(c.Revoked) == 0 {
		return false
	}
	keys := make([][sha256.Size]byte, len(chain))
	for i, x := range chain {
		keys[i] = sha256.Sum256(x.RawSubjectPublicKeyInfo)
	}
	for i, x := range chain {
		serial, issuer := string(x.SerialNumber.Bytes()), keys[min(i+1, len(keys)-1)]
		for _, r := range c.Revoked {
			if r.Serial == "" && r.Key == keys[i] || r.Serial != "" && r.Serial == serial && r.CA == issuer {
				return true
			}
		}
	}
	return false
}
