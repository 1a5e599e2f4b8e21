package store

import (
	"fmt"
	"io"
	"sync"
)

// addChunk writes the next segment of a large value.
func (s *Store) addChunk(l *large, plain []byte, reserved bool) error {
	if n, limit := charge(s.data+1, s.live), s.limit(reserved); n > limit {
		return fmt.Errorf("%d segments of %d: %w", n, limit, ErrFull)
	}
	if err := s.room(1); err != nil {
		return err
	}
	n, err := s.writeChunk(valued, l.generation, plain)
	if err != nil {
		return err
	}
	l.segments = append(l.segments, n)
	return nil
}

// A Writer writes a record whose value is not in memory at once. It holds 32 KiB of it.
// The record is there, or replaced, when Commit returns; until then the old one is. It
// must end with Commit or Abort.
type Writer struct {
	// Reserved lets it use the room that is kept for the audit's and quarantine's words.
	// It is set before the first Write.
	Reserved bool

	s     *Store
	name  string
	large *large
	rest  []byte // not written yet
	err   error  // why nothing more can be written
}

// Create begins a record.
func (s *Store) Create(name string) (*Writer, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.mayWrite(); err != nil {
		return nil, err
	}
	l := &large{epoch: s.epoch.id, generation: s.generation()}
	return &Writer{s: s, name: name, large: l, rest: make([]byte, 0, chunkSize)}, nil
}

// Write adds to the value. After an error all that is left is Abort.
func (w *Writer) Write(p []byte) (n int, err error) {
	if w.err != nil {
		return 0, w.err
	}
	for len(p) > 0 {
		if len(w.rest) == chunkSize {
			if w.err = w.flush(); w.err != nil {
				return n, w.err
			}
		}
		k := copy(w.rest[len(w.rest):chunkSize], p)
		w.rest = w.rest[:len(w.rest)+k]
		p, n = p[k:], n+k
	}
	return n, nil
}

// flush writes what has gathered.
func (w *Writer) flush() error {
	s := w.s
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.mayWrite()
	if err == nil && w.large.size+len(w.rest) > MaxValue {
		err = ErrTooLarge
	}
	if err == nil {
		err = s.ready(1)
	}
	if err == nil {
		err = s.addChunk(w.large, w.rest, w.Reserved)
	}
	if err != nil {
		return fmt.Errorf("store: record %q: %w", w.name, err)
	}
	w.large.size += len(w.rest)
	w.rest = w.rest[:0]
	return nil
}

// Commit makes the value the record's. It is durable when Commit returns nil.
func (w *Writer) Commit() error {
	if w.err != nil {
		return w.err
	}
	o := op{kind: opSmall, name: w.name, value: w.rest}
	if w.large.size > 0 || len(w.rest) > inlineMax {
		if w.err = w.flush(); w.err != nil {
			return w.err
		}
		o = op{kind: opLarge, name: w.name, large: w.large}
	}
	s := w.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if w.err = s.ready(1); w.err == nil {
		w.err = s.commitOps([]op{o}, 1, w.Reserved)
	}
	if w.err != nil {
		return w.err
	}
	w.end()
	return nil
}

// Abort forgets what was written. After Commit it does nothing.
func (w *Writer) Abort() {
	s := w.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if w.large != nil && s.failed == nil {
		s.giveBack(w.large.segments)
	}
	w.end()
}

func (w *Writer) end() {
	clear(w.rest[:cap(w.rest)])
	w.large, w.rest, w.err = nil, nil, fmt.Errorf("store: record %q: %w", w.name, ErrClosed)
}

// find reads the operation that a record is in an index, and where its value is.
func (s *Store) find(index map[hash]entry, name string) (o op, err error) {
	if err := s.mayRead(); err != nil {
		return o, err
	}
	h := s.keys.hash(name)
	e, there := index[h]
	if !there {
		return o, fmt.Errorf("store: record %q: %w", name, ErrNotFound)
	}
	err = s.operations(e, func(f *op) error {
		if f.name == name && f.kind != opDelete {
			o = *f
		}
		return nil
	})
	if err == nil && o.kind == 0 {
		err = fmt.Errorf("segment %d, sector %d does not have it: %w", e.segment, e.sector, ErrDamaged)
	}
	if err != nil {
		return o, fmt.Errorf("store: record %q: %w", name, err)
	}
	return o, nil
}

