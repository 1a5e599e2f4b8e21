// Package journal is the slot journal: which of the two slots is to run, and how often
// each may still be tried (docs/medium.md, "Slot journal"). The bootloader writes it
// before each attempt, the controller when it is healthy and when it updates a slot.
// What is to be written, package decide says.
//
// # Why 8 places survive a torn write
//
// A record with revision r is written to place r mod 8, and the valid record with the
// highest revision counts. Let r be the one that counts. The next write concerns place
// (r+1) mod 8 alone, which holds r-7 or what was left of it. Whatever is there after a
// power cut, it is one of three things: the whole new record, and r+1 counts; the whole
// old one, and r counts; or neither, which cannot be read or does not have the SHA-256
// that it states, and r counts. Record r itself is not touched until 7 more records have been written behind
// it. So the journal is always at r or at r+1, and a write that has returned is never
// lost.
//
// Two places would do for that. Eight spread the wear, and keep some of the past where a
// card damages a neighbour of the page that it was programming: then an older record
// counts, which has fewer failures in it and costs attempts, but no image.
//
// # What who writes the medium can do
//
// The journal is not authenticated: the bootloader has no key that someone with the
// medium in hand does not have. That one can choose among images that are signed and not
// below the floor, and can spend attempts or give new ones, and can keep the board from
// booting, as by cutting the card in two. Therefore nothing here is believed about an
// image: what a slot holds is verified at each boot, and the security version here is for
// people to read.
package journal

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"nitro/boot/code"
	"nitro/boot/medium"
)

// A Slot is one of the two places for a controller's image.
type Slot uint8

const (
	A    Slot = 0
	B    Slot = 1
	None Slot = 0xff
)

// Other is the other slot.
func (s Slot) Other() Slot { return 1 - s }

func (s Slot) String() string {
	switch s {
	case A:
		return "slot A"
	case B:
		return "slot B"
	}
	return "no slot"
}

// A Status says what has become of what is in a slot.
type Status uint8

const (
	Empty    Status = iota // nothing that may be tried
	Unproven               // written, and never healthy
	Proven                 // was healthy once
	Bad                    // authentic, and must not run here
)

func (s Status) String() string {
	if int(s) < len(statusNames) {
		return statusNames[s]
	}
	return fmt.Sprintf("status %d", uint8(s))
}

var statusNames = [...]string{"empty", "unproven", "proven", "bad"}

// MaxAttempts is the highest number of attempts that a record may say are left.
const MaxAttempts = 3

// A SlotState is what the journal has about one slot.
type SlotState struct {
	Status          Status
	Attempts        uint8     // that are left
	Failure         code.Code // of the last failure
	SecurityVersion uint32    // of the image, for people
	Digest          [32]byte  // SHA-256 of the payload, for people
}

// A State is what a record says. It can be compared with ==.
type State struct {
	Preferred Slot         // A or B: the one to try first
	Trying    Slot         // the one that the boot under way tries, or None
	Pending   bool         // that boot has not reported itself healthy
	Slots     [2]SlotState // A and B
}

// Fresh is the state of a medium without a journal: both slots as if just written.
func Fresh() State {
	s := State{Preferred: A, Trying: None}
	for i := range s.Slots {
		s.Slots[i] = SlotState{Status: Unproven, Attempts: 1}
	}
	return s
}

// Sizes and offsets in bytes.
const (
	places     = 8
	placeSize  = 4096
	recordSize = 512

	magic       = "NCSLOTS1"
	offRevision = 8
	offPref     = 16
	offTrying   = 17
	offPending  = 18
	offSlots    = 32
	slotSize    = 48
	offDigest   = recordSize - sha256.Size
)

// maxRevision is the highest revision that counts. Nobody gets there by booting; a
// planted record beyond it would have no successor.
const maxRevision = 1<<63 - 1

// encode makes a record.
func encode(revision uint64, s State) [recordSize]byte {
	var b [recordSize]byte
	copy(b[:], magic)
	le := binary.LittleEndian
	le.PutUint64(b[offRevision:], revision)
	b[offPref], b[offTrying] = byte(s.Preferred), byte(s.Trying)
	if s.Pending {
		b[offPending] = 1
	}
	for i, slot := range s.Slots {
		at := b[offSlots+i*slotSize:]
		at[0], at[1] = byte(slot.Status), slot.Attempts
		le.PutUint16(at[2:], uint16(slot.Failure))
		le.PutUint32(at[4:], slot.SecurityVersion)
		copy(at[16:], slot.Digest[:])
	}
	sum := sha256.Sum256(b[:offDigest])
	copy(b[offDigest:], sum[:])
	return b
}

