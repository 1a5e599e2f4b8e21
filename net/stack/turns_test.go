package stack_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/header"

	"nitro/net/stack/stacktest"
)

// A prompt connection is what those of a Stack are beside net.Conn.
type prompt interface {
	net.Conn
	Await(handler func() (more, done bool)) error
	TryRead([]byte) (int, error)
	TryWrite([]byte) (int, error)
}

// promptPair gives two ends of a connection; the second is a prompt one.
func promptPair(t *testing.T, o stacktest.Options, network string) (net.Conn, prompt) {
	t.Helper()
	a, b, _, _ := pair(t, o)
	l, err := b.Listen(network, ":80")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	where := "192.0.2.2:80"
	if network == "tcp6" {
		waitSix(t, b, six2)
		where = "[2001:db8::2]:80"
	}
	c, err := a.Dial(within(t), network, where)
	if err != nil {
		t.Fatal(err)
	}
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); s.Close() })
	c.SetDeadline(time.Now().Add(limit))
	return c, s.(prompt)
}

// TestAwait: over IPv4, what a handler answers needs nobody else, and no acknowledgement of its
// own; what it leaves, or never sees, is Await's caller's.
func TestAwait(t *testing.T) {
	for _, network := range []string{"tcp4", "tcp6"} {
		var bare atomic.Int64 // acknowledgements without data from port 80
		c, s := promptPair(t, stacktest.Options{Filter: func(frame []byte) []byte {
			if ip := header.IPv4(frame[14:]); network == "tcp4" && frame[12] == 8 && frame[13] == 0 && ip.TransportProtocol() == header.TCPProtocolNumber {
				if tcp := header.TCP(ip.Payload()); tcp.SourcePort() == 80 && tcp.Flags() == header.TCPFlagAck && len(tcp.Payload()) == 0 {
					bare.Add(1)
				}
			}
			return frame
		}}, network)
		const rounds = 100
		turns := 0
		buf := make([]byte, 64)
		ended := false
		echo := func() (more, done bool) {
			n, err := s.TryRead(buf)
			if n == 0 {
				return false, err == nil
			}
			if ended = buf[0] == 'x'; ended {
				return false, false
			}
			m, err := s.TryWrite(buf[:n])
			return true, m == n && err == nil
		}
		back := make(chan error)
		go func() {
			var err error
			for err == nil && !ended {
				err = s.Await(func() (more, done bool) {
					if more, done = echo(); more {
						turns++
					}
					return more, done
				})
				if err == nil && !ended {
					echo()
				}
			}
			back <- err
		}()
		before := bare.Load()
		got := make([]byte, 4)
		for range rounds {
			if _, err := c.Write([]byte("ping")); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(c, got); err != nil || string(got) != "ping" {
				t.Fatalf("%q, %v", got, err)
			}
		}
		n := bare.Load() - before
		c.Write([]byte("x"))
		if err := <-back; err != nil {
			t.Errorf("%s: Await: %v", network, err)
		}
		if network == "tcp4" && (turns < rounds/2 || n > rounds/2) {
			t.Errorf("%d turns for %d messages, and %d acknowledgements of their own", turns, rounds, n)
		}
		// Nobody handles anything now.
		c.Write([]byte("rest"))
		if _, err := io.ReadFull(s, got); err != nil || string(got) != "rest" {
			t.Errorf("%s: %q, %v", network, got, err)
		}
	}
}

