package storage

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"nitro/nvme/key"
	"nitro/nvme/target"
	"nitro/nvme/volume"
	"nitro/nvme/xts"
)

// refusals are what is wrong with a grant or a wrapped key.
var refusals = []error{key.ErrFormat, key.ErrSignature, key.ErrBoard, key.ErrBoot, key.ErrNonce, key.ErrCycle, key.ErrExpired,
	key.ErrVolume, key.ErrCommitment, key.ErrKey, key.ErrWrapped, key.ErrEnvelope}

// refused marks what the sender of a key has to put right.
func refused(err error) error {
	for _, r := range refusals {
		if errors.Is(err, r) {
			return fmt.Errorf("%w: %w", ErrRefused, err)
		}
	}
	if errors.Is(err, key.ErrQuarantine) {
		return ErrClosed
	}
	if errors.Is(err, key.ErrFull) || errors.Is(err, key.ErrCrowded) {
		return fmt.Errorf("%w: %w", ErrFull, err)
	}
	return err
}

// keyable finds a volume that could get a key.
func (s *Service) keyable(id [16]byte) (backing, error) {
	b, err := s.find(id)
	switch {
	case err != nil:
		return nil, err
	case s.ring == nil:
		return nil, ErrNoService
	case s.cycle == 0:
		return nil, ErrNoHost
	}
	if r, remote := b.(remoteVolume); remote && r.fault != nil {
		return nil, r.fault
	}
	return b, nil
}

// Request asks for a volume's key: what the key service has to get, beside the evidence.
// An earlier request for the volume is void.
func (s *Service) Request(_ context.Context, id [16]byte) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := s.keyable(id); err != nil {
		return nil, err
	}
	q, err := s.ring.Request(id)
	if err != nil {
		return nil, refused(err)
	}
	return q.Encode(), nil
}

// Attach takes a volume's key and shows the volume to the host. If it is attached
// already, the lease gets the grant's end. The confirmation is for the key service.
func (s *Service) Attach(ctx context.Context, id [16]byte, grant, wrapped []byte) (confirmation []byte, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	confirmation, kind, err := s.attach(ctx, id, grant, wrapped)
	s.notify(kind, id, err)
	if err == nil {
		s.keep()
	}
	return confirmation, err
}

// attach gives the kind of event beside what Attach gives.
func (s *Service) attach(ctx context.Context, id [16]byte, grant, wrapped []byte) ([]byte, string, error) {
	b, err := s.keyable(id)
	if err != nil {
		return nil, EventRefused, err
	}
	salt, err := b.salt()
	if err != nil {
		return nil, EventRefused, err
	}
	defer clear(salt)
	a := s.attached[id]
	namespace := s.namespaceFor(id)
	if a == nil && namespace == 0 {
		return nil, EventRefused, fmt.Errorf("%w: %d volumes are attached", ErrFull, MaxAttached)
	}
	lease, confirmation, err := s.ring.Accept(grant, wrapped, key.Volume{ID: id, Commitment: b.spec().Commitment, Salt: salt})
	if err != nil {
		return nil, EventRefused, refused(err)
	}
	if a != nil && a.lease == lease {
		a.renewal = scheduled(s.ring.Left(lease))
		return confirmation, EventRenewed, nil
	}
	if a != nil { // its lease has just ended, and nobody has swept yet
		s.drop(ctx, id, a)
		s.notify(EventExpired, id, nil)
	}
	if err := s.show(b, lease, namespace); err != nil {
		s.ring.Detach(id)
		return nil, EventRefused, err
	}
	delete(s.pending, id)
	s.admitIfDone()
	return confirmation, EventAttached, nil
}

// Buffers of an encrypted volume: as many writes as wait for the medium at a time, each
// as long as the most that one NVMe command moves.
const (
	buffers    = 4
	bufferSize = 128 << 10
)

