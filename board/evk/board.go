package evk

import (
	"fmt"
	"sync"

	"nitro/board"
	"nitro/board/hold"
	"nitro/board/imx6ul"
	"nitro/board/imx6ul/gpio"
	"nitro/board/imx6ul/i2c"
	"nitro/board/imx6ul/iomuxc"
	"nitro/board/imx6ul/pca9552"
)

var _ board.Board = (*Board)(nil)

// A Board is the EVK with what stands beside it: a TPM on I2C1, and the reset latch
// of the host. It satisfies board.Board.
type Board struct {
	*imx6ul.SoC

	// I2C1 has the base board's sensors, the TPM, and, where there is one, the
	// expander with more reset lines.
	I2C1 *i2c.Bus

	lines []board.ResetLine
	led   lamp

	startEthernet sync.Once
	ethernet      *imx6ul.Ethernet
	ethernetErr   error
}

// The pins of the host's reset latch: four of GPIO1's lines with pads of their own,
// that the base board uses for a touch screen which is not fitted. Each line that
// holds (low) has one that sees the net behind the latch.
const (
	lineHostHold  = 1
	lineHostSense = 2
	lineBMCHold   = 3
	lineBMCSense  = 4

	// lineLED lights a lamp when it is high: the backlight's line of the display's
	// connector, since the EVK has no lamp of its own for software.
	lineLED = 8
)

// The expander of reset lines: an optional PCA9552 on I2C1.
const (
	expanderAddress  = 0x60
	expanderPlatform = 0 // holds the platform reset when it is high
)

// I2C1's clock and data (IMX6ULLRM 32.6).
var (
	i2c1Clock = imx6ul.I2CPad{Pad: iomuxc.UART4_TX_DATA, Line: 28, Mode: 2, Daisy: 0x5a4, Select: 1}
	i2c1Data  = imx6ul.I2CPad{Pad: iomuxc.UART4_RX_DATA, Line: 29, Mode: 2, Daisy: 0x5a8, Select: 2}
)

// Open maps the blocks, switches their clocks on, gives I2C1 its pads, and takes over
// the reset lines as the kernel left them: held. A program does it once.
func Open() (*Board, error) {
	soc, err := imx6ul.Open()
	if err != nil {
		return nil, fmt.Errorf("evk: %w", err)
	}
	b := &Board{SoC: soc}
	if b.I2C1, err = b.OpenI2C1(i2c1Clock, i2c1Data); err != nil {
		return nil, fmt.Errorf("evk: %w", err)
	}
	b.takeLines()
	b.led = lamp{b.Line(lineLED, "status led")}
	return b, nil
}

// takeLines finds the reset lines. Those on pins are always there; the expander's are
// if it answers.
func (b *Board) takeLines() {
	pin := func(name string, drive, sense int) {
		in := b.Line(sense, name+" sense")
		in.Input()
		b.lines = append(b.lines, hold.NewPin(name, b.Line(drive, name+" hold"), in))
	}
	pin("host CPU reset", lineHostHold, lineHostSense)
	pin("BMC reset", lineBMCHold, lineBMCSense)
	if chip, err := pca9552.New(b.I2C1, expanderAddress); err == nil {
		if _, err := chip.Levels(); err == nil {
			b.lines = append(b.lines, hold.NewExpander("platform reset", chip, expanderPlatform))
		}
	}
}

// lineControl: a 100 kOhm pull-down, so that a line holds while nobody drives it.
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

// ResetLines are the host's.
func (b *Board) ResetLines() []board.ResetLine { return b.lines }

// StatusLED is the lamp on the display's connector.
func (b *Board) StatusLED() board.Lamp { return b.led }

// Clock is the SNVS's.
func (b *Board) Clock() board.Clock { return b.SoC.Clock() }

// A lamp lights when its line is high.
type lamp struct{ line *gpio.Line }

func (l lamp) Light(on bool) { l.line.Output(on) }
