// Package factory plays the factory of boards for the rack: it makes development keys on
// the spot, builds releases of the firmware with them, and writes cards. Nothing that it
// makes runs on a board that is no development board.
package factory

import (
	"crypto/ecdsa"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"nitro/boot/card"
	"nitro/boot/config"
	"nitro/boot/release"
)

// Product is the board that the rack emulates.
const Product = "imx6ul-evk"

// CardSize is that of the cards, in bytes: the smallest that the firmware takes.
const CardSize = 256 << 20

// A Factory has the keys, the owner's clients, and the key that the owner's key service
// signs grants with.
type Factory struct {
	Keys       *release.Keys
	Clients    *Clients
	KeyService *ecdsa.PrivateKey
}

// New makes a factory with new keys.
func New() (*Factory, error) {
	keys, err := release.DevelopmentKeys()
	if err != nil {
		return nil, fmt.Errorf("factory: %w", err)
	}
	clients, err := NewClients()
	if err != nil {
		return nil, err
	}
	service, err := newKeyService()
	return &Factory{keys, clients, service}, err
}

// Open is a factory whose keys and clients are kept in two folders, where they are made if
// they are not there.
func Open(keys, clients string) (*Factory, error) {
	k, err := openKeys(keys)
	if err != nil {
		return nil, fmt.Errorf("factory: %w", err)
	}
	c, err := OpenClients(clients)
	if err != nil {
		return nil, err
	}
	service, err := openKeyService(clients)
	return &Factory{k, c, service}, err
}

func openKeys(folder string) (*release.Keys, error) {
	switch _, err := os.Stat(folder); {
	case errors.Is(err, fs.ErrNotExist):
		keys, err := release.DevelopmentKeys()
		if err == nil {
			err = keys.Save(folder)
		}
		return keys, err
	case err != nil:
		return nil, err
	}
	return release.Load(folder)
}

// A Version is what a release calls itself.
type Version struct {
	Name     string
	Security uint32
}

// Release builds a release from the programs' ELF files.
func (f *Factory) Release(bootloader, controller string, v Version) (*release.Release, error) {
	first, second, err := payloads(bootloader, controller)
	if err != nil {
		return nil, err
	}
	return f.Build(first, second, v)
}

// Next builds a release that a board with an earlier one can be updated to: another program,
// under the bootloader that it has.
func (f *Factory) Next(bootloader, controller string, v Version, earlier *release.Release) (*release.Release, error) {
	first, second, err := payloads(bootloader, controller)
	if err != nil {
		return nil, err
	}
	second.Bytes = append(second.Bytes, make([]byte, 4096)...) // of what the program has zeroed
	return f.Build(first, second, v, earlier)
}

// payloads reads the programs' ELF files.
func payloads(bootloader, controller string) (first, second release.Payload, err error) {
	if first, err = release.ReadPayload(bootloader); err == nil {
		second, err = release.ReadPayload(controller)
	}
	if err != nil {
		err = fmt.Errorf("factory: %w", err)
	}
	return first, second, err
}

// Build builds a release from the programs, which runs where earlier ones have run as well.
func (f *Factory) Build(bootloader, controller release.Payload, v Version, earlier ...*release.Release) (*release.Release, error) {
	return release.Build(f.Keys, release.Options{
		Product: Product, Version: v.Name, SecurityVersion: v.Security, Bootloader: bootloader, Controller: controller, Also: earlier,
	})
}

// Configuration signs the boards' configuration, as it is but for what change does. It has
// the CA of the owner's clients, and the key service.
func (f *Factory) Configuration(epoch uint64, change func(*config.Config)) ([]byte, error) {
	c, err := f.Keys.Config(Product, epoch)
	if err != nil {
		return nil, fmt.Errorf("factory: %w", err)
	}
	c.Operators = []*x509.Certificate{f.Clients.CA}
	c.KeyService = &config.KeyService{Key: &f.KeyService.PublicKey}
	if change != nil {
		change(c)
	}
	// A board takes its clock's time only if it is not long after what has been signed
	// (docs/time.md), and boards' clocks may be behind.
	return f.Keys.SignConfig(c, uint64(time.Now().Add(-24*time.Hour).Unix()))
}

// Card writes a new card's file, with one or two releases, a configuration, and the default
// policy set.
func (f *Factory) Card(path string, configuration []byte, slots ...*release.Release) error {
	set, err := f.Policy(1, nil)
	if err != nil {
		return err
	}
	c := card.Content{Configuration: configuration, Policy: set}
	copy(c.Slots[:], slots)
	file, err := card.Create(path, CardSize)
	if err != nil {
		return fmt.Errorf("factory: %w", err)
	}
	err = card.Write(file, c, nil)
	return errors.Join(err, file.Close())
}
