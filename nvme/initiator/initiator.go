// Package initiator is the host's end of NVMe/TCP: it connects to a controller,
// authenticates in both directions, and gives namespaces as volumes.
//
// The controller is any that follows the NVM Express Base Specification 2.0 or an older
// one, the NVM Command Set Specification 1.0 and the TCP Transport Specification 1.0;
// Linux's is one. The formats are package wire's.
//
// When a connection is lost, or a command takes longer than its limit, the whole
// association ends and every call fails with volume.ErrUnavailable: whether, when and how
// often to connect again is the caller's business. A write that failed so may or may not
// have happened.
//
// A command costs no allocation. Each queue takes about 9 KiB, and three goroutines that
// mostly wait.
//
// Left out: multipath, several namespaces formats beside the one in use, metadata, TLS.
package initiator

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"nitro/nvme/dhchap"
	"nitro/nvme/volume"
	"nitro/nvme/wire"
)

// A Config says where to connect and as whom. Numbers that are 0 get the default.
type Config struct {
	Dial         func(ctx context.Context) (net.Conn, error) // for each queue
	SubsystemNQN string
	HostNQN      string
	HostID       [16]byte

	// Secret is what the host proves itself with; it is needed if the controller asks.
	// Opposite, if it is not nil, is what the controller has to prove itself with. They
	// are copied.
	Secret, Opposite *dhchap.Secret
	Hashes           []dhchap.Hash  // offered, best first; all
	Groups           []dhchap.Group // offered, best first; all but the null group

	HeaderDigest, DataDigest bool
	NoFlowControl            bool // of submission queues: fewer responses

	Queues    int           // I/O queues, 1 to 16; 1. None with a discovery controller
	Depth     int           // commands in flight on an I/O queue, 2 to 1024; 32
	InCapsule int           // most bytes of data sent with a command; as many as the controller takes
	KeepAlive time.Duration // 15 s; a discovery controller has none
	Limit     time.Duration // of one command; 30 s

	// Notify gets the results of Async Event Requests (wire.EventNamespaces and so on), on
	// a goroutine of its own. Without it, none are asked for.
	Notify func(result uint32)
}

// complete fills in defaults and checks the rest.
func (c *Config) complete() error {
	if err := wire.CheckNQN(c.HostNQN); err != nil {
		return fmt.Errorf("initiator: host %q: %w", c.HostNQN, err)
	}
	if err := wire.CheckNQN(c.SubsystemNQN); err != nil {
		return fmt.Errorf("initiator: subsystem %q: %w", c.SubsystemNQN, err)
	}
	if c.Queues == 0 {
		c.Queues = 1
	}
	if c.Depth == 0 {
		c.Depth = 32
	}
	if c.KeepAlive == 0 {
		c.KeepAlive = 15 * time.Second
	}
	if c.Limit == 0 {
		c.Limit = 30 * time.Second
	}
	if c.Queues < 1 || c.Queues > 16 || c.Depth < 2 || c.Depth > 1024 || c.KeepAlive < time.Second || c.Limit < 0 || c.Dial == nil || c.HostID == [16]byte{} {
		return errors.New("initiator: use 1 to 16 queues of 2 to 1024 commands, a keep alive of at least a second, a Dial and a HostID")
	}
	if len(c.Hashes) == 0 {
		c.Hashes = []dhchap.Hash{dhchap.SHA256, dhchap.SHA384, dhchap.SHA512}
	}
	if len(c.Groups) == 0 {
		c.Groups = []dhchap.Group{dhchap.FFDHE2048, dhchap.FFDHE3072, dhchap.FFDHE4096, dhchap.FFDHE6144, dhchap.FFDHE8192}
	}
	return nil
}

// A Controller is an association. It is safe for use by several goroutines.
type Controller struct {
	cfg              Config
	secret, opposite dhchap.Secret
	id               uint16
	identity         wire.Controller
	admin            *queue
	io               []*queue
	turn             atomic.Uint32 // of the I/O queues
	stop             chan struct{}
	running          sync.WaitGroup
	once             sync.Once
}

