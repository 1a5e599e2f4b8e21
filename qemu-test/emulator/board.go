package emulator

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Program is the emulator's name.
const Program = "qemu-system-arm"

// Config says how a board is started.
type Config struct {
	Image string    // path of the ELF file
	Args  []string  // further arguments for the emulator
	Log   io.Writer // if set, gets the console as it comes
}

// Hurried are arguments that make long times short. The board's clock goes by what
// the processor executes, 256 ns an instruction, and the emulator executes some
// hundred million instructions a second: a watchdog's minute passes in two or
// three seconds. (With QEMU's sleep=off beside it time jumps after a reset, and
// the watchdog fires.)
var Hurried = []string{"-icount", "shift=8"}

// A Board is a running emulator. Its methods may be used by one goroutine at a
// time.
type Board struct {
	cmd  *exec.Cmd
	dir  string // holds the sockets
	seen int    // how much of the console Expect has gone over

	console    transcript
	complaints transcript
	ended      chan struct{} // closed when the emulator is gone
	err        error         // how it ended; set before
}

// Start starts a board. Who calls it must call Close. Should this process die
// first, however it dies, the system kills the emulator.
func Start(c Config) (*Board, error) {
	dir, err := os.MkdirTemp("", "board-")
	if err != nil {
		return nil, fmt.Errorf("emulator: %w", err)
	}
	b := &Board{dir: dir, ended: make(chan struct{})}
	b.console.init(c.Log)
	b.complaints.init(nil)
	b.cmd = exec.Command(Program, append([]string{
		"-M", "mcimx6ul-evk", "-m", "512M", "-display", "none", "-monitor", "none", "-net", "none",
		"-serial", "stdio", "-kernel", c.Image, "-gdb", "unix:" + b.gdbSocket() + ",server=on,wait=off",
	}, c.Args...)...)
	b.cmd.Stdout, b.cmd.Stderr = &b.console, &b.complaints
	b.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	go b.run(started)
	if err := <-started; err != nil {
		os.RemoveAll(dir)
		if errors.Is(err, exec.ErrNotFound) {
			return nil, fmt.Errorf("emulator: %s is not installed: install Debian's package qemu-system-arm (bookworm-backports) and run this again", Program)
		}
		return nil, fmt.Errorf("emulator: %w", err)
	}
	return b, nil
}

func (b *Board) gdbSocket() string { return filepath.Join(b.dir, "gdb") }

// run starts the emulator and waits for its end, on one thread: the system kills
// the child when the thread that started it ends.
func (b *Board) run(started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := b.cmd.Start()
	started <- err
	if err == nil {
		b.err = b.cmd.Wait()
		close(b.ended)
	}
}

// grace is how long the emulator may take to leave after SIGTERM (its plugins
// write their results then) before it is killed.
const grace = 5 * time.Second

// Close ends the emulator and returns when it is gone. Closing again does no harm.
func (b *Board) Close() {
	b.cmd.Process.Signal(syscall.SIGTERM) // fails when it is gone already
	select {
	case <-b.ended:
	case <-time.After(grace):
		b.cmd.Process.Kill()
		<-b.ended // SIGKILL cannot be refused
	}
	os.RemoveAll(b.dir)
}

// Wait waits until the emulator ends by itself, as it does at a reset when it was
// started with -no-reboot.
func (b *Board) Wait(limit time.Duration) error {
	select {
	case <-b.ended:
		if b.err != nil {
			return fmt.Errorf("emulator: %w: %s", b.err, strings.TrimSpace(string(b.complaints.bytes())))
		}
		return nil
	case <-time.After(limit):
		return fmt.Errorf("emulator: still running after %v; the console ends in\n%s", limit, b.tail())
	}
}

// Console returns all that the board has said, with its carriage returns.
func (b *Board) Console() []byte { return b.console.bytes() }

// Expect waits until the console matches a pattern, behind what earlier calls
// have matched, and returns the match and its groups. The pattern's last line
// should end in \r\n or in something else that ends it, as half a line may match.
// The error holds the end of the console.
func (b *Board) Expect(pattern string, limit time.Duration) ([]string, error) {
	re, err := regexp.Compile(pattern)
	if err != nil {
		return nil, fmt.Errorf("emulator: %w", err)
	}
	late := time.After(limit)
	for gone := false; ; {
		more := b.console.next()
		said := b.console.bytes()[b.seen:]
		if at := re.FindSubmatchIndex(said); at != nil {
			b.seen += at[1]
			return groups(said, at), nil
		}
		if gone {
			return nil, fmt.Errorf("emulator: it ended (%v: %s) without saying %q; the console ends in\n%s", b.err, b.complaints.bytes(), pattern, b.tail())
		}
		select {
		case <-more:
		case <-b.ended:
			gone = true // look once more: all has been said now
		case <-late:
			return nil, fmt.Errorf("emulator: %q did not come within %v; the console ends in\n%s", pattern, limit, b.tail())
		}
	}
}

func groups(said []byte, at []int) []string {
	var all []string
	for i := 0; i < len(at); i += 2 {
		s := ""
		if at[i] >= 0 {
			s = string(said[at[i]:at[i+1]])
		}
		all = append(all, s)
	}
	return all
}

// tail is the end of the console, for errors.
func (b *Board) tail() []byte {
	const most = 3000
	said := b.Console()
	return bytes.ReplaceAll(said[max(0, len(said)-most):], []byte("\r"), nil)
}

// A transcript keeps what is written to it and tells when there is more.
type transcript struct {
	mu   sync.Mutex
	said []byte
	more chan struct{} // closed by the next write
	also io.Writer
}

func (t *transcript) init(also io.Writer) {
	t.more = make(chan struct{})
	t.also = also
}

// Write implements io.Writer.
func (t *transcript) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.said = append(t.said, p...)
	close(t.more)
	t.more = make(chan struct{})
	if t.also != nil {
		return t.also.Write(p)
	}
	return len(p), nil
}

func (t *transcript) bytes() []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.said[:len(t.said):len(t.said)]
}

func (t *transcript) next() <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.more
}
