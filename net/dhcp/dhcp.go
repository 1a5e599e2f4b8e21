// Package dhcp is a client of the Dynamic Host Configuration Protocol for IPv4
// (RFC 2131, with the options of RFC 2132 that a host needs for an address, a
// mask and a router).
//
// The client is a state machine on messages: it is given what arrived at UDP port
// 68 and a function that sends, and knows nothing of sockets, so that it runs
// where no address exists yet, and in tests without a network. Times are those of
// package time.
//
// # What is trusted
//
// Whoever is on the wire can answer, so an answer is a claim. It counts only if it
// carries this exchange's transaction number and our hardware address, comes from
// the server that was chosen (where one was), and describes a configuration that
// makes sense; see Lease for what that is. Everything else is dropped and counted.
// Hostile answers can deny an address or give a wrong one, as DHCP itself allows;
// they cannot make the client send faster than its own timers, keep memory, or
// stop. What a lease says is a place on the network and never a reason to trust
// anybody.
//
// # What is left out
//
// The random delay of one to ten seconds before the first message (section 4.4.1;
// the firmware is to be reachable soon), DHCPINFORM, DHCPRELEASE (the address is
// to stay the same over a restart), option overload (section 4.1: options in the
// sname and file fields are not read), and all options but those named above.
package dhcp

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/iana"
)

// Ports of DHCP (RFC 2131 section 4.1).
const (
	ServerPort = 67
	ClientPort = 68
)

// maxMessage is the size of the longest message that is looked at, and what option
// 57 tells servers: what fits one Ethernet frame after the headers of IPv4 and UDP.
const maxMessage = 1500 - 20 - 8

// Bounds of what is taken from a server.
const (
	minLease = 10 * time.Second // a shorter lease would be nothing but renewals
	minMask  = 8                // bits; no network is larger than a class A
	maxMask  = 30               // bits; a host and a router need two addresses
)

// A Lease is an address for a time, with what belongs to it.
//
// An answer becomes a lease if the address and its server are unicast addresses
// and neither loopback nor link-local; the mask is contiguous, of 8 to 30 bits, and
// the address is not the first or last of its network; the router, if there is one,
// is another such address of the same network; and the lease lasts 10 seconds or
// longer.
type Lease struct {
	Address netip.Prefix // the address, with the length of its network's prefix
	Router  netip.Addr   // the default router; the zero Addr if there is none
	Server  netip.Addr   // who gave the lease

	Start  time.Time     // when the request for it was sent
	Length time.Duration // how long it lasts; at most 2^32-1 seconds
	Renew  time.Duration // T1: when its server is asked to prolong it
	Rebind time.Duration // T2: when every server is
}

// Expires is when the address may not be used any longer.
func (l *Lease) Expires() time.Time { return l.Start.Add(l.Length) }

// String describes the lease on one line.
func (l *Lease) String() string {
	router := "none"
	if l.Router.IsValid() {
		router = l.Router.String()
	}
	return fmt.Sprintf("%v, router %s, from %v for %v", l.Address, router, l.Server, l.Length)
}

// A message is an answer that belongs to our exchange.
type message struct {
	kind   dhcpv4.MessageType // OFFER, ACK or NAK
	xid    dhcpv4.TransactionID
	server netip.Addr // option 54
	lease  *Lease     // of an OFFER or ACK, without Start
}

// parse reads an answer to the client with the given hardware address. Its errors
// say why an answer is not one.
func parse(b []byte, hardware net.HardwareAddr) (*message, error) {
	if len(b) > maxMessage {
		return nil, fmt.Errorf("dhcp: message of %d bytes; at most %d fit a frame", len(b), maxMessage)
	}
	p, err := dhcpv4.FromBytes(b)
	if err != nil {
		return nil, fmt.Errorf("dhcp: %w", err)
	}
	if p.OpCode != dhcpv4.OpcodeBootReply || p.HWType != iana.HWTypeEthernet || string(p.ClientHWAddr) != string(hardware) {
		return nil, fmt.Errorf("dhcp: op %#x for hardware %v of type %#x is no answer to us", uint8(p.OpCode), p.ClientHWAddr, uint16(p.HWType))
	}
	m := &message{xid: p.TransactionID}
	if kind := p.Options.Get(dhcpv4.OptionDHCPMessageType); len(kind) == 1 {
		m.kind = dhcpv4.MessageType(kind[0])
	}
	if m.server, err = address(p, dhcpv4.OptionServerIdentifier); err != nil {
		return nil, err
	}
	if !usable(m.server) {
		return nil, fmt.Errorf("dhcp: server %v is no host's address", m.server)
	}
	switch m.kind {
	case dhcpv4.MessageTypeNak:
		return m, nil
	case dhcpv4.MessageTypeOffer, dhcpv4.MessageTypeAck:
		m.lease, err = lease(p)
		if err != nil {
			return nil, fmt.Errorf("dhcp: %v from %v: %w", m.kind, m.server, err)
		}
		m.lease.Server = m.server
		return m, nil
	}
	return nil, fmt.Errorf("dhcp: message type %d is none of a server's", m.kind)
}

