package next

import "unsafe"

// Own gives the running image's own memory, which the caller only reads: its text and
// constants lie where they were linked to, so that a bootloader can compare itself with
// what its card has. An address that is not mapped is a fault.
//
// unsafe: the slice is over memory that the image's segments are in, which outlives it
// and which Go's collector does not manage.
func Own(addr, n uint32) []byte {
	return unsafe.Slice((*byte)(unsafe.Add(nil, uintptr(addr))), n)
}
