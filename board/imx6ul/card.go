package imx6ul

import (
	"fmt"

	"nitro/board/imx6ul/ccm"
	"nitro/board/imx6ul/dma"
	"nitro/board/imx6ul/iomuxc"
	"nitro/board/imx6ul/irq"
	"nitro/board/imx6ul/mmio"
	"nitro/board/imx6ul/sd"
	"nitro/board/imx6ul/usdhc"
)

// maxTransfer is what one command moves at most: so much that the command's own cost
// hardly shows, in so few descriptors (four) that QEMU carries them out in one go.
const maxTransfer = 128 << 10

const cardTableSize = maxTransfer / usdhc.Segment * usdhc.DescriptorSize

// usdhcClock is the controllers' clock as it comes out of reset, and as the boot ROM
// leaves it: the system PLL's PFD2, 396 MHz, by 2 (IMX6ULLRM 18.6, CSCMR1 with
// USDHCn_CLK_SEL 0, CSCDR1 with USDHCn_PODF 1).
const usdhcClock = 198000000

// uSDHC1's and uSDHC2's registers follow each other, and so do their interrupts
// (IMX6ULLRM 2.2 and 3.2).
const (
	usdhcBase = 0x02190000
	usdhcLine = 32 + 22
)

// How a slot's pads may be driven: as NXP's device tree has them for up to 50 MHz
// (imx6ul-14x14-evk.dtsi: 0x17059, 0x10059), soft for less noise. The 47 kOhm up are
// the pull-ups that the bus needs (10 to 100 kOhm).
const (
	SDClockControl = iomuxc.Hysteresis | iomuxc.Speed100 | iomuxc.Drive87 | iomuxc.FastSlew
	SDControl      = SDClockControl | iomuxc.PullUp47k
)

// A CardSlot is how a board has wired a slot for SD cards.
type CardSlot struct {
	Controller int              // uSDHC1 or 2
	Pads       []iomuxc.Setting // all pads of the controller's that are used
	Detect     bool             // the card-detect input is wired to the slot's switch
	Power      func(on bool)    // switches the slot's power; nil where it is always on
}

// SDCard wires a slot up. It is done once a slot. The card itself is not touched before
// its Open, so the slot may be empty.
func (s *SoC) SDCard(slot CardSlot) (*sd.Card, error) {
	n := uint32(slot.Controller - 1)
	if n > 1 {
		panic(fmt.Sprintf("imx6ul: there is no uSDHC%d", slot.Controller))
	}
	regs, err := mmio.Map(usdhcBase+n*usdhc.Size, usdhc.Size)
	if err != nil {
		return nil, err
	}
	line, err := irq.Open(usdhcLine + int(n))
	if err != nil {
		return nil, err
	}
	table, err := s.DMA.Alloc(cardTableSize, dma.LineSize)
	if err != nil {
		return nil, err
	}
	buffer, err := s.DMA.Alloc(sd.BlockSize+maxTransfer, dma.LineSize)
	if err != nil {
		return nil, err
	}
	s.Clocks.On([]ccm.Gate{ccm.USDHC1, ccm.USDHC2}[n])
	for _, p := range slot.Pads {
		s.Pads.Assign(p).Select()
	}
	c := usdhc.Config{Clock: usdhcClock, Table: table, IRQ: line, Detect: slot.Detect, Power: slot.Power}
	return sd.New(usdhc.New(regs, c), buffer)
}
