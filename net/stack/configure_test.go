package stack_test

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"nitro/net/dhcp"
	"nitro/net/stack"
	"nitro/net/stack/stacktest"
)

var (
	dhcpServer = netip.MustParseAddr("192.0.2.254")
	leased     = netip.MustParsePrefix("192.0.2.10/24")
)

// serveDHCP has a station be a DHCP server too, that gives one address. What a test
// changes in its answers it does in change; nil answers do not go out. The names of
// what the client sent are in the channel.
func serveDHCP(s *station, change func(request, answer *dhcpv4.DHCPv4) *dhcpv4.DHCPv4) <-chan string {
	requests := make(chan string, 100)
	s.react = func(frame []byte) {
		payload, ok := udpAt(frame, dhcp.ServerPort)
		if !ok {
			return
		}
		m, err := dhcpv4.FromBytes(payload)
		if err != nil {
			s.t.Error(err)
			return
		}
		_, to, _, _ := transport(frame)
		requests <- fmt.Sprintf("%v to %v", m.MessageType(), to)
		kind := dhcpv4.MessageTypeOffer
		switch m.MessageType() {
		case dhcpv4.MessageTypeRequest:
			kind = dhcpv4.MessageTypeAck
		case dhcpv4.MessageTypeDecline:
			return
		}
		r, _ := dhcpv4.NewReplyFromRequest(m)
		r.YourIPAddr = leased.Addr().AsSlice()
		r.UpdateOption(dhcpv4.OptMessageType(kind))
		r.UpdateOption(dhcpv4.OptServerIdentifier(dhcpServer.AsSlice()))
		r.UpdateOption(dhcpv4.OptSubnetMask(net.CIDRMask(24, 32)))
		r.UpdateOption(dhcpv4.OptRouter(net.IP{192, 0, 2, 1}))
		r.UpdateOption(dhcpv4.OptIPAddressLeaseTime(time.Hour))
		if change != nil {
			r = change(m, r)
		}
		if r != nil {
			s.sendUDP(dhcpServer, leased.Addr(), dhcp.ServerPort, dhcp.ClientPort, r.ToBytes())
		}
	}
	return requests
}

func (s *station) sendUDP(from, to netip.Addr, fromPort, toPort uint16, payload []byte) {
	protocol, m := datagram(from, to, fromPort, toPort, payload)
	s.link.Inject(s.ip(from, to, protocol, m, nil, 0))
}

// next gives the next message that a client sent.
func next(t *testing.T, requests <-chan string) string {
	t.Helper()
	select {
	case r := <-requests:
		return r
	case <-time.After(limit):
		t.Fatal("no message")
		return ""
	}
}

// TestDHCP: an address comes by DHCP and serves; it is asked for again when the link
// comes back, and goes when it is refused.
func TestDHCP(t *testing.T) {
	for _, offload := range []bool{false, true} {
		s := newStation(t, stacktest.Options{Offload: offload})
		var refuse atomic.Bool
		requests := serveDHCP(s, func(m, r *dhcpv4.DHCPv4) *dhcpv4.DHCPv4 {
			if m.HostName() != "controller" {
				t.Errorf("host name %q", m.HostName())
			}
			if refuse.Load() {
				r.UpdateOption(dhcpv4.OptMessageType(dhcpv4.MessageTypeNak))
			}
			return r
		})
		k := start(t, stack.Config{Name: "one", Link: s.link, DHCP: true, NoIPv6: true, Hostname: "controller"})
		if a, err := k.WaitAddress(within(t)); err != nil || a != leased {
			t.Fatalf("address %v, %v", a, err)
		}
		for _, want := range []string{"DISCOVER to 255.255.255.255", "REQUEST to 255.255.255.255"} {
			if got := next(t, requests); got != want {
				t.Errorf("%q, not %q", got, want)
			}
		}
		// It works, also beyond the router.
		c, err := k.Dial(within(t), "udp", "203.0.113.5:9")
		if err != nil {
			t.Fatal(err)
		}
		c.Write([]byte("hello"))
		s.expect("a datagram to the router", func(f []byte) bool { p, ok := udpAt(f, 9); return ok && string(p) == "hello" })
		c.Close()

		s.link.SetUp(false)
		s.link.SetUp(true)
		if got := next(t, requests); got != "REQUEST to 255.255.255.255" {
			t.Errorf("%q when the link came back", got)
		}
		if got := k.Addresses(); !slices.Contains(got, leased) {
			t.Errorf("addresses %v", got)
		}
		refuse.Store(true)
		s.link.SetUp(false)
		s.link.SetUp(true)
		for end := time.Now().Add(limit); len(k.Addresses()) > 0; time.Sleep(5 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("the address was refused, and stays")
			}
		}
		k.Close()
	}
}

