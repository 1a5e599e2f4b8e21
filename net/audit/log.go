package audit

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"nitro/boot/store"
)

// errFull is why a log takes no more intents.
var errFull = errors.New("the log is full")

// A Log is the audit log in the store. Its methods may be called by several goroutines.
type Log struct {
	config Config
	origin string

	mu      sync.Mutex
	queue   []*waiting // to be written, and not yet in the batch that is
	queued  int        // these, and those in the batch
	writing bool       // somebody writes a group; the turn is told of its end
	turn    sync.Cond
	tree    tree
	first   uint64   // first segment that is kept
	tail    [][]byte // records behind the last segment
	stuck   error    // why the last attempt to seal failed
	begun   bool     // the boot is recorded
	boot    uint64   // where
	pending uint64   // intents without outcome, those that are being written among them
	lost    uint64   // records that could not be written
	denials denials
	counts  Counters
	counted Counters // as recorded last
	note    []byte   // the last signed checkpoint
	noteTo  uint64   // its size
	seen    []byte   // the last witnessed one
	seenTo  uint64   // its size
}

// Origin names the log.
func (l *Log) Origin() string { return l.origin }

// Begin records an intent. See Recorder.
func (l *Log) Begin(e Entry, safe bool) (*Token, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	need := 2 + l.pending // this one, its outcome, and those of others
	switch {
	case safe:
	case e.Relief:
		need += Reserve / 2
	default:
		need += Reserve
	}
	r := e.record(KindIntent)
	err := errFull
	if l.room() >= need {
		l.pending++ // who comes while it is written must leave room for its outcome
		if err = l.append(&r, safe || e.Relief); err != nil {
			l.pending--
		}
	}
	switch {
	case err == nil:
		t := &Token{Recorded: true, N: r.N, entry: e}
		t.end = func(o Outcome) error { return l.end(t, o) }
		return t, nil
	case safe || e.Relief:
		l.lost++
		return &Token{end: func(Outcome) error { return nil }}, nil
	}
	return nil, unrecorded(err)
}

// end records an outcome, for which Begin has kept the room.
func (l *Log) end(t *Token, o Outcome) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pending--
	r := Record{Kind: KindOutcome, Of: t.N, Who: t.entry.Who, Action: t.entry.Action, Status: o.Status, Detail: o.Detail}
	if err := l.append(&r, true); err != nil {
		l.lost++
		return err
	}
	return nil
}

// Deny records a refusal, or counts it where its principal has used up the ration. See
// Recorder.
func (l *Log) Deny(e Entry) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	_ = l.summarise(false) // what cannot be recorded yet stays counted
	alone, last := l.denials.take(e, l.config.Up())
	if !alone {
		return nil
	}
	r := e.record(KindDenied)
	r.Rationed = last
	return l.happened(&r)
}

// Summarise records what was counted of denials: that of a period that is over, or all of
// it, before the board restarts. What cannot be recorded stays counted.
func (l *Log) Summarise(all bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.summarise(all)
}

func (l *Log) summarise(all bool) (err error) {
	for _, c := range l.denials.due(l.config.Up(), all) {
		failed := errFull
		if l.room() >= 1+l.pending+Reserve {
			failed = l.append(c.record(), false)
		}
		if failed != nil {
			l.denials.back(c)
			err = unrecorded(failed)
		}
	}
	return err
}

// Note records an event. It has happened, so what cannot be recorded is counted; like a
// refusal it may not use the reserve, or a host that never comes to rest would fill it.
func (l *Log) Note(e Event) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.happened(e.record())
}

// happened records what is not to be refused, and counts it where it cannot be recorded.
func (l *Log) happened(r *Record) error {
	err := errFull
	if l.room() >= 1+l.pending+Reserve {
		if err = l.append(r, false); err == nil {
			return nil
		}
	}
	l.lost++
	return unrecorded(err)
}

// Count counts. See Recorder.
func (l *Log) Count(add func(*Counters)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	add(&l.counts)
}

// Counters are the failures before authentication since the boot.
func (l *Log) Counters() Counters {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.counts
}

// room is how many records can still be taken.
func (l *Log) room() uint64 {
	room := MaxTail - len(l.tail)
	if l.stuck == nil {
		room += (l.config.Segments - l.kept()) * SegmentRecords
	}
	room = min(room, int(MaxRecords-l.tree.size()))
	return uint64(max(room-l.queued, 0))
}

// kept is the number of segments.
func (l *Log) kept() int { return len(l.tree.segments) - int(l.first) }

