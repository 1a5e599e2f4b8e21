package enet

import "encoding/binary"

// Checksums (RFC 1071) that the block does not see to, and what it does. On silicon it
// inserts and verifies those of TCP and UDP where the transport header follows an IPv4
// header without options, or the fixed IPv6 header, at once (22.5.8 speaks of known
// protocols). The driver does ICMP, ICMPv6, and packets with options or extension
// headers: they are rare.

// Types, numbers and lengths (RFC 791, 8200, 9293, 768, 792, 4443).
const (
	typeIPv4 = 0x0800
	typeIPv6 = 0x86dd

	protoICMP   = 1
	protoTCP    = 6
	protoUDP    = 17
	protoICMPv6 = 58

	extHopByHop    = 0
	extRouting     = 43
	extFragment    = 44
	extDestination = 60

	header       = 14 // Ethernet
	headerIPv4   = 20
	headerIPv6   = 40
	headerTCP    = 20
	fragmentBits = 0x3f // of byte 6: more fragments, and the upper part of the offset

	// plainHeader is as much of a frame as parse looks at in a packet without
	// options or extension headers.
	plainHeader = header + headerIPv6
)

// maxExtensions bounds the extension headers that are looked behind.
const maxExtensions = 8

// A packet is where the parts of an IP packet are within a frame.
type packet struct {
	v6        bool
	protocol  byte // of the transport
	transport int  // where it begins
	end       int  // where it ends: what follows is padding
	plain     bool // no options, no extension headers
	fragment  bool
}

// parse finds the parts of an IP packet of a frame of n bytes, of which at least
// plainHeader, or all, are at hand. It is false where there is none, or it is not as it
// should be.
func (k *packet) parse(b []byte, n int) bool {
	if n < header+headerIPv4 {
		return false
	}
	_ = b[header+headerIPv4-1]
	switch uint32(b[12])<<8 | uint32(b[13]) {
	case typeIPv4:
		length := int(b[header]&0xf) * 4
		k.protocol, k.transport, k.plain = b[header+9], header+length, length == headerIPv4
		k.end = header + int(b[header+2])<<8 + int(b[header+3])
		k.fragment = b[header+6]&fragmentBits|b[header+7] != 0
		return b[header]>>4 == 4 && length >= headerIPv4 && k.transport <= k.end && k.end <= n
	case typeIPv6:
		return k.parse6(b, n)
	}
	return false
}

func (k *packet) parse6(b []byte, n int) bool {
	if n < header+headerIPv6 || b[header]>>4 != 6 {
		return false
	}
	k.v6, k.plain = true, true
	k.protocol, k.transport = b[header+6], header+headerIPv6
	k.end = header + headerIPv6 + int(b[header+4])<<8 + int(b[header+5])
	if k.end > n {
		return false
	}
	for range maxExtensions {
		switch k.protocol {
		default:
			return true
		case extFragment:
			k.fragment, k.plain = true, false
			return true
		case extHopByHop, extRouting, extDestination:
		}
		k.plain = false
		if k.transport+8 > min(k.end, len(b)) {
			return false
		}
		k.protocol, k.transport = b[k.transport], k.transport+8+int(b[k.transport+1])*8
	}
	return false
}

// sumAt gives where a transport's checksum is within its header, or 0 where it has
// none that we know.
func (k *packet) sumAt() int {
	at := 0
	switch {
	case k.protocol == protoTCP:
		at = 16
	case k.protocol == protoUDP:
		at = 6
	case k.protocol == protoICMP && !k.v6, k.protocol == protoICMPv6 && k.v6:
		at = 2
	}
	if k.transport+at+2 > k.end {
		return 0
	}
	return at
}

// ofBlock tells whether the block sees to the transport's checksum. QEMU's block knows
// IPv4 only.
func (k *packet) ofBlock(emulated bool) bool {
	return k.plain && !k.fragment && (k.protocol == protoTCP || k.protocol == protoUDP) && !(emulated && k.v6)
}

// sum adds the big-endian words of b to a sum.
func sum(b []byte, to uint32) uint32 {
	for ; len(b) >= 2; b = b[2:] {
		to += uint32(binary.BigEndian.Uint16(b))
	}
	if len(b) == 1 {
		to += uint32(b[0]) << 8
	}
	return to
}

// fold makes a checksum of a sum of at most 64 KiB.
func fold(v uint32) uint16 {
	v = v&0xffff + v>>16
	return ^uint16(v + v>>16)
}

// transportSum computes a transport's checksum over all its bytes, the checksum's own
// included, and the pseudo header.
func (k *packet) transportSum(frame []byte) uint16 {
	v := uint32(0)
	switch {
	case k.v6: // source and final destination are in the fixed header
		v = sum(frame[header+8:header+headerIPv6], uint32(k.protocol)+uint32(k.end-k.transport))
	case k.protocol != protoICMP:
		v = sum(frame[header+12:header+headerIPv4], uint32(k.protocol)+uint32(k.end-k.transport))
	}
	return fold(sum(frame[k.transport:k.end], v))
}

// clearSums clears the fields of the checksums, as the block wants those that it is to
// fill, and gives the descriptor's flags that have it do so.
func (k *packet) clearSums(frame []byte) (flags uint32) {
	if !k.v6 {
		frame[header+10], frame[header+11] = 0, 0
		flags = txHeaderSum
	}
	if at := k.sumAt(); at > 0 && !k.fragment {
		frame[k.transport+at], frame[k.transport+at+1] = 0, 0
		flags |= txProtocolSum
	}
	return flags
}

// sums sees to the checksums of a frame in the transmit ring, of which cached is a
// part that is quick to read, and gives the descriptor's flags that have the block do
// the rest.
func (p *Port) sums(frame, cached []byte) (flags uint32) {
	var k packet
	if !k.parse(cached, len(frame)) {
		if k = (packet{}); len(cached) == len(frame) || !k.parse(frame, len(frame)) {
			return 0 // not IP; or there are extension headers behind what is cached
		}
	}
	flags = k.clearSums(frame)
	if flags&txProtocolSum == 0 || k.ofBlock(p.c.Emulated) {
		return flags
	}
	v := k.transportSum(frame)
	if v == 0 && k.protocol == protoUDP {
		v = 0xffff // 0 says that there is none (RFC 768)
	}
	at := k.transport + k.sumAt()
	frame[at], frame[at+1] = byte(v>>8), byte(v)
	return flags &^ txProtocolSum
}

// vouched tells whether a received frame's checksums are right. The block has
// discarded frames where those that it knows were wrong. Of a fragment nobody can
// tell.
func vouched(frame []byte) bool {
	var k packet
	switch {
	case !k.parse(frame, len(frame)) || k.ofBlock(false):
		return true
	case k.fragment:
		return false
	}
	at := k.sumAt()
	if at > 0 && k.protocol == protoUDP && !k.v6 && frame[k.transport+at]|frame[k.transport+at+1] == 0 {
		return true // its sender has made none (RFC 768)
	}
	return at == 0 || k.transportSum(frame) == 0
}
