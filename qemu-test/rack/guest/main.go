//go:build linux && amd64

// Command guest is the first process of the rack's x86 host: Linux with nothing in it but
// what it takes to use a volume. It asks the board's metadata service what to connect to,
// connects with nvme-cli, both sides authenticated, and works with each volume that comes:
// a file system, files, read back from the volume, until the volume goes away.
//
// Each step is a line on the console that begins with "host: " (package rack reads them);
// "host: FAILED" is one that went wrong, and after it nothing more comes.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"nitro/internal/peer"
	"nitro/internal/peer/early"
	"nitro/net/metadata"
	"nitro/qemu-test/rack/work"
)

// The host's end of the wire: any link-local address but the board's.
var (
	address = netip.MustParsePrefix("169.254.0.2/16")
	service = "http://169.254.169.254"
)

// port finds the only Ethernet port.
const port = "/sys/bus/pci/drivers/e1000e/*"

// Limits. The board may be busy, and emulated.
const (
	askLimit     = 20 * time.Second // for the metadata service's answer
	askWithin    = 3 * time.Minute  // it comes up with the board
	connectLimit = 3 * time.Minute
	look         = 100 * time.Millisecond
)

func main() {
	if err := run(); err != nil {
		say("FAILED: %v", err)
	}
	for { // a first process that ends is a kernel panic
		time.Sleep(time.Hour)
	}
}

// say writes a line that the rack reads.
func say(format string, args ...any) {
	fmt.Printf(work.Prefix+format+"\n", args...)
}

func run() error {
	if err := early.Mount(); err != nil {
		return err
	}
	list, err := os.ReadFile(peer.ModuleList)
	if err != nil {
		return err
	}
	for _, module := range strings.Fields(string(list)) {
		if err := early.Load(module); err != nil {
			return err
		}
	}
	var name syscall.Utsname
	if err := syscall.Uname(&name); err != nil {
		return err
	}
	if _, err := os.Stat("/sys/firmware/efi"); err != nil {
		return fmt.Errorf("UEFI has not started this Linux: %w", err)
	}
	say("up: Linux %s, started by UEFI", text(name.Release[:]))
	if err := early.Network(port, address); err != nil {
		return err
	}
	say("address: %s", address)
	d, err := ask()
	if err != nil {
		return err
	}
	say("metadata: cycle %d, %s at %s:%d", d.Cycle, d.NVMe.Subsystem, d.NVMe.Address, d.NVMe.Port)
	if err := connect(&d.NVMe); err != nil {
		return err
	}
	return follow()
}

// text is a C string.
func text(c []int8) string {
	var b []byte
	for _, v := range c {
		if v == 0 {
			break
		}
		b = append(b, byte(v))
	}
	return string(b)
}

// ask asks the metadata service, until it answers.
func ask() (*metadata.Document, error) {
	for start := time.Now(); ; time.Sleep(time.Second) {
		ctx, cancel := context.WithTimeout(context.Background(), askLimit)
		d, err := metadata.Fetch(ctx, http.DefaultClient, service)
		cancel()
		if err == nil || time.Since(start) > askWithin {
			return d, err
		}
	}
}

// connect connects. Without the host's secret it must not get in.
func connect(n *metadata.NVMe) error {
	if err := connectWith(n); err == nil {
		return errors.New("the board lets a host in that proves nothing")
	}
	say("refused: without the host's secret")
	if err := connectWith(n, "--dhchap-secret", n.HostSecret, "--dhchap-ctrl-secret", n.ControllerSecret); err != nil {
		return err
	}
	controllers, _ := filepath.Glob("/sys/class/nvme/nvme*/dhchap_ctrl_secret") // fails on bad patterns only
	for _, c := range controllers {
		if said, err := os.ReadFile(c); err == nil && strings.TrimSpace(string(said)) == n.ControllerSecret {
			say("connected: both sides authenticated")
			return nil
		}
	}
	return errors.New("connected, and the kernel has not asked the board for its proof")
}

func connectWith(n *metadata.NVMe, secrets ...string) error {
	_, err := command(connectLimit, "/bin/nvme", append([]string{"connect", "-t", n.Transport, "-a", n.Address, "-s", fmt.Sprint(n.Port),
		"-n", n.Subsystem, "-q", n.Host, "-I", n.HostID}, secrets...)...)
	return err
}

// command runs a program. Its arguments may be secrets, so its error does not tell them.
func command(limit time.Duration, program string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	out, err := exec.CommandContext(ctx, program, args...).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%s %s: %w: %s", program, args[0], err, bytes.TrimSpace(out))
	}
	return string(out), err
}

// follow works with each namespace that comes, one after another.
func follow() error {
	done := map[string]bool{}
	for ; ; time.Sleep(look) {
		there := namespaces()
		for id := range done {
			if there[id] == "" {
				say("gone: volume %s", id)
				delete(done, id)
			}
		}
		for id, device := range there {
			if done[id] {
				continue
			}
			if err := use(id, device); err != nil {
				return fmt.Errorf("volume %s: %w", id, err)
			}
			done[id] = true
		}
	}
}

// namespaces gives the block devices by volume, as the identity is in URLs.
func namespaces() map[string]string {
	all := map[string]string{}
	files, _ := filepath.Glob("/sys/block/nvme*/uuid") // fails on bad patterns only
	for _, file := range files {
		said, err := os.ReadFile(file)
		device := "/dev/" + filepath.Base(filepath.Dir(file))
		if _, e := os.Stat(device); err == nil && e == nil {
			all[strings.ReplaceAll(strings.TrimSpace(string(said)), "-", "")] = device
		}
	}
	return all
}
