// Package target serves volumes over NVMe/TCP: a discovery subsystem and one I/O
// subsystem, to hosts that authenticate.
//
// It follows the NVM Express Base Specification 2.0, the NVM Command Set Specification
// 1.0 and the TCP Transport Specification 1.0, and what Linux 6 expects of a controller
// (docs/nvme.md says which parts in detail). The formats are package wire's.
//
// # Who sees what
//
// A host is known by its NQN and the secrets that belong to it, and it sees the
// namespaces that are attached to that NQN, nobody else's. A name by itself proves
// nothing: every queue of the I/O subsystem authenticates by DH-HMAC-CHAP before it
// takes any other command, in both directions if the host was given a secret for that.
// Discovery needs no authentication and says the subsystem's name and address to hosts
// that are known by name. There is no mode without authentication, and no TLS: the wire
// must be private.
//
// # How it runs
//
// A connection is one queue. One goroutine reads a command, does it and answers, so an
// I/O costs no hand-over and no allocation: data is read from the socket into the
// connection's own buffer and written from it, header, data and response in one call.
// Where volumes make one wait, several such lanes share a connection (Config.Lanes): one
// reads while others work. Where volumes do not, and the connection lets it, the goroutine
// that receives for all connections does small commands itself (turn.go). Responses are gathered while more commands are waiting to be
// read, and sent at once when there are none.
//
// # What it takes
//
// Nothing that a peer says makes memory grow beyond the following, with the default
// configuration; a host that sends faster than volumes work is held back by TCP.
//
//	a connection before its Connect    17 KiB and a goroutine
//	an admin queue                     17 KiB, a controller 2 KiB
//	an I/O queue                       8 KiB + 128.5 KiB for each lane, and as much for each
//	                                   transfer by R2T under way, up to 4; 9 KiB for commands
//	                                   that wait for one
//
// Left out: reservations, asymmetric namespace access, namespace management, metadata and
// end-to-end protection, Copy, Verify, zoned and key-value command sets.
package target

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"nitro/nvme/dhchap"
	"nitro/nvme/wire"
)

// Limits that no configuration changes.
const (
	MaxHosts      = 64 // known at a time
	MaxNamespaces = 64 // the highest namespace identifier of a host
	maxEvents     = 4  // Async Event Requests that a controller holds (AERL + 1)
	maxErrors     = 8  // entries of a controller's error log (ELPE + 1)
	maxKeepAlive  = 10 * time.Minute
	// maxZeroes is the most that one Write Zeroes does, as a power of two pages of 4 KiB
	// (WZSL): 1 MiB, since an encrypted volume has to write it.
	maxZeroes = 8
	// discoveryIdle is how long a discovery controller without keep alive may be silent
	// (Base 2.0, section 3.1.2.3.2: two minutes).
	discoveryIdle = 2 * time.Minute
	page          = 4096
)

// A Config is what a target is made of. Numbers that are 0 get the default.
type Config struct {
	SubsystemNQN string         // the I/O subsystem
	Advertise    netip.AddrPort // where hosts find it, for the discovery log
	Serial       string         // at most 20 characters
	Model        string         // at most 40
	Firmware     string         // at most 8

	MaxTransfer int // bytes of one I/O: 4096 times a power of two, up to 1 MiB; 128 KiB
	InCapsule   int // bytes of a write's data that come with its command, 8192 to MaxTransfer; MaxTransfer
	Depth       int // entries of a queue, 2 to 1024; 128
	Queues      int // I/O queues of a controller, 1 to 16; 4
	Lanes       int // goroutines of an I/O queue, 1 to 16; 1
	Transfers   int // R2Ts of an I/O queue that may be open, 1 to 16; 4

	Connections int // 64, those of Pending included
	Pending     int // connections that are not yet authenticated; 16
	Controllers int // of one host; 4

	SetupLimit time.Duration // from a connection's start to its authentication; 30 s
	StallLimit time.Duration // for the rest of a PDU, or for a host to take an answer; 30 s
	EraseLimit time.Duration // of an erase; 1 minute

	Hashes []dhchap.Hash  // accepted, best first; SHA-256, SHA-384, SHA-512: all that there are
	Groups []dhchap.Group // accepted, best first; from 2048 bits up, the cheapest first

	// Erase makes all that volumes hold, and ever held, unreadable for good: a Format or
	// Sanitize of a host's. No I/O of theirs is under way, and none comes meanwhile. They may
	// have been detached in between. It may call the target, but for Close, which waits for
	// it. Nil: hosts cannot erase.
	Erase func(ctx context.Context, all []Namespace) error

	Kelvin func() uint16 // temperature for the SMART log; may be nil
	Notify func(Event)   // is told what goes on; may be nil. It must not block or call the target.
}

