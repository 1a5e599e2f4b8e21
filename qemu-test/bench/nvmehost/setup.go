package main

import (
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"nitro/internal/peer"
)

// bringUp mounts what is needed and loads the kernel's modules.
func bringUp() error {
	for _, m := range []struct{ kind, at string }{{"proc", "/proc"}, {"sysfs", "/sys"}, {"devtmpfs", "/dev"}} {
		os.MkdirAll(m.at, 0o755)
		if err := syscall.Mount(m.kind, m.at, m.kind, 0, ""); err != nil && err != syscall.EBUSY {
			return fmt.Errorf("mount %s: %w", m.at, err)
		}
	}
	list, err := os.ReadFile(peer.ModuleList)
	if err != nil {
		return err
	}
	for _, file := range strings.Fields(string(list)) {
		module, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		// One disk a controller, /dev/nvmeNn1, whatever the subsystem.
		parameters := []byte{0}
		if filepath.Base(file) == "nvme-core.ko" {
			parameters = []byte("multipath=N\x00")
		}
		if _, _, errno := syscall.Syscall(syscall.SYS_INIT_MODULE, uintptr(unsafe.Pointer(&module[0])), uintptr(len(module)), uintptr(unsafe.Pointer(&parameters[0]))); errno != 0 {
			return fmt.Errorf("load %s: %w", file, errno)
		}
	}
	return nil
}

// limit bounds each wait for the kernel, or for a board that still boots.
const limit = 3 * time.Minute

// await tries until something works.
func await(try func() error) error {
	for end := time.Now().Add(limit); ; time.Sleep(100 * time.Millisecond) {
		err := try()
		if err == nil || time.Now().After(end) {
			return err
		}
	}
}

// address gives a network interface its address and brings it up.
func address(name, prefix string) error {
	if err := await(func() error { _, err := net.InterfaceByName(name); return err }); err != nil {
		return err
	}
	ip, network, err := net.ParseCIDR(prefix)
	if err != nil {
		return err
	}
	s, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	defer syscall.Close(s)
	for _, step := range []struct {
		request uintptr
		value   [16]byte
	}{
		{syscall.SIOCSIFADDR, socketAddress(ip)}, {syscall.SIOCSIFNETMASK, socketAddress(net.IP(network.Mask))}, {syscall.SIOCSIFFLAGS, flags(syscall.IFF_UP)},
	} {
		r := struct {
			name  [syscall.IFNAMSIZ]byte
			value [16]byte
			_     [8]byte // struct ifreq has 40 bytes where pointers have 64 bits
		}{value: step.value}
		copy(r.name[:], name)
		if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(s), step.request, uintptr(unsafe.Pointer(&r))); errno != 0 {
			return fmt.Errorf("%s: request %#x: %w", name, step.request, errno)
		}
	}
	return nil
}

func flags(f uint16) (v [16]byte) {
	binary.NativeEndian.PutUint16(v[:], f)
	return v
}

// socketAddress is a struct sockaddr_in without a port (ip(7)).
func socketAddress(ip net.IP) (v [16]byte) {
	binary.NativeEndian.PutUint16(v[:], syscall.AF_INET)
	copy(v[4:], ip.To4())
	return v
}

// connect connects the kernel to a target (Linux, drivers/nvme/host/fabrics.c) and opens
// its first namespace.
func connect(address, nqn, hostNQN, hostID, secret string) (*disk, error) {
	options := fmt.Sprintf("transport=tcp,traddr=%s,trsvcid=4420,nqn=%s,hostnqn=%s,hostid=%s,nr_io_queues=1", address, nqn, hostNQN, hostID)
	if secret != "" {
		options += ",dhchap_secret=" + secret
	}
	var instance int
	err := await(func() error {
		f, err := os.OpenFile("/dev/nvme-fabrics", os.O_RDWR, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		if _, err := f.WriteString(options); err != nil {
			return err
		}
		said := make([]byte, 256)
		n, err := f.Read(said)
		if err != nil {
			return err
		}
		_, err = fmt.Sscanf(string(said[:n]), "instance=%d", &instance)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("connecting to %s: %w", address, err)
	}
	device := fmt.Sprintf("/dev/nvme%dn1", instance)
	var d *disk
	err = await(func() error { d, err = openDisk(device); return err })
	return d, err
}