// show opens a volume with its key, and shows it to the host.
func (s *Service) show(b backing, lease *key.Lease, namespace uint32) error {
	under, err := b.open()
	if err != nil {
		return err
	}
	a := &attachment{lease: lease, namespace: namespace, renewal: scheduled(s.ring.Left(lease))}
	err = lease.Use(func(k *xts.Key) (key.User, error) {
		a.volume, err = volume.NewEncrypted(under, k, buffers, bufferSize)
		return a.volume, err
	})
	if err != nil {
		under.Close()
		return err
	}
	id := b.spec().ID
	if err := s.target.Attach(s.conf.HostNQN, target.Namespace{ID: namespace, Volume: a.volume, UUID: id}); err != nil {
		a.volume.Close()
		return err
	}
	s.attached[id] = a
	return nil
}

// namespaceFor is the identifier under which the host is to see a volume: the one that it
// has or had in this cycle, or the lowest that is free; 0 if none is.
func (s *Service) namespaceFor(id [16]byte) uint32 {
	if a := s.attached[id]; a != nil {
		return a.namespace
	}
	if d, waits := s.pending[id]; waits {
		return d.namespace
	}
	taken := map[uint32]bool{}
	for _, a := range s.attached {
		taken[a.namespace] = true
	}
	for _, d := range s.pending {
		taken[d.namespace] = true
	}
	for n := uint32(1); n <= MaxAttached; n++ {
		if !taken[n] {
			return n
		}
	}
	return 0
}

// Detach takes a volume from the host and zeroes its key. It waits for I/O under way, at
// most DetachLimit, and succeeds whether or not that came to its end. A grant that is under
// way is worth nothing afterwards, whether or not the volume was attached.
func (s *Service) Detach(ctx context.Context, id [16]byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := s.find(id); err != nil {
		return err
	}
	_, waits := s.pending[id]
	if s.attached[id] == nil && !waits {
		s.void(id)
		return fmt.Errorf("%w: %x", ErrDetached, id)
	}
	s.detach(ctx, id)
	s.admitIfDone()
	return nil
}

// detach ends an attachment, or gives up a standing lease that waits.
func (s *Service) detach(ctx context.Context, id [16]byte) {
	delete(s.pending, id)
	if a := s.attached[id]; a != nil {
		s.drop(ctx, id, a)
	}
	s.void(id)
	s.notify(EventDetached, id, nil)
	s.keep()
}

// void has no key come for a volume that was asked for before now.
func (s *Service) void(id [16]byte) {
	if s.ring != nil {
		s.ring.Detach(id) // that it had no lease is well
	}
}

// drop takes a volume from the host, ends its lease if that has not ended, and closes it.
func (s *Service) drop(ctx context.Context, id [16]byte, a *attachment) {
	ctx, cancel := limited(ctx)
	defer cancel()
	s.target.Detach(ctx, s.conf.HostNQN, a.namespace) // what still waits then gets an error
	if a.lease.Held() {
		s.ring.Detach(id)
	}
	a.volume.Close()
	delete(s.attached, id)
}

// limited is a context that ends after DetachLimit, whoever asked.
func limited(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), DetachLimit)
}

// sweep drops volumes whose leases have ended. A host that never ends its I/O holds it up
// once, and not for each of them: everything else waits meanwhile.
func (s *Service) sweep(ctx context.Context) (swept bool) {
	var all sync.WaitGroup
	for id, a := range s.attached {
		if a.lease.Held() {
			continue
		}
		all.Go(func() {
			ctx, cancel := limited(ctx)
			defer cancel()
			s.target.Detach(ctx, s.conf.HostNQN, a.namespace)
			a.volume.Close()
		})
		delete(s.attached, id)
		s.notify(EventExpired, id, nil)
		swept = true
	}
	all.Wait()
	return swept
}

// expire ends leases whose time is over, until Close. The keys go at once, whatever
// operation is under way; their volumes then.
func (s *Service) expire() {
	if s.ring == nil {
		return
	}
	t := time.NewTicker(ExpireEvery)
	defer t.Stop()
	clockWorks := true
	for {
		select {
		case <-s.done:
			return
		case <-t.C:
		}
		ended, err := s.ring.Expire()
		s.mu.Lock()
		if err != nil && clockWorks {
			s.notify(EventClock, [16]byte{}, err)
		}
		clockWorks = err == nil
		if len(ended) > 0 && s.sweep(context.Background()) {
			s.keep()
		}
		s.mu.Unlock()
	}
}
