package enet

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"nitro/board/imx6ul/mmio"
)

// mdcHz is the fastest management clock (IEEE 802.3, 22.2.2.13).
const mdcHz = 2500000

// mdioLimit is how long a transfer may take: 64 bits are 26 us at 2.5 MHz.
const mdioLimit = 5 * time.Millisecond

// ErrMDIO tells that a management transfer does not end.
var ErrMDIO = errors.New("the transfer does not end: check that the block's clock runs")

// MDIO is the management interface of one ENET block (22.5.9): what PHYs of several
// ports may be on. It implements phy.Bus. It uses MMFR, MSCR and the event MII of the
// block, which nobody else touches, so the block's port runs beside it. Its methods
// may be called by several goroutines.
type MDIO struct {
	mu   sync.Mutex
	regs mmio.Registers
	mscr uint32
}

// NewMDIO drives the management interface of the block behind r. The clock is the
// block's (IPG), in Hz, at most 320 MHz.
func NewMDIO(r mmio.Registers, clock uint32) *MDIO {
	speed := (clock+2*mdcHz-1)/(2*mdcHz) - 1 // MDC is clock/(2*(speed+1))
	hold := (clock+1e8-1)/1e8 - 1            // data is held for hold+1 clocks, at least 10 ns
	if clock == 0 || speed > 63 {
		panic(fmt.Sprintf("enet: MDIO from a clock of %d Hz: the block divides by 2 to 128", clock))
	}
	return &MDIO{regs: r, mscr: speed<<mscrSpeed | hold<<mscrHold}
}

// Read reads a register, 0 to 31, of the PHY at an address, 0 to 31. Where there is
// none it reads as 0xffff.
func (m *MDIO) Read(address, register uint8) (uint16, error) {
	v, err := m.transfer(mmfrRead, address, register, 0)
	if err != nil {
		return 0, fmt.Errorf("enet: MDIO: reading register %d of PHY %d: %w", register, address, err)
	}
	return v, nil
}

// Write writes a register.
func (m *MDIO) Write(address, register uint8, value uint16) error {
	if _, err := m.transfer(mmfrWrite, address, register, value); err != nil {
		return fmt.Errorf("enet: MDIO: writing %#04x to register %d of PHY %d: %w", value, register, address, err)
	}
	return nil
}

// transfer sends one management frame. MSCR is looked at each time, since a reset of
// the block clears it. MMFR is cleared first then: with a frame in it, writing MSCR
// would send that.
func (m *MDIO) transfer(direction uint32, address, register uint8, value uint16) (uint16, error) {
	if address > 31 || register > 31 {
		return 0, errors.New("addresses and registers are 0 to 31")
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.regs.Read32(regMSCR) != m.mscr {
		m.regs.Write32(regMMFR, 0)
		m.regs.Write32(regMSCR, m.mscr)
	}
	m.regs.Write32(regEIR, eirMII)
	m.regs.Write32(regMMFR, mmfrStart|direction|uint32(address)<<23|uint32(register)<<18|mmfrTurn|uint32(value))
	if !mmio.Wait(func() bool { return m.regs.Read32(regEIR)&eirMII != 0 }, mdioLimit) {
		return 0, fmt.Errorf("EIR %#x, MSCR %#x: %w", m.regs.Read32(regEIR), m.regs.Read32(regMSCR), ErrMDIO)
	}
	m.regs.Write32(regEIR, eirMII)
	return uint16(m.regs.Read32(regMMFR)), nil
}
