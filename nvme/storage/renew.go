package storage

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"nitro/nvme/key"
)

// Times of renewals (docs/volumes.md, "Renewal").
const (
	// renewShortest is the shortest lease that is renewed: others are over before they are
	// looked at.
	renewShortest = 30 * time.Second
	renewFirst    = 10 * time.Second // between two questions about a lease, at least
	renewMost     = 15 * time.Minute // between two of which the first failed, at most
	renewLimit    = 2 * time.Minute  // of a question
)

var (
	// ErrNoSource is for a KeySource that has nobody to ask.
	ErrNoSource = errors.New("storage: the configuration does not say where to ask for keys: whoever attached the volume has to, ahead of the lease's end (docs/medium.md, key_service)")
	errNoLonger = errors.New("storage: the key service gives no longer lease")
)

// A renewal is when a lease is to be asked for again.
type renewal struct {
	early time.Duration // before its end; 0: never
	next  time.Time     // not before
	wait  time.Duration // after the next failure
}

// scheduled is the renewal of a lease that has just been given, for a time: when a third of
// it is left, or a little more. How much more is by chance, so that boards that were
// attached together do not ask together.
func scheduled(left time.Duration) renewal {
	r := renewal{next: time.Now().Add(renewFirst), wait: renewFirst}
	if left >= renewShortest {
		r.early = left/3 + rand.N(left/12)
	}
	return r
}

// failed puts the next question off, longer each time, and never past what leaves three
// more before the lease's end.
func (r *renewal) failed(left time.Duration) {
	wait := max(min(r.wait, left/4), renewFirst)
	r.next = time.Now().Add(wait/2 + rand.N(wait/2) + renewFirst/2)
	r.wait = min(2*r.wait, renewMost)
}

// Renew asks the key service again for the keys of attached volumes whose leases are
// standing, ahead of their end, until the context ends or Close. I/O goes on meanwhile. A
// lease that cannot be renewed ends when it ends.
func (s *Service) Renew(ctx context.Context, source KeySource) {
	if s.ring == nil {
		return
	}
	t := time.NewTicker(ExpireEvery)
	defer t.Stop()
	for {
		select {
		case <-s.done:
			return
		case <-ctx.Done():
			return
		case <-t.C:
		}
		for _, id := range s.ending() {
			if s.renew(ctx, id, source) != nil {
				break // most likely the others would fare as badly: one question at a time
			}
		}
	}
}

// ending lists the volumes whose leases are to be renewed now, those that end first first.
func (s *Service) ending() (ids [][16]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	left := map[[16]byte]time.Duration{}
	for id, a := range s.attached {
		n := s.ring.Left(a.lease)
		if a.lease.Held() && a.lease.Standing() && n < a.renewal.early && !time.Now().Before(a.renewal.next) {
			left[id] = n
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, func(a, b [16]byte) int { return cmp.Compare(left[a], left[b]) })
	return ids
}

// renew asks for one lease again, and tells if that failed.
func (s *Service) renew(ctx context.Context, id [16]byte, source KeySource) error {
	ctx, cancel := context.WithTimeout(ctx, renewLimit)
	defer cancel()
	before := s.left(id)
	err := s.ask(ctx, id, source)
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.attached[id]
	if a == nil { // detached meanwhile: nobody wants it any more
		return nil
	}
	left := s.ring.Left(a.lease)
	if err == nil && left <= before {
		err = errNoLonger
	}
	if err == nil {
		return nil
	}
	a.renewal.failed(left)
	if !errors.Is(err, ErrNoSource) {
		s.notify(EventNotRenewed, id, err)
	}
	return err
}

// left is how long a volume's lease lasts; 0 if it has none.
func (s *Service) left(id [16]byte) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a := s.attached[id]; a != nil {
		return s.ring.Left(a.lease)
	}
	return 0
}

// ask asks the key service for the key of a volume that is attached still. A detachment that
// comes later voids the request.
func (s *Service) ask(ctx context.Context, id [16]byte, source KeySource) error {
	s.mu.Lock()
	if s.attached[id] == nil {
		s.mu.Unlock()
		return fmt.Errorf("%w: %x", ErrDetached, id)
	}
	q, err := s.ring.Request(id)
	s.mu.Unlock()
	if err != nil {
		return err
	}
	return s.obtain(ctx, id, &q, source)
}

// obtain has the key service answer a request.
func (s *Service) obtain(ctx context.Context, id [16]byte, request *key.Request, source KeySource) error {
	grant, wrapped, err := source.Key(ctx, id, request.Encode())
	if err != nil {
		return err
	}
	confirmation, err := s.Attach(ctx, id, grant, wrapped)
	if err != nil {
		return err
	}
	if err := source.Confirm(ctx, grant, confirmation); err != nil {
		return fmt.Errorf("storage: the key is here, but its service did not take the confirmation: %w", err)
	}
	return nil
}
