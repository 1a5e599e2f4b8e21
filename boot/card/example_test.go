//go:build !arm

package card_test

import (
	"errors"
	"log"

	"nitro/boot/card"
	"nitro/boot/journal"
	"nitro/boot/medium"
	"nitro/boot/release"
)

// From the linker's files to the file of a card, with keys that are made on the spot.
func Example() {
	if err := developmentCard("build/card.img"); err != nil {
		log.Fatal(err)
	}
}

func developmentCard(path string) error {
	bootloader, err := release.ReadPayload("build/bootloader.elf")
	if err != nil {
		return err
	}
	controller, err := release.ReadPayload("build/controller.elf")
	if err != nil {
		return err
	}
	keys, err := release.DevelopmentKeys()
	if err != nil {
		return err
	}
	r, err := release.Build(keys, release.Options{Product: "imx6ul-evk", Version: "1.0", SecurityVersion: 1, Built: 1767225600,
		Bootloader: bootloader, Controller: controller})
	if err != nil {
		return err
	}
	c, err := keys.Config("imx6ul-evk", 1) // CAs of operators may be added
	if err != nil {
		return err
	}
	configuration, err := keys.SignConfig(c, 1767225600)
	if err != nil {
		return err
	}
	f, err := card.Create(path, medium.MinSize)
	if err != nil {
		return err
	}
	content := card.Content{Configuration: configuration}
	content.Slots[journal.A] = r
	return errors.Join(card.Write(f, content, nil), f.Close())
}
