// Package storage is the board's volumes: which there are, whose key the board has, and
// which of them its host sees. It puts together the pool (package pool), the keys
// (package key) and the target (package target), and owns what they have in common.
// docs/volumes.md has its rules.
//
// A volume is created with the commitment to its key, is attached when a key service's
// grant brings that key, and is then a namespace of the one host that the board guards. It
// ends to be one when it is detached, when the lease expires, when the host's cycle ends,
// and in quarantine; each time the key is zeroed.
//
// Left out: volumes for several hosts, resizing.
package storage

import (
	"context"
	"crypto/ecdsa"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"nitro/nvme/dhchap"
	"nitro/nvme/key"
	"nitro/nvme/pool"
	"nitro/nvme/target"
	"nitro/nvme/volume"
)

// A Kind is what a volume lies on.
type Kind string

// The kinds of volumes.
const (
	Pool Kind = "Pool" // the card's pool: outlasts restarts
	RAM  Kind = "RAM"  // the board's memory: gone with the next restart
	// Remote volumes lie on a storage server, which sees ciphertext only.
	Remote Kind = "Remote"
)

// Limits.
const (
	MaxVolumes  = 254             // of each kind
	MaxAttached = 64              // at a time: what a host can see
	MaxStanding = MaxAttached     // standing leases that are kept
	ExpireEvery = 5 * time.Second // how often leases are looked at
	// DetachLimit bounds how long a detachment waits for I/O that is under way. Then the
	// key is zeroed all the same, and the I/O fails.
	DetachLimit = 10 * time.Second
	// ReattachLimit bounds how long a host that runs on over a restart of the board is kept
	// waiting for its volumes. Linux tries for 10 minutes (ctrl_loss_tmo) before it fails
	// I/O.
	ReattachLimit = 5 * time.Minute
)

// Errors. What else is wrong with a volume's medium is volume's and pool's.
var (
	ErrNotFound  = errors.New("storage: no such volume")
	ErrExists    = errors.New("storage: there is a volume of this name or identity")
	ErrInUse     = errors.New("storage: the volume is attached: detach it first")
	ErrDetached  = errors.New("storage: the volume is not attached")
	ErrFull      = errors.New("storage: no room")
	ErrSpec      = errors.New("storage: no volume can be so")
	ErrNoPool    = errors.New("storage: the board has no pool")
	ErrNoHost    = errors.New("storage: no host runs that could have a volume: release it first")
	ErrNoService = errors.New("storage: the configuration names no key service, so no key can come: have the owner sign one that does (docs/medium.md, key_service)")
	ErrRefused   = errors.New("storage: the key was refused") // wraps the reason, one of package key's
	ErrClock     = key.ErrClock                               // no key is taken, what is attached goes on
	ErrClosed    = errors.New("storage: volumes are not served any more in this boot: see the board's code")
	ErrNoServer  = errors.New("storage: the configuration allows no storage server of this name (docs/medium.md, storage_servers)")
	ErrServer    = errors.New("storage: the storage server does not give the namespace")
	ErrPlace     = errors.New("storage: the record of where the remote volume is cannot be read: delete the volume and create it again")
	ErrStore     = errors.New("storage: done, but the store did not keep it for sure: do it again")
)

// A Spec is what a volume is made of.
type Spec struct {
	ID         [16]byte // chosen by the control plane, for life; not zero
	Name       string   // 1 to 64 printable ASCII characters without space
	Kind       Kind
	BlockSize  int // 512 or 4096
	Blocks     uint64
	Commitment [32]byte // to the key that will be delivered: key.Commitment
	Place      Place    // of remote volumes
}

// A State is how a volume stands.
type State struct {
	Spec
	Used      int64 // bytes of pool or memory that it takes
	Attached  bool
	Namespace uint32        // that the host sees; 0 if not attached
	Left      time.Duration // of the lease; 0 if not attached
	Standing  bool          // the lease may be asked for again
	Fault     error         // why it cannot be attached, whatever its key; nil: nothing is known against it
}

// A Space is what a kind has, in bytes.
type Space struct{ Total, Free int64 }

// A Store keeps which volumes were attached under standing leases over a restart of the
// board, where nobody can change it: the encrypted store.
type Store interface {
	Standing() ([]byte, error) // nil before the first SetStanding
	SetStanding([]byte) error
	// Place gives where a remote volume is, in bytes of the caller's; nil where nothing is
	// noted.
	Place(id [16]byte) ([]byte, error)
	SetPlace(id [16]byte, place []byte) error // nil removes it
	Places() ([][16]byte, error)              // those that are noted
	// Settle makes sure that what was stored cannot be taken back.
	Settle() error
}

