package xts

import "unsafe"

// overlap tells whether a and b, of equal length, share memory without being
// the same. It uses unsafe because Go has no other way to compare where two
// slices lie; the addresses are compared and never turned back into pointers.
func overlap(a, b []byte) bool {
	if len(a) == 0 {
		return false
	}
	x, y := uintptr(unsafe.Pointer(&a[0])), uintptr(unsafe.Pointer(&b[0]))
	n := uintptr(len(a))
	return x != y && x < y+n && y < x+n
}
