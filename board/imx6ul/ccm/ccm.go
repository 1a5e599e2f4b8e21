// Package ccm switches the i.MX 6UltraLite's clocks: gates, and the PLL of the
// Ethernet ports (IMX6ULLRM Rev. 1 11/2017, chapter 18, and 18.7 for the analog
// part). It also tells which chip this is. Frequencies of the processor, the buses
// and memory, the other PLLs and low-power modes are left out: the boot ROM and the
// boot image's configuration set them.
package ccm

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"nitro/board/imx6ul/mmio"
)

// Places of the two blocks (IMX6ULLRM 2.2). Other blocks follow the analog part
// within its 16 KiB, so it is one page.
const (
	Base       = 0x020c4000
	Size       = 0x4000
	AnalogBase = 0x020c8000
	AnalogSize = 0x1000
)

// Registers of the gates: CCGR0 to CCGR6, 16 gates of two bits each (18.6.23 to
// 18.6.29).
const (
	regCCGR0  = 0x68
	gateAlive = 3 // on in all modes but STOP
	gateMask  = 3
)

// A Gate is a clock gate: the number of its register, and its own within.
type Gate struct{ Register, Number uint8 }

// The gates of the blocks that have drivers. The UL's differ from the ULL's in
// places: it gates ENET by ENETofUL, where the ULL has UART3, and has CAAM, where the
// ULL has ENET (ENETofULL) and DCP. A driver for both switches on both.
var (
	ENETofULL  = Gate{0, 6}
	ENETofUL   = Gate{1, 5}
	CAAMMemory = Gate{0, 4} // UL
	CAAMBus    = Gate{0, 5} // UL
	CAAM       = Gate{0, 6} // UL
	ECSPI1     = Gate{1, 0}
	ECSPI2     = Gate{1, 1}
	ECSPI3     = Gate{1, 2}
	ECSPI4     = Gate{1, 3}
	GPIO1      = Gate{1, 13}
	GPIO2      = Gate{0, 15}
	GPIO3      = Gate{2, 13}
	GPIO4      = Gate{3, 6}
	GPIO5      = Gate{1, 15}
	I2C1       = Gate{2, 3}
	I2C2       = Gate{2, 4}
	I2C3       = Gate{2, 5}
	I2C4       = Gate{6, 12}
	OCOTP      = Gate{2, 6}
	IOMUXC     = Gate{4, 1}
	SNVSHP     = Gate{5, 9}
	SNVSLP     = Gate{5, 10}
	USDHC1     = Gate{6, 1}
	USDHC2     = Gate{6, 2}
)

// Registers of the analog part (18.7). Writing a 1 to the second and the third sets
// and clears the bit.
const (
	regPLLENET    = 0xe0 // 18.7.15
	regPLLENETSet = 0xe4
	regPLLENETClr = 0xe8
	pllLOCK       = 1 << 31
	pllBYPASS     = 1 << 16
	pllPOWERDOWN  = 1 << 12
	pllENABLE1    = 1 << 13 // port 1's clock
	pllENABLE2    = 1 << 20 // port 2's clock
	pllDIV1       = 0       // port 1's divider, two bits
	pllDIV2       = 2       // port 2's
	pllDIVMask    = 3
	pll50MHz      = 1

	regDIGPROG = 0x260 // chip and revision
)

// lockLimit is how long a PLL may take to lock; it needs less than a millisecond.
const lockLimit = 10 * time.Millisecond

// ErrNoLock tells that a PLL does not lock.
var ErrNoLock = errors.New("the PLL does not lock: check the 24 MHz crystal and the supply of the PLLs")

// CCM is the block, with its analog part. Its methods may be called by several
// goroutines.
type CCM struct {
	mu           sync.Mutex
	regs, analog mmio.Registers
}

// New drives the block behind the two ranges of registers.
func New(regs, analog mmio.Registers) *CCM { return &CCM{regs: regs, analog: analog} }

func (g Gate) place() (register, shift uint32) {
	if g.Register > 6 || g.Number > 15 {
		panic(fmt.Sprintf("ccm: no such gate: %+v", g))
	}
	return regCCGR0 + uint32(g.Register)*4, uint32(g.Number) * 2
}

// On switches clocks on. It panics where there is no such gate.
func (c *CCM) On(gates ...Gate) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, g := range gates {
		register, shift := g.place()
		c.regs.Write32(register, c.regs.Read32(register)|gateAlive<<shift)
	}
}

// IsOn tells whether a clock is on while the processor runs.
func (c *CCM) IsOn(g Gate) bool {
	register, shift := g.place()
	return c.regs.Read32(register)>>shift&gateMask != 0
}

// EnableENET gives Ethernet port 1 or 2 its 50 MHz, and waits until the PLL has
// locked. A port that runs already keeps running.
func (c *CCM) EnableENET(port int) error {
	divider, enable := uint32(pllDIV1), uint32(pllENABLE1)
	switch port {
	case 1:
	case 2:
		divider, enable = pllDIV2, pllENABLE2
	default:
		return fmt.Errorf("ccm: Ethernet port %d: there are 1 and 2", port)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.analog.Write32(regPLLENETClr, (pllDIVMask&^pll50MHz)<<divider)
	c.analog.Write32(regPLLENETSet, pll50MHz<<divider)
	c.analog.Write32(regPLLENETClr, pllPOWERDOWN)
	locked := func() bool { return c.analog.Read32(regPLLENET)&pllLOCK != 0 }
	if !mmio.Wait(locked, lockLimit) {
		return fmt.Errorf("ccm: Ethernet port %d, PLL_ENET %#x: %w", port, c.analog.Read32(regPLLENET), ErrNoLock)
	}
	c.analog.Write32(regPLLENETSet, enable)
	c.analog.Write32(regPLLENETClr, pllBYPASS)
	return nil
}

// A Chip is what DIGPROG says: bits 23 to 16 the family, 15 to 0 the revision.
type Chip uint32

// Families.
const (
	UL  = 0x64 // i.MX 6UltraLite
	ULL = 0x65 // i.MX 6ULL, ULZ
)

// Chip reads which chip this is.
func (c *CCM) Chip() Chip { return Chip(c.analog.Read32(regDIGPROG)) }

// Family gives UL or ULL.
func (c Chip) Family() uint8 { return uint8(c >> 16) }

// Revision gives the silicon's revision: 1.0 is the first.
func (c Chip) Revision() (major, minor int) { return int(uint8(c>>8)) + 1, int(uint8(c)) }

// Emulated tells whether this is QEMU's chip, whose revision is 0 in all places. (The
// first silicon had the same; the boards have later ones.)
func (c Chip) Emulated() bool { return c&0xffff == 0 }

func (c Chip) String() string {
	name := fmt.Sprintf("unknown family %#x", c.Family())
	switch c.Family() {
	case UL:
		name = "i.MX 6UltraLite"
	case ULL:
		name = "i.MX 6ULL"
	}
	major, minor := c.Revision()
	return fmt.Sprintf("%s revision %d.%d (DIGPROG %#x)", name, major, minor, uint32(c))
}
