package stack

import (
	"encoding/binary"
	"sync/atomic"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// A flow is a connection of TCP over IPv4 as its received packets have it: source and
// destination address, source and destination port.
type flow [12]byte

// flows are the connections that this side has last sent in. Their packets go straight to
// TCP: what the network layer would find out for each anew is known. That the destination is
// an address of ours, and the source none, nor one of a group, it found out before TCP
// answered; the checksum of the header has been verified, and options and fragments are no
// segments here (parse). There is no filter and no raw socket in a Stack.
//
// A connection whose place another one takes goes the longer way until it sends again.
type flows [64]atomic.Pointer[flow]

// at gives the place of a flow.
func (f *flows) at(k *flow) *atomic.Pointer[flow] {
	return &f[(k[9]^k[11])%byte(len(f))]
}

// sent notes a flow in which a packet is sent.
func (f *flows) sent(ip, tcp []byte) {
	if len(ip) < header.IPv4MinimumSize || len(tcp) < 4 {
		return
	}
	var k flow
	copy(k[:], ip[16:20])
	copy(k[4:], ip[12:16])
	binary.BigEndian.PutUint16(k[8:], binary.BigEndian.Uint16(tcp[2:]))
	binary.BigEndian.PutUint16(k[10:], binary.BigEndian.Uint16(tcp))
	at := f.at(&k)
	if known := at.Load(); known == nil || *known != k {
		known := k // k itself stays on the stack
		at.Store(&known)
	}
}

// has tells whether a received packet is of a flow.
func (f *flows) has(ip, tcp []byte) bool {
	if len(ip) != header.IPv4MinimumSize {
		return false
	}
	var k flow
	copy(k[:], ip[12:20])
	copy(k[8:], tcp[:4])
	known := f.at(&k).Load()
	return known != nil && *known == k
}

// forget has all packets go the longer way, since an address is gone.
func (f *flows) forget() {
	for i := range f {
		f[i].Store(nil)
	}
}

// segment sends a packet of TCP up whose checksums have been verified: to TCP itself if its
// flow is known, and to the network layer otherwise.
func (e *endpoint) segment(protocol tcpip.NetworkProtocolNumber, packet []byte, ip, tcp int) {
	p := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithView(buffer.NewViewWithData(packet))})
	p.PktType = tcpip.PacketHost
	if d := e.dispatcher.Load(); d != nil && e.flows.has(packet[:ip], packet[ip:ip+tcp]) {
		if t, ok := d.NetworkDispatcher.(stack.TransportDispatcher); ok {
			p.NICID, p.RXChecksumValidated = nicID, true
			p.NetworkProtocolNumber, p.TransportProtocolNumber = protocol, header.TCPProtocolNumber
			p.NetworkHeader().Consume(ip)
			p.TransportHeader().Consume(tcp)
			t.DeliverTransportPacket(header.TCPProtocolNumber, p)
			p.DecRef()
			return
		}
	}
	e.up(protocol, p, true)
}