// What an Event is about.
const (
	EventRefused  = "refused"       // a connection or a Connect was refused
	EventFailed   = "auth-failed"   // an authentication failed
	EventOpened   = "associated"    // a host authenticated its admin queue
	EventClosed   = "disassociated" // a controller is gone
	EventProtocol = "protocol"      // a connection broke the transport's rules
)

// An Event is something that an operator's records should have.
type Event struct {
	Kind    string
	Remote  string // address of the peer, if there is one
	HostNQN string // as claimed; proven from EventOpened on
	Err     error  // why
}

// A Target serves namespaces. It is safe for use by several goroutines.
type Target struct {
	cfg     Config
	start   time.Time
	tick    atomic.Uint32 // seconds since start, from 1
	second  time.Duration // what a tick lasts
	done    chan struct{}
	exp     chan struct{} // held by the one that does modular exponentiations
	running sync.WaitGroup

	mu          sync.Mutex
	closed      bool
	hosts       map[string]*host
	controllers map[uint16]*controller
	lastID      uint16
	conns       map[*conn]bool
	listeners   map[net.Listener]bool
	pending     int
	generation  uint64 // of the discovery log
	free        [][]byte
	scratch     compareBuffer
}

// compareBuffer is what Compare reads volumes into, piece by piece.
type compareBuffer struct {
	sync.Mutex
	b [4 * page]byte
}

// New makes a target that knows no hosts yet.
func New(cfg Config) (*Target, error) { return newTarget(cfg, time.Second) }

func newTarget(cfg Config, second time.Duration) (*Target, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	t := &Target{cfg: cfg, start: time.Now(), second: second, done: make(chan struct{}), exp: make(chan struct{}, 1),
		hosts: map[string]*host{}, controllers: map[uint16]*controller{}, conns: map[*conn]bool{},
		listeners: map[net.Listener]bool{}, generation: 1}
	t.tick.Store(1)
	t.running.Go(t.watch)
	return t, nil
}

// complete fills in defaults and checks the rest.
func (c *Config) complete() error {
	if err := wire.CheckNQN(c.SubsystemNQN); err != nil || c.SubsystemNQN == wire.DiscoveryNQN {
		return fmt.Errorf("target: subsystem %q: %w", c.SubsystemNQN, wire.ErrNQN)
	}
	if len(c.Serial) > 20 || len(c.Model) > 40 || len(c.Firmware) > 8 {
		return errors.New("target: serial, model and firmware have at most 20, 40 and 8 characters")
	}
	for _, n := range []struct {
		name             string
		v                *int
		low, high, usual int
	}{
		{"MaxTransfer", &c.MaxTransfer, 2 * page, 1 << 20, 128 << 10},
		{"Depth", &c.Depth, 2, 1024, 128},
		{"Queues", &c.Queues, 1, 16, 4},
		{"Lanes", &c.Lanes, 1, 16, 1},
		{"Transfers", &c.Transfers, 1, 16, 4},
		{"Connections", &c.Connections, 2, 1024, 64},
		{"Pending", &c.Pending, 1, 1024, 16},
		{"Controllers", &c.Controllers, 1, 64, 4},
	} {
		if *n.v == 0 {
			*n.v = n.usual
		}
		if *n.v < n.low || *n.v > n.high {
			return fmt.Errorf("target: %s is %d: use %d to %d", n.name, *n.v, n.low, n.high)
		}
	}
	if c.MaxTransfer&(c.MaxTransfer-1) != 0 {
		return fmt.Errorf("target: MaxTransfer is %d: use a power of two", c.MaxTransfer)
	}
	if c.InCapsule == 0 {
		c.InCapsule = c.MaxTransfer
	}
	if c.InCapsule < wire.MaxInCapsule || c.InCapsule > c.MaxTransfer || c.InCapsule%16 != 0 {
		return fmt.Errorf("target: InCapsule is %d: use a multiple of 16 from %d to MaxTransfer", c.InCapsule, wire.MaxInCapsule)
	}
	return c.completeRest()
}

