// Package store is the encrypted store on the card: named records in a log-structured
// format that is authenticated, that survives a power cut at every write, and that
// notices when an older copy was put back. docs/store.md has the format and the argument
// for each order of writes; the code names its sections.
//
// [Format] makes a store, [Open] mounts one. [Store.Put], [Store.Get], [Store.Delete] and
// [Store.Commit] work on values in memory; [Store.Create] and [Store.Reader] stream large
// ones, a segment of 32 KiB at a time. A [Snapshot] is a state that does not change.
//
// Left out: more than one mount at a time, moving large values to level wear (card
// controllers do that), hiding how much is written and where, and growing a store.
package store

import (
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"sync"

	"nitro/boot/medium"
)

// Limits of what a store takes.
const (
	MaxName  = 255      // bytes of a name
	MaxValue = 16 << 20 // bytes of a value
	MaxBatch = 96       // operations of a batch

	// MaxBatchBytes is what a batch may take in the log: for each operation at most 4
	// bytes and the name, and the value if it has at most 4,096 bytes, or else 40 bytes
	// and 2 for each 32 KiB.
	MaxBatchBytes = maxPlain - frameHeader

	// DefaultWindow is how many records can be taken back by an older copy of the card.
	// A checkpoint begins when two thirds of them are there: docs/store.md, "Freshness",
	// weighs that against the endurance of the TPM.
	DefaultWindow = 96
)

// Errors, to be found with errors.Is. What they are wrapped in says where and why.
var (
	ErrNotFormatted = errors.New("there is no store here: format it")
	ErrKey          = errors.New("the key is not that of this store: check what it was derived from")
	ErrVersion      = errors.New("the store's format is newer than this firmware: use newer firmware")
	ErrDamaged      = errors.New("damaged or changed: it does not authenticate")
	ErrRolledBack   = errors.New("the store is older than the TPM's counter says: put the current card back")
	ErrCounter      = errors.New("the freshness counter does not work, or is not this store's: check the TPM")
	ErrFull         = errors.New("the store is full: delete something")
	ErrWorn         = errors.New("the medium refuses to be written: replace the card")
	ErrUnreadable   = errors.New("the medium cannot be read: try again, then replace the card")

	ErrNotFound = errors.New("no such record")
	ErrName     = errors.New("a name has 1 to 255 bytes")
	ErrTooLarge = errors.New("larger than a value or batch may be: split it")
	ErrStale    = errors.New("the space of what was being read had to be used: open it again")
	ErrClosed   = errors.New("closed")
)

// A Counter counts up only, and keeps its value for ever: an NV counter of the TPM. An
// attacker who could set it back, or answer in its place, could replay old copies of the
// card.
type Counter interface {
	// Read gives the value.
	Read() (uint64, error)

	// Increment adds one and gives the new value.
	Increment() (uint64, error)
}

// KeySize is the length of a store's key in bytes.
const KeySize = 32

// A Config says where a store is and what protects it.
type Config struct {
	Device  medium.Device // in blocks of 512 bytes
	Place   medium.Place  // where on it the store is
	Key     []byte        // KeySize bytes; Format and Open overwrite it with zeros
	Counter Counter
	Rand    io.Reader // nil means crypto/rand's

	// Window is how many records, put by batches, can be taken back at most; a batch
	// that puts none counts as one, and one that puts more than that stands alone. It is
	// at least 1; 0 means DefaultWindow.
	Window int

	// AcceptLoss opens a store that is older than the counter says. The owner's ticket
	// must say so: what was written since is lost, and what was revoked since is back.
	AcceptLoss bool

	// background does a step of the counter while the store is used; nil means that a
	// goroutine does. Tests choose the moment.
	background func(func())
}

// Stats tell what a store holds and what it did since it was mounted.
type Stats struct {
	Records int    // there are
	Commits uint64 // since the store was formatted, the cleaner's included
	Exposed int    // records put that could be replayed away: see Config.Window

	Segments int // in all
	Free     int // to be written at once
	Data     int // with large values
	Log      int // with small ones
	Bad      int // that refused to be written
	LogBytes int // of live operations in the log

	Checkpoints    uint64
	Steps          uint64 // of the counter
	Roots          uint64 // written, both copies counting as one
	Cleaned        uint64 // segments
	Moved          uint64 // bytes of live operations that cleaning wrote again
	SectorsRead    uint64
	SectorsWritten uint64
	WriteErrors    uint64 // of the device
	RootErrors     uint64 // roots of which one copy could not be written
	Damaged        uint64 // reads that did not authenticate
}

