package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"nitro/internal/insncount"
	"nitro/internal/metal"
	"nitro/internal/peer"
)

// groundArea measures what all programs stand on, in instructions: the figures repeat.
func (b *bench) groundArea(ctx context.Context) error {
	return inTurn(ctx, b.ground, b.latency, b.entryToMain, b.masked, b.lines)
}

// ground runs the one program that measures traps, the clock and the scheduler, on
// the bare board and on Linux.
func (b *bench) ground(ctx context.Context) error {
	const program = "./qemu-test/bench/ground"
	image, err := b.image(ctx, metal.Build{Tags: []string{"board"}, Test: true}, program, "ground")
	if err != nil {
		return err
	}
	ours, err := metal.Run(ctx, metal.Machine{Image: image, Args: []string{"ground"}, Dir: b.build, QEMUArgs: icount})
	if err != nil || ours.ExitCode != 0 {
		return fmt.Errorf("ground on the board: exit code %d, %w\n%s", ours.ExitCode, err, ours.Console)
	}
	linux := filepath.Join(b.build, "ground-linux")
	if err := b.linuxProgram(ctx, program, linux); err != nil {
		return err
	}
	theirs, err := peer.Run(ctx, peer.Job{Program: linux, Icount: true})
	if err != nil || theirs.ExitCode != 0 {
		return fmt.Errorf("ground on Linux: exit code %d, %w\n%s", theirs.ExitCode, err, theirs.Output)
	}
	values := parse(string(theirs.Output))
	for _, f := range parseOrder(string(ours.Console)) {
		if v, ok := values[f.Name]; ok {
			f.Peer, f.PeerValue = b.linux, v
		}
		b.report(f)
	}
	return nil
}

// latency measures the way from an interrupt to its goroutine while another computes.
// Counted in instructions, one is a nanosecond.
func (b *bench) latency(ctx context.Context) error {
	image, err := b.image(ctx, metal.Build{Test: true}, "./qemu-test/bench/latency", "latency")
	if err != nil {
		return err
	}
	r, err := metal.Run(ctx, metal.Machine{Image: image, Args: []string{"latency"}, Dir: b.build, QEMUArgs: icount})
	if err != nil || r.ExitCode != 0 {
		return fmt.Errorf("latency: exit code %d, %w\n%s", r.ExitCode, err, r.Console)
	}
	for _, f := range parseOrder(string(r.Console)) {
		b.report(f)
	}
	return nil
}

// entryToMain counts from the first instruction to main.main of the smallest image.
func (b *bench) entryToMain(ctx context.Context) error {
	image, err := b.image(ctx, metal.Build{Symbols: true}, "./qemu-test/images/hello", "hello")
	if err != nil {
		return err
	}
	var o insncount.Options
	if o.Until, err = address(image, "main.main"); err != nil {
		return err
	}
	c, err := b.count(ctx, metal.Machine{Image: image}, o)
	if err != nil {
		return err
	}
	if !c.Reached {
		return fmt.Errorf("%s did not come to main", image)
	}
	b.report(figure{Name: "boot.entry_to_main", Value: float64(c.Until), Unit: "instructions"})
	return nil
}

// masked states the longest run of instructions with interrupts masked, in the
// tests that lean on the kernel hardest.
func (b *bench) masked(ctx context.Context) error {
	packages, err := metal.List(ctx, "./qemu-test/conformance")
	if err != nil || len(packages) != 1 {
		return fmt.Errorf("conformance tests: %d packages, %w", len(packages), err)
	}
	image, err := metal.Build{Test: true, Symbols: true}.TestImage(ctx, packages[0])
	if err != nil {
		return err
	}
	c, err := b.count(ctx, metal.Machine{Image: image, Dir: packages[0].Dir,
		Args: []string{"conformance.test", "-test.short"}}, insncount.Options{})
	if err != nil {
		return err
	}
	longest := uint64(0)
	for _, r := range c.Runs {
		longest = max(longest, r.Length)
	}
	b.report(figure{Name: "irq.masked_longest", Value: float64(longest), Unit: "instructions"})
	return nil
}

// lines counts the kernel's source.
func (b *bench) lines(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, "go", "run", "./internal/kernelcheck/cmd")
	cmd.Dir = b.root
	cmd.Stderr = os.Stderr
	text, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("kernel.lines: %w", err)
	}
	for _, f := range parseOrder(string(text)) {
		b.report(f)
	}
	return nil
}
