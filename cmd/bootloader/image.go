package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log"
)

// Places on the medium, in bytes (docs/medium.md, Layout and Image).
const (
	slotOffset = 16 << 20 // of slot A
	headerSize = 4096
	maxPayload = 31 << 20
)

const (
	magic               = "NCIMAGE1"
	componentController = 2
)

// slotA is slot A's number.
const slotA = 0

// A header is what the bootloader needs of an image header.
type header struct {
	length      uint32 // of the payload, bytes
	load, entry uint32 // addresses
}

var errShape = errors.New("the slot holds no controller for this bootloader: write a whole image to it")

// parse reads an image header. The payload must lie between start and end.
func parse(b []byte, start, end uint32) (header, error) {
	word := binary.LittleEndian.Uint32
	h := header{load: word(b[128:]), entry: word(b[132:])}
	length := binary.LittleEndian.Uint64(b[16:])
	refuse := func(format string, args ...any) (header, error) {
		return header{}, fmt.Errorf(format+": %w", append(args, errShape)...)
	}
	switch {
	case string(b[:len(magic)]) != magic || word(b[8:]) != headerSize:
		return refuse("image header begins with % x", b[:12])
	case word(b[12:]) != componentController:
		return refuse("component %d, want %d", word(b[12:]), componentController)
	case length == 0 || length > maxPayload:
		return refuse("payload of %d bytes, want 1 to %d", length, maxPayload)
	}
	h.length = uint32(length)
	switch {
	case h.load%4096 != 0 || h.load < start || h.load > end || h.length > end-h.load:
		return refuse("payload of %#x bytes at %#x, want it on a page from %#x to %#x", h.length, h.load, start, end)
	case h.entry%4 != 0 || h.entry < h.load || h.entry-h.load >= h.length:
		return refuse("entry %#x, want it in the payload of %#x bytes at %#x", h.entry, h.length, h.load)
	}
	return h, nil
}

// load reads the image into the window. The driver copies it there from its buffer of
// uncached memory; docs/kernel.md, The next image, says why not by DMA.
func (l *loader) load() error {
	block := uint64(l.card.BlockSize())
	var b [headerSize]byte
	if err := l.card.ReadBlocks(slotOffset/block, b[:]); err != nil {
		return err
	}
	w := l.window
	h, err := parse(b[:], w.Addr, w.Addr+uint32(len(w.Memory)))
	if err != nil {
		return fmt.Errorf("slot A: %w", err)
	}
	whole := (uint64(h.length) + block - 1) / block * block
	place := w.Memory[h.load-w.Addr:]
	if whole > uint64(len(place)) {
		return fmt.Errorf("slot A: payload of %#x bytes at %#x: its last block goes beyond the window: %w", h.length, h.load, errShape)
	}
	if err := l.card.ReadBlocks((slotOffset+headerSize)/block, place[:whole]); err != nil {
		return fmt.Errorf("slot A: %w", err)
	}
	clear(place[h.length:whole]) // of the card, not of the image
	l.header = h
	log.Printf("slot A: %d bytes", h.length)
	return nil
}
