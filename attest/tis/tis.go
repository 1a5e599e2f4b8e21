// Package tis speaks to a TPM 2.0 on an I2C bus: the FIFO interface of the TCG PC
// Client Platform TPM Profile for TPM 2.0 (PTP) 1.05 Revision 14, chapter 7 (FIFO, the
// "TIS") and chapter 8 (its registers and timing on I2C).
//
// A [TPM] is a go-tpm transport: Send takes a whole command and gives the whole
// answer. It is polled, uses locality 0, and keeps it until Close. Every wait has a
// limit. A transfer that fails is tried again, and so that no command is ever executed
// twice: a command that did not get through whole is dropped before it is started and
// sent anew; an answer that did not come through whole is asked for again with
// responseRetry. Where the TPM has the checksum of PTP 8.1.7, both directions are
// checked with it. It finds what noise on the bus does; an attacker who sits on the bus
// computes it, and is the business of the sessions (package tpm).
//
// Interrupts, localities 1 to 4, legacy burst modes and a change of the bus address are
// left out.
package tis

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Registers and their bits (PTP 1.05, 8.3, "I2C-TPM register overview"; the bits'
// meaning is 6.5's). Registers of more than a byte are little endian.
const (
	regLOCSEL = 0x00 // locality that the other registers belong to

	regACCESS     = 0x04
	accessValid   = 1 << 7
	accessActive  = 1 << 5 // reading: ours; writing: give it up
	accessRequest = 1 << 1
	accessZero    = 1<<6 | 1<<3 // read as zero

	regSTS      = 0x18   // 4 bytes: status, burst count (2), cancel and family
	stsValid    = 1 << 7 // dataAvail and Expect are meaningful
	stsReady    = 1 << 6 // reading: takes a command; writing: drop all and get ready
	stsGo       = 1 << 5 // writing: execute
	stsData     = 1 << 4 // dataAvail: the answer has more bytes
	stsExpect   = 1 << 3 // the command is not whole yet
	stsRetry    = 1 << 1 // writing: responseRetry, the answer from its start
	stsZero     = 1<<5 | 1<<1 | 1<<0
	regSTSCtl   = regSTS + 3 // the status' last byte, which may be written alone
	stsCancel   = 1 << 0     // of that byte: commandCancel
	regFIFO     = 0x24
	regINTFCAP  = 0x30 // 4 bytes
	regCSUMEN   = 0x40 // 1 switches the checksum on
	regCSUM     = 0x44 // 2 bytes, the more significant one first
	regDIDVID   = 0x48 // 4 bytes: vendor, then device
	regRID      = 0x4c
	capType     = 0xf // of regINTFCAP: kind of interface
	capTypeFIFO = 2
	capGuard    = 0x1f << 18 // a guard time is wanted after some kind of transfer (bits 18 to 20; 30 is below)
	capGuardSR  = 1 << 30
	capGuardMin = 9 // shift of the guard time in microseconds, 8 bits
)

// DefaultAddress is that of a TPM on an I2C bus (PTP 1.05, 8.1.4).
const DefaultAddress = 0x2e

// MaxSize bounds a command and an answer, in bytes. TPMs of the profile have
// TPM_PT_MAX_COMMAND_SIZE of at most that.
const MaxSize = 4096

// Header of a command and of an answer (TPM 2.0 library, part 1, 18.1 and 18.9): tag
// (2), size (4), code (4).
const (
	headerSize = 10
	sizeAt     = 2
	codeAt     = 6
)

// Limits. A to D are PTP 1.05, 6.5.1.3, table "interface timeouts".
const (
	timeoutA = 750 * time.Millisecond // a locality is granted
	timeoutB = 2 * time.Second        // ready for a command; a command is cancelled
	timeoutC = 200 * time.Millisecond // STS becomes valid, bytes can be moved

	// Commands. The profile's durations end at 2 s; key generation is not among them.
	// Linux waits 300 s for it, chips are known to take up to a minute.
	limitCommand = 20 * time.Second
	limitCreate  = 180 * time.Second

	// A TPM that is busy does not acknowledge (PTP 8.1.9): a transfer is tried again
	// after a guard time of 250 us, which is also what applies until the TPM's own is
	// known (8.1.10).
	guardUnknown = 250 * time.Microsecond
	tries        = 50 // of one transfer of a register
	attempts     = 5  // of sending a command, of reading an answer

	// Between looks at a TPM that works: an answer is often there at the second look,
	// and a long one is not worth many.
	firstPause = 100 * time.Microsecond
	lastPause  = 5 * time.Millisecond
)

// creators are the commands that may generate keys: CreatePrimary, Create, CreateLoaded.
var creators = [...]uint32{0x131, 0x153, 0x191}

// Errors that Open and Send wrap.
var (
	// ErrBus: the TPM did not acknowledge, or answered nonsense, again and again.
	ErrBus = errors.New("no transfer gets through: check the TPM's power, reset and wiring")
	// ErrStatus: it does not reach the state that it should.
	ErrStatus = errors.New("the TPM does not get on: reset the board")
	// ErrTimeout: the command took too long, and was cancelled.
	ErrTimeout = errors.New("the command takes too long and was cancelled: reset the board if it happens again")
	// ErrUnread: the command was executed, but what it answered is lost.
	ErrUnread = errors.New("the command was executed, and its answer does not get through")
	// ErrSize: command or answer are too long, or their size field is wrong.
	ErrSize = errors.New("size is wrong")
)

// A Bus is what the TPM is on; i2c.Bus is one.
type Bus interface {
	// Tx writes, then reads after a repeated start, in one transfer.
	Tx(address uint8, write, read []byte) error
}

// A TPM is one TPM on a bus. Its methods may be called by several goroutines.
type TPM struct {
	mu       sync.Mutex
	bus      Bus
	address  uint8
	guard    time.Duration // between transfers
	checksum bool
	id       ID
	frame    [1 + MaxSize]byte // register and what is written to it
}

// An ID says what a TPM is.
type ID struct {
	Vendor   uint16 // of the TCG vendor ID registry
	Device   uint16
	Revision uint8
}

func (id ID) String() string {
	return fmt.Sprintf("vendor %#04x, device %#04x, revision %#02x", id.Vendor, id.Device, id.Revision)
}

// Open finds a TPM and takes locality 0.
func Open(bus Bus, address uint8) (*TPM, error) {
	t := &TPM{bus: bus, address: address, guard: guardUnknown}
	if err := t.open(); err != nil {
		return nil, fmt.Errorf("tis: TPM at %#02x: %w", address, err)
	}
	return t, nil
}

func (t *TPM) open() error {
	var b [4]byte
	if err := t.read(regINTFCAP, b[:]); err != nil {
		return err
	}
	capability := binary.LittleEndian.Uint32(b[:])
	if capability&capType != capTypeFIFO {
		return fmt.Errorf("INTERFACE_CAPABILITY %#08x: this is no FIFO interface: %w", capability, ErrStatus)
	}
	t.guard = 0
	if capability&(capGuard|capGuardSR) != 0 {
		t.guard = time.Duration(capability>>capGuardMin&0xff) * time.Microsecond
	}
	if err := t.write(regLOCSEL, 0); err != nil {
		return err
	}
	if err := t.read(regDIDVID, b[:]); err != nil {
		return err
	}
	t.id.Vendor, t.id.Device = binary.LittleEndian.Uint16(b[:]), binary.LittleEndian.Uint16(b[2:])
	if err := t.read(regRID, b[:1]); err != nil {
		return err
	}
	t.id.Revision = b[0]
	if err := t.request(); err != nil {
		return err
	}
	// A TPM without the checksum need not acknowledge its register.
	if t.write(regCSUMEN, 1) == nil && t.read(regCSUMEN, b[:1]) == nil {
		t.checksum = b[0]&1 != 0
	}
	return nil
}

// ID says what the TPM is. Nobody vouches for it: it is for logs.
func (t *TPM) ID() ID { return t.id }

// Close gives the locality up.
func (t *TPM) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.write(regACCESS, accessActive); err != nil {
		return fmt.Errorf("tis: giving locality 0 up: %w", err)
	}
	return nil
}

