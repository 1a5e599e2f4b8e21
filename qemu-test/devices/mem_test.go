//go:build boardtest

package devices

import (
	"bytes"
	"errors"
	"os"
	"runtime/debug"
	"syscall"
	"testing"

	"nitro/board/kernel"
	"nitro/qemu-test/epit"
)

const (
	page     = 4096
	readOnly = syscall.PROT_READ
	both     = syscall.PROT_READ | syscall.PROT_WRITE
)

func openMem(t *testing.T, flags int) *os.File {
	t.Helper()
	f, err := os.OpenFile("/dev/mem", flags, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func TestMemRefuses(t *testing.T) {
	for _, c := range []struct {
		what        string
		addr        int64
		pages       int
		prot, flags int
		want        syscall.Errno
	}{
		{"boot ROM", 0, 1, readOnly, syscall.MAP_SHARED, syscall.EPERM},
		{"OCRAM", 0x00900000, 1, readOnly, syscall.MAP_SHARED, syscall.EPERM},
		{"GIC distributor", 0x00a01000, 1, readOnly, syscall.MAP_SHARED, syscall.EPERM},
		{"GIC CPU interface", 0x00a02000, 1, both, syscall.MAP_SHARED, syscall.EPERM},
		{"the kernel's UART", 0x02020000, 1, both, syscall.MAP_SHARED, syscall.EPERM},
		{"the kernel's watchdog", 0x020bc000, 1, both, syscall.MAP_SHARED, syscall.EPERM},
		{"peripheral bridge", 0x0207c000, 1, both, syscall.MAP_SHARED, syscall.EPERM},
		{"SRC", 0x020d8000, 1, both, syscall.MAP_SHARED, syscall.EPERM},
		{"general purpose registers", 0x020e4000, 1, both, syscall.MAP_SHARED, syscall.EPERM},
		{"system counter", 0x021dc000, 1, both, syscall.MAP_SHARED, syscall.EPERM},
		{"CSU", 0x021c0000, 1, both, syscall.MAP_SHARED, syscall.EPERM},
		{"RAM", 0x80000000, 1, readOnly, syscall.MAP_SHARED, syscall.EPERM},
		{"the image", 0x80010000, 1, both, syscall.MAP_SHARED, syscall.EPERM},
		{"RAM before DMA memory", kernel.DMAStart - page, 2, readOnly, syscall.MAP_SHARED, syscall.EPERM},
		{"the next image's window", 0x8000f000, 1, both, syscall.MAP_SHARED, syscall.EPERM},
		{"the end of that window", 0x81fff000, 1, both, syscall.MAP_SHARED, syscall.EPERM},
		{"where the bootloader lies", 0x9800f000, 1, both, syscall.MAP_SHARED, syscall.EPERM},
		{"DMA memory and the hand-over block", kernel.DMAEnd - page, 2, readOnly, syscall.MAP_SHARED, syscall.EPERM},
		{"the kernel's region", kernel.HandoverEnd, 1, readOnly, syscall.MAP_SHARED, syscall.EPERM},
		{"the hand-over block and the kernel's region", kernel.HandoverEnd - page, 2, readOnly, syscall.MAP_SHARED, syscall.EPERM},
		{"the page before EPIT1", epit.Address - page, 2, both, syscall.MAP_SHARED, syscall.EPERM},
		{"the page after EPIT1", epit.Address + 3*page, 2, both, syscall.MAP_SHARED, syscall.EPERM},
		{"GPIO5 to ENET2, across a gap", 0x020af000, 6, both, syscall.MAP_SHARED, syscall.EPERM},
		{"the last page", 0xfffff000, 1, both, syscall.MAP_SHARED, syscall.EPERM},
		{"beyond the last page", 0xfffff000, 2, both, syscall.MAP_SHARED, syscall.EPERM},
		{"a private mapping", epit.Address, 1, both, syscall.MAP_PRIVATE, syscall.EINVAL},
		{"an executable mapping", epit.Address, 1, readOnly | syscall.PROT_EXEC, syscall.MAP_SHARED, syscall.EACCES},
		{"a mapping without access", epit.Address, 1, syscall.PROT_NONE, syscall.MAP_SHARED, syscall.EACCES},
	} {
		p, err := syscall.Mmap(int(openMem(t, os.O_RDWR).Fd()), c.addr, c.pages*page, c.prot, c.flags)
		if err != c.want {
			t.Errorf("%s, %d pages at %#x: %v, want %v", c.what, c.pages, c.addr, err, c.want)
		}
		if err == nil {
			syscall.Munmap(p)
		}
	}
	ro := openMem(t, os.O_RDONLY)
	if _, err := syscall.Mmap(int(ro.Fd()), epit.Address, page, both, syscall.MAP_SHARED); err != syscall.EACCES {
		t.Errorf("writing through a file that is open for reading: %v, want EACCES", err)
	}
	null, err := os.OpenFile("/dev/null", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	if _, err := syscall.Mmap(int(null.Fd()), epit.Address, page, both, syscall.MAP_SHARED); err != syscall.ENODEV {
		t.Errorf("mapping /dev/null: %v, want ENODEV", err)
	}
}

// faults reports whether an access panics with a memory fault.
func faults(access func()) (fault bool) {
	old := debug.SetPanicOnFault(true)
	defer debug.SetPanicOnFault(old)
	defer func() {
		var addr interface{ Addr() uintptr }
		err, _ := recover().(error)
		fault = errors.As(err, &addr)
	}()
	access()
	return false
}

var sink byte

func TestDevicePages(t *testing.T) {
	mem := openMem(t, os.O_RDWR)
	fd := int(mem.Fd())
	for round := range 3 {
		p, err := syscall.Mmap(fd, epit.Address, page, both, syscall.MAP_SHARED)
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		if _, err := syscall.Mmap(fd, epit.Address, page, both, syscall.MAP_SHARED); err != syscall.EBUSY {
			t.Errorf("mapping again what is mapped: %v, want EBUSY", err)
		}
		sink = p[0]
		if err := syscall.Munmap(p); err != nil {
			t.Fatal(err)
		}
		if !faults(func() { sink = p[0] }) {
			t.Fatal("an unmapped device page can be read")
		}
	}
	p, err := syscall.Mmap(fd, epit.Address, page, readOnly, syscall.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Munmap(p)
	if !faults(func() { p[8] = 1 }) {
		t.Error("a device page that is mapped for reading can be written")
	}
}

func TestDMAMemory(t *testing.T) {
	const pages = 300 // more than one second-level table
	fd := int(openMem(t, os.O_RDWR).Fd())
	zero := make([]byte, pages*page)
	pattern := make([]byte, pages*page)
	for i := range pattern {
		pattern[i] = byte(i ^ i>>8 ^ i>>16)
	}
	for round := range 2 {
		p, err := syscall.Mmap(fd, kernel.DMAStart+page, pages*page, both, syscall.MAP_SHARED)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(p, zero) {
			t.Fatalf("round %d: DMA memory is not zero at first", round)
		}
		copy(p, pattern)
		if !bytes.Equal(p, pattern) {
			t.Fatalf("round %d: DMA memory does not keep what was written", round)
		}
		if err := syscall.Munmap(p); err != nil {
			t.Fatal(err)
		}
		for _, at := range []int{0, page, len(p) - 1} {
			if !faults(func() { sink = p[at] }) || !faults(func() { p[at] = 1 }) {
				t.Fatalf("round %d: byte %d of unmapped DMA memory can be used", round, at)
			}
		}
	}
	all, err := syscall.Mmap(fd, kernel.DMAStart, kernel.DMAEnd-kernel.DMAStart, both, syscall.MAP_SHARED)
	if err != nil {
		t.Fatalf("all of DMA memory: %v", err)
	}
	all[len(all)-1] = 1
	if err := syscall.Munmap(all); err != nil {
		t.Error(err)
	}
}

// TestHandoverBlock: it is kept as it is when it is mapped again, where DMA memory is
// zeroed, and has one owner.
func TestHandoverBlock(t *testing.T) {
	const size = kernel.HandoverEnd - kernel.HandoverStart
	fd := int(openMem(t, os.O_RDWR).Fd())
	var kept []byte
	for round := range 2 {
		p, err := syscall.Mmap(fd, kernel.HandoverStart, size, both, syscall.MAP_SHARED)
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		if _, err := syscall.Mmap(fd, kernel.HandoverStart, page, both, syscall.MAP_SHARED); err != syscall.EBUSY {
			t.Errorf("mapping again what is mapped: %v, want EBUSY", err)
		}
		if round > 0 && !bytes.Equal(p, kept) {
			t.Error("the hand-over block is not as it was")
		}
		for i := range p {
			p[i] = byte(i ^ i>>8)
		}
		kept = bytes.Clone(p)
		if err := syscall.Munmap(p); err != nil {
			t.Fatal(err)
		}
	}
}

// TestNextImageRefused: an image that is not the bootloader starts no other.
func TestNextImageRefused(t *testing.T) {
	for _, flags := range []int{os.O_WRONLY, os.O_RDWR, os.O_RDONLY} {
		if _, err := syscall.Open("/dev/next", flags, 0); err != syscall.EPERM {
			t.Errorf("opening /dev/next with flags %#x: %v, want EPERM", flags, err)
		}
	}
}