// TestAwaitReturns: for what is there already, and for each reason why nothing comes any more.
func TestAwaitReturns(t *testing.T) {
	never := func() (more, done bool) { return false, true }
	for name, k := range map[string]struct {
		end  func(c net.Conn, s prompt)
		want error
	}{
		"data":     {func(c net.Conn, s prompt) { c.Write([]byte("data")) }, nil},
		"the end":  {func(c net.Conn, s prompt) { c.Close() }, nil},
		"closed":   {func(c net.Conn, s prompt) { s.Close() }, net.ErrClosed},
		"deadline": {func(c net.Conn, s prompt) { s.SetReadDeadline(time.Now().Add(time.Millisecond)) }, os.ErrDeadlineExceeded},
	} {
		for _, early := range []bool{true, false} {
			c, s := promptPair(t, stacktest.Options{}, "tcp4")
			if early {
				k.end(c, s)
				time.Sleep(20 * time.Millisecond)
			} else if name == "data" {
				continue // the handler says that it is done with them
			} else {
				time.AfterFunc(20*time.Millisecond, func() { k.end(c, s) })
			}
			handler := never
			if name == "the end" { // it is the handler's to see, as data are
				handler = func() (more, done bool) {
					_, err := s.TryRead(make([]byte, 1))
					return false, err == nil
				}
			}
			if err := s.Await(handler); !errors.Is(err, k.want) {
				t.Errorf("%s, early %t: %v", name, early, err)
			}
		}
	}
}

// TestTry: nothing that is there, no room, and a connection that is gone.
func TestTry(t *testing.T) {
	c, s := promptPair(t, stacktest.Options{}, "tcp4")
	if n, err := s.TryRead(make([]byte, 9)); n != 0 || err != nil {
		t.Errorf("nothing there: %d, %v", n, err)
	}
	data := bytes.Repeat([]byte("0123456789abcdef"), 64<<10) // 1 MiB, more than the buffers hold
	sent := 0
	for {
		n, err := s.TryWrite(data[sent:])
		if err != nil {
			t.Fatal(err)
		}
		if sent += n; n == 0 {
			break
		}
	}
	if sent == 0 || sent == len(data) {
		t.Fatalf("%d bytes found room", sent)
	}
	got := make([]byte, sent)
	if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, data[:sent]) {
		t.Errorf("%v, or other data", err)
	}
	c.Close()
	for end := time.Now().Add(limit); ; time.Sleep(time.Millisecond) {
		if _, err := s.TryRead(got); err == io.EOF {
			break
		} else if err != nil || time.Now().After(end) {
			t.Fatalf("after the end: %v", err)
		}
	}
	s.Close()
	if _, err := s.TryRead(got); !errors.Is(err, net.ErrClosed) {
		t.Errorf("read after Close: %v", err)
	}
	if _, err := s.TryWrite(got); !errors.Is(err, net.ErrClosed) {
		t.Errorf("write after Close: %v", err)
	}
}

// TestSettled: what a handler takes and does not answer is acknowledged all the same, and not
// only when its sender repeats it.
func TestSettled(t *testing.T) {
	var first, acked, sent atomic.Uint32 // of the client: its first number, what was acknowledged, segments
	c, s := promptPair(t, stacktest.Options{Filter: func(frame []byte) []byte {
		ip := header.IPv4(frame[14:])
		if frame[12] != 8 || frame[13] != 0 || ip.TransportProtocol() != header.TCPProtocolNumber {
			return frame
		}
		if tcp := header.TCP(ip.Payload()); tcp.SourcePort() == 80 {
			acked.Store(tcp.AckNumber())
		} else if len(tcp.Payload()) > 0 {
			first.CompareAndSwap(0, tcp.SequenceNumber())
			sent.Add(1)
		}
		return frame
	}}, "tcp4")
	buf := make([]byte, 64)
	swallow := func() (more, done bool) {
		n, err := s.TryRead(buf)
		return n > 0, err == nil
	}
	go func() {
		for s.Await(swallow) == nil {
			s.TryRead(buf)
		}
	}()
	// On a machine that is busy the client may repeat something before its time.
	const rounds, attempts = 20, 10
	written := uint32(0)
	for range attempts {
		before := sent.Load()
		for range rounds {
			if _, err := c.Write([]byte("ping")); err != nil {
				t.Fatal(err)
			}
			written += 4
			for begin := time.Now(); first.Load() == 0 || acked.Load() != first.Load()+written; time.Sleep(time.Millisecond) {
				if time.Since(begin) > limit {
					t.Fatal("no acknowledgement came")
				}
			}
		}
		if sent.Load()-before < rounds*3/2 {
			return
		}
	}
	t.Errorf("each of %d times, half of %d messages or more were repeated", attempts, rounds)
}
