package evk

import (
	"errors"
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

// usdhcClock is the controllers' clock as it comes out of reset, and as the boot ROM
// leaves it: the system PLL's PFD2, 396 MHz, by 2 (IMX6ULLRM 18.6, CSCMR1 with
// USDHCn_CLK_SEL 0, CSCDR1 with USDHCn_PODF 1).
const usdhcClock = 198000000

// How a slot's pads are driven: as NXP's device tree has them for up to 50 MHz
// (imx6ul-14x14-evk.dtsi: 0x17059, 0x10059), soft for less noise. The 47 kOhm up are
// the pull-ups that the bus needs (SD 6.3: 10 to 100 kOhm).
const (
	sdClockControl = iomuxc.Hysteresis | iomuxc.Speed100 | iomuxc.Drive87 | iomuxc.FastSlew
	sdControl      = sdClockControl | iomuxc.PullUp47k
	detectControl  = iomuxc.Hysteresis | iomuxc.PullUp47k
	unusedControl  = iomuxc.Hysteresis | iomuxc.PullDown
)

// Slot 1's and slot 2's controllers follow each other, and so do their interrupts
// (IMX6ULLRM 2.2 and 3.2).
const (
	usdhcBase = 0x02190000
	usdhcLine = 32 + 22

	tableSize = maxTransfer / usdhc.Segment * usdhc.DescriptorSize
)

// slotPads are the pads of the two slots: the one on the processor board is on uSDHC1,
// the one on the base board on uSDHC2. The write-protect inputs come from pads that
// nothing else uses, held low: left alone they are on pads of other blocks, and cards
// look protected.
var slotPads = map[int][]iomuxc.Setting{
	1: {
		{Pad: iomuxc.CSI_DATA04, Mode: 8, Control: unusedControl, Daisy: 0x66c, Select: 2},  // WP
		{Pad: iomuxc.UART1_RTS_B, Mode: 2, Control: detectControl, Daisy: 0x668, Select: 1}, // CD_B
		{Pad: iomuxc.GPIO1_IO05, Mode: 4, Control: sdControl},                               // VSELECT: low is 3.3 V
		{Pad: iomuxc.SD1_CLK, Mode: 0, Control: sdClockControl},
		{Pad: iomuxc.SD1_CMD, Mode: 0, Control: sdControl},
		{Pad: iomuxc.SD1_DATA0, Mode: 0, Control: sdControl},
		{Pad: iomuxc.SD1_DATA1, Mode: 0, Control: sdControl},
		{Pad: iomuxc.SD1_DATA2, Mode: 0, Control: sdControl},
		{Pad: iomuxc.SD1_DATA3, Mode: 0, Control: sdControl},
	},
	2: {
		{Pad: iomuxc.CSI_PIXCLK, Mode: 1, Control: unusedControl, Daisy: 0x69c, Select: 2}, // WP
		{Pad: iomuxc.NAND_RE_B, Mode: 1, Control: sdClockControl, Daisy: 0x670, Select: 2}, // CLK
		{Pad: iomuxc.NAND_WE_B, Mode: 1, Control: sdControl, Daisy: 0x678, Select: 2},      // CMD
		{Pad: iomuxc.NAND_DATA00, Mode: 1, Control: sdControl, Daisy: 0x67c, Select: 2},
		{Pad: iomuxc.NAND_DATA01, Mode: 1, Control: sdControl, Daisy: 0x680, Select: 2},
		{Pad: iomuxc.NAND_DATA02, Mode: 1, Control: sdControl, Daisy: 0x684, Select: 1},
		{Pad: iomuxc.NAND_DATA03, Mode: 1, Control: sdControl, Daisy: 0x688, Select: 2},
	},
}

// SDCard wires up the card of slot 1 or 2. It is done once a slot. The card itself is
// not touched before its Open, so the slot may be empty.
//
// Slot 1 has a switch that tells of a card, and power that can be switched. Slot 2 has
// neither: there an absent card is one that does not answer.
func (b *Board) SDCard(slot int) (*sd.Card, error) {
	c, err := b.sdCard(slot)
	if err != nil {
		return nil, fmt.Errorf("evk: SD slot %d: %w", slot, err)
	}
	return c, nil
}

func (b *Board) sdCard(slot int) (*sd.Card, error) {
	pads, ok := slotPads[slot]
	if !ok {
		return nil, errors.New("the board has slots 1 and 2")
	}
	n := uint32(slot - 1)
	regs, err := mmio.Map(usdhcBase+n*usdhc.Size, usdhc.Size)
	if err != nil {
		return nil, err
	}
	line, err := irq.Open(usdhcLine + int(n))
	if err != nil {
		return nil, err
	}
	table, err := b.DMA.Alloc(tableSize, dma.LineSize)
	if err != nil {
		return nil, err
	}
	buffer, err := b.DMA.Alloc(sd.BlockSize+maxTransfer, dma.LineSize)
	if err != nil {
		return nil, err
	}
	c := usdhc.Config{Clock: usdhcClock, Table: table, IRQ: line}
	if slot == 1 {
		c.Detect, c.Power = true, b.Line(9, "sd1 power").Output
	}
	b.Clocks.On([]ccm.Gate{ccm.USDHC1, ccm.USDHC2}[n])
	for _, s := range pads {
		b.Pads.Assign(s).Select()
	}
	return sd.New(usdhc.New(regs, c), buffer)
}
