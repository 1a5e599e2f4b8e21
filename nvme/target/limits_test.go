package target_test

import (
	"errors"
	"net"
	"testing"
	"time"

	"nitro/internal/hostile"
	"nitro/internal/pipes"
	"nitro/nvme/dhchap"
	"nitro/nvme/initiator"
	"nitro/nvme/target"
	"nitro/nvme/volume"
	"nitro/nvme/wire"
)

// TestConnections holds the target to its numbers: of connections, of those that have
// not authenticated, of controllers, and of a queue's commands.
func TestConnections(t *testing.T) {
	r := newRig(t, target.Config{Connections: 6, Pending: 3, Controllers: 2})
	refused := func(c *hostile.Peer) bool {
		var b [wire.ICSize]byte
		wire.ICReq{}.Encode(&b)
		c.Conn.Write(b[:]) // which the connection may take, as sockets do, before its end is seen
		return c.PDU() == nil
	}
	for range 3 {
		r.raw().Open()
	}
	if !refused(r.raw()) {
		t.Error("a fourth connection without authentication")
	}
	r.eventually("somebody is told", func() bool { return r.happened(target.EventRefused) })
}

// TestControllers: one host may have so many, and others are not in its way, nor are
// those who only claim to be it.
func TestControllers(t *testing.T) {
	r := newRig(t, target.Config{Controllers: 2})
	for range 3 {
		c := r.raw().Open()
		if e := c.Connect(hello(alice)); e.Status != wire.Success {
			t.Fatalf("who has not authenticated counts: %v", e.Status)
		}
	}
	one, _ := r.admin(alice)
	r.admin(alice)
	if e := r.raw().Open().Connect(hello(alice)); e.Status != wire.ConnectBusy {
		t.Errorf("a third controller: %v", e.Status)
	}
	r.admin(bob)
	one.Conn.Close()
	r.eventually("a controller is gone", func() bool { return r.happened(target.EventClosed) })
	r.admin(alice)
}

// TestQueueOverrun: more commands than the queue holds end the connection, before they
// take memory.
func TestQueueOverrun(t *testing.T) {
	r := newRig(t, target.Config{InCapsule: 8192, Transfers: 1, Depth: 4})
	c := r.raw().Open()
	if e := c.Connect(hello(alice)); e.Status != wire.Success {
		t.Fatal(e.Status)
	}
	r.authenticate(c, alice)
	c.Do(hostile.PropertySet(hostile.Enable), nil)
	q := r.raw().Open()
	h := hello(alice)
	h.QID, h.CNTLID, h.SQSize = 1, 1, 3
	if e := q.Connect(h); e.Status != wire.Success {
		t.Fatal(e.Status)
	}
	r.authenticate(q, alice)
	go func() {
		for cid := range uint16(6) {
			q.Conn.Write(hostile.Capsule(&wire.Command{Opcode: wire.IOWrite, CID: cid, NSID: 1, Flags: wire.FlagSGL, SGL: wire.SGLTransport, Length: 1024, CDW12: 1}, nil))
		}
	}()
	q.Ended("a queue of 4 with 6 commands", wire.FatalSequence, 0)
}

// TestEventRequests: four are held, a fifth is refused, one can be aborted.
func TestEventRequests(t *testing.T) {
	r := newRig(t, target.Config{})
	c, _ := r.admin(alice)
	for cid := range uint16(4) {
		c.Send(hostile.Capsule(&wire.Command{Opcode: wire.AdminAsyncEvent, CID: 100 + cid, Flags: wire.FlagSGL, SGL: wire.SGLTransport}, nil))
	}
	if e, _ := c.Do(wire.Command{Opcode: wire.AdminAsyncEvent}, nil); e.Status.Code() != wire.AsyncLimit {
		t.Errorf("a fifth: %v", e.Status)
	}
	if e, _ := c.Do(wire.Command{Opcode: wire.AdminAbort, CDW10: 102 << 16}, nil); e.CID != 102 || e.Status != wire.AbortRequested {
		t.Errorf("command %d: %v", e.CID, e.Status)
	}
	if e, _ := c.Completion(); e.Status != wire.Success || e.Result != 0 {
		t.Errorf("abort: %v, %d", e.Status, e.Result)
	}
	if e, _ := c.Do(wire.Command{Opcode: wire.AdminAbort, CDW10: 102 << 16}, nil); e.Status != wire.Success || e.Result != 1 {
		t.Errorf("abort of nothing: %v, %d", e.Status, e.Result)
	}
}

