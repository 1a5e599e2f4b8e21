package dhcp

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/iana"
)

// Time-outs of RFC 2131 section 4.1 and 4.4.5.
const (
	firstWait = 4 * time.Second  // for an answer; doubled each time
	lastWait  = 64 * time.Second // at most
	tries     = 4                // of a request, before it starts again
	minRetry  = 60 * time.Second // between requests for more time
	declined  = 10 * time.Second // wait after DHCPDECLINE (section 3.1, 5)
	firstRest = time.Second      // before a new start after a refusal; doubled each time
)

// queued is how many answers wait to be looked at; more are dropped.
const queued = 8

// Broadcast is where messages go that are for every server.
var Broadcast = netip.AddrFrom4([4]byte{255, 255, 255, 255})

// A Config tells a client who it is and what it works with.
type Config struct {
	HardwareAddr net.HardwareAddr // Ethernet, 6 bytes
	Hostname     string           // told to the server in option 12; "" tells none

	// Send sends a UDP payload from port 68 to port 67 of a server or to
	// Broadcast. The source address is from: unspecified as long as there is no
	// lease. Lost messages are sent again, so an error is not reported back.
	Send func(payload []byte, from, to netip.Addr)

	// InUse asks the wire whether another host has an address, and takes a
	// second or so for it. A nil InUse says no.
	InUse func(ctx context.Context, a netip.Addr) bool

	// Changed is told of a new or changed lease, and with nil that the address
	// may not be used any longer.
	Changed func(*Lease)
}

// A Client keeps a lease.
type Client struct {
	config   Config
	answers  chan *message
	restarts chan struct{}
	lease    *Lease // the present one; Run's own
	rest     time.Duration
	refused  atomic.Uint64
}

// NewClient gives a client that does nothing until Run.
func NewClient(c Config) *Client {
	return &Client{config: c, answers: make(chan *message, queued), restarts: make(chan struct{}, 1)}
}

// Refused counts answers that were dropped because they were malformed, absurd or
// not for us.
func (c *Client) Refused() uint64 { return c.refused.Load() }

// Receive takes the payload of a datagram that came to port 68. It does not wait
// and does not keep the slice.
func (c *Client) Receive(payload []byte) {
	m, err := parse(payload, c.config.HardwareAddr)
	if err != nil {
		c.refused.Add(1)
		return
	}
	select {
	case c.answers <- m:
	default:
		c.refused.Add(1)
	}
}

// Restart tells the client that the link has come back, maybe to another network:
// it asks at once whether its address still holds.
func (c *Client) Restart() {
	select {
	case c.restarts <- struct{}{}:
	default:
	}
}

// Run gets a lease and keeps it until the context ends. The last lease is then
// given up without a word to the server.
func (c *Client) Run(ctx context.Context) {
	for ctx.Err() == nil {
		switch c.acquire(ctx) {
		case answered:
			c.rest = 0
			c.hold(ctx)
		case restarted: // anew, at once
		default:
			c.rest = min(max(2*c.rest, firstRest), lastWait)
			c.pause(ctx, c.rest)
		}
	}
	c.set(nil)
}

// set replaces the lease.
func (c *Client) set(l *Lease) {
	if l == nil && c.lease == nil {
		return
	}
	c.lease = l
	c.config.Changed(l)
}

// acquire gets a lease: the one that there was if its server still gives it
// (INIT-REBOOT), else a new one (INIT, SELECTING, REQUESTING). The outcome is answered
// where there is one. When the link has come back it is restarted, and all begins anew
// with another transaction number: what was offered or answered before may be another
// network's, and what the client asked of that network this one has not heard.
func (c *Client) acquire(ctx context.Context) outcome {
	if c.lease != nil && time.Now().Before(c.lease.Expires()) {
		switch l, why := c.request(ctx, c.lease, true, 2); why {
		case answered:
			c.set(l)
			return why
		case nak, ended:
			c.set(nil)
			return why
		case restarted:
			return why
		}
	}
	// It has expired, or whoever gave it is not here any longer.
	c.set(nil)
	offer, why := c.discover(ctx)
	if why != answered {
		return why
	}
	l, why := c.request(ctx, offer, false, tries)
	if why != answered {
		return why
	}
	if c.config.InUse != nil && c.config.InUse(ctx, l.Address.Addr()) {
		c.decline(l)
		c.pause(ctx, declined)
		return nak
	}
	c.set(l)
	return answered
}

