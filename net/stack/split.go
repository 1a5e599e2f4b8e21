package stack

import (
	"encoding/binary"
	"errors"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

var errHeaders = errors.New("stack: packet to split has no headers of TCP, or too long ones")

// split queues a TCP packet longer than the peer's maximum segment size (mss, in
// bytes) as segments, as a network card that splits would (TSO). The packet's
// headers are those of the first segment; each further one differs in its length,
// sequence number, IPv4 identification, flags and checksums. Its payload is not
// copied. sending is held.
func (e *endpoint) split(p *stack.PacketBuffer, mss int) error {
	ip, tcp := p.NetworkHeader().Slice(), p.TransportHeader().Slice()
	size := header.EthernetMinimumSize + len(ip) + len(tcp)
	if size > len(e.headers) || len(tcp) < header.TCPMinimumSize {
		return errHeaders
	}
	views, offset := p.AsViewList()
	from := cursor{views.Front(), offset}
	h := e.headers[:size]
	for n := 0; n < size; {
		n += copy(h[n:], from.take(size-n))
	}
	s := segments{h: h, network: len(ip), sum: !e.txOffload}
	s.begin()
	for rest := p.Data().Size(); rest > 0; {
		n := min(rest, mss)
		rest -= n
		pieces := append(e.pieces[:0], h)
		for left := n; left > 0; {
			b := from.take(left)
			pieces = append(pieces, b)
			left -= len(b)
		}
		s.next(pieces[1:], n, rest == 0)
		err := e.queue(pieces, size+n)
		clear(pieces)
		e.pieces = pieces[:0]
		if err != nil {
			return err
		}
	}
	return nil
}

// A cursor is a place in a packet's views.
type cursor struct {
	view *buffer.View
	at   int
}

// take gives up to n bytes of what follows in one piece, and goes past them. There
// must be some.
func (c *cursor) take(n int) []byte {
	for c.at >= c.view.Size() {
		c.at -= c.view.Size()
		c.view = c.view.Next()
	}
	b := c.view.AsSlice()[c.at:]
	b = b[:min(n, len(b))]
	c.at += len(b)
	return b
}

// segments makes the headers of one segment after the other in place.
type segments struct {
	h       []byte // Ethernet, IP and TCP header
	network int    // length of the IP header, in bytes
	sum     bool   // checksums are ours to compute; otherwise they are left zero
	sequence,
	id uint32
	flags  byte
	pseudo uint16 // sum of the pseudo-header without the length
}

func (s *segments) ip() []byte  { return s.h[header.EthernetMinimumSize:][:s.network] }
func (s *segments) tcp() []byte { return s.h[header.EthernetMinimumSize+s.network:] }

// begin keeps what the segments' headers are made from.
func (s *segments) begin() {
	ip, tcp := s.ip(), s.tcp()
	s.sequence = binary.BigEndian.Uint32(tcp[header.TCPSeqNumOffset:])
	s.flags = tcp[header.TCPFlagsOffset]
	addresses := ip[12:20]
	if s.v6() {
		addresses = ip[8:40]
	} else {
		s.id = uint32(binary.BigEndian.Uint16(ip[4:]))
	}
	s.pseudo = checksum.Combine(checksum.Checksum(addresses, 0), uint16(header.TCPProtocolNumber))
}

func (s *segments) v6() bool { return s.h[12] == byte(header.IPv6ProtocolNumber>>8) }

// next makes the headers of the next segment, with n bytes of payload.
func (s *segments) next(payload [][]byte, n int, last bool) {
	ip, tcp := s.ip(), s.tcp()
	length := len(tcp) + n
	if s.v6() {
		// Extension headers, if any, count as payload (RFC 8200 section 3).
		binary.BigEndian.PutUint16(ip[4:], uint16(length+len(ip)-header.IPv6MinimumSize))
	} else {
		binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)+length))
		binary.BigEndian.PutUint16(ip[4:], uint16(s.id))
		binary.BigEndian.PutUint16(ip[10:], 0)
		if s.sum {
			binary.BigEndian.PutUint16(ip[10:], ^checksum.Checksum(ip, 0))
		}
		// Identifications only matter, and are only set, where a packet may be
		// fragmented (RFC 6864).
		if s.id != 0 {
			s.id++
		}
	}
	binary.BigEndian.PutUint32(tcp[header.TCPSeqNumOffset:], s.sequence)
	s.sequence += uint32(n)
	tcp[header.TCPFlagsOffset] = s.flags
	if !last {
		tcp[header.TCPFlagsOffset] &^= byte(header.TCPFlagFin | header.TCPFlagPsh)
	}
	s.flags &^= byte(header.TCPFlagCwr) // told once (RFC 3168 section 6.1.2)
	binary.BigEndian.PutUint16(tcp[header.TCPChecksumOffset:], 0)
	if s.sum {
		sum := checksum.Combine(s.pseudo, uint16(length))
		sum = checksum.Checksum(tcp, sum)
		binary.BigEndian.PutUint16(tcp[header.TCPChecksumOffset:], ^sumPieces(payload, sum))
	}
}

// sumPieces adds the sum of bytes in pieces to one over an even number of bytes.
func sumPieces(pieces [][]byte, sum uint16) uint16 {
	var c checksum.Checksumer
	for _, b := range pieces {
		c.Add(b)
	}
	return checksum.Combine(sum, c.Checksum())
}

// finish completes a TCP packet that needs no splitting: the network layer has left
// the sum of its pseudo-header in the place of the checksum.
func (e *endpoint) finish(p *stack.PacketBuffer) {
	tcp := header.TCP(p.TransportHeader().Slice())
	if !p.GSOOptions.NeedsCsum || len(tcp) < header.TCPMinimumSize {
		return
	}
	if e.txOffload {
		tcp.SetChecksum(0)
		return
	}
	tcp.SetChecksum(^checksum.Combine(p.Data().Checksum(), checksum.Checksum(tcp, 0)))
}
