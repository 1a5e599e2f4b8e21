package store

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
)

// room makes room for n segments of values, and for the log: it cleans, a victim at a
// time, until as many segments are free as "Space" in docs/store.md wants.
func (s *Store) room(n int) error {
	for range s.table {
		if s.free >= s.low+n {
			return nil
		}
		if len(s.waiting) > 0 {
			s.revoke()
			continue
		}
		victim, found := s.victim()
		if !found {
			break
		}
		if err := s.clean(victim); err != nil {
			return err
		}
	}
	if s.free < s.body+2+n {
		return fmt.Errorf("store: %d segments are free: %w", s.free, ErrFull)
	}
	return nil
}

// victim is the log segment with the least live bytes, if that is little enough.
func (s *Store) victim() (number int, found bool) {
	least := most + 1
	for n := range s.table {
		if t := &s.table[n]; t.kind == logged && !t.tail && !t.stuck && t.live < least {
			number, least, found = n, t.live, true
		}
	}
	return number, found
}

// clean writes the live operations of a segment to the head of the log, which releases it
// with the last one. If something in it cannot be read it stays as it is.
func (s *Store) clean(victim int) error {
	var m move
	for _, f := range s.framesOf(victim) {
		at := place{s.table[victim].epoch, s.table[victim].generation, victim, int(f.sector), logFrame}
		plain, err := s.readFrame(at, int(f.sectors), s.moving)
		if err == nil {
			_, err = decodeFrame(plain, s.segments, func(o *op) error { return s.move(&m, o, f) })
		}
		if errors.Is(err, ErrDamaged) || errors.Is(err, ErrUnreadable) {
			s.table[victim].stuck = true
			break
		}
		if err != nil {
			return err
		}
	}
	s.stats.Cleaned++
	return s.flush(&m)
}

// A move collects operations for one frame.
type move struct {
	ops    []op
	hashes []hash
	size   int
}

// framesOf lists the frames of a segment that something live is in, in order.
func (s *Store) framesOf(segment int) (frames []entry) {
	for _, e := range s.index {
		if int(e.segment) == segment {
			frames = append(frames, entry{sector: e.sector, sectors: e.sectors, segment: e.segment})
		}
	}
	slices.SortFunc(frames, func(x, y entry) int { return int(x.sector) - int(y.sector) })
	return slices.CompactFunc(frames, func(x, y entry) bool { return x.sector == y.sector })
}

// move adds an operation if it is what its record is now.
func (s *Store) move(m *move, o *op, from entry) error {
	h := s.keys.hash(o.name)
	e, there := s.index[h]
	if !there || o.kind == opDelete || e.segment != from.segment || e.sector != from.sector {
		return nil
	}
	n := o.size()
	if m.size+n > s.frameRoom(n) {
		if err := s.flush(m); err != nil {
			return err
		}
	}
	o.value = bytes.Clone(o.value)
	o.large = e.large
	m.ops, m.hashes, m.size = append(m.ops, *o), append(m.hashes, h), m.size+n
	return nil
}

// frameRoom is how many bytes of operations the next frame should have: what fits behind
// the head, if the next operation does.
func (s *Store) frameRoom(next int) int {
	if s.head != nil {
		left := (segmentSectors-s.head.next)*sectorSize - tagSize - frameHeader
		if left >= next {
			return min(left, MaxBatchBytes)
		}
	}
	return MaxBatchBytes
}

func (s *Store) flush(m *move) error {
	if len(m.ops) == 0 {
		return nil
	}
	if err := s.logOps(m.ops, m.hashes); err != nil {
		return err
	}
	s.stats.Moved += uint64(m.size)
	*m = move{}
	return nil
}