// A Store is a mounted store. Its methods may be called by several goroutines; one works
// at a time.
type Store struct {
	mu sync.Mutex

	extent
	limits
	keys    keys
	rand    io.Reader
	counter Counter
	window  int
	start   func(func()) // of a step in the background

	table   []segment          // by number
	index   map[hash]entry     // what there is
	epochs  map[epochID]*epoch // those that something is encrypted under, and maybe more
	epoch   *epoch             // this mount's
	lastGen uint64             // generation given out last, in this epoch
	cursor  int                // where to look for the next free segment

	root      root   // the newest one on the medium
	step      *step  // to root.counter; nil once the counter has reached it
	commits   uint64 // number of the last one
	since     int    // records put since the last checkpoint
	before    int    // records put before it that are safe only when the step is done
	safe      uint64 // last commit that no older copy of the card can take back
	head      *headSegment
	free      int // segments of kind free
	data, log int // segments of these kinds
	bad       int
	live      int // bytes of live operations
	waiting   []int
	views     map[*view]struct{}
	failed    error // why nothing is written any more

	plain, sealed []byte // a log frame before and after encryption
	chunk         []byte // a segment that is being written, or read
	moving        []byte // a log frame that is being cleaned
	stats         Stats
}

// A headSegment is the log segment that is being written.
type headSegment struct {
	number int
	next   int  // sector
	closed bool // nothing is written to it any more
}

// A view is a reader or snapshot that needs released segments to stay as they are.
type view struct{ stale bool }

// newStore checks a Config and makes a Store that is not mounted.
func newStore(c Config) (*Store, error) {
	if len(c.Key) != KeySize {
		return nil, fmt.Errorf("store: a key of %d bytes: it must have %d", len(c.Key), KeySize)
	}
	if c.Window < 0 {
		return nil, fmt.Errorf("store: a window of %d records: it must be at least 1", c.Window)
	}
	x, err := newExtent(c.Device, c.Place)
	if err != nil {
		return nil, err
	}
	s := &Store{
		extent: x, limits: limitsOf(x.segments), rand: c.Rand, counter: c.Counter, window: c.Window, start: c.background,
		table: make([]segment, x.segments), index: map[hash]entry{}, epochs: map[epochID]*epoch{},
		views: map[*view]struct{}{},
		plain: make([]byte, maxPlain), sealed: make([]byte, frameSectors*sectorSize), chunk: make([]byte, segmentSize), moving: make([]byte, frameSectors*sectorSize),
	}
	s.cursor, s.free = 2, x.segments-fixedSegments
	for _, n := range s.fixed() {
		s.table[n].kind = fixed
	}
	if s.rand == nil {
		s.rand = rand.Reader
	}
	if s.window == 0 {
		s.window = DefaultWindow
	}
	if s.start == nil {
		s.start = func(f func()) { go f() }
	}
	return s, nil
}

// Close makes a checkpoint if there were batches since the last one, and zeroes the keys.
// (Those that the cipher's package has copied are the garbage collector's.) A store need
// not be closed: nothing that was committed is lost.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed == ErrClosed {
		return nil
	}
	err := s.settle()
	if err == nil && s.since > 0 {
		err = s.checkpoint()
	}
	s.shut(ErrClosed)
	return err
}

// shut forgets the keys. Reads and writes give why.
func (s *Store) shut(why error) {
	s.failed = why
	s.keys.zero()
	for _, e := range s.epochs {
		e.zero()
	}
	s.index, s.epochs, s.epoch = nil, nil, nil
	clear(s.plain)
	clear(s.sealed)
	clear(s.chunk)
	clear(s.moving)
}

// Stats tells what the store holds and did.
func (s *Store) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.stats
	t.Records, t.Commits, t.Exposed = len(s.index), s.commits, s.exposed()
	t.Segments, t.Free, t.Data, t.Log, t.Bad, t.LogBytes = s.segments, s.free, s.data, s.log, s.bad, s.live
	t.SectorsRead, t.SectorsWritten, t.WriteErrors = s.reads, s.writes, s.writeErrors
	return t
}

// mayRead and mayWrite say why not.
func (s *Store) mayRead() error {
	if s.failed == ErrClosed {
		return fmt.Errorf("store: %w", ErrClosed)
	}
	return nil
}

func (s *Store) mayWrite() error {
	if s.failed != nil {
		return fmt.Errorf("store: %w", s.failed)
	}
	return nil
}

// aead is the cipher of an epoch.
func (s *Store) aead(e *epoch) (cipher.AEAD, error) { return e.cipher(&s.keys) }
