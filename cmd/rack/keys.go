package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
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
	"nitro/boot/config"
	"nitro/net/keyservice/server"
	"nitro/qemu-test/factory"
	"nitro/qemu-test/rack"
)

// keyPort is where the board reaches the key service, at the rack's gateway.
const keyPort = 8444

// Limits of the key service.
const (
	keyLease  = 24 * time.Hour
	keyHeader = 30 * time.Second
	keyBody   = 2 * time.Minute
)

// configure has a board guard the rack's host, and take keys from the rack's key service.
func (b *bench) configure(c *config.Config) {
	factory.Guard(c)
	c.KeyService.URL = fmt.Sprintf("https://%s", netip.AddrPortFrom(rack.Gateway, keyPort))
	c.KeyService.CA = b.factory.Clients.CA
}

// A keyService is one that runs in this process, and gives keys to boards of the bench's
// release whose hosts run the bench's firmware.
type keyService struct {
	service  *server.Service
	http     *http.Server
	listener net.Listener
}

// serveKeys starts it, on a free port.
func (b *bench) serveKeys() (*keyService, error) {
	issuer, _, err := b.factory.Keys.Issuer()
	if err != nil {
		return nil, err
	}
	issuers := x509.NewCertPool()
	issuers.AddCert(issuer)
	host, err := b.factory.HostSet(b.host, b.bmc)
	if err != nil {
		return nil, err
	}
	folder := filepath.Join(b.folder, "keyservice")
	if _, err := os.Stat(folder); errors.Is(err, fs.ErrNotExist) {
		if err := server.Init(folder); err != nil {
			return nil, err
		}
	}
	k := &keyService{}
	k.service, err = server.Open(server.Config{
		Folder: folder, Signer: b.factory.KeyService, MaxLease: keyLease, Owner: factory.Owner,
		Policy: verify.Policy{Issuers: issuers, Releases: []*golden.Release{b.release.Golden}, Host: host, Development: true, OpenLifeCycle: true, WeakSecret: true},
	})
	if err != nil {
		return nil, err
	}
	if err := k.listen(b.factory.Clients); err != nil {
		k.service.Close()
		return nil, err
	}
	return k, nil
}

// listen serves with a certificate of the owner's CA.
func (k *keyService) listen(clients *factory.Clients) error {
	pair, err := clients.ServerAt("key service", netip.MustParseAddr("127.0.0.1"), rack.Gateway)
	if err != nil {
		return err
	}
	controlPlanes := x509.NewCertPool()
	controlPlanes.AddCert(clients.CA)
	if k.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		return err
	}
	k.http = &http.Server{Handler: k.service, ReadHeaderTimeout: keyHeader, ReadTimeout: keyBody, WriteTimeout: keyBody, ErrorLog: log.New(io.Discard, "", 0)}
	go k.http.Serve(tls.NewListener(k.listener, server.TLS(pair, controlPlanes)))
	return nil
}

func (k *keyService) address() string { return k.listener.Addr().String() }

func (k *keyService) close() {
	k.http.Close()
	k.service.Close()
}
