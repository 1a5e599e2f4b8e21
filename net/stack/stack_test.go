package stack_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"golang.org/x/net/nettest"
	"golang.org/x/sys/unix"

	"nitro/net/stack"
	"nitro/net/stack/stacktest"
)

// limit bounds every wait of these tests.
const limit = 60 * time.Second

var (
	address1 = netip.MustParsePrefix("192.0.2.1/24")
	address2 = netip.MustParsePrefix("192.0.2.2/24")
	six1     = netip.MustParsePrefix("2001:db8::1/64")
	six2     = netip.MustParsePrefix("2001:db8::2/64")
)

// pair gives two stacks at the ends of a wire, and the wire.
func pair(t testing.TB, o stacktest.Options) (a, b *stack.Stack, la, lb *stacktest.Link) {
	t.Helper()
	la, lb = stacktest.NewLinks(o)
	a = start(t, stack.Config{Name: "one", Link: la, Address: address1, Address6: six1})
	b = start(t, stack.Config{Name: "two", Link: lb, Address: address2, Address6: six2})
	return a, b, la, lb
}

func start(t testing.TB, c stack.Config) *stack.Stack {
	t.Helper()
	s, err := stack.New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	t.Cleanup(cancel)
	return ctx
}

// waitSix waits until the stack's static IPv6 address has been checked for duplicates.
func waitSix(t testing.TB, s *stack.Stack, want netip.Prefix) {
	t.Helper()
	for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		for _, a := range s.Addresses() {
			if a == want {
				return
			}
		}
	}
	t.Fatalf("%s: no address %v in %v", s.Name(), want, s.Addresses())
}

// connect gives both ends of a connection from a to b.
func connect(t testing.TB, a, b *stack.Stack, network, at string) (client, server net.Conn) {
	t.Helper()
	l, err := b.Listen(network, at)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	accepted := make(chan net.Conn, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			t.Error(err)
		}
		accepted <- c
	}()
	client, err = a.Dial(within(t), network, l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	server = <-accepted
	t.Cleanup(func() { client.Close(); server.Close() })
	return client, server
}

// transfer sends n random bytes one way, and compares.
func transfer(t testing.TB, from, to net.Conn, n int) {
	t.Helper()
	sent, got := make([]byte, n), make([]byte, n)
	rand.Read(sent)
	wrote := make(chan error, 1)
	from.SetDeadline(time.Now().Add(limit))
	to.SetDeadline(time.Now().Add(limit))
	go func() {
		_, err := from.Write(sent)
		wrote <- err
	}()
	if _, err := io.ReadFull(to, got); err != nil {
		t.Fatal("read:", err)
	}
	if err := <-wrote; err != nil {
		t.Fatal("write:", err)
	}
	if !bytes.Equal(sent, got) {
		t.Fatal("what arrived is not what was sent")
	}
}

func TestTCP(t *testing.T) {
	for _, offload := range []bool{false, true} {
		a, b, _, _ := pair(t, stacktest.Options{Offload: offload})
		for _, c := range []struct{ network, at string }{
			{"tcp", "192.0.2.2:0"}, {"tcp4", "192.0.2.2:0"}, {"tcp6", "[2001:db8::2]:0"}, {"tcp", "[2001:db8::2]:0"},
		} {
			waitSix(t, a, six1)
			waitSix(t, b, six2)
			client, server := connect(t, a, b, c.network, c.at)
			if got := server.RemoteAddr().String(); got != client.LocalAddr().String() {
				t.Errorf("%v: server sees %v, client is %v", c, got, client.LocalAddr())
			}
			transfer(t, client, server, 1)
			transfer(t, client, server, 3<<20)
			transfer(t, server, client, 3<<20+1)
		}
		if s := b.Stats(); s.ChecksumErrors != 0 || s.PacketsMalformed != 0 || s.SegmentsJoined == 0 {
			t.Errorf("offload %t: %+v", offload, s)
		}
	}
}

