package stack

import (
	"math/bits"

	"gvisor.dev/gvisor/pkg/tcpip/checksum"
)

// line is how many bytes sumLanes takes at a time.
const line = 32

// sumLanes adds the little-endian 16-bit words of p, whose length is a multiple of line and
// not zero, and less than 1 MiB.
//
//go:noescape
func sumLanes(p []byte) uint64

// sum is checksum.Checksum.
func sum(p []byte, initial uint16) uint16 {
	n := len(p) &^ (line - 1)
	if n == 0 || n >= 1<<20 {
		return checksum.Checksum(p, initial)
	}
	s := sumLanes(p[:n])
	s = s>>16 + s&0xffff
	s = s>>16 + s&0xffff
	s = s>>16 + s&0xffff
	// The sum of swapped words is the swapped sum (RFC 1071 section 2).
	return checksum.Checksum(p[n:], checksum.Combine(initial, bits.ReverseBytes16(uint16(s))))
}
