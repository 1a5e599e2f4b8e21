// Package resetctl is the host's control: it holds the host in reset until its firmware is
// proved good, releases it, watches it, and takes over a host that ran on while the
// controller restarted (docs/host.md).
//
// # Parts
//
//   - [Lines] are the lines between controller and host, with polarity, what holds them by
//     default, and what survives a restart of the controller. What is commanded, what is
//     held, whether the host runs and who owns the flash are separate questions, each
//     answered from pins, each time anew.
//   - Package cycle decides: one pure function from state and event to state and action.
//   - Package ticket is the proof by which a running host is adopted.
//   - [Controller] carries the actions out, over interfaces: lines, [Firmware], [Measurer],
//     [Store], [Clock]. Nothing waits without a limit.
//
// # Left out
//
// The flash's contents: package firmware verifies and recovers them. Latched quarantine in
// the TPM, audit and the API are above: [Config] tells them what happens. A host that
// restarts by itself during a restart of the controller is noticed only if its latch was
// cleared by that; it boots from the same protected flash.
package resetctl

import (
	"context"
	"io"
	"time"

	"nitro/attest/eventlog"
	"nitro/boot/code"
	"nitro/resetctl/cycle"
	"nitro/resetctl/ticket"
)

// Firmware is the flash of the host and of its BMC. Errors carry codes of package code; one
// without is HostFlash, or HostFirmware from Recover and Measure. Every method returns soon
// after its context has ended. One that does not is given up, and with it all further cycles
// of this boot, since it could still write.
type Firmware interface {
	// Own begins: the multiplexer has given the flash to the controller, and the write
	// protection's line is off. It identifies the chips.
	Own(ctx context.Context) error
	// Recover verifies every static region by the manifest, writes golden copies over what
	// differs, and tells what it has put right.
	Recover(ctx context.Context) ([]Recovery, error)
	// Protect sets the chips' protection of all static regions. Its line is held then.
	Protect(ctx context.Context) error
	// Protected reads the protection back from the chips, with the line held; nil if all
	// static regions are protected, and the protection itself cannot be changed.
	Protected(ctx context.Context) error
	// Measure hashes all that is static, once, from the chips, and compares it with the
	// manifest. Nothing that was read before may be used.
	Measure(ctx context.Context) (Measurement, error)
	// HandOver ends: the chips are left as a host expects them (address mode, no command
	// under way), and not touched until Own.
	HandOver(ctx context.Context) error
}

// A Recovery is something that was not as it should be, and was put right.
type Recovery struct {
	What string // region: a word of at most 32 characters
	Was  [32]byte
	Now  [32]byte
}

// A Measurement is what will run.
type Measurement struct {
	Host       eventlog.Firmware
	BMC        *eventlog.Firmware // nil where the host has none
	Components []Component
}

// A Component is another part of the host, or who signed its firmware.
type Component struct {
	What    string // a word, as Version
	Digest  [32]byte
	Version string
}

// Bounds of one cycle's events.
const (
	MaxRecoveries = 8
	MaxComponents = ticket.MaxEvents - MaxRecoveries - 2
)

// A Measurer extends events and logs them: an eventlog.Log and a TPM.
type Measurer interface {
	// Fits tells whether all of the events fit into the log.
	Fits(events ...eventlog.Event) bool
	// Measure extends an event and appends it. After an error other than eventlog.ErrFull
	// nothing more is measured in this boot.
	Measure(e eventlog.Event) error
}

// A Record is what the store keeps of the host.
type Record struct {
	Cycle uint64 // the last host cycle that was counted
	Run   bool   // the host is to run
}

// A Store keeps the record and the ticket. What was set is durable on return.
type Store interface {
	Record() (Record, error) // the zero Record on a new board
	SetRecord(Record) error
	Ticket() ([]byte, error)
	SetTicket([]byte) error
}

// A Clock is monotonic.
type Clock interface {
	Now() time.Duration
	// Sleep waits, or returns the context's error.
	Sleep(ctx context.Context, d time.Duration) error
}

// Limits bound the waiting.
type Limits struct {
	Flash   time.Duration // own, protect, read back, hand over; the store and the TPM too
	Recover time.Duration
	Hash    time.Duration
	Grace   time.Duration // for what was told to end
	Stop    time.Duration // for a host that was asked to switch itself off
	Watch   time.Duration // between two looks
}

// DefaultLimits: a NOR chip of 32 MiB takes up to 400 s to erase and 200 s to program, and
// 14 s to read at 20 Mbit/s; an operating system shuts down within minutes.
var DefaultLimits = Limits{
	Flash: 20 * time.Second, Recover: 30 * time.Minute, Hash: 5 * time.Minute, Grace: 10 * time.Second,
	Stop: 5 * time.Minute, Watch: 50 * time.Millisecond,
}

// The power button (ACPI 6.5, 4.8.2.2.1): a short press asks, one of more than four seconds
// cuts the power. Power good follows within powerLimit of a press: ATX12V 2.53 has at most
// 0.5 s for it, a server's supplies in sequence a few seconds.
const (
	shortPress = 200 * time.Millisecond
	longPress  = 6 * time.Second
	powerLimit = 20 * time.Second
)

// Config is what a controller works with.
type Config struct {
	Lines    *Lines
	Firmware Firmware
	Measurer Measurer
	Store    Store
	Clock    Clock
	Random   io.Reader  // for nonces
	Key      ticket.Key // ticket.DeriveKey
	Boot     [32]byte   // names this boot: the digest of its identity event
	Held     code.Code  // the quarantine that the controller is in already, or None
	Limits   Limits     // DefaultLimits

	// Observe is told each event, what it has led to, and the error behind it, if there was
	// one. It is for audit and log, and must not wait.
	Observe func(e cycle.Event, s cycle.State, a cycle.Action, cause error)
	// Quarantine is told when the host is in quarantine: secrets are to be zeroed, and a
	// latched code goes into the TPM.
	Quarantine func(code.Code)
	// Restart is asked to restart the controller, whose log is full; the host is held.
	Restart func(code.Code)
}
