package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"nitro/boot/medium"
	"nitro/qemu-test/factory"
	"nitro/qemu-test/rack"
)

// cardSize is that of the rack's cards, in bytes.
const cardSize = factory.CardSize

// plant copies a card, and writes a text into the copy where volumes lie.
func plant(to, from string, text []byte) error {
	if err := os.RemoveAll(to); err != nil {
		return err
	}
	if err := rack.CopyCard(to, from); err != nil {
		return err
	}
	f, err := os.OpenFile(to, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	pool := medium.Pool(cardSize)
	_, err = f.WriteAt(text, pool.Offset+pool.Size/2)
	return errors.Join(err, f.Close())
}

// search gives the place of the first of some texts in a file, or -1 if it has none of them.
func search(file string, texts [][]byte) (int64, error) {
	f, err := os.Open(file)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	const piece = 1 << 20
	overlap := 0 // what begins at the end of a piece is found in the next
	for _, t := range texts {
		if len(t) == 0 || len(t) > piece {
			return 0, fmt.Errorf("a search for %d bytes; it takes 1 to %d", len(t), piece)
		}
		overlap = max(overlap, len(t)-1)
	}
	b := make([]byte, piece+overlap)
	for at := int64(0); ; at += piece {
		n, err := f.ReadAt(b, at)
		if err != nil && !errors.Is(err, io.EOF) {
			return 0, err
		}
		for _, t := range texts {
			if i := bytes.Index(b[:n], t); i >= 0 {
				return at + int64(i), nil
			}
		}
		if err != nil {
			return -1, nil
		}
	}
}
