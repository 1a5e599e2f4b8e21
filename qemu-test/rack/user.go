package rack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"nitro/net/dhcp"
	"nitro/net/stack"
)

// Addresses of the cable User: this end, and what DHCP gives the board.
var (
	gateway      = netip.MustParsePrefix("10.0.2.2/24")
	boardAddress = netip.MustParseAddr("10.0.2.15")

	// hostAddress is the host's on the cable Private, where the board has one by itself.
	hostAddress = netip.MustParsePrefix("169.254.1.1/16")

	gatewayMAC = []byte{0x52, 0x55, 0x0a, 0x00, 0x02, 0x02}
)

// Limits of the cable User.
const (
	leaseTime = time.Hour

	// reachLimit is how long a connection that came to a forward waits for the board:
	// it may still be on its way up.
	reachLimit = 75 * time.Second
	reachRetry = 100 * time.Millisecond
)

// user plays the network of the cable User: a gateway with DHCP, in front of which the
// forwards listen. Its TCP is net/stack's.
//
// QEMU has such a network too (-netdev user), but its TCP loses data: when the board
// repeats its SYN-ACK, which it does after a second, the option MSS in it has libslirp
// 4.7.0 (tcp_mss, sbreserve) empty the buffer of what the client has sent already. The
// client's first request then never comes whole. A busy machine is slow enough for that.
type user struct {
	address netip.Prefix // of this end
	stack   *stack.Stack
	forward map[int]int // TCP ports of the board, and those of 127.0.0.1
	listen  []net.Listener

	ctx    context.Context // of all connections
	cancel context.CancelFunc
	over   sync.WaitGroup
}

// newUser begins to play at the end of a cable, which is then its own. A forward to
// port 0 gets a free one.
func newUser(f *Frames, address netip.Prefix, forward map[int]int) (_ *user, err error) {
	u := &user{address: address, forward: map[int]int{}}
	u.ctx, u.cancel = context.WithCancel(context.Background())
	end := &cable{frames: f, changed: make(chan struct{}, 1)}
	if u.stack, err = stack.New(stack.Config{Name: "user", Link: end, Address: address, NoIPv6: true}); err != nil {
		f.close()
		return nil, err
	}
	for board, here := range forward {
		l, err := net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", here))
		if err != nil {
			u.close()
			return nil, err
		}
		u.listen = append(u.listen, l)
		u.forward[board] = l.Addr().(*net.TCPAddr).Port
		u.over.Go(func() { u.accept(l, board) })
	}
	return u, nil
}

// close ends all connections.
func (u *user) close() {
	u.cancel()
	for _, l := range u.listen {
		l.Close()
	}
	u.stack.Close()
	u.over.Wait()
}

// accept takes connections to a port of the board until the listener is closed.
func (u *user) accept(l net.Listener, port int) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		u.over.Go(func() { u.join(c.(*net.TCPConn), port) })
	}
}

// join connects a client to a port of the board, and moves what the two say until both
// have ended, or one is gone.
func (u *user) join(client *net.TCPConn, port int) {
	defer client.Close()
	board, err := u.reach(port)
	if err != nil {
		return
	}
	defer board.Close()
	stop := context.AfterFunc(u.ctx, func() { client.Close(); board.Close() })
	defer stop()
	type oneWay interface {
		net.Conn
		CloseWrite() error
	}
	move := func(to, from oneWay) {
		if _, err := io.Copy(to, from); err != nil {
			client.Close()
			board.Close()
		}
		to.CloseWrite()
	}
	var both sync.WaitGroup
	both.Go(func() { move(board.(oneWay), client) })
	both.Go(func() { move(client, board.(oneWay)) })
	both.Wait()
}

// reach connects to the board. It tries again as long as there is nobody: a board that
// refuses is there.
func (u *user) reach(port int) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(u.ctx, reachLimit)
	defer cancel()
	for {
		c, err := u.stack.Dial(ctx, "tcp4", netip.AddrPortFrom(boardAddress, uint16(port)).String())
		if err == nil || !errors.Is(err, syscall.EHOSTUNREACH) && !errors.Is(err, syscall.ETIMEDOUT) {
			return c, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(reachRetry):
		}
	}
}

// A cable is the end of a cable as a link of net/stack. It answers DHCP by itself: who
// asks has no address yet.
type cable struct {
	frames  *Frames
	changed chan struct{}
	frame   []byte // what is queued; net/stack queues one frame at a time
}

// HardwareAddr gives the gateway's address.
func (*cable) HardwareAddr() []byte { return gatewayMAC }

// ChecksumOffload says that the stack is to see to checksums.
func (*cable) ChecksumOffload() (transmit, receive bool) { return false, false }

