//go:build !arm

package qemutest

import (
	"bytes"
	"context"
	"flag"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"

	"nitro/internal/tied"
)

// fio is how many MiB the demonstration's host writes and verifies with fio.
var fio = flag.Int("fio", 64, "MiB that the host of TestDemo writes and verifies with fio")

// demoLimit is how long the demonstration may take on a busy machine; on a quiet one it is
// below two minutes. fio has as long as it has by itself (cmd/rack).
func demoLimit() time.Duration { return 30*time.Minute + time.Duration(*fio)*8*time.Second }

// TestDemo: the rack goes from programs to a volume that a Linux host has used and lost, and
// says that every step was checked. fio of the host finds each byte that it wrote, though its connections
// are cut and the controller restarts.
func TestDemo(t *testing.T) {
	programs, err := programs()
	must(t, err)
	tool, err := nitroctl()
	must(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), demoLimit())
	defer cancel()
	program, folder := filepath.Join(t.TempDir(), "rack"), t.TempDir()
	build := exec.CommandContext(ctx, "go", "build", "-o", program, "nitro/cmd/rack")
	if said, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	var said bytes.Buffer
	cmd := exec.CommandContext(ctx, program, "-demo", "-port", "0", "-folder", folder, "-bootloader", programs[0], "-controller", programs[1], "-nitroctl", tool, "-fio", strconv.Itoa(*fio))
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := tied.Run(cmd); err != nil || !regexp.MustCompile(`all 24 steps are done, and each was checked`).Match(said.Bytes()) {
		t.Errorf("%v\n%s", err, &said)
	}
}
