// Command bench measures the ground that the firmware stands on, and Linux on the
// same emulated board beside it. It prints one line a figure,
//
//	name value unit peer peer_value ratio
//
// ("-" where there is no peer), and writes the same fields to build/bench-board.json.
// Everything is counted in instructions, so the figures repeat, but for the SD card's
// speed, which is of the wall clock: the median of several runs by turns.
package main

import (
	"context"
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"nitro/internal/insncount"
	"nitro/internal/metal"
	"nitro/internal/peer"
)

// A figure is one line of the result.
type figure struct {
	Name      string  `json:"name"`
	Value     float64 `json:"value"`
	Unit      string  `json:"unit"`
	Peer      string  `json:"peer,omitempty"`
	PeerValue float64 `json:"peer_value,omitempty"`
	Ratio     float64 `json:"ratio,omitempty"`
}

func (f figure) String() string {
	if f.Peer == "" {
		return fmt.Sprintf("%s %.4g %s - - -", f.Name, f.Value, f.Unit)
	}
	return fmt.Sprintf("%s %.4g %s %s %.4g %.3f", f.Name, f.Value, f.Unit, f.Peer, f.PeerValue, f.Ratio)
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	root, err := metal.ModuleRoot(ctx)
	if err != nil {
		return err
	}
	b := bench{root: root, build: filepath.Join(root, "build")}
	if err := os.MkdirAll(b.build, 0o755); err != nil {
		return err
	}
	for _, measure := range []func(context.Context) error{b.ground, b.latency, b.boot, b.masked, b.lines, b.card} {
		if err := measure(ctx); err != nil {
			return err
		}
	}
	out, err := json.MarshalIndent(b.figures, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(b.build, "bench-board.json"), append(out, '\n'), 0o644)
}

type bench struct {
	root, build string
	figures     []figure
}

// report prints a figure and keeps it.
func (b *bench) report(f figure) {
	if f.Peer != "" {
		f.Ratio = f.Value / f.PeerValue
	}
	b.figures = append(b.figures, f)
	fmt.Println(f)
}

func (b *bench) image(ctx context.Context, how metal.Build, pkg, name string) (string, error) {
	out := filepath.Join(b.build, name+".elf")
	return out, how.Image(ctx, pkg, out)
}

var icount = []string{"-icount", "shift=0,sleep=off"}

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
	name, err := linuxName()
	if err != nil {
		return err
	}
	values := parse(string(theirs.Output))
	for _, f := range parseOrder(string(ours.Console)) {
		if v, ok := values[f.Name]; ok {
			f.Peer, f.PeerValue = name, v
		}
		b.report(f)
	}
	return nil
}

// linuxName is how figures name the peer.
func linuxName() (string, error) {
	name, err := peer.Linux()
	name, _, _ = strings.Cut(strings.TrimPrefix(name, "linux-image-"), "+")
	return "linux-" + name, err
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

// parseOrder reads lines of name, value and unit; others are not figures.
func parseOrder(text string) []figure {
	var figures []figure
	for line := range strings.Lines(text) {
		w := strings.Fields(line)
		if len(w) != 3 || !strings.Contains(w[0], ".") {
			continue
		}
		if v, err := strconv.ParseFloat(w[1], 64); err == nil {
			figures = append(figures, figure{Name: w[0], Value: v, Unit: w[2]})
		}
	}
	return figures
}

func parse(text string) map[string]float64 {
	values := map[string]float64{}
	for _, f := range parseOrder(text) {
		values[f.Name] = f.Value
	}
	return values
}

// boot counts from the first instruction to main.main of the smallest image.
func (b *bench) boot(ctx context.Context) error {
	image, err := b.image(ctx, metal.Build{Symbols: true}, "./qemu-test/images/hello", "hello")
	if err != nil {
		return err
	}
	var o insncount.Options
	if o.Until, err = symbol(image, "main.main"); err != nil {
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

// count runs an image under the counting plugin. Runs with interrupts masked are
// measured up to the kernel's end.
func (b *bench) count(ctx context.Context, m metal.Machine, o insncount.Options) (insncount.Counts, error) {
	var err error
	if o.End, err = symbol(m.Image, "nitro/board/kernel.(*kernel).dieAt"); err != nil {
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

// symbol finds the address of a function of an image.
func symbol(image, name string) (uint32, error) {
	f, err := elf.Open(image)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	all, err := f.Symbols()
	if err != nil {
		return 0, fmt.Errorf("%s: %w", image, err)
	}
	for _, s := range all {
		if s.Name == name {
			return uint32(s.Value), nil
		}
	}
	return 0, fmt.Errorf("%s: no symbol %s", image, name)
}
