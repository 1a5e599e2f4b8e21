package dma

import (
	"fmt"
	"unsafe"
)

// Accesses to words that a device reads or writes at the same time, such as the
// status in a descriptor: each must be one load or store of 32 bits, made once. This
// is the one file with unsafe. Words checks that the words are the buffer's and
// aligned; Load and Store are not inlined, so that the compiler can neither merge nor
// drop nor split an access. The memory is the arena's, not the garbage collector's.

// Words gives the buffer's memory as little-endian words, which [Load] and [Store]
// access. It panics where the length is no multiple of 4.
func (b Buffer) Words() []uint32 {
	if len(b.Bytes)%4 != 0 || b.Addr%4 != 0 {
		panic(fmt.Sprintf("dma: buffer at %#x of %d bytes: it is not made of words", b.Addr, len(b.Bytes)))
	}
	return unsafe.Slice((*uint32)(unsafe.Pointer(unsafe.SliceData(b.Bytes))), len(b.Bytes)/4)
}

// Load reads a word.
//
//go:noinline
func Load(word *uint32) uint32 { return *word }

// Store writes a word. It is ordered to other accesses by mmio.Barrier only.
//
//go:noinline
func Store(word *uint32, v uint32) { *word = v }
