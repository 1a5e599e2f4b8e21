package stack

import (
	"math/rand/v2"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip/checksum"
)

// TestSum compares with gVisor's sum, over all lengths and alignments that matter, and with
// words that make carries.
func TestSum(t *testing.T) {
	b := make([]byte, 4+maxJoined)
	for _, fill := range []func() byte{func() byte { return 0xff }, func() byte { return 0 }, func() byte { return byte(rand.Uint32()) }} {
		for i := range b {
			b[i] = fill()
		}
		for at := range 4 {
			for _, n := range []int{0, 1, 2, 31, 32, 33, 63, 64, 65, 1447, 1448, 1460, 48 << 10, maxJoined} {
				for _, initial := range []uint16{0, 1, 0xfffe, 0xffff} {
					p := b[at:][:n]
					if got, want := sum(p, initial), checksum.Checksum(p, initial); got != want && got%0xffff != want%0xffff {
						t.Fatalf("%d bytes at %d, initial %#x: %#x, want %#x", n, at, initial, got, want)
					}
				}
			}
		}
	}
}
