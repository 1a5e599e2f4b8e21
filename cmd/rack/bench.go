package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"nitro/boot/release"
	"nitro/net/provisioning"
	"nitro/qemu-test/factory"
	"nitro/qemu-test/rack"
)

// A bench is the folder of what lasts, with the factory that made it.
type bench struct {
	folder  string
	out     io.Writer
	factory *factory.Factory
	release *release.Release

	host, bmc *factory.Flash // what the host's chips hold
}

func (b *bench) card() string   { return filepath.Join(b.folder, "card.img") }
func (b *bench) flash() string  { return filepath.Join(b.folder, "flash.img") }
func (b *bench) tpm() string    { return filepath.Join(b.folder, "tpm") }
func (b *bench) record() string { return filepath.Join(b.folder, "board.json") }

// What nitroctl verifies the board with: its release, and the CA of attestation keys.
func (b *bench) releaseFolder() string { return filepath.Join(b.folder, "release") }
func (b *bench) issuer() string        { return filepath.Join(b.folder, "issuer.pem") }

// programs has what the card was made of.
func (b *bench) programs() string { return filepath.Join(b.folder, "programs") }

// version is what the rack's releases call themselves. They are of 1 January 2026, always:
// the same programs are to make the same release.
var version = factory.Version{Name: "0.development", Security: 1, Built: 1767225600}

// openBench makes a card and a TPM if there are none for these programs.
func openBench(o options, out io.Writer) (*bench, error) {
	for _, p := range []string{o.bootloader, o.controller, o.nitroctl} {
		if _, err := os.Stat(p); err != nil {
			return nil, fmt.Errorf("%w: build it first: make all nitroctl", err)
		}
	}
	if err := os.MkdirAll(o.folder, 0o755); err != nil {
		return nil, err
	}
	b := &bench{folder: o.folder, out: out}
	var err error
	if b.factory, err = factory.Open(filepath.Join(o.folder, "keys"), filepath.Join(o.folder, "clients")); err != nil {
		return nil, err
	}
	if b.release, err = b.factory.Release(o.bootloader, o.controller, version); err != nil {
		return nil, err
	}
	if b.host, b.bmc, err = factory.HostFirmware(); err != nil {
		return nil, err
	}
	have, err := os.ReadFile(b.programs())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if o.fresh || string(have) != b.name() {
		return b, b.make()
	}
	return b, nil
}

// name names the programs, who signed them, and whose clients the board knows.
func (b *bench) name() string {
	anchors, clients := sha256.Sum256(b.release.AnchorBlock[:]), sha256.Sum256(b.factory.Clients.CA.Raw)
	flash := sha256.Sum256(append(append([]byte(nil), b.host.Data...), b.bmc.Data...))
	return fmt.Sprintf("%d, keys at %d: %x %x %x %x %x\n", version.Built, keyPort, anchors, b.release.Bootloader.Digest, b.release.Controller.Digest, flash, clients)
}

// make makes a card and a TPM, and a card that stands in for the host's flash: a new board. The name of its programs comes last, so that a
// board that is half made is made anew.
func (b *bench) make() error {
	for _, p := range []string{b.programs(), b.record(), b.card(), b.flash(), b.tpm(), b.releaseFolder()} {
		if err := os.RemoveAll(p); err != nil {
			return err
		}
	}
	configuration, err := b.factory.Configuration(1, b.configure)
	if err != nil {
		return err
	}
	if err := b.factory.Card(b.card(), configuration, b.release); err != nil {
		return err
	}
	if err := b.factory.Deliver(b.card(), b.host, b.bmc); err != nil {
		return err
	}
	if err := factory.FlashCard(b.flash(), b.host, b.bmc); err != nil {
		return err
	}
	if err := factory.MakeTPM(b.tpm()); err != nil {
		return err
	}
	if err := b.release.Write(b.releaseFolder()); err != nil {
		return err
	}
	issuer, _, err := b.factory.Keys.Issuer()
	if err != nil {
		return err
	}
	if err := os.WriteFile(b.issuer(), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: issuer.Raw}), 0o644); err != nil {
		return err
	}
	return os.WriteFile(b.programs(), []byte(b.name()), 0o644)
}

// bootLimit is how long the board may take until it is ready or wants to be provisioned.
const bootLimit = 10 * time.Minute

// provision provisions the board if it asks for that. An earlier run that was cut goes on.
func (b *bench) provision(ctx context.Context, r *rack.Rack) error {
	m, err := r.Expect(`controller: (provisioning is offered on port|\S+ \S+ is proven|quarantine:)`, bootLimit)
	if err != nil || m[1][:4] != "prov" {
		return err
	}
	address, err := r.Address(provisioningPort)
	if err != nil {
		return err
	}
	makers, err := factory.Makers(b.tpm())
	if err != nil {
		return err
	}
	p := factory.Provisioning{
		Address: address, Makers: makers, Releases: []*release.Release{b.release}, Keep: b.keep,
		Progress: func(s provisioning.Step) { fmt.Fprintf(b.out, "rack:               provisioning: %s\n", s) },
	}
	if text, err := os.ReadFile(b.record()); err == nil {
		if p.Record, err = provisioning.ReadRecord(text); err != nil {
			return err
		}
	}
	_, err = b.factory.Provision(ctx, p)
	if ctx.Err() != nil {
		return nil // switched off; the next run goes on
	}
	return err
}

// keep writes the factory's record of the board down.
func (b *bench) keep(r provisioning.Record) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	next := b.record() + ".new"
	if err := os.WriteFile(next, append(text, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(next, b.record())
}
