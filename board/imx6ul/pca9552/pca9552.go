// Package pca9552 drives NXP's PCA9552, an I2C expander with 16 open-drain lines
// (data sheet PCA9552 Rev. 8, section 6; QEMU emulates it). Each line is pulled low
// or released to an external pull-up, and can be read. The chip's blinking is left
// out: the four registers that set its rates do nothing then, and serve as a memory
// that the chip loses with its lines' settings ([Expander.Nonce]).
//
// At power-on all lines are released (6.2.6).
package pca9552

import (
	"encoding/binary"
	"fmt"
	"sync"
)

// Registers (table 3, control register) and the bit that has the number rise with
// each byte.
const (
	regINPUT0     = 0x00 // lines 0 to 7; 1 is high
	regPSC0       = 0x02 // rate of blinking 0; PWM0, PSC1 and PWM1 follow
	regLS0        = 0x06 // lines 0 to 3, two bits each; LS1 to LS3 follow
	autoIncrement = 0x10
)

// blinkAtPowerOn are PSC0, PWM0, PSC1 and PWM1 after power-on or a reset of the chip
// (6.2.2 to 6.2.5), as a little-endian number.
const blinkAtPowerOn = 0x80ff80ff

// The values of a line's two bits (6.2.6).
const (
	selectLow      = 0
	selectReleased = 1
	selectMask     = 3
	linesPerLS     = 4
)

// Lines is how many a chip has.
const Lines = 16

// A Bus is what the chip is on; i2c.Bus is one.
type Bus interface {
	// Tx writes, then reads, in one transfer.
	Tx(address uint8, write, read []byte) error
}

// An Expander is one chip. Its methods may be called by several goroutines.
type Expander struct {
	mu      sync.Mutex // a line's setting shares a register with three others
	bus     Bus
	address uint8
}

// New drives the chip at an address, 0x60 to 0x67.
func New(bus Bus, address uint8) (*Expander, error) {
	if address < 0x60 || address > 0x67 {
		return nil, fmt.Errorf("pca9552: address %#x: the chip is at 0x60 to 0x67", address)
	}
	return &Expander{bus: bus, address: address}, nil
}

// Levels reads all lines; bit n is line n, 1 is high.
func (e *Expander) Levels() (uint16, error) {
	var in [2]byte
	if err := e.bus.Tx(e.address, []byte{regINPUT0 | autoIncrement}, in[:]); err != nil {
		return 0, fmt.Errorf("pca9552: reading the lines: %w", err)
	}
	return uint16(in[0]) | uint16(in[1])<<8, nil
}

// Read reads in one transfer which lines the chip is set to pull low, and all nets; bit n
// is line n. A line that blinks counts as pulled low.
func (e *Expander) Read() (pulled, levels uint16, err error) {
	var b [regLS0 + Lines/linesPerLS]byte
	if err := e.bus.Tx(e.address, []byte{regINPUT0 | autoIncrement}, b[:]); err != nil {
		return 0, 0, fmt.Errorf("pca9552: reading it: %w", err)
	}
	for line := range Lines {
		if b[regLS0+line/linesPerLS]>>(line%linesPerLS*2)&selectMask != selectReleased {
			pulled |= 1 << line
		}
	}
	return pulled, uint16(b[0]) | uint16(b[1])<<8, nil
}

// selector reads the register that holds a line's two bits.
func (e *Expander) selector(line int) (register byte, value byte, shift int, err error) {
	if line < 0 || line >= Lines {
		return 0, 0, 0, fmt.Errorf("pca9552: line %d: the chip has lines 0 to %d", line, Lines-1)
	}
	register, shift = regLS0+byte(line/linesPerLS), line%linesPerLS*2
	var v [1]byte
	if err := e.bus.Tx(e.address, []byte{register}, v[:]); err != nil {
		return 0, 0, 0, fmt.Errorf("pca9552: line %d: reading its setting: %w", line, err)
	}
	return register, v[0], shift, nil
}

// PulledLow reads back from the chip whether it is set to pull a line low.
func (e *Expander) PulledLow(line int) (bool, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	_, v, shift, err := e.selector(line)
	return err == nil && v>>shift&selectMask == selectLow, err
}

// Pull pulls a line low, or releases it, and reads the setting back: the error says
// so if the chip did not take it. No other line changes.
func (e *Expander) Pull(line int, low bool) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	register, v, shift, err := e.selector(line)
	if err != nil {
		return err
	}
	v &^= selectMask << shift
	if !low {
		v |= selectReleased << shift
	}
	if err := e.bus.Tx(e.address, []byte{register, v}, nil); err != nil {
		return fmt.Errorf("pca9552: line %d: setting it: %w", line, err)
	}
	switch _, got, _, err := e.selector(line); {
	case err != nil:
		return err
	case got != v:
		return fmt.Errorf("pca9552: line %d: register %#x holds %#x after %#x was written: check the chip and its bus", line, register, got, v)
	}
	return nil
}

// Nonce reads the number that SetNonce has written; 0 if the chip has lost its power,
// or was reset, since.
func (e *Expander) Nonce() (uint32, error) {
	var b [4]byte
	if err := e.bus.Tx(e.address, []byte{regPSC0 | autoIncrement}, b[:]); err != nil {
		return 0, fmt.Errorf("pca9552: reading the nonce: %w", err)
	}
	return binary.LittleEndian.Uint32(b[:]) ^ blinkAtPowerOn, nil
}

// SetNonce has the chip remember a number, with its lines as they are, and reads it back.
func (e *Expander) SetNonce(n uint32) error {
	b := binary.LittleEndian.AppendUint32([]byte{regPSC0 | autoIncrement}, n^blinkAtPowerOn)
	if err := e.bus.Tx(e.address, b, nil); err != nil {
		return fmt.Errorf("pca9552: writing the nonce: %w", err)
	}
	switch got, err := e.Nonce(); {
	case err != nil:
		return err
	case got != n:
		return fmt.Errorf("pca9552: the nonce is %#x after %#x was written: check the chip and its bus", got, n)
	}
	return nil
}
