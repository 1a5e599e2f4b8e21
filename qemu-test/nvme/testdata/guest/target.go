package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// configured is where the kernel's target takes its orders (Documentation in its source:
// drivers/nvme/target/configfs.c).
const configured = "/tmp/config"

// disk of the brd module.
const ramDisk = "/dev/ram0"

// target sets the kernel's own target up and waits for the test.
func target() error {
	l, err := net.Listen("tcp", fmt.Sprintf(":%d", *done))
	if err != nil {
		return err
	}
	if err := os.Mkdir(configured, 0o755); err != nil {
		return err
	}
	if err := syscall.Mount("configfs", configured, "configfs", 0, ""); err != nil {
		return fmt.Errorf("mount configfs: %w", err)
	}
	at := func(parts ...string) string { return filepath.Join(append([]string{configured, "nvmet"}, parts...)...) }
	sub, peer, door := at("subsystems", *subsystem), at("hosts", *host), at("ports", "1")
	for _, folder := range []string{sub, filepath.Join(sub, "namespaces/1"), peer, door} {
		if err := os.Mkdir(folder, 0o755); err != nil {
			return err
		}
	}
	for _, w := range [][2]string{
		{filepath.Join(sub, "namespaces/1/device_path"), ramDisk}, {filepath.Join(sub, "namespaces/1/enable"), "1"},
		{filepath.Join(peer, "dhchap_key"), *secret}, {filepath.Join(peer, "dhchap_ctrl_key"), *opposite},
		{filepath.Join(peer, "dhchap_hash"), "hmac(sha512)"}, {filepath.Join(peer, "dhchap_dhgroup"), "ffdhe3072"},
		{filepath.Join(door, "addr_adrfam"), "ipv4"}, {filepath.Join(door, "addr_trtype"), "tcp"},
		{filepath.Join(door, "addr_traddr"), "0.0.0.0"}, {filepath.Join(door, "addr_trsvcid"), *port},
	} {
		if err := os.WriteFile(w[0], []byte(w[1]), 0); err != nil {
			return err
		}
	}
	if err := os.Symlink(peer, filepath.Join(sub, "allowed_hosts", *host)); err != nil {
		return err
	}
	if err := os.Symlink(sub, filepath.Join(door, "subsystems", *subsystem)); err != nil {
		return err
	}
	fmt.Println("please connect")
	l.(*net.TCPListener).SetDeadline(time.Now().Add(10 * time.Minute))
	c, err := l.Accept()
	if err != nil {
		return err
	}
	return c.Close()
}
