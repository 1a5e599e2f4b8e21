package store

import "fmt"

// An entry is where a record's last operation lies in the log, and its value if that is
// large. There is one for each record, in memory.
type entry struct {
	segment         uint16
	sector, sectors uint8  // of the frame
	length          uint16 // of the operation in bytes
	large           *large // nil for a value in the log
}

// What a segment is.
type kind byte

const (
	free    kind = iota
	fixed        // superblock or ring
	logged       // of the log
	valued       // of a large value
	bodied       // of a body
	waiting      // released, while something may still read it
	refused      // bad: it refused to be written
)

// A segment is a line of the table of segments.
type segment struct {
	kind       kind
	tail       bool   // of the log, and named by the root: it must stay
	failing    bool   // of the log, and refused to be written: bad once it is released
	stuck      bool   // of the log, and cannot be cleaned as something in it is damaged
	live       int    // of the log: bytes of live operations
	epoch      *epoch // of the log
	generation uint64 // of the log
}

// most is the most live bytes that a victim of cleaning has. It is also what the log's
// live bytes are charged by, so that a victim exists when one is needed (docs/store.md,
// "Space").
const most = segmentSize * 5 / 8

// charge is how many segments live data take.
func charge(data, live int) int { return data + (live+most-1)/most }

// limit is how many they may take.
func (s *Store) limit(reserved bool) int {
	n := s.capacity - s.bad
	if !reserved {
		n -= s.reserved
	}
	return n
}

// admit refuses a batch for which there is no room. What it replaces counts until then
// where it is a large value, as both are there at one moment. The segments of new large
// values are counted in s.data already.
func (s *Store) admit(ops []op, hashes []hash, reserved bool) error {
	live, records := s.live, len(s.index)
	for i := range ops {
		old, there := s.index[hashes[i]]
		if there {
			live -= int(old.length)
			records--
		}
		if ops[i].kind != opDelete {
			live += ops[i].size()
			records++
		}
	}
	allowed := s.records
	if !reserved {
		allowed -= s.reservedRecords
	}
	if records > allowed && records > len(s.index) {
		return fmt.Errorf("store: %d records, of %d: %w", records, allowed, ErrFull)
	}
	after := charge(s.data, live)
	if limit := s.limit(reserved); after > limit && live > s.live {
		return fmt.Errorf("store: %d segments of %d: %w", after, limit, ErrFull)
	}
	return nil
}

// set has a record be what a committed operation says. It releases what it was.
func (s *Store) set(h hash, e entry, there bool) {
	old, was := s.index[h]
	if there {
		s.index[h] = e
		s.table[e.segment].live += int(e.length)
		s.live += int(e.length)
	} else {
		delete(s.index, h)
	}
	if !was {
		return
	}
	s.unlive(old)
	if old.large != nil && old.large != e.large {
		for _, n := range old.large.segments {
			s.release(n)
		}
	}
}

// unlive says that an operation in the log is dead.
func (s *Store) unlive(e entry) {
	t := &s.table[e.segment]
	t.live -= int(e.length)
	s.live -= int(e.length)
	if t.live == 0 && !t.tail {
		s.release(int(e.segment))
	}
}

// turn makes a segment something else and keeps the counts. What waits, or is bad, can still be
// read by a view.
func (s *Store) turn(n int, k kind) {
	old := s.table[n]
	s.count(old.kind, -1)
	s.count(k, 1)
	s.table[n] = segment{kind: k}
	if k == waiting || k == refused {
		s.table[n].epoch, s.table[n].generation = old.epoch, old.generation
	}
}

func (s *Store) count(k kind, by int) {
	switch k {
	case free:
		s.free += by
	case logged:
		s.log += by
	case valued:
		s.data += by
	case refused:
		s.bad += by
	}
}

// release gives a segment back: at once, or when nothing reads any more.
func (s *Store) release(n int) {
	switch t := s.table[n]; {
	case t.failing:
		s.turn(n, refused)
	case len(s.views) > 0:
		s.turn(n, waiting)
		s.waiting = append(s.waiting, n)
	default:
		s.turn(n, free)
	}
}

// endWait frees the segments that wait.
func (s *Store) endWait() {
	for _, n := range s.waiting {
		s.turn(n, free)
	}
	s.waiting = s.waiting[:0]
}

// look and unlook open and close a view.
func (s *Store) look() *view {
	v := &view{}
	s.views[v] = struct{}{}
	return v
}

func (s *Store) unlook(v *view) {
	delete(s.views, v)
	if len(s.views) == 0 {
		s.endWait()
	}
}

// revoke takes the segments that views wait for away from them.
func (s *Store) revoke() {
	for v := range s.views {
		v.stale = true
	}
	clear(s.views)
	s.endWait()
}

// take gives a free segment, round robin, and makes it something.
func (s *Store) take(k kind) (int, error) {
	if s.free == 0 && len(s.waiting) > 0 {
		s.revoke()
	}
	for range s.table {
		n := s.cursor
		if s.cursor++; s.cursor == len(s.table) {
			s.cursor = 0
		}
		if s.table[n].kind == free {
			s.turn(n, k)
			return n, nil
		}
	}
	return 0, fmt.Errorf("store: no free segment: %w", ErrFull)
}

// generation gives a new one.
func (s *Store) generation() uint64 {
	s.lastGen++
	return s.lastGen
}
