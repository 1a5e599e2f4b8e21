//go:build linux

package early

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"syscall"
	"time"
	"unsafe"
)

// networkLimit bounds each wait on the way to a network. The link comes up about two
// seconds after the port, on an emulated PHY that Linux polls each second.
const networkLimit = time.Minute

// Network gives an Ethernet port its address and waits until its link is up. Device is a
// pattern of folders of sysfs (path/filepath) that finds the port's device.
func Network(device string, address netip.Prefix) error {
	var port string
	err := await(func() bool {
		found, _ := filepath.Glob(device + "/net/*") // fails on bad patterns only
		if len(found) == 1 {
			port = filepath.Base(found[0])
		}
		return port != ""
	})
	if err != nil {
		return fmt.Errorf("network: device %s: %w: is its driver loaded?", device, err)
	}
	s, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_DGRAM, 0)
	if err != nil {
		return fmt.Errorf("network: socket: %w", err)
	}
	defer syscall.Close(s)
	mask := netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, ^uint32(0)<<(32-address.Bits()))))
	for _, step := range []struct {
		what    string
		port    string
		request uintptr
		value   [16]byte
	}{
		{"bring up", "lo", syscall.SIOCSIFFLAGS, flags(syscall.IFF_UP)},
		{"set address", port, syscall.SIOCSIFADDR, socketAddress(address.Addr())},
		{"set mask", port, syscall.SIOCSIFNETMASK, socketAddress(mask)},
		{"bring up", port, syscall.SIOCSIFFLAGS, flags(syscall.IFF_UP)},
	} {
		r := interfaceRequest{value: step.value}
		copy(r.name[:], step.port)
		if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(s), step.request, uintptr(unsafe.Pointer(&r))); errno != 0 {
			return fmt.Errorf("network: %s: %s: %w", step.port, step.what, errno)
		}
	}
	err = await(func() bool {
		carrier, err := os.ReadFile("/sys/class/net/" + port + "/carrier")
		return err == nil && bytes.HasPrefix(carrier, []byte("1"))
	})
	if err != nil {
		return fmt.Errorf("network: link of %s: %w", port, err)
	}
	return nil
}

// await waits until something is so.
func await(so func() bool) error {
	for start := time.Now(); !so(); time.Sleep(10 * time.Millisecond) {
		if time.Since(start) > networkLimit {
			return fmt.Errorf("not there after %v", networkLimit)
		}
	}
	return nil
}

// An interfaceRequest is Linux's struct ifreq (netdevice(7)).
type interfaceRequest struct {
	name  [syscall.IFNAMSIZ]byte
	value [16]byte
}

// flags are an interface's flags as a request has them.
func flags(f uint16) (v [16]byte) {
	binary.NativeEndian.PutUint16(v[:], f)
	return v
}

// socketAddress is a struct sockaddr_in without a port (ip(7)).
func socketAddress(a netip.Addr) (v [16]byte) {
	binary.NativeEndian.PutUint16(v[:], syscall.AF_INET)
	b := a.As4()
	copy(v[4:], b[:])
	return v
}
