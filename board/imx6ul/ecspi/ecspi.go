// Package ecspi is the master of an SPI bus: the i.MX 6UltraLite's ECSPI block
// (IMX6ULLRM Rev. 1 11/2017, chapter 20; the block is the UL's too, and the i.MX 6's).
//
// It is polled. What is sent goes in bursts of at most 256 bytes, which is what the FIFOs
// hold. A device stays selected over many bursts, so chip select is a line of
// GPIO and not the block's own, which goes up after each burst of at most 512 bytes. The
// mode is SPI's 0: clock low when idle, data taken at its rising edge. Bytes go most
// significant bit first.
//
// The slave's side, modes 1 to 3, DMA and interrupts are left out. So is full duplex: a
// flash either listens or talks.
package ecspi

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"nitro/board/imx6ul/mmio"
)

// Registers (IMX6ULLRM 20.7).
const (
	regRXDATA = 0x00 // 20.7.1, receive FIFO
	regTXDATA = 0x04 // 20.7.2, transmit FIFO

	regCONREG      = 0x08   // 20.7.3, control
	conEN          = 1 << 0 // enable; clearing it resets all but this register
	conXCH         = 1 << 2 // exchange: starts a burst
	conCHANNELMODE = 4      // master, a bit a channel
	conPOSTDIVIDER = 8      // clock by 2^n, four bits
	conPREDIVIDER  = 12     // clock by n+1, four bits
	conCHANNEL     = 18     // channel select, two bits
	conBURSTLENGTH = 20     // bits of a burst less one, twelve bits
	regCONFIGREG   = 0x0c   // 20.7.4, configuration: 0 is mode 0, chip select low
	regINTREG      = 0x10   // 20.7.5, interrupt control
	regDMAREG      = 0x14   // 20.7.6, DMA control
	regSTATREG     = 0x18   // 20.7.7, status
	statRR         = 1 << 3 // the receive FIFO has a word
	statRO         = 1 << 6 // the receive FIFO overflowed; write 1 to clear
	statTC         = 1 << 7 // transfer completed; write 1 to clear
	regPERIODREG   = 0x1c   // 20.7.8, wait states between words
	maxPost        = 15
	maxPre         = 15
)

// Size is that of the block's registers.
const Size = 0x4000

const (
	wordSize = 4             // bytes of a FIFO's word
	fifoSize = 64 * wordSize // bytes (20.1.1)
)

// A Select is the device's chip select: a line that is low while the device is
// selected. A gpio.Line that is an output is one.
type Select interface{ Set(high bool) }

// Config is how a bus runs.
type Config struct {
	Clock   uint32 // of the block (ECSPI_CLK_ROOT), Hz
	Speed   uint32 // of the bus, Hz; it will not be faster
	Channel int    // 0 to 3: whose settings are used; its own chip select is not wired
	Select  Select
}

// Errors that Tx wraps.
var (
	ErrStuck    = errors.New("the block does not complete a burst: check its clock gate")
	ErrReceived = errors.New("the receive FIFO does not hold what was sent: something else uses the block")
)

// grace is how much longer than its bits a burst may take.
const grace = 10 * time.Millisecond

// A Bus is an SPI bus with one device. Its methods may be called by several goroutines.
type Bus struct {
	mu      sync.Mutex
	regs    mmio.Registers
	cs      Select
	control uint32
	speed   uint32 // that the bus has
}

// New drives the block behind r, and leaves the device unselected.
func New(r mmio.Registers, c Config) (*Bus, error) {
	if c.Channel < 0 || c.Channel > 3 || c.Select == nil {
		panic(fmt.Sprintf("ecspi: channel %d: the block has 0 to 3, and each bus a chip select", c.Channel))
	}
	pre, post, speed, ok := dividers(c.Clock, c.Speed)
	if !ok {
		return nil, fmt.Errorf("ecspi: a bus of %d Hz from a clock of %d Hz: the block divides by 1 to %d", c.Speed, c.Clock, (maxPre+1)<<maxPost)
	}
	b := &Bus{regs: r, cs: c.Select, speed: speed}
	b.control = conEN | 1<<(conCHANNELMODE+c.Channel) | post<<conPOSTDIVIDER | pre<<conPREDIVIDER | uint32(c.Channel)<<conCHANNEL
	c.Select.Set(true)
	r.Write32(regCONREG, 0)
	r.Write32(regCONREG, b.control)
	for _, reg := range []uint32{regCONFIGREG, regINTREG, regDMAREG, regPERIODREG} {
		r.Write32(reg, 0)
	}
	return b, nil
}

