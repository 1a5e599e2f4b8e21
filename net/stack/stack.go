// Package stack is TCP/IP over one Ethernet port: gVisor's netstack, set up for a
// small machine on a hostile network, behind the interfaces of package net.
//
// Each port has a Stack of its own, with one interface and no loopback, and no two
// share anything. So a packet cannot go from one port to another: there is nothing
// in a Stack that knows of a second port, forwarding is off besides, and an address
// is answered on its own port only (RFC 1122 section 3.3.4.2, the strong host model).
//
// # Protocols
//
// IPv4 with ARP and, unless it is turned off, IPv6 with neighbour discovery and
// addresses by router advertisement (RFC 4862; interface identifiers of RFC 7217);
// ICMP; UDP; TCP with window scaling, timestamps, SACK, RACK and CUBIC. An IPv4
// address is configured, or comes by DHCP (package dhcp). Left out: names (DNS),
// DHCPv6, multicast beyond what IPv6 itself needs, VLANs, jumbo frames, raw sockets.
//
// # Bounds
//
// What others can make a Stack hold is bounded:
//   - connections: MaxConnections accepted ones per listener; further ones stay in
//     its queue of Backlog, and when that is full, SYNs are dropped
//   - half-open connections: Backlog-1 per listener; beyond them, and so under a flood
//     of SYNs, gVisor answers with SYN cookies, and keeps nothing
//   - a connection: at most 512 KiB to receive and 512 KiB to send
//   - a silent peer: keep-alives end a connection 90 seconds after the last sign of
//     life, unacknowledged data after 60 seconds, half-closed ones after 30, TIME-WAIT
//     after 10
//   - fragments that wait for the rest of their packet: 4 MiB for each of IPv4 and
//     IPv6, and 30 and 60 seconds (RFC 1122 section 3.3.2 has a host reassemble)
//   - neighbours: 512 entries; addresses being resolved: 64, with 256 packets each
//   - routers, prefixes and addresses taken from advertisements: 10 of each
//   - ICMP messages sent: 100 a second
//
// gVisor's own numbers among these are constants of its packages fragmentation,
// stack and ipv6.
//
// # Speed
//
// The board executes some 250 million instructions a second, so a segment must not
// pass every layer on its own. TCP hands down packets of up to 48 KiB, which the
// lowest layer splits into frames (split.go); segments that arrive together are
// joined before they go up (join.go). Those of known connections go to TCP on the
// receiver's own goroutine (flow.go), which then lets the connections' handlers answer
// (turns.go). Payload is copied once on either way between
// the link's buffers and gVisor's, and once between those and the caller's.
package stack

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/log"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/arp"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"

	"nitro/net/dhcp"
)

// Bounds of what a Stack holds; the package comment has the whole list.
const (
	Backlog        = 64  // connections of a listener that nobody has accepted yet
	MaxConnections = 128 // accepted connections of a listener

	icmpRate = 100 // messages a second

	// Buffers of a TCP connection, in bytes. gVisor advertises half of a receive
	// buffer, and enlarges both while the connection needs it: 512 KiB carry
	// 100 Mbit/s over 20 ms.
	minBuffer     = 4 << 10
	receiveBuffer = 128 << 10
	sendBuffer    = 128 << 10
	maxBuffer     = 512 << 10

	datagramBuffer = 64 << 10 // of a UDP socket, each way

	finWait  = 30 * time.Second // for the peer's FIN after ours
	timeWait = 10 * time.Second
)

// nicID is gVisor's number of the one interface of a Stack.
const nicID tcpip.NICID = 1

// A Config describes a port and what addresses it has.
type Config struct {
	Name     string // of the port, for messages: "management"
	Link     Link
	Hostname string // told to DHCP servers; may be ""

	// IPv4: DHCP, or a static address with its network's prefix and maybe a
	// default router; neither is no IPv4 address.
	DHCP    bool
	Address netip.Prefix
	Gateway netip.Addr

	// IPv6 is on unless NoIPv6 is set: a link-local address; more by router
	// advertisements if SLAAC is set; and a static one with its router if given.
	NoIPv6   bool
	SLAAC    bool
	Address6 netip.Prefix
	Gateway6 netip.Addr

	// Secret makes the interface identifiers of IPv6 addresses (RFC 7217), so
	// that they stay the same over a restart and tell nothing. 16 bytes or more;
	// nil takes random ones, and addresses change with each start.
	Secret []byte

	clock tcpip.Clock // nil is the real one; tests have others
}

// A Stack is TCP/IP on one port.
type Stack struct {
	config Config
	ip     *stack.Stack
	link   *endpoint
	dhcp   *dhcp.Client // nil without

	ctx    context.Context // of everything that runs in the background
	cancel context.CancelFunc
	wait   sync.WaitGroup

	mu      sync.Mutex
	lease   *dhcp.Lease
	routers map[tcpip.Address]struct{} // of IPv6, by advertisement
	onLink  map[tcpip.Subnet]struct{}
	changed chan struct{} // closed, and made anew, when addresses may have changed
	dirty   chan struct{} // buffered 1: routes may have changed
}

