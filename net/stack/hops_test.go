package stack_test

import (
	"io"
	"sync/atomic"
	"testing"

	"nitro/net/stack/stacktest"
)

// TestHopLimit: what a bound connection sends may pass no router; others' packets may.
func TestHopLimit(t *testing.T) {
	const ethernet, timeToLive = 14, 8 // an IPv4 header's octet 8 (RFC 791, 3.1)
	var last atomic.Int32
	a, b, _, _ := pair(t, stacktest.Options{Filter: func(frame []byte) []byte {
		if len(frame) > ethernet+20 && frame[ethernet] == 0x45 && frame[ethernet+15] == 2 { // from 192.0.2.2
			last.Store(int32(frame[ethernet+timeToLive]))
		}
		return frame
	}})
	client, server := connect(t, a, b, "tcp4", "192.0.2.2:0")
	bound := server.(interface{ SetHopLimit(int) error })
	for _, wrong := range []int{-1, 0, 256} {
		if bound.SetHopLimit(wrong) == nil {
			t.Errorf("a limit of %d is taken", wrong)
		}
	}
	for _, c := range []struct{ limit, want int32 }{{0, 64}, {1, 1}, {255, 255}} {
		if c.limit != 0 {
			if err := bound.SetHopLimit(int(c.limit)); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := server.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(client, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		if got := last.Load(); got != c.want {
			t.Errorf("with a limit of %d packets live for %d", c.limit, got)
		}
	}
}