// errRecord is why a place does not count. A place that was never written is no news, so
// no more is told.
var errRecord = errors.New("journal: not a record")

// decode reads a record. Whatever it accepts, encode gives back as it was.
func decode(b *[recordSize]byte) (revision uint64, s State, err error) {
	sum := sha256.Sum256(b[:offDigest])
	if string(b[:offRevision]) != magic || !bytes.Equal(sum[:], b[offDigest:]) {
		return 0, s, errRecord
	}
	le := binary.LittleEndian
	revision = le.Uint64(b[offRevision:])
	s = State{Preferred: Slot(b[offPref]), Trying: Slot(b[offTrying]), Pending: b[offPending] == 1}
	for i := range s.Slots {
		at := b[offSlots+i*slotSize:]
		s.Slots[i] = SlotState{Status(at[0]), at[1], code.Code(le.Uint16(at[2:])), le.Uint32(at[4:]), [32]byte(at[16:48])}
	}
	if s.check() != nil || revision > maxRevision || encode(revision, s) != *b {
		return 0, s, errRecord
	}
	return revision, s, nil
}

// check refuses what no record says.
func (s *State) check() error {
	if s.Preferred > B || s.Trying > B && s.Trying != None || s.Pending && s.Trying == None {
		return fmt.Errorf("journal: preferred %v, trying %v, pending %v do not go together", s.Preferred, s.Trying, s.Pending)
	}
	for i, slot := range s.Slots {
		if slot.Status > Bad || slot.Attempts > MaxAttempts {
			return fmt.Errorf("journal: %v: %v with %d attempts", Slot(i), slot.Status, slot.Attempts)
		}
	}
	return nil
}

// place is where a revision goes.
func place(revision uint64) medium.Place {
	return medium.Place{Offset: medium.Journal.Offset + int64(revision%places)*placeSize, Size: placeSize}
}

// A Journal is that of a medium.
type Journal struct {
	d        medium.Device
	revision uint64 // that counts; 0 if none does
	state    State
}

// Open reads the journal. One without a valid record has [Fresh]. A place that cannot be
// read holds no record, since that is how some cards show a torn write; a medium of which
// no place can be read is an error.
func Open(d medium.Device) (*Journal, error) {
	j := &Journal{d: d, state: Fresh()}
	var readable bool
	var problem error
	for n := range uint64(places) {
		var b [recordSize]byte
		if err := medium.ReadPlace(d, place(n), b[:]); err != nil {
			problem = err
			continue
		}
		readable = true
		// A record in another place than its own was moved there: it would not be the
		// one that its successor spares. Revisions begin at 1.
		if r, s, err := decode(&b); err == nil && r%places == n && r > j.revision {
			j.revision, j.state = r, s
		}
	}
	if !readable {
		return nil, code.ImageUnreadable.Errorf("journal: no place can be read: %w", problem)
	}
	return j, nil
}

// State is what counts.
func (j *Journal) State() State { return j.state }

// Revision is that of the record that counts; 0 where there is none.
func (j *Journal) Revision() uint64 { return j.revision }

// Write writes the next record. When it returns without an error, the record is durable
// and counts. After an error either record may count: open the journal again.
func (j *Journal) Write(s State) error {
	if err := s.check(); err != nil {
		return err
	}
	if j.revision == maxRevision {
		return code.JournalUnwritable.Errorf("journal: revision %d is the last one: write zeros over the journal", j.revision)
	}
	next := j.revision + 1
	b := encode(next, s)
	if err := medium.WritePlace(j.d, place(next), padded(b)); err != nil {
		return code.JournalUnwritable.Errorf("journal: revision %d: %w", next, err)
	}
	j.revision, j.state = next, s
	return nil
}

// padded fills a record up to its place, so that a card programs whole pages.
func padded(b [recordSize]byte) []byte {
	p := make([]byte, placeSize)
	copy(p, b[:])
	return p
}
