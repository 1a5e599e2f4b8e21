package target

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"sync"
	"sync/atomic"

	"nitro/nvme/dhchap"
	"nitro/nvme/volume"
	"nitro/nvme/wire"
)

// A host is one that may connect.
type host struct {
	nqn string

	mu               sync.RWMutex // guards the secrets
	secret, opposite dhchap.Secret

	table atomic.Pointer[table] // what it sees; replaced as a whole, under the target's mutex

	reads, writes                  atomic.Uint64 // commands
	readBytes, writtenBytes, media atomic.Uint64
	erasure                        erasure
}

// A table has a host's namespaces by their identifier, from 1.
type table [MaxNamespaces + 1]*namespace

// forget overwrites the secrets.
func (h *host) forget() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.secret.Zero()
	h.opposite.Zero()
}

// find gives a namespace, or nil.
func (h *host) find(id uint32) *namespace {
	if id == 0 || id > MaxNamespaces {
		return nil
	}
	return h.table.Load()[id]
}

// Errors of the management of hosts.
var (
	ErrHost      = errors.New("target: no such host")
	ErrNamespace = errors.New("target: no such namespace")
)

// AddHost lets a host in. The secret is the one that the host proves itself with;
// opposite, if it is not nil, the one that the target proves itself with, and then the
// host must ask for that. They are copied. A host that is there already loses its
// connections and gets the new secrets.
//
// The names of the discovery subsystem and of the I/O subsystem are no host's.
func (t *Target) AddHost(nqn string, secret, opposite *dhchap.Secret) error {
	if err := wire.CheckNQN(nqn); err != nil {
		return fmt.Errorf("target: host %q: %w", nqn, err)
	}
	if nqn == wire.DiscoveryNQN || nqn == t.cfg.SubsystemNQN {
		return fmt.Errorf("target: host %q: this name is reserved for a subsystem", nqn)
	}
	if secret.Empty() || opposite != nil && (opposite.Empty() || opposite.Same(secret)) {
		return fmt.Errorf("target: host %q: a secret is empty, or one serves both directions", nqn)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	h := t.hosts[nqn]
	if h == nil {
		if len(t.hosts) >= MaxHosts {
			return fmt.Errorf("target: host %q: %d hosts are known already, remove one", nqn, MaxHosts)
		}
		h = &host{nqn: nqn}
		h.table.Store(new(table))
		t.hosts[nqn] = h
		t.generation++
	}
	h.mu.Lock()
	h.secret.Copy(secret)
	h.opposite.Zero()
	if opposite != nil {
		h.opposite.Copy(opposite)
	}
	h.mu.Unlock()
	t.disconnect(h, errSecrets)
	return nil
}

var (
	errSecrets = errors.New("target: the host got new secrets")
	errRemoved = errors.New("target: the host was removed")
)

// RemoveHost ends a host's connections, detaches its namespaces and overwrites its
// secrets. Its error is that of Detach for a namespace that is still in use.
func (t *Target) RemoveHost(ctx context.Context, nqn string) error {
	t.mu.Lock()
	h := t.hosts[nqn]
	if h == nil {
		t.mu.Unlock()
		return fmt.Errorf("%w: %q", ErrHost, nqn)
	}
	delete(t.hosts, nqn)
	t.generation++
	h.forget()
	t.disconnect(h, errRemoved)
	all := *h.table.Swap(new(table))
	t.mu.Unlock()
	var errs []error
	for _, n := range all {
		if n != nil {
			errs = append(errs, n.retire(ctx))
		}
	}
	return errors.Join(errs...)
}

// disconnect ends a host's controllers. The target's mutex is held.
func (t *Target) disconnect(h *host, why error) {
	for _, k := range t.controllers {
		if k.host == h {
			k.end(why)
		}
	}
}

// A Namespace is what a host gets to see of a volume.
type Namespace struct {
	ID     uint32 // 1 to MaxNamespaces
	Volume volume.Volume
	UUID   [16]byte // of the volume, not zero; the NGUID as well
}

// A namespace is an attached one.
type namespace struct {
	Namespace
	gate
	shift  uint8 // of the block size
	prompt bool  // the volume waits for nothing but the processor
	blocks uint64
	ctx    context.Context // ends when a detachment cannot wait any longer
	cancel context.CancelFunc
}

// Attach shows a volume to a host, which is told at once if it is connected. The volume
// must stay open until Detach has returned.
func (t *Target) Attach(nqn string, n Namespace) error {
	if n.ID == 0 || n.ID > MaxNamespaces || n.UUID == [16]byte{} || n.Volume == nil {
		return fmt.Errorf("target: namespace %d: identifiers are 1 to %d, and a volume and a UUID are needed", n.ID, MaxNamespaces)
	}
	if err := volume.CheckBlockSize(n.Volume.BlockSize()); err != nil {
		return fmt.Errorf("target: namespace %d: %w", n.ID, err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	h := t.hosts[nqn]
	if h == nil {
		return fmt.Errorf("%w: %q", ErrHost, nqn)
	}
	next := *h.table.Load()
	if next[n.ID] != nil {
		return fmt.Errorf("target: host %q has a namespace %d already: detach it first", nqn, n.ID)
	}
	a := &namespace{Namespace: n, shift: uint8(bits.TrailingZeros(uint(n.Volume.BlockSize()))), blocks: n.Volume.Blocks(), prompt: volume.Prompt(n.Volume)}
	a.ctx, a.cancel = context.WithCancel(background)
	next[n.ID] = a
	h.table.Store(&next)
	t.changed(h, n.ID)
	return nil
}

// Detach takes a namespace from a host, which is told, and waits until nothing uses the
// volume any more. When ctx ends first, what still uses it is told to give up, and the
// error says so: then the volume may be in use a little longer.
func (t *Target) Detach(ctx context.Context, nqn string, id uint32) error {
	t.mu.Lock()
	h := t.hosts[nqn]
	if h == nil {
		t.mu.Unlock()
		return fmt.Errorf("%w: %q", ErrHost, nqn)
	}
	n := h.find(id)
	if n == nil {
		t.mu.Unlock()
		return fmt.Errorf("%w: %d of host %q", ErrNamespace, id, nqn)
	}
	next := *h.table.Load()
	next[id] = nil
	h.table.Store(&next)
	t.changed(h, id)
	t.mu.Unlock()
	return n.retire(ctx)
}

// retire lets nobody in any more and waits until all are out.
func (n *namespace) retire(ctx context.Context) error {
	defer n.cancel()
	select {
	case <-n.shut(wire.InvalidNamespace | wire.DNR):
		return nil
	case <-ctx.Done():
		return fmt.Errorf("target: namespace %d is still in use: %w", n.ID, context.Cause(ctx))
	}
}

// changed tells a host's controllers. The target's mutex is held.
func (t *Target) changed(h *host, id uint32) {
	for _, k := range t.controllers {
		if k.host == h && !k.discovery {
			k.namespaceChanged(id)
		}
	}
}

// A gate counts who is inside, and can be shut.
type gate struct {
	mu     sync.Mutex
	inside int
	refuse wire.Status   // what those get who come while it is shut
	empty  chan struct{} // closed when the last one leaves a shut gate
}

// enter lets one in, or gives the status to refuse it with.
func (g *gate) enter() wire.Status {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.refuse == wire.Success {
		g.inside++
	}
	return g.refuse
}

// leave lets one out.
func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.inside--; g.inside == 0 && g.empty != nil {
		close(g.empty)
		g.empty = nil
	}
}

// shut closes the gate, or changes what a closed one says; the channel is closed when all
// are out.
func (g *gate) shut(refuse wire.Status) <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.refuse = refuse
	if g.empty != nil {
		return g.empty
	}
	empty := make(chan struct{})
	if g.inside == 0 {
		close(empty)
	} else {
		g.empty = empty
	}
	return empty
}

// open opens a gate that was shut with a status; one that somebody else shut with another
// stays so.
func (g *gate) open(refuse wire.Status) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.refuse == refuse {
		g.refuse = wire.Success
	}
}
