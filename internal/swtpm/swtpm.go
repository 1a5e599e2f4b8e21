// Package swtpm runs a TPM 2.0 for tests: swtpm 0.7 or later, on Unix sockets, without
// a board. A [TPM] is a go-tpm transport that a test can do to what happens to TPMs:
// cut its power at any command, reset it alone, listen on its wires and change what goes
// over them. (A TPM behind the emulated board is qemu-test/rack's.)
//
// swtpm ends with the process that started it. Nothing waits without a limit.
package swtpm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"nitro/internal/tied"
)

// Limits.
const (
	startLimit  = 20 * time.Second // to make a new TPM
	answerLimit = 60 * time.Second // of a command; RSA keys take a while on a busy machine
)

// ErrPower is what a command gets whose answer never came.
var ErrPower = errors.New("swtpm: the power was cut")

// A TPM is one TPM with its power switch. It is for one goroutine.
type TPM struct {
	// Tap, if set, sits on the bus: it may change the command that goes to the TPM, and
	// the answer that comes back. An error is what the caller gets instead.
	Tap Tap

	tb      testing.TB
	state   string // folder
	run     *tied.Folder
	program *tied.Program
	data    net.Conn
	control net.Conn

	commands int
	cutAfter int // commands; 0 is never
}

// A Tap is an interposer on the bus. Either function may be nil.
type Tap struct {
	Command func(command []byte) []byte
	Answer  func(command, answer []byte) []byte
}

// New makes a TPM and switches it on. It wants TPM2_Startup.
func New(tb testing.TB) *TPM {
	tb.Helper()
	t := Open(tb, tb.TempDir())
	t.On()
	return t
}

// Open is the TPM whose state a folder is: one that [Make] has made, or an empty one for a
// new TPM. It is switched off.
func Open(tb testing.TB, folder string) *TPM {
	t := &TPM{tb: tb, state: folder}
	tb.Cleanup(t.Cut)
	return t
}

// Clone makes another TPM with the same state, which is one that was taken out of the
// board and copied: no real TPM lets one do that. This one loses its power.
func (t *TPM) Clone() *TPM {
	t.tb.Helper()
	t.Cut()
	c := &TPM{tb: t.tb, state: t.tb.TempDir()}
	if err := os.CopyFS(filepath.Join(c.state, "tpm"), os.DirFS(t.state)); err != nil {
		t.tb.Fatal(err)
	}
	c.state = filepath.Join(c.state, "tpm")
	t.tb.Cleanup(c.Cut)
	c.On()
	return c
}

// On switches the power on.
func (t *TPM) On() {
	t.tb.Helper()
	if err := t.on(); err != nil {
		t.Cut()
		t.tb.Fatal("swtpm: ", err)
	}
}

func (t *TPM) on() (err error) {
	if t.run, err = tied.NewFolder("nitro-swtpm-"); err != nil {
		return err
	}
	data, control := t.run.Join("data"), t.run.Join("control")
	cmd := exec.Command("swtpm", "socket", "--tpm2", "--tpmstate", "dir="+t.state, "--flags", "not-need-init",
		"--server", "type=unixio,path="+data, "--ctrl", "type=unixio,path="+control)
	if t.program, err = tied.Start(cmd); err != nil {
		if errors.Is(err, exec.ErrNotFound) {
			err = errors.New("swtpm is not installed: install Debian's package swtpm and run this again")
		}
		return err
	}
	if t.data, err = t.dial(data); err != nil {
		return err
	}
	t.control, err = t.dial(control)
	return err
}

func (t *TPM) dial(socket string) (net.Conn, error) {
	for end := time.Now().Add(startLimit); ; {
		conn, err := net.Dial("unix", socket)
		if err == nil {
			return conn, nil
		}
		select {
		case <-t.program.Ended():
			return nil, fmt.Errorf("it ended: %v", t.program.Err())
		case <-time.After(2 * time.Millisecond):
			if time.Now().After(end) {
				return nil, err
			}
		}
	}
}

// Cut takes the power away, whatever the TPM is doing. It may be off already.
func (t *TPM) Cut() {
	if t.program != nil {
		t.program.Kill()
	}
	for _, c := range []net.Conn{t.data, t.control} {
		if c != nil {
			c.Close()
		}
	}
	if t.run != nil {
		t.run.Remove()
	}
	t.program, t.data, t.control, t.run = nil, nil, nil, nil
	t.cutAfter = 0
}

// Cycle cuts the power and switches it on again.
func (t *TPM) Cycle() {
	t.tb.Helper()
	t.Cut()
	t.On()
}

// State is the folder of its state.
func (t *TPM) State() string { return t.state }

// Commands is how many commands the TPM was given in its life.
func (t *TPM) Commands() int { return t.commands }

// CutAfter has the power go when the TPM has executed n more commands: the last one's
// answer does not come.
func (t *TPM) CutAfter(n int) { t.cutAfter = t.commands + n }

// initialise is swtpm's control command that is a TPM's _TPM_Init (tpm_ioctl.h).
const initialise = 2

// Reset resets the TPM alone, as its reset pin does.
func (t *TPM) Reset() {
	t.tb.Helper()
	var command [8]byte
	binary.BigEndian.PutUint32(command[:], initialise)
	t.control.SetDeadline(time.Now().Add(answerLimit))
	var answer [4]byte
	_, err := t.control.Write(command[:])
	if err == nil {
		_, err = io.ReadFull(t.control, answer[:])
	}
	if code := binary.BigEndian.Uint32(answer[:]); err != nil || code != 0 {
		t.tb.Fatalf("swtpm: reset: %v, code %#x", err, code)
	}
}

// Send implements transport.TPM.
func (t *TPM) Send(command []byte) ([]byte, error) {
	if t.data == nil {
		return nil, ErrPower
	}
	if t.Tap.Command != nil {
		command = t.Tap.Command(command)
	}
	answer, err := t.Raw(command)
	if err == nil && t.Tap.Answer != nil {
		answer = t.Tap.Answer(command, answer)
	}
	return answer, err
}

// Raw sends a command past the tap.
func (t *TPM) Raw(command []byte) ([]byte, error) {
	if t.data == nil {
		return nil, ErrPower
	}
	t.data.SetDeadline(time.Now().Add(answerLimit))
	if _, err := t.data.Write(command); err != nil {
		return nil, fmt.Errorf("swtpm: %w", err)
	}
	const header, size = 10, 2
	answer := make([]byte, header, 4096)
	if _, err := io.ReadFull(t.data, answer); err != nil {
		return nil, fmt.Errorf("swtpm: %w", err)
	}
	n := binary.BigEndian.Uint32(answer[size:])
	if n < header || n > 4096 {
		return nil, fmt.Errorf("swtpm: answer of %d bytes", n)
	}
	answer = answer[:n]
	if _, err := io.ReadFull(t.data, answer[header:]); err != nil {
		return nil, fmt.Errorf("swtpm: %w", err)
	}
	t.commands++
	if t.commands == t.cutAfter {
		t.Cut()
		return nil, ErrPower
	}
	return answer, nil
}
