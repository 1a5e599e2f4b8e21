package store

import "fmt"

// Checkpoint writes the index down and steps the counter: what was committed before it
// cannot be taken back by an older copy of the card. Call it after what must not be
// replayed, and not more often than the TPM endures.
func (s *Store) Checkpoint() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.mayWrite(); err != nil {
		return err
	}
	if s.since == 0 && !s.pending {
		return nil
	}
	return s.checkpoint()
}

// checkpoint writes a body and a root that is one ahead of the counter, and then steps
// the counter (docs/store.md, "Order of writes"). Only then anything of the old root is
// released.
func (s *Store) checkpoint() error {
	if err := s.mayWrite(); err != nil {
		return err
	}
	if err := s.settle(); err != nil {
		return err
	}
	head, fresh := s.head, s.head == nil || s.head.closed || s.head.next == segmentSectors
	if fresh {
		var err error
		if head, err = s.newHead(); err != nil {
			return err
		}
	}
	r, err := s.writeBody()
	if err == nil {
		r.tail = []tailSegment{s.openTail(head)}
		old := s.root
		if err = s.writeRoot(r); err == nil {
			s.head, s.since, s.pending = head, 0, true
			s.stats.Checkpoints++
			s.retire(old)
			return s.settle()
		}
	}
	if s.failed == nil { // else it is not known whether a root names them
		s.giveBack(r.body)
		if fresh {
			s.release(head.number)
		}
	}
	return err
}

// writeBody writes the body and gives a root for it, without its tail.
func (s *Store) writeBody() (root, error) {
	r := root{
		sequence: s.root.sequence, counter: s.root.counter + 1, commits: s.commits,
		epoch: s.epoch.id, generation: s.generation(),
	}
	b := s.state()
	p := b.encode()
	r.length = len(p)
	for len(p) > 0 {
		n := min(len(p), chunkSize)
		segment, err := s.writeChunk(bodied, r.generation, p[:n])
		if err != nil {
			return r, err
		}
		r.body = append(r.body, segment)
		p = p[n:]
	}
	return r, nil
}

// retire releases what an old root names and the new one does not.
func (s *Store) retire(old root) {
	s.giveBack(old.body)
	for _, t := range old.tail {
		if t.segment == s.head.number {
			continue
		}
		s.table[t.segment].tail = false
		if s.table[t.segment].live == 0 {
			s.release(t.segment)
		}
	}
}

// settle makes up for a step that the counter may not have done. Nothing is written
// before it has: a frame behind a root that the counter has not reached could be taken
// back together with that root.
func (s *Store) settle() error {
	if !s.pending {
		return nil
	}
	v, err := s.counter.Read()
	if err == nil && v+1 == s.root.counter {
		s.stats.Steps++
		v, err = s.counter.Increment()
	}
	if err != nil {
		return fmt.Errorf("store: counter: %w: %w", ErrCounter, err)
	}
	if v != s.root.counter {
		return fmt.Errorf("store: the counter is %d and the root's %d: %w", v, s.root.counter, ErrCounter)
	}
	s.pending = false
	return nil
}
