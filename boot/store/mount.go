package store

import (
	"errors"
	"fmt"
	"io"
)

// Open mounts a store: it finds the newest root, compares its counter with the TPM's,
// reads the index, replays what was committed since, and makes a checkpoint in an epoch
// of its own, which steps the counter once (twice after a power cut at the wrong moment).
// The key is overwritten with zeros, whatever happens.
func Open(c Config) (*Store, error) {
	defer clear(c.Key)
	s, err := newStore(c)
	if err != nil {
		return nil, err
	}
	if err := s.mount(c); err != nil {
		s.shut(ErrClosed)
		return nil, err
	}
	return s, nil
}

func (s *Store) mount(c Config) (err error) {
	if err := s.readSuperblock(c.Key); err != nil {
		return err
	}
	if s.root, err = s.readRoot(); err != nil {
		return err
	}
	if err := s.fresh(c.AcceptLoss); err != nil {
		return err
	}
	if err := s.recover(); err != nil {
		return err
	}
	if err := s.begin(); err != nil {
		return err
	}
	return s.checkpoint()
}

// Format makes an empty store where Open will find it. What was there is gone. The key is
// overwritten with zeros.
func Format(c Config) error {
	defer clear(c.Key)
	s, err := newStore(c)
	if err != nil {
		return err
	}
	defer s.shut(ErrClosed)
	b := superblock{segments: s.segments}
	if _, err := io.ReadFull(s.rand, b.identity[:]); err != nil {
		return fmt.Errorf("store: random generator: %w", err)
	}
	if s.keys, err = derive(c.Key, b.identity[:]); err != nil {
		return err
	}
	sector, err := b.encode(&s.keys)
	if err != nil {
		return err
	}
	if s.root.counter, err = s.counter.Read(); err != nil {
		return fmt.Errorf("store: counter: %w: %w", ErrCounter, err)
	}
	if err := s.writeSuperblocks(new([sectorSize]byte)); err != nil {
		return err
	}
	if err := s.begin(); err != nil {
		return err
	}
	if err := s.checkpoint(); err != nil {
		return err
	}
	return s.writeSuperblocks(sector)
}

func (s *Store) writeSuperblocks(p *[sectorSize]byte) error {
	for c := range copyOf(2) {
		if err := s.write(s.superblock(c), 0, p[:]); err != nil {
			return fmt.Errorf("store: superblock: %w: %w", ErrWorn, err)
		}
	}
	return nil
}

// begin starts an epoch. Its key has not been used: the bytes are new, and the counter has
// not had the value before.
func (s *Store) begin() error {
	id := epochID{counter: s.root.counter + 1}
	if _, err := io.ReadFull(s.rand, id.random[:]); err != nil {
		return fmt.Errorf("store: random generator: %w", err)
	}
	s.epoch = s.epochOf(id)
	return nil
}

// epochOf gives the epoch that has an id.
func (s *Store) epochOf(id epochID) *epoch {
	e, known := s.epochs[id]
	if !known {
		e = &epoch{id: id}
		s.epochs[id] = e
	}
	return e
}

// fresh compares the newest root with the counter (docs/store.md, "Freshness").
func (s *Store) fresh(acceptLoss bool) error {
	v, err := s.counter.Read()
	if err != nil {
		return fmt.Errorf("store: counter: %w: %w", ErrCounter, err)
	}
	switch c := s.root.counter; {
	case c == v:
	case c == v+1:
		s.step = s.newStep()
		return s.settle()
	case c < v && acceptLoss:
		s.root.counter = v
	case c < v:
		return fmt.Errorf("store: its counter is %d and the TPM's %d: %w", c, v, ErrRolledBack)
	default:
		return fmt.Errorf("store: its counter is %d and the TPM's %d: %w", c, v, ErrCounter)
	}
	return nil
}

// A logKey is what the frames of a log segment are encrypted under.
type logKey struct {
	epoch      *epoch
	generation uint64
}

// recover reads the index and the batches behind it, and finds out what each segment is.
func (s *Store) recover() error {
	b, err := s.readBody()
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	logs := map[int]logKey{}
	for _, l := range b.logs {
		logs[l.segment] = logKey{s.epochOf(b.epochs[l.epoch]), l.generation}
	}
	for _, r := range b.records {
		s.index[r.hash] = r.entry
	}
	s.commits = s.root.commits
	for i, t := range s.root.tail {
		logs[t.segment] = logKey{s.epochOf(s.root.epoch), t.generation}
		if err := s.replay(t, i == len(s.root.tail)-1); err != nil {
			return fmt.Errorf("store: tail: %w", err)
		}
	}
	return s.sort(b.bad, logs)
}