// Send has the TPM execute a command and returns its answer. An error means that there
// is no answer: the TPM's own refusals are answers. With [ErrUnread] and [ErrTimeout] the
// command may have been executed; with others it has not been, unless the bus failed for
// good while it was.
func (t *TPM) Send(command []byte) ([]byte, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(command) < headerSize || len(command) > MaxSize || binary.BigEndian.Uint32(command[sizeAt:]) != uint32(len(command)) {
		return nil, fmt.Errorf("tis: command of %d bytes: %w", len(command), ErrSize)
	}
	answer, err := t.execute(command)
	if err != nil {
		return nil, fmt.Errorf("tis: command %#x: %w", binary.BigEndian.Uint32(command[codeAt:]), err)
	}
	return answer, nil
}

func (t *TPM) execute(command []byte) ([]byte, error) {
	if err := t.put(command); err != nil {
		return nil, err
	}
	// Said twice it does no harm: a TPM that executes, or has, ignores it (PTP 6.5.2.5).
	if err := t.write(regSTS, stsGo); err != nil {
		return nil, err
	}
	s, err := t.wait(limit(command), func(s status) bool { return s.is(stsValid | stsData) })
	if errors.Is(err, ErrStatus) {
		return nil, t.cancel(err)
	}
	if err != nil {
		return nil, err
	}
	answer, err := t.take(s.burst)
	// Drops the answer. If it fails, the next command's getting ready will do it.
	_ = t.write(regSTS, stsReady)
	return answer, err
}

// limit is how long a command may take.
func limit(command []byte) time.Duration {
	for _, code := range creators {
		if binary.BigEndian.Uint32(command[codeAt:]) == code {
			return limitCreate
		}
	}
	return limitCommand
}

// cancel has the TPM drop a command that takes too long.
func (t *TPM) cancel(late error) error {
	err := t.write(regSTSCtl, stsCancel)
	if err == nil {
		_, err = t.wait(timeoutB, func(s status) bool { return s.is(stsValid | stsData) })
	}
	if err != nil {
		return fmt.Errorf("%w: %w; and it cannot be cancelled: %w", ErrTimeout, late, err)
	}
	_ = t.write(regSTS, stsReady) // as in execute
	return fmt.Errorf("%w: %w", ErrTimeout, late)
}

// request takes locality 0.
func (t *TPM) request() error {
	if err := t.write(regACCESS, accessRequest); err != nil {
		return err
	}
	var access [1]byte
	for p := newPoll(timeoutA); ; {
		if err := t.read(regACCESS, access[:]); err != nil {
			return err
		}
		if access[0]&(accessValid|accessActive) == accessValid|accessActive {
			return nil
		}
		if !p.pause() {
			return fmt.Errorf("locality 0 is not granted, ACCESS %#02x: %w", access[0], ErrStatus)
		}
	}
}
