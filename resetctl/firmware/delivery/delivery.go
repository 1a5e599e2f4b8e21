// Package delivery brings update packages to the board on its card (docs/firmware.md,
// "Delivery by card"): a factory or an operator writes them to the beginning of the volume
// pool, and the controller takes them once. Nothing here is trusted: a package proves itself.
package delivery

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"nitro/boot/medium"
)

const (
	magic   = "NCDELIV1"
	sector  = 512
	lengths = 16   // where they begin
	first   = 4096 // where the packages begin, and what each begins at a multiple of

	// Max is how many packages a delivery can have.
	Max = 4
	// MaxPackage is the longest package in bytes.
	MaxPackage = 64 << 20
)

var le = binary.LittleEndian

// place is the delivery's on a card.
func place(d medium.Device) medium.Place {
	return medium.Pool(int64(min(d.Blocks(), 1<<40)) * int64(d.BlockSize()))
}

func up(n int64) int64 { return (n + first - 1) / first * first }

// Write delivers packages, in place of an earlier delivery. Its first sector comes last.
func Write(d medium.Device, packages ...[]byte) error {
	if len(packages) < 1 || len(packages) > Max {
		return fmt.Errorf("delivery: %d packages, 1 to %d are possible", len(packages), Max)
	}
	p := place(d)
	if err := Clear(d); err != nil {
		return err
	}
	table := append(make([]byte, 0, sector), magic...)
	table = le.AppendUint64(table, uint64(len(packages)))
	for at, i := int64(first), 0; i < len(packages); i++ {
		n := int64(len(packages[i]))
		if n < 1 || n > MaxPackage {
			return fmt.Errorf("delivery: package %d has %d bytes, 1 to %d are possible", i+1, n, MaxPackage)
		}
		if err := medium.WritePlace(d, medium.Place{Offset: p.Offset + at, Size: up(n)}, packages[i]); err != nil {
			return fmt.Errorf("delivery: package %d: %w", i+1, err)
		}
		table, at = le.AppendUint64(table, uint64(n)), at+up(n)
	}
	return medium.WritePlace(d, medium.Place{Offset: p.Offset, Size: sector}, table)
}

// Read gives the packages of a delivery, to be read one after the other; none where there
// is no delivery.
func Read(d medium.Device) (packages []io.Reader, err error) {
	p := place(d)
	if p.Size < sector {
		return nil, errors.New("delivery: the card has no volume pool")
	}
	table := make([]byte, sector)
	if err := medium.ReadPlace(d, medium.Place{Offset: p.Offset, Size: sector}, table); err != nil {
		return nil, fmt.Errorf("delivery: %w", err)
	}
	if string(table[:8]) != magic {
		return nil, nil
	}
	count := le.Uint64(table[8:])
	if count < 1 || count > Max {
		return nil, fmt.Errorf("delivery: %d packages, 1 to %d are possible", count, Max)
	}
	for at, i := int64(first), uint64(0); i < count; i++ {
		n := le.Uint64(table[lengths+8*i:])
		if n < 1 || n > MaxPackage || at+up(int64(n)) > p.Size {
			return nil, fmt.Errorf("delivery: package %d: %d bytes do not fit", i+1, n)
		}
		r, err := medium.NewReader(d, medium.Place{Offset: p.Offset + at, Size: up(int64(n))})
		if err != nil {
			return nil, fmt.Errorf("delivery: package %d: %w", i+1, err)
		}
		packages, at = append(packages, io.LimitReader(r, int64(n))), at+up(int64(n))
	}
	return packages, nil
}

// Clear takes a delivery away.
func Clear(d medium.Device) error {
	if err := medium.WritePlace(d, medium.Place{Offset: place(d).Offset, Size: sector}, make([]byte, sector)); err != nil {
		return fmt.Errorf("delivery: %w", err)
	}
	return nil
}
