package rig

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// pty makes a pseudoterminal (pty(7)), and gives the end of the board's and the other's name.
func pty(t *testing.T) (*os.File, string) {
	t.Helper()
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	line := os.NewFile(uintptr(fd), "pseudoterminal")
	t.Cleanup(func() { line.Close() })
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err := errors.Join(err, unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)); err != nil {
		t.Fatal(err)
	}
	return line, fmt.Sprintf("/dev/pts/%d", n)
}

// openBench opens one whose power commands are a shell's scripts, and which is on when the file
// "power" in its folder says so.
func openBench(t *testing.T, on, off string) (r *Rig, line *os.File, folder string) {
	t.Helper()
	folder = t.TempDir()
	line, device := pty(t)
	for _, name := range []string{"materials/release", "materials/issuer.pem"} {
		if err := os.MkdirAll(filepath.Join(folder, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	none := 0
	text, err := json.Marshal(Description{Version: Version, Name: "b", Kind: KindBench, LimitSeconds: 60, Materials: "materials",
		Console: &Serial{Device: device, Baud: 9600}, Network: &Network{Service: "192.0.2.10:443"},
		Power: &Power{On: []string{"sh", "-c", on}, Off: []string{"sh", "-c", off}, LimitSeconds: 1, OffSeconds: &none}})
	file := filepath.Join(folder, "bench.json")
	if err := errors.Join(err, os.WriteFile(file, text, 0o644)); err != nil {
		t.Fatal(err)
	}
	if r, err = Open(t.Context(), file, nil); err != nil {
		t.Fatal(err)
	}
	return r, line, folder
}

// TestBench: bytes come through the line as they are, commands run in the file's folder, and
// Close leaves the board without power.
func TestBench(t *testing.T) {
	r, line, folder := openBench(t, "echo on > power", "echo off > power")
	power := func() string {
		text, _ := os.ReadFile(filepath.Join(folder, "power")) // not there is no power
		return strings.TrimSpace(string(text))
	}
	if err := r.On(t.Context()); err != nil || power() != "on" {
		t.Errorf("on: %v, %q", err, power())
	}
	all := make([]byte, 256) // what a terminal would change, or act upon, is among them
	for i := range all {
		all[i] = byte(i)
	}
	if _, err := line.Write(append(all, "ready\r\n"...)); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Console().Expect(`ready\r\n`, time.Minute); err != nil {
		t.Fatal(err)
	}
	if got := r.Console().Said(); string(got) != string(all)+"ready\r\n" {
		t.Errorf("the line gives % x", got)
	}
	if a, err := r.Address(Service); a != "192.0.2.10:443" || err != nil {
		t.Errorf("%s, %v", a, err)
	}
	if _, err := r.Address(Provisioning); !errors.Is(err, ErrNoPort) {
		t.Errorf("a port that is not there: %v", err)
	}
	if err := r.Off(t.Context()); err != nil || power() != "off" {
		t.Errorf("off: %v, %q", err, power())
	}
	if err := errors.Join(r.On(t.Context()), r.Close()); err != nil || power() != "off" {
		t.Errorf("closed: %v, %q", err, power())
	}
	if _, err := r.Console().Expect(`more`, time.Minute); err == nil || !strings.Contains(err.Error(), "it ended") {
		t.Errorf("a console that is closed: %v", err)
	}
}

// TestPowerFails: what a command says is in the error, in part, and none runs for ever.
func TestPowerFails(t *testing.T) {
	r, _, _ := openBench(t, `yes "no such relay" | head -c 100000 >&2; exit 3`, "true")
	defer r.Close()
	if err := r.On(t.Context()); err == nil || !strings.Contains(err.Error(), "exit status 3: no such relay") || len(err.Error()) > maxSaid+500 {
		t.Errorf("%.200v", err)
	}
	hangs, _, _ := openBench(t, "sleep 600", "true")
	defer hangs.Close()
	if err := hangs.On(t.Context()); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a command that hangs: %v", err)
	}
}

// TestOpenRefuses: a rig that cannot work is refused before anything is switched.
func TestOpenRefuses(t *testing.T) {
	folder := t.TempDir()
	for _, name := range []string{"good/release", "good/issuer.pem"} {
		if err := os.MkdirAll(filepath.Join(folder, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	_, device := pty(t)
	for name, c := range map[string]struct{ device, materials, why string }{
		"no device":     {"/dev/none", "good", "no such file"},
		"no serial one": {"/dev/null", "good", "name a serial device"},
		"no materials":  {device, "none", "has no release/"},
	} {
		text := strings.NewReplacer("/dev/ttyUSB0", c.device, "board-3", c.materials).Replace(goodBench)
		file := filepath.Join(folder, "rig.json")
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(t.Context(), file, nil); err == nil || !strings.Contains(err.Error(), c.why) {
			t.Errorf("%s: %v, and not %q", name, err, c.why)
		}
	}
	if _, err := Open(t.Context(), filepath.Join(folder, "none.json"), nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}
