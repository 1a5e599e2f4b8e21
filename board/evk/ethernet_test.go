package evk

import (
	"testing"

	"nitro/board/imx6ul/gpio"
	"nitro/board/imx6ul/iomuxc"
	"nitro/board/imx6ul/mmio/mmiotest"
)

// A chip plays the 74HC595 on GPIO5: on a rising clock it shifts data in, on a rising
// latch its outputs take what is in it.
type chip struct {
	regs    [8]uint32
	inside  uint8
	outputs []uint8
}

func (c *chip) Read16(uint32) uint16        { return 0 }
func (c *chip) Write16(uint32, uint16)      {}
func (c *chip) Read32(offset uint32) uint32 { return c.regs[offset/4] }
func (c *chip) Write32(offset, value uint32) {
	rising := value &^ c.regs[offset/4]
	c.regs[offset/4] = value
	if offset != 0 { // not DR
		return
	}
	if rising>>shiftClock&1 == 1 {
		c.inside = c.inside<<1 | uint8(value>>shiftData&1)
	}
	if rising>>shiftLatch&1 == 1 {
		c.outputs = append(c.outputs, c.inside)
	}
}

// TestShifter: the outputs take what they are to have, at once, and the lines are
// outputs with their pads.
func TestShifter(t *testing.T) {
	script := mmiotest.New(t)
	mux := script.Block("iomuxc_snvs")
	for _, at := range []uint32{0x00, 0x04, 0x24} { // BOOT_MODE0 and 1, SNVS_TAMPER7
		script.Expect(mux.Writes(0x44+at, 0x70a1), mux.Writes(at, 5))
	}
	c := &chip{}
	s := newShifter(gpio.New(c), iomuxc.NewSNVS(mux))
	for _, v := range []uint8{shiftDefault &^ shiftPHYs, shiftDefault, 0x80, 1} {
		c.outputs = nil
		if s.shift(v); len(c.outputs) != 1 || c.outputs[0] != v {
			t.Errorf("%#x became %#x", v, c.outputs)
		}
	}
	script.Expect(mux.Writes(0x6c, 0x70a1), mux.Writes(0x28, 5)) // SNVS_TAMPER8
	s.enable.Output(false)
	if c.regs[1] != 1<<shiftData|1<<shiftClock|1<<shiftLatch|1<<shiftEnable || c.regs[0]>>shiftEnable&1 != 0 {
		t.Errorf("GDIR %#x, DR %#x", c.regs[1], c.regs[0])
	}
}
