// Package cardflash is flash chips on an SD card: where a board has no SPI flash to guard,
// as the emulated one, its second card stands in for the host's and the BMC's chips
// (docs/firmware.md, "Chips on a card"). [Chip] is a firmware.Flash with the chips' habits:
// bits go from 1 to 0 only, erase blocks go back to FFh, and a status that outlives power
// says what is protected.
//
// What it cannot be: a card does not see the line that locks a chip's status, so whoever
// writes the card can change that. In the rack nobody does but the controller: the
// emulated host gets a copy, and only if the status protects what it runs.
package cardflash

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"nitro/boot/medium"
	"nitro/resetctl/firmware"
)

// The format: docs/firmware.md, "Chips on a card".
const (
	magic       = "NCCHIPS1"
	statusMagic = "NCSTATUS"
	sector      = 512
	entrySize   = 32

	// MaxChips is how many chips a card can have.
	MaxChips = 2
	// MaxRanges is how many ranges a chip can protect.
	MaxRanges = 30
	// Align is what chips begin at multiples of, in bytes.
	Align = 1 << 20
)

// parts are the numbers of parts on a card: the components of their images.
var parts = map[firmware.Part]uint32{firmware.Host: 5, firmware.BMC: 6}

var le = binary.LittleEndian

// ErrProtected tells that what was to be written or erased is protected.
var ErrProtected = errors.New("cardflash: it is protected")

// A Chip is one flash chip. It is for one goroutine at a time.
type Chip struct {
	d      medium.Device
	n      int // its place in the table
	offset int64
	size   int64
	erase  int64
}

// Open finds a part's chip on a card.
func Open(d medium.Device, part firmware.Part) (*Chip, error) {
	if d.BlockSize() != sector {
		return nil, fmt.Errorf("cardflash: a card with blocks of %d bytes, not %d", d.BlockSize(), sector)
	}
	var b [sector]byte
	if err := d.ReadBlocks(0, b[:]); err != nil {
		return nil, fmt.Errorf("cardflash: table of chips: %w", err)
	}
	count := le.Uint32(b[8:])
	if string(b[:8]) != magic || count < 1 || count > MaxChips {
		return nil, errors.New("cardflash: the card has no table of chips")
	}
	for n := range int(count) {
		e := b[16+n*entrySize:]
		if le.Uint32(e) != parts[part] {
			continue
		}
		c := &Chip{d, n, int64(le.Uint64(e[8:])), int64(le.Uint64(e[16:])), int64(le.Uint32(e[4:]))}
		return c, c.check()
	}
	return nil, fmt.Errorf("cardflash: the card has no chip of part %s", part)
}

// check holds a chip to what a manifest can be for, and to the card.
func (c *Chip) check() error {
	end := int64(min(c.d.Blocks(), 1<<40)) * sector
	switch {
	case c.erase < firmware.MinErase || c.erase > firmware.MaxErase || c.erase&(c.erase-1) != 0:
		return fmt.Errorf("cardflash: erase blocks of %d bytes", c.erase)
	case c.size <= 0 || c.size > firmware.MaxSize || c.size%c.erase != 0:
		return fmt.Errorf("cardflash: a chip of %d bytes", c.size)
	case c.offset < Align || c.offset%Align != 0 || c.offset > end-c.size:
		return fmt.Errorf("cardflash: a chip of %d bytes at %#x: the card has %d", c.size, c.offset, end)
	}
	return nil
}

// Size implements firmware.Flash.
func (c *Chip) Size() int64 { return c.size }

// EraseSize implements firmware.Flash.
func (c *Chip) EraseSize() int64 { return c.erase }

// within refuses what runs past the chip.
func (c *Chip) within(offset, length int64) error {
	if offset < 0 || length < 0 || length > c.size || offset > c.size-length {
		return fmt.Errorf("cardflash: %d bytes at %#x run past the %d of the chip", length, offset, c.size)
	}
	return nil
}

// sectors calls do with whole sectors that have the bytes from offset on, and where in
// them and in the caller's bytes those are. Whole sectors are passed in one piece.
func sectors(offset, length int64, do func(first uint64, count, skip, from, n int64) error) error {
	for done := int64(0); done < length; {
		at := offset + done
		skip, left := at%sector, length-done
		count, n := int64(1), min(sector-skip, left)
		if skip == 0 && left >= sector {
			count = left / sector
			n = count * sector
		}
		if err := do(uint64(at/sector), count, skip, done, n); err != nil {
			return err
		}
		done += n
	}
	return nil
}

