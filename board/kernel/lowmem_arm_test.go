package kernel

import (
	"syscall"
	"testing"
	"unsafe"
)

// lowMemory returns n bytes of zeros.
func lowMemory(t *testing.T, n uintptr) uint32 {
	p, err := syscall.Mmap(-1, 0, int(n), syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE|syscall.MAP_ANON)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Munmap(p) })
	return uint32(uintptr(unsafe.Pointer(&p[0])))
}
