// Package imx6ul is the i.MX 6UltraLite and i.MX 6ULL: where their blocks and
// interrupt lines are, and those blocks that every board uses in the same way. The
// packages below it drive one block each. Which pad, line and instance means what is
// the boards' to say.
package imx6ul

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"time"

	"nitro/board"
	"nitro/board/imx6ul/caam"
	"nitro/board/imx6ul/ccm"
	"nitro/board/imx6ul/dma"
	"nitro/board/imx6ul/gpio"
	"nitro/board/imx6ul/iomuxc"
	"nitro/board/imx6ul/mmio"
	"nitro/board/imx6ul/ocotp"
	"nitro/board/imx6ul/rngb"
	"nitro/board/imx6ul/snvs"
)

// Addresses of blocks of which there are several (IMX6ULLRM Rev. 1, 2.2; the UL's are
// the same). Blocks of which there is one have theirs in their drivers.
const (
	GPIO1 = 0x0209c000
	GPIO4 = 0x020a8000
	GPIO5 = 0x020ac000

	I2C1 = 0x021a0000

	ECSPI1 = 0x02008000

	UART1 = 0x02020000
	UART2 = 0x021e8000

	WDOG1 = 0x020bc000

	SRC           = 0x020d8000
	SystemCounter = 0x021dc000
	DIGPROG       = 0x020c8260
)

// Interrupt lines, as the GIC numbers them (3.2): the shared peripheral interrupts
// begin at 32.
const (
	UART1Line     = 32 + 26
	UART2Line     = 32 + 27
	GPIO1LineLow  = 32 + 66 // lines 0 to 15
	GPIO1LineHigh = 32 + 67 // lines 16 to 31
	WDOG1Line     = 32 + 80
)

// CounterHz is the system counter's frequency where the boot ROM has not said.
const CounterHz = 8000000

// PERCLK is the most that the clock of the I2C blocks can be, Hz: with what the boot
// ROM sets it is 49.5 or 66 MHz (31.7.2), so the bus is never too fast.
const PERCLK = 66000000

// arenaSize is the DMA memory that the drivers share: rings and buffers of two
// Ethernet ports and two cards.
const arenaSize = 4 << 20

// ALTGPIO is the function of nearly all pads that makes them GPIO (32.6).
const ALTGPIO = 5

// A SoC has the blocks that every board uses.
type SoC struct {
	Clocks *ccm.CCM
	Pads   *iomuxc.Mux
	GPIO1  *gpio.Port
	Fuses  *ocotp.OCOTP
	SNVS   *snvs.SNVS
	DMA    *dma.Arena
}

// Open maps the blocks and switches their clocks on. A program does it once.
func Open() (*SoC, error) {
	var regs [6]mmio.Registers
	for i, r := range [len(regs)]struct{ base, size uint32 }{
		{ccm.Base, ccm.Size}, {ccm.AnalogBase, ccm.AnalogSize}, {iomuxc.Base, iomuxc.Size}, {GPIO1, gpio.Size},
		{ocotp.Base, ocotp.Size}, {snvs.Base, snvs.Size},
	} {
		w, err := mmio.Map(r.base, r.size)
		if err != nil {
			return nil, fmt.Errorf("imx6ul: %w", err)
		}
		regs[i] = w
	}
	arena, err := dma.Open(arenaSize)
	if err != nil {
		return nil, fmt.Errorf("imx6ul: %w", err)
	}
	s := &SoC{Clocks: ccm.New(regs[0], regs[1]), Pads: iomuxc.New(regs[2]), DMA: arena}
	s.Clocks.On(ccm.IOMUXC, ccm.GPIO1, ccm.OCOTP, ccm.SNVSHP, ccm.SNVSLP)
	s.GPIO1 = gpio.New(regs[3])
	s.Fuses = ocotp.New(regs[4])
	s.SNVS = snvs.New(regs[5])
	return s, nil
}

// Emulated tells whether QEMU plays the chip.
func (s *SoC) Emulated() bool { return s.Clocks.Chip().Emulated() }

// Chip describes the chip.
func (s *SoC) Chip() string { return s.Clocks.Chip().String() }

// UniqueID is the chip's number.
func (s *SoC) UniqueID() (uint64, error) { return s.Fuses.UniqueID() }

// Closed tells whether the boot ROM runs only what the chip's owner has signed. QEMU has
// no boot ROM, and no fuse is blown there.
func (s *SoC) Closed() (bool, error) { return s.Fuses.Closed() }

// errNoSecret: the chip's key derivation is not driven.
var errNoSecret = errors.New("this firmware does not drive the chip's key derivation (CAAM, DCP): use an emulated board")

// standIn is what an emulated chip has in place of a secret.
const standIn = "nitro emulated board: this is no secret"

// Secret derives the SoC's secret. An emulated chip has a stand-in that everybody knows,
// and says so.
func (s *SoC) Secret() (derived [32]byte, worth board.SecretWorth, err error) {
	if !s.Emulated() {
		return derived, board.NoSecret, fmt.Errorf("imx6ul: %w", errNoSecret)
	}
	return sha256.Sum256([]byte(standIn)), board.NoSecret, nil
}

// Random sets the chip's random number generator up: CAAM's on the UL, the RNGB on the
// ULL. QEMU has neither, and nil is what there is.
func (s *SoC) Random() (io.Reader, error) {
	chip := s.Clocks.Chip()
	switch {
	case chip.Emulated():
		return nil, nil
	case chip.Family() == ccm.UL:
		s.Clocks.On(ccm.CAAM, ccm.CAAMBus, ccm.CAAMMemory)
		r, err := mmio.Map(caam.Base, caam.Size)
		if err != nil {
			return nil, fmt.Errorf("imx6ul: %w", err)
		}
		if _, err := caam.Probe(r); err != nil {
			return nil, fmt.Errorf("imx6ul: %w", err)
		}
		return caam.NewTRNG(r), nil
	}
	r, err := mmio.Map(rngb.Base, rngb.Size)
	if err != nil {
		return nil, fmt.Errorf("imx6ul: %w", err)
	}
	if _, _, err := rngb.Probe(r); err != nil {
		return nil, fmt.Errorf("imx6ul: %w", err)
	}
	g, err := rngb.New(r)
	if err != nil {
		return nil, fmt.Errorf("imx6ul: %w", err)
	}
	return g, nil
}

// Clock is the SNVS's real-time clock, which counts from 1970. The emulator's follows
// the time of the machine that it runs on, whether it was started or not.
func (s *SoC) Clock() RTC { return RTC{s.SNVS, s.Emulated()} }

// An RTC is the clock as calendar time.
type RTC struct {
	snvs       *snvs.SNVS
	alwaysRuns bool
}

var errStopped = errors.New("the clock does not run: set it; if it was set, check the battery")

// Now reads the clock.
func (c RTC) Now() (time.Time, error) {
	if !c.alwaysRuns && !c.snvs.Running() {
		return time.Time{}, fmt.Errorf("imx6ul: SNVS: %w", errStopped)
	}
	t, err := c.snvs.Time()
	if err != nil {
		return time.Time{}, err
	}
	return time.Unix(0, 0).Add(t), nil
}

// Set sets the clock.
func (c RTC) Set(t time.Time) error { return c.snvs.SetTime(t.Sub(time.Unix(0, 0))) }