// ReadAt implements firmware.Flash.
func (c *Chip) ReadAt(p []byte, offset int64) (int, error) {
	if err := c.within(offset, int64(len(p))); err != nil {
		return 0, err
	}
	var one [sector]byte
	err := sectors(c.offset+offset, int64(len(p)), func(first uint64, count, skip, from, n int64) error {
		if skip == 0 && n == count*sector {
			return c.d.ReadBlocks(first, p[from:from+n])
		}
		err := c.d.ReadBlocks(first, one[:])
		copy(p[from:from+n], one[skip:])
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("cardflash: reading %d bytes at %#x: %w", len(p), offset, err)
	}
	return len(p), nil
}

// WriteAt implements firmware.Flash.
func (c *Chip) WriteAt(p []byte, offset int64) (int, error) {
	if err := c.mayWrite(offset, int64(len(p))); err != nil {
		return 0, err
	}
	err := sectors(c.offset+offset, int64(len(p)), func(first uint64, count, skip, from, n int64) error {
		b := make([]byte, count*sector)
		if err := c.d.ReadBlocks(first, b); err != nil {
			return err
		}
		for i, x := range p[from : from+n] {
			b[skip+int64(i)] &= x
		}
		return c.d.WriteBlocks(first, b)
	})
	if err != nil {
		return 0, fmt.Errorf("cardflash: writing %d bytes at %#x: %w", len(p), offset, err)
	}
	return len(p), nil
}

// Erase implements firmware.Flash.
func (c *Chip) Erase(offset, length int64) error {
	if err := c.mayWrite(offset, length); err != nil {
		return err
	}
	if offset%c.erase != 0 || length%c.erase != 0 {
		return fmt.Errorf("cardflash: %#x bytes at %#x are not whole erase blocks of %#x", length, offset, c.erase)
	}
	b := slices.Repeat([]byte{0xff}, int(c.erase))
	for at := c.offset + offset; at < c.offset+offset+length; at += c.erase {
		if err := c.d.WriteBlocks(uint64(at/sector), b); err != nil {
			return fmt.Errorf("cardflash: erasing at %#x: %w", at-c.offset, err)
		}
	}
	return nil
}

// mayWrite refuses what is protected.
func (c *Chip) mayWrite(offset, length int64) error {
	if err := c.within(offset, length); err != nil {
		return err
	}
	guarded, err := c.Protected()
	if err != nil {
		return err
	}
	for _, r := range guarded {
		if offset < r[0]+r[1] && r[0] < offset+length {
			return fmt.Errorf("%d bytes at %#x: %w", length, offset, ErrProtected)
		}
	}
	return nil
}

func (c *Chip) statusSector() uint64 { return uint64(1 + c.n) }

// Protect implements firmware.Flash.
func (c *Chip) Protect(ranges [][2]int64) error {
	if len(ranges) > MaxRanges {
		return fmt.Errorf("cardflash: %d ranges, and a chip protects %d", len(ranges), MaxRanges)
	}
	b := append(make([]byte, 0, sector), statusMagic...)
	b = le.AppendUint64(b, uint64(len(ranges)))
	for _, r := range ranges {
		if err := c.within(r[0], r[1]); err != nil {
			return err
		}
		b = le.AppendUint64(le.AppendUint64(b, uint64(r[0])), uint64(r[1]))
	}
	if err := c.d.WriteBlocks(c.statusSector(), b[:sector]); err != nil {
		return fmt.Errorf("cardflash: status: %w", err)
	}
	return nil
}

// Protected implements firmware.Flash. A status that was never written protects nothing.
func (c *Chip) Protected() (ranges [][2]int64, err error) {
	var b [sector]byte
	if err := c.d.ReadBlocks(c.statusSector(), b[:]); err != nil {
		return nil, fmt.Errorf("cardflash: status: %w", err)
	}
	if b == [sector]byte{} {
		return nil, nil
	}
	count := le.Uint64(b[8:])
	if string(b[:8]) != statusMagic || count > MaxRanges {
		return nil, errors.New("cardflash: the status is none")
	}
	end := int64(0)
	for i := range int(count) {
		e := b[16+i*16:]
		r := [2]int64{int64(le.Uint64(e)), int64(le.Uint64(e[8:]))}
		if r[0] < end || r[1] <= 0 || c.within(r[0], r[1]) != nil {
			return nil, errors.New("cardflash: the status is none: its ranges do not rise, or run past the chip")
		}
		ranges, end = append(ranges, r), r[0]+r[1]
	}
	return ranges, nil
}

// A Content is what a new chip holds.
type Content struct {
	Part  firmware.Part
	Erase int64 // bytes of its erase blocks
	Data  []byte
}

// Write makes a card of chips, with nothing protected.
func Write(d medium.Device, chips ...Content) error {
	if len(chips) < 1 || len(chips) > MaxChips {
		return fmt.Errorf("cardflash: %d chips, 1 to %d are possible", len(chips), MaxChips)
	}
	b := le.AppendUint64([]byte(magic), uint64(len(chips)))
	at := int64(Align)
	for n, x := range chips {
		c := &Chip{d, n, at, int64(len(x.Data)), x.Erase}
		if err := c.check(); err != nil {
			return err
		}
		if err := c.d.WriteBlocks(uint64(at/sector), x.Data); err != nil {
			return fmt.Errorf("cardflash: %s: %w", x.Part, err)
		}
		b = le.AppendUint32(le.AppendUint32(b, parts[x.Part]), uint32(x.Erase))
		b = le.AppendUint64(le.AppendUint64(b, uint64(at)), uint64(len(x.Data)))
		b = le.AppendUint64(b, 0)
		at += (int64(len(x.Data)) + Align - 1) / Align * Align
	}
	table := make([]byte, sector*(1+MaxChips))
	copy(table, b)
	if err := d.WriteBlocks(0, table); err != nil {
		return fmt.Errorf("cardflash: table of chips: %w", err)
	}
	return nil
}

// Offset is where the chip's contents begin on the card, in bytes.
func (c *Chip) Offset() int64 { return c.offset }
