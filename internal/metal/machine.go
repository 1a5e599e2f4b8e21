package metal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"nitro/internal/tied"
)

// Emulator is the program that runs the emulated board.
const Emulator = "qemu-system-arm"

// DefaultLimit is how long a run may take on the wall clock when nothing says
// less.
const DefaultLimit = 2 * time.Minute

// grace is how long the emulator may take to leave after SIGTERM (its plugins
// write their results then) before it is killed.
const grace = 5 * time.Second

// A Machine is one run of an image on the emulated board.
type Machine struct {
	Image    string        // path of the ELF file
	Args     []string      // the program's arguments, its name first; images that test only
	Env      []string      // its environment, KEY=value; images that test only
	Dir      string        // the working directory; relative paths of images that test start here
	QEMUArgs []string      // further arguments for the emulator
	Limit    time.Duration // of wall-clock time; 0 means DefaultLimit
	Console  io.Writer     // if set, gets the console as it comes
}

// A Result is what came of a run.
type Result struct {
	Console  []byte        // all that was on the console, but for the kernel's last words
	Death    string        // the kernel's last words: how the firmware ended; empty when it said nothing
	ExitCode int           // the program's, when it ended by itself; else -1
	Emulator []byte        // what the emulator itself said
	Took     time.Duration // wall-clock time from the emulator's start to its end
}

// Run runs an image until its program ends or its board resets. A program that
// fails is not an error: its exit code says so. The error tells why there is no
// exit code (the limit passed, a signal, a fault in the kernel, the watchdog),
// and the result then holds what was heard until then. The emulator is gone when
// Run returns.
func Run(ctx context.Context, m Machine) (Result, error) {
	limit := m.Limit
	if limit == 0 {
		limit = DefaultLimit
	}
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("limit of %v passed", limit))
	defer cancel()
	args, err := m.emulatorArgs()
	if err != nil {
		return Result{ExitCode: -1}, err
	}
	cmd := exec.CommandContext(ctx, Emulator, args...)
	cmd.Dir = m.Dir
	var console, complaints bytes.Buffer
	cmd.Stdout, cmd.Stderr = &console, &complaints
	if m.Console != nil {
		cmd.Stdout = io.MultiWriter(&console, m.Console)
	}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = grace
	start := time.Now()
	ran := tied.Run(cmd)
	res := Result{Emulator: complaints.Bytes(), Took: time.Since(start)}
	res.Console, res.Death, res.ExitCode = lastWords(console.Bytes())
	return res, m.judge(ctx, ran, &res)
}

// judge gives the error of a run that did not end with the program's end.
func (m *Machine) judge(ctx context.Context, ran error, res *Result) error {
	var code *exec.ExitError
	switch {
	case errors.Is(ran, exec.ErrNotFound):
		return fmt.Errorf("metal: %s is not installed: install Debian's package qemu-system-arm (bookworm-backports) and run this again", Emulator)
	case ctx.Err() != nil:
		res.ExitCode = -1
		return fmt.Errorf("metal: %s: stopped after %v: %w", m.Image, res.Took.Round(time.Millisecond), context.Cause(ctx))
	case ran != nil && (!errors.As(ran, &code) || code.ExitCode() < 0):
		res.ExitCode = -1
		return fmt.Errorf("metal: %s: %s: %w", m.Image, Emulator, ran)
	case res.ExitCode < 0 && res.Death != "":
		return fmt.Errorf("metal: %s: the firmware died: %s", m.Image, res.Death)
	case res.ExitCode < 0 && ran != nil:
		return fmt.Errorf("metal: %s: %s ended with code %d: %s", m.Image, Emulator, code.ExitCode(), bytes.TrimSpace(res.Emulator))
	case res.ExitCode < 0:
		return fmt.Errorf("metal: %s: the board was reset, and the kernel did not say why: the watchdog, or a fault before it had a console", m.Image)
	case ran != nil && code.ExitCode() != res.ExitCode:
		return fmt.Errorf("metal: %s: the kernel says that the program ended with code %d, the emulator ended with %d", m.Image, res.ExitCode, code.ExitCode())
	}
	return nil
}

// Separators of the program's arguments and environment in the emulator's one
// string (see board/kernel, host_arm.go), and the room that the kernel has for it.
const (
	unitSeparator   = "\x1f"
	recordSeparator = "\x1e"
	lineRoom        = 6144
)

// emulatorArgs gives the emulator's command line: the reference board with
// 512 MiB, its console on standard output. The emulator ends where the board
// would reset.
func (m *Machine) emulatorArgs() ([]string, error) {
	line := strings.Join(m.Args, unitSeparator) + recordSeparator + strings.Join(m.Env, unitSeparator)
	if len(line) >= lineRoom {
		return nil, fmt.Errorf("metal: %s: arguments and environment have %d bytes, the kernel takes %d: give the program fewer", m.Image, len(line), lineRoom-1)
	}
	args := []string{
		"-M", "mcimx6ul-evk", "-m", "512M", "-display", "none", "-monitor", "none", "-no-reboot",
		"-net", "none", "-serial", "stdio", "-kernel", m.Image,
		"-semihosting-config", "enable=on,target=native,arg=" + strings.ReplaceAll(line, ",", ",,"),
	}
	return append(args, m.QEMUArgs...), nil
}

// ended matches the kernel's last words. They are the last line on the console.
var ended = regexp.MustCompile(`(?:^|\n)kernel: ([^\n]*, thread \d+, after \d+ s, pc [^\n]*)\n?$`)

var endedWith = regexp.MustCompile(`^program ended, code (\d+),`)

// lastWords splits the kernel's last words off what was on the console.
func lastWords(console []byte) (rest []byte, death string, code int) {
	at := ended.FindSubmatchIndex(console)
	if at == nil {
		return console, "", -1
	}
	death, code = string(console[at[2]:at[3]]), -1
	if m := endedWith.FindStringSubmatch(death); m != nil {
		code, _ = strconv.Atoi(m[1])
	}
	return console[:at[0]], death, code
}
