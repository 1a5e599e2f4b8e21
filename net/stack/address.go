package stack

import (
	"net/netip"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

func toAddress(a netip.Addr) tcpip.Address { return tcpip.AddrFromSlice(a.AsSlice()) }

// fromAddress gives the zero Addr for the empty address.
func fromAddress(a tcpip.Address) netip.Addr {
	n, _ := netip.AddrFromSlice(a.AsSlice())
	return n.Unmap()
}

func toSubnet(p netip.Prefix) tcpip.Subnet {
	return tcpip.AddressWithPrefix{Address: toAddress(p.Masked().Addr()), PrefixLen: p.Bits()}.Subnet()
}

// setRoutes makes the routes anew from everything that is known: the static
// addresses, the lease, and what routers have advertised.
func (s *Stack) setRoutes() {
	s.mu.Lock()
	defer s.mu.Unlock()
	var table []tcpip.Route
	add := func(to tcpip.Subnet, router tcpip.Address) {
		table = append(table, tcpip.Route{Destination: to, Gateway: router, NIC: nicID})
	}
	network := func(a netip.Prefix, router netip.Addr) {
		if !a.IsValid() {
			return
		}
		add(toSubnet(a), tcpip.Address{})
		if router.IsValid() {
			defer func() {
				all := header.IPv4EmptySubnet
				if router.Is6() {
					all = header.IPv6EmptySubnet
				}
				add(all, toAddress(router))
			}()
		}
	}
	network(s.config.Address, s.config.Gateway)
	if s.lease != nil {
		network(s.lease.Address, s.lease.Router)
	}
	if !s.config.NoIPv6 {
		add(header.IPv6LinkLocalPrefix.Subnet(), tcpip.Address{})
	}
	for p := range s.onLink {
		add(p, tcpip.Address{})
	}
	network(s.config.Address6, s.config.Gateway6)
	for r := range s.routers {
		add(header.IPv6EmptySubnet, r)
	}
	s.ip.SetRouteTable(table)
}

// solicit asks routers to advertise themselves (RFC 4861 section 6.3.7), without a
// source address: after a link has come back the network may be another one, and
// gVisor asks only when an interface is enabled, which also takes its addresses.
func (s *Stack) solicit() {
	if !s.config.SLAAC {
		return
	}
	const size = header.ICMPv6MinimumSize + header.NDPRSMinimumSize
	frame := make([]byte, header.EthernetMinimumSize+header.IPv6MinimumSize+size)
	to := header.IPv6AllRoutersLinkLocalMulticastAddress
	header.Ethernet(frame).Encode(&header.EthernetFields{
		SrcAddr: s.link.address, DstAddr: header.EthernetAddressFromMulticastIPv6Address(to), Type: ipv6.ProtocolNumber,
	})
	header.IPv6(frame[header.EthernetMinimumSize:]).Encode(&header.IPv6Fields{
		PayloadLength: size, TransportProtocol: header.ICMPv6ProtocolNumber, HopLimit: header.NDPHopLimit,
		SrcAddr: header.IPv6Any, DstAddr: to,
	})
	m := header.ICMPv6(frame[len(frame)-size:])
	m.SetType(header.ICMPv6RouterSolicit)
	if !s.link.txOffload {
		m.SetChecksum(header.ICMPv6Checksum(header.ICMPv6ChecksumParams{Header: m, Src: header.IPv6Any, Dst: to}))
	}
	s.link.sendFrame(frame)
}

// discovery takes what neighbour discovery has found. gVisor calls its methods with
// locks held, so they only take notes, and background acts on them.
type discovery Stack

var _ ipv6.NDPDispatcher = (*discovery)(nil)

func (d *discovery) note(f func()) {
	d.mu.Lock()
	f()
	d.mu.Unlock()
	(*Stack)(d).touch()
}

// OnDuplicateAddressDetectionResult implements ipv6.NDPDispatcher.
func (d *discovery) OnDuplicateAddressDetectionResult(tcpip.NICID, tcpip.Address, stack.DADResult) {
	(*Stack)(d).touch()
}

// OnOffLinkRouteUpdated implements ipv6.NDPDispatcher; only default routers are asked
// for.
func (d *discovery) OnOffLinkRouteUpdated(_ tcpip.NICID, to tcpip.Subnet, router tcpip.Address, _ header.NDPRoutePreference) {
	if to == header.IPv6EmptySubnet {
		d.note(func() { d.routers[router] = struct{}{} })
	}
}

// OnOffLinkRouteInvalidated implements ipv6.NDPDispatcher.
func (d *discovery) OnOffLinkRouteInvalidated(_ tcpip.NICID, to tcpip.Subnet, router tcpip.Address) {
	if to == header.IPv6EmptySubnet {
		d.note(func() { delete(d.routers, router) })
	}
}

// OnOnLinkPrefixDiscovered implements ipv6.NDPDispatcher.
func (d *discovery) OnOnLinkPrefixDiscovered(_ tcpip.NICID, p tcpip.Subnet) {
	d.note(func() { d.onLink[p] = struct{}{} })
}

// OnOnLinkPrefixInvalidated implements ipv6.NDPDispatcher.
func (d *discovery) OnOnLinkPrefixInvalidated(_ tcpip.NICID, p tcpip.Subnet) {
	d.note(func() { delete(d.onLink, p) })
}

// OnAutoGenAddress implements ipv6.NDPDispatcher.
func (d *discovery) OnAutoGenAddress(tcpip.NICID, tcpip.AddressWithPrefix) stack.AddressDispatcher {
	(*Stack)(d).touch()
	return nil
}

// OnAutoGenAddressDeprecated implements ipv6.NDPDispatcher.
func (*discovery) OnAutoGenAddressDeprecated(tcpip.NICID, tcpip.AddressWithPrefix) {}

// OnAutoGenAddressInvalidated implements ipv6.NDPDispatcher.
func (d *discovery) OnAutoGenAddressInvalidated(tcpip.NICID, tcpip.AddressWithPrefix) {
	(*Stack)(d).touch()
}

// OnRecursiveDNSServerOption implements ipv6.NDPDispatcher; names are not used.
func (*discovery) OnRecursiveDNSServerOption(tcpip.NICID, []tcpip.Address, time.Duration) {}

// OnDNSSearchListOption implements ipv6.NDPDispatcher; names are not used.
func (*discovery) OnDNSSearchListOption(tcpip.NICID, []string, time.Duration) {}

// OnDHCPv6Configuration implements ipv6.NDPDispatcher; DHCPv6 is not spoken.
func (*discovery) OnDHCPv6Configuration(tcpip.NICID, ipv6.DHCPv6ConfigurationFromNDPRA) {}