// readBody reads the index as it was at the last checkpoint.
func (s *Store) readBody() (body, error) {
	var p []byte
	for _, n := range s.root.body {
		size := min(s.root.length-len(p), chunkSize)
		at := place{s.epochOf(s.root.epoch), s.root.generation, n, 0, bodyFrame}
		plain, err := s.readFrame(at, sectorsFor(size), s.chunk)
		if err != nil {
			return body{}, fmt.Errorf("body: %w", err)
		}
		p = append(p, plain[:size]...)
	}
	return decodeBody(p, s.segments, s.records)
}

// replay applies the batches of a segment of the tail. In the last one they end where no
// frame opens.
func (s *Store) replay(t tailSegment, last bool) error {
	to := t.end
	if last {
		to = segmentSectors
	}
	if t.from == to {
		return nil
	}
	b := s.chunk[:(to-t.from)*sectorSize]
	torn := 0
	if last {
		torn = frameSectors // sectors of a torn frame may be unreadable
	}
	if err := s.readEach(t.segment, t.from, b, torn); err != nil {
		return err
	}
	for sector := t.from; sector < to; {
		plain, err := s.tryFrame(t, sector, b[(sector-t.from)*sectorSize:])
		if err != nil {
			return err
		}
		if plain == nil {
			return s.atEnd(t, sector, last, b)
		}
		h, err := s.apply(t.segment, sector, plain)
		if err != nil {
			return fmt.Errorf("segment %d, sector %d: %w", t.segment, sector, err)
		}
		sector += h.sectors
	}
	return nil
}

// tryFrame opens the frame that b begins with, or gives nil if there is none.
func (s *Store) tryFrame(t tailSegment, sector int, b []byte) ([]byte, error) {
	e := s.epochOf(s.root.epoch)
	a, err := s.aead(e)
	if err != nil {
		return nil, err
	}
	nonce := nonceOf(t.generation, t.segment, sector, logFrame)
	start, err := e.peek(nonce, b)
	if err != nil {
		return nil, err
	}
	h, ok := readStart(&start)
	if !ok || h.sectors*sectorSize > len(b) {
		return nil, nil
	}
	plain, err := a.Open(s.plain[:0], nonce[:], b[:h.sectors*sectorSize], nil)
	if err != nil {
		return nil, nil
	}
	return plain, nil
}

// atEnd decides about a place where a frame should begin and none opens. A torn write was
// the last one: if a frame follows, or the root says that one was here, it is damage.
func (s *Store) atEnd(t tailSegment, sector int, last bool, b []byte) error {
	damaged := !last
	for n := sector + 1; n < segmentSectors && !damaged; n++ {
		plain, err := s.tryFrame(t, n, b[(n-t.from)*sectorSize:])
		if err != nil {
			return err
		}
		damaged = plain != nil
	}
	if damaged {
		return fmt.Errorf("segment %d, sector %d, batch %d: %w", t.segment, sector, s.commits+1, ErrDamaged)
	}
	return nil
}

// apply replays a batch.
func (s *Store) apply(segment, sector int, plain []byte) (frameStart, error) {
	h, err := decodeFrame(plain, s.segments, func(o *op) error {
		key := s.keys.hash(o.name)
		if o.kind == opDelete {
			delete(s.index, key)
			return nil
		}
		s.index[key] = entry{uint16(segment), uint8(sector), uint8(sectorsFor(len(plain))), uint16(o.size()), o.large}
		return nil
	})
	if err == nil && h.commit != s.commits+1 {
		err = fmt.Errorf("batch %d and not %d: %w", h.commit, s.commits+1, ErrDamaged)
	}
	s.commits++
	return h, err
}

// sort fills the table of segments from what the index says.
func (s *Store) sort(bad []int, logs map[int]logKey) error {
	claim := func(n int, k kind) error {
		if s.table[n].kind != free {
			return fmt.Errorf("store: segment %d is two things: %w", n, ErrDamaged)
		}
		s.turn(n, k)
		return nil
	}
	claimLog := func(n int) error {
		err := claim(n, logged)
		s.table[n].epoch, s.table[n].generation = logs[n].epoch, logs[n].generation
		return err
	}
	var problems []error
	for _, n := range bad {
		problems = append(problems, claim(n, refused))
	}
	for _, n := range s.root.body {
		problems = append(problems, claim(n, bodied))
	}
	for _, t := range s.root.tail {
		problems = append(problems, claimLog(t.segment))
		s.table[t.segment].tail = true
	}
	for _, e := range s.index {
		n := int(e.segment)
		if s.table[n].kind != logged {
			if logs[n].epoch == nil {
				return fmt.Errorf("store: segment %d is not of the log: %w", n, ErrDamaged)
			}
			problems = append(problems, claimLog(n))
		}
		s.table[n].live += int(e.length)
		s.live += int(e.length)
		if e.large != nil {
			for _, n := range e.large.segments {
				problems = append(problems, claim(n, valued))
			}
		}
	}
	return errors.Join(problems...)
}
