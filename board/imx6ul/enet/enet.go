// Package enet drives the i.MX 6UltraLite's Ethernet ports: the ENET block, a
// 10/100 Mbit/s MAC (IMX6ULLRM Rev. 1 11/2017, chapter 22; the block is the UL's too),
// with a PHY on RMII, and the management interface [MDIO] by which PHYs are reached.
//
// A [Port] moves whole frames between rings of DMA memory and its user, with one copy
// in each direction: Queue copies a frame into the ring, and who receives a frame gets
// the ring's own buffer for the length of a call. It takes frames of up to 1,518
// bytes and the FCS (802.1Q tagged), sends up to 1,514, follows the link, inserts
// checksums and, on silicon, discards frames with wrong ones, and recovers from what
// stops the block. Buffer descriptors are the enhanced ones, little endian.
//
// # Interrupts
//
// One interrupt begins a spell of receiving, and the line stays masked until the ring
// is empty: under load there are no interrupts. Nothing raises one on transmission:
// descriptors are taken back when the ring has no room, and only if it has none then,
// Queue polls. The block's interrupt coalescing (RXIC, TXIC) stays off: it would hold
// the first frame of a spell back for its time, and spare nothing that the masked
// line does not spare. How many frames a spell has, the batch tells.
//
// # QEMU
//
// QEMU's block (hw/net/imx_fec.c) differs: it filters no addresses and discards no
// frames for their length or checksums, but cuts them at FTRL; it does not pad; it
// transmits all within the write to TDAR, which reads as zero always; it inserts
// checksums for TCP and UDP over IPv4 without options only, with a header checksum
// for all IPv4; it ignores TACC, RACC (but for SHIFT16 on receive), CRCFWD, the
// interrupt coalescing and the statistics. The driver asks for what both do, and does
// the rest itself, as told by Config.Emulated.
//
// Left out: MII, time stamps, flow control by pause frames, 802.1Q insertion, wake-up
// by magic packets, the FEC's legacy descriptors, and receive buffers that are aligned
// to the IP header (SHIFT16): the frame's start then is not aligned, which is what
// copying it likes.
package enet

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"nitro/board/imx6ul/dma"
	"nitro/board/imx6ul/mmio"
	"nitro/board/imx6ul/phy"
)

// Lengths of frames in bytes, without the FCS.
const (
	MinFrame = 14   // of what is sent: a header; it is padded to 60
	MaxFrame = 1514 // of what is sent

	fcs       = 4
	padded    = 60   // IEEE 802.3, 3.2.8
	maxTagged = 1518 // of what is received: with a tag of 802.1Q
)

// Limits.
const (
	// roomLimit is how long Queue waits while the ring is full. At 10 Mbit/s the
	// quarter of the ring that it waits for takes 80 ms.
	roomLimit = 250 * time.Millisecond
	roomPause = 250 * time.Microsecond // two full frames at 100 Mbit/s

	resetLimit = 10 * time.Millisecond // of the block, which takes 8 clocks
	stopLimit  = 5 * time.Millisecond  // a full frame at 10 Mbit/s takes 1.2 ms

	batch = 64 // descriptors that one Receive takes at most
)

// Default lengths of the rings. A frame of 1,518 bytes takes 123 us at 100 Mbit/s: the
// receive ring holds 31 ms of them, or 1.7 ms of the shortest frames; the driver's
// goroutine has been seen to start 0.2 ms after the interrupt, and 5 ms at worst.
const (
	defaultReceive  = 256
	defaultTransmit = 256
)

// Errors that the methods wrap.
var (
	ErrNoLink  = errors.New("there is no link: check the cable and the other side")
	ErrStalled = errors.New("the port does not transmit: it will be restarted")
	ErrLength  = errors.New("frames have 14 to 1514 bytes")
	ErrReset   = errors.New("the block does not come out of its reset: check its clocks")
)

// A Line is the port's interrupt line; irq.ThreadLine is one.
type Line interface {
	Wait(limit time.Duration) (uint32, error)
	Enable() error
	Close() error
}

