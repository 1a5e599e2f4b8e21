package factory

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"nitro/boot/release"
	"nitro/internal/swtpm"
	"nitro/net/provisioning"
)

// rootFile has the certificate of a TPM's maker, beside the TPM's state.
const rootFile = "maker.pem"

// MakeTPM makes a TPM whose state is in a folder, with its maker's certificate beside it.
func MakeTPM(folder string) error {
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return fmt.Errorf("factory: %w", err)
	}
	root, err := swtpm.Make(folder)
	if err != nil {
		return fmt.Errorf("factory: %w", err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root.Raw})
	if err := os.WriteFile(filepath.Join(folder, rootFile), text, 0o600); err != nil {
		return fmt.Errorf("factory: %w", err)
	}
	return nil
}

// Makers is the root of a TPM that MakeTPM made.
func Makers(folder string) (*x509.CertPool, error) {
	text, err := os.ReadFile(filepath.Join(folder, rootFile))
	if err != nil {
		return nil, fmt.Errorf("factory: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, errors.New("factory: " + rootFile + " holds no certificate")
	}
	return pool, nil
}

// A Provisioning is a board that is to be provisioned.
type Provisioning struct {
	Address  string // host and port
	Makers   *x509.CertPool
	Releases []*release.Release
	Keep     func(provisioning.Record) error // nil keeps nothing
	Record   *provisioning.Record            // of an earlier run that was cut
	Progress func(provisioning.Step)         // nil tells nobody
}

// Provision provisions a board.
func (f *Factory) Provision(ctx context.Context, p Provisioning) (*provisioning.Record, error) {
	issuer, key, err := f.Keys.Issuer()
	if err != nil {
		return nil, fmt.Errorf("factory: %w", err)
	}
	o := provisioning.Options{
		Address: p.Address, Roots: p.Makers, Product: Product, Development: true,
		Certify: provisioning.CertifyBy(issuer, key), Keep: p.Keep, Record: p.Record, Progress: p.Progress,
	}
	if o.Keep == nil {
		o.Keep = func(provisioning.Record) error { return nil }
	}
	for _, r := range p.Releases {
		o.Releases = append(o.Releases, r.Golden)
		o.Approvals = append(o.Approvals, r.Approvals...)
	}
	client, err := f.Keys.Signer(release.Factory)
	if err != nil {
		return nil, fmt.Errorf("factory: %w", err)
	}
	o.Factory = tls.Certificate{Certificate: [][]byte{f.Keys.FactoryCertificate().Raw}, PrivateKey: client}
	if o.Owner, err = f.Keys.Signer(release.Owner); err != nil {
		return nil, fmt.Errorf("factory: %w", err)
	}
	return provisioning.Provision(ctx, o)
}
