package stack

import (
	"bytes"
	"encoding/binary"
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

const (
	// maxJoined is the longest packet that is joined, in bytes: the length
	// field of IPv4 has 16 bits.
	maxJoined = 1<<16 - 1

	// minSegment is the least payload of a segment that others are joined to,
	// in bytes: shorter ones are not worth the second copy.
	minSegment = 512
)

// A join makes one packet of TCP segments that follow each other in one connection,
// so that the layers above do their work once for all of them (GRO). It holds one
// packet at a time; whatever does not continue it sends it on its way first, so
// nothing is overtaken. After each batch of frames the receiver lets it rest: only an
// acknowledgement that data will repeat waits on, and no longer than holdLimit.
//
// Segments are joined if everything in their headers is the same but the sequence
// number, the IPv4 identification, the checksums, PSH and FIN; if they have payload,
// and no longer one than the first; and if no flag is set but ACK, PSH and FIN. A
// shorter one, PSH and FIN end a packet. IPv4 packets with options, fragments, and
// IPv6 packets with extension headers are left alone.
//
// Of acknowledgements without payload that arrive together, each of which acknowledges
// more than the one before, the last stands for all (RFC 9293 section 3.8.6.3 allows a
// receiver to send it alone). Those that repeat a number, or have options other than
// time stamps, tell of losses and are left alone.
//
// A joined packet has the
// checksums of its first segment, so checksums are verified before, by the link or
// here.
//
// gVisor's own (package gro) makes a packet of each segment first, and its Flush
// leaves packets behind when several are in one bucket.
type join struct {
	e *endpoint

	mu       sync.Mutex // held from here on by whoever adds or flushes
	protocol tcpip.NetworkProtocolNumber
	held     int             // length of the packet that is held, in bytes; 0 for none
	data     [maxJoined]byte // the packet; copied to memory of its size when it goes up
	head     segment         // its first segment, in data
	spare    bool            // it is an acknowledgement that has waited, and may be left out if data repeat it
	next     uint32          // sequence number of what continues it
}

// A segment is a packet of IPv4 or IPv6 with a TCP segment.
type segment struct {
	ip, tcp, payload []byte // the two headers, and the rest without padding
}

// parse takes a packet apart, and tells whether it may be joined to others.
func parse(p []byte, protocol tcpip.NetworkProtocolNumber) (s segment, ok bool) {
	switch protocol {
	case header.IPv4ProtocolNumber:
		const version4, fragment = 0x45, 0x3fff // no options; more fragments, or an offset
		if len(p) < header.IPv4MinimumSize || p[0] != version4 || binary.BigEndian.Uint16(p[6:])&fragment != 0 ||
			p[9] != byte(header.TCPProtocolNumber) {
			return s, false
		}
		n := int(binary.BigEndian.Uint16(p[2:]))
		if n < header.IPv4MinimumSize || n > len(p) {
			return s, false
		}
		s.ip, p = p[:header.IPv4MinimumSize], p[header.IPv4MinimumSize:n]
	case header.IPv6ProtocolNumber:
		if len(p) < header.IPv6MinimumSize || p[0]>>4 != 6 || p[6] != byte(header.TCPProtocolNumber) {
			return s, false
		}
		n := header.IPv6MinimumSize + int(binary.BigEndian.Uint16(p[4:]))
		if n > len(p) {
			return s, false
		}
		s.ip, p = p[:header.IPv6MinimumSize], p[header.IPv6MinimumSize:n]
	default:
		return s, false
	}
	if len(p) < header.TCPMinimumSize {
		return s, false
	}
	n := int(p[12]>>4) * 4
	if n < header.TCPMinimumSize || n > len(p) {
		return s, false
	}
	s.tcp, s.payload = p[:n], p[n:]
	const others = ^byte(header.TCPFlagAck | header.TCPFlagPsh | header.TCPFlagFin)
	return s, s.flags()&others == 0 && s.flags()&byte(header.TCPFlagAck) != 0 && p[12]&0xf == 0
}

func (s segment) flags() byte      { return s.tcp[header.TCPFlagsOffset] }
func (s segment) sequence() uint32 { return binary.BigEndian.Uint32(s.tcp[header.TCPSeqNumOffset:]) }
func (s segment) headers() int     { return len(s.ip) + len(s.tcp) }
func (s segment) ends() bool       { return s.flags()&byte(header.TCPFlagPsh|header.TCPFlagFin) != 0 }

func (s segment) ack() uint32 { return binary.BigEndian.Uint32(s.tcp[header.TCPAckNumOffset:]) }

// plainAck tells whether a segment without payload is an acknowledgement and nothing
// else: without options, or with a time stamp as everybody writes it (RFC 7323
// appendix A).
func (s segment) plainAck() bool {
	if s.flags() != byte(header.TCPFlagAck) {
		return false
	}
	options := s.tcp[header.TCPMinimumSize:]
	return len(options) == 0 || len(options) == 12 && string(options[:4]) == "\x01\x01\x08\x0a"
}

// supersedes tells whether an acknowledgement says all that another one has said, and
// more: it is of the same connection and has a higher number.
func (s segment) supersedes(o segment) bool {
	if len(o.payload) != 0 || len(s.ip) != len(o.ip) || len(s.tcp) != len(o.tcp) || s.sequence() != o.sequence() || int32(s.ack()-o.ack()) <= 0 {
		return false
	}
	addresses := 8
	if len(s.ip) == header.IPv4MinimumSize {
		addresses = 12
	}
	return bytes.Equal(s.ip[addresses:], o.ip[addresses:]) && bytes.Equal(s.tcp[:4], o.tcp[:4]) &&
		s.ip[0] == o.ip[0] && s.ip[1] == o.ip[1] // version, and marks of congestion (RFC 3168)
}

// repeats tells whether a segment with payload says what an acknowledgement of the same
// connection has said.
func (s segment) repeats(o segment) bool {
	return len(s.ip) == header.IPv4MinimumSize && len(o.ip) == len(s.ip) && bytes.Equal(s.ip[12:], o.ip[12:]) && bytes.Equal(s.tcp[:4], o.tcp[:4]) &&
		int32(s.ack()-o.ack()) >= 0 && s.ip[1] == o.ip[1]
}

// like tells whether two segments' headers agree in all that must be the same.
func (s segment) like(o segment) bool {
	if len(s.ip) != len(o.ip) || len(s.tcp) != len(o.tcp) {
		return false
	}
	same := func(a, b []byte, from, to int) bool { return bytes.Equal(a[from:to], b[from:to]) }
	if len(s.ip) == header.IPv4MinimumSize {
		// Version and type of service; flags, time to live and protocol; addresses.
		if !same(s.ip, o.ip, 12, 20) || !same(s.ip, o.ip, 0, 2) || !same(s.ip, o.ip, 6, 10) {
			return false
		}
	} else if !same(s.ip, o.ip, 8, 40) || !same(s.ip, o.ip, 0, 4) || !same(s.ip, o.ip, 6, 8) {
		// Addresses; version, class and flow; next header and hop limit.
		return false
	}
	// Ports; acknowledgement and length; window; urgent pointer and options.
	return same(s.tcp, o.tcp, 0, 4) && same(s.tcp, o.tcp, 8, 13) && same(s.tcp, o.tcp, 14, 16) && same(s.tcp, o.tcp, 18, len(s.tcp))
}

// valid checks the checksums of IPv4 and TCP.
func (s segment) valid() bool {
	addresses := s.ip[8:]
	if len(s.ip) == header.IPv4MinimumSize {
		if checksum.Checksum(s.ip, 0) != 0xffff {
			return false
		}
		addresses = s.ip[12:]
	}
	all := checksum.Checksum(addresses, uint16(header.TCPProtocolNumber))
	all = checksum.Combine(all, uint16(len(s.tcp)+len(s.payload)))
	all = checksum.Checksum(s.tcp, all)
	return sum(s.payload, all) == 0xffff
}

// add takes a packet if it can be joined to others. If it gives false, the packet is
// the caller's to deliver, after flush.
func (j *join) add(packet []byte, protocol tcpip.NetworkProtocolNumber) bool {
	s, ok := parse(packet, protocol)
	if !ok || !j.e.rxOffload && !s.valid() {
		return false
	}
	if len(s.payload) == 0 {
		return j.addAck(s, packet, protocol)
	}
	n := len(s.payload)
	if j.held > 0 && s.sequence() == j.next && n <= len(j.head.payload) && j.held+n <= maxJoined && s.like(j.head) {
		j.held += copy(j.data[j.held:], s.payload)
		j.head.tcp[header.TCPFlagsOffset] |= s.flags()
		j.next += uint32(n)
		j.e.counts.joined.Add(1)
		if s.ends() || n < len(j.head.payload) {
			j.flush()
		}
		return true
	}
	if j.spare && s.repeats(j.head) {
		j.held = 0
		j.e.counts.joined.Add(1)
	}
	j.flush()
	if s.ends() || n < minSegment {
		j.e.segment(protocol, packet[:s.headers()+n], len(s.ip), len(s.tcp))
		return true
	}
	j.hold(s, packet, protocol)
	return true
}

// addAck takes an acknowledgement.
func (j *join) addAck(s segment, packet []byte, protocol tcpip.NetworkProtocolNumber) bool {
	if !s.plainAck() {
		return false
	}
	if j.held > 0 && s.supersedes(j.head) {
		j.e.counts.joined.Add(1)
	} else {
		j.flush()
	}
	j.hold(s, packet, protocol)
	return true
}

// hold begins a packet with a segment.
func (j *join) hold(s segment, packet []byte, protocol tcpip.NetworkProtocolNumber) {
	j.held = copy(j.data[:], packet[:s.headers()+len(s.payload)])
	b := j.data[:j.held]
	j.head = segment{b[:len(s.ip)], b[len(s.ip):s.headers()], b[s.headers():]}
	j.protocol, j.next = protocol, s.sequence()+uint32(len(s.payload))
}

// flush sends the packet that is held up the layers.
func (j *join) flush() {
	j.spare = false
	if j.held == 0 {
		return
	}
	if ip := j.head.ip; len(ip) == header.IPv4MinimumSize {
		binary.BigEndian.PutUint16(ip[2:], uint16(j.held))
	} else {
		binary.BigEndian.PutUint16(ip[4:], uint16(j.held-header.IPv6MinimumSize))
	}
	packet := j.data[:j.held]
	j.held = 0
	j.e.segment(j.protocol, packet, len(j.head.ip), len(j.head.tcp))
}

// holdLimit is how long an acknowledgement waits for data that repeat it, in whole
// milliseconds: less than the time that it takes through the layers, on the slowest board.
const holdLimit = 2 * time.Millisecond

// rest is called when a batch of frames has been delivered, or none has come within
// holdLimit. An acknowledgement that nobody waits for may wait, until it is called the next
// time: mostly the peer's next data bring it again. Whatever else is held goes up, data in
// the middle of a burst too: a sender whose window is full sends no more until they are
// acknowledged. It reports whether something waits.
func (j *join) rest() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.held == 0 {
		return false
	}
	c := j.e.flows.find(j.head.ip, j.head.tcp)
	if j.spare || len(j.head.payload) > 0 || c == nil || !c.patient(j.head.ack()) {
		j.flush()
		return false
	}
	j.spare = true
	return true
}

// end flushes what is held when no more frames will come.
func (j *join) end() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.flush()
}
