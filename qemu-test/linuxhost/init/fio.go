//go:build linux

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// fioNamespace is the namespace that fio writes on, if there is work for it.
const fioNamespace = 2

// fio waits for its namespace, and then writes and verifies on the device, and in a file of a
// file system on it.
func (h *host) fio() {
	v := h.find(true)
	for ; v == nil; v = h.find(true) {
		time.Sleep(stepPause)
	}
	err := v.fioDevice()
	if err == nil {
		err = v.fioFile()
	}
	if err != nil {
		report("fio", false, "why", err.Error())
	}
}

// fioDevice is fio on the device. In the middle the connections are cut.
func (v *block) fioDevice() error {
	return v.runFio("device", v.device(), func() error {
		controllers, _ := filepath.Glob("/sys/class/nvme/nvme*/reset_controller") // fails on bad patterns only
		if len(controllers) != 1 {
			return fmt.Errorf("the controllers are %v, where one was to be cut off", controllers)
		}
		return os.WriteFile(controllers[0], []byte("1"), 0)
	})
}

// fioFile is fio in a file. In the middle others may do what they want.
func (v *block) fioFile() error {
	if out, err := exec.Command("/bin/mke2fs", "-q", "-F", "-t", "ext4", "-m", "0", v.device()).CombinedOutput(); err != nil {
		return fmt.Errorf("mke2fs: %w: %s", err, out)
	}
	const at = "/fio"
	if err := os.MkdirAll(at, 0o755); err != nil {
		return err
	}
	if err := syscall.Mount(v.device(), at, "ext4", 0, ""); err != nil {
		return fmt.Errorf("mount %s: %w", v.device(), err)
	}
	err := v.runFio("file", at+"/data", func() error { return nil })
	return errors.Join(err, syscall.Unmount(at, 0))
}

// runFio has fio write blocks of 4 to 128 KiB in random order, and read and verify each, some soon
// and all at the end. Once half of the bytes are written, half is called.
func (v *block) runFio(on, file string, half func() error) error {
	size, loops := v.FioParts()
	before, began, result := v.written(), time.Now(), "/tmp/fio-"+on
	cmd := exec.Command("/bin/fio", "--name="+on, "--filename="+file, "--output="+result, "--output-format=json", "--eta=never",
		fmt.Sprint("--size=", size), fmt.Sprint("--loops=", loops), "--rw=randwrite", "--bssplit=4k/40:16k/20:64k/20:128k/20",
		"--direct=1", "--ioengine=libaio", "--iodepth=8", "--verify=crc32c", "--verify_fatal=1", "--verify_backlog=128")
	var said strings.Builder
	cmd.Stdout, cmd.Stderr = &said, &said
	complaints := kernelComplaints()
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	var err error
	for told := false; ; {
		select {
		case err = <-ended:
			if err == nil && !told {
				err = errors.New("it ended, and had not written half of what it was to write")
			}
			if err != nil {
				return fmt.Errorf("fio on the %s: %w: %s: %.500s", on, err, said.String(), read(result))
			}
			return reportFio(on, result, began, kernelComplaints()-complaints)
		case <-time.After(watchEvery / 2):
		}
		if !told && v.written()-before >= size*loops/2 {
			told = true
			report("half", true, "on", on)
			if err := half(); err != nil {
				return err
			}
		}
	}
}

// reportFio reports what fio says that it has done.
func reportFio(on, result string, began time.Time, complaints int) error {
	var r struct {
		Jobs []struct {
			Error       int
			Read, Write struct {
				Bytes int64 `json:"io_bytes"`
			}
		}
	}
	text := read(result)
	if err := json.Unmarshal([]byte(text[max(0, strings.IndexByte(text, '{')):]), &r); err != nil || len(r.Jobs) != 1 {
		return fmt.Errorf("fio's result has %d jobs, %w: %.500s", len(r.Jobs), err, text)
	}
	j := r.Jobs[0]
	report("fio", j.Error == 0, "on", on, "written", j.Write.Bytes, "read", j.Read.Bytes,
		"seconds", fmt.Sprintf("%.1f", time.Since(began).Seconds()), "error", j.Error, "complaints", complaints)
	return nil
}

// written is how many bytes were written to the device since it came: the seventh number of
// Documentation/block/stat, in sectors of 512 bytes.
func (v *block) written() int64 {
	f := strings.Fields(read("/sys/block/" + v.name + "/stat"))
	if len(f) < 7 {
		return 0
	}
	n, _ := strconv.ParseInt(f[6], 10, 64) // 0 if it is none
	return 512 * n
}

// kernelComplaints counts what the kernel has told of I/O that failed, and of file systems
// that found something wrong.
func kernelComplaints() (n int) {
	const (
		readAll = 3 // SYSLOG_ACTION_READ_ALL, syslog(2)
		most    = 1 << 20
	)
	b := make([]byte, most)
	k, err := syscall.Klogctl(readAll, b)
	if err != nil {
		return -1
	}
	for line := range strings.Lines(string(b[:max(k, 0)])) {
		for _, complaint := range []string{"I/O error", "EXT4-fs error", "EXT4-fs warning", "hung"} {
			if strings.Contains(line, complaint) {
				n++
				break
			}
		}
	}
	return n
}
