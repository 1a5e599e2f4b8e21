package mmio

import "unsafe"

// The accesses themselves. This is the one file with unsafe: the language has no
// access of a given width. Each place comes from Window.place, so it lies within a
// mapping, is aligned and as long as the access. The functions are not inlined, so
// the compiler, which sees one load or store in each, can neither merge two of them
// nor drop one, and makes them as wide as the type. The garbage collector has no
// part in it: the mapping is not its memory.

//go:noinline
func load32(place []byte) uint32 { return *(*uint32)(unsafe.Pointer(unsafe.SliceData(place))) }

//go:noinline
func store32(place []byte, value uint32) {
	*(*uint32)(unsafe.Pointer(unsafe.SliceData(place))) = value
}

//go:noinline
func load16(place []byte) uint16 { return *(*uint16)(unsafe.Pointer(unsafe.SliceData(place))) }

//go:noinline
func store16(place []byte, value uint16) {
	*(*uint16)(unsafe.Pointer(unsafe.SliceData(place))) = value
}
