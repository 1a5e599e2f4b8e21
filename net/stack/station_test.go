package stack_test

import (
	"net/netip"
	"runtime"
	"sync"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"nitro/net/stack/stacktest"
)

// A station is a test at the other end of a stack's wire. It makes frames of its own,
// sees all that the stack sends, and answers ARP requests for every address.
type station struct {
	t    testing.TB
	link *stacktest.Link // the stack's end

	mu    sync.Mutex
	seen  [][]byte
	react func(frame []byte) // called for each frame of the stack's
}

// stationAddress is the station's hardware address.
var stationAddress = tcpip.LinkAddress("\x02\x00\x00\x00\x00\x02")

func newStation(t testing.TB, o stacktest.Options) *station {
	s := &station{t: t}
	o.Filter = s.sent
	s.link, _ = stacktest.NewLinks(o)
	return s
}

// sent takes a frame of the stack's.
func (s *station) sent(frame []byte) []byte {
	if len(frame) >= 42 && header.Ethernet(frame).Type() == header.ARPProtocolNumber {
		if a := header.ARP(frame[14:]); a.Op() == header.ARPRequest && string(a.ProtocolAddressSender()) != "\x00\x00\x00\x00" {
			s.link.Inject(s.arp(header.ARPReply, tcpip.AddrFrom4Slice(a.ProtocolAddressTarget()), tcpip.AddrFrom4Slice(a.ProtocolAddressSender())))
		}
	}
	s.mu.Lock()
	s.seen = append(s.seen, frame)
	react := s.react
	s.mu.Unlock()
	if react != nil {
		react(frame)
	}
	return nil // there is nobody else
}

// take gives the frames that the stack has sent since the last call, but for ARP
// requests and what IPv6 says by itself (to groups).
func (s *station) take() (frames [][]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.seen {
		isRequest := header.Ethernet(f).Type() == header.ARPProtocolNumber && header.ARP(f[14:]).Op() == header.ARPRequest
		if !isRequest && (f[0]&1 == 0 || f[0] == 0xff) {
			frames = append(frames, f)
		}
	}
	s.seen = nil
	return frames
}

// expect waits until the stack has sent a frame that a test wants.
func (s *station) expect(what string, want func(frame []byte) bool) []byte {
	s.t.Helper()
	return s.insist(what, want, func() {})
}

// insist does something, and again every second as a client does that gets no answer,
// until the stack has sent a frame that a test wants. It looks at each frame once: the
// stack cannot send meanwhile, and there may be tens of thousands.
func (s *station) insist(what string, want func(frame []byte) bool, try func()) []byte {
	s.t.Helper()
	var next time.Time
	looked := 0
	for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if now := time.Now(); now.After(next) {
			try()
			next = now.Add(time.Second)
		}
		s.mu.Lock()
		for ; looked < len(s.seen); looked++ {
			if f := s.seen[looked]; want(f) {
				s.mu.Unlock()
				return f
			}
		}
		s.mu.Unlock()
	}
	buf := make([]byte, 1<<20)
	s.t.Fatalf("the stack does not send %s\n%s", what, buf[:runtime.Stack(buf, true)])
	return nil
}

func addr(a netip.Addr) tcpip.Address { return tcpip.AddrFromSlice(a.AsSlice()) }

// ethernet makes a frame to the stack, or to a group.
func (s *station) ethernet(to tcpip.LinkAddress, kind tcpip.NetworkProtocolNumber, payload []byte) []byte {
	f := make([]byte, header.EthernetMinimumSize, 1514)
	header.Ethernet(f).Encode(&header.EthernetFields{SrcAddr: stationAddress, DstAddr: to, Type: kind})
	return append(f, payload...)
}

func (s *station) own() tcpip.LinkAddress { return tcpip.LinkAddress(s.link.HardwareAddr()) }

func (s *station) arp(op header.ARPOp, from, to tcpip.Address) []byte {
	a := header.ARP(make([]byte, header.ARPSize))
	a.SetIPv4OverEthernet()
	a.SetOp(op)
	copy(a.HardwareAddressSender(), stationAddress)
	copy(a.ProtocolAddressSender(), from.AsSlice())
	copy(a.HardwareAddressTarget(), s.own())
	copy(a.ProtocolAddressTarget(), to.AsSlice())
	return s.ethernet(s.own(), header.ARPProtocolNumber, a)
}

