// Package https serves HTTP/1.1 over TLS 1.3 (RFC 9112, RFC 8446) on a small machine,
// with limits that keep one client from taking more than its share: of time for each
// step, of header and body bytes. How many connections there are is the listener's to
// limit (net/stack). HTTP/2 is left out: its streams would need limits of their own,
// and no client of a Redfish service needs them.
package https

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"time"
)

// Limits of a connection. A request that is slower or larger ends it, or is refused
// with 413 or 431.
const (
	HeaderLimit  = 30 * time.Second // for the TLS handshake, of which a busy board does many at a time, and the request's header
	RequestLimit = 60 * time.Second // for reading a request, and for answering it
	IdleLimit    = 2 * time.Minute  // between two requests
	HeaderBytes  = 16 << 10
	BodyBytes    = 1 << 20
)

// validity is that of a certificate that a board makes for itself. Its key ends with
// the boot.
const validity = 365 * 24 * time.Hour

// SelfSigned makes a P-256 key and a certificate that it signs itself, for a server
// with a name. It proves nothing of who the server is.
func SelfSigned(name string) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("https: %w", err)
	}
	serial := make([]byte, 16)
	rand.Read(serial)
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes(serial),
		Subject:      pkix.Name{CommonName: name},
		DNSNames:     []string{name},
		NotBefore:    now.Add(-time.Hour), // clients' clocks may be behind
		NotAfter:     now.Add(validity),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("https: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}

// Serve answers requests on a listener until it fails, and gives the reason.
func Serve(l net.Listener, certificate tls.Certificate, h http.Handler) error {
	server := &http.Server{
		Handler:           http.MaxBytesHandler(h, BodyBytes),
		ReadHeaderTimeout: HeaderLimit,
		ReadTimeout:       RequestLimit,
		WriteTimeout:      RequestLimit,
		IdleTimeout:       IdleLimit,
		MaxHeaderBytes:    HeaderBytes,
		ErrorLog:          log.New(io.Discard, "", 0), // what strangers send is no news
	}
	err := server.Serve(tls.NewListener(limitPeers(l), &tls.Config{
		Certificates: []tls.Certificate{certificate},
		MinVersion:   tls.VersionTLS13,
		NextProtos:   []string{"http/1.1"},
	}))
	return fmt.Errorf("https: %w", err)
}