// lease reads and checks the configuration in an OFFER or an ACK.
func lease(p *dhcpv4.DHCPv4) (*Lease, error) {
	addr, ok := netip.AddrFromSlice(p.YourIPAddr.To4())
	if !ok || !usable(addr) {
		return nil, fmt.Errorf("%v is no host's address", p.YourIPAddr)
	}
	mask := p.Options.Get(dhcpv4.OptionSubnetMask)
	bits, size := net.IPMask(mask).Size()
	if size != 32 || bits < minMask || bits > maxMask {
		return nil, fmt.Errorf("mask %x is not one of %d to %d bits", mask, minMask, maxMask)
	}
	l := &Lease{Address: netip.PrefixFrom(addr, bits)}
	if err := inside(l.Address, addr); err != nil {
		return nil, err
	}
	// Further routers are fallbacks (RFC 2132 section 3.5), which are not used.
	if routers := p.Options.Get(dhcpv4.OptionRouter); len(routers) > 0 {
		if len(routers)%4 != 0 {
			return nil, fmt.Errorf("%d bytes of routers are no addresses", len(routers))
		}
		l.Router = netip.AddrFrom4([4]byte(routers))
		if err := inside(l.Address, l.Router); err != nil || l.Router == addr {
			return nil, fmt.Errorf("router %v cannot be reached from %v", l.Router, l.Address)
		}
	}
	return l, times(p, l)
}

// times reads the lease's length, T1 and T2. The latter two are optional, and those
// that are out of order become the defaults of RFC 2131 section 4.4.5.
func times(p *dhcpv4.DHCPv4, l *Lease) error {
	length, err := seconds(p, dhcpv4.OptionIPAddressLeaseTime)
	if err != nil {
		return err
	}
	if length < minLease {
		return fmt.Errorf("lease of %v is shorter than %v", length, minLease)
	}
	l.Length = length
	l.Renew, l.Rebind = length/2, length/8*7
	t1, err1 := seconds(p, dhcpv4.OptionRenewTimeValue)
	t2, err2 := seconds(p, dhcpv4.OptionRebindingTimeValue)
	if err1 == nil && err2 == nil && t1 >= minLease/2 && t1 < t2 && t2 < length {
		l.Renew, l.Rebind = t1, t2
	}
	return nil
}

// usable tells whether a host may have an address.
func usable(a netip.Addr) bool {
	return a.Is4() && !a.IsUnspecified() && !a.IsLoopback() && !a.IsLinkLocalUnicast() && a.As4()[0] != 0 && a.As4()[0] < 224
}

// inside checks that a network has an address, and that it is not the network's own
// or its broadcast address.
func inside(network netip.Prefix, a netip.Addr) error {
	host := uint32(1)<<(32-network.Bits()) - 1
	b := a.As4()
	n := (uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])) & host
	if !usable(a) || !network.Contains(a) || n == 0 || n == host {
		return fmt.Errorf("%v is no host's address in %v", a, network.Masked())
	}
	return nil
}

var errOption = errors.New("missing, or of the wrong length")

// address gives an option that is one IPv4 address.
func address(p *dhcpv4.DHCPv4, code dhcpv4.OptionCode) (netip.Addr, error) {
	b := p.Options.Get(code)
	if len(b) != 4 {
		return netip.Addr{}, fmt.Errorf("dhcp: option %d: %w", code.Code(), errOption)
	}
	return netip.AddrFrom4([4]byte(b)), nil
}

// seconds gives an option that is a 32-bit number of seconds.
func seconds(p *dhcpv4.DHCPv4, code dhcpv4.OptionCode) (time.Duration, error) {
	b := p.Options.Get(code)
	if len(b) != 4 {
		return 0, fmt.Errorf("option %d: %w", code.Code(), errOption)
	}
	n := uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
	return time.Duration(n) * time.Second, nil
}