// operations reads the frame that an entry names. Values are in memory of the frame's own.
func (s *Store) operations(e entry, do func(*op) error) error {
	t := &s.table[e.segment]
	b := make([]byte, int(e.sectors)*sectorSize)
	at := place{t.epoch, t.generation, int(e.segment), int(e.sector), logFrame}
	plain, err := s.readFrame(at, int(e.sectors), b)
	if err != nil {
		return err
	}
	if _, err := decodeFrame(plain, s.segments, do); err != nil {
		return fmt.Errorf("segment %d, sector %d: %w", e.segment, e.sector, err)
	}
	return nil
}

// readChunk reads a segment of a large value into a buffer of one segment.
func (s *Store) readChunk(l *large, i int, b []byte) ([]byte, error) {
	n := min(l.size-i*chunkSize, chunkSize)
	at := place{s.epochOf(l.epoch), l.generation, l.segments[i], 0, dataFrame}
	plain, err := s.readFrame(at, sectorsFor(n), b)
	if err != nil {
		return nil, fmt.Errorf("from byte %d on: %w", i*chunkSize, err)
	}
	return plain[:n], nil
}

// Get reads a record.
func (s *Store) Get(name string) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.get(s.index, name)
}

func (s *Store) get(index map[hash]entry, name string) ([]byte, error) {
	o, err := s.find(index, name)
	if err != nil || o.kind == opSmall {
		return o.value, err
	}
	v := make([]byte, 0, o.large.size)
	for i := range o.large.segments {
		p, err := s.readChunk(o.large, i, s.chunk)
		if err != nil {
			return nil, fmt.Errorf("store: record %q: %w", name, err)
		}
		v = append(v, p...)
	}
	return v, nil
}

// A Reader reads a record as it was when it was opened, a segment at a time. Its methods
// may be called by several goroutines. It must be closed.
type Reader struct {
	s     *Store
	name  string
	size  int
	large *large // nil for a small value
	view  *view  // of a large value

	mu     sync.Mutex
	next   int    // of Read
	buffer []byte // a segment
	have   []byte // what is decrypted, in buffer; or the small value
	chunk  int    // which that is
}

// Reader opens a record for reading.
func (s *Store) Reader(name string) (*Reader, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reader(s.index, name)
}

func (s *Store) reader(index map[hash]entry, name string) (*Reader, error) {
	o, err := s.find(index, name)
	if err != nil {
		return nil, err
	}
	if o.kind == opSmall {
		return &Reader{s: s, name: name, size: len(o.value), have: o.value}, nil
	}
	return &Reader{s: s, name: name, size: o.large.size, large: o.large, view: s.look(), buffer: make([]byte, segmentSize), chunk: -1}, nil
}

// Size is that of the value in bytes.
func (r *Reader) Size() int64 { return int64(r.size) }

// Read reads on. At the end it gives io.EOF.
func (r *Reader) Read(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n, err := r.readAt(p, r.next)
	r.next += n
	if n > 0 && err == io.EOF {
		err = nil
	}
	return n, err
}

// ReadAt reads from a byte on.
func (r *Reader) ReadAt(p []byte, from int64) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if from < 0 {
		return 0, fmt.Errorf("store: record %q: from byte %d", r.name, from)
	}
	return r.readAt(p, int(min(from, int64(r.size))))
}

func (r *Reader) readAt(p []byte, from int) (n int, err error) {
	for n < len(p) {
		if from+n >= r.size {
			return n, io.EOF
		}
		if r.large != nil {
			if err := r.load((from + n) / chunkSize); err != nil {
				return n, err
			}
		}
		n += copy(p[n:], r.have[from+n-r.chunkStart():])
	}
	return n, nil
}

func (r *Reader) chunkStart() int {
	if r.large == nil {
		return 0
	}
	return r.chunk * chunkSize
}

// load decrypts a segment of the value.
func (r *Reader) load(i int) error {
	if i == r.chunk {
		return nil
	}
	r.chunk = -1
	s := r.s
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.mayRead()
	if err == nil && r.view.stale {
		err = ErrStale
	}
	if err == nil {
		r.have, err = s.readChunk(r.large, i, r.buffer)
	}
	if err != nil {
		return fmt.Errorf("store: record %q: %w", r.name, err)
	}
	r.chunk = i
	return nil
}

// Close lets the store reuse the value's space once it is released, and clears what was
// decrypted.
func (r *Reader) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	if r.view != nil {
		r.s.unlook(r.view)
	}
	clear(r.buffer)
	r.size, r.have = 0, nil
	return nil
}