// New brings a port up. It returns at once; addresses that are not static come
// later: see WaitAddress. The Stack owns the link from then on, and closes it.
func New(c Config) (*Stack, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	silence()
	s := &Stack{
		config: c, link: newEndpoint(c.Link),
		routers: map[tcpip.Address]struct{}{}, onLink: map[tcpip.Subnet]struct{}{},
		changed: make(chan struct{}), dirty: make(chan struct{}, 1),
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	if c.DHCP {
		s.startDHCP()
	}
	s.ip = stack.New(s.options())
	s.link.tcp = s.ip.TransportProtocolInstance(tcp.ProtocolNumber).(queuer)
	if err := s.configure(); err != nil {
		s.Close()
		return nil, fmt.Errorf("stack: %s: %w", c.Name, err)
	}
	s.wait.Go(s.background)
	if c.DHCP {
		s.wait.Go(func() { s.dhcp.Run(s.ctx) })
	}
	return s, nil
}

// silence has gVisor write no log: nobody may fill the console by sending packets.
// What matters is counted.
var silence = sync.OnceFunc(func() { log.SetTarget(noLog{}) })

type noLog struct{}

func (noLog) Emit(int, log.Level, time.Time, string, ...any) {}

// check finds configurations that cannot work.
func (c *Config) check() error {
	fail := func(format string, a ...any) error {
		return fmt.Errorf("stack: %s: "+format, append([]any{c.Name}, a...)...)
	}
	switch {
	case c.Link == nil:
		return fail("no link")
	case len(c.Link.HardwareAddr()) != 6 || c.Link.HardwareAddr()[0]&1 != 0:
		return fail("hardware address %v is no station's", c.Link.HardwareAddr())
	case c.DHCP && c.Address.IsValid():
		return fail("both DHCP and the static address %v", c.Address)
	case c.Address.IsValid() && !c.Address.Addr().Is4():
		return fail("address %v is not of IPv4", c.Address)
	case c.Gateway.IsValid() && !c.Address.Contains(c.Gateway):
		return fail("gateway %v is not in the network of %v", c.Gateway, c.Address)
	case c.NoIPv6 && (c.SLAAC || c.Address6.IsValid()):
		return fail("IPv6 is off, yet has addresses")
	case c.Address6.IsValid() && (!c.Address6.Addr().Is6() || c.Address6.Addr().Is4In6()):
		return fail("address %v is not of IPv6", c.Address6)
	case c.Gateway6.IsValid() && !c.Address6.Contains(c.Gateway6) && !c.Gateway6.IsLinkLocalUnicast():
		return fail("gateway %v is not in the network of %v", c.Gateway6, c.Address6)
	case c.Secret != nil && len(c.Secret) < header.OpaqueIIDSecretKeyMinBytes:
		return fail("secret of %d bytes is shorter than %d", len(c.Secret), header.OpaqueIIDSecretKeyMinBytes)
	}
	return nil
}

// options chooses gVisor's protocols.
func (s *Stack) options() stack.Options {
	probes := arp.Options{DADConfigs: stack.DADConfigurations{DupAddrDetectTransmits: 1, RetransmitTimer: probe}}
	o := stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{arp.NewProtocolWithOptions(probes), ipv4.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocolCUBIC, udp.NewProtocol, icmp.NewProtocol4},
		HandleLocal:        true, // so packets from outside with our address as source are dropped
		SecureRNG:          rand.Reader,
		Clock:              s.config.clock,
	}
	if o.Clock == nil {
		o.Clock = s.link.clock
	}
	if s.config.NoIPv6 {
		return o
	}
	ndp := ipv6.DefaultNDPConfigurations()
	ndp.MaxRtrSolicitationDelay = 0 // there is one of us on a wire; the sooner the better
	ndp.HandleRAs = ipv6.HandlingRAsDisabled
	if s.config.SLAAC {
		ndp.HandleRAs = ipv6.HandlingRAsEnabledWhenForwardingDisabled
	}
	ndp.AutoGenTempGlobalAddresses = false // a server is to be found
	secret := s.config.Secret
	if secret == nil {
		secret = make([]byte, header.OpaqueIIDSecretKeyMinBytes)
		rand.Read(secret)
	}
	o.NetworkProtocols = append(o.NetworkProtocols, ipv6.NewProtocolWithOptions(ipv6.Options{
		NDPConfigs: ndp, NDPDisp: (*discovery)(s), AutoGenLinkLocal: true, DADConfigs: stack.DefaultDADConfigurations(),
		MLD:           ipv6.MLDOptions{Enabled: true},
		OpaqueIIDOpts: ipv6.OpaqueInterfaceIdentifierOptions{NICNameFromID: func(tcpip.NICID, string) string { return s.config.Name }, SecretKey: secret},
	}))
	o.TransportProtocols = append(o.TransportProtocols, icmp.NewProtocol6)
	return o
}

