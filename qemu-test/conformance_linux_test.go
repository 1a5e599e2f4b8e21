package qemutest

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"nitro/internal/peer"
)

// TestConformanceOnLinux runs the system-call tests on Linux on the emulated board.
// The same tests run on the project's own kernel: what both pass is what Linux does.
func TestConformanceOnLinux(t *testing.T) {
	program := filepath.Join(t.TempDir(), "conformance.test")
	build := exec.CommandContext(t.Context(), "go", "test", "-c", "-o", program, "./conformance")
	build.Env = append(os.Environ(), "GOOS=linux", "GOARCH=arm", "GOARM=7", "CGO_ENABLED=0")
	if said, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	r, err := peer.Run(ctx, peer.Job{Program: program, Args: []string{"-test.short"}})
	if err != nil || r.ExitCode != 0 || !strings.Contains(string(r.Output), "PASS") {
		t.Fatalf("exit code %d, signal %d, %v\n%s", r.ExitCode, r.Signal, err, r.Output)
	}
}
