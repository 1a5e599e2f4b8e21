package peer

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"nitro/internal/peer/guest"
	"nitro/internal/tied"
)

// Emulator is the program that runs the emulated board.
const Emulator = "qemu-system-arm"

// DefaultLimit is how long a run may take on the wall clock when neither the
// job nor its context says less. Booting takes about six seconds of it, under the
// instruction counter about twenty, and several times that on a busy machine.
const DefaultLimit = 5 * time.Minute

// grace is how long the emulator may take to leave after SIGTERM (its plugins
// write their results then) before it is killed.
const grace = 5 * time.Second

// Address is the guest's on the emulator's own network, where this machine is
// 10.0.2.2.
var Address = netip.MustParsePrefix("10.0.2.15/24")

// networkModules are the Ethernet port's driver and, in front of it, what it takes its
// address, its clock and its PHY's reset line from.
var networkModules = []string{"nvmem-imx-ocotp", "gpio-mxc", "micrel", "fec"}

// A Job is one program to run on the emulated Linux.
type Job struct {
	Program string            // path on this machine of a linux/arm program
	Args    []string          // its arguments, without the program's name
	Env     []string          // its environment, KEY=value; none is inherited
	Modules []string          // kernel modules to load first, by name; what they need is added
	Files   map[string]string // further files: path in the guest to path on this machine
	Others  []string          // further programs, for the first one to start: paths on this machine, in the guest in /bin

	Network bool        // bring up the first Ethernet port before the program starts, as Address, on the emulator's own network
	Forward map[int]int // TCP ports of this machine's loopback interface that lead to ports of the guest; with Network

	Icount   bool          // virtual time counts instructions: one nanosecond each, idle time skipped
	QEMUArgs []string      // further arguments for the emulator, such as -plugin
	Limit    time.Duration // of wall-clock time; 0 means DefaultLimit
	Live     io.Writer     // if set, gets the guest's answers as they come, markers included
}

// A Result is what a program did.
type Result struct {
	Output   []byte        // its standard output and standard error, as written
	ExitCode int           // its exit code; -1 when a signal ended it
	Signal   int           // the signal that ended it, or 0
	Console  []byte        // the kernel's messages
	Emulator []byte        // what the emulator itself said (and plugins that write to standard error)
	Took     time.Duration // wall-clock time from the emulator's start to its end
	Began    time.Duration // the same to when the guest was about to start the program; 0 if it never was
}

// Run boots the emulated board with Linux, runs the job's program there and
// switches the board off. A program that fails is not an error: its exit code
// says so. The error tells why there is no exit code (not set up, the guest did
// not boot, the limit passed), and the result then holds what was heard until
// then. The emulator is gone when Run returns.
//
// Linux and its device tree are those that Setup left under root/build/peer,
// root being the module's folder.
func Run(ctx context.Context, job Job) (Result, error) {
	k, err := installed(board)
	if err != nil {
		return Result{}, err
	}
	dir, err := os.MkdirTemp("", "peer-run-")
	if err != nil {
		return Result{}, fmt.Errorf("peer: %w", err)
	}
	defer os.RemoveAll(dir)

	var nonce [8]byte
	rand.Read(nonce[:]) // never fails
	order := guest.Order{
		Nonce:   hex.EncodeToString(nonce[:]),
		Program: path.Join("/bin", filepath.Base(job.Program)),
		Args:    job.Args,
		Env:     append([]string{}, job.Env...), // not null in JSON, which would mean the parent's
	}
	if job.Network {
		order.Address = Address
		job.Modules = slices.Concat(networkModules, job.Modules)
	}
	initrd, err := k.initramfs(ctx, &job, &order, dir)
	if err != nil {
		return Result{}, err
	}
	limit := job.Limit
	if limit == 0 {
		limit = DefaultLimit
	}
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("limit of %v passed", limit))
	defer cancel()
	return k.boot(ctx, &job, initrd, dir, order.Nonce)
}

// boot runs the emulator to its end and reads the guest's answer.
func (k *kernel) boot(ctx context.Context, job *Job, initrd, dir, nonce string) (Result, error) {
	console := filepath.Join(dir, "console")
	answer := transcript{marker: []byte(guest.Begin(nonce))}
	var complaints bytes.Buffer
	cmd := exec.CommandContext(ctx, Emulator, k.emulatorArgs(job, initrd, console)...)
	cmd.Stdout, cmd.Stderr = &answer, &complaints
	if job.Live != nil {
		cmd.Stdout = io.MultiWriter(&answer, job.Live)
	}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = grace
	start := time.Now()
	ran := tied.Run(cmd)
	res := Result{Emulator: complaints.Bytes(), Took: time.Since(start)}
	if !answer.marked.IsZero() {
		res.Began = answer.marked.Sub(start)
	}
	res.Console, _ = os.ReadFile(console) // absent when the emulator did not start
	if errors.Is(ran, exec.ErrNotFound) {
		return res, fmt.Errorf("peer: %s is not installed: install Debian's package qemu-system-arm (bookworm-backports) and run this again", Emulator)
	}
	output, status, err := guest.Parse(answer.said, nonce)
	res.Output, res.ExitCode, res.Signal = output, status.Exit, status.Signal
	switch {
	case ctx.Err() != nil:
		return res, fmt.Errorf("peer: %s: stopped after %v: %w%s", job.Program, res.Took.Round(time.Millisecond), context.Cause(ctx), res.tail())
	case ran != nil:
		return res, fmt.Errorf("peer: %s: %w%s", Emulator, ran, res.tail())
	case err != nil:
		return res, fmt.Errorf("peer: %s: %w%s", job.Program, err, res.tail())
	}
	return res, nil
}