// Connect makes an association. ctx bounds that, and nothing later.
func Connect(ctx context.Context, cfg Config) (*Controller, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	c := &Controller{cfg: cfg, stop: make(chan struct{})}
	if cfg.Secret != nil {
		c.secret.Copy(cfg.Secret)
	}
	if cfg.Opposite != nil {
		c.opposite.Copy(cfg.Opposite)
	}
	err := c.connectAdmin(ctx)
	for q := 1; err == nil && q <= c.cfg.Queues && c.identity.Type != wire.ControllerDiscovery; q++ {
		err = c.connectQueue(ctx, uint16(q))
	}
	if err == nil && c.cfg.Notify != nil {
		err = c.listen(ctx)
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	if cfg.SubsystemNQN != wire.DiscoveryNQN {
		c.running.Go(c.keepAlive)
	}
	return c, nil
}

// adminDepth is what an admin queue has room for.
const adminDepth = 32

// connectAdmin connects the admin queue and enables the controller.
func (c *Controller) connectAdmin(ctx context.Context) (err error) {
	if c.admin, err = newQueue(ctx, c, 0, adminDepth); err != nil {
		return err
	}
	if err := c.connect(ctx, c.admin, wire.DynamicController); err != nil {
		return err
	}
	if err := c.enable(ctx); err != nil {
		return err
	}
	b := new([wire.IdentifySize]byte)
	if _, err := c.Admin(ctx, &wire.Command{Opcode: wire.AdminIdentify, CDW10: wire.CNSController}, nil, b[:]); err != nil {
		return fmt.Errorf("identify controller: %w", err)
	}
	c.identity = wire.DecodeController(b)
	if c.identity.CNTLID != c.id {
		return fmt.Errorf("initiator: controller %d says that it is %d", c.id, c.identity.CNTLID)
	}
	if c.identity.Type == wire.ControllerDiscovery || c.cfg.SubsystemNQN == wire.DiscoveryNQN {
		c.identity.Type = wire.ControllerDiscovery // revisions before 1.4 do not say
		return nil
	}
	n := uint32(c.cfg.Queues - 1)
	got, err := c.Admin(ctx, &wire.Command{Opcode: wire.AdminSetFeatures, CDW10: wire.FeatureQueues, CDW11: n | n<<16}, nil, nil)
	if err != nil {
		return fmt.Errorf("number of queues: %w", err)
	}
	c.cfg.Queues = min(c.cfg.Queues, int(got&0xffff)+1, int(got>>16&0xffff)+1)
	return nil
}

// enable brings a controller to life (Base 2.0, section 3.5.2).
func (c *Controller) enable(ctx context.Context) error {
	const config = wire.ConfigEnable | 6<<wire.ConfigSQES | 4<<wire.ConfigCQES
	cap, err := c.property(ctx, wire.PropertyCAP, 1)
	if err != nil {
		return err
	}
	c.cfg.Depth = min(c.cfg.Depth, int(cap&0xffff)+1)
	if _, err := c.Admin(ctx, &wire.Command{Opcode: wire.Fabrics, NSID: wire.FabricsPropertySet, CDW11: wire.PropertyCC, CDW12: config}, nil, nil); err != nil {
		return fmt.Errorf("enable: %w", err)
	}
	limit := time.Duration(cap>>wire.CapTimeout&0xff) * 500 * time.Millisecond
	for start := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		status, err := c.property(ctx, wire.PropertyCSTS, 0)
		switch {
		case err != nil:
			return err
		case status&wire.StatusFatal != 0:
			return fmt.Errorf("initiator: controller failed: CSTS %#x", status)
		case status&wire.StatusReady != 0:
			return nil
		case time.Since(start) > limit || ctx.Err() != nil:
			return fmt.Errorf("initiator: controller not ready after %v: CSTS %#x", time.Since(start), status)
		}
	}
}

// property reads a property of 4 bytes, or of 8 with size 1.
func (c *Controller) property(ctx context.Context, offset, size uint32) (uint64, error) {
	v, err := c.Admin(ctx, &wire.Command{Opcode: wire.Fabrics, NSID: wire.FabricsPropertyGet, CDW10: size, CDW11: offset}, nil, nil)
	if err != nil {
		return 0, fmt.Errorf("property %#x: %w", offset, err)
	}
	return v, nil
}

