// Package medium says what lies where on the card of which the firmware boots, and reads
// and writes what needs care: docs/medium.md, "Layout". It has the table of places, the
// MBR, regions that are kept in two copies, and the anchor block. What is inside of the
// other places belongs to the packages image, config, journal and, for the store, store.
//
// All of it works on a [Device]: an SD card of the board, a file of the factory tool, or
// the card of package mediumtest, of which tests cut the power.
//
// The package has no partition parser. The firmware's places are constants; the MBR is
// for people's tools, so that those see the card as taken.
package medium

import (
	"encoding/binary"
	"fmt"
	"math"
)

// A Place is a part of the medium, in bytes.
type Place struct{ Offset, Size int64 }

const (
	kib = 1 << 10
	mib = 1 << 20
)

// Copies is in how many copies the places whose names end in s are kept.
const Copies = 2

// The places of docs/medium.md.
var (
	MBR              = Place{0, 512}
	BootROMHeader    = Place{0x400, 0xc00} // IVT, boot data, DCD
	BootloaderHeader = Place{0x1000, 4 * kib}
	AnchorBlock      = Place{0x2000, 8 * kib}
	Bootloader       = Place{0x4000, 8*mib - 0x4000} // its payload is at most 5 MiB
	Journal          = Place{8 * mib, 32 * kib}

	Configurations = [Copies]Place{{8*mib + 64*kib, 512 * kib}, {8*mib + 576*kib, 512 * kib}}
	// KnownGoodOf is the release part of the known-good set of slot A and slot B.
	KnownGoodOf   = [2]Place{{10 * mib, 64 * kib}, {10*mib + 64*kib, 64 * kib}}
	BoardParts    = [Copies]Place{{10*mib + 128*kib, 64 * kib}, {10*mib + 192*kib, 64 * kib}}
	SealedObjects = [Copies]Place{{10*mib + 256*kib, 64 * kib}, {10*mib + 320*kib, 64 * kib}}

	QuarantineAnchor = Place{10*mib + 384*kib, 64 * kib}
	// Ticket is where the owner's word lies that the board may leave quarantine.
	Ticket = Place{10*mib + 448*kib, 4 * kib}

	// PolicySets say who may do what (docs/policy.md).
	PolicySets = [Copies]Place{{11 * mib, 512 * kib}, {11*mib + 512*kib, 512 * kib}}

	// Slots are A and B: an image header, then the controller.
	Slots = [2]Place{{16 * mib, 32 * mib}, {48 * mib, 32 * mib}}
	Store = Place{80 * mib, 48 * mib}
)

const (
	// PoolOffset is where the local volume pool begins, which is the rest of the card.
	PoolOffset = 128 * mib
	// MinSize is that of the smallest card, in bytes.
	MinSize = 256 * mib
	// sector is the unit of the MBR in bytes, whatever the device's blocks are.
	sector = 512
)

// Pool is the local volume pool of a card of a size in bytes.
func Pool(size int64) Place { return Place{PoolOffset, size - PoolOffset} }

// partitionType says that a partition holds no file system: "Non-FS data" of util-linux's
// list.
const partitionType = 0xda

// EncodeMBR makes the master boot record of a card of a size in bytes: the classical four
// entries of 16 bytes at 446 and the signature 55 aa at 510 (UEFI Specification 2.10,
// 5.2.1). It has no code, since no PC boots from it, and no disk signature, so that all
// cards of one size are equal.
func EncodeMBR(size int64) ([sector]byte, error) {
	var b [sector]byte
	if size < MinSize {
		return b, fmt.Errorf("medium: a card of %d bytes: it must have at least %d", size, int64(MinSize))
	}
	for i, p := range []Place{
		{BootROMHeader.Offset, Journal.Offset - BootROMHeader.Offset},
		{Journal.Offset, Store.Offset - Journal.Offset},
		Store,
		Pool(size),
	} {
		e := b[446+16*i:]
		// The CHS fields say "beyond what CHS can tell": the LBA fields count.
		copy(e[1:], "\xfe\xff\xff")
		e[4] = partitionType
		copy(e[5:], "\xfe\xff\xff")
		binary.LittleEndian.PutUint32(e[8:], uint32(p.Offset/sector))
		binary.LittleEndian.PutUint32(e[12:], uint32(min(p.Size/sector, math.MaxUint32)))
	}
	b[510], b[511] = 0x55, 0xaa
	return b, nil
}