// Queue sends a frame.
func (c *cable) Queue(pieces [][]byte) error {
	c.frame = c.frame[:0]
	for _, p := range pieces {
		c.frame = append(c.frame, p...)
	}
	return c.frames.Send(c.frame)
}

// Flush does nothing: Queue has sent.
func (*cable) Flush() error { return nil }

// Receive waits for frames, for a limit if it is not negative, and delivers those that are
// there.
func (c *cable) Receive(limit time.Duration, deliver func(frame []byte)) error {
	const batch = 64
	frame, ok, late := c.frames.next(limit)
	if late {
		return nil
	}
	for n := 0; ok; n++ {
		if answer := lease(frame); answer != nil {
			c.frames.Send(answer) // who gets none asks again
		} else {
			deliver(frame)
		}
		if n == batch {
			return nil
		}
		select {
		case frame, ok = <-c.frames.in:
		default:
			return nil
		}
	}
	return os.ErrClosed
}

// LinkUp says that the cable is in; QMP.SetLink pulls the board's end.
func (*cable) LinkUp() bool { return true }

// LinkChanged never gets a value.
func (c *cable) LinkChanged() <-chan struct{} { return c.changed }

// Close ends Receive.
func (c *cable) Close() error {
	c.frames.close()
	return nil
}

// lease gives the answer to a frame with a message to DHCP servers (RFC 2131), or nil
// where it is none. The board gets boardAddress, whoever it is: it is alone.
func lease(frame []byte) []byte {
	const headers = header.EthernetMinimumSize + header.IPv4MinimumSize + header.UDPMinimumSize
	if len(frame) < headers || header.Ethernet(frame).Type() != header.IPv4ProtocolNumber {
		return nil
	}
	ip := header.IPv4(frame[header.EthernetMinimumSize:])
	if ip.Protocol() != uint8(header.UDPProtocolNumber) || !ip.IsValid(len(ip)) || len(ip.Payload()) < header.UDPMinimumSize {
		return nil
	}
	u := header.UDP(ip.Payload())
	if u.DestinationPort() != dhcp.ServerPort {
		return nil
	}
	m, err := dhcpv4.FromBytes(u.Payload())
	if err != nil {
		return nil
	}
	kind := dhcpv4.MessageTypeOffer
	switch m.MessageType() {
	case dhcpv4.MessageTypeDiscover:
	case dhcpv4.MessageTypeRequest:
		kind = dhcpv4.MessageTypeAck
		want := m.RequestedIPAddress()
		if want == nil {
			want = m.ClientIPAddr
		}
		if !want.Equal(boardAddress.AsSlice()) {
			kind = dhcpv4.MessageTypeNak
		}
	default:
		return nil
	}
	options := []dhcpv4.Modifier{dhcpv4.WithMessageType(kind), dhcpv4.WithServerIP(gateway.Addr().AsSlice()), dhcpv4.WithOption(dhcpv4.OptServerIdentifier(gateway.Addr().AsSlice()))}
	if kind != dhcpv4.MessageTypeNak {
		options = append(options, dhcpv4.WithYourIP(boardAddress.AsSlice()), dhcpv4.WithLeaseTime(uint32(leaseTime/time.Second)),
			dhcpv4.WithNetmask(net.CIDRMask(gateway.Bits(), 32)), dhcpv4.WithRouter(gateway.Addr().AsSlice()))
	}
	r, err := dhcpv4.NewReplyFromRequest(m, options...)
	if err != nil {
		return nil
	}
	return datagram(header.Ethernet(frame).SourceAddress(), r.ToBytes())
}

// datagram makes the frame of a DHCP server's answer. It goes to everybody on the
// network layer, as the client may have no address, and carries no checksum of UDP.
func datagram(to tcpip.LinkAddress, payload []byte) []byte {
	const headers = header.EthernetMinimumSize + header.IPv4MinimumSize + header.UDPMinimumSize
	frame := make([]byte, headers+len(payload))
	header.Ethernet(frame).Encode(&header.EthernetFields{SrcAddr: tcpip.LinkAddress(gatewayMAC), DstAddr: to, Type: header.IPv4ProtocolNumber})
	ip := header.IPv4(frame[header.EthernetMinimumSize:])
	ip.Encode(&header.IPv4Fields{
		TotalLength: uint16(len(ip)), TTL: 64, Protocol: uint8(header.UDPProtocolNumber),
		SrcAddr: tcpip.AddrFrom4(gateway.Addr().As4()), DstAddr: header.IPv4Broadcast,
	})
	ip.SetChecksum(^ip.CalculateChecksum())
	u := header.UDP(ip[header.IPv4MinimumSize:])
	u.Encode(&header.UDPFields{SrcPort: dhcp.ServerPort, DstPort: dhcp.ClientPort, Length: uint16(len(u))})
	copy(u.Payload(), payload)
	return frame
}
