//go:build !arm

package rack

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// childImage has the test binary be a process that starts a rack and is killed.
const childImage = "RACK_TEST_IMAGE"

func TestMain(m *testing.M) {
	if image := os.Getenv(childImage); image != "" {
		child(image)
	}
	os.Exit(m.Run())
}

func child(image string) {
	r, err := Start(Config{Image: image})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(r.PID(), r.TPM.PID())
	time.Sleep(bootLimit)
	os.Exit(1)
}

// alive tells whether a process runs. One that nobody has waited for does not.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, state, _ := bytes.Cut(stat, []byte(") ")) // proc(5)
	return len(state) > 0 && state[0] != 'Z'
}

func gone(t *testing.T, pids ...int) {
	t.Helper()
	for _, pid := range pids {
		for end := time.Now().Add(bootLimit); alive(pid); time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("process %d still runs", pid)
			}
		}
	}
}

// TestEndsWithProcess: nothing of a rack outlives the process that started it, however
// that ends.
func TestEndsWithProcess(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), childImage+"="+build(t, "hello"))
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	said, err := bufio.NewReader(out).ReadString('\n')
	must(t, err)
	var board, tpm int
	if _, err := fmt.Sscan(said, &board, &tpm); err != nil || !alive(board) || !alive(tpm) {
		t.Fatalf("the child says %q", said)
	}
	must(t, cmd.Process.Kill())
	cmd.Wait() // says that it was killed
	gone(t, board, tpm)
}

// TestEnds: a rack that is closed, or cut off, leaves neither processes nor a folder.
func TestEnds(t *testing.T) {
	image := build(t, "hello")
	for _, end := range []func(*Rack){(*Rack).Close, (*Rack).Cut} {
		r := start(t, Config{Image: image})
		folder, board, tpm := r.folder.Path, r.PID(), r.TPM.PID()
		end(r)
		if alive(board) || alive(tpm) {
			t.Errorf("board alive: %t, TPM alive: %t", alive(board), alive(tpm))
		}
		if _, err := os.Stat(folder); !os.IsNotExist(err) {
			t.Errorf("the folder: %v", err)
		}
	}
}

// TestStartFails: a rack that cannot be started says why.
func TestStartFails(t *testing.T) {
	hello := build(t, "hello")
	for _, c := range []struct {
		Config
		want string
	}{
		{Config{Image: "/nowhere/image.elf"}, "could not load kernel"},
		{Config{Image: hello, Args: []string{"-no-such-option"}}, "invalid option"},
		{Config{Image: hello, NoTPM: true, Cards: [2]string{"/nowhere/card"}}, "No such file"},
		{Config{Image: hello, NoTPM: true, EEPROM: "/nowhere/eeprom"}, "no such file"},
		{Config{Image: hello, TPMState: "/dev/null/tpm"}, "not a directory"},
		{Config{Image: hello, NoTPM: true, Nets: make([]Net, 3)}, "the board has 2 Ethernet ports"},
	} {
		r, err := Start(c.Config)
		if err == nil {
			r.Close()
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v", c.Config, err)
		}
	}
}
