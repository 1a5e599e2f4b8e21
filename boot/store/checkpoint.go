package store

import (
	"fmt"
	"sync"
	"sync/atomic"
)

// Checkpoint writes the index down and steps the counter: what was committed before it
// cannot be taken back by an older copy of the card. Others go on while the counter is
// stepped. Call it after what must not be replayed, and not more often than the TPM
// endures.
func (s *Store) Checkpoint() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.mayWrite(); err != nil {
		return err
	}
	for want := s.commits; s.safe < want; { // a step that is under way may be to a root without the last of them
		if s.step == nil {
			if err := s.writeCheckpoint(); err != nil {
				return err
			}
		}
		if err := s.await(); err != nil {
			return err
		}
	}
	return nil
}

// checkpoint makes one, and holds up everybody until it is done.
func (s *Store) checkpoint() error {
	if err := s.settle(); err != nil {
		return err
	}
	if err := s.writeCheckpoint(); err != nil {
		return err
	}
	return s.settle()
}

// checkpointAhead makes one whose step is done beside the next batches: the TPM takes
// tens of milliseconds.
func (s *Store) checkpointAhead() error {
	if err := s.writeCheckpoint(); err != nil {
		return err
	}
	step := s.step
	step.begun.Store(true)
	s.start(func() { step.do() })
	return nil
}

// writeCheckpoint writes a body and a root that is one ahead of the counter (docs/store.md,
// "Order of writes"), and leaves the step to be done. Only with the root anything of the old
// one is released.
func (s *Store) writeCheckpoint() error {
	if err := s.mayWrite(); err != nil {
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
			s.head, s.before, s.since = head, s.since, 0
			s.step = s.newStep()
			s.stats.Checkpoints++
			s.retire(old)
			return nil
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

// exposed is how many records that were put can be taken back: those behind the last root
// whose counter has been reached.
func (s *Store) exposed() int { return s.before + s.since }

// A step is one of the counter, to the value of a root. Who needs it first does it, and the
// others wait for that: what the checkpoint has started, or a writer that can go no further.
// It takes no lock of the store, which a writer holds while it waits.
type step struct {
	do          func() error // steps once, and gives all the same answer
	begun, over atomic.Bool
	stepped     bool // known once it is over
}

// newStep is the step to the newest root.
func (s *Store) newStep() *step {
	t, counter, want := new(step), s.counter, s.root.counter
	t.do = sync.OnceValue(func() (err error) {
		t.begun.Store(true)
		t.stepped, err = reach(counter, want)
		t.over.Store(true)
		return err
	})
	return t
}

// reach steps a counter to a value, unless it is there.
func reach(c Counter, want uint64) (stepped bool, err error) {
	v, err := c.Read()
	if err == nil && v+1 == want {
		stepped = true
		v, err = c.Increment()
	}
	if err != nil {
		return stepped, fmt.Errorf("store: counter: %w: %w", ErrCounter, err)
	}
	if v != want {
		return stepped, fmt.Errorf("store: the counter is %d and the root's %d: %w", v, want, ErrCounter)
	}
	return stepped, nil
}

// settle has the counter reach the root, if it has not. After an error the step is to be
// done again: nothing is written before it has been.
func (s *Store) settle() error {
	if s.step == nil {
		return nil
	}
	return s.ended(s.step, s.step.do())
}

// await is settle for who can let others use the store meanwhile.
func (s *Store) await() error {
	step := s.step
	step.begun.Store(true)
	s.mu.Unlock()
	err := step.do()
	s.mu.Lock()
	return s.ended(step, err)
}

// ended takes down what came of a step, unless somebody else has.
func (s *Store) ended(t *step, err error) error {
	if s.step != t {
		return err
	}
	if t.stepped {
		s.stats.Steps++
	}
	if err != nil {
		s.step = s.newStep()
		return err
	}
	s.step, s.before, s.safe = nil, 0, s.root.commits
	return nil
}