// ip makes a packet of IPv4 or IPv6 to the stack. Options are IPv4's, or extension
// headers of IPv6 of the given kind.
func (s *station) ip(from, to netip.Addr, protocol tcpip.TransportProtocolNumber, payload, options []byte, extension uint8) []byte {
	if to.Is4() {
		p := make([]byte, header.IPv4MinimumSize+len(options))
		ip := header.IPv4(p)
		ip.Encode(&header.IPv4Fields{TotalLength: uint16(len(p) + len(payload)), TTL: 64, Protocol: uint8(protocol), SrcAddr: addr(from), DstAddr: addr(to)})
		ip.SetHeaderLength(uint8(len(p)))
		copy(p[header.IPv4MinimumSize:], options)
		ip.SetChecksum(0)
		ip.SetChecksum(^ip.CalculateChecksum())
		return s.ethernet(s.own(), header.IPv4ProtocolNumber, append(p, payload...))
	}
	p := make([]byte, header.IPv6MinimumSize)
	next := uint8(protocol)
	if options != nil {
		options[0] = next
		next = extension
	}
	header.IPv6(p).Encode(&header.IPv6Fields{
		PayloadLength: uint16(len(options) + len(payload)), TransportProtocol: tcpip.TransportProtocolNumber(next), HopLimit: 255, SrcAddr: addr(from), DstAddr: addr(to),
	})
	return s.ethernet(s.own(), header.IPv6ProtocolNumber, append(append(p, options...), payload...))
}

// ping makes an echo request's message.
func ping(from, to netip.Addr, id uint16) (protocol tcpip.TransportProtocolNumber, message []byte) {
	if to.Is4() {
		m := header.ICMPv4(make([]byte, header.ICMPv4MinimumSize+8))
		m.SetType(header.ICMPv4Echo)
		m.SetIdent(id)
		m.SetChecksum(header.ICMPv4Checksum(m, 0))
		return header.ICMPv4ProtocolNumber, m
	}
	m := header.ICMPv6(make([]byte, header.ICMPv6EchoMinimumSize+8))
	m.SetType(header.ICMPv6EchoRequest)
	m.SetIdent(id)
	m.SetChecksum(header.ICMPv6Checksum(header.ICMPv6ChecksumParams{Header: m, Src: addr(from), Dst: addr(to)}))
	return header.ICMPv6ProtocolNumber, m
}

func sumOf(protocol tcpip.TransportProtocolNumber, from, to netip.Addr, n int) uint16 {
	return header.PseudoHeaderChecksum(protocol, addr(from), addr(to), uint16(n))
}

// syn makes a TCP segment that asks for a connection.
func syn(from, to netip.Addr, fromPort, toPort uint16) (tcpip.TransportProtocolNumber, []byte) {
	m := header.TCP(make([]byte, header.TCPMinimumSize))
	m.Encode(&header.TCPFields{SrcPort: fromPort, DstPort: toPort, SeqNum: uint32(fromPort) << 12, DataOffset: header.TCPMinimumSize, Flags: header.TCPFlagSyn, WindowSize: 65535})
	m.SetChecksum(^m.CalculateChecksum(sumOf(header.TCPProtocolNumber, from, to, len(m))))
	return header.TCPProtocolNumber, m
}

// datagram makes a UDP datagram.
func datagram(from, to netip.Addr, fromPort, toPort uint16, payload []byte) (tcpip.TransportProtocolNumber, []byte) {
	m := header.UDP(make([]byte, header.UDPMinimumSize+len(payload)))
	m.Encode(&header.UDPFields{SrcPort: fromPort, DstPort: toPort, Length: uint16(len(m))})
	copy(m.Payload(), payload)
	m.SetChecksum(^m.CalculateChecksum(checksum.Checksum(payload, sumOf(header.UDPProtocolNumber, from, to, len(m)))))
	return header.UDPProtocolNumber, m
}

// transport gives what a frame of the stack's carries.
func transport(frame []byte) (from, to netip.Addr, protocol tcpip.TransportProtocolNumber, payload []byte) {
	if len(frame) < 34 {
		return
	}
	switch header.Ethernet(frame).Type() {
	case header.IPv4ProtocolNumber:
		ip := header.IPv4(frame[14:])
		from, _ = netip.AddrFromSlice(ip.SourceAddressSlice())
		to, _ = netip.AddrFromSlice(ip.DestinationAddressSlice())
		return from, to, ip.TransportProtocol(), ip.Payload()
	case header.IPv6ProtocolNumber:
		ip := header.IPv6(frame[14:])
		from, _ = netip.AddrFromSlice(ip.SourceAddressSlice())
		to, _ = netip.AddrFromSlice(ip.DestinationAddressSlice())
		return from, to, ip.TransportProtocol(), ip.Payload()
	}
	return
}

// udpAt gives the payload of a datagram of the stack's to a port.
func udpAt(frame []byte, port uint16) (payload []byte, ok bool) {
	_, _, protocol, b := transport(frame)
	if protocol != header.UDPProtocolNumber || len(b) < header.UDPMinimumSize || header.UDP(b).DestinationPort() != port {
		return nil, false
	}
	return header.UDP(b).Payload(), true
}