// A Config is what the volumes rest on.
type Config struct {
	Pool *pool.Pool // nil: none, and PoolFault says why
	// PoolFault is why there is no pool.
	PoolFault error
	Memory    int64         // bytes that volumes in RAM may take together
	Keys      *key.Config   // nil: no key service is known, and nothing can be attached
	Target    target.Config // Notify is the Service's
	HostNQN   string        // the name of the board's host
	// Servers gives the storage servers that the owner allows at the moment, by name, and
	// BoardNQN and BoardID are what the board is to them.
	Servers  func() map[string]Server
	BoardNQN string
	BoardID  [16]byte
	Secrets  [32]byte // what the secrets of host cycles are derived from; zeroed by New
	Store    Store
	// MayErase is asked before each erase of the host's, which wears the TPM's memory; nil:
	// always.
	MayErase func() bool
	Notify   func(Event) // is told what happens; may be nil. It must not block or call the Service
}

// Kinds of events, beside those of package target.
const (
	EventCreated    = "volume-created"
	EventDeleted    = "volume-deleted"
	EventAttached   = "volume-attached"
	EventRenewed    = "lease-renewed"
	EventNotRenewed = "lease-not-renewed" // with the reason
	EventRefused    = "key-refused"       // with the reason
	EventDetached   = "volume-detached"
	EventExpired    = "lease-expired"
	EventErased     = "volume-erased"
	EventHostErased = "volume-erased-by-host" // or not: with the reason
	EventCycleBegun = "host-cycle-begun"
	EventCycleEnded = "host-cycle-ended"
	EventReattach   = "reattach-failed" // with the reason
	EventClock      = "clock-failed"    // leases go by the processor's clock
	EventStore      = "store-failed"    // which leases are standing was not kept
	EventServer     = "server-reached"  // of a remote volume
	EventServerLost = "server-lost"     // with the reason
	EventPlace      = "place-lost"      // of a remote volume, which is out of service: with the reason
)

// An Event is something that an operator's records should have.
type Event struct {
	Kind   string
	Volume [16]byte // zero where it is about none
	Cycle  uint64   // of the host; 0 where there is none
	Remote string   // address of the host's end, and its name, for events of the target
	Host   string
	Err    error // why
	// Sanitised is what a certificate can say, where the host has erased a volume.
	Sanitised *Sanitised
}

// A HostAccess is what the host has to know to connect: for the metadata service on the
// host's own wire, and nobody else.
type HostAccess struct {
	Cycle            uint64
	HostNQN          string
	SubsystemNQN     string
	Address          netip.AddrPort // of the I/O subsystem
	Secret           string         // the host proves itself with: DHHC-1
	ControllerSecret string         // the target proves itself with: DHHC-1
}

// A Service is the board's volumes. Its methods may run at the same time.
type Service struct {
	conf   Config
	ring   *key.Ring // nil: no key service
	target *target.Target

	mu       sync.Mutex // serialises operations
	closed   bool
	memory   map[[16]byte]*memoryVolume
	places   map[[16]byte]Place // of remote volumes, without secrets
	lost     map[[16]byte]error // of which nobody knows the place
	attached map[[16]byte]*attachment
	cycle    uint64           // of the host that may connect; 0: none
	pending  map[[16]byte]due // standing leases to be asked for again

	admitted chan struct{} // closed when hosts may connect
	admit    func()        // closes it, once
	done     chan struct{} // closed by Close

	access struct {
		sync.Mutex
		HostAccess
	}
}

// An attachment is a volume that the host sees.
type attachment struct {
	lease     *key.Lease
	volume    *volume.Encrypted
	namespace uint32
	renewal   renewal
}

// New puts the volumes together. No host may connect before BeginCycle.
func New(c Config) (*Service, error) {
	defer clear(c.Secrets[:])
	if c.Servers == nil {
		c.Servers = func() map[string]Server { return nil }
	}
	if c.Store == nil || c.Secrets == [32]byte{} || c.Pool == nil && c.PoolFault == nil {
		return nil, errors.New("storage: a store, a secret, and a pool or the reason why there is none are needed")
	}
	s := &Service{conf: c, memory: map[[16]byte]*memoryVolume{}, places: map[[16]byte]Place{}, lost: map[[16]byte]error{}, attached: map[[16]byte]*attachment{}, pending: map[[16]byte]due{},
		admitted: make(chan struct{}), done: make(chan struct{})}
	if err := s.loadPlaces(); err != nil {
		return nil, err
	}
	s.admit = sync.OnceFunc(func() { close(s.admitted) })
	if c.Keys != nil {
		ring, err := key.NewRing(*c.Keys)
		if err != nil {
			return nil, err
		}
		s.ring = ring
	}
	s.conf.Target.Notify, s.conf.Target.Erase = s.targetEvent, s.eraseForHost
	var err error
	if s.target, err = target.New(s.conf.Target); err != nil {
		return nil, err
	}
	go s.expire()
	return s, nil
}

