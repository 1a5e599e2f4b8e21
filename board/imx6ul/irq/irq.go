// Package irq waits for a device's interrupts. The kernel offers each line of the
// interrupt controller as a file, /dev/irq/N (docs/kernel.md): an interrupt masks
// its line until the driver has dealt with the device and says so. So a storm costs
// its own driver only, and an interrupt that comes meanwhile is not lost as long as
// the device holds its line, which all blocks of the i.MX 6UltraLite do.
package irq

import (
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"time"
)

// A file is what the kernel offers for a line.
type file interface {
	io.ReadWriteCloser
	SetReadDeadline(time.Time) error
}

// A Line is an interrupt line that belongs to one driver, of which one goroutine waits
// for it.
type Line struct {
	number  int
	file    file
	bounded bool    // the file has a deadline
	count   [4]byte // what Wait reads: here, since a buffer of its own would be garbage each time
}

// Open takes a line, numbered as the interrupt controller does: shared interrupt n
// of the chip's list (IMX6ULLRM Rev. 1, 3.2) is 32+n. The line is enabled. A line
// that another has open is EBUSY.
func Open(number int) (*Line, error) {
	f, err := os.OpenFile(fmt.Sprintf("/dev/irq/%d", number), os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("irq: line %d: %w: each line has one owner", number, err)
	}
	return &Line{number: number, file: f}, nil
}

// Wait waits for an interrupt until the deadline, zero for none, and gives how many
// there were. The line is masked then: deal with the device, and call Enable. Once
// the deadline has passed the error is os.ErrDeadlineExceeded, and os.ErrClosed
// after Close.
func (l *Line) Wait(deadline time.Time) (uint32, error) {
	if bounded := !deadline.IsZero(); bounded || l.bounded {
		if err := l.file.SetReadDeadline(deadline); err != nil {
			return 0, fmt.Errorf("irq: line %d: %w", l.number, err)
		}
		l.bounded = bounded
	}
	if _, err := io.ReadFull(l.file, l.count[:]); err != nil {
		return 0, fmt.Errorf("irq: line %d: %w", l.number, err)
	}
	return binary.LittleEndian.Uint32(l.count[:]), nil
}

// Enable lets the next interrupt through. One that the device holds comes at once.
func (l *Line) Enable() error { return l.set(enable) }

// Disable masks the line.
func (l *Line) Disable() error { return l.set(disable) }

// What the kernel is told: 32 bits, little endian.
var enable, disable = []byte{1, 0, 0, 0}, []byte{0, 0, 0, 0}

func (l *Line) set(to []byte) error {
	if _, err := l.file.Write(to); err != nil {
		return fmt.Errorf("irq: line %d: set to %d: %w", l.number, to[0], err)
	}
	return nil
}

// Close masks the line and gives it back. Who waits for it gets os.ErrClosed.
func (l *Line) Close() error { return l.file.Close() }
