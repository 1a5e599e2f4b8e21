//go:build linux && amd64

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"nitro/qemu-test/rack/work"
)

// mountPoint is where a volume is used.
const mountPoint = "/volume"

// formatLimit is how long making a file system may take.
const formatLimit = 5 * time.Minute

// use works with a volume: a file system if it has none yet, the files of package work, and
// all of them read back from the volume, not from memory.
func use(id, device string) error {
	d, err := ask()
	if err != nil {
		return err
	}
	known := false
	for _, v := range d.Volumes {
		known = known || v.Identity == id
	}
	if !known {
		return fmt.Errorf("%s has it, and the metadata service does not name it", device)
	}
	say("sees: volume %s as %s", id, device)
	if err := mount(id, device); err != nil {
		return err
	}
	if err := write(id); err != nil {
		return err
	}
	if err := dropCaches(); err != nil {
		return err
	}
	if err := readBack(id); err != nil {
		return err
	}
	if err := syscall.Unmount(mountPoint, 0); err != nil {
		return fmt.Errorf("unmount: %w", err)
	}
	say("unmounted: volume %s", id)
	return nil
}

// mount mounts a volume, which gets a file system if it cannot be mounted: it is new then.
func mount(id, device string) error {
	if err := os.MkdirAll(mountPoint, 0o755); err != nil {
		return err
	}
	if syscall.Mount(device, mountPoint, "ext4", 0, "discard") == nil {
		say("mounted: volume %s had a file system", id)
		return nil
	}
	if _, err := command(formatLimit, "/bin/mke2fs", "-q", "-F", "-t", "ext4", device); err != nil {
		return err
	}
	say("formatted: volume %s with ext4", id)
	if err := syscall.Mount(device, mountPoint, "ext4", 0, "discard"); err != nil {
		return fmt.Errorf("mount: %w", err)
	}
	return nil
}

// write writes the files, and has them on the volume when it returns.
func write(id string) error {
	for n := range work.Files {
		f, err := os.Create(filepath.Join(mountPoint, work.Name(n)))
		if err != nil {
			return err
		}
		if _, err = f.Write(work.Content(id, n)); err == nil {
			err = f.Sync()
		}
		if e := f.Close(); err == nil {
			err = e
		}
		if err != nil {
			return err
		}
	}
	syscall.Sync()
	say("wrote: %d files of %d KiB to volume %s", work.Files, work.Size>>10, id)
	return nil
}

// dropCaches has Linux forget what it knows of files (Documentation/admin-guide/sysctl/vm.rst).
func dropCaches() error {
	return os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0)
}

// readBack reads the files, and compares.
func readBack(id string) error {
	var all [][]byte
	for n := range work.Files {
		content, err := os.ReadFile(filepath.Join(mountPoint, work.Name(n)))
		if err != nil {
			return err
		}
		all = append(all, content)
	}
	if work.Sum(all) != work.Expected(id) {
		return fmt.Errorf("the files are not what was written")
	}
	say("verified: volume %s holds SHA-256 %x", id, work.Sum(all))
	return nil
}
