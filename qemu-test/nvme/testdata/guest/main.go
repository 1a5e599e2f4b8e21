// The host's side of the NVMe/TCP tests: a program for Linux on the emulated board that
// drives the kernel's initiator with nvme-cli, checks what it sees, and says "ok" and what
// it did for each step. It leaves with code 1 at the first step that fails.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
	"unsafe"
)

var (
	address   = flag.String("address", "10.0.2.2", "the target's")
	port      = flag.String("port", "4420", "the target's")
	subsystem = flag.String("subsystem", "", "its NQN")
	host      = flag.String("host", "", "the host's NQN")
	secret    = flag.String("secret", "", "the host's secret")
	opposite  = flag.String("opposite", "", "the controller's secret")
	wrong     = flag.String("wrong", "", "a secret that is not the host's")
	mebibytes = flag.Int("mebibytes", 8, "to write and verify on the block device")
	options   = flag.String("options", "", "further options of nvme connect")
	serve     = flag.Bool("serve", false, "be a target instead, with a RAM disk as namespace 1, until somebody connects to -done")
	done      = flag.Int("done", 7, "a port")
	erase     = flag.Bool("erase", false, "erase the namespace in all ways that there are")
	full      = flag.Bool("full", false, "all that nvme-cli shows, a file system, a namespace that comes and goes")
)

// hostID goes with the host's NQN: Linux wants both or none.
const hostID = "11111111-2222-3333-4444-555555555555"

func main() {
	flag.Parse()
	do := run
	if *serve {
		do = target
	}
	if err := do(); err != nil {
		fmt.Println("FAILED:", err)
		kernelLog()
		os.Exit(1)
	}
}

