package evk

import (
	"fmt"
	"time"

	"nitro/board/imx6ul"
	"nitro/board/imx6ul/ccm"
	"nitro/board/imx6ul/enet"
	"nitro/board/imx6ul/gpio"
	"nitro/board/imx6ul/iomuxc"
	"nitro/board/imx6ul/mmio"
)

// The board's two Ethernet ports: ENET1 and ENET2, each with a KSZ8081 on RMII, to
// which the chip gives 50 MHz. Both PHYs are on ENET2's management interface, at these
// addresses.
var phys = [...]uint8{2, 1}

// Ports is how many Ethernet ports there are.
func (b *Board) Ports() int { return len(phys) }

// Ethernet opens a port, counted from 0: ENET1 is 0. It does not wait for the link. The
// PHYs come out of reset when the 50 MHz of both run (KSZ8081, DS00002199, 7.3),
// whichever port is opened first.
func (b *Board) Ethernet(n int) (*enet.Port, error) {
	if n < 0 || n >= len(phys) {
		return nil, fmt.Errorf("evk: Ethernet port %d: there are %d", n, len(phys))
	}
	b.startEthernet.Do(func() {
		if b.ethernet, b.ethernetErr = b.StartEthernet(1, 2); b.ethernetErr == nil && !b.Emulated() {
			b.ethernetErr = b.resetPHYs()
		}
	})
	if b.ethernetErr != nil {
		return nil, fmt.Errorf("evk: Ethernet: %w", b.ethernetErr)
	}
	p, err := b.ethernet.Open(n+1, phys[n])
	if err != nil {
		return nil, fmt.Errorf("evk: Ethernet port %d: %w", n, err)
	}
	return p, nil
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