// configure sets gVisor's limits, and brings the interface up with its static
// addresses.
func (s *Stack) configure() error {
	s.ip.SetICMPLimit(icmpRate)
	s.ip.SetICMPBurst(icmpRate)
	sack, fin, tw, syn := tcpip.TCPSACKEnabled(true), tcpip.TCPLingerTimeoutOption(finWait), tcpip.TCPTimeWaitTimeoutOption(timeWait), tcpip.TCPSynRetriesOption(4)
	for _, o := range []tcpip.SettableTransportProtocolOption{
		&sack, &fin, &tw, &syn,
		&tcpip.TCPReceiveBufferSizeRangeOption{Min: minBuffer, Default: receiveBuffer, Max: maxBuffer},
		&tcpip.TCPSendBufferSizeRangeOption{Min: minBuffer, Default: sendBuffer, Max: maxBuffer},
	} {
		if err := s.ip.SetTransportProtocolOption(tcp.ProtocolNumber, o); err != nil {
			return fmt.Errorf("option %T of TCP: %v", o, err)
		}
	}
	for _, o := range []any{
		tcpip.SendBufferSizeOption{Min: minBuffer, Default: datagramBuffer, Max: datagramBuffer},
		tcpip.ReceiveBufferSizeOption{Min: minBuffer, Default: datagramBuffer, Max: datagramBuffer},
	} {
		if err := s.ip.SetOption(o); err != nil {
			return fmt.Errorf("option %T: %v", o, err)
		}
	}
	if err := s.ip.CreateNICWithOptions(nicID, s.link, stack.NICOptions{Name: s.config.Name}); err != nil {
		return fmt.Errorf("interface: %v", err)
	}
	for _, a := range []netip.Prefix{s.config.Address, s.config.Address6} {
		if a.IsValid() {
			if err := s.addAddress(a); err != nil {
				return err
			}
		}
	}
	s.setRoutes()
	return nil
}

// addAddress gives the interface an address.
func (s *Stack) addAddress(a netip.Prefix) error {
	protocol := ipv4.ProtocolNumber
	if a.Addr().Is6() {
		protocol = ipv6.ProtocolNumber
	}
	address := tcpip.ProtocolAddress{Protocol: protocol, AddressWithPrefix: tcpip.AddressWithPrefix{Address: toAddress(a.Addr()), PrefixLen: a.Bits()}}
	if err := s.ip.AddProtocolAddress(nicID, address, stack.AddressProperties{}); err != nil {
		return fmt.Errorf("address %v: %v", a, err)
	}
	return nil
}

// background follows the link and keeps the routes. gVisor tells of discoveries from
// inside, where its routes cannot be set.
func (s *Stack) background() {
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-s.link.link.LinkChanged():
			if s.link.link.LinkUp() {
				s.link.counts.up.Add(1)
				if s.dhcp != nil {
					s.dhcp.Restart()
				}
				s.solicit()
			}
		case <-s.dirty:
			s.setRoutes()
			s.mu.Lock()
			close(s.changed)
			s.changed = make(chan struct{})
			s.mu.Unlock()
		}
	}
}

// touch has background look at routes and addresses again.
func (s *Stack) touch() {
	select {
	case s.dirty <- struct{}{}:
	default:
	}
}

// Name gives the port's name.
func (s *Stack) Name() string { return s.config.Name }

// Addresses lists the addresses that the port answers to, without those that are
// still being checked for duplicates.
func (s *Stack) Addresses() (all []netip.Prefix) {
	for _, p := range s.ip.NICInfo()[nicID].ProtocolAddresses {
		if p.Protocol == ipv4.ProtocolNumber || p.Protocol == ipv6.ProtocolNumber {
			all = append(all, netip.PrefixFrom(fromAddress(p.AddressWithPrefix.Address), p.AddressWithPrefix.PrefixLen))
		}
	}
	return all
}

// WaitAddress waits for the first address that others than link-local neighbours
// can reach, and gives it.
func (s *Stack) WaitAddress(ctx context.Context) (netip.Prefix, error) {
	for {
		s.mu.Lock()
		changed := s.changed
		s.mu.Unlock()
		for _, a := range s.Addresses() {
			if !a.Addr().IsLinkLocalUnicast() {
				return a, nil
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return netip.Prefix{}, fmt.Errorf("stack: %s: no address yet (link up: %t): %w", s.config.Name, s.link.link.LinkUp(), context.Cause(ctx))
		case <-s.ctx.Done():
			return netip.Prefix{}, fmt.Errorf("stack: %s: %w", s.config.Name, errClosed)
		}
	}
}

var errClosed = errors.New("closed")

// Close ends all connections without ceremony, and closes the link. It returns when
// nothing of the Stack runs any longer.
func (s *Stack) Close() error {
	s.cancel()
	s.wait.Wait()
	s.ip.Close()
	err := s.link.link.Close()
	// gVisor holds its lock as it waits for the link, and the receiver may want it.
	if s.link.IsAttached() {
		s.link.Wait()
	}
	s.ip.Wait()
	return err
}
