//go:build !arm

package qemutest

import (
	"bytes"
	"context"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"nitro/internal/tied"
)

// demoLimit is how long the demonstration may take on a busy machine; on a quiet one it is
// below two minutes.
const demoLimit = 20 * time.Minute

// TestDemo: the rack goes from programs to a volume that a Linux host has used and lost, and
// says that every step was checked.
func TestDemo(t *testing.T) {
	programs, err := programs()
	must(t, err)
	tool, err := nitroctl()
	must(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), demoLimit)
	defer cancel()
	program, folder := filepath.Join(t.TempDir(), "rack"), t.TempDir()
	build := exec.CommandContext(ctx, "go", "build", "-o", program, "nitro/cmd/rack")
	if said, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	var said bytes.Buffer
	cmd := exec.CommandContext(ctx, program, "-demo", "-port", "0", "-folder", folder, "-bootloader", programs[0], "-controller", programs[1], "-nitroctl", tool)
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := tied.Run(cmd); err != nil || !regexp.MustCompile(`all 20 steps are done, and each was checked`).Match(said.Bytes()) {
		t.Errorf("%v\n%s", err, &said)
	}
}