// Close ends all for good: keys are zeroed, the host loses its volumes and its secrets.
// It is for quarantine too, and no error holds it up.
func (s *Service) Close() {
	if s.ring != nil {
		s.ring.Quarantine() // first, and without waiting for an operation that is under way
	}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return
	}
	s.closed = true
	close(s.done)
	s.forgetHost()
	clear(s.conf.Secrets[:])
	s.mu.Unlock()
	s.target.Close() // without the lock: it waits for an erase, which waits for the lock
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closeAll()
	for _, m := range s.memory {
		m.data.Close()
	}
	if s.conf.Pool != nil {
		s.conf.Pool.Close()
	}
}

// notify tells an event.
func (s *Service) notify(kind string, id [16]byte, err error) {
	if s.conf.Notify != nil {
		s.conf.Notify(Event{Kind: kind, Volume: id, Cycle: s.cycle, Err: err})
	}
}

// targetEvent passes on what the target tells.
func (s *Service) targetEvent(e target.Event) {
	if s.conf.Notify != nil {
		s.conf.Notify(Event{Kind: e.Kind, Remote: e.Remote, Host: e.HostNQN, Err: e.Err})
	}
}

// Trust has keys come from another key service from now on, or from none (nil). Without a
// key service in its Config a Service takes none.
func (s *Service) Trust(service *ecdsa.PublicKey) error {
	if s.ring == nil {
		return ErrNoService
	}
	return s.ring.Trust(service)
}

// Volumes lists all volumes, those of the pool first.
func (s *Service) Volumes() []State {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []State
	for _, b := range s.all() {
		all = append(all, s.state(b))
	}
	return all
}

// Volume tells how one stands.
func (s *Service) Volume(id [16]byte) (State, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, err := s.find(id)
	if err != nil {
		return State{}, err
	}
	return s.state(b), nil
}

// state is how a volume stands.
func (s *Service) state(b backing) State {
	st := State{Spec: b.spec(), Used: b.used()}
	if r, remote := b.(remoteVolume); remote {
		st.Fault = r.fault
	}
	if a := s.attached[st.ID]; a != nil {
		st.Attached, st.Namespace, st.Standing = true, a.namespace, a.lease.Standing()
		st.Left = s.ring.Left(a.lease)
	}
	return st
}

// Spaces tells what each kind has. A kind that the board does not have is missing.
func (s *Service) Spaces() map[Kind]Space {
	s.mu.Lock()
	defer s.mu.Unlock()
	spaces := map[Kind]Space{}
	if p := s.conf.Pool; p != nil {
		n := p.Space()
		spaces[Pool] = Space{int64(n.Total) * pool.ExtentSize, int64(n.Free) * pool.ExtentSize}
	}
	if s.conf.Memory > 0 {
		spaces[RAM] = Space{s.conf.Memory, s.conf.Memory - s.memoryTaken()}
	}
	return spaces
}

// usable refuses what comes after Close.
func (s *Service) usable() error {
	if s.closed {
		return ErrClosed
	}
	return nil
}

// settle makes sure that the store keeps what a volume operation has told it.
func (s *Service) settle() error {
	if err := s.conf.Store.Settle(); err != nil {
		return fmt.Errorf("%w: %w", ErrStore, err)
	}
	return nil
}

// A KeySource asks the key service for keys by itself: after the board's restart, and ahead
// of a lease's end.
type KeySource interface {
	// Key answers a volume's request (key.Request, encoded) with a grant and the wrapped
	// key. The source adds evidence, and asks for a standing lease.
	Key(ctx context.Context, volume [16]byte, request []byte) (grant, wrapped []byte, err error)
	// Confirm brings the confirmation of a grant.
	Confirm(ctx context.Context, grant, confirmation []byte) error
}

// secret is one end's of a host cycle.
func secret(into *dhchap.Secret, base *[32]byte, cycle uint64, end string) error {
	k, err := derive(base, cycle, end)
	if err != nil {
		return err
	}
	defer clear(k)
	return into.SetKey(dhchap.SHA256, k)
}
