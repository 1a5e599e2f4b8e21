package storage

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"

	"nitro/nvme/pool"
	"nitro/nvme/volume"
)

// A backing is what a volume lies on.
type backing interface {
	spec() Spec
	used() int64
	salt() ([]byte, error) // the caller zeroes it
	open() (volume.Volume, error)
	remove() error
}

// poolVolume is a volume of the pool.
type poolVolume struct {
	pool *pool.Pool
	info pool.Info
}

func (p poolVolume) spec() Spec {
	i := p.info
	return Spec{ID: i.ID, Name: i.Name, Kind: Pool, BlockSize: i.BlockSize, Blocks: i.Blocks, Commitment: i.Commitment}
}

func (p poolVolume) used() int64                  { return int64(p.info.Extents) * pool.ExtentSize }
func (p poolVolume) salt() ([]byte, error)        { return p.pool.Salt(p.info.Name) }
func (p poolVolume) open() (volume.Volume, error) { return p.pool.Volume(p.info.Name) }
func (p poolVolume) remove() error                { return p.pool.Delete(p.info.Name) }

// memoryVolume is a volume in RAM. What it holds is ciphertext, as on the card, and stays
// while it is detached.
type memoryVolume struct {
	s    *Service
	of   Spec
	data *volume.RAM
	own  [pool.SaltSize]byte
}

func (m *memoryVolume) spec() Spec  { return m.of }
func (m *memoryVolume) used() int64 { return int64(m.of.Blocks) * int64(m.of.BlockSize) }

func (m *memoryVolume) salt() ([]byte, error) { return append([]byte(nil), m.own[:]...), nil }

func (m *memoryVolume) open() (volume.Volume, error) { return kept{m.data}, nil }

// erase makes its key another one, and overwrites what it holds.
func (m *memoryVolume) erase() error {
	rand.Read(m.own[:])
	return m.data.Zero(context.Background(), 0, m.of.Blocks)
}

func (m *memoryVolume) remove() error {
	delete(m.s.memory, m.of.ID)
	clear(m.own[:])
	return m.data.Close()
}

// kept is a volume in RAM that outlives its being open.
type kept struct{ *volume.RAM }

// Close implements volume.Volume: the data stays.
func (kept) Close() error { return nil }

// all are the volumes, those of the pool first.
func (s *Service) all() (all []backing) {
	if s.conf.Pool != nil && !s.closed {
		for _, i := range s.conf.Pool.List() {
			all = append(all, s.inPool(i))
		}
	}
	for _, m := range s.memory {
		all = append(all, m)
	}
	return all
}

// find gives a volume.
func (s *Service) find(id [16]byte) (backing, error) {
	if err := s.usable(); err != nil {
		return nil, err
	}
	for _, b := range s.all() {
		if b.spec().ID == id {
			return b, nil
		}
	}
	return nil, fmt.Errorf("%w: %x", ErrNotFound, id)
}

// memoryTaken is what volumes in RAM take, in bytes.
func (s *Service) memoryTaken() (n int64) {
	for _, m := range s.memory {
		n += m.used()
	}
	return n
}

// Create makes a volume, which is not attached.
func (s *Service) Create(ctx context.Context, sp Spec) (State, error) {
	if sp.Kind == Remote { // before the lock: servers may be slow
		if err := s.measure(ctx, &sp); err != nil {
			return State{}, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usable(); err != nil {
		return State{}, err
	}
	for _, b := range s.all() {
		if o := b.spec(); o.ID == sp.ID || o.Name == sp.Name {
			return State{}, fmt.Errorf("%w: %x, %.64q", ErrExists, sp.ID, sp.Name)
		}
	}
	var err error
	switch {
	case sp.ID == [16]byte{} || sp.Commitment == [32]byte{}:
		err = fmt.Errorf("%w: an identity and a commitment are needed", ErrSpec)
	case sp.Kind == Pool:
		err = s.createInPool(sp)
	case sp.Kind == RAM:
		err = s.createInMemory(sp)
	case sp.Kind == Remote:
		err = s.createRemote(sp)
	default:
		err = fmt.Errorf("%w: of kind %.16q: use %s, %s or %s", ErrSpec, sp.Kind, Pool, RAM, Remote)
	}
	if err != nil {
		return State{}, err
	}
	s.notify(EventCreated, sp.ID, nil)
	sp.Place = sp.Place.known()
	return State{Spec: sp}, s.settle()
}

func (s *Service) poolThere() error {
	if s.conf.Pool == nil {
		return fmt.Errorf("%w: %w", ErrNoPool, s.conf.PoolFault)
	}
	return nil
}

func (s *Service) createInPool(sp Spec) error {
	if err := s.poolThere(); err != nil {
		return err
	}
	if err := s.conf.Store.SetPlace(sp.ID, nil); err != nil { // of an attempt that was cut off
		return fmt.Errorf("%w: %w", ErrStore, err)
	}
	return s.createEntry(sp)
}

// createEntry makes the pool's entry of a volume.
func (s *Service) createEntry(sp Spec) error {
	p := pool.Spec{ID: sp.ID, Name: sp.Name, BlockSize: sp.BlockSize, Blocks: sp.Blocks, Commitment: sp.Commitment}
	if err := p.Check(); err != nil {
		return fmt.Errorf("%w: %w", ErrSpec, err)
	}
	_, err := s.conf.Pool.Create(p)
	if errors.Is(err, pool.ErrTooMany) {
		err = fmt.Errorf("%w: %w", ErrFull, err)
	}
	return err
}

func (s *Service) createInMemory(sp Spec) error {
	p := pool.Spec{Name: sp.Name, BlockSize: sp.BlockSize, Blocks: sp.Blocks} // the same rules
	if err := p.Check(); err != nil {
		return fmt.Errorf("%w: %w", ErrSpec, err)
	}
	free := s.conf.Memory - s.memoryTaken()
	if len(s.memory) >= MaxVolumes || sp.Blocks > uint64(free)/uint64(sp.BlockSize) {
		return fmt.Errorf("%w: %d blocks of %d bytes; %d bytes of memory are left for volumes", ErrFull, sp.Blocks, sp.BlockSize, free)
	}
	data, err := volume.NewRAM(sp.BlockSize, sp.Blocks)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrSpec, err)
	}
	m := &memoryVolume{s: s, of: sp, data: data}
	rand.Read(m.own[:])
	s.memory[sp.ID] = m
	return nil
}

// Delete removes a volume that is not attached. Its ciphertext stays where it was until
// it is overwritten: Erase before makes that worthless.
func (s *Service) Delete(_ context.Context, id [16]byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, err := s.find(id)
	if err != nil {
		return err
	}
	if s.attached[id] != nil {
		return fmt.Errorf("%w: %x", ErrInUse, id)
	}
	delete(s.pending, id)
	s.void(id)
	if err := b.remove(); err != nil {
		return err
	}
	s.notify(EventDeleted, id, nil)
	s.keep()
	return s.settle()
}
