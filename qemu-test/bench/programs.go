package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"nitro/internal/insncount"
	"nitro/internal/metal"
)

// image builds an image and gives its path.
func (b *bench) image(ctx context.Context, how metal.Build, pkg, name string) (string, error) {
	out := filepath.Join(b.build, name+".elf")
	return out, how.Image(ctx, pkg, out)
}

// linuxProgram builds a program for the peer.
func (b *bench) linuxProgram(ctx context.Context, pkg, out string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", out, pkg)
	cmd.Dir = b.root
	cmd.Env = append(os.Environ(), "GOOS=linux", "GOARCH=arm", "GOARM=7", "CGO_ENABLED=0")
	if said, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("building %s for Linux: %w\n%s", pkg, err, said)
	}
	return nil
}

// icount has virtual time count instructions: one nanosecond each, idle time skipped.
var icount = []string{"-icount", "shift=0,sleep=off"}

// count runs an image under the counting plugin. Runs with interrupts masked are
// measured up to the kernel's end.
func (b *bench) count(ctx context.Context, m metal.Machine, o insncount.Options) (insncount.Counts, error) {
	var err error
	if o.End, err = address(m.Image, "nitro/board/kernel.(*kernel).dieAt"); err != nil {
		return insncount.Counts{}, err
	}
	plugin, err := insncount.Build(ctx, b.build)
	if err != nil {
		return insncount.Counts{}, err
	}
	out := filepath.Join(b.build, "counts")
	m.QEMUArgs = append(m.QEMUArgs, insncount.Args(plugin, out, o)...)
	r, runErr := metal.Run(ctx, m)
	c, err := insncount.Read(out)
	if err != nil {
		return c, errors.Join(err, runErr)
	}
	if m.Args != nil && r.ExitCode != 0 {
		return c, fmt.Errorf("%s: exit code %d: %w\n%s", m.Image, r.ExitCode, runErr, r.Console)
	}
	return c, nil
}

// profiler makes the profiling plugin ready: the emulator's arguments for it, and what
// reads its result once the emulator has ended.
func (b *bench) profiler(ctx context.Context, o insncount.ProfileOptions) (args []string, read func() (insncount.Profile, error), err error) {
	plugin, err := insncount.BuildProfiler(ctx, b.build)
	if err != nil {
		return nil, nil, err
	}
	out := filepath.Join(b.build, "profile")
	if err := os.RemoveAll(out); err != nil { // an earlier run's must not pass for this one's
		return nil, nil, err
	}
	return insncount.ProfileArgs(plugin, out, o), func() (insncount.Profile, error) { return insncount.ReadProfile(out) }, nil
}

// address finds a function of an image.
func address(image, name string) (uint32, error) {
	s, err := insncount.ReadSymbols(image)
	if err != nil {
		return 0, err
	}
	return s.Address(name)
}
