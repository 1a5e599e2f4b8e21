// Package ticket is what lets a controller that has just started adopt a host that runs:
// proof that an earlier boot of this board verified the host in this host cycle, and
// released it (docs/host.md, "Ticket").
//
// A ticket is written before the release and authenticated under a key that is derived from
// the store's, so only firmware that could open the store makes or accepts one. It names
// the host cycle (a later cycle makes it void), the nonce that the latch kept since then
// (a latch that was held, or lost its power, has another), the lines that were let go, the
// boot that wrote it, and the events that were measured, which the adopting boot measures
// again. [Ticket.Check] compares all of that with what is there now.
package ticket

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"nitro/attest/eventlog"
	"nitro/boot/code"
)

// The format, all little endian:
//
//	offset  size
//	0       8     "NCHTICK1"
//	8       8     host cycle
//	16      4     nonce of the latch, not 0
//	20      1     lines of the board (cycle.Lines)
//	21      1     number of events, 1 to MaxEvents
//	22      2     0
//	24      32    boot
//	56            each event: length of its text (2), 1 to eventlog.MaxText, and the text
//	end     32    HMAC-SHA-256 under the key, over all before
const (
	magic = "NCHTICK1"
	fixed = 56

	// MaxEvents bounds the events of one cycle: two firmwares, and what else was measured.
	MaxEvents = 16
	// MaxSize is the longest ticket in bytes.
	MaxSize = fixed + MaxEvents*(2+eventlog.MaxText) + sha256.Size
)

// A Key authenticates tickets.
type Key [32]byte

// DeriveKey makes the key of a board's tickets from its store's key (docs/attestation.md,
// "Sealing"), which must be 32 bytes.
func DeriveKey(store []byte) (k Key, err error) {
	if len(store) != 32 {
		return k, fmt.Errorf("ticket: a store key of %d bytes, not 32", len(store))
	}
	b, err := hkdf.Key(sha256.New, store, nil, "nitro host ticket v1", len(k))
	if err != nil {
		return k, fmt.Errorf("ticket: %w", err)
	}
	copy(k[:], b)
	clear(b)
	return k, nil
}

// A Ticket is what was true when a host was released.
type Ticket struct {
	Cycle  uint64           // the host cycle
	Nonce  uint32           // that the latch was given
	Lines  uint8            // that the board has, as a set of cycle.Lines
	Boot   [32]byte         // names the boot that released the host
	Events []eventlog.Event // of the cycle, in PCR 4 to 6, without host-cycle, in their order
}

var le = binary.LittleEndian

// Seal encodes and authenticates a ticket.
func (t *Ticket) Seal(k *Key) ([]byte, error) {
	if err := t.check(); err != nil {
		return nil, err
	}
	b := append(make([]byte, 0, MaxSize), magic...)
	b = le.AppendUint64(b, t.Cycle)
	b = le.AppendUint32(b, t.Nonce)
	b = append(b, t.Lines, byte(len(t.Events)), 0, 0)
	b = append(b, t.Boot[:]...)
	for _, e := range t.Events {
		b = le.AppendUint16(b, uint16(len(e.Text)))
		b = append(b, e.Text...)
	}
	return append(b, mac(k, b)...), nil
}

func mac(k *Key, b []byte) []byte {
	m := hmac.New(sha256.New, k[:])
	m.Write(b)
	return m.Sum(nil)
}

// check refuses what is no ticket.
func (t *Ticket) check() error {
	if t.Nonce == 0 {
		return fmt.Errorf("ticket: cycle %d: the nonce is 0, which is what a latch without power has", t.Cycle)
	}
	if len(t.Events) < 1 || len(t.Events) > MaxEvents {
		return fmt.Errorf("ticket: cycle %d: %d events, 1 to %d are possible", t.Cycle, len(t.Events), MaxEvents)
	}
	for _, e := range t.Events {
		if e.PCR < 4 || e.PCR > 6 || e.Name() == "host-cycle" || e.Value("cycle") != fmt.Sprint(t.Cycle) {
			return fmt.Errorf("ticket: cycle %d: %q is no event of it", t.Cycle, e.Text)
		}
	}
	return nil
}

// Open authenticates a ticket, and then reads it. What it accepts is what Seal makes.
func Open(b []byte, k *Key) (*Ticket, error) {
	if len(b) < fixed+sha256.Size || len(b) > MaxSize {
		return nil, code.HostNotAdopted.Errorf("ticket: %d bytes: %d to %d are possible", len(b), fixed+sha256.Size, MaxSize)
	}
	body, sum := b[:len(b)-sha256.Size], b[len(b)-sha256.Size:]
	if !hmac.Equal(mac(k, body), sum) {
		return nil, code.HostNotAdopted.Errorf("ticket: is not authentic: it was made under another key, or changed")
	}
	t, err := decode(body)
	if err != nil {
		return nil, code.HostNotAdopted.Errorf("%w", err)
	}
	return t, nil
}

// decode reads a ticket without its MAC.
func decode(b []byte) (*Ticket, error) {
	if len(b) < fixed || string(b[:8]) != magic || b[22] != 0 || b[23] != 0 {
		return nil, fmt.Errorf("ticket: is not of version %s", magic)
	}
	t := &Ticket{Cycle: le.Uint64(b[8:]), Nonce: le.Uint32(b[16:]), Lines: b[20]}
	copy(t.Boot[:], b[24:])
	count := int(b[21])
	if count > MaxEvents {
		return nil, fmt.Errorf("ticket: %d events, at most %d", count, MaxEvents)
	}
	b = b[fixed:]
	for i := range count {
		if len(b) < 2 || int(le.Uint16(b)) > len(b)-2 {
			return nil, fmt.Errorf("ticket: event %d is cut off", i)
		}
		n := int(le.Uint16(b))
		e, err := eventlog.ParseText(string(b[2 : 2+n]))
		if err != nil {
			return nil, fmt.Errorf("ticket: event %d: %w", i, err)
		}
		t.Events = append(t.Events, e)
		b = b[2+n:]
	}
	if len(b) != 0 {
		return nil, fmt.Errorf("ticket: %d bytes behind the last event", len(b))
	}
	return t, t.check()
}

// Check tells whether a ticket vouches for the host that runs: the last host cycle of the
// store, the latch's nonce, the board's lines.
func (t *Ticket) Check(cycle uint64, nonce uint32, lines uint8) error {
	switch {
	case t.Cycle != cycle:
		return code.HostNotAdopted.Errorf("ticket: is of host cycle %d, the last one is %d", t.Cycle, cycle)
	case t.Nonce != nonce:
		return code.HostLatchBroken.Errorf("ticket: the latch has nonce %#x, the ticket of cycle %d has %#x: it was held or lost its power since", nonce, t.Cycle, t.Nonce)
	case t.Lines != lines:
		return code.HostNotAdopted.Errorf("ticket: is for a board with lines %#x, this one has %#x", t.Lines, lines)
	}
	return nil
}
