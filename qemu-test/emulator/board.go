package emulator

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"time"

	"nitro/internal/tied"
	"nitro/qemu-test/console"
)

// Program is the emulator's name.
const Program = "qemu-system-arm"

// HostProgram is the name of the one that plays x86 hosts.
const HostProgram = "qemu-system-x86_64"

// Config says how a board is started.
type Config struct {
	Image   string     // path of the ELF file; "" where the processor is not to run (-S)
	Program string     // "" means Program
	Machine string     // the emulator's name of the board; "" means mcimx6ul-evk
	Args    []string   // further arguments for the emulator
	Files   []*os.File // open files that the arguments name, as /proc/self/fd/3 and on
	Log     io.Writer  // if set, gets the console as it comes
}

// Hurried are arguments that make long times short. The board's clock goes by what
// the processor executes, 256 ns an instruction, and the emulator executes some
// hundred million instructions a second: a watchdog's minute passes in two or
// three seconds. (With QEMU's sleep=off beside it time jumps after a reset, and
// the watchdog fires.)
var Hurried = []string{"-icount", "shift=8"}

// A Board is a running emulator. Its console and [GDB] may be used by one goroutine
// at a time, its [QMP] and [QTest] by several.
type Board struct {
	program *tied.Program
	folder  *tied.Folder // holds the sockets

	console    *console.Console
	complaints *console.Console
}

// Start starts a board. Who calls it must call Close. Should this process die
// first, however it dies, the system kills the emulator.
func Start(c Config) (*Board, error) {
	folder, err := tied.NewFolder("nitro-board-")
	if err != nil {
		return nil, fmt.Errorf("emulator: %w", err)
	}
	b := &Board{folder: folder, console: console.New(c.Log), complaints: console.New(nil)}
	cmd := exec.Command(cmp.Or(c.Program, Program), append([]string{
		"-M", cmp.Or(c.Machine, "mcimx6ul-evk"), "-m", "512M", "-display", "none", "-monitor", "none", "-net", "none",
		"-serial", "stdio", "-gdb", b.server(gdbSocket), "-qmp", b.server(qmpSocket),
		"-qtest", b.server(qtestSocket), "-qtest-log", "/dev/null",
	}, c.Args...)...)
	if c.Image != "" {
		cmd.Args = append(cmd.Args, "-kernel", c.Image)
	}
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = b.console, b.complaints, c.Files
	if b.program, err = tied.Start(cmd); err != nil {
		folder.Remove()
		if errors.Is(err, exec.ErrNotFound) {
			return nil, fmt.Errorf("emulator: %s is not installed: install what internal/deps/install.sh names (bookworm-backports) and run this again", cmd.Path)
		}
		return nil, fmt.Errorf("emulator: %w", err)
	}
	go func() {
		<-b.program.Ended() // all has been said then
		b.console.End(b.end())
	}()
	return b, nil
}

// Sockets in the board's folder.
const (
	gdbSocket   = "gdb"
	qmpSocket   = "qmp"
	qtestSocket = "qtest"
)

// server is the argument that has the emulator listen on a socket.
func (b *Board) server(socket string) string {
	return "unix:" + b.folder.Join(socket) + ",server=on,wait=off"
}

// dial connects to a socket of the emulator. One that has just started makes its
// sockets first.
func (b *Board) dial(socket string) (net.Conn, error) {
	for end := time.Now().Add(answerLimit); ; {
		conn, err := net.Dial("unix", b.folder.Join(socket))
		if err == nil {
			return conn, nil
		}
		select {
		case <-b.program.Ended():
			return nil, fmt.Errorf("emulator: it ended: %w", b.end())
		case <-time.After(10 * time.Millisecond):
			if time.Now().After(end) {
				return nil, fmt.Errorf("emulator: %s: %w", socket, err)
			}
		}
	}
}

// grace is how long the emulator may take to leave after SIGTERM (its plugins
// write their results then) before it is killed.
const grace = 5 * time.Second

// Close ends the emulator and returns when it is gone. Closing again does no harm.
func (b *Board) Close() {
	b.program.End(grace)
	b.folder.Remove()
}

// Kill ends the emulator as a power cut would: nothing of it runs any more. Close is
// still to be called.
func (b *Board) Kill() { b.program.Kill() }

// PID is the emulator's process.
func (b *Board) PID() int { return b.program.Process.Pid }

// Ended is closed when the emulator is gone.
func (b *Board) Ended() <-chan struct{} { return b.program.Ended() }

// end is how an emulator ended that is gone.
func (b *Board) end() error {
	how := "exit status 0"
	if err := b.program.Err(); err != nil {
		how = err.Error()
	}
	return fmt.Errorf("%s: %s", how, bytes.TrimSpace(b.complaints.Said()))
}

// Complaints returns all that the emulator itself has said.
func (b *Board) Complaints() []byte { return b.complaints.Said() }

// Wait waits until the emulator ends by itself, as it does at a reset when it was
// started with -no-reboot.
func (b *Board) Wait(limit time.Duration) error {
	select {
	case <-b.Ended():
		if b.program.Err() != nil {
			return fmt.Errorf("emulator: %w", b.end())
		}
		return nil
	case <-time.After(limit):
		return fmt.Errorf("emulator: still running after %v; the console ends in\n%s", limit, b.console.Tail())
	}
}

// Console returns all that the board has said, with its carriage returns.
func (b *Board) Console() []byte { return b.console.Said() }

// Skip has Expect begin behind all that the board has said so far.
func (b *Board) Skip() { b.console.Skip() }

// Expect waits until the console matches a pattern, behind what earlier calls
// have matched, and returns the match and its groups. The pattern's last line
// should end in \r\n or in something else that ends it, as half a line may match.
// The error holds the end of the console.
func (b *Board) Expect(pattern string, limit time.Duration) ([]string, error) {
	m, err := b.console.Expect(pattern, limit)
	if err != nil {
		return nil, fmt.Errorf("emulator: %w", err)
	}
	return m, nil
}
