// Package mmio is the register access that all drivers of i.MX 6UltraLite blocks
// use: 32-bit and 16-bit reads and writes at offsets of a block, a wait that always
// has a limit, and a probe for blocks that a chip may not have.
//
// Drivers take [Registers]. On the board that is a [Window] onto the block's pages,
// which /dev/mem maps as Device memory: the processor makes each access once, in
// program order within a block, and as wide as asked (ARM DDI 0406C, A3.5.7). In
// tests it is a player of expected accesses, package mmiotest.
//
// Registers are little endian. 8-bit and 64-bit accesses are left out: no block of
// this chip needs them.
package mmio

import (
	"fmt"
	"os"
	"runtime/debug"
	"syscall"
	"time"
)

// Registers are those of one block. Offsets are in bytes from the block's first
// register. An offset outside the block, or one that is not aligned to the access,
// is a mistake of the driver and panics.
type Registers interface {
	Read32(offset uint32) uint32
	Write32(offset, value uint32)
	Read16(offset uint32) uint16
	Write16(offset uint32, value uint16)
}

// A Window is a block's registers on the board.
type Window struct {
	base uint32
	mem  []byte
}

const pageSize = 4096

// Map maps the block at a physical address, size bytes of it. Both are multiples of
// 4,096. It fails where the board does not list the pages (EPERM), and when they are
// mapped already (EBUSY): a block has one owner.
func Map(base, size uint32) (*Window, error) {
	if base%pageSize != 0 || size%pageSize != 0 || size == 0 {
		return nil, fmt.Errorf("mmio: %#x bytes at %#x are not whole pages: name the block's pages", size, base)
	}
	if !onBoard {
		return nil, fmt.Errorf("mmio: block at %#x: this machine is not the board: run the program as an image for it", base)
	}
	f, err := os.OpenFile("/dev/mem", os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("mmio: block at %#x: %w", base, err)
	}
	defer f.Close()
	mem, err := syscall.Mmap(int(f.Fd()), int64(base), int(size), syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("mmio: block at %#x: %w: list its pages in the board's configuration, and map them once", base, err)
	}
	return &Window{base, mem}, nil
}

// Close gives the pages back. An access afterwards panics.
func (w *Window) Close() error {
	mem := w.mem
	w.mem = nil
	if err := syscall.Munmap(mem); err != nil {
		return fmt.Errorf("mmio: block at %#x: %w", w.base, err)
	}
	return nil
}

// place gives an access's bytes, or panics.
func (w *Window) place(offset, size uint32) []byte {
	if offset%size != 0 {
		panic(fmt.Sprintf("mmio: block at %#x: %d-byte access at offset %#x is not aligned", w.base, size, offset))
	}
	return w.mem[offset : offset+size]
}

// Read32 reads a 32-bit register.
func (w *Window) Read32(offset uint32) uint32 { return load32(w.place(offset, 4)) }

// Write32 writes a 32-bit register.
func (w *Window) Write32(offset, value uint32) { store32(w.place(offset, 4), value) }

// Read16 reads a 16-bit register.
func (w *Window) Read16(offset uint32) uint16 { return load16(w.place(offset, 2)) }

// Write16 writes a 16-bit register.
func (w *Window) Write16(offset uint32, value uint16) { store16(w.place(offset, 2), value) }

// Barrier waits until all accesses before it have reached memory or the device
// (DSB). It stands between what a device is to find in memory and the write that
// tells the device to look, and between a status that a device has reported and the
// memory that it has filled. Accesses to one block need none among themselves.
func Barrier() { barrier() }

// How Wait polls: a while without a pause, since most waits are over in a
// microsecond, then with pauses, during which other goroutines run.
const (
	pollsWithoutPause = 64
	pause             = 20 * time.Microsecond
)

// Wait polls a condition until it holds, at most for the time limit, and reports
// whether it held. The condition is looked at at least once more after the limit
// has passed, so a goroutine that was not scheduled meanwhile does not see a limit
// where the device was in time.
func Wait(condition func() bool, limit time.Duration) bool {
	for range pollsWithoutPause {
		if condition() {
			return true
		}
	}
	for end := time.Now().Add(limit); time.Now().Before(end); {
		time.Sleep(pause)
		if condition() {
			return true
		}
	}
	return condition()
}

// A fault is the panic of an access that the MMU or the bus refused, which the Go
// runtime raises under SetPanicOnFault.
type fault interface {
	error
	Addr() uintptr
}

// Probe reads a 32-bit register of a block that may not be there. The error tells
// that the bus refused the read. Only a read may probe: a refused write aborts
// later, when nobody knows any more what it was, and the kernel takes that as the
// firmware's end. The block's clock must run, or the read may hang.
func Probe(r Registers, offset uint32) (value uint32, err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		switch p := recover().(type) {
		case nil:
		case fault:
			value, err = 0, fmt.Errorf("mmio: nothing answers at %#x (offset %#x): the chip has no such block", p.Addr(), offset)
		default:
			panic(p)
		}
	}()
	return r.Read32(offset), nil
}
