package stack

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// When a connection counts as dead. A peer that says nothing for keepIdle is asked
// every keepInterval, and has keepCount chances; data that the peer does not
// acknowledge is given up after userTimeout (RFC 5482).
const (
	keepIdle     = 30 * time.Second
	keepInterval = 15 * time.Second
	keepCount    = 4
	userTimeout  = 60 * time.Second
)

// address is where a socket is, or is to be.
type address struct {
	protocol tcpip.NetworkProtocolNumber // which kind of endpoint: an IPv6 one can speak both
	only     bool                        // IPv6 only
	full     tcpip.FullAddress
}

// resolve reads an address as package net does, without names.
func (s *Stack) resolve(network, text string) (a address, err error) {
	fail := func(why string) (address, error) {
		return address{}, &net.AddrError{Err: why, Addr: network + " " + text}
	}
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		return a, err
	}
	var p uint16
	if n, err := fmt.Sscanf(port, "%d", &p); port != "" && (n != 1 || err != nil || fmt.Sprint(p) != port) {
		return fail("port is no number from 0 to 65535")
	}
	var ip netip.Addr
	if host != "" {
		if ip, err = netip.ParseAddr(host); err != nil {
			return fail("host is no IP address, and there is no DNS")
		}
		ip = ip.Unmap().WithZone("")
	}
	a.full.Port = p
	want := network[len(network)-1]
	switch {
	case want != '4' && want != '6' && want != 'p':
		return fail("network is none of tcp, tcp4, tcp6, udp, udp4 and udp6")
	case want == '4' && ip.Is6() || want == '6' && ip.Is4():
		return fail("address is not of this network")
	case s.config.NoIPv6 && (want == '6' || ip.Is6()):
		return fail("IPv6 is off")
	}
	switch {
	case ip.Is4() || want == '4' || s.config.NoIPv6:
		a.protocol = ipv4.ProtocolNumber
	default:
		a.protocol = ipv6.ProtocolNumber
		a.only = want == '6' || ip.IsValid() && !ip.IsUnspecified()
	}
	if ip.IsValid() && !ip.IsUnspecified() {
		a.full.Addr = toAddress(ip)
		if ip.IsLinkLocalUnicast() || ip.IsMulticast() {
			a.full.NIC = nicID
		}
	}
	return a, nil
}

// endpoint makes a gVisor endpoint that is not bound yet.
func (s *Stack) endpoint(network string, a address) (tcpip.Endpoint, *waiter.Queue, error) {
	if s.ctx.Err() != nil {
		return nil, nil, net.ErrClosed
	}
	transport := tcp.ProtocolNumber
	if strings.HasPrefix(network, "udp") {
		transport = udp.ProtocolNumber
	}
	q := new(waiter.Queue)
	ep, err := s.ip.NewEndpoint(transport, a.protocol, q)
	if err != nil {
		return nil, nil, toError(err)
	}
	if a.protocol == ipv6.ProtocolNumber {
		ep.SocketOptions().SetV6Only(a.only)
	}
	return ep, q, nil
}

// keepAlive has an endpoint notice that its peer is gone.
func keepAlive(ep tcpip.Endpoint) {
	idle, interval, user := tcpip.KeepaliveIdleOption(keepIdle), tcpip.KeepaliveIntervalOption(keepInterval), tcpip.TCPUserTimeoutOption(userTimeout)
	ep.SetSockOpt(&idle)
	ep.SetSockOpt(&interval)
	ep.SetSockOpt(&user)
	ep.SetSockOptInt(tcpip.KeepaliveCountOption, keepCount)
	ep.SocketOptions().SetKeepAlive(true)
}

// Listen waits for TCP connections ("tcp", "tcp4" or "tcp6") at an address: "host:port"
// with an IP address or nothing for all of them, and 0 for any free port.
func (s *Stack) Listen(network, where string) (net.Listener, error) {
	fail := func(err error) (net.Listener, error) {
		return nil, &net.OpError{Op: "listen", Net: network, Err: fmt.Errorf("%s at %q: %w", s.config.Name, where, err)}
	}
	if network != "tcp" && network != "tcp4" && network != "tcp6" {
		return fail(net.UnknownNetworkError(network))
	}
	a, err := s.resolve(network, where)
	if err != nil {
		return fail(err)
	}
	ep, q, err := s.endpoint(network, a)
	if err != nil {
		return fail(err)
	}
	ep.SocketOptions().SetReuseAddress(true) // a port is free again though connections linger
	if err := ep.Bind(a.full); err != nil {
		ep.Close()
		return fail(toError(err))
	}
	if err := ep.Listen(Backlog); err != nil {
		ep.Close()
		return fail(toError(err))
	}
	l := &listener{socket: s.link.newSocket(ep, q, "tcp"), places: make(chan struct{}, MaxConnections)}
	return l, nil
}

// A listener accepts connections as long as there are places for them.
type listener struct {
	*socket
	places chan struct{} // one for each connection that is open
}

// Addr implements net.Listener.
func (l *listener) Addr() net.Addr { return l.LocalAddr() }

