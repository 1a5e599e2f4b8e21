// Package phy drives the Ethernet transceivers (PHYs) of the boards: the management
// registers of IEEE 802.3-2018 clause 22 (22.2.4), and what the Microchip KSZ8081 of
// NXP's EVK (data sheet DS00002199) and the TI DP83825I of the USB armory LAN (data
// sheet SNLS629) have beyond them. A PHY of another kind is driven by clause 22
// alone; so is QEMU's, which answers as 0007:c0d1, like that of a LAN9118.
//
// It resets the PHY, chooses its clock, has it negotiate 10 or 100 Mbit/s with half
// or full duplex, and tells what came of that. Pause frames, clause 45, cable tests,
// power saving, wake on LAN and the PHYs' interrupts are left out: the link is
// polled.
package phy

import (
	"errors"
	"fmt"
	"time"

	"nitro/board/imx6ul/mmio"
)

// Registers of clause 22 (IEEE 802.3, table 22-6).
const (
	regControl   = 0       // 22.2.4.1
	ctlReset     = 1 << 15 // clears itself
	ctlNegotiate = 1 << 12
	ctlPowerDown = 1 << 11
	ctlIsolate   = 1 << 10
	ctlRestart   = 1 << 9 // of the negotiation; clears itself

	regStatus      = 1      // 22.2.4.2
	staNegotiated  = 1 << 5 // the negotiation is complete
	staLink        = 1 << 2 // latches low: the first read tells of a link that was lost
	regIdentifier1 = 2      // 22.2.4.3.1
	regIdentifier2 = 3

	// What we can do, and what the partner can (28.2.4.1.3 and 28.2.4.1.4).
	regAdvertisement = 4
	regPartner       = 5
	can100Full       = 1 << 8
	can100           = 1 << 7
	can10Full        = 1 << 6
	can10            = 1 << 5
	selector         = 1 // IEEE 802.3
)

// advertised is all that the MAC can do. It sends no pause frames.
const advertised = can100Full | can100 | can10Full | can10 | selector

// resetLimit is how long a reset may take (22.2.4.1.1).
const resetLimit = 500 * time.Millisecond

// Errors that the methods wrap.
var (
	ErrAbsent = errors.New("no PHY answers: check its address, its reset line and its 50 MHz clock")
	ErrReset  = errors.New("the PHY does not come out of its reset: check its supply and clock")
)

// A Bus is the management interface that PHYs are on (MDIO, 22.2.4.5). Addresses and
// registers are 0 to 31.
type Bus interface {
	Read(address, register uint8) (uint16, error)
	Write(address, register uint8, value uint16) error
}

// A State is that of a link. Speed and duplex count while it is up.
type State struct {
	Up         bool
	Mbps       int // 10 or 100
	FullDuplex bool
}

// String gives the state in words.
func (s State) String() string {
	switch {
	case !s.Up:
		return "no link"
	case s.FullDuplex:
		return fmt.Sprintf("%d Mbit/s full duplex", s.Mbps)
	}
	return fmt.Sprintf("%d Mbit/s half duplex", s.Mbps)
}

// A PHY is one transceiver. One goroutine uses it.
type PHY struct {
	bus     Bus
	address uint8
	model   *model
	id      uint32
}

// New drives the PHY at an address of the bus. It panics where there is no such
// address.
func New(bus Bus, address uint8) *PHY {
	if address > 31 {
		panic(fmt.Sprintf("phy: address %d: there are 0 to 31", address))
	}
	return &PHY{bus: bus, address: address, model: &generic}
}

// String names the PHY, once SetUp has found out what it is.
func (p *PHY) String() string {
	return fmt.Sprintf("PHY %d (%s, identifier %04x:%04x)", p.address, p.model.name, p.id>>16, p.id&0xffff)
}

// SetUp finds the PHY, resets it, and has it negotiate. Where nobody answers the
// error is ErrAbsent; SetUp can be called again then.
func (p *PHY) SetUp() error {
	if err := p.identify(); err != nil {
		return p.failed("identifying it", err)
	}
	if err := p.reset(); err != nil {
		return p.failed("resetting it", err)
	}
	if err := p.model.setUp(p); err != nil {
		return p.failed("choosing its clock", err)
	}
	if err := p.bus.Write(p.address, regAdvertisement, advertised); err != nil {
		return p.failed("advertising", err)
	}
	if err := p.bus.Write(p.address, regControl, ctlNegotiate|ctlRestart); err != nil {
		return p.failed("negotiating", err)
	}
	return nil
}

func (p *PHY) failed(doing string, err error) error {
	return fmt.Errorf("phy: PHY %d (%s): %s: %w", p.address, p.model.name, doing, err)
}

// absent tells whether a value is what the pulled-up or a shorted data line reads
// as, rather than a PHY's answer.
func absent(v uint16) bool { return v == 0xffff }

// identify reads who the PHY is. No PHY's identifier is all ones or all zeros.
func (p *PHY) identify() error {
	high, err := p.bus.Read(p.address, regIdentifier1)
	if err != nil {
		return err
	}
	low, err := p.bus.Read(p.address, regIdentifier2)
	if err != nil {
		return err
	}
	id := uint32(high)<<16 | uint32(low)
	if id == 0 || id == 0xffffffff {
		return fmt.Errorf("identifier %#08x: %w", id, ErrAbsent)
	}
	p.id, p.model = id, modelOf(id)
	return nil
}

func (p *PHY) reset() error {
	if err := p.bus.Write(p.address, regControl, ctlReset); err != nil {
		return err
	}
	var control uint16
	var err error
	done := mmio.Wait(func() bool {
		control, err = p.bus.Read(p.address, regControl)
		return err != nil || control&ctlReset == 0
	}, resetLimit)
	if err == nil && !done {
		err = fmt.Errorf("control register %#04x: %w", control, ErrReset)
	}
	return err
}

// Link reads the link's state. It tells of a link that was lost since the last call
// too, even if it is back: then dropped is set. Where nobody answers the error is
// ErrAbsent, and where the PHY has lost its settings, as after a glitch of its
// supply, ErrReset: call SetUp again.
func (p *PHY) Link() (s State, dropped bool, err error) {
	control, err := p.bus.Read(p.address, regControl)
	switch {
	case err != nil:
		return State{}, false, p.failed("reading its control", err)
	case absent(control):
		return State{}, false, p.failed("reading its control", ErrAbsent)
	case control&(ctlReset|ctlPowerDown|ctlIsolate) != 0 || control&ctlNegotiate == 0:
		return State{}, false, p.failed("reading its control", fmt.Errorf("it is not as it was set up, %#04x: %w", control, ErrReset))
	}
	var status [2]uint16
	for i := range status {
		if status[i], err = p.bus.Read(p.address, regStatus); err != nil {
			return State{}, false, p.failed("reading its status", err)
		}
		if absent(status[i]) {
			return State{}, false, p.failed("reading its status", ErrAbsent)
		}
	}
	dropped = status[0]&staLink == 0
	if status[1]&(staLink|staNegotiated) != staLink|staNegotiated {
		return State{}, dropped, nil
	}
	s, err = p.model.resolve(p)
	if err != nil {
		return State{}, dropped, p.failed("reading speed and duplex", err)
	}
	return s, dropped, nil
}
