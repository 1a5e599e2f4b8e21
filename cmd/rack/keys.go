package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"io/fs"
	"log"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"nitro/attest/golden"
	"nitro/attest/verify"
	"nitro/net/keyservice/server"
	"nitro/qemu-test/factory"
	"nitro/qemu-test/rack"
)

// keyServiceAddress is where the board finds the key service: at the gateway of its
// management network.
var keyServiceAddress = netip.MustParseAddrPort("10.0.2.2:8443")

// Limits of the key service's clients.
const (
	serviceHeader = 30 * time.Second
	serviceBody   = 2 * time.Minute
	maxLease      = 24 * time.Hour
)

// A keyService is the owner's key service, in this process.
type keyService struct {
	service *server.Service
	http    *http.Server
	tls     *tls.Config
	port    int // of 127.0.0.1
}

// startKeyService starts the service whose keys are in the bench's folder.
func (b *bench) startKeyService() (*keyService, error) {
	folder := filepath.Join(b.folder, "keyservice")
	if _, err := os.Stat(folder); errors.Is(err, fs.ErrNotExist) {
		if err := server.Init(folder); err != nil {
			return nil, err
		}
	}
	certificate, err := b.serviceCertificate()
	if err != nil {
		return nil, err
	}
	policy, err := b.policy()
	if err != nil {
		return nil, err
	}
	k := &keyService{}
	if k.service, err = server.Open(server.Config{Folder: folder, Signer: b.factory.KeyService, Policy: *policy, MaxLease: maxLease, Owner: factory.Owner}); err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		k.service.Close()
		return nil, err
	}
	k.port = l.Addr().(*net.TCPAddr).Port
	clients := x509.NewCertPool()
	clients.AddCert(b.factory.Clients.CA)
	k.http = &http.Server{Handler: k.service, ReadHeaderTimeout: serviceHeader, ReadTimeout: serviceBody, WriteTimeout: serviceBody, ErrorLog: log.New(io.Discard, "", 0)}
	k.tls = server.TLS(certificate, clients)
	k.serve(l)
	return k, nil
}

// serve serves on a listener, until close.
func (k *keyService) serve(l net.Listener) { go k.http.Serve(tls.NewListener(l, k.tls)) }

// serveBoard serves the board as well.
func (k *keyService) serveBoard(r *rack.Rack) error {
	l, err := r.Gateway().Listen("tcp4", keyServiceAddress.String())
	if err == nil {
		k.serve(l)
	}
	return err
}

func (k *keyService) close() {
	k.http.Close()
	k.service.Close()
}

// serviceCertificate makes the key and certificate of the service's TLS for this run.
func (b *bench) serviceCertificate() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: "key service"}, IPAddresses: []net.IP{keyServiceAddress.Addr().AsSlice(), net.IPv4(127, 0, 0, 1)},
	}, key)
	if err != nil {
		return tls.Certificate{}, err
	}
	request, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return tls.Certificate{}, err
	}
	c, err := b.factory.Clients.Server(request)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.Certificate{Certificate: [][]byte{c.Raw}, PrivateKey: key}, nil
}

// policy is what evidence of the rack's board is held to, its host's firmware included.
func (b *bench) policy() (*verify.Policy, error) {
	issuer, _, err := b.factory.Keys.Issuer()
	if err != nil {
		return nil, err
	}
	host, err := b.factory.HostSet(b.host, b.bmc)
	if err != nil {
		return nil, err
	}
	issuers := x509.NewCertPool()
	issuers.AddCert(issuer)
	return &verify.Policy{
		Issuers: issuers, Releases: []*golden.Release{b.release.Golden}, Host: host,
		Development: true, OpenLifeCycle: true, WeakSecret: true, // as the emulated board is
	}, nil
}