// A PHY is the port's transceiver; phy.PHY is one. Only the port uses it.
type PHY interface {
	SetUp() error
	Link() (s phy.State, dropped bool, err error)
}

// Config is what a port consists of.
type Config struct {
	Registers mmio.Registers
	Line      Line // enabled; the port closes it
	Arena     *dma.Arena
	PHY       PHY

	// Address is the port's. Nil means the one that the block has already, as the
	// emulator sets it.
	Address Address

	// Emulated tells that the block is QEMU's, which verifies no checksums.
	Emulated bool

	// Receive and Transmit are the rings' lengths in descriptors, at least 2 each; 0
	// means 256. A frame that is received takes one, a frame that is sent one or two.
	// Each takes 1,568 bytes of the arena.
	Receive, Transmit int
}

// A Port is one Ethernet port. Its methods may be called by several goroutines, but
// for Receive, which is one's. Where both locks are held, that of rx was taken first.
type Port struct {
	c    Config
	regs mmio.Registers
	rx   receiver
	tx   transmitter

	mode phy.State // what the MAC runs at; the keeper changes it, holding both locks

	up      atomic.Bool
	changed chan struct{}
	stalled chan struct{} // asks the keeper for a restart
	closed  atomic.Bool
	quit    chan struct{}
	kept    chan struct{} // closed when the keeper is gone
	once    sync.Once
	events  counters
}

// Open brings the block up and begins to look for the PHY and the link, which may
// come later: see LinkUp and PHYError.
func Open(c Config) (*Port, error) {
	if c.Receive == 0 {
		c.Receive = defaultReceive
	}
	if c.Transmit == 0 {
		c.Transmit = defaultTransmit
	}
	if c.Receive < 2 || c.Transmit < 2 || c.Address != nil && !usable(c.Address) {
		return nil, fmt.Errorf("enet: rings of %d and %d, address %v: rings have at least 2 descriptors, an address 6 bytes and is no group's", c.Receive, c.Transmit, c.Address)
	}
	p := &Port{
		c: c, regs: c.Registers,
		changed: make(chan struct{}, 1), stalled: make(chan struct{}, 1), quit: make(chan struct{}), kept: make(chan struct{}),
	}
	if err := p.reset(); err != nil {
		return nil, err
	}
	var err error
	if p.rx.ring, err = newRing(c.Arena, c.Receive); err != nil {
		return nil, fmt.Errorf("enet: receive ring: %w", err)
	}
	if p.tx.ring, err = newRing(c.Arena, c.Transmit); err != nil {
		return nil, errors.Join(fmt.Errorf("enet: transmit ring: %w", err), p.rx.free(c.Arena))
	}
	go p.keep()
	return p, nil
}

// reset resets the block, and finds or sets its address.
func (p *Port) reset() error {
	p.regs.Write32(regECR, ecrRESET)
	if !mmio.Wait(func() bool { return p.regs.Read32(regECR)&ecrRESET == 0 }, resetLimit) {
		return fmt.Errorf("enet: ECR %#x: %w", p.regs.Read32(regECR), ErrReset)
	}
	p.regs.Write32(regEIMR, 0)
	if p.c.Address == nil {
		low, high := p.regs.Read32(regPALR), p.regs.Read32(regPAUR)
		p.c.Address = Address{byte(low >> 24), byte(low >> 16), byte(low >> 8), byte(low), byte(high >> 24), byte(high >> 16)}
		if !usable(p.c.Address) {
			return fmt.Errorf("enet: the block has the address %v, PALR %#x, PAUR %#x: configure one", p.c.Address, low, high)
		}
	}
	a := bytes.Clone(p.c.Address)
	p.c.Address = a
	p.rx.own = [2]uint32{binary.LittleEndian.Uint32(a), uint32(binary.LittleEndian.Uint16(a[4:]))}
	return nil
}

// HardwareAddr gives the port's address, 6 bytes.
func (p *Port) HardwareAddr() []byte { return bytes.Clone(p.c.Address) }

