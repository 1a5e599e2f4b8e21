package factory

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"

	"nitro/attest/eventlog"
	"nitro/attest/golden"
	"nitro/boot/card"
	"nitro/boot/config"
	"nitro/boot/image"
	"nitro/resetctl/firmware"
	"nitro/resetctl/firmware/cardflash"
	"nitro/resetctl/firmware/delivery"
)

// HostProduct is the host that the rack's board guards: QEMU's x86 machine.
const HostProduct = "q35"

// Guard has a configuration name that host.
func Guard(c *config.Config) { c.Host = &config.Host{Product: HostProduct, BMC: true} }

// A Flash is what a flash chip of the host or its BMC is to hold.
type Flash struct {
	firmware.Manifest
	Data []byte
}

// The Debian packages' files that the host's firmware is made of.
const (
	ovmfVariables = "/usr/share/OVMF/OVMF_VARS_4M.fd"
	ovmfCode      = "/usr/share/OVMF/OVMF_CODE_4M.fd"
	ubootImage    = "/usr/lib/u-boot/qemu_arm/u-boot.bin"
)

// HostFlash is the host's flash of 4 MiB: UEFI's variables, which are the host's, and above
// them OVMF, which the processor's reset vector is the end of.
func HostFlash() (*Flash, error) {
	variables, err := os.ReadFile(ovmfVariables)
	if err != nil {
		return nil, fmt.Errorf("factory: %w: install Debian's package ovmf (make deps)", err)
	}
	ovmf, err := os.ReadFile(ovmfCode)
	if err != nil {
		return nil, fmt.Errorf("factory: %w: install Debian's package ovmf (make deps)", err)
	}
	v, n := int64(len(variables)), int64(len(ovmf))
	return &Flash{firmware.Manifest{
		Part: firmware.Host, Host: HostProduct, Version: "ovmf-2022.11", SecurityVersion: 1, Size: v + n, Erase: 4 << 10,
		Regions: []firmware.Region{
			{Name: "variables", Length: v, Kind: firmware.Mutable}, {Name: "code", Offset: v, Length: n, Kind: firmware.Static},
		},
	}, append(variables, ovmf...)}, nil
}

// BMCFlash is the BMC's flash of 2 MiB: U-Boot, and what it keeps. No BMC runs it: the
// board verifies it and lets its net go.
func BMCFlash() (*Flash, error) {
	const half = 1 << 20
	uboot, err := os.ReadFile(ubootImage)
	if err != nil {
		return nil, fmt.Errorf("factory: %w: install Debian's package u-boot-qemu (make deps)", err)
	}
	if len(uboot) > half {
		return nil, fmt.Errorf("factory: %s has %d bytes, and %d have room", ubootImage, len(uboot), half)
	}
	data := bytes.Repeat([]byte{0xff}, 2*half)
	copy(data, uboot)
	return &Flash{firmware.Manifest{
		Part: firmware.BMC, Host: HostProduct, Version: "u-boot-2023.01", SecurityVersion: 1, Size: 2 * half, Erase: 64 << 10,
		Regions: []firmware.Region{
			{Name: "u-boot", Length: half, Kind: firmware.Static}, {Name: "environment", Offset: half, Length: half, Kind: firmware.Mutable},
		},
	}, data}, nil
}

// Package signs the update package of a flash, and fills in its manifest's digests.
func (f *Factory) Package(flash *Flash) ([]byte, error) {
	signer, err := f.Keys.ImageSigner(image.Release)
	if err != nil {
		return nil, fmt.Errorf("factory: %w", err)
	}
	var b bytes.Buffer
	h := image.Header{Product: Product, Development: f.Keys.Development()}
	if err := firmware.Package(&b, &flash.Manifest, h, flash.Data, signer); err != nil {
		return nil, fmt.Errorf("factory: %w", err)
	}
	return b.Bytes(), nil
}

// FlashCard writes a new card's file that stands in for flash chips, as they leave their
// factory.
func FlashCard(path string, flashes ...*Flash) error {
	var chips []cardflash.Content
	for _, f := range flashes {
		chips = append(chips, cardflash.Content{Part: f.Part, Erase: f.Erase, Data: f.Data})
	}
	file, err := card.Create(path, CardSize)
	if err != nil {
		return fmt.Errorf("factory: %w", err)
	}
	return errors.Join(cardflash.Write(file, chips...), file.Close())
}

// Deliver signs packages of flashes and puts them on a board's card.
func (f *Factory) Deliver(path string, flashes ...*Flash) error {
	var packages [][]byte
	for _, flash := range flashes {
		p, err := f.Package(flash)
		if err != nil {
			return err
		}
		packages = append(packages, p)
	}
	file, err := card.Open(path, true)
	if err != nil {
		return fmt.Errorf("factory: %w", err)
	}
	return errors.Join(delivery.Write(file, packages...), file.Close())
}

// HostFirmware is all of the host's firmware.
func HostFirmware() (host, bmc *Flash, err error) {
	if host, err = HostFlash(); err != nil {
		return nil, nil, err
	}
	bmc, err = BMCFlash()
	return host, bmc, err
}

// HostSet is the host's firmware as verifiers of evidence have to know it.
func (f *Factory) HostSet(host, bmc *Flash) (*golden.HostSet, error) {
	var set golden.HostSet
	for flash, is := range map[*Flash]*[]eventlog.Firmware{host: &set.Host, bmc: &set.BMC} {
		if _, err := f.Package(flash); err != nil { // fills in the digests
			return nil, err
		}
		payload, err := flash.Manifest.Encode()
		if err != nil {
			return nil, fmt.Errorf("factory: %w", err)
		}
		*is = []eventlog.Firmware{{
			Digest: flash.Measurement(), Manifest: sha256.Sum256(payload), Version: flash.Version, SecurityVersion: flash.SecurityVersion,
		}}
	}
	return &set, nil
}
