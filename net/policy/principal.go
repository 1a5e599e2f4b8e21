package policy

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/crypto/cryptobyte"
	casn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// Limits of a principal's URI in bytes.
const (
	MaxURI   = 2048 // SPIFFE-ID, 2.3
	MaxOwner = 255  // SPIFFE-ID, 2.1
	MaxName  = 64
)

const scheme = "spiffe://"

// A Principal is who asks.
type Principal struct {
	Owner string // the trust domain
	Role  Role
	Name  string
}

// String is the principal's URI, of which there is one spelling.
func (p Principal) String() string { return scheme + p.Owner + "/" + string(p.Role) + "/" + p.Name }

// ParsePrincipal reads a URI spiffe://<owner>/<role>/<name>.
func ParsePrincipal(uri string) (Principal, error) {
	refuse := func(what string) (Principal, error) {
		return Principal{}, fmt.Errorf("policy: principal %.100q: %s", uri, what)
	}
	if len(uri) > MaxURI {
		return refuse(fmt.Sprintf("%d bytes: at most %d", len(uri), MaxURI))
	}
	rest, ok := strings.CutPrefix(uri, scheme)
	parts := strings.Split(rest, "/")
	if !ok || len(parts) != 3 {
		return refuse("it is not of the form spiffe://<owner>/<role>/<name>")
	}
	p := Principal{Owner: parts[0], Role: Role(parts[1]), Name: parts[2]}
	switch {
	case !plain(p.Owner, MaxOwner, false):
		return refuse(fmt.Sprintf("the owner has 1 to %d of a-z 0-9 . - _", MaxOwner))
	case !p.Role.known():
		return refuse(fmt.Sprintf("there is no such role: use one of %v", Roles))
	case !plain(p.Name, MaxName, true) || p.Name == "." || p.Name == "..":
		return refuse(fmt.Sprintf("the name has 1 to %d of A-Z a-z 0-9 . - _", MaxName))
	}
	return p, nil
}

// plain reports whether a part of a URI has nothing that could be spelt in two ways.
func plain(s string, limit int, upper bool) bool {
	for _, c := range []byte(s) {
		switch {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '.', c == '-', c == '_', upper && c >= 'A' && c <= 'Z':
		default:
			return false
		}
	}
	return len(s) >= 1 && len(s) <= limit
}

// An Issuer is a CA and the roles that it may give in one trust domain.
type Issuer struct {
	Owner string
	CA    [32]byte // SHA-256 of the CA's SubjectPublicKeyInfo
	Roles []Role
}

// Identify says who a client is. The chains are those that TLS has verified, each from
// the client's certificate to a CA of the configuration.
func (s *Set) Identify(chains [][]*x509.Certificate) (Principal, error) {
	if len(chains) == 0 || len(chains[0]) < 2 {
		return Principal{}, errors.New("policy: no verified certificate: present one that a CA of the configuration has issued")
	}
	p, err := PrincipalOf(chains[0][0])
	if err != nil {
		return Principal{}, err
	}
	for _, chain := range chains {
		ca := sha256.Sum256(chain[len(chain)-1].RawSubjectPublicKeyInfo)
		for _, i := range s.Issuers {
			if i.CA == ca && (i.Owner == p.Owner || s.anyOwner) && slices.Contains(i.Roles, p.Role) {
				return p, nil
			}
		}
	}
	return Principal{}, fmt.Errorf("policy: principal %s: the policy set lets none of its CAs give that role: have the owner add it", p)
}

// PrincipalOf says who a client's certificate names. Whether its CA may give that role is
// for the policy set to say: [Set.Identify].
func PrincipalOf(c *x509.Certificate) (Principal, error) {
	uri, err := uriOf(c)
	if err != nil {
		return Principal{}, err
	}
	return ParsePrincipal(uri)
}

// subjectAltName is the extension of RFC 5280, 4.2.1.6.
var subjectAltName = asn1.ObjectIdentifier{2, 5, 29, 17}

// uriTag is uniformResourceIdentifier [6] IA5String.
var uriTag = casn1.Tag(6).ContextSpecific()

// uriOf gives the only URI of a client's certificate, byte for byte: what crypto/x509 has
// parsed and prints again could be another one's spelling.
func uriOf(c *x509.Certificate) (string, error) {
	if c.IsCA || c.KeyUsage != x509.KeyUsageDigitalSignature || !slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageClientAuth) {
		return "", errors.New("policy: the certificate is not for a client: it must be for digital signatures and client authentication, and no CA's")
	}
	var uris []string
	for _, e := range c.Extensions {
		if !e.Id.Equal(subjectAltName) {
			continue
		}
		der := cryptobyte.String(e.Value)
		var names cryptobyte.String
		if !der.ReadASN1(&names, casn1.SEQUENCE) || !der.Empty() {
			return "", errors.New("policy: the certificate's alternative names cannot be read")
		}
		for !names.Empty() {
			var name cryptobyte.String
			var tag casn1.Tag
			if !names.ReadAnyASN1(&name, &tag) {
				return "", errors.New("policy: the certificate's alternative names cannot be read")
			}
			if tag == uriTag {
				uris = append(uris, string(name))
			}
		}
	}
	if len(uris) != 1 {
		return "", fmt.Errorf("policy: the certificate has %d URIs: it must have exactly one", len(uris))
	}
	return uris[0], nil
}
