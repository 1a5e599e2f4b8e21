// Command nvmet has Linux's own NVMe/TCP target listen, with one subsystem that any host
// may see, and then says so: the peer of the firmware's way to its API.
package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// root is where the target's configuration is (Linux, drivers/nvme/target/configfs.c).
const root = "/sys/kernel/config/nvmet"

const subsystem = "nqn.2026-01.test:peer"

func main() {
	if err := run(); err != nil {
		fmt.Println("nvmet:", err)
		os.Exit(1)
	}
	fmt.Println("nvmet: listening")
}

func run() error {
	if err := syscall.Mount("configfs", "/sys/kernel/config", "configfs", 0, ""); err != nil && err != syscall.EBUSY {
		return fmt.Errorf("mounting configfs: %w", err)
	}
	sub, port := filepath.Join(root, "subsystems", subsystem), filepath.Join(root, "ports/1")
	for _, folder := range []string{sub, port} {
		if err := os.MkdirAll(folder, 0o755); err != nil {
			return err
		}
	}
	for _, v := range [][2]string{
		{sub + "/attr_allow_any_host", "1"},
		{port + "/addr_trtype", "tcp"}, {port + "/addr_adrfam", "ipv4"}, {port + "/addr_traddr", "0.0.0.0"}, {port + "/addr_trsvcid", "4420"},
	} {
		if err := os.WriteFile(v[0], []byte(v[1]), 0o644); err != nil {
			return err
		}
	}
	if err := os.Symlink(sub, filepath.Join(port, "subsystems", subsystem)); err != nil { // it listens from here on
		return err
	}
	c, err := net.DialTimeout("tcp", "127.0.0.1:4420", 10*time.Second)
	if err != nil {
		return err
	}
	return c.Close()
}
