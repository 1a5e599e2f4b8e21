package evk

import (
	"fmt"
	"sync"

	"nitro/board"
	"nitro/board/imx6ul"
	"nitro/board/imx6ul/gpio"
	"nitro/board/imx6ul/i2c"
	"nitro/board/imx6ul/iomuxc"
	"nitro/board/imx6ul/pca9552"
)

var _ board.Board = (*Board)(nil)

// A Board is the EVK with what stands beside it: a TPM and the expander of the host's
// lines, both on I2C1. It satisfies board.Board.
type Board struct {
	*imx6ul.SoC

	// I2C1 has the base board's sensors, the TPM, and the expander of the host's lines.
	I2C1 *i2c.Bus

	lines *board.HostLines
	led   lamp

	startEthernet sync.Once
	ethernet      *imx6ul.Ethernet
	ethernetErr   error
}

// lineLED lights a lamp when it is high: the backlight's line of the display's
// connector, since the EVK has no lamp of its own for software.
const lineLED = 8

// The expander of the host's lines: a PCA9552 on I2C1 with a pull-up on each line, on the
// host's standby supply. Its RESET input is not the SoC's: it gets a short pulse when the
// host's power good goes away (through a capacitor), so that all lines fall back to held,
// and the nonce is gone, when the host loses its power; afterwards the chip works
// again, for the power button.
//
// The lines need neither software nor the SoC to hold. None of them is on a pin of the
// SoC: those float at each reset of the controller, which would reset the host too.
const (
	expanderAddress = 0x60

	lineHost      = 0
	lineBMC       = 1
	linePlatform  = 2
	lineMux       = 3
	lineProtect   = 4
	linePowerGood = 5 // pulled low by the power supply while the host has power
	lineButton    = 6
)

// I2C1's clock and data (IMX6ULLRM 32.6).
var (
	i2c1Clock = imx6ul.I2CPad{Pad: iomuxc.UART4_TX_DATA, Line: 28, Mode: 2, Daisy: 0x5a4, Select: 1}
	i2c1Data  = imx6ul.I2CPad{Pad: iomuxc.UART4_RX_DATA, Line: 29, Mode: 2, Daisy: 0x5a8, Select: 2}
)

// Open maps the blocks, switches their clocks on, gives I2C1 its pads, and takes over
// the host's lines as they are. A program does it once.
func Open() (*Board, error) {
	soc, err := imx6ul.Open()
	if err != nil {
		return nil, fmt.Errorf("evk: %w", err)
	}
	b := &Board{SoC: soc}
	if b.I2C1, err = b.OpenI2C1(i2c1Clock, i2c1Data); err != nil {
		return nil, fmt.Errorf("evk: %w", err)
	}
	if err := b.takeLines(); err != nil {
		return nil, fmt.Errorf("evk: %w", err)
	}
	b.led = lamp{b.Line(lineLED, "status led")}
	return b, nil
}

// takeLines declares the host's lines. It drives nothing: a host that ran while the
// controller restarted goes on. Whether the expander answers is seen when it is asked.
func (b *Board) takeLines() error {
	chip, err := pca9552.New(b.I2C1, expanderAddress)
	if err != nil {
		return err
	}
	line := func(n int, name string) *board.HostLine { return &board.HostLine{Name: name, Line: n} }
	b.lines = &board.HostLines{
		Host: line(lineHost, "host CPU reset"), BMC: line(lineBMC, "BMC reset"), Platform: line(linePlatform, "platform reset"),
		Mux: line(lineMux, "flash multiplexer"), Protect: line(lineProtect, "write protect"),
		PowerGood: line(linePowerGood, "power good"), Button: line(lineButton, "power button"),
		Expander: chip, Kept: true,
	}
	return nil
}

// lineControl: a 100 kOhm pull-down, so that a line is low while nobody drives it.
const lineControl = iomuxc.Hysteresis | iomuxc.PullDown | iomuxc.Speed100 | iomuxc.Drive43

// Line names one of GPIO1's lines 0 to 9, which have pads of their own, with the
// input path on, so that an output can be read back, and a pull-down.
func (b *Board) Line(n int, name string) *gpio.Line {
	if n < 0 || n > 9 {
		panic(fmt.Sprintf("evk: GPIO1 line %d (%s): lines 0 to 9 have pads of their own", n, name))
	}
	p := iomuxc.GPIO1_IO00 + iomuxc.Pad(n*4)
	return b.GPIO1.Line(n, name, b.Pads.Assign(iomuxc.Setting{Pad: p, Mode: imx6ul.ALTGPIO, Input: true, Control: lineControl}))
}

// Port opens an Ethernet port, counted from 0.
func (b *Board) Port(n int) (board.Port, error) {
	p, err := b.Ethernet(n)
	if err != nil {
		return nil, err // not p: a nil *enet.Port is no nil board.Port
	}
	return p, nil
}

// Name is the base board's.
func (b *Board) Name() string { return config.Name }

// Product is what images for the board are signed for.
func (b *Board) Product() string { return "imx6ul-evk" }

// TPMBus is I2C1.
func (b *Board) TPMBus() board.I2C { return b.I2C1 }

// securityKeyAddress is that of the removable security key on I2C1: an AT24C with
// addresses of 16 bits, A0 to A2 low.
const securityKeyAddress = 0x50

// ReadSecurityKey reads the first bytes of the security key.
func (b *Board) ReadSecurityKey(p []byte) error {
	if err := b.I2C1.Tx(securityKeyAddress, []byte{0, 0}, p); err != nil {
		return fmt.Errorf("evk: security key: %w", err)
	}
	return nil
}

// HostLines are those of the expander.
func (b *Board) HostLines() *board.HostLines { return b.lines }

// StatusLED is the lamp on the display's connector.
func (b *Board) StatusLED() board.Lamp { return b.led }

// Clock is the SNVS's.
func (b *Board) Clock() board.Clock { return b.SoC.Clock() }

// A lamp lights when its line is high.
type lamp struct{ line *gpio.Line }

func (l lamp) Light(on bool) { l.line.Output(on) }
