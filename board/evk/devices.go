package evk

import (
	"fmt"

	"nitro/board/imx6ul/ccm"
	"nitro/board/imx6ul/gpio"
	"nitro/board/imx6ul/i2c"
	"nitro/board/imx6ul/iomuxc"
	"nitro/board/imx6ul/mmio"
	"nitro/board/imx6ul/ocotp"
	"nitro/board/imx6ul/snvs"
)

// Devices are the board's blocks that several parts of the firmware share.
type Devices struct {
	Clocks *ccm.CCM
	Pads   *iomuxc.Mux
	GPIO1  *gpio.Port
	Fuses  *ocotp.OCOTP
	SNVS   *snvs.SNVS

	// I2C1 has the base board's sensors, and, on the reference board, the TPM and
	// the expander of the reset lines.
	I2C1 *i2c.Bus
}

// Addresses and interrupt lines (IMX6ULLRM Rev. 1, 2.2 and 3.2).
const (
	gpio1Base = 0x0209c000
	i2c1Base  = 0x021a0000

	GPIO1LineLow  = 32 + 66 // of GPIO1's lines 0 to 15
	GPIO1LineHigh = 32 + 67 // of lines 16 to 31
)

// perclk is the most that the clock of the I2C blocks can be: with what the boot ROM
// sets it is 49.5 or 66 MHz (IMX6ULLRM 31.7.2), so the bus is never too fast.
const perclk = 66000000

// i2cControl: open drain with 100 kOhm up, which holds the lines where the base
// board's 4.7 kOhm are not fitted; hysteresis, since edges are slow.
const i2cControl = iomuxc.Hysteresis | iomuxc.PullUp100k | iomuxc.OpenDrain | iomuxc.Speed100 | iomuxc.Drive43

// ALT numbers (IMX6ULLRM 32.6).
const (
	altI2C1 = 2 // of UART4's pads
	altGPIO = 5 // of nearly all pads
)

// Open maps the blocks, switches their clocks on, and gives I2C1 its pads. A program
// does it once.
func Open() (*Devices, error) {
	var regs [7]mmio.Registers
	for i, r := range [len(regs)]struct{ base, size uint32 }{
		{ccm.Base, ccm.Size}, {ccm.AnalogBase, ccm.AnalogSize}, {iomuxc.Base, iomuxc.Size}, {gpio1Base, gpio.Size},
		{ocotp.Base, ocotp.Size}, {snvs.Base, snvs.Size}, {i2c1Base, i2c.Size},
	} {
		w, err := mmio.Map(r.base, r.size)
		if err != nil {
			return nil, fmt.Errorf("evk: %w", err)
		}
		regs[i] = w
	}
	d := &Devices{Clocks: ccm.New(regs[0], regs[1]), Pads: iomuxc.New(regs[2])}
	d.Clocks.On(ccm.IOMUXC, ccm.GPIO1, ccm.OCOTP, ccm.SNVSHP, ccm.SNVSLP, ccm.I2C1)
	d.GPIO1 = gpio.New(regs[3])
	d.Fuses = ocotp.New(regs[4])
	d.SNVS = snvs.New(regs[5])
	bus, err := d.i2c1(regs[6])
	if err != nil {
		return nil, fmt.Errorf("evk: I2C1: %w", err)
	}
	d.I2C1 = bus
	return d, nil
}

// i2c1 is on UART4's pads: its clock is also GPIO1_IO28, its data GPIO1_IO29, which
// free the bus when a device hangs. SION keeps the input paths on.
func (d *Devices) i2c1(r mmio.Registers) (*i2c.Bus, error) {
	line := func(n int, name string, p iomuxc.Pad) *gpio.Line {
		return d.GPIO1.Line(n, name, d.Pads.Assign(iomuxc.Setting{Pad: p, Mode: altGPIO, Input: true, Control: i2cControl}))
	}
	pads := &i2c.Pads{
		Clock: line(28, "i2c1 scl", iomuxc.UART4_TX_DATA),
		Data:  line(29, "i2c1 sda", iomuxc.UART4_RX_DATA),
		Function: []gpio.Pad{
			d.Pads.Assign(iomuxc.Setting{Pad: iomuxc.UART4_TX_DATA, Mode: altI2C1, Input: true, Control: i2cControl, Daisy: 0x5a4, Select: 1}),
			d.Pads.Assign(iomuxc.Setting{Pad: iomuxc.UART4_RX_DATA, Mode: altI2C1, Input: true, Control: i2cControl, Daisy: 0x5a8, Select: 2}),
		},
	}
	pads.Give()
	return i2c.New(r, i2c.Config{Clock: perclk, Speed: 100000, Pins: pads})
}

// Line names one of GPIO1's lines 0 to 9, which have pads of their own, with the
// input path on, so that an output can be read back, and a 100 kOhm pull-down.
func (d *Devices) Line(n int, name string) *gpio.Line {
	if n < 0 || n > 9 {
		panic(fmt.Sprintf("evk: GPIO1 line %d (%s): lines 0 to 9 have pads of their own", n, name))
	}
	p := iomuxc.GPIO1_IO00 + iomuxc.Pad(n*4)
	control := uint32(iomuxc.Hysteresis | iomuxc.PullDown | iomuxc.Speed100 | iomuxc.Drive43)
	return d.GPIO1.Line(n, name, d.Pads.Assign(iomuxc.Setting{Pad: p, Mode: altGPIO, Input: true, Control: control}))
}
