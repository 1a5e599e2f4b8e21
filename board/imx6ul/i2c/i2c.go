// Package i2c is the master of an I2C bus: the i.MX 6UltraLite's I2C block
// (IMX6ULLRM Rev. 1 11/2017, chapter 31; the block is the UL's too) and the I2C-bus
// specification (NXP UM10204 Rev. 7).
//
// It is polled, speaks to 7-bit addresses, and sends repeated starts, in standard
// and fast mode (100 and 400 kHz). A device that does not answer, that loses us the
// arbitration, or that holds the clock or the data line is an error, never a hang;
// data held by a device that missed a clock is freed with up to nine clocks, driven
// through GPIO (UM10204, 3.1.16). Slave mode, 10-bit addresses, DMA and interrupts
// are left out.
//
// Erratum ERR007805 (SCL's low period is too short at 400 kHz) is met by a clock
// that stays below 384 kHz.
package i2c

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"nitro/board/imx6ul/mmio"
)

// Registers, 16 bits wide (IMX6ULLRM 31.7).
const (
	regIFDR = 0x04 // 31.7.2, frequency divider

	regI2CR  = 0x08   // 31.7.3, control
	i2crIEN  = 1 << 7 // enable
	i2crIIEN = 1 << 6 // interrupt enable
	i2crMSTA = 1 << 5 // master: setting it starts, clearing it stops
	i2crMTX  = 1 << 4 // transmit
	i2crTXAK = 1 << 3 // do not acknowledge what is received
	i2crRSTA = 1 << 2 // repeated start

	regI2SR  = 0x0c   // 31.7.4, status; IIF and IAL are cleared by writing 0
	i2srICF  = 1 << 7 // no byte is on its way
	i2srIBB  = 1 << 5 // bus is busy
	i2srIAL  = 1 << 4 // arbitration was lost
	i2srIIF  = 1 << 1 // a byte is through, or arbitration was lost
	i2srRXAK = 1 << 0 // no acknowledge came

	regI2DR = 0x10 // 31.7.5, data
)

// i2crOn has the interrupt enabled although it is polled: QEMU sets IIF only then.
// Nobody opens the line at the interrupt controller, so none is taken.
const i2crOn = i2crIEN | i2crIIEN

// Size is that of the block's registers.
const Size = 0x4000

// Errors that Tx wraps.
var (
	ErrNoAnswer    = errors.New("no device acknowledges: check address, power and wiring")
	ErrRefused     = errors.New("the device does not acknowledge a byte: it is busy or refuses it")
	ErrArbitration = errors.New("arbitration lost: another master, or a short, is on the bus: try again")
	ErrClockHeld   = errors.New("the clock line is held low: a device hangs: reset its power")
	ErrDataHeld    = errors.New("the data line is held low: a device hangs: reset its power")
)

// Pins are the bus's two lines as open-drain GPIO, to free a bus that hangs.
type Pins interface {
	Take()        // makes the lines GPIO, both released
	Give()        // makes them the I2C block's again
	SCL(low bool) // pulls the clock low, or releases it
	SDA(low bool) // pulls the data low, or releases it
	Levels() (scl, sda bool)
}

// Config is how a bus runs.
type Config struct {
	Clock uint32        // of the block (PERCLK), Hz
	Speed uint32        // of the bus, Hz; it will not be faster
	Limit time.Duration // how long a device may stretch the clock for one byte; 0 is 25 ms, SMBus's
	Pins  Pins          // nil where the bus cannot be freed
}

const (
	defaultLimit = 25 * time.Millisecond
	maxSpeed     = 384000               // ERR007805
	settle       = time.Microsecond     // after RSTA, two module clocks (31.6), at most 156 ns
	halfClock    = 5 * time.Microsecond // of the clocks that free a bus: at most 100 kHz
	freeingClock = 9                    // UM10204, 3.1.16
)

// A Bus is an I2C bus with one master. Its methods may be called by several
// goroutines.
type Bus struct {
	mu     sync.Mutex
	regs   mmio.Registers
	c      Config
	master bool // a transfer was started and has not been stopped
}

// New drives the block behind r.
func New(r mmio.Registers, c Config) (*Bus, error) {
	ic, ok := divider(c.Clock, min(c.Speed, maxSpeed))
	if !ok || c.Speed == 0 {
		return nil, fmt.Errorf("i2c: a bus of %d Hz from a clock of %d Hz: the block divides by 22 to 3840", c.Speed, c.Clock)
	}
	if c.Limit == 0 {
		c.Limit = defaultLimit
	}
	r.Write16(regI2CR, 0)
	r.Write16(regIFDR, ic)
	return &Bus{regs: r, c: c}, nil
}

