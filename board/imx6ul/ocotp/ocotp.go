// Package ocotp reads the i.MX 6UltraLite's fuses: the OCOTP block (IMX6ULLRM
// Rev. 1 11/2017, chapter 37; the UL has the same registers and more banks). Fuses
// are read from their shadow registers, which the chip loads at reset. Programming,
// reloading and overriding shadows are left out. The block's clock must run (CCM
// gate OCOTP).
package ocotp

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"nitro/board/imx6ul/mmio"
)

// Base and Size are the block's place (IMX6ULLRM 2.2).
const (
	Base = 0x021bc000
	Size = 0x1000
)

// Registers (37.5).
const (
	regCTRL    = 0x000 // 37.5.1
	regCTRLClr = 0x008 // writing a 1 clears the bit
	ctrlBUSY   = 1 << 8
	ctrlERROR  = 1 << 9

	// Shadow registers (37.5.12 and on): 0x10 apart, eight a bank. After bank 5 the
	// list of 37.5 has a gap.
	regShadow  = 0x400
	wordStride = 0x10
	bankStride = 0x80
	gapBank    = 6 // the first bank after the gap
	gap        = 0x100
)

// Banks and Words are the fuses' layout on the UL; the ULL has none in banks 9 and
// up, which read as zero.
const (
	Banks = 16
	Words = 8
)

// locked is what a shadow register that may not be read shows.
const locked = 0xbadabada

// limit is how long the block may be busy: it loads its shadows in well under a
// millisecond.
const limit = 10 * time.Millisecond

// Errors that reading wraps.
var (
	ErrLocked = errors.New("the fuse may not be read: its lock is set")
	ErrBusy   = errors.New("the block stays busy: check its clock")
)

// OCOTP is the block. Its methods may be called by several goroutines.
type OCOTP struct {
	mu   sync.Mutex
	regs mmio.Registers
}

// New drives the block behind r.
func New(r mmio.Registers) *OCOTP { return &OCOTP{regs: r} }

// offset is the place of a fuse word's shadow.
func offset(bank, word int) uint32 {
	o := uint32(regShadow + bank*bankStride + word*wordStride)
	if bank >= gapBank {
		o += gap
	}
	return o
}

// Read gives a word of fuses. ErrLocked tells that it may not be read.
func (o *OCOTP) Read(bank, word int) (uint32, error) {
	if bank < 0 || bank >= Banks || word < 0 || word >= Words {
		return 0, fmt.Errorf("ocotp: bank %d, word %d: there are %d banks of %d words", bank, word, Banks, Words)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	var ctrl uint32
	if !mmio.Wait(func() bool { ctrl = o.regs.Read32(regCTRL); return ctrl&ctrlBUSY == 0 }, limit) {
		return 0, fmt.Errorf("ocotp: bank %d, word %d, CTRL %#x: %w", bank, word, ctrl, ErrBusy)
	}
	if ctrl&ctrlERROR != 0 { // of an earlier access; it would block this one
		o.regs.Write32(regCTRLClr, ctrlERROR)
	}
	v := o.regs.Read32(offset(bank, word))
	ctrl = o.regs.Read32(regCTRL)
	if ctrl&ctrlERROR != 0 {
		o.regs.Write32(regCTRLClr, ctrlERROR)
	}
	if ctrl&ctrlERROR != 0 || v == locked {
		return 0, fmt.Errorf("ocotp: bank %d, word %d, CTRL %#x: %w", bank, word, ctrl, ErrLocked)
	}
	return v, nil
}

// UniqueID gives the chip's number, which no other chip has: CFG1 and CFG0 (37.5.14
// and 37.5.13). The emulator's is 0.
func (o *OCOTP) UniqueID() (uint64, error) {
	low, err := o.Read(0, 1)
	if err != nil {
		return 0, err
	}
	high, err := o.Read(0, 2)
	if err != nil {
		return 0, err
	}
	return uint64(high)<<32 | uint64(low), nil
}

// secConfigClosed is SEC_CONFIG[1], bit 1 of CFG5 (fuse map, 0x460): it closes the chip.
const secConfigClosed = 1 << 1

// Closed tells whether the boot ROM runs only what the chip's owner has signed.
func (o *OCOTP) Closed() (bool, error) {
	cfg5, err := o.Read(0, 6)
	return cfg5&secConfigClosed != 0, err
}
