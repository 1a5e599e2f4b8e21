package qemutest

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"nitro/internal/metal"
)

// gpio1 is GPIO1's name within the emulator.
const gpio1 = "/machine/soc/gpio0"

// pins watches and moves the emulated board's pins from outside, by the emulator's
// qtest protocol. It is also where the console of images/pins goes: whenever the
// board says that it waits for an edge, line 4 changes its level.
type pins struct {
	conn    net.Conn
	console []byte
	moves   int

	mu   sync.Mutex
	seen []string // changes of outputs
}

// watch notes how outputs change, until the emulator hangs up.
func (p *pins) watch() {
	for s := bufio.NewScanner(p.conn); s.Scan(); {
		if change, ok := strings.CutPrefix(s.Text(), "IRQ "); ok {
			p.mu.Lock()
			p.seen = append(p.seen, change)
			p.mu.Unlock()
		}
	}
}

func (p *pins) Write(text []byte) (int, error) {
	p.console = append(p.console, text...)
	for asked := bytes.Count(p.console, []byte("armed ")); p.moves < asked; {
		p.moves++
		if _, err := fmt.Fprintf(p.conn, "set_irq_in %s unnamed-gpio-in 4 %d\n", gpio1, p.moves%2); err != nil {
			return 0, err
		}
	}
	return len(text), nil
}

// TestPins: edges from outside reach the driver through its interrupt line, each kind
// when it is armed, and what the driver sets is seen outside.
func TestPins(t *testing.T) {
	image := filepath.Join(t.TempDir(), "pins.elf")
	if err := (metal.Build{}).Image(t.Context(), "nitro/qemu-test/images/pins", image); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(t.TempDir(), "qtest")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	l.SetDeadline(time.Now().Add(time.Minute))
	p, ready, over := &pins{}, make(chan error, 1), make(chan struct{})
	go func() {
		defer close(over)
		conn, err := l.Accept()
		if err == nil {
			p.conn = conn
			defer conn.Close()
			_, err = fmt.Fprintf(conn, "irq_intercept_out %s\n", gpio1)
		}
		ready <- err
		if err == nil {
			p.watch()
		}
	}()
	res, err := metal.Run(t.Context(), metal.Machine{
		Image: image, Limit: time.Minute, Console: &afterwards{ready: ready, to: p},
		QEMUArgs: []string{"-qtest", "unix:" + socket, "-qtest-log", "/dev/null"},
	})
	l.Close()
	<-over
	if err != nil || res.ExitCode != 0 {
		t.Fatalf("exit code %d, %v\n%s\n%s", res.ExitCode, err, res.Console, res.Emulator)
	}
	for _, want := range []string{
		"came rising 1 true true", "came falling 1 true false", "came both 1 true true", "came both 1 true false",
	} {
		if !strings.Contains(string(res.Console), want) {
			t.Errorf("the console lacks %q:\n%s", want, res.Console)
		}
	}
	if want := []string{"raise 3", "lower 3", "raise 3", "lower 3"}; !slices.Equal(p.seen, want) {
		t.Errorf("line 3 was seen to %q, not %q", p.seen, want)
	}
}

// afterwards passes the console on once the emulator has connected.
type afterwards struct {
	ready chan error
	once  sync.Once
	err   error
	to    *pins
}

func (a *afterwards) Write(text []byte) (int, error) {
	if a.once.Do(func() { a.err = <-a.ready }); a.err != nil {
		return 0, a.err
	}
	return a.to.Write(text)
}
