//go:build linux && arm && board

package main

import (
	"nitro/board/evk"
	"nitro/board/imx6ul/sd"
)

// card makes bytes of blocks.
type card struct{ *sd.Card }

func (c card) ReadAt(p []byte, at int64) (int, error) {
	return len(p), c.ReadBlocks(uint64(at)/sd.BlockSize, p)
}

func (c card) WriteAt(p []byte, at int64) (int, error) {
	return len(p), c.WriteBlocks(uint64(at)/sd.BlockSize, p)
}

// open gives the card in slot 1, and memory for requests.
func open() (device, []byte, error) {
	b, err := evk.Open()
	if err != nil {
		return nil, nil, err
	}
	c, err := b.SDCard(0)
	if err != nil {
		return nil, nil, err
	}
	return card{c}, make([]byte, large), c.Open()
}
