package imx6ul

import (
	"fmt"

	"nitro/board/imx6ul/ccm"
	"nitro/board/imx6ul/enet"
	"nitro/board/imx6ul/iomuxc"
	"nitro/board/imx6ul/irq"
	"nitro/board/imx6ul/mmio"
	"nitro/board/imx6ul/phy"
)

// IPG is the clock of the ENET blocks' registers, Hz (18.5.1: IPG_CLK_ROOT).
const IPG = 66000000

// An rmii is how an ENET block leaves the chip: reduced media-independent interface,
// with a reference clock that the chip gives.
type rmii struct {
	base  uint32
	line  int
	clock iomuxc.Setting
	pads  []iomuxc.Pad
}

// rmiis are ENET1's and ENET2's. The pads have no other way to either block.
var rmiis = [2]rmii{
	{
		enet.Base1, enet.Line1, referenceClock(iomuxc.ENET1_TX_CLK, 0x574),
		[]iomuxc.Pad{
			iomuxc.ENET1_RX_EN, iomuxc.ENET1_RX_ER, iomuxc.ENET1_RX_DATA0, iomuxc.ENET1_RX_DATA1,
			iomuxc.ENET1_TX_EN, iomuxc.ENET1_TX_DATA0, iomuxc.ENET1_TX_DATA1,
		},
	},
	{
		enet.Base2, enet.Line2, referenceClock(iomuxc.ENET2_TX_CLK, 0x57c),
		[]iomuxc.Pad{
			iomuxc.ENET2_RX_EN, iomuxc.ENET2_RX_ER, iomuxc.ENET2_RX_DATA0, iomuxc.ENET2_RX_DATA1,
			iomuxc.ENET2_TX_EN, iomuxc.ENET2_TX_DATA0, iomuxc.ENET2_TX_DATA1,
		},
	},
}

// ALT numbers (32.6).
const (
	altRMII   = 0 // of the ENET pads
	altRefClk = 4 // of ENETx_TX_CLK
	altMDIO   = 1 // ENET2's, of GPIO1_IO06 and GPIO1_IO07
)

// rmiiControl: a 100 kOhm pull-up, for the lines that a PHY in reset does not drive.
const rmiiControl = iomuxc.Hysteresis | iomuxc.PullUp100k | iomuxc.Speed100 | iomuxc.Drive43

// referenceClock is the 50 MHz. The pad drives the PHY and, since its input path is on
// (SION), feeds the block with the very clock that the PHY has.
func referenceClock(p iomuxc.Pad, daisy uint32) iomuxc.Setting {
	return iomuxc.Setting{
		Pad: p, Mode: altRefClk, Input: true, Daisy: daisy, Select: 2,
		Control: iomuxc.Hysteresis | iomuxc.PullUp100k | iomuxc.Speed50 | iomuxc.Drive43 | iomuxc.FastSlew,
	}
}

// Ethernet is the ENET blocks that a board uses, with the management interface that all
// its PHYs are on: ENET2's, on GPIO1_IO06 and GPIO1_IO07.
type Ethernet struct {
	soc  *SoC
	regs map[int]mmio.Registers
	mdio *enet.MDIO
}

// StartEthernet gives the blocks of a board, 1 and 2 or only 2, their clocks and pads.
// Then their PHYs have their 50 MHz, and may come out of reset. The kernel's setup must
// have chosen the direction of the reference clocks (GPR1, 32.4.2: bits 13 and 14 clear,
// 17 and 18 set).
func (s *SoC) StartEthernet(numbers ...int) (*Ethernet, error) {
	e := &Ethernet{soc: s, regs: map[int]mmio.Registers{}}
	s.Clocks.On(ccm.ENETofUL, ccm.ENETofULL)
	for _, n := range numbers {
		if err := s.Clocks.EnableENET(n); err != nil {
			return nil, err
		}
		w := &rmiis[n-1]
		s.Pads.Assign(w.clock).Select()
		for _, p := range w.pads {
			s.Pads.Assign(iomuxc.Setting{Pad: p, Mode: altRMII, Control: rmiiControl}).Select()
		}
		r, err := mmio.Map(w.base, enet.Size)
		if err != nil {
			return nil, err
		}
		e.regs[n] = r
	}
	for _, p := range []iomuxc.Setting{
		{Pad: iomuxc.GPIO1_IO06, Mode: altMDIO, Control: rmiiControl, Daisy: 0x580, Select: 0},
		{Pad: iomuxc.GPIO1_IO07, Mode: altMDIO, Control: rmiiControl},
	} {
		s.Pads.Assign(p).Select()
	}
	e.mdio = enet.NewMDIO(e.regs[2], IPG)
	return e, nil
}

// Open opens block 1 or 2, whose PHY has an address on the management interface. It
// does not wait for the link.
func (e *Ethernet) Open(n int, address uint8) (*enet.Port, error) {
	c := enet.Config{Registers: e.regs[n], Arena: e.soc.DMA, PHY: phy.New(e.mdio, address), Emulated: e.soc.Emulated()}
	var err error
	if !c.Emulated { // the emulator sets the block's address itself
		if c.Address, err = enet.FusedAddress(n, e.soc.Fuses); err != nil {
			return nil, err
		}
	}
	line, err := irq.OpenThread(rmiis[n-1].line)
	if err != nil {
		return nil, fmt.Errorf("ENET%d: %w", n, err)
	}
	c.Line = line
	p, err := enet.Open(c)
	if err != nil {
		line.Close()
		return nil, err
	}
	return p, nil
}