// TestPatience: the target waits for nobody for ever. Its seconds are short here, and
// nobody needs more of them than a slow machine takes.
func TestPatience(t *testing.T) {
	for _, c := range []struct {
		name   string
		config target.Config
		host   func(r *rig) net.Conn
		told   string
	}{
		{"silent from the start", target.Config{SetupLimit: 3 * time.Second}, func(r *rig) net.Conn { return r.raw().Conn }, target.EventRefused},
		{"no authentication", target.Config{SetupLimit: 3 * time.Second}, func(r *rig) net.Conn {
			c := r.raw().Open()
			c.Connect(hello(alice))
			return c.Conn
		}, target.EventRefused},
		{"half a header", target.Config{StallLimit: 3 * time.Second, SetupLimit: time.Hour}, func(r *rig) net.Conn {
			c := r.raw().Open()
			c.Send(make([]byte, 5))
			return c.Conn
		}, target.EventRefused},
		{"half the data", target.Config{StallLimit: 3 * time.Second, SetupLimit: time.Hour}, func(r *rig) net.Conn {
			c := r.raw().Open()
			var cmd wire.Command
			data := new([wire.ConnectSize]byte)
			h := hello(alice)
			h.Encode(&cmd, data)
			c.Send(hostile.Capsule(&cmd, data[:])[:600])
			return c.Conn
		}, target.EventRefused},
		{"takes no answer", target.Config{StallLimit: 3 * time.Second, SetupLimit: time.Hour}, func(r *rig) net.Conn {
			c := r.raw()
			var b [wire.ICSize]byte
			wire.ICReq{}.Encode(&b)
			c.Send(b[:])
			return c.Conn
		}, target.EventRefused},
		{"no keep alive", target.Config{SetupLimit: time.Hour}, func(r *rig) net.Conn {
			c := r.raw().Open()
			h := hello(alice)
			h.KATO = 3000
			c.Connect(h)
			return c.Conn
		}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRigPaced(t, c.config, second)
			nc := c.host(r)
			r.eventually("the connection ends", func() bool { n, p, k, _ := r.Counts(); return n == 0 && p == 0 && k == 0 })
			nc.SetDeadline(time.Now().Add(patience))
			r.eventually("somebody is told", func() bool { return c.told == "" || r.happened(c.told) })
		})
	}
}

// TestKeptAlive: commands of any queue keep an association alive, and silence ends it.
// Seconds pass here when the test says so.
func TestKeptAlive(t *testing.T) {
	r := newRigPaced(t, target.Config{}, time.Hour)
	c, id := r.admin(alice)
	q := r.queue(alice, id, 1)
	if e, _ := c.Do(wire.Command{Opcode: wire.AdminSetFeatures, CDW10: wire.FeatureKeepAlive, CDW11: 2500}, nil); e.Status != wire.Success {
		t.Fatal(e.Status)
	}
	if e, _ := c.Do(wire.Command{Opcode: wire.AdminGetFeatures, CDW10: wire.FeatureKeepAlive}, nil); e.Result != 2500 {
		t.Errorf("keep alive timeout %d", e.Result)
	}
	for name, cmd := range map[string]wire.Command{
		"none":       {Opcode: wire.AdminSetFeatures, CDW10: wire.FeatureKeepAlive},
		"11 minutes": {Opcode: wire.AdminSetFeatures, CDW10: wire.FeatureKeepAlive, CDW11: 660000},
	} {
		if e, _ := c.Do(cmd, nil); e.Status.Code() != wire.KeepAliveInvalid {
			t.Errorf("%s: %v", name, e.Status)
		}
	}
	for i := range 40 { // a second passes at most 3 times without a command
		for range i % 4 {
			r.Sweep()
		}
		queue, cmd := q, wire.Command{Opcode: wire.IOFlush, NSID: 1}
		if i%2 == 0 {
			queue, cmd = c, wire.Command{Opcode: wire.AdminKeepAlive}
		}
		if e, _ := queue.Do(cmd, nil); e.Status != wire.Success {
			t.Fatal(e.Status)
		}
	}
	if _, _, k, _ := r.Counts(); k != 1 {
		t.Errorf("%d controllers", k)
	}
	for range 5 {
		r.Sweep()
	}
	r.eventually("silence ends it", func() bool { n, _, k, _ := r.Counts(); return n == 0 && k == 0 })
	r.eventually("somebody is told", func() bool { return r.happened(target.EventClosed) })
}

