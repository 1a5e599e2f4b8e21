// Command nvmet has Linux's own NVMe/TCP target listen, with one subsystem that any host
// may see, and then says so: the peer of the firmware's way to its API.
//
// With -encrypted ADDRESS/BITS the subsystem has one namespace, dm-crypt's AES-256-XTS
// over a RAM disk, and the board's second Ethernet port that address: the peer of the
// firmware's volumes. It then serves until the emulator ends.
package main

import (
	"flag"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// root is where the target's configuration is (Linux, drivers/nvme/target/configfs.c).
const root = "/sys/kernel/config/nvmet"

// served is how long an encrypted disk is served: longer than any emulator runs.
const served = 24 * time.Hour

const subsystem = "nqn.2026-01.test:peer"

func main() {
	encrypted := flag.String("encrypted", "", "`address/bits` of the second Ethernet port; serve an encrypted RAM disk there")
	flag.Parse()
	if err := run(*encrypted); err != nil {
		fmt.Println("nvmet:", err)
		os.Exit(1)
	}
	fmt.Println("nvmet: listening")
	if *encrypted != "" {
		time.Sleep(served)
	}
}

func run(encrypted string) error {
	if err := syscall.Mount("configfs", "/sys/kernel/config", "configfs", 0, ""); err != nil && err != syscall.EBUSY {
		return fmt.Errorf("mounting configfs: %w", err)
	}
	sub, port := filepath.Join(root, "subsystems", subsystem), filepath.Join(root, "ports/1")
	for _, folder := range []string{sub, port} {
		if err := os.MkdirAll(folder, 0o755); err != nil {
			return err
		}
	}
	settings := [][2]string{
		{sub + "/attr_allow_any_host", "1"},
		{port + "/addr_trtype", "tcp"}, {port + "/addr_adrfam", "ipv4"}, {port + "/addr_traddr", "0.0.0.0"}, {port + "/addr_trsvcid", "4420"},
	}
	if encrypted != "" {
		namespace, err := encryptedNamespace(sub, encrypted)
		if err != nil {
			return err
		}
		settings = append(settings, namespace...)
	}
	for _, v := range settings {
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

// encryptedNamespace makes the disk and brings the port up. It gives what makes the disk
// the subsystem's namespace.
func encryptedNamespace(sub, address string) ([][2]string, error) {
	at, err := netip.ParsePrefix(address)
	if err != nil {
		return nil, err
	}
	if err := secondPort(at); err != nil {
		return nil, err
	}
	device, err := encryptedDisk()
	if err != nil {
		return nil, err
	}
	namespace := filepath.Join(sub, "namespaces/1")
	if err := os.MkdirAll(namespace, 0o755); err != nil {
		return nil, err
	}
	return [][2]string{{namespace + "/device_path", device}, {namespace + "/enable", "1"}}, nil
}
