package stack_test

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"nitro/net/stack"
	"nitro/net/stack/stacktest"
)

// TestPortsAreApart: two ports of one machine. Whatever comes to the first for the
// second, or to be passed on, is not answered, and nothing leaves the second.
func TestPortsAreApart(t *testing.T) {
	a := netip.MustParseAddr
	own4, other4, peer4 := a("192.0.2.1"), a("198.51.100.1"), a("192.0.2.9")
	own6, other6, peer6 := a("2001:db8:1::1"), a("2001:db8:2::1"), a("2001:db8:1::9")
	one, two := newStation(t, stacktest.Options{}), newStation(t, stacktest.Options{})
	s1 := start(t, stack.Config{Name: "one", Link: one.link, Address: netip.PrefixFrom(own4, 24), Gateway: peer4, Address6: netip.PrefixFrom(own6, 64), Gateway6: peer6})
	s2 := start(t, stack.Config{Name: "two", Link: two.link, Address: netip.PrefixFrom(other4, 24), Gateway: a("198.51.100.9"), Address6: netip.PrefixFrom(other6, 64), Gateway6: a("2001:db8:2::9")})
	waitSix(t, s1, netip.PrefixFrom(own6, 64))
	waitSix(t, s2, netip.PrefixFrom(other6, 64))
	for _, s := range []*stack.Stack{s1, s2} {
		for _, f := range []func() error{
			func() error { _, err := s.Listen("tcp", ":80"); return err },
			func() error { _, err := s.ListenPacket("udp", ":7"); return err },
		} {
			if err := f(); err != nil {
				t.Fatal(err)
			}
		}
	}
	// The neighbours of IPv6 are told beforehand; those of IPv4 are asked for.
	advertise := func(s *station, from, to netip.Addr) {
		m := header.ICMPv6(make([]byte, header.ICMPv6NeighborSolicitMinimumSize+8))
		m.SetType(header.ICMPv6NeighborSolicit)
		n := header.NDPNeighborSolicit(m.MessageBody())
		n.SetTargetAddress(addr(to))
		n.Options().Serialize(header.NDPOptionsSerializer{header.NDPSourceLinkLayerAddressOption(stationAddress)})
		m.SetChecksum(header.ICMPv6Checksum(header.ICMPv6ChecksumParams{Header: m, Src: addr(from), Dst: addr(to)}))
		s.link.Inject(s.ip(from, to, header.ICMPv6ProtocolNumber, m, nil, 0))
	}
	advertise(one, peer6, own6)
	time.Sleep(20 * time.Millisecond)

	// barrier has the first stack answer, so all that came before has been seen to.
	id := uint16(1000)
	barrier := func(from, to netip.Addr) {
		t.Helper()
		id++
		p, m := ping(from, to, id)
		one.link.Inject(one.ip(from, to, p, m, nil, 0))
		one.expect("the answer to a ping", func(f []byte) bool {
			_, _, p, m := transport(f)
			return p == header.ICMPv4ProtocolNumber && header.ICMPv4(m).Type() == header.ICMPv4EchoReply && header.ICMPv4(m).Ident() == id ||
				p == header.ICMPv6ProtocolNumber && header.ICMPv6(m).Type() == header.ICMPv6EchoReply && header.ICMPv6(m).Ident() == id
		})
		time.Sleep(20 * time.Millisecond) // TCP answers from another goroutine
	}
	type packet struct {
		name      string
		from, to  netip.Addr
		options   []byte
		extension uint8
	}
	route := func(kind byte, via, to netip.Addr) []byte {
		o := append([]byte{kind, 11, 4}, via.AsSlice()...)
		return append(append(o, to.AsSlice()...), 0)
	}
	routing := func(kind byte, to netip.Addr) []byte {
		return append([]byte{0, 2, kind, 1, 0, 0, 0, 0}, to.AsSlice()...)
	}
	const lsrr, ssrr, routingHeader = 131, 137, 43
	kinds := map[string]func(p packet) (tcpip.TransportProtocolNumber, []byte){
		"ping":        func(p packet) (tcpip.TransportProtocolNumber, []byte) { return ping(p.from, p.to, 1) },
		"SYN":         func(p packet) (tcpip.TransportProtocolNumber, []byte) { return syn(p.from, p.to, 10000+id, 80) },
		"SYN, closed": func(p packet) (tcpip.TransportProtocolNumber, []byte) { return syn(p.from, p.to, 10000+id, 81) },
		"UDP": func(p packet) (tcpip.TransportProtocolNumber, []byte) {
			return datagram(p.from, p.to, 4000, 7, []byte("x"))
		},
		"UDP, closed": func(p packet) (tcpip.TransportProtocolNumber, []byte) {
			return datagram(p.from, p.to, 4000, 8, []byte("x"))
		},
	}
	for name, make := range kinds {
		for _, c := range []struct {
			packet
			answered bool
		}{
			// What is answered shows that the test's packets are good ones.
			{packet{"to itself", peer4, own4, nil, 0}, name != "UDP"},
			{packet{"to itself, IPv6", peer6, own6, nil, 0}, name != "UDP"},
			{packet{"to the other port", peer4, other4, nil, 0}, false},
			{packet{"to the other port, IPv6", peer6, other6, nil, 0}, false},
			{packet{"to be passed on", peer4, a("203.0.113.1"), nil, 0}, false},
			{packet{"to be passed on, IPv6", peer6, a("2001:db8:3::1"), nil, 0}, false},
			{packet{"to be passed on to the other's network", peer4, a("198.51.100.9"), nil, 0}, false},
			{packet{"to the other port by loose source route", peer4, other4, route(lsrr, other4, own4), 0}, false},
			{packet{"through itself by loose source route", peer4, own4, route(lsrr, other4, other4), 0}, false},
			{packet{"through itself by strict source route", peer4, own4, route(ssrr, other4, other4), 0}, false},
			{packet{"through itself by routing header 0", peer6, own6, routing(0, other6), routingHeader}, false},
			{packet{"through itself by routing header 2", peer6, own6, routing(2, other6), routingHeader}, false},
			{packet{"to loopback", peer4, a("127.0.0.1"), nil, 0}, false},
			{packet{"to loopback, IPv6", peer6, a("::1"), nil, 0}, false},
			{packet{"from itself", own4, own4, nil, 0}, false},
			{packet{"from loopback", a("127.0.0.1"), own4, nil, 0}, false},
			{packet{"from itself, IPv6", own6, own6, nil, 0}, false},
		} {
			one.take()
			two.take()
			protocol, message := make(c.packet)
			one.link.Inject(one.ip(c.from, c.to, protocol, message, c.options, c.extension))
			from, to := peer4, own4
			if c.to.Is6() {
				from, to = peer6, own6
			}
			barrier(from, to)
			if sent := two.take(); len(sent) > 0 {
				t.Errorf("%s %s: the other port sends %x", name, c.name, sent)
			}
			var answers []string
			for _, f := range one.take() {
				from, to, p, m := transport(f)
				isError := p == header.ICMPv4ProtocolNumber && m[0] != byte(header.ICMPv4EchoReply) && m[0] != byte(header.ICMPv4DstUnreachable) ||
					p == header.ICMPv6ProtocolNumber && (m[0] == byte(header.ICMPv6ParamProblem) || m[0] >= byte(header.ICMPv6RouterSolicit))
				isBarrier := p == header.ICMPv4ProtocolNumber && header.ICMPv4(m).Ident() == id || p == header.ICMPv6ProtocolNumber && m[0] == byte(header.ICMPv6EchoReply) && header.ICMPv6(m).Ident() == id
				// Unanswered SYN-ACKs of earlier cases are sent again.
				isAgain := p == header.TCPProtocolNumber && header.TCP(m).DestinationPort() != 9999+id
				if !isBarrier && !isError && !isAgain {
					answers = append(answers, fmt.Sprintf("%v to %v, protocol %d: %x", from, to, p, m))
				}
			}
			if (len(answers) > 0) != c.answered {
				t.Errorf("%s %s: answered %q, expected an answer: %t", name, c.name, answers, c.answered)
			}
		}
	}
	// ARP and neighbour discovery tell of the port's own address only.
	for _, c := range []struct {
		target   netip.Addr
		answered bool
	}{{own4, true}, {other4, false}} {
		one.take()
		one.link.Inject(one.arp(header.ARPRequest, addr(peer4), addr(c.target)))
		barrier(peer4, own4)
		replies := 0
		for _, f := range one.take() {
			if header.Ethernet(f).Type() == header.ARPProtocolNumber {
				replies++
			}
		}
		if (replies > 0) != c.answered {
			t.Errorf("ARP for %v: %d replies", c.target, replies)
		}
	}
}

// TestOtherStations: frames for other stations, which a link may let through, are not
// looked into.
func TestOtherStations(t *testing.T) {
	s := newStation(t, stacktest.Options{})
	k := start(t, stack.Config{Name: "one", Link: s.link, Address: address1, NoIPv6: true})
	from := netip.MustParseAddr("192.0.2.9")
	p, m := ping(from, address1.Addr(), 1)
	frame := s.ip(from, address1.Addr(), p, m, nil, 0)
	copy(frame, stationAddress)
	s.link.Inject(frame)
	p, m = ping(from, address1.Addr(), 2)
	s.link.Inject(s.ip(from, address1.Addr(), p, m, nil, 0))
	s.expect("the answer to a ping", func(f []byte) bool {
		_, _, p, m := transport(f)
		return p == header.ICMPv4ProtocolNumber && header.ICMPv4(m).Ident() == 2
	})
	if sent, st := s.take(), k.Stats(); len(sent) != 1 || st.FramesDropped != 1 {
		t.Errorf("%d frames sent, %d dropped", len(sent), st.FramesDropped)
	}
}
