package target

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"nitro/nvme/wire"
)

// A controller is one association with a host: an admin queue and its I/O queues.
type controller struct {
	t         *Target
	host      *host
	id        uint16
	hostID    [16]byte
	discovery bool
	admin     *conn

	seen         atomic.Uint32 // tick of the last command
	enabled      atomic.Bool   // CC.EN
	writeThrough atomic.Bool   // the host switched the write cache off

	mu     sync.Mutex
	keep   uint32 // keep alive timeout, milliseconds; 0 for none
	config uint32 // CC
	ready  uint32 // CSTS
	queues [16 + 1]*conn
	events
	errors [maxErrors]wire.ErrorEntry // newest at count % maxErrors
	count  uint64                     // of errors
}

// errBusy says that a host has as many controllers as it may.
var errBusy = errors.New("target: the host has too many controllers")

// newController makes a controller for an admin queue; the target's mutex is held. The
// identifiers go round, so that a late I/O queue of a controller that is gone does not
// find another one.
func (t *Target) newController(c *conn, h *host, r *wire.Connect) (*controller, error) {
	discovery := r.SubsystemNQN == wire.DiscoveryNQN
	if t.count(h, discovery) >= t.cfg.Controllers {
		return nil, errBusy
	}
	for {
		t.lastID = t.lastID%0xffef + 1 // 1 to 0xffef: 0xfff0 and above are reserved
		if t.controllers[t.lastID] == nil {
			break
		}
	}
	k := &controller{t: t, host: h, id: t.lastID, hostID: r.HostID, discovery: discovery, admin: c, keep: r.KATO}
	k.seen.Store(t.tick.Load())
	t.controllers[k.id] = k
	return k, nil
}

// count counts a host's controllers of a kind. Those that have not authenticated do not
// count: anybody can claim to be the host. The target's mutex is held.
func (t *Target) count(h *host, discovery bool) (n int) {
	for _, k := range t.controllers {
		if k.host == h && k.discovery == discovery && k.admin.proven.Load() {
			n++
		}
	}
	return n
}

// expired reports whether the host has been silent for too long. Any command keeps an
// association alive (traffic based keep alive, Base 2.0, section 3.9.4).
func (k *controller) expired(now uint32) bool {
	k.mu.Lock()
	limit := time.Duration(k.keep) * time.Millisecond
	k.mu.Unlock()
	if limit == 0 {
		limit = discoveryIdle // only discovery controllers may do without
	}
	return now-k.seen.Load() > ticks(limit)
}

// end ends all connections of a controller.
func (k *controller) end(why error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.admin.end(why)
	for _, c := range k.queues {
		if c != nil {
			c.end(why)
		}
	}
}

// remove forgets a connection that has ended; with the admin queue, the controller and
// its other queues. The target's mutex is held.
func (k *controller) remove(c *conn) {
	if c.qid != 0 {
		k.mu.Lock()
		defer k.mu.Unlock()
		if k.queues[c.qid] == c {
			k.queues[c.qid] = nil
		}
		return
	}
	delete(k.t.controllers, k.id)
	k.end(errAdminGone)
}

// checkKeepAlive holds a keep alive timeout in milliseconds to the limits: NVMe/TCP needs
// one (TCP 1.0, section 3.1), except for discovery.
func checkKeepAlive(ms uint32, discovery bool) bool {
	return (ms != 0 || discovery) && time.Duration(ms)*time.Millisecond <= maxKeepAlive
}

// logError keeps what went wrong for the error log, if it says more than the status.
func (k *controller) logError(l *lane, status wire.Status) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.errors[k.count%maxErrors] = wire.ErrorEntry{Count: k.count + 1, SQID: l.c.qid, CID: l.cmd.CID, Status: status, LBA: l.cmd.LBA(), NSID: l.cmd.NSID}
	k.count++
}

// capabilities is CAP.
func (k *controller) capabilities() uint64 {
	return uint64(k.t.cfg.Depth-1) | wire.CapContiguous | 20<<wire.CapTimeout | wire.CapNVM
}

// configure takes a new CC (Base 2.0, section 3.1.3.5), and ends I/O queues when the
// controller is shut down or disabled.
func (k *controller) configure(v uint32) wire.Status {
	k.mu.Lock()
	defer k.mu.Unlock()
	was := k.config
	enable := v&wire.ConfigEnable != 0
	if enable && was&wire.ConfigEnable == 0 {
		// 64-byte commands and 16-byte completions, pages of 4 KiB, the NVM command set,
		// round robin: nothing else is offered.
		if v>>wire.ConfigSQES&0xf != 6 || v>>wire.ConfigCQES&0xf != 4 || v>>4&0x7 != 0 || v>>7&0xf != 0 || v>>11&0x7 != 0 {
			return wire.InvalidField | wire.DNR
		}
		k.ready = wire.StatusReady
	}
	if !enable {
		k.ready &^= wire.StatusReady
	}
	if v&wire.ConfigShutdown != 0 {
		k.ready |= wire.StatusShutdownComplete
	} else {
		k.ready &^= wire.StatusShutdownComplete
	}
	k.config = v
	up := enable && v&wire.ConfigShutdown == 0
	k.enabled.Store(enable)
	if !up {
		for i, c := range k.queues {
			if c != nil {
				c.end(errDone)
				k.queues[i] = nil // the host may use its identifier at once
			}
		}
	}
	return wire.Success
}
