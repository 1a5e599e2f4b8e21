package medium

import (
	"errors"
	"fmt"
	"io"
)

// A Device is a medium in blocks. The board's cards are devices.
type Device interface {
	BlockSize() int // bytes
	Blocks() uint64

	// ReadBlocks reads whole blocks from a first one on.
	ReadBlocks(first uint64, p []byte) error

	// WriteBlocks writes whole blocks. When it returns they are on the medium, so one
	// write after the other is an order that survives a power cut.
	WriteBlocks(first uint64, p []byte) error
}

// check refuses what is not whole blocks within the device.
func (p Place) check(d Device) error {
	bs := int64(d.BlockSize())
	if bs <= 0 || p.Offset < 0 || p.Size <= 0 || p.Offset%bs != 0 || p.Size%bs != 0 {
		return fmt.Errorf("medium: %d bytes at %#x are not whole blocks of %d bytes", p.Size, p.Offset, bs)
	}
	if blocks := d.Blocks(); uint64(p.Offset/bs) >= blocks || uint64(p.Size/bs) > blocks-uint64(p.Offset/bs) {
		return fmt.Errorf("medium: %d bytes at %#x: the card ends at block %d", p.Size, p.Offset, blocks)
	}
	return nil
}

// A Reader reads a place from its beginning to its end, and no further. Whole blocks go
// straight into the caller's memory; what is asked for beyond them comes by way of a
// block of the Reader's own, so that nothing is written behind the slice that was given.
type Reader struct {
	d     Device
	next  uint64 // block to read next
	left  int64  // bytes of the place from that block on
	block []byte // one block
	rest  []byte // what of it has not been asked for yet
}

// NewReader reads a place. The place must be whole blocks of the device.
func NewReader(d Device, p Place) (*Reader, error) {
	if err := p.check(d); err != nil {
		return nil, err
	}
	bs := d.BlockSize()
	return &Reader{d: d, next: uint64(p.Offset / int64(bs)), left: p.Size, block: make([]byte, bs)}, nil
}

// Read reads the next bytes. It gives io.EOF at the place's end.
func (r *Reader) Read(b []byte) (n int, err error) {
	if len(b) == 0 {
		return 0, nil
	}
	if len(r.rest) > 0 {
		n = copy(b, r.rest)
		r.rest = r.rest[n:]
		return n, nil
	}
	if r.left == 0 {
		return 0, io.EOF
	}
	whole := int(min(int64(len(b)), r.left)) / len(r.block) * len(r.block)
	if whole > 0 {
		if err := r.read(b[:whole]); err != nil {
			return 0, err
		}
		return whole, nil
	}
	if err := r.read(r.block); err != nil {
		return 0, err
	}
	n = copy(b, r.block)
	r.rest = r.block[n:]
	return n, nil
}

func (r *Reader) read(b []byte) error {
	if err := r.d.ReadBlocks(r.next, b); err != nil {
		return fmt.Errorf("medium: block %d: %w", r.next, err)
	}
	r.next += uint64(len(b) / len(r.block))
	r.left -= int64(len(b))
	return nil
}

// ReadPlace reads the first len(b) bytes of a place.
func ReadPlace(d Device, p Place, b []byte) error {
	r, err := NewReader(d, p)
	if err != nil {
		return err
	}
	if int64(len(b)) > p.Size {
		return fmt.Errorf("medium: %d bytes of a place of %d", len(b), p.Size)
	}
	_, err = io.ReadFull(r, b)
	return err
}

// WritePlace writes b to the beginning of a place, filled up with zeros to whole blocks.
// What the place holds behind that stays.
func WritePlace(d Device, p Place, b []byte) error {
	if err := p.check(d); err != nil {
		return err
	}
	if len(b) == 0 {
		return errors.New("medium: nothing to write")
	}
	if int64(len(b)) > p.Size {
		return fmt.Errorf("medium: %d bytes for a place of %d", len(b), p.Size)
	}
	bs := d.BlockSize()
	whole := make([]byte, (len(b)+bs-1)/bs*bs)
	copy(whole, b)
	if err := d.WriteBlocks(uint64(p.Offset/int64(bs)), whole); err != nil {
		return fmt.Errorf("medium: %d bytes at %#x: %w", len(whole), p.Offset, err)
	}
	return nil
}
