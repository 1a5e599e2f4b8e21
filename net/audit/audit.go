// Package audit records every request that a principal makes, allowed or not, in an
// append-only log whose Merkle tree (RFC 6962) the TPM signs as C2SP tlog-checkpoints:
// docs/audit.md. A [Log] lies in the encrypted store; a [Ring] is quarantine's, in RAM.
// Package verify checks exports far from the board.
//
// # What it answers
//
// An operator with good credentials and bad intent cannot act unseen: what cannot be
// recorded is refused ([Log.Begin]), and only what a witness has countersigned can be
// cleared. Who fills the log stops what changes things, and not what holds, detaches or
// zeroes. Who puts back an older card is noticed by the store, and by every witness that
// has seen a later checkpoint: nothing is signed before the store has made it
// unreplayable. A stranger cannot fill the log, since what fails before authentication is
// counted and not recorded.
//
// # What is left out
//
// Sending: this package formats for syslog ([Syslog]) and exports, the caller has the
// connections. Requests' bodies are never recorded.
package audit

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"nitro/boot/code"
	"nitro/boot/store"
)

// Bounds of the log: docs/audit.md.
const (
	SegmentRecords  = 1 << segmentLevel
	DefaultSegments = 256     // that are kept
	MaxTail         = 256     // records that are not in a segment
	Reserve         = 192     // of them, for outcomes and safe actions
	MaxRecords      = 4 << 20 // of a log
	MaxName         = 128     // bytes of a log's name
)

// Errors, to be found with errors.Is.
var (
	ErrUnrecorded = errors.New("it cannot be recorded, so it is not done: witness and clear the audit log, or check the card")
	ErrGone       = errors.New("the records were cleared: ask whoever has witnessed them")
	ErrRange      = errors.New("there are no such records")
	ErrForked     = errors.New("the log is not the one that was signed: have the board's card inspected")
	ErrEnded      = errors.New("its outcome has been recorded already")
	ErrWitness    = errors.New("it is no checkpoint of this log that a known witness has cosigned")
)

// A Store keeps the log: boot/store's.
type Store interface {
	Get(name string) ([]byte, error)
	List(prefix string) ([]string, error)
	Commit(*store.Batch) error
	// Checkpoint makes what was committed unreplayable.
	Checkpoint() error
}

// A Config says what a log needs.
type Config struct {
	Store  Store
	Signer Signer
	// Name is the board's, as C2SP names logs: "owner.example/board/0123456789abcdef".
	Name string
	// Witnesses are the keys, of type 0x04, whose cosignatures let records be cleared.
	Witnesses []string
	// Segments are kept at most; 0 means DefaultSegments.
	Segments int
	// Now gives the time; false while it is not known.
	Now func() (time.Time, bool)
	// Up is the time since the boot.
	Up func() time.Duration
	// Random fills a slice; crypto/rand.Read does.
	Random func([]byte) (int, error)
	// Running says what runs, for the boot's record.
	Running string
}

func (c *Config) check() error {
	switch {
	case c.Store == nil || c.Signer == nil || c.Now == nil || c.Up == nil || c.Random == nil:
		return errors.New("audit: the configuration lacks store, signer, clocks or random numbers")
	case c.Name == "" || len(c.Name) > MaxName || plain(c.Name, MaxName) != c.Name || strings.ContainsAny(c.Name, " +"):
		return fmt.Errorf("audit: name %.200q: it has 1 to %d printable characters, no space, no plus", c.Name, MaxName)
	}
	if c.Segments == 0 {
		c.Segments = DefaultSegments
	}
	if c.Segments < 1 || c.Segments > MaxRecords/SegmentRecords {
		return fmt.Errorf("audit: %d segments: 1 to %d", c.Segments, MaxRecords/SegmentRecords)
	}
	return nil
}

// An Entry is a request as it is recorded.
type Entry struct {
	Who      string // the principal's URI
	Action   string
	Type     string
	Resource string
	Method   string
	Reset    string
	Why      string // the policies that allow it, or why it is denied

	// Relief is of requests without which a full log would stay full: to read it, have it
	// witnessed, clear what is witnessed. They hide nothing, so they may use half of the
	// reserve, and where that is gone they run unrecorded and are counted.
	Relief bool
}

// An Event is what the board does by itself: releases its host or holds it, installs an
// update, loses a volume. No principal has asked for it in a request of its own.
type Event struct {
	Action   string // what happened, a word of at most MaxWord bytes: "hostRunning"
	Type     string // of the resource, as policies name it
	Resource string // its path, as policies name it
	Detail   string
}

func (e Event) record() *Record {
	return &Record{Kind: KindEvent, Action: e.Action, Type: e.Type, Resource: e.Resource, Detail: e.Detail}
}

// An Outcome is what came of a request.
type Outcome struct {
	Status int // HTTP's
	Detail string
}

// A Recorder is a Log or a Ring.
type Recorder interface {
	// Begin records the intent of a request that is allowed. If it cannot be recorded it
	// must not be carried out: the error is ErrUnrecorded. One in the safe direction may
	// be, and one that relieves the log; then there is no error, and the token says that
	// it is not recorded.
	Begin(e Entry, safe bool) (*Token, error)
	// Deny records a request that is not allowed. It is refused whatever comes of the
	// recording; what cannot be recorded is counted.
	Deny(e Entry) error
	// Count counts what failed before it was known who asked.
	Count(add func(*Counters))
}

// A Token is a request that has begun.
type Token struct {
	Recorded bool   // false for what is done although it could not be recorded
	N        uint64 // the intent's index

	once  sync.Once
	end   func(Outcome) error
	entry Entry
}

// NewToken makes the token of a recorder that is neither a Log nor a Ring.
func NewToken(end func(Outcome) error) *Token { return &Token{Recorded: true, end: end} }

// End records the outcome, once. An error says that it is not recorded: what was done is
// done, and the gap is recorded as soon as something can be.
func (t *Token) End(o Outcome) error {
	err := ErrEnded
	t.once.Do(func() { err = t.end(o) })
	return err
}

// record makes an entry a record.
func (e Entry) record(kind Kind) Record {
	return Record{Kind: kind, Who: e.Who, Action: e.Action, Type: e.Type, Resource: e.Resource, Method: e.Method, Reset: e.Reset, Why: e.Why}
}

// stamp fills in what every record has.
func stamp(r *Record, n, boot uint64, c *Config) {
	r.V, r.N, r.Boot, r.Up = Format, n, boot, c.Up().Milliseconds()
	if now, known := c.Now(); known {
		r.T = now.UTC().Format(timeFormat)
	}
}

// unrecorded is ErrUnrecorded with its reason and code.
func unrecorded(reason error) error {
	return code.AuditUnwritable.Errorf("audit: %w: %w", ErrUnrecorded, reason)
}
