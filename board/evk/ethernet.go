package evk

import (
	"fmt"
	"sync"
	"time"

	"nitro/board/imx6ul"
	"nitro/board/imx6ul/ccm"
	"nitro/board/imx6ul/enet"
	"nitro/board/imx6ul/gpio"
	"nitro/board/imx6ul/iomuxc"
	"nitro/board/imx6ul/irq"
	"nitro/board/imx6ul/mmio"
	"nitro/board/imx6ul/phy"
)

// The board's two Ethernet ports: ENET1 and ENET2, each with a KSZ8081 on RMII, to
// which the chip gives 50 MHz. Both PHYs are on ENET2's management interface.

// ports is how many there are.
const ports = 2

// ipgHz is the clock of the ENET blocks' registers, Hz (IMX6ULLRM 18.5.1: IPG_CLK_ROOT).
const ipgHz = 66000000

// wiring is what differs between the ports.
var wiring = [ports]struct {
	base  uint32
	line  int
	phy   uint8 // address
	clock iomuxc.Setting
	pads  []iomuxc.Pad
}{
	{
		enet.Base1, enet.Line1, 2, referenceClock(iomuxc.ENET1_TX_CLK, 0x574),
		[]iomuxc.Pad{
			iomuxc.ENET1_RX_EN, iomuxc.ENET1_RX_ER, iomuxc.ENET1_RX_DATA0, iomuxc.ENET1_RX_DATA1,
			iomuxc.ENET1_TX_EN, iomuxc.ENET1_TX_DATA0, iomuxc.ENET1_TX_DATA1,
		},
	},
	{
		enet.Base2, enet.Line2, 1, referenceClock(iomuxc.ENET2_TX_CLK, 0x57c),
		[]iomuxc.Pad{
			iomuxc.ENET2_RX_EN, iomuxc.ENET2_RX_ER, iomuxc.ENET2_RX_DATA0, iomuxc.ENET2_RX_DATA1,
			iomuxc.ENET2_TX_EN, iomuxc.ENET2_TX_DATA0, iomuxc.ENET2_TX_DATA1,
		},
	},
}

// ALT numbers (IMX6ULLRM 32.6).
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

// ethernet is what the two ports share.
type ethernet struct {
	mu   sync.Mutex
	regs [ports]mmio.Registers
	mdio *enet.MDIO
}

// Ports is how many Ethernet ports there are.
func (b *Board) Ports() int { return ports }

// Ethernet opens a port, counted from 0: ENET1 is 0. It does not wait for the link.
func (b *Board) Ethernet(n int) (*enet.Port, error) {
	if n < 0 || n >= ports {
		return nil, fmt.Errorf("evk: Ethernet port %d: there are %d", n, ports)
	}
	e := &b.ethernet
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.mdio == nil {
		if err := b.shareEthernet(); err != nil {
			return nil, fmt.Errorf("evk: Ethernet: %w", err)
		}
	}
	w := &wiring[n]
	b.Pads.Assign(w.clock).Select()
	for _, p := range w.pads {
		b.Pads.Assign(iomuxc.Setting{Pad: p, Mode: altRMII, Control: rmiiControl}).Select()
	}
	c := enet.Config{Registers: e.regs[n], Arena: b.DMA, PHY: phy.New(e.mdio, w.phy), Emulated: b.Emulated()}
	var err error
	if !c.Emulated { // the emulator sets the block's address itself
		if c.Address, err = enet.FusedAddress(n+1, b.Fuses); err != nil {
			return nil, fmt.Errorf("evk: Ethernet port %d: %w", n, err)
		}
	}
	line, err := irq.Open(w.line)
	if err != nil {
		return nil, fmt.Errorf("evk: Ethernet port %d: %w", n, err)
	}
	c.Line = line
	p, err := enet.Open(c)
	if err != nil {
		line.Close()
		return nil, fmt.Errorf("evk: Ethernet port %d: %w", n, err)
	}
	return p, nil
}

