package kernel

import (
	"syscall"
	"testing"
)

// lowMemory returns n bytes of zeros that have a 32-bit address.
func lowMemory(t *testing.T, n uintptr) uint32 {
	const map32Bit = 0x40 // MAP_32BIT
	addr, _, errno := syscall.Syscall6(syscall.SYS_MMAP, 0, n, syscall.PROT_READ|syscall.PROT_WRITE,
		syscall.MAP_PRIVATE|syscall.MAP_ANON|map32Bit, ^uintptr(0), 0)
	if errno != 0 || uint64(addr) > 1<<32-uint64(n) {
		t.Fatalf("no memory below 4 GiB: %v, %#x", errno, addr)
	}
	t.Cleanup(func() { syscall.Syscall(syscall.SYS_MUNMAP, addr, n, 0) })
	return uint32(addr)
}