// connectQueue connects an I/O queue.
func (c *Controller) connectQueue(ctx context.Context, id uint16) error {
	q, err := newQueue(ctx, c, id, c.cfg.Depth)
	if err != nil {
		return err
	}
	c.io = append(c.io, q)
	if err := c.connect(ctx, q, c.id); err != nil {
		return err
	}
	q.inCapsule = max(0, int(c.identity.IOCCSZ)*16-wire.CommandSize)
	if c.cfg.InCapsule > 0 {
		q.inCapsule = min(q.inCapsule, c.cfg.InCapsule)
	}
	return nil
}

// connect does a Connect and the authentication that it asks for.
func (c *Controller) connect(ctx context.Context, q *queue, controller uint16) error {
	r := wire.Connect{QID: q.id, SQSize: uint16(len(q.slots) - 1), HostID: c.cfg.HostID, CNTLID: controller,
		SubsystemNQN: c.cfg.SubsystemNQN, HostNQN: c.cfg.HostNQN}
	if c.cfg.SubsystemNQN != wire.DiscoveryNQN && q.id == 0 {
		r.KATO = uint32(c.cfg.KeepAlive / time.Millisecond)
	}
	if c.cfg.NoFlowControl {
		r.Attributes |= wire.ConnectNoFlowControl
	}
	var cmd wire.Command
	data := new([wire.ConnectSize]byte)
	r.Encode(&cmd, data)
	result, err := q.do(ctx, &cmd, data[:], nil)
	if err != nil {
		return fmt.Errorf("initiator: connect queue %d: %w", q.id, err)
	}
	if q.id == 0 {
		c.id = uint16(result)
	}
	if result>>16 == 0 {
		if !c.opposite.Empty() {
			return fmt.Errorf("initiator: queue %d: %w: the controller does not authenticate", q.id, ErrAuth)
		}
		return nil
	}
	if err := c.authenticate(ctx, q); err != nil {
		return fmt.Errorf("initiator: queue %d: %w", q.id, err)
	}
	return nil
}

// listen has the controller tell of events.
func (c *Controller) listen(ctx context.Context) error {
	_, err := c.Admin(ctx, &wire.Command{Opcode: wire.AdminSetFeatures, CDW10: wire.FeatureAsyncEvents, CDW11: c.identity.OAES}, nil, nil)
	if err != nil {
		return fmt.Errorf("asynchronous events: %w", err)
	}
	c.running.Go(func() {
		for {
			result, err := c.admin.do(context.Background(), &wire.Command{Opcode: wire.AdminAsyncEvent}, nil, nil)
			if err != nil {
				return
			}
			c.cfg.Notify(uint32(result))
		}
	})
	return nil
}

// keepAlive tells the controller that the host lives, twice in its timeout, and ends the
// association when a queue has.
func (c *Controller) keepAlive() {
	ticker := time.NewTicker(c.cfg.KeepAlive / 2)
	defer ticker.Stop()
	for {
		select {
		case <-c.stop:
			return
		case <-c.admin.gone:
		case <-ticker.C:
			if _, err := c.Admin(context.Background(), &wire.Command{Opcode: wire.AdminKeepAlive}, nil, nil); err == nil {
				continue
			}
		}
		for _, q := range c.io {
			q.fail(errAdminGone)
		}
		return
	}
}

// errAdminGone says that an association ended with its admin queue.
var errAdminGone = fmt.Errorf("%w: the admin queue is gone", volume.ErrUnavailable)

// Admin does an admin or fabrics command: out is the data that goes to the controller, in
// has room for what comes. It gives the completion's result. The error is a wire.Status
// if the controller refuses.
func (c *Controller) Admin(ctx context.Context, cmd *wire.Command, out, in []byte) (uint64, error) {
	return c.admin.do(ctx, cmd, out, in)
}

// IO does an I/O command on one of the I/O queues.
func (c *Controller) IO(ctx context.Context, cmd *wire.Command, out, in []byte) (uint64, error) {
	return c.io[int(c.turn.Add(1))%len(c.io)].do(ctx, cmd, out, in)
}

// ID is the controller's identifier, and Identity what it says of itself.
func (c *Controller) ID() uint16                { return c.id }
func (c *Controller) Identity() wire.Controller { return c.identity }

