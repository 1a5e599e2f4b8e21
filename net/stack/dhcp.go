package stack

import (
	"context"
	"encoding/binary"
	"net/netip"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"nitro/net/dhcp"
)

// probe is how long an answer to an ARP probe is waited for. RFC 5227 takes three
// probes and five to nine seconds; a server has asked already (RFC 2131 section 2.2).
const probe = 300 * time.Millisecond

// startDHCP sets the client up. Its answers are taken from the link before the
// network layer sees them, since there is no address yet to receive them at.
func (s *Stack) startDHCP() {
	s.dhcp = dhcp.NewClient(dhcp.Config{
		HardwareAddr: s.config.Link.HardwareAddr(), Hostname: s.config.Hostname,
		Send: s.sendDHCP, InUse: s.inUse, Changed: s.setLease,
	})
	s.link.capture = func(frame []byte) bool {
		payload, ok := s.link.datagram(frame, dhcp.ServerPort, dhcp.ClientPort)
		if ok {
			s.dhcp.Receive(payload)
		}
		return ok
	}
}

// datagram gives the payload of a frame that holds a UDP datagram over IPv4 between
// two ports, in one piece and with good checksums.
func (e *endpoint) datagram(frame []byte, from, to uint16) ([]byte, bool) {
	const headers = header.EthernetMinimumSize + header.IPv4MinimumSize + header.UDPMinimumSize
	if len(frame) < headers || binary.BigEndian.Uint16(frame[12:]) != uint16(ipv4.ProtocolNumber) {
		return nil, false
	}
	ip := header.IPv4(frame[header.EthernetMinimumSize:])
	if ip.Protocol() != uint8(header.UDPProtocolNumber) || !ip.IsValid(len(ip)) || ip.More() || ip.FragmentOffset() != 0 {
		return nil, false
	}
	u := header.UDP(ip[ip.HeaderLength():ip.TotalLength()])
	if len(u) < header.UDPMinimumSize || u.SourcePort() != from || u.DestinationPort() != to ||
		int(u.Length()) < header.UDPMinimumSize || int(u.Length()) > len(u) {
		return nil, false
	}
	u = u[:u.Length()]
	if !e.rxOffload {
		if !ip.IsChecksumValid() || u.Checksum() != 0 && !u.IsChecksumValid(ip.SourceAddress(), ip.DestinationAddress(), checksum.Checksum(u.Payload(), 0)) {
			return nil, false
		}
	}
	return u.Payload(), true
}

// sendDHCP sends a message: by itself where the network layer has no address or no
// route to everybody, and through it to a server.
func (s *Stack) sendDHCP(payload []byte, from, to netip.Addr) {
	if to != dhcp.Broadcast {
		local, err := s.ListenPacket("udp4", netip.AddrPortFrom(from, dhcp.ClientPort).String())
		if err != nil {
			return
		}
		defer local.Close()
		local.SetDeadline(time.Now().Add(time.Second))
		local.WriteTo(payload, udpAddr(to, dhcp.ServerPort))
		return
	}
	s.link.sendFrame(s.link.broadcast(payload, from, dhcp.ClientPort, dhcp.ServerPort))
}

// broadcast makes a frame with a UDP datagram to all of the local network.
func (e *endpoint) broadcast(payload []byte, from netip.Addr, fromPort, toPort uint16) []byte {
	const headers = header.EthernetMinimumSize + header.IPv4MinimumSize + header.UDPMinimumSize
	frame := make([]byte, headers+len(payload))
	header.Ethernet(frame).Encode(&header.EthernetFields{SrcAddr: e.address, DstAddr: header.EthernetBroadcastAddress, Type: ipv4.ProtocolNumber})
	ip := header.IPv4(frame[header.EthernetMinimumSize:])
	source := toAddress(from)
	ip.Encode(&header.IPv4Fields{
		TotalLength: uint16(len(ip)), TTL: 64, Protocol: uint8(header.UDPProtocolNumber), SrcAddr: source, DstAddr: header.IPv4Broadcast,
	})
	u := header.UDP(ip[header.IPv4MinimumSize:])
	u.Encode(&header.UDPFields{SrcPort: fromPort, DstPort: toPort, Length: uint16(len(u))})
	copy(u.Payload(), payload)
	if !e.txOffload {
		ip.SetChecksum(^ip.CalculateChecksum())
		sum := header.PseudoHeaderChecksum(header.UDPProtocolNumber, source, header.IPv4Broadcast, uint16(len(u)))
		u.SetChecksum(^u.CalculateChecksum(checksum.Checksum(payload, sum)))
	}
	return frame
}

// inUse asks by ARP whether another host has an address (RFC 5227 section 2.1.1).
func (s *Stack) inUse(ctx context.Context, a netip.Addr) bool {
	result := make(chan bool, 1)
	_, err := s.ip.CheckDuplicateAddress(nicID, ipv4.ProtocolNumber, toAddress(a), func(r stack.DADResult) {
		_, duplicate := r.(*stack.DADDupAddrDetected)
		result <- duplicate
	})
	if err != nil {
		return false
	}
	select {
	case duplicate := <-result:
		return duplicate
	case <-ctx.Done():
		return false
	case <-time.After(2 * probe):
		return false
	}
}

// setLease takes a lease's address up, in place of the one before.
func (s *Stack) setLease(l *dhcp.Lease) {
	s.mu.Lock()
	old := s.lease
	s.lease = l
	s.mu.Unlock()
	if old != nil && (l == nil || l.Address != old.Address) {
		s.ip.RemoveAddress(nicID, toAddress(old.Address.Addr()))
		s.link.flows.forget()
	}
	if l != nil && (old == nil || l.Address != old.Address) {
		if err := s.addAddress(l.Address); err != nil {
			s.link.counts.addressErrors.Add(1)
		}
	}
	s.touch()
}
