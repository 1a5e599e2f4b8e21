package stack

import "gvisor.dev/gvisor/pkg/tcpip"

// Stats are a port's counters since New.
type Stats struct {
	FramesReceived, BytesReceived uint64 // whole frames without FCS
	FramesSent, BytesSent         uint64
	FramesDropped                 uint64 // received, of no protocol spoken here or for other stations
	SegmentsJoined                uint64 // received, that became part of another one's packet
	ReceiveErrors                 uint64 // of the link
	SendErrors                    uint64 // packets that the link did not take
	LinkUps                       uint64 // times that the link came up
	AddressErrors                 uint64 // leases whose address could not be taken up

	PacketsMalformed   uint64 // of IP
	PacketsForOthers   uint64 // for an IP address that is not the port's
	ChecksumErrors     uint64 // of TCP and UDP
	Connections        uint64 // of TCP, now
	ConnectionsTotal   uint64 // of TCP, opened by either side
	Retransmissions    uint64 // segments of TCP
	ListenDropped      uint64 // SYNs and ACKs to a full backlog
	SYNCookiesSent     uint64
	DHCPAnswersRefused uint64
}

// Stats reads the counters.
func (s *Stack) Stats() Stats {
	c, ip := &s.link.counts, s.ip.Stats()
	n := func(c *tcpip.StatCounter) uint64 { return c.Value() }
	st := Stats{
		FramesReceived: c.received.Load(), BytesReceived: c.receivedBytes.Load(),
		FramesSent: c.sent.Load(), BytesSent: c.sentBytes.Load(),
		FramesDropped: c.dropped.Load(), SegmentsJoined: c.joined.Load(),
		ReceiveErrors: c.receiveErrors.Load(), SendErrors: c.unsent.Load(),
		LinkUps: c.up.Load(), AddressErrors: c.addressErrors.Load(),

		PacketsMalformed: n(ip.IP.MalformedPacketsReceived), PacketsForOthers: n(ip.IP.InvalidDestinationAddressesReceived),
		ChecksumErrors: n(ip.TCP.ChecksumErrors) + n(ip.UDP.ChecksumErrors),
		Connections:    n(ip.TCP.CurrentConnected), ConnectionsTotal: n(ip.TCP.ActiveConnectionOpenings) + n(ip.TCP.PassiveConnectionOpenings),
		Retransmissions: n(ip.TCP.Retransmits), ListenDropped: n(ip.TCP.ListenOverflowSynDrop) + n(ip.TCP.ListenOverflowAckDrop),
		SYNCookiesSent: n(ip.TCP.ListenOverflowSynCookieSent),
	}
	if s.dhcp != nil {
		st.DHCPAnswersRefused = s.dhcp.Refused()
	}
	return st
}
