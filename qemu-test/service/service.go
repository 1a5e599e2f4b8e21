// Package service gives tests and measurements an emulated board in service: provisioned,
// with its API open, and with clients of all roles. It is the product's own firmware, booted
// from a card by its own bootloader, in a rack.
package service

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"time"

	"nitro/boot/config"
	"nitro/boot/release"
	"nitro/internal/metal"
	"nitro/internal/tied"
	"nitro/net/policy"
	"nitro/qemu-test/factory"
	"nitro/qemu-test/rack"
)

// Limits of what the board is waited for, on a machine that has much else to do.
const (
	buildLimit = 15 * time.Minute
	lineLimit  = 10 * time.Minute // for a line of the console
	askLimit   = 2 * time.Minute  // for an answer
)

// Options are how the board is to be; all may be left out.
type Options struct {
	Configure func(*config.Config) // changes its configuration
	Symbols   bool                 // leave the images' symbols in
	Args      []string             // further arguments for the emulator
}

// A Board is one in service.
type Board struct {
	*rack.Rack
	Factory *factory.Factory
	Release *release.Release
	// Bootloader and Controller are the images' files.
	Bootloader, Controller string

	folder *tied.Folder
}

// Start makes a board, has it provisioned, and waits until it is in service. Who calls it
// must call Stop.
func Start(ctx context.Context, o Options) (*Board, error) {
	folder, err := tied.NewFolder("nitro-service-")
	if err != nil {
		return nil, err
	}
	b := &Board{Bootloader: folder.Join("bootloader.elf"), Controller: folder.Join("controller.elf"), folder: folder}
	if err := b.start(ctx, o); err != nil {
		b.Stop()
		return nil, fmt.Errorf("service: %w", err)
	}
	return b, nil
}

func (b *Board) start(ctx context.Context, o Options) (err error) {
	if err = b.make(ctx, o); err != nil {
		return err
	}
	b.Rack, err = rack.Start(rack.Config{
		TPMState: b.tpm(), Cards: [2]string{b.folder.Join("card.img")}, Expander: true, Wires: rack.HostWires(), Args: o.Args,
		Nets: []rack.Net{{Cable: rack.User, Forward: map[int]int{443: 0, 4430: 0}}, {Cable: rack.User}},
	})
	if err != nil {
		return err
	}
	return b.provision(ctx)
}

func (b *Board) tpm() string { return b.folder.Join("tpm") }

// make builds the firmware, a release, a card and a TPM.
func (b *Board) make(ctx context.Context, o Options) error {
	building, cancel := context.WithTimeout(ctx, buildLimit)
	defer cancel()
	err := (metal.Build{Bootloader: true, Symbols: o.Symbols}).Image(building, "nitro/cmd/bootloader", b.Bootloader)
	if err == nil {
		err = (metal.Build{Symbols: o.Symbols}).Image(building, "nitro/cmd/controller", b.Controller)
	}
	if err != nil {
		return err
	}
	if b.Factory, err = factory.New(); err != nil {
		return err
	}
	if b.Release, err = b.Factory.Release(b.Bootloader, b.Controller, factory.Version{Name: "1.0", Security: 1}); err != nil {
		return err
	}
	configuration, err := b.Factory.Configuration(1, o.Configure)
	if err != nil {
		return err
	}
	if err := b.Factory.Card(b.folder.Join("card.img"), configuration, b.Release); err != nil {
		return err
	}
	return factory.MakeTPM(b.tpm())
}

// provision takes the board through the factory, and waits until it has booted as it will
// from now on.
func (b *Board) provision(ctx context.Context) error {
	if _, err := b.Expect(`controller: provisioning is offered on port 4430\r\n`, lineLimit); err != nil {
		return err
	}
	address, err := b.Address(4430)
	if err != nil {
		return err
	}
	makers, err := factory.Makers(b.tpm())
	if err != nil {
		return err
	}
	if _, err := b.Factory.Provision(ctx, factory.Provisioning{Address: address, Makers: makers, Releases: []*release.Release{b.Release}}); err != nil {
		return err
	}
	for _, line := range []string{`controller: ready\r\n`, `controller: slot A is proven; [^\r]*\r\n`} {
		if _, err := b.Expect(line, lineLimit); err != nil {
			return err
		}
	}
	return nil
}

// Stop switches the board off and removes what it was made of.
func (b *Board) Stop() {
	if b.Rack != nil {
		b.Close()
	}
	b.folder.Remove()
}

// Client is an HTTP client with a certificate of a role, which keeps up to so many
// connections open, or with 0 none. The role "" has no certificate. The board's own is of
// this boot and not looked at.
func (b *Board) Client(role policy.Role, keep int) (*http.Client, error) {
	var certificates []tls.Certificate
	if role != "" {
		pair, err := b.Factory.Clients.Certificate(role, "test")
		if err != nil {
			return nil, err
		}
		certificates = append(certificates, pair)
	}
	return WithCertificates(keep, certificates...), nil
}

// WithCertificates is a client that shows a certificate of one's own making.
func WithCertificates(keep int, certificates ...tls.Certificate) *http.Client {
	return &http.Client{Timeout: askLimit, Transport: &http.Transport{
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true, Certificates: certificates},
		DisableKeepAlives: keep == 0, MaxIdleConnsPerHost: max(keep, 1), MaxConnsPerHost: keep,
	}}
}

// Issuer is the CA of the boards' attestation keys.
func (b *Board) Issuer() (*x509.Certificate, error) {
	issuer, _, err := b.Factory.Keys.Issuer()
	return issuer, err
}

// Dial makes a TLS connection to the board.
func (b *Board) Dial(ctx context.Context, c *tls.Config) (*tls.Conn, error) {
	address, err := b.Address(443)
	if err != nil {
		return nil, err
	}
	conn, err := (&tls.Dialer{Config: c}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	return conn.(*tls.Conn), nil
}