// Gone is closed when the association's admin queue has ended.
func (c *Controller) Gone() <-chan struct{} { return c.admin.gone }

// Namespaces lists the namespaces that there are for this host.
func (c *Controller) Namespaces(ctx context.Context) ([]uint32, error) {
	return c.list(ctx, &wire.Command{Opcode: wire.AdminIdentify, CDW10: wire.CNSActiveNamespaces})
}

// ChangedNamespaces lists those that came or went since it was asked last.
func (c *Controller) ChangedNamespaces(ctx context.Context) ([]uint32, error) {
	return c.list(ctx, &wire.Command{Opcode: wire.AdminGetLogPage, NSID: 0xffffffff, CDW10: wire.LogChangedNamespaces | (wire.ChangedSize/4-1)<<16})
}

// list reads a namespace list.
func (c *Controller) list(ctx context.Context, cmd *wire.Command) ([]uint32, error) {
	b := new([wire.IdentifySize]byte)
	if _, err := c.Admin(ctx, cmd, nil, b[:]); err != nil {
		return nil, err
	}
	return wire.Namespaces(b), nil
}

// maxEntries bounds a discovery log page.
const maxEntries = 64

// Discover reads the log of a discovery controller.
func (c *Controller) Discover(ctx context.Context) ([]wire.Entry, error) {
	for range 3 { // the log may change while it is read
		header := new([wire.DiscoveryHeader]byte)
		if err := c.Log(ctx, wire.LogDiscovery, 0, header[:]); err != nil {
			return nil, err
		}
		generation, count, format := wire.DecodeDiscoveryHeader(header)
		if format != 0 || count > maxEntries {
			return nil, fmt.Errorf("initiator: discovery log of format %d with %d entries: at most %d of format 0 are read", format, count, maxEntries)
		}
		b := make([]byte, wire.DiscoveryHeader+count*wire.DiscoveryEntry)
		if err := c.Log(ctx, wire.LogDiscovery, 0, b); err != nil {
			return nil, err
		}
		if again, _, _ := wire.DecodeDiscoveryHeader((*[wire.DiscoveryHeader]byte)(b)); again != generation {
			continue
		}
		entries := make([]wire.Entry, count)
		for i := range entries {
			entries[i].Decode((*[wire.DiscoveryEntry]byte)(b[wire.DiscoveryHeader+i*wire.DiscoveryEntry:]))
		}
		return entries, nil
	}
	return nil, errors.New("initiator: the discovery log changes all the time")
}

// Log reads a log page from an offset in bytes.
func (c *Controller) Log(ctx context.Context, id uint8, offset uint64, b []byte) error {
	n := uint32(len(b)/4 - 1)
	_, err := c.Admin(ctx, &wire.Command{Opcode: wire.AdminGetLogPage, NSID: 0xffffffff, CDW10: uint32(id) | n<<16, CDW11: n >> 16,
		CDW12: uint32(offset), CDW13: uint32(offset >> 32)}, nil, b)
	return err
}

// closeLimit is how long a shutdown may take.
const closeLimit = 2 * time.Second

// Close shuts the controller down and ends the association. Calls that are under way
// fail.
func (c *Controller) Close() error {
	c.once.Do(func() {
		close(c.stop)
		for _, q := range c.io {
			q.fail(volume.ErrClosed)
			<-q.gone
		}
		if c.admin != nil {
			c.shutDown()
			c.admin.fail(volume.ErrClosed)
			<-c.admin.gone
		}
		c.running.Wait()
		c.secret.Zero()
		c.opposite.Zero()
	})
	return nil
}

// shutDown says that the association ends (Base 2.0, section 3.6.2), if it got so far as
// to have one.
func (c *Controller) shutDown() {
	if c.identity.CNTLID == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeLimit)
	defer cancel()
	const config = wire.ConfigEnable | 1<<14 | 6<<wire.ConfigSQES | 4<<wire.ConfigCQES
	// Whether it is heard makes no difference: the connection ends.
	c.Admin(ctx, &wire.Command{Opcode: wire.Fabrics, NSID: wire.FabricsPropertySet, CDW11: wire.PropertyCC, CDW12: config}, nil, nil)
}
