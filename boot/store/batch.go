package store

import (
	"fmt"
	"slices"
)

// A Batch is a list of changes that are made together or not at all. The zero Batch is
// empty. Of several changes to a name the last one counts.
type Batch struct {
	// Reserved batches may use the room that is kept for the audit's and quarantine's
	// words.
	Reserved bool

	changes []change
}

// A change is a put, or a delete where value is nil.
type change struct {
	name  string
	value []byte
	gone  bool
}

// Put has name have a value. The bytes must not be changed before Commit returns.
func (b *Batch) Put(name string, value []byte) { b.add(change{name: name, value: value}) }

// Delete removes a record. It is no error if there is none.
func (b *Batch) Delete(name string) { b.add(change{name: name, gone: true}) }

func (b *Batch) add(c change) {
	b.changes = slices.DeleteFunc(b.changes, func(old change) bool { return old.name == c.name })
	b.changes = append(b.changes, c)
}

// puts is what a batch counts in the window.
func (b *Batch) puts() (n int) {
	for _, c := range b.changes {
		if !c.gone {
			n++
		}
	}
	return max(n, 1)
}

// check refuses what can never be committed.
func (b *Batch) check() error {
	if len(b.changes) > MaxBatch {
		return fmt.Errorf("store: a batch of %d operations, of at most %d: %w", len(b.changes), MaxBatch, ErrTooLarge)
	}
	for _, c := range b.changes {
		if err := checkName(c.name); err != nil {
			return err
		}
		if len(c.value) > MaxValue {
			return fmt.Errorf("store: record %q: %d bytes: %w", c.name, len(c.value), ErrTooLarge)
		}
	}
	return nil
}

func checkName(name string) error {
	if len(name) < 1 || len(name) > MaxName {
		return fmt.Errorf("store: a name of %d bytes: %w", len(name), ErrName)
	}
	return nil
}

// Put writes one record.
func (s *Store) Put(name string, value []byte) error {
	var b Batch
	b.Put(name, value)
	return s.Commit(&b)
}

// Delete removes a record. It gives ErrNotFound if there is none.
func (s *Store) Delete(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.mayWrite(); err != nil {
		return err
	}
	if _, there := s.index[s.keys.hash(name)]; !there {
		return fmt.Errorf("store: record %q: %w", name, ErrNotFound)
	}
	var b Batch
	b.Delete(name)
	return s.commit(&b)
}

// Commit makes the changes of a batch. When it returns nil they are durable. ErrFull,
// ErrName and ErrTooLarge mean that nothing has changed; after other errors that is known
// at the next mount.
func (s *Store) Commit(b *Batch) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.commit(b)
}

func (s *Store) commit(b *Batch) error {
	if err := b.check(); err != nil {
		return err
	}
	if err := s.ready(b.puts()); err != nil {
		return err
	}
	var ops []op
	for _, c := range b.changes {
		o, err := s.operation(c, b.Reserved)
		if err != nil {
			s.abandon(ops)
			return err
		}
		if o.kind != 0 {
			ops = append(ops, o)
		}
	}
	if err := s.commitOps(ops, b.puts(), b.Reserved); err != nil {
		s.abandon(ops)
		return err
	}
	return nil
}

// operation is what a change is in the log. A large value is written to segments of its
// own for it. Kind 0 is nothing.
func (s *Store) operation(c change, reserved bool) (o op, err error) {
	if c.gone {
		if _, there := s.index[s.keys.hash(c.name)]; !there {
			return o, nil
		}
		return op{kind: opDelete, name: c.name}, nil
	}
	if len(c.value) <= inlineMax {
		return op{kind: opSmall, name: c.name, value: c.value}, nil
	}
	l := &large{epoch: s.epoch.id, generation: s.generation(), size: len(c.value)}
	o = op{kind: opLarge, name: c.name, large: l}
	for v := c.value; len(v) > 0; {
		n := min(len(v), chunkSize)
		if err := s.addChunk(l, v[:n], reserved); err != nil {
			s.giveBack(l.segments)
			return o, fmt.Errorf("store: record %q: %w", c.name, err)
		}
		v = v[n:]
	}
	return o, nil
}

// abandon releases the segments of large values that were not committed. Where it is not
// known whether they were, they stay.
func (s *Store) abandon(ops []op) {
	if s.failed != nil {
		return
	}
	for _, o := range ops {
		if o.kind == opLarge {
			s.giveBack(o.large.segments)
		}
	}
}

// ready sees to what must have happened before so many records are put: the step of the
// counter that keeps the window, and the checkpoint ahead of the next one.
func (s *Store) ready(puts int) error {
	if err := s.mayWrite(); err != nil {
		return err
	}
	if s.step != nil && s.step.over.Load() {
		_ = s.settle() // one that has failed in the background is done again
	}
	if s.step != nil && (!s.step.begun.Load() || s.exposed()+puts > s.window) {
		if err := s.settle(); err != nil {
			return err
		}
	}
	switch {
	case s.step != nil || s.since == 0:
		return nil
	case s.since+puts > s.window:
		return s.checkpoint()
	case s.since >= s.window-s.window/3:
		return s.checkpointAhead()
	}
	return nil
}

// commitOps writes a frame with operations and has the index follow.
func (s *Store) commitOps(ops []op, puts int, reserved bool) error {
	if len(ops) == 0 {
		return nil
	}
	size, hashes := 0, make([]hash, len(ops))
	for i := range ops {
		size += ops[i].size()
		hashes[i] = s.keys.hash(ops[i].name)
	}
	if size > MaxBatchBytes {
		return fmt.Errorf("store: a batch of %d bytes in the log, of at most %d: %w", size, MaxBatchBytes, ErrTooLarge)
	}
	if err := s.admit(ops, hashes, reserved); err != nil {
		return err
	}
	if err := s.room(0); err != nil {
		return err
	}
	if err := s.logOps(ops, hashes); err != nil {
		return err
	}
	s.since += puts
	return nil
}

// logOps writes a frame. What the operations replace is released once it is there.
func (s *Store) logOps(ops []op, hashes []hash) error {
	s.plain = appendFrame(s.plain[:0], s.commits+1, ops)
	segment, sector, sectors, err := s.logTo()
	if err != nil {
		return err
	}
	s.commits++
	for i := range ops {
		e := entry{uint16(segment), uint8(sector), uint8(sectors), uint16(ops[i].size()), ops[i].large}
		s.set(hashes[i], e, ops[i].kind != opDelete)
	}
	return nil
}
