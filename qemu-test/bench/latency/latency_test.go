//go:build !arm

package main

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"

	"nitro/internal/metal"
	"nitro/qemu-test/emulator"
)

// TestTargets holds the figures to what was asked of the ground, by instructions:
// a nanosecond each, so that a busy machine does not matter.
func TestTargets(t *testing.T) {
	image := filepath.Join(t.TempDir(), "latency.elf")
	if err := (metal.Build{}).Image(t.Context(), "nitro/qemu-test/bench/latency", image); err != nil {
		t.Fatal(err)
	}
	board, err := emulator.Start(emulator.Config{Image: image, Args: []string{"-icount", "shift=0,sleep=off", "-no-reboot"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(board.Close)
	if err := board.Wait(2 * time.Minute); err != nil {
		t.Fatal(err)
	}
	for _, f := range []struct {
		name string
		most float64 // ms; 0 means that it is for comparison only
	}{
		{"irq.to_goroutine_mean", 0.2},
		{"irq.to_goroutine_worst", 5},
		{"irq.to_goroutine1_mean", 0},
		{"irq.to_goroutine1_worst", 0},
	} {
		m := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(f.name) + ` (\S+) ms\r$`).FindSubmatch(board.Console())
		if m == nil {
			t.Fatalf("no figure %s on the console:\n%s", f.name, board.Console())
		}
		ms, err := strconv.ParseFloat(string(m[1]), 64)
		if err != nil || ms <= 0 {
			t.Fatalf("%s is %q", f.name, m[1])
		}
		t.Log(f.name, fmt.Sprintf("%.0f instructions", ms*1e6))
		if f.most > 0 && ms > f.most {
			t.Errorf("%s is %.3f ms, want at most %v ms", f.name, ms, f.most)
		}
	}
}