// shareEthernet brings up what both ports need: clocks, the management interface, and
// the PHYs out of reset. The 50 MHz of both PHYs must run by then (KSZ8081, DS00002199,
// 7.3), whichever port is opened first.
func (b *Board) shareEthernet() error {
	b.Clocks.On(ccm.ENETofUL, ccm.ENETofULL)
	for port := 1; port <= ports; port++ {
		if err := b.Clocks.EnableENET(port); err != nil {
			return err
		}
		b.Pads.Assign(wiring[port-1].clock).Select()
	}
	for _, s := range []iomuxc.Setting{
		{Pad: iomuxc.GPIO1_IO06, Mode: altMDIO, Control: rmiiControl, Daisy: 0x580, Select: 0},
		{Pad: iomuxc.GPIO1_IO07, Mode: altMDIO, Control: rmiiControl},
	} {
		b.Pads.Assign(s).Select()
	}
	if !b.Emulated() {
		if err := b.resetPHYs(); err != nil {
			return err
		}
	}
	for i := range wiring {
		if b.ethernet.regs[i] == nil {
			r, err := mmio.Map(wiring[i].base, enet.Size)
			if err != nil {
				return err
			}
			b.ethernet.regs[i] = r
		}
	}
	b.ethernet.mdio = enet.NewMDIO(b.ethernet.regs[1], ipgHz)
	return nil
}

// The base board's shift register, a 74HC595, whose outputs hold the PHYs and other
// parts in reset (as Linux has it, imx6ul-14x14-evk.dtsi).
const (
	shiftData   = 10 // lines of GPIO5
	shiftClock  = 11
	shiftLatch  = 7
	shiftEnable = 8 // low: the outputs drive

	shiftOutputs = 8
	shiftDefault = 0x57 // outputs 0 to 7 as bits: display, both PHYs, Bluetooth and camera are out of reset
	shiftPHYs    = 1<<1 | 1<<2

	// Times of the KSZ8081 (DS00002199, 7.2): reset for at least 500 us, and 100 us
	// before the first management frame.
	phyReset = 10 * time.Millisecond
	phyReady = time.Millisecond
)

// shiftControl is that of the lines to the shift register.
const shiftControl = iomuxc.PullUp47k | iomuxc.Speed100 | iomuxc.Drive65 | iomuxc.FastSlew

// resetPHYs resets both. The other outputs are set to what they are on the board by
// default.
func (b *Board) resetPHYs() error {
	b.Clocks.On(ccm.GPIO5)
	r, err := mmio.Map(imx6ul.GPIO5, gpio.Size)
	if err != nil {
		return fmt.Errorf("the PHYs' reset: %w", err)
	}
	pads := b.Pads // of the UL
	if b.Clocks.Chip().Family() == ccm.ULL {
		snvs, err := mmio.Map(iomuxc.SNVSBase, iomuxc.SNVSSize)
		if err != nil {
			return fmt.Errorf("the PHYs' reset: %w", err)
		}
		pads = iomuxc.NewSNVS(snvs)
	}
	s := newShifter(gpio.New(r), pads)
	s.shift(shiftDefault &^ shiftPHYs)
	s.enable.Output(false)
	time.Sleep(phyReset)
	s.shift(shiftDefault)
	time.Sleep(phyReady)
	return nil
}

// A shifter is the shift register's lines.
type shifter struct{ data, clock, latch, enable *gpio.Line }

func newShifter(port *gpio.Port, pads *iomuxc.Mux) *shifter {
	line := func(n int, name string, p iomuxc.Pad) *gpio.Line {
		return port.Line(n, name, pads.Assign(iomuxc.Setting{Pad: p, Mode: imx6ul.ALTGPIO, Control: shiftControl}))
	}
	s := &shifter{
		line(shiftData, "shift data", iomuxc.BOOT_MODE0), line(shiftClock, "shift clock", iomuxc.BOOT_MODE1),
		line(shiftLatch, "shift latch", iomuxc.SNVS_TAMPER7), line(shiftEnable, "shift enable", iomuxc.SNVS_TAMPER8),
	}
	s.data.Output(false)
	s.clock.Output(false)
	s.latch.Output(false)
	return s
}

// shift sets all outputs, output 7 first, and has them take effect at once. The lines
// change no faster than User mode writes registers, some 100 ns; the chip needs 20 ns.
func (s *shifter) shift(outputs uint8) {
	for i := shiftOutputs - 1; i >= 0; i-- {
		s.clock.Set(false)
		s.data.Set(outputs>>i&1 == 1)
		s.clock.Set(true)
	}
	s.latch.Set(true)
	s.latch.Set(false)
}