// kernelLog prints what the kernel said last.
func kernelLog() {
	const readAll = 3 // SYSLOG_ACTION_READ_ALL, syslog(2)
	b := make([]byte, 1<<18)
	n, _, _ := syscall.Syscall(syscall.SYS_SYSLOG, readAll, uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
	lines := strings.Split(string(b[:n]), "\n")
	fmt.Println(strings.Join(lines[max(0, len(lines)-30):], "\n"))
}

func step(format string, args ...any) { fmt.Printf("ok "+format+"\n", args...) }

// nvme runs nvme-cli.
func nvme(args ...string) (string, error) {
	out, err := exec.Command("/bin/nvme", args...).CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("nvme %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return string(out), nil
}

// transport are the options that say where and who.
func transport(more ...string) []string {
	return append([]string{"-t", "tcp", "-a", *address, "-s", *port, "-q", *host, "-I", hostID}, more...)
}

func connect(more ...string) error {
	args := append([]string{"connect"}, transport("-n", *subsystem)...)
	args = append(args, strings.Fields(*options)...)
	_, err := nvme(append(args, more...)...)
	return err
}

func run() error {
	if *full {
		if err := refusals(); err != nil {
			return err
		}
		if err := discover(); err != nil {
			return err
		}
	}
	if err := connect("-S", *secret, "-C", *opposite); err != nil {
		return err
	}
	step("connected")
	device, err := disk(1)
	if err != nil {
		return err
	}
	if err := verify(device); err != nil {
		return err
	}
	if *erase {
		if err := erases(device); err != nil {
			return err
		}
	}
	if *full {
		for _, do := range []func() error{show, func() error { return fileSystem(device) }, hotPlug, func() error { return restart(device) }} {
			if err := do(); err != nil {
				return err
			}
		}
	}
	if _, err := nvme("disconnect", "-n", *subsystem); err != nil {
		return err
	}
	step("disconnected")
	return nil
}

// refusals expects nobody in without both right secrets.
func refusals() error {
	for _, c := range [][]string{{}, {"-S", *secret}, {"-S", *wrong, "-C", *opposite}, {"-S", *secret, "-C", *wrong}} {
		if err := connect(c...); err == nil {
			return fmt.Errorf("connected with %q", c)
		}
	}
	step("refused without secrets, and with wrong ones")
	return nil
}

// discover expects the discovery log to name the subsystem.
func discover() error {
	out, err := nvme(append([]string{"discover"}, transport()...)...)
	if err != nil {
		return err
	}
	if !strings.Contains(out, *subsystem) || !strings.Contains(out, "trtype:  tcp") {
		return fmt.Errorf("the discovery log is\n%s", out)
	}
	step("discovered")
	return nil
}

// await waits for something that the kernel does by itself.
func await(what string, so func() bool) error {
	for start := time.Now(); !so(); time.Sleep(20 * time.Millisecond) {
		if time.Since(start) > time.Minute {
			return fmt.Errorf("not within a minute: %s", what)
		}
	}
	return nil
}

// find gives the block device of a namespace, or "".
func find(id int) string {
	files, _ := filepath.Glob("/sys/block/nvme*/nsid") // fails on bad patterns only
	for _, file := range files {
		said, err := os.ReadFile(file)
		if err == nil && strings.TrimSpace(string(said)) == fmt.Sprint(id) {
			return "/dev/" + filepath.Base(filepath.Dir(file))
		}
	}
	return ""
}

// disk waits for the block device of a namespace.
func disk(id int) (device string, err error) {
	err = await(fmt.Sprintf("namespace %d", id), func() bool {
		device = find(id)
		_, err := os.Stat(device)
		return device != "" && err == nil
	})
	return device, err
}

// verify writes the block device past the kernel's cache, in pieces of several sizes, and
// reads it back.
func verify(device string) error {
	f, err := os.OpenFile(device, os.O_RDWR|syscall.O_DIRECT, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	const largest = 256 << 10
	raw := make([]byte, 2*largest+4096)
	raw = raw[4096-int(uintptr(unsafe.Pointer(&raw[0]))%4096):] // O_DIRECT wants whole pages
	data, got := raw[:largest], raw[largest:2*largest]
	sizes := []int{4096, 64 << 10, 128 << 10, 256 << 10, 12 << 10}
	start := time.Now()
	for pass := range 2 {
		source := rand.New(rand.NewPCG(7, 7))
		for at, i := 0, 0; at < *mebibytes<<20; i++ {
			n := min(sizes[i%len(sizes)], *mebibytes<<20-at)
			for j := 0; j < n; j += 8 {
				v := source.Uint64()
				for k := range 8 {
					data[j+k] = byte(v >> (8 * k))
				}
			}
			if pass == 0 {
				_, err = f.WriteAt(data[:n], int64(at))
			} else if _, err = f.ReadAt(got[:n], int64(at)); err == nil && !bytes.Equal(got[:n], data[:n]) {
				err = fmt.Errorf("wrong data")
			}
			if err != nil {
				return fmt.Errorf("pass %d at %d, %d bytes: %w", pass, at, n, err)
			}
			at += n
		}
		if err := f.Sync(); err != nil {
			return err
		}
	}
	step("wrote and verified %d MiB in %v", *mebibytes, time.Since(start).Round(time.Millisecond))
	return nil
}

// show expects what nvme-cli reads of the controller to be as the target was told.
func show() error {
	var errs []error
	for _, c := range []struct {
		args []string
		want map[string]any
	}{
		{[]string{"id-ctrl", "/dev/nvme0"}, map[string]any{"sn": "0001                ", "subnqn": *subsystem, "cntrltype": 1.0, "mdts": 5.0, "vwc": 7.0, "kas": 10.0}},
		{[]string{"id-ns", "/dev/nvme0", "-n", "1"}, map[string]any{"nsze": 131072.0, "nlbaf": 0.0}},
		{[]string{"smart-log", "/dev/nvme0"}, map[string]any{"critical_warning": 0.0, "media_errors": 0.0, "avail_spare": 100.0, "temperature": 300.0}},
		{[]string{"list-ns", "/dev/nvme0"}, nil},
		{[]string{"ns-descs", "/dev/nvme0", "-n", "1"}, nil},
		{[]string{"cmdset-ind-id-ns", "/dev/nvme0", "-n", "1"}, nil},
		{[]string{"error-log", "/dev/nvme0"}, nil},
		{[]string{"fw-log", "/dev/nvme0"}, nil},
		{[]string{"fid-support-effects-log", "/dev/nvme0"}, nil},
		{[]string{"sanitize-log", "/dev/nvme0"}, nil},
		{[]string{"changed-ns-list-log", "/dev/nvme0"}, nil},
	} {
		out, err := nvme(append(c.args, "-o", "json")...)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		var got map[string]any
		if c.want == nil {
			continue
		}
		if err := json.Unmarshal([]byte(out), &got); err != nil {
			errs = append(errs, fmt.Errorf("nvme %v: %w: %s", c.args, err, out))
		}
		for key, want := range c.want {
			if fmt.Sprint(got[key]) != fmt.Sprint(want) { // large numbers are strings
				errs = append(errs, fmt.Errorf("nvme %v: %s is %v, want %v", c.args, key, got[key], want))
			}
		}
	}
	for _, args := range [][]string{{"get-feature", "/dev/nvme0", "-f", "7"}, {"get-feature", "/dev/nvme0", "-f", "6"},
		{"get-feature", "/dev/nvme0", "-f", "0xb"}, {"get-feature", "/dev/nvme0", "-f", "0xf"}, {"get-property", "/dev/nvme0", "-o", "0"},
		{"get-property", "/dev/nvme0", "-o", "0x1c"}, {"supported-log-pages", "/dev/nvme0"}, {"effects-log", "/dev/nvme0"},
		{"flush", "/dev/nvme0", "-n", "1"}, {"list"}, {"list-subsys"}} {
		if _, err := nvme(args...); err != nil {
			errs = append(errs, err)
		}
	}
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	step("shown")
	return nil
}

// fileSystem makes one, keeps a file in it, and finds it again after a mount of its own.
func fileSystem(device string) error {
	if out, err := exec.Command("/bin/mke2fs", "-q", "-F", "-t", "ext4", device).CombinedOutput(); err != nil {
		return fmt.Errorf("mke2fs: %w: %s", err, out)
	}
	if err := os.MkdirAll("/tmp/mounted", 0o755); err != nil {
		return err
	}
	content := bytes.Repeat([]byte("what the file system keeps "), 100000)
	for pass := range 2 {
		flags := "discard"
		if err := syscall.Mount(device, "/tmp/mounted", "ext4", 0, flags); err != nil {
			return fmt.Errorf("mount: %w", err)
		}
		if pass == 0 {
			if err := os.WriteFile("/tmp/mounted/file", content, 0o644); err != nil {
				return err
			}
		} else if got, err := os.ReadFile("/tmp/mounted/file"); err != nil || !bytes.Equal(got, content) {
			return fmt.Errorf("the file's content: %v, right %v", err, bytes.Equal(got, content))
		}
		if err := syscall.Unmount("/tmp/mounted", 0); err != nil {
			return fmt.Errorf("unmount: %w", err)
		}
	}
	if out, err := exec.Command("/bin/e2fsck", "-f", "-n", device).CombinedOutput(); err != nil {
		return fmt.Errorf("e2fsck: %w: %s", err, out)
	}
	step("a file system")
	return nil
}

// restart has the target restart in the middle of traffic, which must not notice.
func restart(device string) error {
	fmt.Println("please restart")
	for start := time.Now(); time.Since(start) < 3*time.Second; {
		if err := verify(device); err != nil {
			return err
		}
	}
	step("the target restarted")
	return nil
}

// hotPlug asks for a second namespace, and for its end.
func hotPlug() error {
	fmt.Println("please attach 2")
	device, err := disk(2)
	if err != nil {
		return err
	}
	f, err := os.Open(device)
	if err != nil {
		return err
	}
	b := make([]byte, 4096)
	_, err = f.ReadAt(b, 0)
	f.Close()
	if err != nil || string(b[:6]) != "second" {
		return fmt.Errorf("the second namespace holds %q: %v", b[:6], err)
	}
	step("a namespace came")
	fmt.Println("please detach 2")
	if err := await("the second namespace's end", func() bool { return find(2) == "" }); err != nil {
		return err
	}
	step("a namespace went")
	return nil
}

// secretText is what the host writes before it erases.
const secretText = "what the host erases "

// erases has the namespace erased in each way, and expects that nothing of before is read,
// and that it can be used. Other ways are refused.
func erases(device string) error {
	for _, way := range [][]string{
		{"format", device, "-s", "2", "--force"}, {"sanitize", "/dev/nvme0", "-a", "4"}, {"format", device, "-s", "1", "--force"}, {"format", device, "-s", "0", "--force"},
	} {
		before, err := block(device, strings.Repeat(secretText, 1+4096/len(secretText))[:4096])
		if err != nil || !strings.Contains(before, secretText) {
			return fmt.Errorf("before %v: %w; %.40q", way, err, before)
		}
		if _, err := nvme(way...); err != nil {
			return err
		}
		if way[0] == "sanitize" {
			if err := await("the end of the sanitize", sanitized); err != nil {
				return err
			}
		}
		after, err := block(device, "")
		if err != nil || strings.Contains(after, secretText[:8]) {
			return fmt.Errorf("after %v: %w; %.40q", way, err, after)
		}
		step("erased by %v", way)
	}
	for _, way := range [][]string{{"sanitize", "/dev/nvme0", "-a", "2"}, {"sanitize", "/dev/nvme0", "-a", "3"}, {"sanitize", "/dev/nvme0", "-a", "4", "--no-dealloc"}, {"format", device, "-s", "2", "-l", "1", "--force"}} {
		if said, err := nvme(way...); err == nil {
			return fmt.Errorf("%v is done: %s", way, said)
		}
	}
	step("refused to erase otherwise")
	return verify(device)
}

// sanitized tells whether the log page says that a Sanitize was completed.
func sanitized() bool {
	said, err := nvme("get-log", "/dev/nvme0", "--log-id=0x81", "--log-len=512", "-b")
	return err == nil && len(said) >= 4 && said[2]&7 == 1
}

// block writes a block past the kernel's cache, if there is something to write, and reads it
// the same way.
func block(device, text string) (string, error) {
	f, err := os.OpenFile(device, os.O_RDWR|syscall.O_DIRECT, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	raw := make([]byte, 2*4096)
	b := raw[4096-int(uintptr(unsafe.Pointer(&raw[0]))%4096):][:4096]
	const at = 1 << 20
	if copy(b, text) > 0 {
		if _, err := f.WriteAt(b, at); err != nil {
			return "", err
		}
	}
	_, err = f.ReadAt(b, at)
	return string(b), err
}
