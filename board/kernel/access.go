package kernel

import "unsafe"

// This file holds the package's conversions from addresses to pointers. They are
// sound because the addresses are never those of Go objects: they are device
// registers, the kernel's own region, pages that the kernel has handed out, or
// user memory that has just been checked.

func at(addr uint32) unsafe.Pointer { return unsafe.Add(nil, addr) }

func load(addr uint32) uint32    { return *(*uint32)(at(addr)) }
func store(addr, v uint32)       { *(*uint32)(at(addr)) = v }
func load8(addr uint32) byte     { return *(*byte)(at(addr)) }
func store8(addr uint32, v byte) { *(*byte)(at(addr)) = v }
func load64(addr uint32) uint64  { return uint64(load(addr)) | uint64(load(addr+4))<<32 }
func store64(addr uint32, v uint64) {
	store(addr, uint32(v))
	store(addr+4, uint32(v>>32))
}

// clearBytes fills n bytes at addr with zeros.
func clearBytes(addr, n uint32) { clear(bytesAt(addr, n)) }

// bytesAt is the memory at addr as a slice.
func bytesAt(addr, n uint32) []byte { return (*[1 << 30]byte)(at(addr))[:n:n] }

// Device registers are read and written by functions that are not inlined, so
// that the compiler neither drops nor merges an access.

//go:noinline
func readReg(addr uint32) uint32 { return load(addr) }

//go:noinline
func writeReg(addr, v uint32) { store(addr, v) }

//go:noinline
func readReg16(addr uint32) uint16 { return *(*uint16)(at(addr)) }

//go:noinline
func writeReg16(addr uint32, v uint16) { *(*uint16)(at(addr)) = v }
