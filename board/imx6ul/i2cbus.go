package imx6ul

import (
	"fmt"

	"nitro/board/imx6ul/ccm"
	"nitro/board/imx6ul/gpio"
	"nitro/board/imx6ul/i2c"
	"nitro/board/imx6ul/iomuxc"
	"nitro/board/imx6ul/mmio"
)

// i2cControl: open drain with 100 kOhm up, which holds the lines where a board's own
// pull-ups are not fitted; hysteresis, since edges are slow.
const i2cControl = iomuxc.Hysteresis | iomuxc.PullUp100k | iomuxc.OpenDrain | iomuxc.Speed100 | iomuxc.Drive43

// An I2CPad is the way of one line of an I2C bus out of the chip: the pad, which is also
// a line of GPIO1, its ALT number, and the input's selection.
type I2CPad struct {
	Pad           iomuxc.Pad
	Line          int
	Mode          uint32
	Daisy, Select uint32
}

// OpenI2C1 brings up I2C1 on a board's pads, at 100 kHz. As GPIO the pads free the bus
// when a device hangs. SION keeps the input paths on.
func (s *SoC) OpenI2C1(clock, data I2CPad) (*i2c.Bus, error) {
	r, err := mmio.Map(I2C1, i2c.Size)
	if err != nil {
		return nil, fmt.Errorf("I2C1: %w", err)
	}
	s.Clocks.On(ccm.I2C1)
	line := func(name string, p I2CPad) *gpio.Line {
		return s.GPIO1.Line(p.Line, name, s.Pads.Assign(iomuxc.Setting{Pad: p.Pad, Mode: ALTGPIO, Input: true, Control: i2cControl}))
	}
	function := func(p I2CPad) gpio.Pad {
		return s.Pads.Assign(iomuxc.Setting{Pad: p.Pad, Mode: p.Mode, Input: true, Control: i2cControl, Daisy: p.Daisy, Select: p.Select})
	}
	pads := &i2c.Pads{Clock: line("i2c1 scl", clock), Data: line("i2c1 sda", data), Function: []gpio.Pad{function(clock), function(data)}}
	pads.Give()
	bus, err := i2c.New(r, i2c.Config{Clock: PERCLK, Speed: 100000, Pins: pads})
	if err != nil {
		return nil, fmt.Errorf("I2C1: %w", err)
	}
	return bus, nil
}
