package stack

import (
	"encoding/binary"
	"sync/atomic"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// A flow is a connection of TCP over IPv4 as its received packets have it: source and
// destination address, source and destination port.
type flow [12]byte

// A connection is what is known of one in which this side has sent. Sequence numbers are
// this side's.
type connection struct {
	flow
	sent  atomic.Uint32 // behind the last byte that was sent
	start atomic.Uint32 // where sending began since all was acknowledged
	acked atomic.Uint32 // the last acknowledgement that went up

	unsettled bool   // it is among the link's unsettled ones; the receiver's
	taken     uint32 // segments that direct was called for; the receiver's

	// ep is the endpoint, if it is known; should another one have taken its place, it is
	// closed, and of no use.
	ep atomic.Pointer[tcp.Endpoint]
}

// flows are the connections that this side has last sent in. Their packets go straight to
// TCP: what the network layer would find out for each anew is known. That the destination is
// an address of ours, and the source none, nor one of a group, it found out before TCP
// answered; the checksum of the header has been verified, and options and fragments are no
// segments here (parse). There is no filter and no raw socket in a Stack.
//
// A connection whose place another one takes goes the longer way until it sends again.
type flows [64]atomic.Pointer[connection]

// at gives the place of a flow.
func (f *flows) at(k *flow) *atomic.Pointer[connection] {
	return &f[(k[9]^k[11])%byte(len(f))]
}

// sent notes a packet that is sent with n bytes of payload.
func (f *flows) sent(ip, tcp []byte, n int) {
	if len(ip) < header.IPv4MinimumSize || len(tcp) < header.TCPMinimumSize {
		return
	}
	var k flow
	copy(k[:], ip[16:20])
	copy(k[4:], ip[12:16])
	binary.BigEndian.PutUint16(k[8:], binary.BigEndian.Uint16(tcp[2:]))
	binary.BigEndian.PutUint16(k[10:], binary.BigEndian.Uint16(tcp))
	at := f.at(&k)
	c := at.Load()
	if c == nil || c.flow != k {
		c = &connection{flow: k}
		at.Store(c)
	}
	if n == 0 {
		return
	}
	first := binary.BigEndian.Uint32(tcp[header.TCPSeqNumOffset:])
	if sent := c.sent.Load(); sent == c.acked.Load() || sent == c.start.Load() {
		c.start.Store(first)
		c.sent.Store(first + uint32(n))
	} else if int32(first+uint32(n)-sent) > 0 {
		c.sent.Store(first + uint32(n))
	}
}

// flowOf gives the flow of an endpoint that is connected.
func flowOf(ep tcpip.Endpoint) (k flow, t *tcp.Endpoint, ok bool) {
	t, ok = ep.(*tcp.Endpoint)
	if !ok || t.ID.LocalAddress.Len() != header.IPv4AddressSize || t.ID.RemoteAddress.Len() != header.IPv4AddressSize {
		return k, nil, false
	}
	copy(k[:], t.ID.RemoteAddress.AsSlice())
	copy(k[4:], t.ID.LocalAddress.AsSlice())
	binary.BigEndian.PutUint16(k[8:], t.ID.RemotePort)
	binary.BigEndian.PutUint16(k[10:], t.ID.LocalPort)
	return k, t, true
}

// detach forgets the endpoint of a connection.
func (f *flows) detach(ep tcpip.Endpoint) {
	if k, t, ok := flowOf(ep); ok {
		if c := f.at(&k).Load(); c != nil && c.flow == k {
			c.ep.CompareAndSwap(t, nil)
		}
	}
}

// attach makes the endpoint of a connection known.
func (f *flows) attach(ep tcpip.Endpoint) {
	k, t, ok := flowOf(ep)
	if !ok {
		return
	}
	at := f.at(&k)
	c := at.Load()
	if c == nil || c.flow != k {
		c = &connection{flow: k}
		at.Store(c)
	}
	c.ep.Store(t)
}

// find gives the connection of a received packet, or nil if it is not known.
func (f *flows) find(ip, tcp []byte) *connection {
	if len(ip) != header.IPv4MinimumSize {
		return nil
	}
	var k flow
	copy(k[:], ip[12:20])
	copy(k[8:], tcp[:4])
	if c := f.at(&k).Load(); c != nil && c.flow == k {
		return c
	}
	return nil
}

// fewBytes is what a connection sends without having to wait for an acknowledgement, in
// bytes: less than any initial window (RFC 6928), and than any buffer.
const fewBytes = 8 << 10

// patient tells whether an acknowledgement may wait: it tells something new, of data that
// were so few that their sender has not stopped sending for want of it.
func (c *connection) patient(ack uint32) bool {
	sent := c.sent.Load()
	flight := sent - c.start.Load()
	return flight > 0 && flight <= fewBytes && int32(ack-c.acked.Load()) > 0 && int32(sent-ack) >= 0
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
	c := e.flows.find(packet[:ip], packet[ip:ip+tcp])
	if d := e.dispatcher.Load(); d != nil && c != nil {
		c.acked.Store(binary.BigEndian.Uint32(packet[ip+header.TCPAckNumOffset:]))
		if t, ok := d.NetworkDispatcher.(stack.TransportDispatcher); ok {
			p.NICID, p.RXChecksumValidated = nicID, true
			p.NetworkProtocolNumber, p.TransportProtocolNumber = protocol, header.TCPProtocolNumber
			p.NetworkHeader().Consume(ip)
			p.TransportHeader().Consume(tcp)
			if ep := c.ep.Load(); ep != nil && packet[ip+header.TCPFlagsOffset]&byte(header.TCPFlagFin) == 0 {
				e.direct(c, ep, p)
			} else {
				t.DeliverTransportPacket(header.TCPProtocolNumber, p)
			}
			p.DecRef()
			return
		}
	}
	e.up(protocol, p, true)
}

// wholeEvery is how many segments there are to one that is dealt with as gVisor's processors
// do: prime, so that it is not always of one kind.
const wholeEvery = 61

// direct sends a segment of a connection whose endpoint is known to TCP, without a search for
// that, and without a processor of gVisor's if it can be.
func (e *endpoint) direct(c *connection, ep *tcp.Endpoint, p *stack.PacketBuffer) {
	e.turns.begin()
	c.taken++
	if direct(e.tcp, ep, p, c.taken%wholeEvery == 0) && !c.unsettled {
		c.unsettled = true
		e.unsettled = append(e.unsettled, c)
	}
}

// settle has acknowledged what direct has taken: when who reads it has had the opportunity
// to answer, since data that are sent acknowledge it too.
func (e *endpoint) settle() {
	for i, c := range e.unsettled {
		c.unsettled, e.unsettled[i] = false, nil
		if ep := c.ep.Load(); ep != nil {
			settle(ep)
		}
	}
	e.unsettled = e.unsettled[:0]
}
