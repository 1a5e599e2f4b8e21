package main

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"log"
	"net"
	"net/netip"
	"time"

	"nitro/net/stack"
)

// The ports' names.
const (
	management = "management"
	hostWire   = "host wire"
)

// hostname is what the board calls itself, to DHCP servers and in its certificate.
const hostname = "nitro-controller"

// hostAddress is the firmware's on the host's private wire: link-local (RFC 3927), so
// that it cannot meet a network of the host's.
var hostAddress = netip.MustParsePrefix("169.254.169.254/16")

// openPorts brings TCP/IP up on the management port, with DHCP and router
// advertisements, and, where there is a second port, on the host's wire. The two share
// nothing.
func (f *firmware) openPorts() error {
	b := f.board
	id, err := b.UniqueID()
	if err != nil {
		return err
	}
	secret := sha256.Sum256(binary.BigEndian.AppendUint64([]byte("nitro ipv6 interface identifier"), id))
	for n := range b.Ports() {
		link, err := b.Port(n)
		if err != nil {
			return err
		}
		c := stack.Config{Name: management, Link: link, Hostname: hostname, DHCP: true, SLAAC: true, Secret: secret[:]}
		if n > 0 {
			c = stack.Config{Name: hostWire, Link: link, Address: hostAddress, Secret: secret[:]}
		}
		s, err := stack.New(c)
		if err != nil {
			return err
		}
		log.Printf("port %d, %s: %s", n, c.Name, net.HardwareAddr(link.HardwareAddr()))
		f.ports = append(f.ports, s)
	}
	if len(f.ports) == 0 {
		return fmt.Errorf("%s has no Ethernet port: the firmware cannot be reached", b.Name())
	}
	return nil
}

// addressLimit is how long reportAddress waits before it says that it waits.
const addressLimit = 30 * time.Second

// reportAddress says where the firmware can be reached, once it can be.
func (f *firmware) reportAddress() {
	for {
		ctx, cancel := context.WithTimeout(context.Background(), addressLimit)
		_, err := f.ports[0].WaitAddress(ctx)
		cancel()
		if err == nil {
			break
		}
		log.Printf("the management port has no address yet: %v", err)
	}
	for _, a := range f.ports[0].Addresses() {
		if !a.Addr().IsLinkLocalUnicast() {
			log.Printf("reachable at https://%s/", netip.AddrPortFrom(a.Addr(), httpsPort))
		}
	}
}
