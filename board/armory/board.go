package armory

import (
	"errors"
	"fmt"
	"time"

	"nitro/board"
	"nitro/board/imx6ul"
	"nitro/board/imx6ul/ccm"
	"nitro/board/imx6ul/gpio"
	"nitro/board/imx6ul/i2c"
	"nitro/board/imx6ul/iomuxc"
	"nitro/board/imx6ul/mmio"
)

// A Board is the USB armory Mk II LAN. It satisfies board.Board.
type Board struct {
	*imx6ul.SoC

	// I2C1 has the power supply (PF1510, 0x08) and the secure element (SE050, 0x48).
	I2C1 *i2c.Bus

	white lamp
}

var _ board.Board = (*Board)(nil)

// Lines of GPIO1.
const (
	linePHYReset     = 8 // low resets the PHY
	linePHYPowerDown = 9 // low switches the PHY off
)

// lineWhite is GPIO4's line of the white LED, which lights when it is low. GPIO4_IO22
// is the blue one, that the firmware leaves alone.
const lineWhite = 21

// How the board's pads are set, as its device trees have them.
const (
	phyControl = iomuxc.PullUp100k | iomuxc.Drive260                   // 0xb008
	ledControl = iomuxc.Hysteresis | iomuxc.PullUp22k | iomuxc.Drive65 // 0x1f020
)

// I2C1's clock and data (IMX6ULLRM 32.6).
var (
	i2c1Clock = imx6ul.I2CPad{Pad: iomuxc.GPIO1_IO02, Line: 2, Mode: 0, Daisy: 0x5a4, Select: 0}
	i2c1Data  = imx6ul.I2CPad{Pad: iomuxc.GPIO1_IO03, Line: 3, Mode: 0, Daisy: 0x5a8, Select: 1}
)

// Open maps the blocks, switches their clocks on, and gives I2C1 its pads. A program
// does it once.
func Open() (*Board, error) {
	soc, err := imx6ul.Open()
	if err != nil {
		return nil, fmt.Errorf("armory: %w", err)
	}
	b := &Board{SoC: soc}
	b.Clocks.On(ccm.GPIO4)
	if b.I2C1, err = b.OpenI2C1(i2c1Clock, i2c1Data); err != nil {
		return nil, fmt.Errorf("armory: %w", err)
	}
	r, err := mmio.Map(imx6ul.GPIO4, gpio.Size)
	if err != nil {
		return nil, fmt.Errorf("armory: GPIO4: %w", err)
	}
	b.white = lamp{gpio.New(r).Line(lineWhite, "white led", b.Pads.Assign(iomuxc.Setting{Pad: iomuxc.CSI_DATA00, Mode: imx6ul.ALTGPIO, Control: ledControl}))}
	return b, nil
}

// Name is the board's.
func (b *Board) Name() string { return config.Name }

// Product is what images for the board are signed for.
func (b *Board) Product() string { return "imx6ul-armory" }

// TPMBus is nil: the secure element on I2C1 is none.
func (b *Board) TPMBus() board.I2C { return nil }

// ReadSecurityKey gives an error: there is no socket.
func (b *Board) ReadSecurityKey([]byte) error {
	return errors.New("armory: the board has no socket for a security key")
}

// Ports is one: ENET2. ENET1's pads are in other use; its TX_EN is the watchdog's line
// to the power supply.
func (b *Board) Ports() int { return 1 }

// The DP83825I's address, and its times (SNLS629, 6.6): reset for at least 25 us, and
// 50 ms from power-up, or 2 ms from the end of a reset, to the first management frame.
const (
	phyAddress = 0
	phyReset   = time.Millisecond
	phyReady   = 50 * time.Millisecond
)

// Port opens the Ethernet port, number 0. It does not wait for the link.
func (b *Board) Port(n int) (board.Port, error) {
	if n != 0 {
		return nil, fmt.Errorf("armory: Ethernet port %d: there is one", n)
	}
	e, err := b.StartEthernet(2)
	if err != nil {
		return nil, fmt.Errorf("armory: Ethernet: %w", err)
	}
	line := func(n int, name string, p iomuxc.Pad) *gpio.Line {
		return b.GPIO1.Line(n, name, b.Pads.Assign(iomuxc.Setting{Pad: p, Mode: imx6ul.ALTGPIO, Control: phyControl}))
	}
	line(linePHYPowerDown, "phy power-down", iomuxc.GPIO1_IO09).Output(true)
	reset := line(linePHYReset, "phy reset", iomuxc.GPIO1_IO08)
	reset.Output(false)
	time.Sleep(phyReset)
	reset.Set(true)
	time.Sleep(phyReady)
	p, err := e.Open(2, phyAddress)
	if err != nil {
		return nil, fmt.Errorf("armory: Ethernet: %w", err)
	}
	return p, nil
}

// HostLines is nil: no line leaves the board.
func (b *Board) HostLines() *board.HostLines { return nil }

// StatusLED is the white one.
func (b *Board) StatusLED() board.Lamp { return b.white }

// Clock is the SNVS's. The board has no battery, so it is set anew after each loss of
// power.
func (b *Board) Clock() board.Clock { return b.SoC.Clock() }

// A lamp lights when its line is low.
type lamp struct{ line *gpio.Line }

func (l lamp) Light(on bool) { l.line.Output(!on) }

// Cards is one: the microSD slot.
func (b *Board) Cards() int { return 1 }

// microSD is the slot on uSDHC1. It has no switch, its power is always on, and its
// write-protect input is held low on a pad that nothing else uses.
var microSD = imx6ul.CardSlot{Controller: 1, Pads: []iomuxc.Setting{
	{Pad: iomuxc.CSI_DATA04, Mode: 8, Control: iomuxc.Hysteresis | iomuxc.PullDown, Daisy: 0x66c, Select: 2}, // WP
	{Pad: iomuxc.SD1_CLK, Mode: 0, Control: imx6ul.SDClockControl},
	{Pad: iomuxc.SD1_CMD, Mode: 0, Control: imx6ul.SDControl},
	{Pad: iomuxc.SD1_DATA0, Mode: 0, Control: imx6ul.SDControl},
	{Pad: iomuxc.SD1_DATA1, Mode: 0, Control: imx6ul.SDControl},
	{Pad: iomuxc.SD1_DATA2, Mode: 0, Control: imx6ul.SDControl},
	{Pad: iomuxc.SD1_DATA3, Mode: 0, Control: imx6ul.SDControl},
}}

// Card opens the microSD slot, number 0.
func (b *Board) Card(n int) (board.Card, error) {
	if n != 0 {
		return nil, fmt.Errorf("armory: card slot %d: there is one", n)
	}
	c, err := b.SDCard(microSD)
	if err == nil {
		err = c.Open()
	}
	if err != nil {
		return nil, fmt.Errorf("armory: microSD: %w", err)
	}
	return c, nil
}
