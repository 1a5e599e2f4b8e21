package storage

import (
	"context"
	"crypto/hkdf"
	"encoding/binary"
	"fmt"
	"net"
	"sync"

	"nitro/attest/sha256"
	"nitro/nvme/dhchap"
)

// SecretsKey derives what the secrets of host cycles are derived from, of the store's
// key. The result is for Config.Secrets.
func SecretsKey(store []byte) (k [32]byte, err error) {
	if len(store) != 32 {
		return k, fmt.Errorf("storage: a store key of %d bytes, not 32", len(store))
	}
	b, err := hkdf.Key(sha256.New, store, nil, "nitro host secrets v1", len(k))
	if err != nil {
		return k, fmt.Errorf("storage: %w", err)
	}
	copy(k[:], b)
	clear(b)
	return k, nil
}

// Ends of a connection, in the derivation of their secrets.
const (
	hostEnd       = "host"
	controllerEnd = "controller"
)

// derive makes the key of a secret of one end in one host cycle. It is the same after a
// restart of the board, since a host that runs on keeps its secrets.
func derive(base *[32]byte, cycle uint64, end string) ([]byte, error) {
	salt := binary.LittleEndian.AppendUint64(nil, cycle)
	k, err := hkdf.Key(sha256.New, base[:], salt, "nitro dhchap v1 "+end, dhchap.SHA256.Size())
	if err != nil {
		return nil, fmt.Errorf("storage: %w", err)
	}
	return k, nil
}

// BeginCycle lets the host of a cycle in, with secrets of its own. A cycle that was begun
// before has ended then. An adopted host is one that runs on over a restart of the board:
// it waits until its volumes are there again, at most ReattachLimit.
func (s *Service) BeginCycle(cycle uint64, adopted bool) error {
	if s.ring != nil && cycle != 0 {
		s.ring.Begin(cycle) // the last one's keys go first, as in EndCycle
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usable(); err != nil {
		return err
	}
	if cycle == 0 || cycle == s.cycle {
		return nil
	}
	s.endCycle()
	var host, controller dhchap.Secret
	defer host.Zero()
	defer controller.Zero()
	if err := secret(&host, &s.conf.Secrets, cycle, hostEnd); err != nil {
		return err
	}
	if err := secret(&controller, &s.conf.Secrets, cycle, controllerEnd); err != nil {
		return err
	}
	if err := s.target.AddHost(s.conf.HostNQN, &host, &controller); err != nil {
		return err
	}
	if s.ring != nil {
		s.ring.Begin(cycle)
	}
	s.cycle = cycle
	s.access.Lock()
	s.access.HostAccess = HostAccess{Cycle: cycle, HostNQN: s.conf.HostNQN, SubsystemNQN: s.conf.Target.SubsystemNQN,
		Address: s.conf.Target.Advertise, Secret: host.Reveal(), ControllerSecret: controller.Reveal()}
	s.access.Unlock()
	s.notify(EventCycleBegun, [16]byte{}, nil)
	s.recall(adopted)
	return nil
}

// EndCycle ends the host cycle, if one was begun: the host's keys are zeroed, its volumes
// detached, its secrets void.
func (s *Service) EndCycle() {
	if s.ring != nil {
		s.ring.Begin(0) // the keys first, and without waiting for an operation that is under way
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.endCycle()
	}
}

func (s *Service) endCycle() {
	if s.cycle == 0 {
		return
	}
	if s.ring != nil {
		s.ring.Begin(0)
	}
	ctx, cancel := context.WithTimeout(context.Background(), DetachLimit)
	defer cancel()
	s.target.RemoveHost(ctx, s.conf.HostNQN) // what still waits then gets an error
	s.closeAll()
	clear(s.pending)
	s.keep()
	s.forgetHost()
	s.notify(EventCycleEnded, [16]byte{}, nil)
	s.cycle = 0
}

// closeAll closes the volumes of a host that is gone, at the same time: each of a storage
// server that does not answer takes a while.
func (s *Service) closeAll() {
	var all sync.WaitGroup
	for id, a := range s.attached {
		all.Go(func() { a.volume.Close() })
		delete(s.attached, id)
		s.notify(EventDetached, id, nil)
	}
	all.Wait()
}

func (s *Service) forgetHost() {
	s.access.Lock()
	s.access.HostAccess = HostAccess{}
	s.access.Unlock()
}

// Host is what the host of the present cycle has to know; false where there is none.
func (s *Service) Host() (HostAccess, bool) {
	s.access.Lock()
	defer s.access.Unlock()
	return s.access.HostAccess, s.access.Cycle != 0
}

// Ports of the target (IANA: nvme, nvme-disc).
const (
	PortIO        = 4420
	PortDiscovery = 8009
)

// Serve waits until the host may connect, and then serves it on both ports, which listen
// opens, until Close. A connection that is refused on the way makes a host try again; one
// that was let in too early would take its volumes for gone.
func (s *Service) Serve(listen func(port uint16) (net.Listener, error)) error {
	select {
	case <-s.admitted:
	case <-s.done:
		return ErrClosed
	}
	failed := make(chan error, 2)
	for _, port := range []uint16{PortIO, PortDiscovery} {
		l, err := listen(port)
		if err != nil {
			return fmt.Errorf("storage: port %d: %w", port, err)
		}
		go func() { failed <- s.target.Serve(l) }()
	}
	return <-failed
}