// Tx sends write to the device with a 7-bit address, then, after a repeated start,
// reads len(read) bytes. Either may be empty; with both empty the device only has to
// acknowledge its address.
func (b *Bus) Tx(address uint8, write, read []byte) error {
	if address > 0x7f {
		return fmt.Errorf("i2c: address %#x: addresses have 7 bits", address)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	err := b.start()
	if err == nil {
		err = b.transfer(address, write, read)
	}
	if b.master {
		err = errors.Join(err, b.stop())
	}
	if err != nil {
		return fmt.Errorf("i2c: device %#02x, %d bytes out, %d in, I2SR %#02x: %w", address, len(write), len(read), b.regs.Read16(regI2SR), err)
	}
	return nil
}

func (b *Bus) transfer(address uint8, write, read []byte) error {
	if len(write) > 0 || len(read) == 0 {
		if err := b.send(address<<1, ErrNoAnswer); err != nil {
			return err
		}
		for _, v := range write {
			if err := b.send(v, ErrRefused); err != nil {
				return err
			}
		}
	}
	if len(read) == 0 {
		return nil
	}
	if len(write) > 0 {
		b.regs.Write16(regI2CR, i2crOn|i2crMSTA|i2crMTX|i2crRSTA)
		time.Sleep(settle)
	}
	if err := b.send(address<<1|1, ErrNoAnswer); err != nil {
		return err
	}
	return b.receive(read)
}

// start takes the bus, and frees it first if a device hangs (31.5.2).
func (b *Bus) start() error {
	b.regs.Write16(regI2CR, i2crOn)
	b.regs.Write16(regI2SR, 0)
	if !b.idle() {
		if err := b.free(); err != nil {
			return err
		}
		if !b.idle() {
			return ErrArbitration
		}
	}
	b.regs.Write16(regI2CR, i2crOn|i2crMSTA|i2crMTX)
	b.master = true
	var status uint16
	started := mmio.Wait(func() bool {
		status = b.regs.Read16(regI2SR)
		return status&(i2srIBB|i2srIAL) != 0
	}, b.c.Limit)
	switch {
	case status&i2srIAL != 0:
		return b.lost()
	case !started:
		return ErrClockHeld
	}
	return nil
}

// idle waits until the bus is free.
func (b *Bus) idle() bool {
	return mmio.Wait(func() bool { return b.regs.Read16(regI2SR)&i2srIBB == 0 }, b.c.Limit)
}

// stop ends the transfer (31.5.4).
func (b *Bus) stop() error {
	b.master = false
	b.regs.Write16(regI2CR, i2crOn)
	if !b.idle() {
		return b.free()
	}
	return nil
}

// lost gives the bus up, without a stop: it is another master's now. The block wants to be switched off then (31.5.7, and the
// note to figure 31-8).
func (b *Bus) lost() error {
	b.master = false
	b.regs.Write16(regI2SR, 0)
	b.regs.Write16(regI2CR, 0)
	return ErrArbitration
}

// through waits until a byte is, and gives the status that was read then. QEMU does
// not set IIF where nobody acknowledges an address; the byte is through all the same
// then, which ICF shows, and a device that holds the clock would not let it be.
func (b *Bus) through() (status uint16, err error) {
	done := mmio.Wait(func() bool {
		status = b.regs.Read16(regI2SR)
		return status&i2srIIF != 0
	}, b.c.Limit)
	if !done && status&(i2srICF|i2srRXAK) != i2srICF|i2srRXAK {
		return status, ErrClockHeld
	}
	b.regs.Write16(regI2SR, 0)
	if status&i2srIAL != 0 {
		return status, b.lost()
	}
	return status, nil
}

// send sends one byte; refused is what it means when nobody acknowledges it.
func (b *Bus) send(v byte, refused error) error {
	b.regs.Write16(regI2DR, uint16(v))
	status, err := b.through()
	if err == nil && status&i2srRXAK != 0 {
		err = refused
	}
	return err
}

// receive reads what the device sends. Reading a byte out of the block starts the
// next one; so the second to last is told not to be acknowledged before it is read
// out, and the last one is read out after the stop.
func (b *Bus) receive(read []byte) error {
	control := func(left int) uint16 {
		if left == 1 {
			return i2crOn | i2crMSTA | i2crTXAK
		}
		return i2crOn | i2crMSTA
	}
	b.regs.Write16(regI2CR, control(len(read)))
	b.regs.Read16(regI2DR) // starts the first one
	for i := range read {
		if _, err := b.through(); err != nil {
			return err
		}
		if left := len(read) - 1 - i; left == 1 {
			b.regs.Write16(regI2CR, control(left))
		} else if left == 0 {
			if err := b.stop(); err != nil {
				return err
			}
		}
		read[i] = byte(b.regs.Read16(regI2DR))
	}
	return nil
}

// free clocks a device out of a byte that it still wants to send, and sends a stop.
func (b *Bus) free() error {
	b.regs.Write16(regI2CR, 0)
	if b.c.Pins == nil {
		return ErrDataHeld
	}
	b.c.Pins.Take()
	err := clockOut(b.c.Pins, b.c.Limit)
	b.c.Pins.Give()
	b.regs.Write16(regI2CR, i2crOn)
	b.regs.Write16(regI2SR, 0)
	return err
}

// clockOut gives clocks until the data line is released, then a stop.
func clockOut(p Pins, limit time.Duration) error {
	high := func() bool { scl, _ := p.Levels(); return scl }
	for range freeingClock {
		if !mmio.Wait(high, limit) {
			return ErrClockHeld
		}
		if _, sda := p.Levels(); sda {
			break
		}
		p.SCL(true)
		time.Sleep(halfClock)
		p.SCL(false)
		time.Sleep(halfClock)
	}
	p.SCL(true)
	time.Sleep(halfClock)
	p.SDA(true)
	time.Sleep(halfClock)
	p.SCL(false)
	ok := mmio.Wait(high, limit)
	time.Sleep(halfClock)
	p.SDA(false)
	time.Sleep(halfClock)
	if !ok {
		return ErrClockHeld
	}
	if _, sda := p.Levels(); !sda {
		return ErrDataHeld
	}
	return nil
}
