// Package tied ties programs and folders to this process: a program that it
// starts is killed by the system when this process ends, however it ends, and a
// folder that a killed process has left is removed by the next one that makes one.
//
// It is for Linux: parent-death signals (prctl(2), PR_SET_PDEATHSIG) and flock(2).
package tied

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// A Program is one that was started.
type Program struct {
	Process *os.Process
	ended   chan struct{}
	err     error // how it ended; set before ended is closed
}

// Start starts a command.
func Start(cmd *exec.Cmd) (*Program, error) {
	p := &Program{ended: make(chan struct{})}
	started := make(chan error)
	go p.run(cmd, started)
	if err := <-started; err != nil {
		return nil, err
	}
	p.Process = cmd.Process
	return p, nil
}

// Run starts a command and waits for its end, as [exec.Cmd.Run] does.
func Run(cmd *exec.Cmd) error {
	p, err := Start(cmd)
	if err != nil {
		return err
	}
	<-p.Ended() // the command's context, or its own end, bounds this
	return p.Err()
}

// run starts the program and waits for its end, on one thread: the system kills
// the child when the thread that started it ends.
func (p *Program) run(cmd *exec.Cmd, started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	// In a process group of its own: what Ctrl-C means for it, this process decides.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	err := cmd.Start()
	started <- err
	if err == nil {
		p.err = cmd.Wait()
		close(p.ended)
	}
}

// Ended is closed when the program is gone.
func (p *Program) Ended() <-chan struct{} { return p.ended }

// Err is how a program ended that is gone: what [exec.Cmd.Wait] says.
func (p *Program) Err() error { return p.err }

// End asks the program to end (SIGTERM), kills it after the grace, and returns when
// it is gone. A program that is gone already is no error.
func (p *Program) End(grace time.Duration) {
	p.Process.Signal(syscall.SIGTERM) // fails when it is gone already
	select {
	case <-p.ended:
	case <-time.After(grace):
		p.Kill()
	}
}

// Kill kills the program and returns when it is gone.
func (p *Program) Kill() {
	p.Process.Kill() // fails when it is gone already
	<-p.ended        // SIGKILL cannot be refused
}

// young is how old a folder may be whose maker may not have locked it yet.
const young = time.Minute

// A Folder is a temporary folder.
type Folder struct {
	Path string
	lock *os.File // the folder itself, locked as long as this process lives
}

// NewFolder makes a folder whose name starts with a prefix, and removes those of the
// same prefix that processes have left which are no more.
func NewFolder(prefix string) (*Folder, error) {
	sweep(prefix)
	path, err := os.MkdirTemp("", prefix)
	if err != nil {
		return nil, err
	}
	lock, err := lockFolder(path)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(path))
	}
	held.Store(path, lock)
	return &Folder{path, lock}, nil
}

// held keeps the locks of this process's folders in reach: a file that nobody reaches any
// more is closed by the collector, and a folder whose maker has kept its path alone would
// be taken for one that was left.
var held sync.Map // path to *os.File

// Join gives the path of a file in the folder.
func (f *Folder) Join(name string) string { return filepath.Join(f.Path, name) }

// Remove removes the folder with all that is in it.
func (f *Folder) Remove() error {
	held.Delete(f.Path)
	return errors.Join(os.RemoveAll(f.Path), f.lock.Close())
}

// lockFolder fails when another process, or another folder of this one, has the lock.
// The system drops a lock with its process.
func lockFolder(path string) (*os.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("locking %s: %w", path, err)
	}
	return f, nil
}

// sweep removes what was left. What cannot be removed, such as another user's, stays.
func sweep(prefix string) {
	left, _ := filepath.Glob(filepath.Join(os.TempDir(), prefix+"[0-9]*")) // the pattern is well formed
	for _, path := range left {
		info, err := os.Stat(path)
		if err != nil || !info.IsDir() || time.Since(info.ModTime()) < young {
			continue
		}
		if lock, err := lockFolder(path); err == nil {
			os.RemoveAll(path)
			lock.Close()
		}
	}
}