// Accept implements net.Listener. While MaxConnections are open it waits, and
// further ones wait in the backlog.
func (l *listener) Accept() (net.Conn, error) {
	select {
	case l.places <- struct{}{}:
	case <-l.closed:
		return nil, l.opError("accept", net.ErrClosed)
	}
	for {
		ep, q, err := l.ep.Accept(nil)
		if err == nil {
			keepAlive(ep)
			c := l.link.newSocket(ep, q, "tcp")
			l.link.flows.attach(ep)
			c.free = func() { <-l.places }
			return tcpConn{conn{c}}, nil
		}
		reason := l.reason(err)
		if _, ok := err.(*tcpip.ErrWouldBlock); ok {
			reason = l.wait(l.readable, &l.readDeadline)
		}
		if reason != nil {
			<-l.places
			return nil, l.opError("accept", reason)
		}
	}
}

// Dial connects to an address by TCP or UDP; see Listen for networks and addresses.
// The context ends the attempt, not the connection.
func (s *Stack) Dial(ctx context.Context, network, where string) (net.Conn, error) {
	fail := func(err error) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Net: network, Err: fmt.Errorf("%s to %q: %w", s.config.Name, where, err)}
	}
	kind, ok := kinds[network]
	if !ok {
		return fail(net.UnknownNetworkError(network))
	}
	a, err := s.resolve(network, where)
	if err != nil {
		return fail(err)
	}
	if a.full.Addr.Len() == 0 || a.full.Port == 0 {
		return fail(&net.AddrError{Err: "address has no host or no port", Addr: where})
	}
	ep, q, err := s.endpoint(network, a)
	if err != nil {
		return fail(err)
	}
	c := s.link.newSocket(ep, q, kind)
	if kind == "tcp" {
		keepAlive(ep)
	}
	if err := c.connect(ctx, a.full); err != nil {
		c.Close()
		return fail(err)
	}
	if kind == "udp" {
		return packetConn{conn{c}}, nil
	}
	s.link.flows.attach(ep)
	return tcpConn{conn{c}}, nil
}

// kinds are the networks of package net that there are.
var kinds = map[string]string{"tcp": "tcp", "tcp4": "tcp", "tcp6": "tcp", "udp": "udp", "udp4": "udp", "udp6": "udp"}

// connect connects an endpoint, and waits until it is.
func (s *socket) connect(ctx context.Context, to tcpip.FullAddress) error {
	err := s.ep.Connect(to)
	if _, ok := err.(*tcpip.ErrConnectStarted); !ok {
		if err != nil {
			return toError(err)
		}
		return nil
	}
	select {
	case <-s.writable:
	case <-ctx.Done():
		if ctx.Err() == context.DeadlineExceeded {
			return os.ErrDeadlineExceeded
		}
		return ctx.Err()
	}
	if err := s.ep.LastError(); err != nil {
		return toError(err)
	}
	return nil
}

// ListenPacket gives a UDP socket at an address; see Listen.
func (s *Stack) ListenPacket(network, where string) (net.PacketConn, error) {
	fail := func(err error) (net.PacketConn, error) {
		return nil, &net.OpError{Op: "listen", Net: network, Err: fmt.Errorf("%s at %q: %w", s.config.Name, where, err)}
	}
	if kinds[network] != "udp" {
		return fail(net.UnknownNetworkError(network))
	}
	a, err := s.resolve(network, where)
	if err != nil {
		return fail(err)
	}
	ep, q, err := s.endpoint(network, a)
	if err != nil {
		return fail(err)
	}
	if err := ep.Bind(a.full); err != nil {
		ep.Close()
		return fail(toError(err))
	}
	return packetConn{conn{s.link.newSocket(ep, q, "udp")}}, nil
}

// A packetConn is a UDP socket.
type packetConn struct{ conn }

var (
	_ net.PacketConn = packetConn{}
	_ net.Conn       = packetConn{}
)

// ReadFrom implements net.PacketConn.
func (c packetConn) ReadFrom(b []byte) (int, net.Addr, error) {
	r, err := c.read(b, true)
	if err != nil {
		return 0, nil, c.opError("read", err)
	}
	return r.Count, toNetAddr("udp", r.RemoteAddr), nil
}

// WriteTo implements net.PacketConn; the address is a *net.UDPAddr.
func (c packetConn) WriteTo(b []byte, to net.Addr) (int, error) {
	u, ok := to.(*net.UDPAddr)
	if !ok {
		return 0, c.opError("write", &net.AddrError{Err: "address is not of UDP", Addr: fmt.Sprint(to)})
	}
	ap := u.AddrPort()
	ip := ap.Addr().Unmap().WithZone("")
	full := tcpip.FullAddress{Addr: toAddress(ip), Port: ap.Port()}
	if ip.IsLinkLocalUnicast() || ip.IsMulticast() {
		full.NIC = nicID
	}
	n, err := c.write(b, &full)
	if err != nil {
		return n, c.opError("write", err)
	}
	return n, nil
}

func udpAddr(a netip.Addr, port uint16) *net.UDPAddr {
	return net.UDPAddrFromAddrPort(netip.AddrPortFrom(a, port))
}

// toNetAddr gives a net.TCPAddr or net.UDPAddr.
func toNetAddr(network string, a tcpip.FullAddress) net.Addr {
	ip := fromAddress(a.Addr)
	if !ip.IsValid() {
		ip = netip.IPv6Unspecified()
	}
	ap := netip.AddrPortFrom(ip, a.Port)
	if network == "udp" {
		return net.UDPAddrFromAddrPort(ap)
	}
	return net.TCPAddrFromAddrPort(ap)
}
