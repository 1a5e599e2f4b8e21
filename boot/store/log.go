package store

import (
	"fmt"
	"slices"
)

// writeTries is in how many places something is tried to be written before the medium
// counts as worn.
const writeTries = 4

// logTo writes the frame in s.plain to the head of the log. When it returns without error
// the frame is committed: docs/store.md, "Order of writes".
func (s *Store) logTo() (segment, sector, sectors int, err error) {
	n := sectorsFor(len(s.plain))
	var failed []int
	for range writeTries {
		if h := s.head; h == nil || h.closed || h.next+n > segmentSectors {
			if err := s.nextHead(); err != nil {
				return 0, 0, 0, err
			}
		}
		h := *s.head
		t := &s.table[h.number]
		b, err := s.seal(place{t.epoch, t.generation, h.number, h.next, logFrame}, s.sealed, s.plain)
		if err != nil {
			return 0, 0, 0, err
		}
		if last := s.write(h.number, h.next, b); last != nil {
			// What arrived of it is behind the end that the next root gives this
			// segment. Its nonce must not be used again, whatever fails next: the
			// head is closed.
			failed = append(failed, h.number)
			t.failing = true
			if err := s.nextHead(); err != nil {
				return 0, 0, 0, err
			}
			continue
		}
		s.head.next += n
		s.noteBad(failed)
		return h.number, h.next, n, nil
	}
	s.failed = fmt.Errorf("the log cannot be written in %d places: %w", writeTries, ErrWorn)
	return 0, 0, 0, fmt.Errorf("store: %w", s.failed)
}

// nextHead closes the head and has a root name another one, before anything is written
// to it. Where the tail is as long as it may be, this is a checkpoint.
func (s *Store) nextHead() error {
	if err := s.mayWrite(); err != nil {
		return err
	}
	r := s.root
	r.tail = slices.Clone(r.tail)
	if s.head != nil {
		s.head.closed = true
		r.tail[len(r.tail)-1].end = s.head.next
	}
	if len(r.tail) >= s.tail {
		return s.checkpoint()
	}
	h, err := s.newHead()
	if err != nil {
		return err
	}
	r.tail = append(r.tail, s.openTail(h))
	if err := s.writeRoot(r); err != nil {
		return err
	}
	s.head = h
	return nil
}

// newHead takes a segment for the log. No root names it yet.
func (s *Store) newHead() (*headSegment, error) {
	n, err := s.take(logged)
	if err != nil {
		return nil, err
	}
	t := &s.table[n]
	t.tail, t.epoch, t.generation = true, s.epoch, s.generation()
	return &headSegment{number: n}, nil
}

// openTail is the head as a root names it.
func (s *Store) openTail(h *headSegment) tailSegment {
	return tailSegment{segment: h.number, from: h.next, end: openEnd, generation: s.table[h.number].generation}
}

// noteBad says that segments refused to be written while others did not. Those of the log
// are bad when they are released.
func (s *Store) noteBad(refusing []int) {
	for _, n := range refusing {
		if s.table[n].kind != logged {
			s.turn(n, refused)
		}
	}
	if s.bad > maxBad {
		s.failed = fmt.Errorf("%d bad segments: %w", s.bad, ErrWorn)
	}
}

// writeChunk writes the plaintext of a frame to a free segment, for a large value or a
// body. Its space must have been granted.
func (s *Store) writeChunk(k kind, generation uint64, plain []byte) (int, error) {
	frame := byte(dataFrame)
	if k == bodied {
		frame = bodyFrame
	}
	var failed []int
	for range writeTries {
		n, err := s.take(k)
		if err != nil {
			s.giveBack(failed)
			return 0, err
		}
		b, err := s.seal(place{s.epoch, generation, n, 0, frame}, s.chunk, plain)
		if err == nil {
			err = s.write(n, 0, b)
		}
		if err == nil {
			s.noteBad(failed)
			return n, nil
		}
		failed = append(failed, n)
	}
	s.giveBack(failed)
	s.failed = fmt.Errorf("%d segments refused to be written: %w", writeTries, ErrWorn)
	return 0, fmt.Errorf("store: %w", s.failed)
}

func (s *Store) giveBack(segments []int) {
	for _, n := range segments {
		s.release(n)
	}
}
