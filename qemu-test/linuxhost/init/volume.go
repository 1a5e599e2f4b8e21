//go:build linux

package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A block is a namespace that the kernel shows, with what was done on it.
type block struct {
	*host
	name   string // such as nvme0n1
	nsid   int
	bytes  int64
	rounds int // of work, each in a file of its own
}

const mounted = "/mnt"

// find gives the first namespace, or fio's, or nil. A controller that is cut off keeps its
// namespaces.
func (h *host) find(forFio bool) *block {
	files, _ := filepath.Glob("/sys/block/nvme*/nsid") // fails on bad patterns only
	for _, file := range files {
		folder := filepath.Dir(file)
		nsid, err := strconv.Atoi(read(file))
		sectors, err2 := strconv.ParseInt(read(filepath.Join(folder, "size")), 10, 64)
		if _, err3 := os.Stat("/dev/" + filepath.Base(folder)); errors.Join(err, err2, err3) == nil && sectors > 0 && forFio == (h.Fio > 0 && nsid == fioNamespace) {
			return &block{host: h, name: filepath.Base(folder), nsid: nsid, bytes: 512 * sectors}
		}
	}
	return nil
}

// await waits for a namespace, for as long as it takes: whoever attaches volumes is free to.
func (h *host) await() (*block, error) {
	for {
		if v := h.find(false); v != nil {
			report("namespace", true, "nsid", v.nsid, "bytes", v.bytes, "device", v.name)
			return v, nil
		}
		time.Sleep(stepPause)
	}
}

// use makes a file system unless there is one, works in it, and then watches until the
// namespace is taken away.
func (v *block) use() error {
	err := v.mount()
	if err == nil {
		err = v.round()
	}
	if err == nil {
		err = v.watch()
	}
	if err != nil && v.there() {
		return err // a namespace that is gone fails everything
	}
	syscall.Unmount(mounted, syscall.MNT_DETACH|syscall.MNT_FORCE) // of what is gone; fails if it was not mounted
	return nil
}

// there tells whether the kernel still has the namespace.
func (v *block) there() bool {
	_, err := os.Stat("/sys/block/" + v.name)
	return err == nil
}

func (v *block) device() string { return "/dev/" + v.name }

// mount mounts the file system, which it makes if there is none.
func (v *block) mount() error {
	has, err := v.hasExt4()
	if err != nil {
		return err
	}
	if !has {
		if out, err := exec.Command("/bin/mke2fs", "-q", "-F", "-t", "ext4", v.device()).CombinedOutput(); err != nil {
			return fmt.Errorf("mke2fs: %w: %s", err, bytes.TrimSpace(out))
		}
	}
	if err := os.MkdirAll(mounted, 0o755); err != nil {
		return err
	}
	if err := syscall.Mount(v.device(), mounted, "ext4", 0, ""); err != nil {
		return fmt.Errorf("mount %s: %w", v.device(), err)
	}
	files, err := os.ReadDir(mounted)
	if err != nil {
		return err
	}
	for _, f := range files {
		if strings.HasPrefix(f.Name(), filePrefix) {
			v.rounds++
		}
	}
	report("filesystem", true, "made", !has, "files", v.rounds)
	return nil
}

// hasExt4 looks for the superblock's magic: 0xef53 at 1,080 (Documentation/filesystems/ext4).
func (v *block) hasExt4() (bool, error) {
	f, err := os.Open(v.device())
	if err != nil {
		return false, err
	}
	defer f.Close()
	var magic [2]byte
	_, err = f.ReadAt(magic[:], 1080)
	return binary.LittleEndian.Uint16(magic[:]) == 0xef53, err
}

// filePrefix begins the names of files of the work; their number follows, from 0.
const filePrefix = "work-"

func (v *block) path(file int) string {
	return filepath.Join(mounted, filePrefix+strconv.Itoa(file))
}

// round writes a file more and flushes it, then reads all that there are from the volume.
func (v *block) round() error {
	f, err := os.Create(v.path(v.rounds))
	if err != nil {
		return err
	}
	_, err = f.Write(v.Content(v.rounds, v.Bytes))
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	v.rounds++
	report("work", true, "bytes", v.Bytes, "files", 1)
	return v.verify()
}

// verify reads all files anew: the kernel's caches are dropped first.
func (v *block) verify() error {
	syscall.Sync()
	if err := os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0); err != nil {
		return err
	}
	total := 0
	for n := range v.rounds {
		f, err := os.Open(v.path(n))
		if err != nil {
			return err
		}
		got, err := io.ReadAll(f)
		f.Close()
		if err != nil {
			return err
		}
		if !bytes.Equal(got, v.Content(n, v.Bytes)) {
			report("verify", false, "why", fmt.Sprintf("file %d of %d bytes does not hold what was written", n, len(got)))
			return errors.New("wrong data")
		}
		total += len(got)
	}
	report("verify", true, "bytes", total, "files", v.rounds)
	return nil
}

// watchEvery is how often the watcher looks, and touches the volume.
const watchEvery = 250 * time.Millisecond

// watch keeps writing a small file, so that there is I/O under way whatever happens, and
// tells when the connection is lost and comes back. It returns when the namespace is gone.
func (v *block) watch() error {
	touched := make(chan error, 1)
	touching := false
	live := true
	var lost time.Time
	for v.there() {
		if !touching {
			touching = true
			go func() { touched <- v.touch() }()
		}
		select {
		case err := <-touched:
			if touching = false; err != nil {
				return err
			}
		default:
		}
		now := v.live()
		switch {
		case live && !now:
			lost = time.Now()
			report("lost", true)
		case !live && now:
			report("back", true, "seconds", fmt.Sprintf("%.1f", time.Since(lost).Seconds()))
			if err := v.round(); err != nil {
				return err
			}
		}
		live = now
		time.Sleep(watchEvery)
	}
	return nil
}

// touch writes a file of a block anew, down to the volume, and reads it back.
func (v *block) touch() error {
	const name = mounted + "/pulse"
	want := []byte(v.Pattern + " " + time.Now().String())
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	_, err = f.Write(want)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	got, err := os.ReadFile(name)
	if err == nil && !bytes.Equal(got, want) {
		err = errors.New("wrong data")
	}
	return err
}

// live tells whether the controller's connection is there.
func (v *block) live() bool {
	states, _ := filepath.Glob("/sys/class/nvme/nvme*/state") // fails on bad patterns only
	for _, s := range states {
		if read(s) != "live" {
			return false
		}
	}
	return len(states) > 0
}