// sealAll makes segments of the tail while it has enough for one. That it fails is no
// news to who has just written a record: the tail has room for more.
func (l *Log) sealAll() {
	for l.stuck = nil; len(l.tail) >= SegmentRecords && l.kept() < l.config.Segments; {
		if l.stuck = l.seal(); l.stuck != nil {
			return
		}
	}
}

// seal makes one segment: docs/audit.md, "In the store".
func (l *Log) seal() error {
	k := uint64(len(l.tree.segments))
	h := fold(l.tree.tail[:SegmentRecords])
	page := append(hashPage(l.tree.segments, k/pageHashes), h[:]...)
	var segment []byte
	for _, b := range l.tail[:SegmentRecords] {
		segment = binary.BigEndian.AppendUint16(segment, uint16(len(b)))
		segment = append(segment, b...)
	}
	var batch store.Batch
	batch.Put(segmentName(k), segment)
	batch.Put(pageName(k/pageHashes), page)
	for n := k * SegmentRecords; n < (k+1)*SegmentRecords; n++ {
		batch.Delete(tailName(n))
	}
	if err := l.config.Store.Commit(&batch); err != nil {
		return fmt.Errorf("audit: segment %d: %w", k, err)
	}
	l.tree.segments = append(l.tree.segments, h)
	l.tree.tail = append([]Hash(nil), l.tree.tail[SegmentRecords:]...)
	l.tail = append([][]byte(nil), l.tail[SegmentRecords:]...)
	return nil
}

// Stats tell how the log is.
type Stats struct {
	Size      uint64 // records
	First     uint64 // index of the first one that is kept
	Signed    uint64 // how many the last checkpoint covers: sign when 64 more are there
	Witnessed uint64 // how many a witness has cosigned
	Room      uint64 // for records, the reserve included
	Pending   uint64 // requests that have begun and not ended
	Lost      uint64 // records that could not be written, and are not yet recorded as a gap
	Denials   uint64 // that are counted, and not yet recorded as a sum
	Stuck     error  // why no segment can be made, or nil
}

// Stats are for metrics and status.
func (l *Log) Stats() Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	return Stats{l.tree.size(), l.first * SegmentRecords, l.noteTo, l.seenTo, l.room(), l.pending, l.lost, l.denials.waiting(), l.stuck}
}

// Records gives records from an index on, at most max of them.
func (l *Log) Records(from uint64, max int) ([][]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if from > l.tree.size() || max < 0 {
		return nil, fmt.Errorf("audit: records from %d of %d: %w", from, l.tree.size(), ErrRange)
	}
	var all [][]byte
	for n := from; n < l.tree.size() && len(all) < max; n = from + uint64(len(all)) {
		sealed := uint64(len(l.tree.segments)) * SegmentRecords
		records := l.tail
		at := n - sealed
		if n < sealed {
			var err error
			if records, err = l.segment(n / SegmentRecords); err != nil {
				return nil, err
			}
			at = n % SegmentRecords
		}
		all = append(all, records[at:min(at+uint64(max-len(all)), uint64(len(records)))]...)
	}
	return all, nil
}

// segment reads the records of a segment.
func (l *Log) segment(k uint64) ([][]byte, error) {
	if k < l.first {
		return nil, fmt.Errorf("audit: records %d to %d: %w", k*SegmentRecords, (k+1)*SegmentRecords-1, ErrGone)
	}
	b, err := l.config.Store.Get(segmentName(k))
	if err != nil {
		return nil, fmt.Errorf("audit: segment %d: %w", k, err)
	}
	var records [][]byte
	for len(b) > 0 {
		if len(b) < 2 || len(b)-2 < int(binary.BigEndian.Uint16(b)) {
			return nil, fmt.Errorf("audit: segment %d: %w", k, store.ErrDamaged)
		}
		n := 2 + int(binary.BigEndian.Uint16(b))
		records, b = append(records, b[2:n:n]), b[n:]
	}
	if len(records) != SegmentRecords {
		return nil, fmt.Errorf("audit: segment %d has %d records: %w", k, len(records), store.ErrDamaged)
	}
	return records, nil
}

// leaves are the hashes of a segment's records, which must give its node.
func (l *Log) leaves(k uint64) ([]Hash, error) {
	records, err := l.segment(k)
	if err != nil {
		return nil, err
	}
	hashes := make([]Hash, len(records))
	for i, b := range records {
		hashes[i] = leafHash(b)
	}
	if fold(hashes) != l.tree.segments[k] {
		return nil, fmt.Errorf("audit: segment %d: %w", k, store.ErrDamaged)
	}
	return hashes, nil
}