// ChecksumOffload tells which checksums the port sees to: those of IPv4 headers, TCP,
// UDP, ICMP and ICMPv6, over IPv4 and IPv6, without a tag of 802.1Q.
//
// It inserts them all on transmission, but for those of fragments' payloads. On
// receive it has verified them all on silicon, where fragments, of which it cannot
// tell, never arrive; under emulation none.
func (p *Port) ChecksumOffload() (transmit, receive bool) { return true, !p.c.Emulated }

// LinkUp tells whether there is a link partner.
func (p *Port) LinkUp() bool { return p.up.Load() }

// LinkChanged gets a value when LinkUp may have changed; one that nobody takes stands
// for all that come after it. A link that was away for a moment gives one too.
func (p *Port) LinkChanged() <-chan struct{} { return p.changed }

// Close stops the port and gives its memory and line back. Calls that wait return
// os.ErrClosed; what was queued may be lost. It must not be called by a frame's
// receiver, within Receive. Closing again does no harm.
func (p *Port) Close() (err error) {
	p.once.Do(func() {
		p.closed.Store(true)
		close(p.quit)
		err = p.c.Line.Close()
		<-p.kept
		p.up.Store(false) // Queue looks at this only, under its lock
		p.rx.mu.Lock()
		defer p.rx.mu.Unlock()
		p.tx.mu.Lock()
		defer p.tx.mu.Unlock()
		p.stop()
		err = errors.Join(err, p.rx.free(p.c.Arena), p.tx.free(p.c.Arena))
	})
	return err
}

// stop ends all traffic. The caller holds both locks. The block stops transmitting in
// good order if it can within a time; what it then still moves goes to our buffers,
// and is over within microseconds.
func (p *Port) stop() {
	p.regs.Write32(regEIMR, 0)
	if p.regs.Read32(regECR)&ecrETHEREN != 0 {
		p.regs.Write32(regEIR, eirGRA)
		p.regs.Write32(regTCR, p.regs.Read32(regTCR)|tcrGTS)
		mmio.Wait(func() bool { return p.regs.Read32(regEIR)&eirGRA != 0 }, stopLimit)
	}
	p.regs.Write32(regECR, ecrEN1588|ecrDBSWP)
	p.regs.Read32(regECR) // the write has arrived
	time.Sleep(50 * time.Microsecond)
}

// start has the MAC run in a mode, with rings that are empty. The caller holds both
// locks, and the MAC has been stopped.
func (p *Port) start(mode phy.State) {
	a := p.c.Address
	rcr, tcr := uint32((maxTagged+fcs)<<rcrMaxFL|rcrMII|rcrRMII), uint32(0)
	if mode.Mbps == 10 {
		rcr |= rcr10
	}
	if mode.FullDuplex {
		tcr |= tcrFDEN
	} else {
		rcr |= rcrDRT
	}
	p.rx.fill()
	p.tx.clear()
	mmio.Barrier()
	for _, w := range [...]struct{ register, value uint32 }{
		{regEIR, ^uint32(eirMII)},
		{regPALR, uint32(a[0])<<24 | uint32(a[1])<<16 | uint32(a[2])<<8 | uint32(a[3])},
		{regPAUR, uint32(a[4])<<24 | uint32(a[5])<<16 | paurPause},
		{regIAUR, 0}, {regIALR, 0},
		{regGAUR, allGroups}, {regGALR, allGroups},
		{regRCR, rcr}, {regTCR, tcr},
		{regTFWR, tfwrSTRFWD}, {regRSFL, 0}, {regFTRL, maxTagged + fcs},
		{regTACC, taccPROCHK | taccIPCHK},
		{regRACC, raccLINEDIS | raccPRODIS | raccIPDIS},
		{regMRBR, bufferSize}, {regRDSR, p.rx.descriptors.Addr}, {regTDSR, p.tx.descriptors.Addr},
		{regMIBC, 0},
		{regECR, ecrETHEREN | ecrEN1588 | ecrDBSWP},
		{regRDAR, active},
		{regEIMR, wanted},
	} {
		p.regs.Write32(w.register, w.value)
	}
}

// restart begins anew, at the mode that is. The caller holds both locks.
func (p *Port) restart() {
	if p.mode.Up && !p.closed.Load() {
		p.events.resets.Add(1)
		p.stop()
		p.start(p.mode)
	}
}