// discover asks for offers until there is a good one, or the context ends, or the
// link has come back.
func (c *Client) discover(ctx context.Context) (*Lease, outcome) {
	xid, begin := newID(), time.Now()
	for wait := firstWait; ; wait = min(2*wait, lastWait) {
		m := c.message(dhcpv4.MessageTypeDiscover, xid, begin)
		c.config.Send(m.ToBytes(), netip.IPv4Unspecified(), Broadcast)
		offer, why := c.await(ctx, time.Now().Add(jitter(wait)), func(m *message) bool {
			return m.kind == dhcpv4.MessageTypeOffer && m.xid == xid
		})
		switch why {
		case answered:
			return offer.lease, why
		case ended, restarted:
			return nil, why
		}
	}
}

// request asks for a lease that was offered, or for one that there was before
// (reboot), a number of times. It gives the lease where it is answered; nak tells that
// a server refused it.
func (c *Client) request(ctx context.Context, want *Lease, reboot bool, times int) (*Lease, outcome) {
	xid, begin := newID(), time.Now()
	for wait := firstWait; times > 0; wait, times = min(2*wait, lastWait), times-1 {
		m := c.message(dhcpv4.MessageTypeRequest, xid, begin)
		m.UpdateOption(dhcpv4.OptRequestedIPAddress(want.Address.Addr().AsSlice()))
		if !reboot {
			m.UpdateOption(dhcpv4.OptServerIdentifier(want.Server.AsSlice()))
		}
		sent := time.Now()
		c.config.Send(m.ToBytes(), netip.IPv4Unspecified(), Broadcast)
		a, why := c.await(ctx, sent.Add(jitter(wait)), func(m *message) bool {
			return m.xid == xid && (reboot || m.server == want.Server) && answers(m, want)
		})
		switch {
		case why == answered && a.kind == dhcpv4.MessageTypeNak:
			return nil, nak
		case why == answered:
			return a.started(sent), why
		case why != timeout:
			return nil, why
		}
	}
	return nil, timeout
}

// hold keeps a lease (BOUND, RENEWING, REBINDING) until it is over, refused, the
// link has come back, or the context ends.
func (c *Client) hold(ctx context.Context) {
	for {
		l := c.lease
		nobody := func(*message) bool { return false }
		switch _, why := c.await(ctx, l.Start.Add(l.Renew), nobody); why {
		case ended, restarted:
			return
		}
		switch c.prolong(ctx, l) {
		case answered:
			continue
		case ended, restarted, timeout: // acquire sees what the lease is still worth
			return
		case nak:
			c.set(nil)
			c.rest = firstRest
			c.pause(ctx, c.rest)
			return
		}
	}
}

// prolong asks for more time: the lease's own server until T2, then every one,
// until the lease expires. Between two requests lies half the time that is left,
// and a minute at least (RFC 2131 section 4.4.5).
func (c *Client) prolong(ctx context.Context, l *Lease) outcome {
	xid, begin := newID(), time.Now()
	for {
		now := time.Now()
		if !now.Before(l.Expires()) {
			return timeout
		}
		to, limit := l.Server, l.Start.Add(l.Rebind)
		rebinding := !now.Before(limit)
		if rebinding {
			to, limit = Broadcast, l.Expires()
		}
		m := c.message(dhcpv4.MessageTypeRequest, xid, begin)
		m.ClientIPAddr = l.Address.Addr().AsSlice()
		c.config.Send(m.ToBytes(), l.Address.Addr(), to)

		next := now.Add(max(limit.Sub(now)/2, minRetry))
		if next.After(limit) {
			next = limit
		}
		a, why := c.await(ctx, next, func(m *message) bool {
			return m.xid == xid && (rebinding || m.server == l.Server) && answers(m, l)
		})
		switch {
		case why == answered && a.kind == dhcpv4.MessageTypeNak:
			return nak
		case why == answered:
			c.set(a.started(now))
			return answered
		case why != timeout:
			return why
		}
	}
}

