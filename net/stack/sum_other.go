//go:build !arm

package stack

import "gvisor.dev/gvisor/pkg/tcpip/checksum"

// sum is checksum.Checksum.
func sum(p []byte, initial uint16) uint16 { return checksum.Checksum(p, initial) }
