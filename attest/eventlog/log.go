// Package eventlog writes and reads the log of what was measured into the TPM: the
// crypto-agile format of the TCG PC Client Platform Firmware Profile 1.05 (TCG_PCR_EVENT2,
// section 10.2) for the SHA-256 bank alone, headed by the Spec ID event. Any tool that
// knows the format reads it; tpm2_eventlog does in a test.
//
// What an event says is text, `nitro <name> key=value ...`, made by one constructor for
// each name ([Anchors], [Controller], ...): docs/attestation.md, "Event log". Nobody
// formats one by hand, and [Parse] takes only what a constructor could have made.
//
// # What a digest covers
//
// The TCG's events have digests of something outside of the log and a description that
// nothing vouches for: who hands in a log can call a measurement what he likes. Here the
// digest is over the event's type and its text, both of which are in the log, so a
// reader recomputes each one and the text is worth as much as the PCR. What was measured
// is in the text (sha256=...).
//
// # Left out
//
// Other hash algorithms, events of other firmware, and EV_SEPARATOR, which parts phases
// that do not exist here. PCRs above 15 do not begin at zero and are not used.
package eventlog

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
)

// MaxSize is the longest log in bytes (docs/attestation.md).
const MaxSize = 48 << 10

// PCRs is the number of PCRs that a log can measure into, counted from 0: those that are
// zero after a power-on (PC Client Platform TPM Profile 1.05, table 4).
const PCRs = 16

// A Digest is one of SHA-256.
type Digest = [sha256.Size]byte

// A Type is a TCG_EVENTTYPE (PFP 1.05, table 14).
type Type uint32

const (
	PostCode    Type = 0x1 // EV_POST_CODE: firmware code
	NoAction    Type = 0x3 // EV_NO_ACTION: told, and not measured
	ConfigFlags Type = 0xa // EV_PLATFORM_CONFIG_FLAGS: data
)

func (t Type) String() string {
	switch t {
	case PostCode:
		return "EV_POST_CODE"
	case NoAction:
		return "EV_NO_ACTION"
	case ConfigFlags:
		return "EV_PLATFORM_CONFIG_FLAGS"
	}
	return fmt.Sprintf("event type %#x", uint32(t))
}

// TPM_ALG_SHA256 (TPM 2.0 Library, part 2, table 9).
const algSHA256 = 0x000b

// ErrFull says that an event does not fit into the log. Nothing has been measured. The
// controller asks for a restart, which begins a new log.
var ErrFull = errors.New("eventlog: the log is full: restart to begin a new one")

// header is the Spec ID event (PFP 1.05, 10.2.1.1 and 10.4.5.1): a TCG_PCClientPCREvent,
// whose digest is 20 zero bytes, with a TCG_EfiSpecIDEvent in it.
var header = func() (b []byte) {
	var id []byte
	id = append(id, "Spec ID Event03\x00"...)
	id = le.AppendUint32(id, 0)           // platformClass: client
	id = append(id, 0, 2, 105)            // specVersionMinor, specVersionMajor, specErrata: 2.0, PFP 1.05
	id = append(id, 1)                    // uintnSize: 32 bits
	id = le.AppendUint32(id, 1)           // numberOfAlgorithms
	id = le.AppendUint16(id, algSHA256)   // algorithmId
	id = le.AppendUint16(id, sha256.Size) // digestSize
	id = append(id, 0)                    // vendorInfoSize
	b = le.AppendUint32(b, 0)             // pcrIndex
	b = le.AppendUint32(b, uint32(NoAction))
	b = append(b, make([]byte, 20)...)
	b = le.AppendUint32(b, uint32(len(id)))
	return append(b, id...)
}()

var le = binary.LittleEndian

// An Event's fixed part, before its text: pcrIndex (4), eventType (4), digests' count (4),
// algorithm (2), digest (32), eventSize (4).
const eventFixed = 4 + 4 + 4 + 2 + sha256.Size + 4

// A Log is what has been measured so far. Its zero value is not usable: [New], [Parse].
// It is not safe for concurrent use.
type Log struct {
	bytes  []byte
	events []Event
}

// New begins a log.
func New() *Log { return &Log{bytes: append([]byte(nil), header...)} }

// Bytes is the log in its format. It must not be changed.
func (l *Log) Bytes() []byte { return l.bytes }

