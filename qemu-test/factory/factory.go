// Package factory plays the factory of boards for the rack: it makes development keys on
// the spot, builds releases of the firmware with them, and writes cards. Nothing that it
// makes runs on a board that is no development board.
package factory

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"nitro/boot/card"
	"nitro/boot/config"
	"nitro/boot/image"
	"nitro/boot/release"
)

// Product is the board that the rack emulates.
const Product = "imx6ul-evk"

// CardSize is that of the cards, in bytes: the smallest that the firmware takes.
const CardSize = 256 << 20

// A Factory has the keys.
type Factory struct{ Keys *release.Keys }

// New makes a factory with new keys.
func New() (*Factory, error) {
	keys, err := release.DevelopmentKeys()
	if err != nil {
		return nil, fmt.Errorf("factory: %w", err)
	}
	return &Factory{keys}, nil
}

// Open is a factory whose keys are kept in a folder, where they are made if it is not
// there.
func Open(folder string) (*Factory, error) {
	switch _, err := os.Stat(folder); {
	case errors.Is(err, fs.ErrNotExist):
		f, err := New()
		if err == nil {
			err = f.Keys.Save(folder)
		}
		return f, err
	case err != nil:
		return nil, fmt.Errorf("factory: %w", err)
	}
	keys, err := release.Load(folder)
	if err != nil {
		return nil, fmt.Errorf("factory: %w", err)
	}
	return &Factory{keys}, nil
}

// A Version is what a release calls itself.
type Version struct {
	Name     string
	Security uint32
}

// Release builds a release from the programs' ELF files.
func (f *Factory) Release(bootloader, controller string, v Version) (*release.Release, error) {
	first, err := release.ReadPayload(bootloader)
	if err != nil {
		return nil, fmt.Errorf("factory: %w", err)
	}
	second, err := release.ReadPayload(controller)
	if err != nil {
		return nil, fmt.Errorf("factory: %w", err)
	}
	return f.Build(first, second, v)
}

// Build builds a release from the programs.
func (f *Factory) Build(bootloader, controller release.Payload, v Version) (*release.Release, error) {
	return release.Build(f.Keys, release.Options{
		Product: Product, Version: v.Name, SecurityVersion: v.Security, Bootloader: bootloader, Controller: controller,
	})
}

// Configuration signs the boards' configuration, as it is but for what change does.
func (f *Factory) Configuration(epoch uint64, change func(*config.Config)) ([]byte, error) {
	c, err := f.Keys.Config(Product, epoch)
	if err != nil {
		return nil, fmt.Errorf("factory: %w", err)
	}
	if change != nil {
		change(c)
	}
	signer, err := f.Keys.ImageSigner(image.Configure)
	if err != nil {
		return nil, fmt.Errorf("factory: %w", err)
	}
	return config.Sign(c, 0, signer)
}

// Card writes a new card's file, with one or two releases and a configuration.
func (f *Factory) Card(path string, configuration []byte, slots ...*release.Release) error {
	c := card.Content{Configuration: configuration}
	copy(c.Slots[:], slots)
	file, err := card.Create(path, CardSize)
	if err != nil {
		return fmt.Errorf("factory: %w", err)
	}
	err = card.Write(file, c, nil)
	return errors.Join(err, file.Close())
}
