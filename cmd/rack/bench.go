package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"nitro/boot/config"
	"nitro/boot/release"
	"nitro/net/provisioning"
	"nitro/qemu-test/factory"
)

// A bench is the folder of what lasts, with the factory that made it.
type bench struct {
	folder  string
	fresh   bool // the board is a new one
	factory *factory.Factory
	release *release.Release

	host, bmc *factory.Flash // what the host's chips hold
}

func (b *bench) card() string   { return filepath.Join(b.folder, "card.img") }
func (b *bench) flash() string  { return filepath.Join(b.folder, "flash.img") }
func (b *bench) tpm() string    { return filepath.Join(b.folder, "tpm") }
func (b *bench) record() string { return filepath.Join(b.folder, "board.json") }

// released is the folder of the release, as nitroctl takes it.
func (b *bench) released() string { return filepath.Join(b.folder, "release") }

// programs has what the card was made of.
func (b *bench) programs() string { return filepath.Join(b.folder, "programs") }

// version is what the rack's releases call themselves.
var version = factory.Version{Name: "0.development", Security: 1}

// openBench opens the folder: the board in it is fresh if there is none for these programs.
func openBench(o options) (*bench, error) {
	for _, p := range []string{o.bootloader, o.controller} {
		if _, err := os.Stat(p); err != nil {
			return nil, fmt.Errorf("%w: build it first: make", err)
		}
	}
	if err := os.MkdirAll(o.folder, 0o755); err != nil {
		return nil, err
	}
	b := &bench{folder: o.folder}
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
	b.fresh = o.fresh || string(have) != b.name()
	return b, nil
}

// name names the programs, who signed them, and whose clients the board knows.
func (b *bench) name() string {
	anchors, clients := sha256.Sum256(b.release.AnchorBlock[:]), sha256.Sum256(b.factory.Clients.CA.Raw)
	flash := sha256.Sum256(append(append([]byte(nil), b.host.Data...), b.bmc.Data...))
	return fmt.Sprintf("%x %x %x %x %x\n", anchors, b.release.Bootloader.Digest, b.release.Controller.Digest, flash, clients)
}

// make makes a card and a TPM, and a card that stands in for the host's flash: a new board. The name of its programs comes last, so that a
// board that is half made is made anew.
func (b *bench) make() error {
	for _, p := range []string{b.programs(), b.record(), b.card(), b.flash(), b.tpm(), b.released()} {
		if err := os.RemoveAll(p); err != nil {
			return err
		}
	}
	configuration, err := b.factory.Configuration(1, func(c *config.Config) {
		factory.Guard(c)
		c.KeyService.URL, c.KeyService.CA = "https://"+keyServiceAddress.String(), b.factory.Clients.CA
	})
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
	if err := b.release.Write(b.released()); err != nil {
		return err
	}
	if err := factory.MakeTPM(b.tpm()); err != nil {
		return err
	}
	return os.WriteFile(b.programs(), []byte(b.name()), 0o644)
}

// provision provisions the board. An earlier run that was cut goes on.
func (b *bench) provision(ctx context.Context, address string, progress func(provisioning.Step)) (*provisioning.Record, error) {
	makers, err := factory.Makers(b.tpm())
	if err != nil {
		return nil, err
	}
	p := factory.Provisioning{Address: address, Makers: makers, Releases: []*release.Release{b.release}, Keep: b.keep, Progress: progress}
	if text, err := os.ReadFile(b.record()); err == nil {
		if p.Record, err = provisioning.ReadRecord(text); err != nil {
			return nil, err
		}
	}
	return b.factory.Provision(ctx, p)
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
