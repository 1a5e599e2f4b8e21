package storage

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"nitro/nvme/key"
)

// due is a standing lease that is to be asked for again.
type due struct {
	key.Standing
	namespace uint32
}

// entrySize is that of a standing lease in the store: the lease, then the identifier of
// the namespace (docs/volumes.md, "Over a restart of the board").
const entrySize = key.StandingSize + 4

// encodeStanding writes the list for the store, in the order of namespaces.
func encodeStanding(list []due) []byte {
	slices.SortFunc(list, func(a, b due) int { return int(a.namespace) - int(b.namespace) })
	var b []byte
	for _, d := range list {
		b = append(b, d.Encode()...)
		b = binary.LittleEndian.AppendUint32(b, d.namespace)
	}
	return b
}

// parseStanding reads what encodeStanding wrote.
func parseStanding(b []byte) (list []due, err error) {
	if len(b)%entrySize != 0 || len(b) > MaxStanding*entrySize {
		return nil, fmt.Errorf("storage: a list of standing leases of %d bytes: entries have %d, at most %d", len(b), entrySize, MaxStanding)
	}
	last := uint32(0)
	for ; len(b) > 0; b = b[entrySize:] {
		t, err := key.ParseStanding(b[:key.StandingSize])
		if err != nil {
			return nil, err
		}
		n := binary.LittleEndian.Uint32(b[key.StandingSize:])
		if n <= last || n > MaxAttached {
			return nil, fmt.Errorf("storage: standing lease of volume %x: namespace %d behind %d", t.Volume, n, last)
		}
		last = n
		list = append(list, due{t, n})
	}
	return list, nil
}

// keep has the store know which leases are standing. A store that fails is told of: the
// board then does not find those volumes after a restart. Before a host cycle has begun
// the store's list is that of the boot before, which may still be wanted.
func (s *Service) keep() {
	if s.cycle == 0 {
		return
	}
	var list []due
	for _, a := range s.attached {
		if a.lease.Held() && a.lease.Standing() {
			list = append(list, due{a.lease.Term(), a.namespace})
		}
	}
	for _, d := range s.pending {
		list = append(list, d)
	}
	b := encodeStanding(list)
	had, err := s.conf.Store.Standing()
	if err == nil && bytes.Equal(b, had) {
		return
	}
	if err := s.conf.Store.SetStanding(b); err != nil {
		s.notify(EventStore, [16]byte{}, err)
	}
}

// recall reads which volumes the host of this cycle had, if it is one that runs on, and
// lets the host in when there is nothing to wait for.
func (s *Service) recall(adopted bool) {
	if adopted && s.ring != nil {
		b, err := s.conf.Store.Standing()
		var list []due
		if err == nil {
			list, err = parseStanding(b)
		}
		if err != nil {
			s.notify(EventStore, [16]byte{}, err)
		}
		for _, d := range list {
			if _, err := s.find(d.Volume); err == nil && d.Cycle == s.cycle {
				s.pending[d.Volume] = d
			}
		}
	}
	s.keep()
	if len(s.pending) > 0 {
		time.AfterFunc(ReattachLimit, s.admit)
	}
	s.admitIfDone()
}

// admitIfDone lets the host in when all that it had is there again.
func (s *Service) admitIfDone() {
	if len(s.pending) == 0 && s.cycle != 0 {
		s.admit()
	}
}

// Standing lists the volumes whose leases wait to be asked for again, in no order.
func (s *Service) Standing() (ids [][16]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id := range s.pending {
		ids = append(ids, id)
	}
	return ids
}

// Times between attempts of Reattach.
const (
	retryFirst = time.Second
	retryMost  = 15 * time.Second
)

// Reattach asks the key service for the keys of all volumes that an adopted host had,
// until it has them, they have expired, or the context ends. Then those that are missing
// are given up, and the host is let in.
func (s *Service) Reattach(ctx context.Context, source KeySource) {
	for wait := retryFirst; ; wait = min(2*wait, retryMost) {
		for _, id := range s.Standing() {
			if err := s.reattach(ctx, id, source); err != nil {
				s.mu.Lock()
				s.notify(EventReattach, id, err)
				s.mu.Unlock()
			}
		}
		if len(s.Standing()) == 0 {
			return
		}
		select {
		case <-time.After(wait):
		case <-s.done:
			return
		case <-ctx.Done():
			s.giveUp()
			return
		}
	}
}

// giveUp lets the host in without what is missing. What was standing stays so in the
// store: the control plane may still bring the keys, for the same namespaces.
func (s *Service) giveUp() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.admit()
}

// reattach asks for one volume's key.
func (s *Service) reattach(ctx context.Context, id [16]byte, source KeySource) error {
	q, err := s.again(id)
	if q == nil || err != nil {
		return err
	}
	return s.obtain(ctx, id, q, source)
}

// again makes the request for a standing lease; nil if it waits no more. Detach comes before
// it or behind it, and then voids it.
func (s *Service) again(id [16]byte) (*key.Request, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d, waits := s.pending[id]
	if !waits {
		return nil, nil
	}
	q, err := s.ring.Again(d.Standing)
	if errors.Is(err, key.ErrExpired) || errors.Is(err, key.ErrCycle) {
		delete(s.pending, id)
		s.keep()
		s.admitIfDone()
	}
	return &q, err
}
