//go:build linux

package sha256

import (
	"crypto/sha256"
	"syscall"
	"testing"
)

// TestBounds puts messages right before and right after a page that cannot be read:
// nothing outside of them is touched, whatever the number of blocks.
func TestBounds(t *testing.T) {
	page := syscall.Getpagesize()
	memory, err := syscall.Mmap(-1, 0, 5*page, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Munmap(memory)
	for i := range memory {
		memory[i] = byte(i * i >> 3)
	}
	for _, n := range []int{0, 4} {
		if err := syscall.Mprotect(memory[n*page:(n+1)*page], syscall.PROT_NONE); err != nil {
			t.Fatal(err)
		}
	}
	between := memory[page : 4*page]
	for n := range 40 * BlockSize {
		for _, m := range [][]byte{between[:n], between[len(between)-n:]} {
			if Sum256(m) != sha256.Sum256(m) {
				t.Fatalf("%d bytes: wrong", n)
			}
		}
	}
}