// TestMemory: when all queues are gone, few buffers are kept.
func TestMemory(t *testing.T) {
	r := newRig(t, target.Config{Queues: 16, Lanes: 2})
	cfg := r.config(alice)
	cfg.Queues = 16
	c := r.connect(cfg)
	r.namespace(c, 1)
	c.Close()
	r.eventually("all is given back", func() bool { n, _, k, free := r.Counts(); return n == 0 && k == 0 && free <= 4 })
}

// TestNoAllocation: an I/O costs none, at either end.
func TestNoAllocation(t *testing.T) {
	if testing.CoverMode() != "" {
		t.Skip("coverage allocates")
	}
	r := newRig(t, target.Config{})
	n := r.namespace(r.connect(r.config(alice)), 1)
	p := make([]byte, 4096)
	for name, do := range map[string]func() error{
		"read":  func() error { return n.ReadAt(t.Context(), 0, p) },
		"write": func() error { return n.WriteAt(t.Context(), 0, p) },
	} {
		// What the initiator's own closures and the pipe take is not the target's.
		got := testing.AllocsPerRun(200, func() {
			if err := do(); err != nil {
				t.Fatal(err)
			}
		})
		if got > 0 {
			t.Errorf("%s: %v allocations", name, got)
		}
	}
}

// TestConfig refuses what cannot be.
func TestConfig(t *testing.T) {
	for name, c := range map[string]target.Config{
		"no subsystem":        {},
		"the discovery":       {SubsystemNQN: wire.DiscoveryNQN},
		"a long serial":       {SubsystemNQN: subsystem, Serial: "123456789012345678901"},
		"a crooked transfer":  {SubsystemNQN: subsystem, MaxTransfer: 100000},
		"a short transfer":    {SubsystemNQN: subsystem, MaxTransfer: 4096},
		"a short capsule":     {SubsystemNQN: subsystem, InCapsule: 4096},
		"a capsule too long":  {SubsystemNQN: subsystem, MaxTransfer: 16384, InCapsule: 32768},
		"a queue of one":      {SubsystemNQN: subsystem, Depth: 1},
		"many queues":         {SubsystemNQN: subsystem, Queues: 17},
		"many lanes":          {SubsystemNQN: subsystem, Lanes: 17},
		"the null group":      {SubsystemNQN: subsystem, Groups: []dhchap.Group{0}},
		"an unknown hash":     {SubsystemNQN: subsystem, Hashes: []dhchap.Hash{4}},
		"a negative limit":    {SubsystemNQN: subsystem, StallLimit: -1},
		"negative connection": {SubsystemNQN: subsystem, Connections: -1},
	} {
		if _, err := target.New(c); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// TestClosed: after Close nothing is served.
func TestClosed(t *testing.T) {
	r := newRig(t, target.Config{})
	c := r.connect(r.config(alice))
	n := r.namespace(c, 1)
	r.Close()
	if err := n.ReadAt(t.Context(), 0, make([]byte, 512)); !errors.Is(err, volume.ErrUnavailable) {
		t.Errorf("read: %v", err)
	}
	if _, err := initiator.Connect(t.Context(), r.config(alice)); err == nil {
		t.Error("connected")
	}
	if err := r.Serve(pipes.New()); err != target.ErrTargetClosed {
		t.Errorf("serve: %v", err)
	}
}