// TestDHCPRenewal: the lease's server is asked directly, from the leased address.
func TestDHCPRenewal(t *testing.T) {
	t.Parallel()
	s := newStation(t, stacktest.Options{})
	requests := serveDHCP(s, func(m, r *dhcpv4.DHCPv4) *dhcpv4.DHCPv4 {
		r.UpdateOption(dhcpv4.OptIPAddressLeaseTime(10 * time.Second))
		return r
	})
	k := start(t, stack.Config{Name: "one", Link: s.link, DHCP: true, NoIPv6: true})
	next(t, requests)
	next(t, requests)
	if got := next(t, requests); got != "REQUEST to 192.0.2.254" {
		t.Error(got)
	}
	if got := k.Addresses(); !slices.Contains(got, leased) {
		t.Errorf("addresses %v", got)
	}
}

// TestDHCPConflict: an address that another host has is declined. The station answers
// for every address, if it is asked by a host that has one itself.
func TestDHCPConflict(t *testing.T) {
	s := newStation(t, stacktest.Options{})
	requests := serveDHCP(s, nil)
	answer := s.react
	s.react = func(f []byte) {
		answer(f)
		if header.Ethernet(f).Type() == header.ARPProtocolNumber && header.ARP(f[14:]).Op() == header.ARPRequest {
			s.link.Inject(s.arp(header.ARPReply, addr(leased.Addr()), tcpip.AddrFrom4([4]byte{})))
		}
	}
	k := start(t, stack.Config{Name: "one", Link: s.link, DHCP: true, NoIPv6: true})
	for _, want := range []string{"DISCOVER to 255.255.255.255", "REQUEST to 255.255.255.255", "DECLINE to 255.255.255.255"} {
		if got := next(t, requests); got != want {
			t.Errorf("%q, not %q", got, want)
		}
	}
	if a := k.Addresses(); len(a) > 0 {
		t.Errorf("addresses %v", a)
	}
}

// TestBadDHCPFrames: answers in bad frames do not reach the client.
func TestBadDHCPFrames(t *testing.T) {
	s := newStation(t, stacktest.Options{})
	k := start(t, stack.Config{Name: "one", Link: s.link, DHCP: true, NoIPv6: true})
	protocol, m := datagram(dhcpServer, leased.Addr(), dhcp.ServerPort, dhcp.ClientPort, []byte("no message of DHCP's"))
	good := s.ip(dhcpServer, leased.Addr(), protocol, m, nil, 0)
	settled := func() uint64 {
		n := k.Stats().DHCPAnswersRefused
		for range 20 {
			time.Sleep(time.Millisecond)
		}
		return max(n, k.Stats().DHCPAnswersRefused)
	}
	s.link.Inject(good)
	for end := time.Now().Add(limit); k.Stats().DHCPAnswersRefused != 1; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("a good frame does not reach the client")
		}
	}
	for at := 12; at < len(good); at++ {
		if at >= 14+1 && at < 14+2 {
			continue // type of service; covered by the header's checksum below
		}
		bad := slices.Clone(good)
		bad[at] ^= 0x10
		s.link.Inject(bad)
		s.link.Inject(good[:at])
	}
	if n := settled(); n != 1 {
		t.Errorf("%d bad frames reached the client", n-1)
	}
}