// decline tells the server that another host has the address.
func (c *Client) decline(l *Lease) {
	m := c.message(dhcpv4.MessageTypeDecline, newID(), time.Now())
	m.UpdateOption(dhcpv4.OptRequestedIPAddress(l.Address.Addr().AsSlice()))
	m.UpdateOption(dhcpv4.OptServerIdentifier(l.Server.AsSlice()))
	c.config.Send(m.ToBytes(), netip.IPv4Unspecified(), Broadcast)
}

// An outcome is how a wait ended.
type outcome int

const (
	answered outcome = iota
	timeout
	restarted
	ended
	nak
)

// await gives the first answer that is wanted.
func (c *Client) await(ctx context.Context, until time.Time, wanted func(*message) bool) (*message, outcome) {
	t := time.NewTimer(time.Until(until))
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil, ended
		case <-c.restarts:
			return nil, restarted
		case <-t.C:
			return nil, timeout
		case m := <-c.answers:
			if wanted(m) {
				return m, answered
			}
			c.refused.Add(1)
		}
	}
}

// pause lets time pass, less if the link comes back.
func (c *Client) pause(ctx context.Context, d time.Duration) {
	c.await(ctx, time.Now().Add(d), func(*message) bool { return false })
}

// answers tells whether a message grants a lease's address, or refuses it.
func answers(m *message, l *Lease) bool {
	return m.kind == dhcpv4.MessageTypeNak ||
		m.kind == dhcpv4.MessageTypeAck && m.lease.Address.Addr() == l.Address.Addr()
}

// started gives the lease of an ACK, which counts from the request on.
func (m *message) started(at time.Time) *Lease {
	m.lease.Start = at
	return m.lease
}

// message begins a message of a kind.
func (c *Client) message(kind dhcpv4.MessageType, xid dhcpv4.TransactionID, begin time.Time) *dhcpv4.DHCPv4 {
	m := &dhcpv4.DHCPv4{
		OpCode: dhcpv4.OpcodeBootRequest, HWType: iana.HWTypeEthernet,
		TransactionID: xid, NumSeconds: uint16(min(time.Since(begin)/time.Second, 0xffff)),
		ClientIPAddr: net.IPv4zero, YourIPAddr: net.IPv4zero, ServerIPAddr: net.IPv4zero, GatewayIPAddr: net.IPv4zero,
		ClientHWAddr: c.config.HardwareAddr, Options: dhcpv4.Options{},
	}
	m.UpdateOption(dhcpv4.OptMessageType(kind))
	m.UpdateOption(dhcpv4.OptClientIdentifier(append([]byte{byte(iana.HWTypeEthernet)}, c.config.HardwareAddr...)))
	if kind != dhcpv4.MessageTypeDecline {
		m.UpdateOption(dhcpv4.OptMaxMessageSize(maxMessage))
		m.UpdateOption(dhcpv4.OptParameterRequestList(dhcpv4.OptionSubnetMask, dhcpv4.OptionRouter,
			dhcpv4.OptionRenewTimeValue, dhcpv4.OptionRebindingTimeValue))
		if c.config.Hostname != "" {
			m.UpdateOption(dhcpv4.OptHostName(c.config.Hostname))
		}
	}
	return m
}

// newID gives a transaction number that others cannot guess.
func newID() (xid dhcpv4.TransactionID) {
	rand.Read(xid[:])
	return xid
}

// jitter moves a time by up to a second either way, so that clients that started
// together do not stay together (RFC 2131 section 4.1).
func jitter(d time.Duration) time.Duration {
	var r [4]byte
	rand.Read(r[:])
	return d - time.Second + time.Duration(binary.LittleEndian.Uint32(r[:])%2001)*time.Millisecond
}
