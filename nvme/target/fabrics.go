package target

import (
	"fmt"

	"nitro/nvme/wire"
)

// fabrics does a fabrics command.
func (l *lane) fabrics() error {
	c := l.c
	kind := l.cmd.FabricsType()
	if kind == wire.FabricsConnect {
		return l.connect()
	}
	if c.k == nil {
		return l.finish(wire.CommandSequence|wire.DNR, 0)
	}
	switch kind {
	case wire.FabricsAuthSend:
		return l.authSend()
	case wire.FabricsAuthReceive:
		return l.authReceive()
	}
	if !c.proven.Load() {
		return l.finish(wire.AuthRequired|wire.DNR, 0)
	}
	switch {
	case kind == wire.FabricsPropertyGet && c.qid == 0:
		return l.propertyGet()
	case kind == wire.FabricsPropertySet && c.qid == 0:
		return l.propertySet()
	case kind == wire.FabricsDisconnect && c.qid != 0:
		if err := l.finish(wire.Success, 0); err != nil {
			return err
		}
		if err := c.flush(); err != nil {
			return err
		}
		c.linger()
		return errDone
	}
	return l.finish(wire.InvalidOpcode|wire.DNR, 0)
}

// Offsets of a Connect's fields for its result, which says what was wrong (Base 2.0,
// section 6.3, figure 383): bit 16 means that the offset is in the data.
const (
	atSQSize       = 44
	atQID          = 42
	atKATO         = 48
	atRecordFormat = 40
	inData         = 1 << 16
	atHostID       = inData
	atCNTLID       = inData | 16
	atSubsystem    = inData | 256
	atHost         = inData | 512
)

// adminDepth is the least that an admin queue may have (Base 2.0, figure 265: ASQSZ).
const adminDepth = 32

// connect does a Connect.
func (l *lane) connect() error {
	c := l.c
	if c.k != nil {
		return l.finish(wire.CommandSequence|wire.DNR, 0)
	}
	if len(l.data) != wire.ConnectSize {
		return l.finish(wire.DataSGLLength|wire.DNR, 0)
	}
	r := wire.DecodeConnect(&l.cmd, (*[wire.ConnectSize]byte)(l.data))
	status, result := l.checkConnect(&r)
	if status == wire.Success {
		status, result = c.associate(&r)
	}
	if status != wire.Success {
		c.t.notify(EventRefused, c, r.HostNQN, fmt.Errorf("target: connect to %q: %w", r.SubsystemNQN, status))
		return l.finish(status, uint64(result))
	}
	if c.k.discovery {
		c.prove(l)
		return l.finish(wire.Success, uint64(c.k.id))
	}
	return l.finish(wire.Success, uint64(c.k.id)|wire.ConnectAuthRequired)
}

// checkConnect holds a Connect to what it may ask for, and says where it does not.
func (l *lane) checkConnect(r *wire.Connect) (wire.Status, uint32) {
	cfg := &l.c.t.cfg
	discovery := r.SubsystemNQN == wire.DiscoveryNQN
	depth := cfg.Depth
	if r.QID == 0 {
		depth = max(depth, adminDepth)
	}
	switch {
	case r.RecordFormat != 0:
		return wire.ConnectFormat | wire.DNR, atRecordFormat
	case !discovery && r.SubsystemNQN != cfg.SubsystemNQN:
		return wire.ConnectParameters | wire.DNR, atSubsystem
	case wire.CheckNQN(r.HostNQN) != nil:
		return wire.ConnectParameters | wire.DNR, atHost
	case r.HostID == [16]byte{}:
		return wire.ConnectParameters | wire.DNR, atHostID
	case int(r.QID) > cfg.Queues || discovery && r.QID != 0:
		return wire.ConnectParameters | wire.DNR, atQID
	case r.SQSize == 0 || int(r.SQSize) >= depth:
		return wire.ConnectParameters | wire.DNR, atSQSize
	case r.QID == 0 && r.CNTLID != wire.DynamicController:
		return wire.ConnectParameters | wire.DNR, atCNTLID
	case r.QID == 0 && !checkKeepAlive(r.KATO, discovery):
		return wire.KeepAliveInvalid | wire.DNR, atKATO
	}
	return wire.Success, 0
}

// associate makes a controller for an admin queue, or finds an I/O queue's.
func (c *conn) associate(r *wire.Connect) (wire.Status, uint32) {
	t := c.t
	t.mu.Lock()
	defer t.mu.Unlock()
	h := t.hosts[r.HostNQN]
	if h == nil {
		return wire.ConnectHost | wire.DNR, atHost
	}
	k := t.controllers[r.CNTLID]
	if r.QID == 0 {
		var err error
		if k, err = t.newController(c, h, r); err != nil {
			return wire.ConnectBusy, 0
		}
	} else if k == nil || k.host != h || k.hostID != r.HostID || k.discovery || !k.admin.proven.Load() {
		return wire.ConnectParameters | wire.DNR, atCNTLID
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if r.QID != 0 {
		if !k.enabled.Load() || k.queues[r.QID] != nil {
			return wire.CommandSequence | wire.DNR, atQID
		}
		k.queues[r.QID] = c
	}
	c.k, c.qid = k, r.QID
	c.depth = uint32(r.SQSize) + 1
	if c.flow = r.Attributes&wire.ConnectNoFlowControl == 0; c.flow {
		c.head.Store(1 % c.depth) // the Connect itself
	}
	return wire.Success, 0
}

// propertyGet reads a property.
func (l *lane) propertyGet() error {
	k := l.c.k
	long := l.cmd.CDW10&7 == 1 // ATTRIB: 8 bytes
	k.mu.Lock()
	config, ready := k.config, k.ready
	k.mu.Unlock()
	var v uint64
	switch l.cmd.CDW11 {
	case wire.PropertyCAP:
		if v = k.capabilities(); !long {
			return l.finish(wire.InvalidField|wire.DNR, 0)
		}
		return l.finish(wire.Success, v)
	case wire.PropertyVS:
		v = wire.Version
	case wire.PropertyCC:
		v = uint64(config)
	case wire.PropertyCSTS:
		v = uint64(ready)
	default:
		return l.finish(wire.InvalidField|wire.DNR, 0)
	}
	if long {
		return l.finish(wire.InvalidField|wire.DNR, 0)
	}
	return l.finish(wire.Success, v)
}

// propertySet writes one: only CC can be.
func (l *lane) propertySet() error {
	if l.cmd.CDW10&7 != 0 || l.cmd.CDW11 != wire.PropertyCC {
		return l.finish(wire.InvalidField|wire.DNR, 0)
	}
	return l.finish(l.c.k.configure(l.cmd.CDW12), 0)
}
