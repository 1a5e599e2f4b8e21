//go:build !arm

package emulator

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"nitro/internal/metal"
)

const limit = time.Minute

// TestQMP: orders are obeyed or refused with the emulator's reason, and events come in
// order, until the emulator ends.
func TestQMP(t *testing.T) {
	image := filepath.Join(t.TempDir(), "hello.elf")
	if err := (metal.Build{}).Image(t.Context(), "nitro/qemu-test/images/hello", image); err != nil {
		t.Fatal(err)
	}
	b, err := Start(Config{Image: image, Args: []string{"-S"}})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	q, err := b.QMP()
	if err != nil {
		t.Fatal(err)
	}
	if running, state, err := q.Running(); running || state != "prelaunch" || err != nil {
		t.Errorf("the board runs: %t, %s, %v", running, state, err)
	}
	if err := q.Do("no-such-command", nil, nil); err == nil || !strings.Contains(err.Error(), "CommandNotFound") {
		t.Errorf("a command that is not there: %v", err)
	}
	for _, want := range []bool{false, true} {
		got := !want
		if err := q.Set("/machine", "mem-merge", want); err != nil {
			t.Error(err)
		}
		if err := q.Get("/machine", "mem-merge", &got); err != nil || got != want {
			t.Errorf("the property is %t, %v, and was set to %t", got, err, want)
		}
	}
	if words, err := q.Words(0x0209c000, 3); err != nil || len(words) != 3 || words[0]|words[1]|words[2] != 0 {
		t.Errorf("GPIO1 after reset: %#x, %v", words, err)
	}
	for _, order := range []func() error{q.Continue, q.Stop, q.Reset, q.Quit} {
		if err := order(); err != nil {
			t.Fatal(err)
		}
	}
	from := 0
	for _, name := range []string{"STOP", "SHUTDOWN"} {
		e, err := q.Await(from, limit, name)
		if err != nil || e.Name != name {
			t.Fatalf("%v, %v: the events are %v", e, err, q.Events())
		}
		from = e.N + 1
	}
	if _, err := q.Await(from, limit); err == nil {
		t.Error("an emulator that has ended has an event")
	}
	if err := b.Wait(limit); err != nil {
		t.Error(err)
	}
	if err := q.Stop(); err == nil {
		t.Error("an emulator that has ended obeys")
	}
}
