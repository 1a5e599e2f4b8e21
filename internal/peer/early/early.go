//go:build linux

// Package early is what the first processes of emulated Linuxes do before anything else:
// file systems, kernel modules, an address.
package early

import (
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// Mount makes the file systems that programs expect.
func Mount() error {
	for _, m := range []struct{ kind, at string }{
		{"proc", "/proc"}, {"sysfs", "/sys"}, {"devtmpfs", "/dev"}, {"tmpfs", "/tmp"},
	} {
		if err := os.MkdirAll(m.at, 0o755); err != nil {
			return err
		}
		if err := syscall.Mount(m.kind, m.at, m.kind, 0, ""); err != nil {
			return fmt.Errorf("mount %s on %s: %w", m.kind, m.at, err)
		}
	}
	return os.Chmod("/tmp", 0o777|os.ModeSticky)
}

// Load loads one kernel module.
func Load(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.FinitModule(int(f.Fd()), "", 0); err != nil {
		return fmt.Errorf("load module %s: %w", path, err)
	}
	return nil
}