// A transcript keeps what is written to it, and when a marker was complete.
type transcript struct {
	said   []byte
	marker []byte
	marked time.Time
}

// Write implements io.Writer.
func (t *transcript) Write(p []byte) (int, error) {
	t.said = append(t.said, p...)
	if t.marked.IsZero() && bytes.Contains(t.said, t.marker) {
		t.marked = time.Now()
	}
	return len(p), nil
}

// emulatorArgs gives the emulator's command line: the reference board with
// 512 MiB, the kernel's messages into a file, the guest's answers on standard
// output.
func (k *kernel) emulatorArgs(job *Job, initrd, console string) []string {
	args := []string{
		"-M", "mcimx6ul-evk", "-m", "512M", "-display", "none", "-monitor", "none", "-no-reboot",
		"-nodefaults",
		"-chardev", "file,id=console,path=" + console, "-serial", "chardev:console",
		"-serial", "stdio",
		"-kernel", k.image(), "-dtb", k.deviceTree(), "-initrd", initrd,
		// A panic restarts at once, which -no-reboot turns into the end. The
		// kernel's cipher tests would run beside the program for seconds.
		"-append", "console=ttymxc0,115200 panic=-1 rdinit=/init cryptomgr.notests=1",
	}
	if job.Icount {
		args = append(args, "-icount", "shift=0,sleep=off")
	}
	if job.Network {
		args = append(args, "-nic", forwarding(job.Forward))
	}
	return append(args, job.QEMUArgs...)
}

// forwarding gives the emulator's argument for its own network.
func forwarding(ports map[int]int) string {
	nic := "user"
	for _, here := range slices.Sorted(maps.Keys(ports)) {
		nic += fmt.Sprintf(",hostfwd=tcp:127.0.0.1:%d-%v:%d", here, Address.Addr(), ports[here])
	}
	return nic
}

// tail gives the last of what was heard, for an error's text.
func (r *Result) tail() string {
	text := ""
	for _, part := range []struct {
		name string
		said []byte
	}{{"emulator", r.Emulator}, {"console", r.Console}, {"program", r.Output}} {
		said := bytes.TrimSpace(part.said)
		if len(said) > 1500 {
			said = said[len(said)-1500:]
		}
		if len(said) > 0 {
			text += fmt.Sprintf("\n--- %s, at the end:\n%s", part.name, said)
		}
	}
	return text
}

// initramfs writes the archive that the guest boots from and gives its path.
func (k *kernel) initramfs(ctx context.Context, job *Job, order *guest.Order, dir string) (string, error) {
	var c cpio
	first, err := k.buildInit(ctx, "./internal/peer/init", dir)
	if err != nil {
		return "", err
	}
	if err := c.addFrom("/init", first, 0o755); err != nil {
		return "", err
	}
	if err := c.addFrom(order.Program, job.Program, 0o755); err != nil {
		return "", err
	}
	if err := k.addLibraries(&c, job.Program); err != nil {
		return "", err
	}
	for _, other := range job.Others {
		if err := c.addFrom(path.Join("/bin", filepath.Base(other)), other, 0o755); err != nil {
			return "", err
		}
		if err := k.addLibraries(&c, other); err != nil {
			return "", err
		}
	}
	for in, from := range job.Files {
		if hidden(in) {
			return "", fmt.Errorf("peer: %s in the guest would be hidden by a mounted file system: choose another folder", in)
		}
		if err := c.addFrom(in, from, 0o755); err != nil {
			return "", err
		}
	}
	if order.Modules, err = k.addModules(ctx, &c, job.Modules); err != nil {
		return "", err
	}
	said, err := json.Marshal(order)
	if err != nil {
		return "", fmt.Errorf("peer: %w", err)
	}
	if err := c.add(guest.OrderPath, said, 0o644); err != nil {
		return "", err
	}
	file := filepath.Join(dir, "initramfs")
	if err := os.WriteFile(file, c.bytes(), 0o644); err != nil {
		return "", fmt.Errorf("peer: %w", err)
	}
	return file, nil
}

// addFrom adds a file of this machine to the archive.
func (c *cpio) addFrom(in, from string, perm os.FileMode) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return fmt.Errorf("peer: %s for the guest: %w", in, err)
	}
	return c.add(in, data, perm)
}

// buildInit builds a guest's first process, a package of the module, into dir and gives its
// path. It is built for each run, so that it is never older than its source; the compiler's
// cache leaves only the link to do.
func (k *kernel) buildInit(ctx context.Context, pkg, dir string) (string, error) {
	file := filepath.Join(dir, "init")
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", file, pkg)
	cmd.Dir = k.root
	cmd.Env = append(append(os.Environ(), "GOOS=linux", "CGO_ENABLED=0", "GOFLAGS="), k.goarch...)
	if said, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("peer: build the guest's first process: %w\n%s", err, said)
	}
	return file, nil
}
