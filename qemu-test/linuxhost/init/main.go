//go:build linux

// The first process of the rack's x86 host: see package linuxhost, which has what it says.
// It never returns by itself: the host runs until it loses its power.
package main

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"nitro/internal/peer"
	"nitro/internal/peer/early"
	"nitro/net/metadata"
	"nitro/qemu-test/linuxhost"
)

func main() {
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "init: runs only as the first process of the rack's host")
		os.Exit(1)
	}
	if err := run(); err != nil {
		report("host", false, "why", err.Error())
	}
	select {} // the kernel panics when its first process ends
}

// report says what was done.
func report(step string, ok bool, fields ...any) {
	r := linuxhost.Report{Step: step, OK: ok, Fields: map[string]string{}}
	for i := 0; i+1 < len(fields); i += 2 {
		r.Fields[fields[i].(string)] = fmt.Sprint(fields[i+1])
	}
	fmt.Println(r)
}

// A host is the work and where it is done.
type host struct {
	linuxhost.Work
	access *metadata.Document
}

// run does all steps, and then watches the volume for ever.
func run() error {
	if err := start(); err != nil {
		return err
	}
	h := &host{}
	if err := h.readCommandLine(); err != nil {
		return err
	}
	if err := h.askMetadata(); err != nil {
		return err
	}
	if err := h.refused(); err != nil {
		return err
	}
	if err := h.connect(); err != nil {
		return err
	}
	if h.Fio > 0 {
		go h.fio()
	}
	for {
		v, err := h.await()
		if err != nil {
			return err
		}
		if err := v.use(); err != nil {
			return err
		}
		report("gone", true, "nsid", v.nsid)
	}
}

// start brings kernel and network up.
func start() error {
	if err := early.Mount(); err != nil {
		return err
	}
	release := read("/proc/sys/kernel/osrelease")
	firmware := read("/sys/class/dmi/id/bios_vendor") + " " + read("/sys/class/dmi/id/bios_version")
	if _, err := os.Stat("/sys/firmware/efi"); err != nil {
		return fmt.Errorf("the kernel was not started by UEFI: %w", err)
	}
	uptime, _, _ := strings.Cut(read("/proc/uptime"), " ")
	report("kernel", true, "release", release, "firmware", firmware, "uptime", uptime)
	for _, path := range strings.Fields(read(peer.ModuleList)) {
		if err := early.Load(path); err != nil {
			return err
		}
	}
	address := netip.MustParsePrefix(linuxhost.Address)
	if err := early.Network("/sys/bus/virtio/devices/virtio*", address); err != nil {
		return err
	}
	report("network", true, "address", address)
	return nil
}

// read gives a small file's text, or "".
func read(file string) string {
	b, _ := os.ReadFile(file) // what is missing shows in the report
	return strings.TrimSpace(string(b))
}

func (h *host) readCommandLine() (err error) {
	for _, word := range strings.Fields(read("/proc/cmdline")) {
		name, value, _ := strings.Cut(word, "=")
		switch name {
		case linuxhost.PatternParameter:
			h.Pattern = value
		case linuxhost.BytesParameter:
			if h.Bytes, err = strconv.Atoi(value); err != nil {
				return err
			}
		case linuxhost.FioParameter:
			if h.Fio, err = strconv.ParseInt(value, 10, 64); err != nil {
				return err
			}
		}
	}
	if h.Pattern == "" || h.Bytes <= 0 {
		return fmt.Errorf("the kernel's command line lacks %s or %s", linuxhost.PatternParameter, linuxhost.BytesParameter)
	}
	return nil
}

// Limits of a step. The board may be busy, and the first volume may come late.
const (
	stepLimit = 5 * time.Minute
	stepPause = 500 * time.Millisecond
)

// askMetadata asks until the service answers.
func (h *host) askMetadata() (err error) {
	client := &http.Client{Timeout: 30 * time.Second}
	for end := time.Now().Add(stepLimit); ; time.Sleep(stepPause) {
		if h.access, err = metadata.Fetch(context.Background(), client, linuxhost.Board); err == nil {
			d := h.access
			report("metadata", true, "cycle", d.Cycle, "volumes", len(d.Volumes), "subsystem", d.NVMe.Subsystem, "product", d.Board.Product)
			return nil
		}
		if time.Now().After(end) {
			return err
		}
	}
}

// Another host, and a secret that is nobody's: examples of RFC 4122 and of nvme-cli.
const (
	anotherID     = "f81d4fae-7dec-11d0-a765-00a0c91e6bf6"
	anotherSecret = "DHHC-1:01:27vup6MiNIrRNURxNQBW6Uee719bsCNAposWDyO20PyLLMUQ:"
)

// refused expects the board to show nothing to another host, nor to one that has a wrong
// secret.
func (h *host) refused() error {
	another, wrong := h.access.NVMe, h.access.NVMe
	another.Host, another.HostID = "nqn.2014-08.org.nvmexpress:uuid:"+anotherID, anotherID
	wrong.HostSecret = anotherSecret
	var said []any
	for _, c := range []struct {
		who string
		do  func() (string, error)
	}{
		{"discovery", func() (string, error) { return nvme("discover", another) }},
		{"name", func() (string, error) { return nvme("connect", another, "-n", another.Subsystem) }},
		{"secret", func() (string, error) { return nvme("connect", wrong, secrets(wrong)...) }},
	} {
		out, err := c.do()
		if err == nil {
			return fmt.Errorf("the board answers another host (%s): %s", c.who, out)
		}
		if seen, _ := filepath.Glob("/sys/block/nvme*"); len(seen) > 0 { // fails on bad patterns only
			return fmt.Errorf("another host (%s) sees %v", c.who, seen)
		}
		line, _, _ := strings.Cut(out, "\n")
		said = append(said, c.who, line)
	}
	report("refused", true, said...)
	return nil
}

// nvme runs a command of nvme-cli's for a host.
func nvme(command string, n metadata.NVMe, more ...string) (string, error) {
	args := []string{command, "-t", n.Transport, "-a", n.Address, "-s", strconv.Itoa(int(n.Port)), "-q", n.Host, "-I", n.HostID}
	out, err := exec.Command("/bin/nvme", append(args, more...)...).CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// secrets has a host connect to the subsystem, authenticated in both directions.
func secrets(n metadata.NVMe) []string {
	return []string{"-n", n.Subsystem, "--dhchap-secret", n.HostSecret, "--dhchap-ctrl-secret", n.ControllerSecret}
}

// connect connects to the subsystem.
func (h *host) connect() error {
	n := h.access.NVMe
	out, err := nvme("connect", n, append(secrets(n),
		"--ctrl-loss-tmo", "600", "--reconnect-delay", "1", "--keep-alive-tmo", "30", "--hdr-digest", "--data-digest")...)
	if err != nil {
		return fmt.Errorf("nvme connect: %w: %s", err, out)
	}
	report("connect", true, "host", n.Host)
	return nil
}
