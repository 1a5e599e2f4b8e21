package https

import (
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"
)

// Limits of what others certify of a server's key.
const (
	MaxChain = 5   // certificates
	MaxNames = 32  // of a signing request
	maxName  = 253 // bytes of a host name (RFC 1035, 2.3.4, without the length bytes)
)

// Request makes a signing request (PKCS #10, RFC 2986) in DER for a server's key. Names are
// host names and IP addresses, each with "DNS:" or "IP:" before it or not.
func Request(key crypto.Signer, subject pkix.Name, names []string) ([]byte, error) {
	if len(names) > MaxNames {
		return nil, fmt.Errorf("https: %d names: a request has at most %d", len(names), MaxNames)
	}
	template := &x509.CertificateRequest{Subject: subject, ExtraExtensions: Wanted(ForServers)}
	for _, name := range names {
		name = strings.TrimPrefix(strings.TrimPrefix(name, "DNS:"), "IP:")
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
			continue
		}
		if !hostName(name) {
			return nil, fmt.Errorf("https: %.100q is no host name and no IP address", name)
		}
		template.DNSNames = append(template.DNSNames, name)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	if err != nil {
		return nil, fmt.Errorf("https: %w", err)
	}
	return der, nil
}

// What a certificate is for (RFC 5280, 4.2.1.12).
var (
	ForServers = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 1}
	ForClients = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 2}
)

// Wanted are the extensions of a certificate of a server or a client, for its signing
// request, so that a CA has but to copy them: for digital signatures, for what it is for,
// and no CA's (RFC 5280, 4.2.1.3, 4.2.1.12, 4.2.1.9).
func Wanted(use asn1.ObjectIdentifier) []pkix.Extension {
	der := func(v any) []byte {
		b, err := asn1.Marshal(v)
		if err != nil {
			panic(fmt.Sprintf("https: %v", err)) // of what stands here
		}
		return b
	}
	return []pkix.Extension{
		{Id: asn1.ObjectIdentifier{2, 5, 29, 15}, Critical: true, Value: der(asn1.BitString{Bytes: []byte{0x80}, BitLength: 1})},
		{Id: asn1.ObjectIdentifier{2, 5, 29, 37}, Value: der([]asn1.ObjectIdentifier{use})},
		{Id: asn1.ObjectIdentifier{2, 5, 29, 19}, Critical: true, Value: der(struct{}{})},
	}
}

// hostName reports whether a name can be a host's (RFC 1123, 2.1).
func hostName(name string) bool {
	if len(name) > maxName {
		return false
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 || strings.Trim(label, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-") != "" ||
			label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
	}
	return true
}

// Certified is a server's certificate with another chain for the same key, from PEM: the
// server's first, then each one that has issued the one before it. Whose CA that is, is for
// clients to judge; that what is put in the place of a good one is for this key, for a server
// and valid at a time, is for the server: it answers who takes its only door away by a slip
// or on purpose. A time of zero is not known, and not held against it.
func Certified(own tls.Certificate, chain string, now time.Time) (tls.Certificate, error) {
	next := own
	next.Certificate, next.Leaf = nil, nil
	var all []*x509.Certificate
	rest := []byte(chain)
	for len(strings.TrimSpace(string(rest))) > 0 {
		block, behind := pem.Decode(rest)
		if block == nil || block.Type != "CERTIFICATE" || len(all) == MaxChain {
			return own, fmt.Errorf("https: send 1 to %d PEM blocks CERTIFICATE, the server's first, and nothing behind them", MaxChain)
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return own, fmt.Errorf("https: certificate %d: %w", len(all)+1, err)
		}
		all, rest = append(all, c), behind
		next.Certificate = append(next.Certificate, c.Raw)
	}
	if len(all) == 0 {
		return own, errors.New("https: there is no PEM block CERTIFICATE")
	}
	signer, ok := own.PrivateKey.(crypto.Signer)
	public, known := all[0].PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !known || !public.Equal(signer.Public()) {
		return own, errors.New("https: the first certificate is for another key than the server's: have a new signing request certified")
	}
	if all[0].IsCA || !slices.Contains(all[0].ExtKeyUsage, x509.ExtKeyUsageServerAuth) {
		return own, errors.New("https: the first certificate is a CA's, or not for server authentication")
	}
	if err := inOrder(all, now); err != nil {
		return own, err
	}
	next.Leaf = all[0]
	return next, nil
}

// inOrder checks that each certificate is valid at a time, if that is known, and was issued
// by the one behind it.
func inOrder(all []*x509.Certificate, now time.Time) error {
	for i, c := range all {
		if !now.IsZero() && (now.Before(c.NotBefore) || now.After(c.NotAfter)) {
			return fmt.Errorf("https: certificate %d is valid from %s to %s, and it is %s", i+1,
				c.NotBefore.UTC().Format(time.RFC3339), c.NotAfter.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339))
		}
		if i > 0 {
			if err := all[i-1].CheckSignatureFrom(c); err != nil {
				return fmt.Errorf("https: certificate %d was not issued by the one behind it: %w", i, err)
			}
		}
	}
	return nil
}
