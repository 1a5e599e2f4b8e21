// Package gpio drives the i.MX 6UltraLite's pins as named lines: the GPIO block
// (IMX6ULLRM Rev. 1 11/2017, chapter 28; the block is the UL's too).
//
// An output is set up in the order level (DR), direction (GDIR), function of the pad
// (IOMUXC), so it never drives anything but the level that was asked for. A line is
// read from the pad (PSR), not from what was commanded. Interrupts come on a level,
// an edge, or both edges.
//
// On silicon PSR shows an output's pad if the pad's input path is on (SION, see
// package iomuxc). QEMU's PSR shows inputs only.
package gpio

import (
	"fmt"
	"sync"

	"nitro/board/imx6ul/mmio"
)

// Registers (IMX6ULLRM 28.5).
const (
	regDR      = 0x00 // 28.5.1, data
	regGDIR    = 0x04 // 28.5.2, direction: 1 is output
	regPSR     = 0x08 // 28.5.3, pad status
	regICR1    = 0x0c // 28.5.4, interrupt configuration of lines 0 to 15, two bits each
	regICR2    = 0x10 // 28.5.5, of lines 16 to 31
	regIMR     = 0x14 // 28.5.6, interrupt mask: 1 lets it through
	regISR     = 0x18 // 28.5.7, interrupt status, write 1 to clear
	regEDGESEL = 0x1c // 28.5.8, both edges, whatever ICR says
)

// Size is that of a port's registers.
const Size = 0x4000

// A Trigger is what raises a line's interrupt.
type Trigger uint32

// The first four are ICR's values.
const (
	LowLevel Trigger = iota
	HighLevel
	RisingEdge
	FallingEdge
	BothEdges
)

// A Port is one GPIO block of 32 lines.
type Port struct {
	regs mmio.Registers

	mu sync.Mutex
	// latch is what DR's flip-flops hold. It is kept here because reading DR gives
	// the pad, not the flip-flop, where a line is an input (28.5.1).
	latch uint32
}

// New drives the block behind r. Outputs that drive already go on as they are.
func New(r mmio.Registers) *Port { return &Port{regs: r, latch: r.Read32(regDR)} }

// Pending gives the lines whose interrupts are armed and have come, a bit each.
func (p *Port) Pending() uint32 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.regs.Read32(regISR) & p.regs.Read32(regIMR)
}

// change sets or clears the lines of mask in a register.
func (p *Port) change(register, mask uint32, set bool) {
	v := p.regs.Read32(register) &^ mask
	if set {
		v |= mask
	}
	p.regs.Write32(register, v)
}

// setLatch writes DR. The flip-flops of all other lines keep what they hold.
func (p *Port) setLatch(mask uint32, high bool) {
	p.latch &^= mask
	if high {
		p.latch |= mask
	}
	p.regs.Write32(regDR, p.latch)
}

// A Pad gives a line its pad: package iomuxc has them.
type Pad interface{ Select() }

// A Line is one pin.
type Line struct {
	port *Port
	n    uint32
	name string
	pad  Pad
}

// Line names line n of the port, 0 to 31; the pad is what connects it. It panics
// where there is no such line.
func (p *Port) Line(n int, name string, pad Pad) *Line {
	if n < 0 || n > 31 || pad == nil {
		panic(fmt.Sprintf("gpio: line %d (%s): a port has lines 0 to 31, and each has a pad", n, name))
	}
	return &Line{p, uint32(n), name, pad}
}

// Name gives the line's name.
func (l *Line) Name() string { return l.name }

func (l *Line) mask() uint32 { return 1 << l.n }

// Output makes the line drive a level: DR, GDIR, then the pad.
func (l *Line) Output(high bool) {
	l.port.mu.Lock()
	defer l.port.mu.Unlock()
	l.port.setLatch(l.mask(), high)
	l.port.change(regGDIR, l.mask(), true)
	l.pad.Select()
}

// Input makes the line an input: GDIR, then the pad.
func (l *Line) Input() {
	l.port.mu.Lock()
	defer l.port.mu.Unlock()
	l.port.change(regGDIR, l.mask(), false)
	l.pad.Select()
}

// Set changes the level of a line that is an output.
func (l *Line) Set(high bool) {
	l.port.mu.Lock()
	defer l.port.mu.Unlock()
	l.port.setLatch(l.mask(), high)
}

// OpenDrain pulls the line low, or releases it to what pulls it up. It never drives
// high. The pad must have been selected (Input).
func (l *Line) OpenDrain(low bool) {
	l.port.mu.Lock()
	defer l.port.mu.Unlock()
	if low {
		l.port.setLatch(l.mask(), false)
	}
	l.port.change(regGDIR, l.mask(), low)
}

// High reads the pad.
func (l *Line) High() bool { return l.port.regs.Read32(regPSR)&l.mask() != 0 }

// Driven tells, from the block's registers, whether the line is an output, and of
// which level.
func (l *Line) Driven() (output, high bool) {
	l.port.mu.Lock()
	defer l.port.mu.Unlock()
	if l.port.regs.Read32(regGDIR)&l.mask() == 0 {
		return false, false
	}
	return true, l.port.regs.Read32(regDR)&l.mask() != 0
}

// Arm lets the line's interrupts through. What came before is forgotten, but for a
// level that is there.
func (l *Line) Arm(on Trigger) {
	l.port.mu.Lock()
	defer l.port.mu.Unlock()
	p := l.port
	p.change(regIMR, l.mask(), false)
	p.change(regEDGESEL, l.mask(), on == BothEdges)
	if on < BothEdges {
		register, shift := uint32(regICR1), l.n*2
		if l.n >= 16 {
			register, shift = regICR2, (l.n-16)*2
		}
		p.regs.Write32(register, p.regs.Read32(register)&^(3<<shift)|uint32(on)<<shift)
	}
	p.regs.Write32(regISR, l.mask())
	p.change(regIMR, l.mask(), true)
}

// Disarm keeps the line's interrupts back.
func (l *Line) Disarm() {
	l.port.mu.Lock()
	defer l.port.mu.Unlock()
	l.port.change(regIMR, l.mask(), false)
}

// Acknowledge clears the line's interrupt, and no other line's. It tells whether
// there was one. A level that is still there raises it again.
func (l *Line) Acknowledge() bool {
	l.port.mu.Lock()
	defer l.port.mu.Unlock()
	came := l.port.regs.Read32(regISR)&l.mask() != 0
	if came {
		l.port.regs.Write32(regISR, l.mask())
	}
	return came
}