// dividers finds the fastest clock that is no faster than speed: the block divides by
// pre+1 and by 2^post (20.7.3).
func dividers(clock, speed uint32) (pre, post, is uint32, ok bool) {
	for n := uint32(0); n <= maxPost; n++ {
		for m := uint32(0); m <= maxPre; m++ {
			by := uint64(m+1) << n
			if uint64(speed)*by < uint64(clock) {
				continue
			}
			if got := uint32(uint64(clock) / by); got > is {
				pre, post, is, ok = m, n, got, true
			}
			break // larger ones only make it slower
		}
	}
	return pre, post, is, ok
}

// Tx selects the device, sends write, then reads len(read) bytes (sending zeros), and
// unselects it.
func (b *Bus) Tx(write, read []byte) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.cs.Set(false)
	err := b.bursts(write, nil)
	if err == nil {
		err = b.bursts(nil, read)
	}
	b.cs.Set(true)
	if err != nil {
		return fmt.Errorf("ecspi: %d bytes out, %d in, STATREG %#x: %w", len(write), len(read), b.regs.Read32(regSTATREG), err)
	}
	return nil
}

// bursts sends out, or else fills in.
func (b *Bus) bursts(out, in []byte) error {
	for len(out)+len(in) > 0 {
		n := min(len(out)+len(in), fifoSize)
		b.fill(out, n)
		if err := b.exchange(n); err != nil {
			return err
		}
		if err := b.drain(in, n); err != nil {
			return err
		}
		out, in = out[min(n, len(out)):], in[min(n, len(in)):]
	}
	return nil
}

// first is how many bytes of a burst are in its first word. They are the word's lowest:
// what does not make whole words comes first (20.7.3, BURST_LENGTH).
func first(n int) int { return (n-1)%wordSize + 1 }

// fill puts a burst into the transmit FIFO.
func (b *Bus) fill(out []byte, n int) {
	for at, k := 0, first(n); at < n; at, k = at+k, wordSize {
		var word uint32
		for i := range k {
			word <<= 8
			if at+i < len(out) {
				word |= uint32(out[at+i])
			}
		}
		b.regs.Write32(regTXDATA, word)
	}
}

// exchange sends a burst and waits for its end.
func (b *Bus) exchange(n int) error {
	b.regs.Write32(regCONREG, b.control|uint32(n*8-1)<<conBURSTLENGTH|conXCH)
	limit := grace + time.Duration(n*8)*time.Second/time.Duration(b.speed)
	if !mmio.Wait(func() bool { return b.regs.Read32(regSTATREG)&statTC != 0 }, limit) {
		b.reset()
		return ErrStuck
	}
	b.regs.Write32(regSTATREG, statTC)
	return nil
}

// drain takes a burst out of the receive FIFO, which must hold it and nothing else.
func (b *Bus) drain(in []byte, n int) error {
	status := b.regs.Read32(regSTATREG)
	ok := status&statRR != 0 && status&statRO == 0
	for at, k := 0, first(n); at < n; at, k = at+k, wordSize {
		word := b.regs.Read32(regRXDATA)
		for i := range k {
			if at+i < len(in) {
				in[at+i] = byte(word >> (8 * (k - 1 - i)))
			}
		}
	}
	if !ok || b.regs.Read32(regSTATREG)&statRR != 0 {
		b.reset()
		return ErrReceived
	}
	return nil
}

// reset empties the FIFOs and ends what is under way.
func (b *Bus) reset() {
	b.regs.Write32(regCONREG, 0)
	b.regs.Write32(regCONREG, b.control)
}