// Events are those of the log, in order. They must not be changed.
func (l *Log) Events() []Event { return l.events }

// Fits tells whether events can all be appended.
func (l *Log) Fits(events ...Event) bool {
	n := len(l.bytes)
	for _, e := range events {
		n += eventFixed + len(e.Text)
	}
	return n <= MaxSize
}

// Append adds an event that has been measured already, or is not to be.
func (l *Log) Append(e Event) error {
	if err := e.check(); err != nil {
		return err
	}
	if !l.Fits(e) {
		return ErrFull
	}
	digest := e.Digest()
	l.bytes = le.AppendUint32(l.bytes, uint32(e.PCR))
	l.bytes = le.AppendUint32(l.bytes, uint32(e.Type))
	l.bytes = le.AppendUint32(l.bytes, 1)
	l.bytes = le.AppendUint16(l.bytes, algSHA256)
	l.bytes = append(l.bytes, digest[:]...)
	l.bytes = le.AppendUint32(l.bytes, uint32(len(e.Text)))
	l.bytes = append(l.bytes, e.Text...)
	l.events = append(l.events, e)
	return nil
}

// An Extender extends a PCR of the SHA-256 bank: TPM2_PCR_Extend.
type Extender interface {
	Extend(pcr int, digest Digest) error
}

// Measure extends an event into its PCR and appends it. What does not fit, or is not an
// event, is not extended, or the log could never be replayed again. After an error of
// the TPM it is not known whether it has been: the log is worth nothing any more.
func (l *Log) Measure(t Extender, e Event) error {
	if err := e.check(); err != nil {
		return err
	}
	if !l.Fits(e) {
		return ErrFull
	}
	if e.Type != NoAction {
		if err := t.Extend(e.PCR, e.Digest()); err != nil {
			return fmt.Errorf("eventlog: PCR %d: %q: %w", e.PCR, e.Text, err)
		}
	}
	return l.Append(e)
}

// Replay computes the PCRs that a TPM has after the log's events, from zero on.
func (l *Log) Replay() (pcrs [PCRs]Digest) {
	for _, e := range l.events {
		if e.Type != NoAction {
			pcrs[e.PCR] = Extend(pcrs[e.PCR], e.Digest())
		}
	}
	return pcrs
}

// Extend is what TPM2_PCR_Extend does to a PCR.
func Extend(pcr, digest Digest) Digest {
	return sha256.Sum256(append(pcr[:], digest[:]...))
}

// Parse reads a log from somebody who may be an enemy. What it accepts is byte for byte
// what [Log.Append] would have made of the same events.
func Parse(b []byte) (*Log, error) {
	if len(b) > MaxSize {
		return nil, fmt.Errorf("eventlog: %d bytes, at most %d", len(b), MaxSize)
	}
	if len(b) < len(header) || string(b[:len(header)]) != string(header) {
		return nil, errors.New("eventlog: does not begin with the Spec ID event for SHA-256 alone")
	}
	l := New()
	for at := len(header); at < len(b); at = len(l.bytes) {
		if err := l.parse(b[at:]); err != nil {
			return nil, fmt.Errorf("eventlog: event %d at byte %d: %w", len(l.events), at, err)
		}
	}
	return l, nil
}

// parse reads one event and appends it.
func (l *Log) parse(b []byte) error {
	if len(b) < eventFixed {
		return fmt.Errorf("%d bytes are left, an event has %d", len(b), eventFixed)
	}
	e := Event{PCR: int(le.Uint32(b)), Type: Type(le.Uint32(b[4:]))}
	if count, alg := le.Uint32(b[8:]), le.Uint16(b[12:]); count != 1 || alg != algSHA256 {
		return fmt.Errorf("%d digests, the first of algorithm %#x: not one of SHA-256", count, alg)
	}
	digest, size := Digest(b[14:]), le.Uint32(b[14+sha256.Size:])
	if size > MaxText || int(size) > len(b)-eventFixed {
		return fmt.Errorf("text of %d bytes: at most %d, and %d are left", size, MaxText, len(b)-eventFixed)
	}
	e.Text = string(b[eventFixed : eventFixed+int(size)])
	if err := e.check(); err != nil {
		return err
	}
	if sum := e.Digest(); sum != digest {
		return fmt.Errorf("%q has digest %x, the log says %x", e.Text, sum, digest)
	}
	return l.Append(e)
}