func TestDualStackListener(t *testing.T) {
	a, b, _, _ := pair(t, stacktest.Options{})
	waitSix(t, a, six1)
	waitSix(t, b, six2)
	l, err := b.Listen("tcp", ":80")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, at := range []string{"192.0.2.2:80", "[2001:db8::2]:80"} {
		c, err := a.Dial(within(t), "tcp", at)
		if err != nil {
			t.Fatal(err)
		}
		s, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if got, want := s.LocalAddr().String(), at; got != want {
			t.Errorf("local address %v, not %v", got, want)
		}
		c.Close()
		s.Close()
	}
}

func TestUDP(t *testing.T) {
	a, b, _, _ := pair(t, stacktest.Options{})
	waitSix(t, a, six1)
	waitSix(t, b, six2)
	for _, c := range []struct{ network, at string }{
		{"udp", "192.0.2.2:7"}, {"udp4", ":7"}, {"udp6", "[2001:db8::2]:7"}, {"udp", ":7"},
	} {
		p, err := b.ListenPacket(c.network, c.at)
		if err != nil {
			t.Fatal(err)
		}
		to := c.at
		if to == ":7" {
			to = "192.0.2.2:7"
		}
		client, err := a.Dial(within(t), c.network, to)
		if err != nil {
			t.Fatal(err)
		}
		client.SetDeadline(time.Now().Add(limit))
		p.SetDeadline(time.Now().Add(limit))
		// The longest that there is is sent in fragments.
		for _, n := range []int{0, 1, 1472, 1473, 60000} {
			sent, got := make([]byte, n), make([]byte, 65536)
			rand.Read(sent)
			if _, err := client.Write(sent); err != nil {
				t.Fatal(c, n, err)
			}
			m, from, err := p.ReadFrom(got)
			if err != nil || !bytes.Equal(got[:m], sent) {
				t.Fatalf("%v: %d bytes arrived as %d: %v", c, n, m, err)
			}
			if _, err := p.WriteTo(got[:m], from); err != nil {
				t.Fatal(err)
			}
			if m, err = client.Read(got); n > 0 && (err != nil || !bytes.Equal(got[:m], sent)) {
				t.Fatalf("%v: %d bytes came back as %d: %v", c, n, m, err)
			}
		}
		client.Close()
		p.Close()
	}
}

// knowTime sets the clock of a board that nobody has told the time: it is 1970 there,
// and package nettest takes 1977 for long ago.
func knowTime(t *testing.T) {
	if time.Now().Year() > 1970 {
		return
	}
	if err := unix.ClockSettime(unix.CLOCK_REALTIME, &unix.Timespec{Sec: 1767225600}); err != nil { // 2026
		t.Fatal(err)
	}
}

// TestConn holds connections to package net's rules.
func TestConn(t *testing.T) {
	knowTime(t)
	a, b, _, _ := pair(t, stacktest.Options{})
	nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
		l, err := b.Listen("tcp4", "192.0.2.2:0")
		if err != nil {
			return nil, nil, nil, err
		}
		defer l.Close()
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		defer cancel()
		if c1, err = a.Dial(ctx, "tcp4", l.Addr().String()); err != nil {
			return nil, nil, nil, err
		}
		c2, err = l.Accept()
		return c1, c2, func() { c1.Close(); c2.Close() }, err
	})
}

