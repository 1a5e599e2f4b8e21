package usdhc

import (
	"encoding/binary"
	"fmt"
)

// An ADMA2 descriptor has eight bytes: attributes in bits 5 to 0, length in bits 31
// to 16, address in bits 63 to 32 (IMX6ULLRM 58, Advanced
// DMA in uSDHC).
const (
	DescriptorSize = 8

	admaValid    = 1 << 0
	admaEnd      = 1 << 1 // the last one
	admaInt      = 1 << 2 // sets DINT when it is done
	admaTransfer = 2 << 4 // ACT: transfer data

	// Segment is what one descriptor moves at most. Lengths have 16 bits, of which 0
	// would be 64 KiB; half of that is never mistaken, and is whole blocks.
	Segment = 32 << 10
)

// describe writes the descriptors of n bytes at addr into table and gives how many
// there are. The memory is aligned to words, as ADMA2 demands; table holds enough.
func describe(table []byte, addr, n uint32) (int, error) {
	count := int((uint64(n) + Segment - 1) / Segment)
	switch {
	case n == 0 || addr%4 != 0 || n%4 != 0 || addr+(n-1) < addr:
		return 0, fmt.Errorf("usdhc: DMA of %#x bytes at %#x: it takes whole words within 32 bits of address", n, addr)
	case count*DescriptorSize > len(table):
		return 0, fmt.Errorf("usdhc: DMA of %#x bytes takes %d descriptors, there is room for %d: move less at a time", n, count, len(table)/DescriptorSize)
	}
	for i := range count {
		length, attributes := uint32(Segment), uint32(admaTransfer|admaValid)
		if i == count-1 {
			length, attributes = n, attributes|admaEnd|admaInt
		}
		binary.LittleEndian.PutUint32(table[i*DescriptorSize:], length<<16|attributes)
		binary.LittleEndian.PutUint32(table[i*DescriptorSize+4:], addr)
		addr, n = addr+length, n-length
	}
	return count, nil
}
