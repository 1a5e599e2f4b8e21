package next

import "unsafe"

func ownBounds() *[2]uint32

// Constants gives what of the running image lies in memory and never changes, from its
// text to the page where its variables begin: text, constants, the tables between them,
// and the zeros that fill their last pages. The address is that of its first byte. So a
// bootloader can tell what it is from what runs, and not from what a card says.
//
// unsafe: the slice is over memory that the image's segments are in, which outlives it,
// which is mapped for reading alone, and which Go's collector does not manage.
func Constants() (addr uint32, memory []byte) {
	b := ownBounds()
	text, variables := b[0]&^(pageSize-1), b[1]&^(pageSize-1)
	return text, unsafe.Slice((*byte)(unsafe.Add(nil, uintptr(text))), variables-text)
}
