package dma

import (
	"fmt"
	"unsafe"
)

// Accesses to words that a device reads or writes at the same time, such as the
// status in a descriptor: each must be one load or store of 32 bits, made once. This
// is the one file with unsafe. word checks that a place lies within its buffer and
// is aligned; the functions are not inlined, so that the compiler can neither merge
// nor drop nor split an access. The memory is the arena's, not the garbage
// collector's.

// Load32 reads the little-endian word at an offset of the buffer, a multiple of 4.
// A place that is not in the buffer panics.
//
//go:noinline
func (b Buffer) Load32(offset uint32) uint32 { return *b.word(offset) }

// Store32 writes the little-endian word at an offset of the buffer, a multiple of 4.
// It is ordered to other accesses by mmio.Barrier only.
//
//go:noinline
func (b Buffer) Store32(offset, value uint32) { *b.word(offset) = value }

func (b Buffer) word(offset uint32) *uint32 {
	if offset%4 != 0 || uint64(offset)+4 > uint64(len(b.Bytes)) {
		panic(fmt.Sprintf("dma: buffer at %#x of %#x bytes: no word at offset %#x", b.Addr, len(b.Bytes), offset))
	}
	return (*uint32)(unsafe.Pointer(&b.Bytes[offset]))
}
