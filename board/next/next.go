// Package next starts another image in place of the one that runs: the bootloader starts
// the controller so. It wraps what the kernel offers for it (docs/kernel.md, The next
// image): the window of RAM where the image goes, /dev/next, and the hand-over block,
// which goes from one image to the next.
//
// What lies in the window is the caller's business, and so is its verification: the
// kernel looks at nothing of it.
package next

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"syscall"

	"nitro/board/imx6ul"
	"nitro/board/kernel"
)

const pageSize = 4096

// ErrLast tells that this image was not built to start another.
var ErrLast = errors.New("this image starts no other: only one with the build tag bootloader does")

// A Window is the memory where the next image goes: normal, cached memory, which holds
// zeros at first. It is mapped until the next image starts.
type Window struct {
	Addr   uint32 // of its first byte: virtual and physical
	Memory []byte
}

// Open maps the window. A program does it once: a second time it is refused (EBUSY).
func Open() (*Window, error) {
	if !imx6ul.Bootloader {
		return nil, fmt.Errorf("next: %w", ErrLast)
	}
	mem, err := mapMemory(imx6ul.NextStart, imx6ul.NextEnd)
	if err != nil {
		return nil, fmt.Errorf("next: %w", err)
	}
	return &Window{imx6ul.NextStart, mem}, nil
}

// Start leaves this image for the one that lies in the window from addr on and is n
// bytes long, at its entry. What else is in the window is zeroed, as is all memory of
// this image, so nothing of it runs again: it returns only with the reason why it could
// not. Devices should be at rest by then; those that write to memory are stopped all the
// same. The watchdog runs on, serviced last before the jump.
func (w *Window) Start(addr, n, entry uint32) error {
	f, err := os.OpenFile("/dev/next", os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("next: %w", err)
	}
	defer f.Close()
	end := (addr + n + pageSize - 1) &^ (pageSize - 1)
	var order []byte
	for _, v := range []uint32{entry, addr, end} {
		order = binary.LittleEndian.AppendUint32(order, v)
	}
	_, err = f.Write(order)
	return fmt.Errorf("next: entry %#x in an image from %#x to %#x, window from %#x on with %#x bytes: %w: place image and entry within",
		entry, addr, end, w.Addr, len(w.Memory), err)
}

// Handover maps the block that one image leaves to the next, with what it holds. A
// program does it once.
func Handover() ([]byte, error) {
	mem, err := mapMemory(kernel.HandoverStart, kernel.HandoverEnd)
	if err != nil {
		return nil, fmt.Errorf("next: hand-over block: %w", err)
	}
	return mem, nil
}

func mapMemory(start, end uint32) ([]byte, error) {
	f, err := os.OpenFile("/dev/mem", os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	mem, err := syscall.Mmap(int(f.Fd()), int64(start), int(end-start), syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("mapping %#x to %#x: %w: map it once", start, end, err)
	}
	return mem, nil
}
