package rack

import (
	"fmt"
	"io"
	"os"

	"nitro/boot/image"
	"nitro/boot/medium"
	"nitro/internal/tied"
)

// romFile has the payload that the boot ROM loads, in the rack's folder.
const romFile = "rom"

// romArgs plays the chip's boot ROM: it loads the bootloader's payload of the first card to
// where its header says, and enters it, as it is. An open chip's ROM verifies nothing
// either.
func romArgs(c *Config, folder *tied.Folder) ([]string, error) {
	card, err := os.Open(c.Cards[0])
	if err != nil {
		return nil, fmt.Errorf("boot ROM: %w: give an image or a card", err)
	}
	defer card.Close()
	var header [image.HeaderSize]byte
	if _, err := card.ReadAt(header[:], medium.BootloaderHeader.Offset); err != nil {
		return nil, fmt.Errorf("boot ROM: card %s: %w", c.Cards[0], err)
	}
	h, err := image.Parse(&header)
	if err != nil || h.Component != image.Bootloader || h.Length > image.Bootloader.MaxLength() {
		return nil, fmt.Errorf("boot ROM: card %s: no bootloader's header (component %v, %d bytes): %v", c.Cards[0], h.Component, h.Length, err)
	}
	out, err := os.Create(folder.Join(romFile))
	if err != nil {
		return nil, fmt.Errorf("boot ROM: %w", err)
	}
	defer out.Close()
	if _, err := io.Copy(out, io.NewSectionReader(card, medium.Bootloader.Offset, int64(h.Length))); err != nil {
		return nil, fmt.Errorf("boot ROM: %w", err)
	}
	return []string{
		"-device", fmt.Sprintf("loader,addr=%#x,force-raw=on,file=%s", h.Load, optionValue(out.Name())),
		"-device", fmt.Sprintf("loader,addr=%#x,cpu-num=0", h.Entry),
	}, nil
}
