package main

import (
	"net/netip"

	"nitro/internal/peer/early"
)

// secondPort gives the second Ethernet port, FEC2, its address and waits for its link.
func secondPort(address netip.Prefix) error {
	return early.Network("/sys/bus/platform/devices/20b4000.ethernet", address)
}
