// Package epit drives the i.MX 6UltraLite's first enhanced periodic interrupt timer
// (EPIT1; IMX6ULRM Rev. 2, chapter 24) for tests and measurements that need an
// interrupt at a chosen time. It has it from the kernel as any program does: the
// registers from /dev/mem, the interrupt as a file.
//
// The timer counts down with the peripheral clock. Its compare value lies far
// above zero, so that it goes on counting after the interrupt and tells how long
// ago that was. The clock gates are left as the boot ROM sets them: on.
package epit

import (
	"encoding/binary"
	"fmt"
	"os"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"
)

// Where EPIT1 is (IMX6ULRM 2.2 and 3.2).
const (
	Address = 0x020d0000
	Line    = 32 + 56
)

// LinePath is the file of its interrupt.
const LinePath = "/dev/irq/88"

// Registers (IMX6ULRM 24.6).
const (
	cr   = 0x00
	sr   = 0x04
	lr   = 0x08
	cmpr = 0x0c
	cnr  = 0x10

	crEN     = 1 << 0
	crENMOD  = 1 << 1 // with RLD: counts from LR when enabled
	crOCIEN  = 1 << 2
	crRLD    = 1 << 3
	crWAITEN = 1 << 19 // runs while the processor waits
	crIPG    = 1 << 24 // peripheral clock
	srOCIF   = 1 << 0
)

// after is how many ticks the timer goes on counting after the interrupt.
const after = 1 << 31

// A Timer is EPIT1 with its interrupt.
type Timer struct {
	IRQ *os.File // ABI of Linux's UIO: reads wait, writing 1 enables the line
	mem []byte
}

// Open takes the timer.
func Open() (*Timer, error) {
	mem, err := os.OpenFile("/dev/mem", os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("epit: %w", err)
	}
	defer mem.Close()
	t := new(Timer)
	t.mem, err = syscall.Mmap(int(mem.Fd()), Address, os.Getpagesize(), syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("epit: mapping the registers: %w", err)
	}
	t.Stop()
	t.IRQ, err = os.OpenFile(LinePath, os.O_RDWR, 0)
	if err != nil {
		syscall.Munmap(t.mem)
		return nil, fmt.Errorf("epit: %w", err)
	}
	return t, nil
}

// Close stops the timer and gives it back. Closing again does nothing.
func (t *Timer) Close() error {
	if t.mem == nil {
		return nil
	}
	t.Stop()
	err := t.IRQ.Close()
	if unmap := syscall.Munmap(t.mem); err == nil {
		err = unmap
	}
	t.mem = nil
	return err
}

// reg is the register at an offset: it is aligned and lies in the page that Open
// mapped. Access is atomic so that the compiler neither drops nor merges it.
func (t *Timer) reg(off uintptr) *uint32 { return (*uint32)(unsafe.Pointer(&t.mem[off])) }

func (t *Timer) read(off uintptr) uint32     { return atomic.LoadUint32(t.reg(off)) }
func (t *Timer) write(off uintptr, v uint32) { atomic.StoreUint32(t.reg(off), v) }

// Start has the timer interrupt in that many ticks.
func (t *Timer) Start(ticks uint32) {
	t.Stop()
	t.write(cr, crIPG|crRLD|crENMOD|crOCIEN|crWAITEN)
	t.write(lr, after+ticks)
	t.write(cmpr, after)
	t.write(cr, crIPG|crRLD|crENMOD|crOCIEN|crWAITEN|crEN)
}

// Since returns how many ticks ago the timer interrupted.
func (t *Timer) Since() uint32 { return after - t.read(cnr) }

// Pending reports whether the timer's interrupt is raised.
func (t *Timer) Pending() bool { return t.read(sr)&srOCIF != 0 }

// Clear takes the interrupt back.
func (t *Timer) Clear() { t.write(sr, srOCIF) }

// Stop stops the timer and takes its interrupt back.
func (t *Timer) Stop() {
	t.write(cr, crIPG)
	t.Clear()
}

// Wait waits for the interrupt: it reads the file once.
func (t *Timer) Wait() (count uint32, err error) {
	var b [4]byte
	if _, err := t.IRQ.Read(b[:]); err != nil {
		return 0, err
	}
	return binary.LittleEndian.Uint32(b[:]), nil
}

// Enable enables the interrupt line again, which the kernel disables when it
// comes.
func (t *Timer) Enable() error {
	_, err := t.IRQ.Write([]byte{1, 0, 0, 0})
	return err
}

// Hz measures the timer's frequency against the system's clock.
func (t *Timer) Hz() float64 {
	t.Start(1 << 30)
	defer t.Stop()
	start, from := time.Now(), t.read(cnr)
	for time.Since(start) < 20*time.Millisecond {
	}
	took, to := time.Since(start), t.read(cnr)
	return float64(from-to) / took.Seconds()
}
