package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"nitro/attest/golden"
	"nitro/attest/verify"
	"nitro/net/keyservice/server"
	"nitro/qemu-test/factory"
	"nitro/qemu-test/rack"
)

// keyServicePort is where the board finds the key service, at the gateway's address.
const keyServicePort = 8443

// keyServiceURL is how the board's configuration has it.
var keyServiceURL = fmt.Sprintf("https://%s:%d", rack.Gateway, keyServicePort)

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
	port    int
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
	go k.http.Serve(tls.NewListener(l, server.TLS(certificate, clients))) // ends with close
	return k, nil
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
		Subject: pkix.Name{CommonName: "key service"}, IPAddresses: []net.IP{rack.Gateway.AsSlice(), net.IPv4(127, 0, 0, 1)},
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
