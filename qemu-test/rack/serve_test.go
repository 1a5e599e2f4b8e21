package rack

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"nitro/net/stack"
)

// TestServe: the board reaches what the gateway serves, and nothing else of this machine.
func TestServe(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			io.Copy(c, c)
			c.Close()
		}
	}()
	here, there := cablePair(t)
	u, err := newUser(here, Net{Serve: map[int]string{8444: l.Addr().String()}})
	must(t, err)
	defer u.close()
	end := &boardEnd{cable: &cable{frames: there, changed: make(chan struct{}, 1)}}
	board, err := stack.New(stack.Config{Name: "board", Link: end, DHCP: true, NoIPv6: true})
	must(t, err)
	defer board.Close()
	ctx, cancel := context.WithTimeout(t.Context(), bootLimit)
	defer cancel()
	_, err = board.WaitAddress(ctx)
	must(t, err)
	c, err := board.Dial(ctx, "tcp", netip.AddrPortFrom(Gateway, 8444).String())
	must(t, err)
	defer c.Close()
	c.SetDeadline(time.Now().Add(bootLimit))
	sent := bytes.Repeat([]byte("ask"), 100000)
	go func() {
		c.Write(sent)
		c.(interface{ CloseWrite() error }).CloseWrite()
	}()
	if got, err := io.ReadAll(c); err != nil || !bytes.Equal(got, sent) {
		t.Errorf("%d bytes of %d came back, %v", len(got), len(sent), err)
	}
	if c, err := board.Dial(ctx, "tcp", netip.AddrPortFrom(Gateway, 8445).String()); err == nil {
		c.Close()
		t.Error("the gateway serves another port")
	}
}
