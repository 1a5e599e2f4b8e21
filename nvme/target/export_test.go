package target

import (
	"context"
	"net"
	"testing"
	"time"

	"nitro/nvme/dhchap"
	"nitro/nvme/volume"
	"nitro/nvme/wire"
)

// NewFast makes a target whose seconds last less.
func NewFast(cfg Config, second time.Duration) (*Target, error) { return newTarget(cfg, second) }

// Sweep lets a second pass.
func (t *Target) Sweep() { t.sweep() }

// Counts gives how many connections, pending ones, controllers and unused buffers there
// are.
func (t *Target) Counts() (conns, pending, controllers, free int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.conns), t.pending, len(t.controllers), len(t.free)
}

// A Proven is a target whose queues need no authentication, which takes longer than all
// that a fuzzer does beside it.
type Proven struct {
	*Target
	Digest bool   // data digests on connections from now on
	Align  uint32 // of data to the host, bytes; 0 for 4
	host   *host
	k      *controller
}

// NewProven makes one with a host, a namespace, and a controller with its admin queue.
func NewProven(tb testing.TB, subsystem, nqn string, v volume.Volume) *Proven {
	erase := func(context.Context, []Namespace) error { return nil }
	t, err := New(Config{SubsystemNQN: subsystem, Connections: 1024, Pending: 1024, Controllers: 64, Erase: erase})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { t.Close() })
	var s dhchap.Secret
	if err := s.Generate(dhchap.SHA256); err != nil {
		tb.Fatal(err)
	}
	if err := t.AddHost(nqn, &s, nil); err != nil {
		tb.Fatal(err)
	}
	if err := t.Attach(nqn, Namespace{ID: 1, Volume: v, UUID: [16]byte{1}}); err != nil {
		tb.Fatal(err)
	}
	p := &Proven{Target: t, host: t.hosts[nqn]}
	p.Connect(true)
	p.k = t.controllers[1]
	return p
}

// Queue gives another I/O queue.
func (p *Proven) Queue() net.Conn {
	nc, _ := p.Connect(false)
	return nc
}

// Connect gives a new I/O queue, or a new controller's admin queue, and a channel that is
// closed when it has ended.
func (p *Proven) Connect(admin bool) (net.Conn, <-chan struct{}) {
	here, there := net.Pipe()
	return here, p.Serve(there, admin)
}

// Serve does the same with a connection that is there.
func (p *Proven) Serve(there net.Conn, admin bool) <-chan struct{} {
	c := newConn(p.Target, there)
	c.framing = wire.Framing{Alignment: 4, Target: true, MaxCapsule: wire.MaxInCapsule, DataDigest: p.Digest}
	c.align, c.depth, c.flow = max(p.Align, 4), 8, true
	t := p.Target
	t.mu.Lock()
	t.conns[c] = true
	t.pending++
	if admin {
		c.k, _ = t.newController(c, p.host, &wire.Connect{KATO: 60000})
		c.k.configure(wire.ConfigEnable | 6<<wire.ConfigSQES | 4<<wire.ConfigCQES)
	} else {
		c.k, c.qid = p.k, 1
		p.k.mu.Lock()
		p.k.queues[1] = c
		p.k.mu.Unlock()
	}
	t.mu.Unlock()
	l := &lane{c: c, buf: make([]byte, smallBuffer)}
	c.prove(l)
	ended := make(chan struct{})
	t.running.Go(func() {
		defer close(ended)
		c.end(l.run())
		c.lanes.Wait()
		c.release(l)
	})
	return ended
}