func TestClose(t *testing.T) {
	a, b, _, _ := pair(t, stacktest.Options{})
	client, server := connect(t, a, b, "tcp4", "192.0.2.2:0")
	client.SetDeadline(time.Now().Add(limit))
	server.SetDeadline(time.Now().Add(limit))

	// What was written before is still read after the other side has closed its half.
	if _, err := client.Write([]byte("last words")); err != nil {
		t.Fatal(err)
	}
	if err := client.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(server); err != nil || string(got) != "last words" {
		t.Fatalf("read %q, %v", got, err)
	}
	if _, err := client.Write([]byte("more")); !errors.Is(err, os.ErrClosed) && err == nil {
		t.Error("writing after CloseWrite succeeded")
	}
	transfer(t, server, client, 10000)
	server.Close()
	if got, err := io.ReadAll(client); err != nil || len(got) != 0 {
		t.Fatalf("read %q, %v at the end", got, err)
	}
	client.Close()
	if _, err := client.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("read after close: %v", err)
	}
	if err := client.Close(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("second close: %v", err)
	}
}

func TestErrors(t *testing.T) {
	a, b, _, _ := pair(t, stacktest.Options{})
	if _, err := a.Dial(within(t), "tcp", "192.0.2.2:1"); !isErrno(err, "connection refused") {
		t.Errorf("closed port: %v", err)
	}
	if _, err := a.Dial(within(t), "tcp", "198.51.100.1:1"); !isErrno(err, "no route to host") && !isErrno(err, "network is unreachable") {
		t.Errorf("no route: %v", err)
	}
	short, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if _, err := a.Dial(short, "tcp", "192.0.2.77:1"); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("nobody there: %v", err)
	}
	for _, c := range []struct{ network, at string }{
		{"tcp", "host:80"}, {"tcp", "192.0.2.2"}, {"tcp", "192.0.2.2:x"}, {"tcp", "192.0.2.2:65536"}, {"tcp", "192.0.2.2:+1"},
		{"tcp4", "[2001:db8::2]:80"}, {"tcp6", "192.0.2.2:80"}, {"unix", "x"}, {"", ":1"}, {"udp9", ":1"},
	} {
		if _, err := a.Listen(c.network, c.at); err == nil {
			t.Errorf("Listen%v succeeded", c)
		}
		if _, err := a.Dial(within(t), c.network, c.at); err == nil {
			t.Errorf("Dial%v succeeded", c)
		}
		if _, err := a.ListenPacket(c.network, c.at); err == nil {
			t.Errorf("ListenPacket%v succeeded", c)
		}
	}
	l, err := b.Listen("tcp", ":80")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Listen("tcp", ":80"); !isErrno(err, "address already in use") {
		t.Errorf("second listener: %v", err)
	}
	go func() {
		time.Sleep(20 * time.Millisecond)
		l.Close()
	}()
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("accept at a closed listener: %v", err)
	}
	if l, err = b.Listen("tcp", ":80"); err != nil {
		t.Error("listening again:", err)
	} else {
		l.Close()
	}
	b.Close()
	if _, err := b.Listen("tcp", ":81"); !errors.Is(err, net.ErrClosed) {
		t.Errorf("listen at a closed stack: %v", err)
	}
}

func isErrno(err error, text string) bool {
	var op *net.OpError
	return errors.As(err, &op) && bytes.Contains([]byte(err.Error()), []byte(text))
}

func TestConfig(t *testing.T) {
	l, _ := stacktest.NewLinks(stacktest.Options{})
	p, g := netip.MustParsePrefix, netip.MustParseAddr
	for name, c := range map[string]stack.Config{
		"no link":         {},
		"two addresses":   {Link: l, DHCP: true, Address: address1},
		"IPv6 as IPv4":    {Link: l, Address: six1},
		"IPv4 as IPv6":    {Link: l, Address6: address1},
		"gateway":         {Link: l, Address: address1, Gateway: g("198.51.100.1")},
		"gateway6":        {Link: l, Address6: six1, Gateway6: g("2001:db8:1::1")},
		"IPv6 off and on": {Link: l, NoIPv6: true, Address6: p("2001:db8::1/64")},
		"secret":          {Link: l, Secret: []byte("short")},
	} {
		if s, err := stack.New(c); err == nil {
			s.Close()
			t.Errorf("%s: accepted", name)
		}
	}
}