// TestWaitAddress: the wait ends with its context and with the stack.
func TestWaitAddress(t *testing.T) {
	s := newStation(t, stacktest.Options{})
	k := start(t, stack.Config{Name: "one", Link: s.link, DHCP: true, NoIPv6: true})
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if a, err := k.WaitAddress(ctx); err == nil {
		t.Errorf("address %v", a)
	}
	time.AfterFunc(20*time.Millisecond, func() { k.Close() })
	if a, err := k.WaitAddress(within(t)); err == nil {
		t.Errorf("address %v", a)
	}
}

// TestSLAAC: an address and a route by router advertisement, and a solicitation when
// the link comes back.
func TestSLAAC(t *testing.T) {
	s := newStation(t, stacktest.Options{})
	k := start(t, stack.Config{Name: "one", Link: s.link, SLAAC: true, Secret: []byte("sixteen bytes or more")})
	solicitation := func(f []byte) bool {
		_, to, p, m := transport(f)
		return p == header.ICMPv6ProtocolNumber && m[0] == byte(header.ICMPv6RouterSolicit) && to == netip.MustParseAddr("ff02::2")
	}
	s.expect("a router solicitation", solicitation)

	router, network := netip.MustParseAddr("fe80::9"), netip.MustParsePrefix("2001:db8:5::/64")
	prefix := make([]byte, 30)
	prefix[0], prefix[1] = 64, 0xc0                              // on link, autonomous
	copy(prefix[2:], []byte{0, 0, 0x0e, 0x10, 0, 0, 0x0e, 0x10}) // valid, preferred: 3600 s
	copy(prefix[14:], network.Addr().AsSlice())
	advertisement := header.ICMPv6(make([]byte, header.ICMPv6HeaderSize+header.NDPRAMinimumSize+32+8))
	advertisement.SetType(header.ICMPv6RouterAdvert)
	body := advertisement.MessageBody()
	body[0], body[2], body[3] = 64, 0x07, 0x08 // hop limit; router for 1800 s
	header.NDPRouterAdvert(body).Options().Serialize(header.NDPOptionsSerializer{header.NDPPrefixInformation(prefix), header.NDPSourceLinkLayerAddressOption(stationAddress)})
	to := netip.MustParseAddr("ff02::1")
	advertisement.SetChecksum(header.ICMPv6Checksum(header.ICMPv6ChecksumParams{Header: advertisement, Src: addr(router), Dst: addr(to)}))
	f := s.ip(router, to, header.ICMPv6ProtocolNumber, advertisement, nil, 0)
	copy(f, header.EthernetAddressFromMulticastIPv6Address(addr(to)))
	s.link.Inject(f)

	a, err := k.WaitAddress(within(t))
	if err != nil || !network.Contains(a.Addr()) || a.Bits() != 64 {
		t.Fatalf("address %v, %v", a, err)
	}
	// It is used, by way of the router, beyond the network.
	c, err := k.Dial(within(t), "udp6", "[2001:db8:9::1]:9")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.Write([]byte("hello"))
	s.expect("a datagram to the router", func(f []byte) bool {
		from, _, _, _ := transport(f)
		p, ok := udpAt(f, 9)
		return ok && string(p) == "hello" && from == a.Addr() && header.Ethernet(f).DestinationAddress() == stationAddress
	})
	s.mu.Lock()
	s.seen = nil
	s.mu.Unlock()
	s.link.SetUp(false)
	s.link.SetUp(true)
	again := s.expect("a router solicitation when the link came back", solicitation)
	_, _, _, m := transport(again)
	if sum := header.ICMPv6Checksum(header.ICMPv6ChecksumParams{Header: m, Src: header.IPv6Any, Dst: header.IPv6AllRoutersLinkLocalMulticastAddress}); sum != header.ICMPv6(m).Checksum() {
		t.Errorf("its checksum is %#x, not %#x", header.ICMPv6(m).Checksum(), sum)
	}
	if got := k.Addresses(); !slices.Contains(got, a) {
		t.Errorf("addresses %v", got)
	}
}
