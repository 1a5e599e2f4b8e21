// Package board is what the firmware knows of the machine that it runs on, and all
// that it may ask of it. The boards themselves are packages evk and armory; each one
// satisfies [Board]. Only the mains in cmd/ see this package: the floors above take
// the small interfaces of their own, which the parts that a Board hands out satisfy.
package board

import (
	"io"
	"time"
)

// A Board is the machine. Each part is opened once, by the one who owns it.
type Board interface {
	// Name is the board's, as its maker has it.
	Name() string

	// Product is what firmware images for the board are signed for.
	Product() string

	// Emulated tells whether an emulator plays the board. Then there is no secret of
	// its own and no source of random numbers, whatever else there is.
	Emulated() bool

	// Chip describes the SoC and its revision.
	Chip() string

	// UniqueID is the number that no other chip of the kind has. An emulator's is 0.
	UniqueID() (uint64, error)

	// Closed tells whether the boot ROM runs only what the chip's owner has signed.
	Closed() (bool, error)

	// Secret derives a secret from one that the SoC keeps, and tells what it is worth. It
	// is the same in every boot, and another one on every chip that has one of its own.
	Secret() (derived [32]byte, worth SecretWorth, err error)

	// TPMBus is the I2C bus that the TPM is on; nil where the board has none.
	TPMBus() I2C

	// ReadSecurityKey reads the first bytes of the removable security key, an EEPROM with
	// addresses of 16 bits. A board without a socket for one gives an error.
	ReadSecurityKey(b []byte) error

	// Ports is how many Ethernet ports there are. The first one is management; the
	// second one, if there is one, is the private wire to the host.
	Ports() int

	// Port opens an Ethernet port, counted from 0.
	Port(n int) (Port, error)

	// Cards is how many SD card slots there are. The first one holds the firmware
	// and its store.
	Cards() int

	// Card opens a slot, counted from 0. An empty slot is an error.
	Card(n int) (Card, error)

	// HostLines are the lines between the board and its host; nil where there are none,
	// and then the board cannot guard a host. Nothing has driven them in this boot: a
	// host may be running.
	HostLines() *HostLines

	// StatusLED is the lamp that tells people how the firmware is doing; nil where
	// there is none.
	StatusLED() Lamp

	// Random is the SoC's own source of random numbers, tested and ready; nil where
	// there is none.
	Random() (io.Reader, error)

	// Clock is the clock that runs on a battery.
	Clock() Clock
}

// A SecretWorth says how secret the SoC's secret is.
type SecretWorth int

const (
	NoSecret     SecretWorth = iota // it stands in for one: everybody knows it
	SharedSecret                    // every chip has the same
	OwnSecret                       // the chip's own
)

// I2C is a bus with addresses of 7 bits.
type I2C interface {
	// Tx writes, then reads after a repeated start, in one transfer.
	Tx(address uint8, write, read []byte) error
}

// A Port is an Ethernet port. It moves frames without their check sequence.
type Port interface {
	// HardwareAddr is the port's own address, 6 bytes.
	HardwareAddr() []byte

	// ChecksumOffload tells which checksums (IPv4 header, TCP, UDP, ICMP; IPv4 and
	// IPv6) the port inserts when it transmits, and has verified when it receives.
	ChecksumOffload() (transmit, receive bool)

	// Queue copies one frame, given in pieces, 14 to 1,514 bytes in all. It waits a
	// limited time for room. The frame may be held back until Flush.
	Queue(pieces [][]byte) error

	// Flush sends what was queued.
	Flush() error

	// Receive waits until frames have come, for a limit if it is not negative, and
	// calls deliver for each one of a bounded batch. A frame is valid during the call only. After Close the error is
	// os.ErrClosed.
	Receive(limit time.Duration, deliver func(frame []byte)) error

	// LinkUp tells whether there is a link partner.
	LinkUp() bool

	// LinkChanged gets a value whenever LinkUp changes.
	LinkChanged() <-chan struct{}

	Close() error
}

// A Card is an SD card, in blocks.
type Card interface {
	BlockSize() int // bytes
	Blocks() uint64

	// ReadBlocks reads whole blocks from a first one on.
	ReadBlocks(first uint64, p []byte) error

	// WriteBlocks writes whole blocks. When it returns they are on the medium.
	WriteBlocks(first uint64, p []byte) error
}

// HostLines are the lines between the board and its host (docs/host.md). Platform, BMC
// and Button may be nil.
type HostLines struct {
	Platform, BMC, Host *HostLine // resets; held: in reset
	Mux                 *HostLine // of the host's flash; held: the flash is the board's
	Protect             *HostLine // of the flash's status bits; held: protected
	PowerGood           *HostLine // an input; held: the host has no power
	Button              *HostLine // the power button; held: not pressed

	// Expander is what drives and sees the lines.
	Expander Expander

	// Kept is the board's declaration that the expander keeps its lines, and its nonce,
	// while the SoC is reset, and loses both when the host loses its power.
	Kept bool
}

// A HostLine is a line on the expander: pulled low by it, or released to an external
// pull-up, which is what holds.
type HostLine struct {
	Name string
	Line int // of the expander
}

// An Expander has open-drain lines with external pull-ups, and remembers a number.
type Expander interface {
	// Pull pulls a line low, or releases it.
	Pull(line int, low bool) error

	// Read reads in one transfer which lines it pulls low, and the nets; bit n is line n, 1
	// is pulled, and high.
	Read() (pulled, levels uint16, err error)

	// Nonce is the number that SetNonce has given it, and 0 if it has lost that.
	Nonce() (uint32, error)
	SetNonce(uint32) error
}

// A Lamp is a light.
type Lamp interface {
	Light(on bool)
}

// A Clock keeps the time while the board has no power.
type Clock interface {
	// Now is the time since 1970. The error tells that the clock was never set, or
	// has stopped.
	Now() (time.Time, error)

	// Set sets the clock.
	Set(time.Time) error
}
