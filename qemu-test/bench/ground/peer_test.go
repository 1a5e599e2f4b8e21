package main

import (
	"context"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"nitro/internal/insncount"
	"nitro/internal/peer"
)

// TestOnLinux measures Linux on the emulated board, expects every figure, and
// holds what the program derives from the counter against the instructions that
// the plugin counts from the SWI of its assembly loop to the instruction after.
// The shortest of those passes is a getpid that nothing interrupted.
func TestOnLinux(t *testing.T) {
	program := build(t)
	swi := findSWI(t, program)
	plugin, err := insncount.Build(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "counts")
	res, err := peer.Run(t.Context(), peer.Job{
		Program:  program,
		Icount:   true,
		QEMUArgs: insncount.Args(plugin, out, insncount.Options{From: swi, To: swi + 4}),
	})
	if err != nil {
		t.Fatal(err)
	}
	if res.ExitCode != 0 {
		t.Fatalf("exit code %d\n%s", res.ExitCode, res.Output)
	}
	t.Logf("\n%s", res.Output)
	counts, err := insncount.Read(out)
	if err != nil {
		t.Fatal(err)
	}
	figures := parse(t, string(res.Output))
	for _, name := range []string{"trap.getpid", "trap.getpid_bare"} {
		if got := figures[name]; math.Abs(got-float64(counts.Window.Min)) > 1 {
			t.Errorf("%s is %.2f, the plugin counts %d", name, got, counts.Window.Min)
		}
	}
	// Four measurements of ten rounds: the calibration's and each call's.
	if want := uint64(4 * 10 * 1000); counts.Window.Passes != want {
		t.Errorf("%d passes of the assembly loop, want %d", counts.Window.Passes, want)
	}
}

// build builds the program for Linux/arm.
func build(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "ground")
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", file, ".")
	cmd.Env = append(os.Environ(), "GOOS=linux", "GOARCH=arm", "GOARM=7", "CGO_ENABLED=0", "GOFLAGS=")
	if said, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	return file
}

// findSWI gives the address of the only SWI in the function traps.
func findSWI(t *testing.T, program string) uint32 {
	t.Helper()
	f, err := elf.Open(program)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	symbols, err := f.Symbols()
	if err != nil {
		t.Fatal(err)
	}
	text := f.Section(".text")
	for _, s := range symbols {
		if s.Name != "main.traps" {
			continue
		}
		code := make([]byte, s.Size)
		if _, err := text.ReadAt(code, int64(s.Value-text.Addr)); err != nil {
			t.Fatal(err)
		}
		for i := 0; i+4 <= len(code); i += 4 {
			if binary.LittleEndian.Uint32(code[i:]) == 0xef000000 {
				return uint32(s.Value) + uint32(i)
			}
		}
	}
	t.Fatal("no SWI in main.traps")
	return 0
}

// parse reads the lines "name value unit" and expects each figure once.
func parse(t *testing.T, output string) map[string]float64 {
	t.Helper()
	want := []string{"trap.user_side", "time.now", "sched.procs"}
	for _, trap := range []string{"trap.getpid", "trap.futex_wake", "trap.eventfd_write"} {
		want = append(want, trap, trap+"_bare", trap+"_gross")
	}
	for _, turns := range []string{"sched.pingpong", "sched.pingpong1", "sched.pingpong2"} {
		want = append(want, turns, turns+"_min")
	}
	figures := make(map[string]float64)
	for line := range strings.Lines(output) {
		var name, unit string
		var value float64
		if n, err := fmt.Sscan(line, &name, &value, &unit); n != 3 || value <= 0 {
			t.Errorf("line %q: %v", line, err)
		}
		if _, twice := figures[name]; twice {
			t.Errorf("%s is there twice", name)
		}
		figures[name] = value
	}
	for _, name := range want {
		if _, there := figures[name]; !there {
			t.Errorf("%s is missing", name)
		}
	}
	if len(figures) != len(want) {
		t.Errorf("%d figures, want %d", len(figures), len(want))
	}
	return figures
}
