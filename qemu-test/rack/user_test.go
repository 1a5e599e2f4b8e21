//go:build !arm

package rack

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"nitro/net/stack"
)

// A boardEnd is the board's end of a cable in a test without a board. It repeats its
// SYN-ACK when the first data have come, as a board does that is slow to see the ACK.
type boardEnd struct {
	*cable
	synAck   []byte
	repeated int
}

func (*boardEnd) HardwareAddr() []byte { return []byte{2, 0, 0, 0, 0, 1} }

func (b *boardEnd) Queue(pieces [][]byte) error {
	if err := b.cable.Queue(pieces); err != nil {
		return err
	}
	if tcp := segment(b.frame); tcp != nil && tcp.Flags() == header.TCPFlagSyn|header.TCPFlagAck {
		b.synAck = bytes.Clone(b.frame)
	}
	return nil
}

func (b *boardEnd) Receive(limit time.Duration, deliver func(frame []byte)) error {
	frame, ok, late := b.frames.next(limit)
	if late {
		return nil
	}
	if !ok {
		return os.ErrClosed
	}
	if tcp := segment(frame); tcp != nil && len(tcp.Payload()) > 0 && b.synAck != nil {
		if err := b.frames.Send(b.synAck); err != nil {
			return err
		}
		b.synAck = nil
		b.repeated++
	}
	deliver(frame)
	return nil
}

// segment gives the TCP segment of a frame, or nil.
func segment(frame []byte) header.TCP {
	if ip := header.IPv4(frame[header.EthernetMinimumSize:]); header.Ethernet(frame).Type() == header.IPv4ProtocolNumber &&
		ip.TransportProtocol() == header.TCPProtocolNumber {
		return header.TCP(ip.Payload())
	}
	return nil
}

// cablePair gives the two ends of a cable.
func cablePair(t *testing.T) (a, b *Frames) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(t.TempDir(), "cable"), Net: "unix"})
	must(t, err)
	defer l.Close()
	dialed, err := net.DialUnix("unix", nil, l.Addr().(*net.UnixAddr))
	must(t, err)
	accepted, err := l.AcceptUnix()
	must(t, err)
	return newFrames(dialed), newFrames(accepted)
}

// TestUser: the board gets its address, and what a client says arrives whole, up to its
// end, though the board repeats its SYN-ACK.
func TestUser(t *testing.T) {
	here, there := cablePair(t)
	u, err := newUser(here, gateway, map[int]int{80: 0, 81: 0})
	must(t, err)
	defer u.close()
	end := &boardEnd{cable: &cable{frames: there, changed: make(chan struct{}, 1)}}
	board, err := stack.New(stack.Config{Name: "board", Link: end, DHCP: true, NoIPv6: true})
	must(t, err)
	defer board.Close()
	ctx, cancel := context.WithTimeout(t.Context(), bootLimit)
	defer cancel()
	if a, err := board.WaitAddress(ctx); err != nil || a.Addr() != boardAddress || a.Bits() != gateway.Bits() {
		t.Fatalf("address %v, %v", a, err)
	}
	l, err := board.Listen("tcp", ":80")
	must(t, err)
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all, _ := io.ReadAll(c)
			c.Write(all)
			c.Close()
		}
	}()
	for _, n := range []int{0, 1, 1700, 1 << 20} {
		c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", u.forward[80]))
		must(t, err)
		c.SetDeadline(time.Now().Add(bootLimit))
		sent := make([]byte, n)
		rand.Read(sent)
		go func() {
			c.Write(sent)
			c.(*net.TCPConn).CloseWrite()
		}()
		got, err := io.ReadAll(c)
		if err != nil || !bytes.Equal(got, sent) {
			t.Fatalf("%d bytes of %d came back, %v", len(got), n, err)
		}
		c.Close()
	}
	// Nobody listens there: the board refuses, and the client hears of it.
	c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", u.forward[81]))
	must(t, err)
	c.SetDeadline(time.Now().Add(bootLimit))
	if n, err := io.Copy(io.Discard, c); n != 0 {
		t.Errorf("%d bytes of a port that is closed, %v", n, err)
	} else if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("nobody tells the client that the port is closed")
	}
	c.Close()
	board.Close()
	if end.repeated != 3 {
		t.Errorf("%d SYN-ACKs were repeated, not one for each connection with data", end.repeated)
	}
}

// TestLease: what is no question to a DHCP server gets no answer of one.
func TestLease(t *testing.T) {
	for n := range 100 {
		if a := lease(make([]byte, n)); a != nil {
			t.Errorf("%d zeros are answered", n)
		}
	}
	f := datagram(tcpip.LinkAddress(gatewayMAC), make([]byte, 300)) // to a client's port
	if a := lease(f); a != nil {
		t.Error("a server's message is answered")
	}
	f[14+20+3] = 67
	for n := range f {
		if a := lease(f[:n]); a != nil {
			t.Errorf("%d bytes that are no message are answered", n)
		}
	}
}
