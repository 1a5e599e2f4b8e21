package https

import (
	"net"
	"testing"
	"time"
)

// TestPeers: one address gets its places and no more, and gets each one back.
func TestPeers(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := limitPeers(inner, func() {})
	defer l.Close()
	accepted := make(chan net.Conn, PeerConnections+2)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			accepted <- c
		}
	}()
	dial := func(from string) net.Conn {
		t.Helper()
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: 10 * time.Second}
		c, err := d.Dial("tcp", inner.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	take := func() net.Conn {
		t.Helper()
		select {
		case c := <-accepted:
			return c
		case <-time.After(10 * time.Second):
			t.Fatal("not accepted")
			return nil
		}
	}
	var first net.Conn
	for range PeerConnections {
		dial("127.0.0.1")
		first = take()
	}
	over := dial("127.0.0.1")
	over.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := over.Read(make([]byte, 1)); err == nil {
		t.Error("one connection too many was served")
	}
	dial("127.0.0.2")
	take().Close() // another address has places of its own
	first.Close()
	first.Close() // gives one place back, not two
	dial("127.0.0.1")
	take()
	again := dial("127.0.0.1")
	again.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := again.Read(make([]byte, 1)); err == nil {
		t.Error("a place was given back twice")
	}
}