// completeRest does the same for times and ciphers.
func (c *Config) completeRest() error {
	for _, d := range []struct {
		v     *time.Duration
		usual time.Duration
	}{{&c.SetupLimit, 30 * time.Second}, {&c.StallLimit, 30 * time.Second}, {&c.EraseLimit, time.Minute}} {
		if *d.v == 0 {
			*d.v = d.usual
		}
		if *d.v < 0 {
			return fmt.Errorf("target: a limit of %v", *d.v)
		}
	}
	if len(c.Hashes) == 0 {
		c.Hashes = []dhchap.Hash{dhchap.SHA256, dhchap.SHA384, dhchap.SHA512}
	}
	if len(c.Groups) == 0 {
		c.Groups = []dhchap.Group{dhchap.FFDHE2048, dhchap.FFDHE3072, dhchap.FFDHE4096, dhchap.FFDHE6144, dhchap.FFDHE8192}
	}
	for _, h := range c.Hashes {
		if h.Size() == 0 {
			return fmt.Errorf("target: no hash function %d", h)
		}
	}
	for _, g := range c.Groups {
		if g.Size() == 0 {
			return fmt.Errorf("target: group %d: %w", g, dhchap.ErrGroup)
		}
	}
	return nil
}

// notify tells an event.
func (t *Target) notify(kind string, c *conn, nqn string, err error) {
	if t.cfg.Notify == nil {
		return
	}
	e := Event{Kind: kind, HostNQN: nqn, Err: err}
	if c != nil {
		e.Remote = c.remote
	}
	t.cfg.Notify(e)
}

// ErrTargetClosed is what Serve returns after Close.
var ErrTargetClosed = errors.New("target: closed")

// Serve takes connections from a listener, which it closes in the end, until Close or an
// error. A target may serve several listeners, such as ports 4420 and 8009.
func (t *Target) Serve(l net.Listener) error {
	defer l.Close()
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		return ErrTargetClosed
	}
	t.listeners[l] = true
	t.mu.Unlock()
	for {
		nc, err := l.Accept()
		if err == nil {
			t.accept(nc)
			continue
		}
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.listeners, l)
		if t.closed {
			return ErrTargetClosed
		}
		return fmt.Errorf("target: accept: %w", err)
	}
}

// errFull says that a connection is one too many.
var errFull = errors.New("target: too many connections")

// accept starts a connection, if it is not one too many.
func (t *Target) accept(nc net.Conn) {
	c := newConn(t, nc)
	t.mu.Lock()
	full := len(t.conns) >= t.cfg.Connections || t.pending >= t.cfg.Pending
	if full || t.closed {
		t.mu.Unlock()
		nc.Close()
		t.notify(EventRefused, c, "", errFull)
		return
	}
	t.conns[c] = true
	t.pending++
	t.running.Add(1)
	t.mu.Unlock()
	go func() {
		defer t.running.Done()
		c.serve()
	}()
}

// Close ends all connections, forgets the hosts and their secrets, and returns when
// nothing runs any more. The volumes stay their owner's to close.
func (t *Target) Close() error {
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		return nil
	}
	t.closed = true
	close(t.done)
	for l := range t.listeners {
		l.Close()
	}
	for c := range t.conns {
		c.nc.Close()
	}
	for _, h := range t.hosts {
		h.forget()
	}
	t.mu.Unlock()
	t.running.Wait()
	return nil
}

// watch counts seconds.
func (t *Target) watch() {
	ticker := time.NewTicker(t.second)
	defer ticker.Stop()
	for {
		select {
		case <-t.done:
			return
		case <-ticker.C:
			t.sweep()
		}
	}
}

// sweep begins another second, and ends connections and controllers that are late.
func (t *Target) sweep() {
	now := t.tick.Add(1)
	t.mu.Lock()
	defer t.mu.Unlock()
	for c := range t.conns {
		if why := c.late(now); why != nil {
			c.end(why)
		}
	}
	for _, k := range t.controllers {
		if k.expired(now) {
			k.end(errKeepAlive)
		}
	}
}

// ticks is a duration in ticks, rounded up, and one more since a tick may be almost over.
func ticks(d time.Duration) uint32 { return uint32((d+time.Second-1)/time.Second) + 1 }

// front is the room before a buffer's data for gathered responses and the data's own
// header; tail the room after it for a digest and a response.
const (
	front = 256
	tail  = 2*wire.DigestSize + wire.ResponsePDU + wire.DigestSize
)

// takeBuffer gives a buffer for data of MaxTransfer bytes.
func (t *Target) takeBuffer() []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n := len(t.free); n > 0 {
		b := t.free[n-1]
		t.free = t.free[:n-1]
		return b
	}
	return make([]byte, front+t.cfg.MaxTransfer+tail)
}

// maxFree bounds how many unused buffers are kept for the next queue.
const maxFree = 4

// giveBuffer takes a buffer back. Hosts' data does not stay in it.
func (t *Target) giveBuffer(b []byte) {
	clear(b)
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.free) < maxFree {
		t.free = append(t.free, b)
	}
}

// background is the context of what belongs to no namespace.
var background = context.Background()
