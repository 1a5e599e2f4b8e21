package rack

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"nitro/internal/tied"
)

// Sockets and the TPM's log, in the rack's folder.
const (
	tpmSocket   = "control" // where the emulator finds the control channel
	swtpmSocket = "swtpm"   // where swtpm has it
	swtpmLog    = "swtpm.log"
)

// Limits of swtpm.
const (
	tpmLimit = 20 * time.Second // to make a new TPM, and to answer on the control channel
	tpmGrace = 2 * time.Second  // to end when asked
)

// cmdInit is the control channel's command that is a TPM's _TPM_Init
// (swtpm's include/swtpm/tpm_ioctl.h: CMD_INIT).
const cmdInit = 2

// A TPM is a running swtpm.
//
// swtpm talks to one controller at a time, and that is the emulator. So the rack stands
// between the two and passes on what they say; then it can put in a word of its own.
type TPM struct {
	program  *tied.Program
	listener *net.UnixListener
	over     sync.WaitGroup

	mu      sync.Mutex // one command at a time
	control *net.UnixConn
}

// startTPM starts a TPM whose state is in a folder, which is made if it is not there.
func startTPM(folder *tied.Folder, state string) (*TPM, error) {
	if err := os.MkdirAll(state, 0o700); err != nil {
		return nil, fmt.Errorf("tpm: %w", err)
	}
	log, err := os.Create(folder.Join(swtpmLog))
	if err != nil {
		return nil, fmt.Errorf("tpm: %w", err)
	}
	defer log.Close()
	cmd := exec.Command("swtpm", "socket", "--tpm2", "--tpmstate", "dir="+state, "--ctrl", "type=unixio,path="+folder.Join(swtpmSocket),
		"--flags", "not-need-init,startup-clear")
	cmd.Stdout, cmd.Stderr = log, log
	t := &TPM{}
	if t.program, err = tied.Start(cmd); err != nil {
		if errors.Is(err, exec.ErrNotFound) {
			err = errors.New("swtpm is not installed: install Debian's package swtpm and run this again")
		}
		return nil, fmt.Errorf("tpm: %w", err)
	}
	if err := t.connect(folder); err != nil {
		t.close()
		said, _ := os.ReadFile(folder.Join(swtpmLog)) // for the error only
		return nil, fmt.Errorf("tpm: state in %s: %w: swtpm says %q", state, err, said)
	}
	return t, nil
}

// connect connects to swtpm and listens for the emulator.
func (t *TPM) connect(folder *tied.Folder) error {
	swtpm := &net.UnixAddr{Name: folder.Join(swtpmSocket), Net: "unix"}
	for end := time.Now().Add(tpmLimit); t.control == nil; {
		conn, err := net.DialUnix("unix", nil, swtpm)
		if err == nil {
			t.control = conn
			break
		}
		select {
		case <-t.program.Ended():
			return fmt.Errorf("it ended: %v", t.program.Err())
		case <-time.After(5 * time.Millisecond): // it makes its TPM first
			if time.Now().After(end) {
				return err
			}
		}
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: folder.Join(tpmSocket), Net: "unix"})
	if err != nil {
		return err
	}
	t.listener = l
	t.over.Go(t.serve)
	return nil
}

// serve passes the emulator's commands on, until one of the three is gone.
func (t *TPM) serve() {
	emulator, err := t.listener.AcceptUnix() // ends with the listener
	if err != nil {
		return
	}
	gone := make(chan struct{})
	defer close(gone)
	t.over.Go(func() {
		select {
		case <-t.program.Ended():
		case <-gone:
		}
		emulator.Close()
	})
	for {
		command, files, err := receive(emulator, time.Time{}) // ends with the connection
		if err != nil {
			return
		}
		answer, err := t.command(command, files)
		if err != nil {
			return
		}
		if _, err := emulator.Write(answer); err != nil {
			return
		}
	}
}

// command has swtpm execute a command of the control channel. Files are handed over as
// the control message in which they came.
func (t *TPM) command(command, files []byte) (answer []byte, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	defer closeFiles(files)
	limit := time.Now().Add(tpmLimit)
	t.control.SetWriteDeadline(limit)
	if _, _, err := t.control.WriteMsgUnix(command, files, nil); err != nil {
		return nil, err
	}
	answer, _, err = receive(t.control, limit)
	return answer, err
}

// receive reads a command or an answer, each of which is sent in one piece, with the
// files that are handed over. The zero limit waits until the connection ends.
func receive(c *net.UnixConn, limit time.Time) (message, files []byte, err error) {
	message, files = make([]byte, 1<<16), make([]byte, syscall.CmsgSpace(4))
	c.SetReadDeadline(limit)
	n, m, _, _, err := c.ReadMsgUnix(message, files)
	if err != nil {
		return nil, nil, err
	}
	if n == 0 {
		return nil, nil, errors.New("the connection ended")
	}
	return message[:n], files[:m], nil
}

// closeFiles closes what has been handed on.
func closeFiles(control []byte) {
	messages, err := syscall.ParseSocketControlMessage(control)
	if err != nil {
		return // there are none
	}
	for i := range messages {
		if fds, err := syscall.ParseUnixRights(&messages[i]); err == nil {
			for _, fd := range fds {
				syscall.Close(fd)
			}
		}
	}
}

// Reset resets the TPM alone (_TPM_Init): its PCRs are as after power-on, and it wants a
// TPM2_Startup. The board is not told. A command that the TPM executes ends first.
func (t *TPM) Reset() error {
	var command [8]byte // flags 0: no volatile state is deleted; nobody stored one
	binary.BigEndian.PutUint32(command[:], cmdInit)
	answer, err := t.command(command[:], nil)
	if err == nil && (len(answer) != 4 || binary.BigEndian.Uint32(answer) != 0) {
		err = fmt.Errorf("the answer is %x", answer)
	}
	if err != nil {
		return fmt.Errorf("rack: tpm: resetting it: %w", err)
	}
	return nil
}

// Kill ends the TPM at once, whatever it is doing, as if it had lost its power or its
// wires. It does not come back.
func (t *TPM) Kill() { t.program.Kill() }

// PID is the TPM's process.
func (t *TPM) PID() int { return t.program.Process.Pid }

func (t *TPM) close() {
	t.program.End(tpmGrace)
	if t.listener != nil {
		t.listener.Close()
	}
	t.over.Wait()
	if t.control != nil {
		t.control.Close()
	}
}
