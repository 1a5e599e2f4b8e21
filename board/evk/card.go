package evk

import (
	"fmt"

	"nitro/board"
	"nitro/board/imx6ul"
	"nitro/board/imx6ul/iomuxc"
	"nitro/board/imx6ul/sd"
)

// What a slot's other pads are: the switch that a card closes, and inputs that are
// held low.
const (
	detectControl = iomuxc.Hysteresis | iomuxc.PullUp47k
	unusedControl = iomuxc.Hysteresis | iomuxc.PullDown
)

// lineSD1Power is GPIO1's line that switches slot 1's power.
const lineSD1Power = 9

// slotPads are the pads of the two slots: the one on the processor board is on uSDHC1,
// the one on the base board on uSDHC2. The write-protect inputs come from pads that
// nothing else uses, held low: left alone they are on pads of other blocks, and cards
// look protected.
var slotPads = [...][]iomuxc.Setting{
	{
		{Pad: iomuxc.CSI_DATA04, Mode: 8, Control: unusedControl, Daisy: 0x66c, Select: 2},  // WP
		{Pad: iomuxc.UART1_RTS_B, Mode: 2, Control: detectControl, Daisy: 0x668, Select: 1}, // CD_B
		{Pad: iomuxc.GPIO1_IO05, Mode: 4, Control: imx6ul.SDControl},                        // VSELECT: low is 3.3 V
		{Pad: iomuxc.SD1_CLK, Mode: 0, Control: imx6ul.SDClockControl},
		{Pad: iomuxc.SD1_CMD, Mode: 0, Control: imx6ul.SDControl},
		{Pad: iomuxc.SD1_DATA0, Mode: 0, Control: imx6ul.SDControl},
		{Pad: iomuxc.SD1_DATA1, Mode: 0, Control: imx6ul.SDControl},
		{Pad: iomuxc.SD1_DATA2, Mode: 0, Control: imx6ul.SDControl},
		{Pad: iomuxc.SD1_DATA3, Mode: 0, Control: imx6ul.SDControl},
	},
	{
		{Pad: iomuxc.CSI_PIXCLK, Mode: 1, Control: unusedControl, Daisy: 0x69c, Select: 2},        // WP
		{Pad: iomuxc.NAND_RE_B, Mode: 1, Control: imx6ul.SDClockControl, Daisy: 0x670, Select: 2}, // CLK
		{Pad: iomuxc.NAND_WE_B, Mode: 1, Control: imx6ul.SDControl, Daisy: 0x678, Select: 2},      // CMD
		{Pad: iomuxc.NAND_DATA00, Mode: 1, Control: imx6ul.SDControl, Daisy: 0x67c, Select: 2},
		{Pad: iomuxc.NAND_DATA01, Mode: 1, Control: imx6ul.SDControl, Daisy: 0x680, Select: 2},
		{Pad: iomuxc.NAND_DATA02, Mode: 1, Control: imx6ul.SDControl, Daisy: 0x684, Select: 1},
		{Pad: iomuxc.NAND_DATA03, Mode: 1, Control: imx6ul.SDControl, Daisy: 0x688, Select: 2},
	},
}

// Cards is how many slots there are.
func (b *Board) Cards() int { return len(slotPads) }

// SDCard wires up the card of a slot, counted from 0. It is done once a slot. The card
// itself is not touched before its Open, so the slot may be empty.
//
// Slot 0 has a switch that tells of a card, and power that can be switched. Slot 1 has
// neither: there an absent card is one that does not answer.
func (b *Board) SDCard(n int) (*sd.Card, error) {
	if n < 0 || n >= len(slotPads) {
		return nil, fmt.Errorf("evk: SD slot %d: there are %d", n, len(slotPads))
	}
	slot := imx6ul.CardSlot{Controller: n + 1, Pads: slotPads[n]}
	if n == 0 {
		slot.Detect, slot.Power = true, b.Line(lineSD1Power, "sd1 power").Output
	}
	c, err := b.SoC.SDCard(slot)
	if err != nil {
		return nil, fmt.Errorf("evk: SD slot %d: %w", n, err)
	}
	return c, nil
}

// Card opens the card in a slot, counted from 0.
func (b *Board) Card(n int) (board.Card, error) {
	c, err := b.SDCard(n)
	if err != nil {
		return nil, err
	}
	if err := c.Open(); err != nil {
		return nil, fmt.Errorf("evk: SD slot %d: %w", n, err)
	}
	return c, nil
}
