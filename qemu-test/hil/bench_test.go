//go:build !arm

package hil

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"nitro/internal/tied"
	"nitro/qemu-test/rig"
)

// The test's own program is the power command of the emulated bench: it tells the process that
// plays the bench, over a socket.
var (
	powerSocket = flag.String("power-socket", "", "be a power command: the `socket` of the bench")
	powerState  = flag.String("power-state", "", "with -power-socket: on or off")
)

func TestMain(m *testing.M) {
	flag.Parse()
	if *powerSocket != "" {
		if err := turn(*powerSocket, *powerState); err != nil {
			fmt.Fprintln(os.Stderr, "power:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// turnLimit is how long the emulator may take to start or to end.
const turnLimit = 2 * time.Minute

// turn has the bench switch the power, and waits until it is.
func turn(socket, state string) error {
	c, err := net.DialTimeout("unix", socket, turnLimit)
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(turnLimit))
	if _, err := fmt.Fprintln(c, state); err != nil {
		return err
	}
	answer, err := bufio.NewReader(c).ReadString('\n')
	if err == nil && answer != "ok\n" {
		err = fmt.Errorf("the bench says %q", answer)
	}
	return err
}

// emulatedBench makes a bench of a pseudoterminal, a power command and two ports, behind which
// the emulator is, and gives the file that describes it. So what reads serial devices, runs
// commands and dials addresses is what a real bench has.
func emulatedBench(t *testing.T) string {
	t.Helper()
	folder, err := tied.NewFolder("nitro-hil-") // sockets' names must be short
	must(t, err)
	t.Cleanup(func() { folder.Remove() })
	line, device := pty(t)
	must(t, os.WriteFile(folder.Join("emulator.json"), []byte(`{"version": 1, "name": "behind the bench", "kind": "emulator"}`), 0o644))
	behind, err := rig.Open(t.Context(), folder.Join("emulator.json"), line)
	must(t, err)
	t.Cleanup(func() { behind.Close() })
	l, err := net.Listen("unix", folder.Join("power"))
	must(t, err)
	t.Cleanup(func() { l.Close() })
	go servePower(l, behind)

	service, err := behind.Address(rig.Service)
	must(t, err)
	provisioning, err := behind.Address(rig.Provisioning)
	must(t, err)
	self, err := os.Executable()
	must(t, err)
	command := func(state string) []string {
		return []string{self, "-power-socket", folder.Join("power"), "-power-state", state}
	}
	none := 0
	text, err := json.Marshal(rig.Description{
		Version: rig.Version, Name: "emulated bench", Kind: rig.KindBench,
		Console: &rig.Serial{Device: device, Baud: 115200}, Network: &rig.Network{Service: service, Provisioning: provisioning},
		Power:        &rig.Power{On: command("on"), Off: command("off"), LimitSeconds: 120, OffSeconds: &none},
		LimitSeconds: 600, Materials: behind.Materials,
	})
	must(t, err)
	file := filepath.Join(folder.Path, "bench.json")
	must(t, os.WriteFile(file, text, 0o644))
	return file
}

// servePower does what power commands say, until the listener is closed.
func servePower(l net.Listener, b rig.Board) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		c.SetDeadline(time.Now().Add(turnLimit))
		state, err := bufio.NewReader(c).ReadString('\n')
		switch {
		case err != nil:
		case state == "on\n":
			err = b.On(context.Background())
		case state == "off\n":
			err = b.Off(context.Background())
		default:
			err = fmt.Errorf("power is on or off, not %q", state)
		}
		if err != nil {
			fmt.Fprintf(c, "%q\n", err)
		} else {
			io.WriteString(c, "ok\n")
		}
		c.Close()
	}
}

// pty makes a pseudoterminal (pty(7)): the end that the board's serial port is, and the device at
// the other end of the line.
func pty(t *testing.T) (line *os.File, device string) {
	t.Helper()
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	must(t, err)
	line = os.NewFile(uintptr(fd), "pseudoterminal")
	t.Cleanup(func() { line.Close() })
	must(t, unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0))
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	must(t, err)
	return line, fmt.Sprintf("/dev/pts/%d", n)
}
