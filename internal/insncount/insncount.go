// Package insncount counts the instructions that an emulated ARM board executes,
// and tells which code they belong to. It builds and drives two TCG plugins for
// qemu-system-arm, QEMU 10, on a board with one processor; they change nothing that
// the guest can see. [Build], [Args] and [Read] belong to the one that counts
// (plugin/insncount.c), [BuildProfiler], [ProfileArgs] and [ReadProfile] to the one
// that tells code apart (plugin/profile.c); the command internal/insncount/cmd
// prints what the latter finds.
//
// # What is counted
//
// An instruction counts each time the processor begins to execute it: also when
// its condition fails, and when it faults (then again when it is tried again).
// Taking an exception is no instruction; the first one of its handler is that in
// the vector. Time spent in WFI does not count.
//
// An instruction counts as User when CPSR's mode field is 0x10 as it begins, and
// as masked when CPSR.I is set as it begins. So the instruction that unmasks is
// the last one of a masked run, and the one after that which masks is the first.
//
// Masked runs are measured from the first instruction executed in User mode: the
// bring-up before it is not interesting. A run that is under way when the
// emulator ends counts as far as it came. To keep the way down (a power-off with
// IRQs masked) out of the runs, let the guest execute EndWord, in any mode, as
// the end of the measurement, or give Options.End; the other counts go on.
//
// The profile counts the same, but for one thing: it counts a translation block
// (straight code up to a branch) as a whole when its first instruction is executed,
// so that the emulator stays fast. So it also counts the instructions of a block
// behind one that faults, and it counts those behind an access to a device twice,
// since QEMU leaves the block there and begins another. [ProfileOptions.Exact] counts
// each instruction by itself.
//
// A reset of the guest is not told from other code: run with -no-reboot.
package insncount

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// EndWord is the instruction that ends the measurement of masked runs, in ARM
// state: MOV R8, R8. Neither Go's compiler nor its assembler emits it by itself.
const EndWord = 0xe1a08008

// sources are the plugins and the header that they share.
//
//go:embed plugin/insncount.c plugin/profile.c plugin/qemu.h
var sources embed.FS

// buildLimit bounds the compiler.
const buildLimit = time.Minute

// Build compiles the counting plugin with the host's gcc into dir, as
// insncount.so, and gives its path. The folder is made if it is missing. Builds at
// the same time do not disturb each other.
func Build(ctx context.Context, dir string) (string, error) {
	return build(ctx, dir, "insncount")
}

// build compiles one plugin.
func build(ctx context.Context, dir, name string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, buildLimit)
	defer cancel()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("insncount: %w", err)
	}
	part, err := os.MkdirTemp(dir, name+"-")
	if err != nil {
		return "", fmt.Errorf("insncount: %w", err)
	}
	defer os.RemoveAll(part)
	if err := os.CopyFS(part, sources); err != nil {
		return "", fmt.Errorf("insncount: %w", err)
	}
	fresh, plugin := filepath.Join(part, name+".so"), filepath.Join(dir, name+".so")
	cmd := exec.CommandContext(ctx, "gcc", "-std=gnu11", "-O2", "-Wall", "-Wextra", "-Wno-unused-parameter", "-Wno-unused-function", "-Werror",
		"-shared", "-fPIC", "-fvisibility=hidden", "-o", fresh, filepath.Join(part, "plugin", name+".c"))
	said, err := cmd.CombinedOutput()
	if errors.Is(err, exec.ErrNotFound) {
		return "", errors.New("insncount: gcc is not installed: install Debian's packages gcc and libc6-dev and run this again")
	}
	if err != nil {
		return "", fmt.Errorf("insncount: gcc: %w\n%s", err, said)
	}
	if err := os.Rename(fresh, plugin); err != nil {
		return "", fmt.Errorf("insncount: %w", err)
	}
	return plugin, nil
}

// Options say what to count beside the totals. Addresses are the guest's virtual
// addresses of instructions; zero means none.
type Options struct {
	Until    uint32 // count up to the first execution of this address
	From, To uint32 // count from executing From to executing To, each time; both or none
	End      uint32 // executing this address ends the measurement of masked runs, as EndWord does
	Every    bool   // read CPSR before every instruction: slow, and must not change any count
}

// Args gives the emulator's arguments that load the plugin and have it write its
// result to the file out when the emulator ends. It ends in good order on the
// guest's power-off, semihosting exit, -no-reboot and SIGTERM, not on SIGKILL.
func Args(plugin, out string, o Options) []string {
	arg := quote(plugin) + ",out=" + quote(out)
	for _, a := range []struct {
		name string
		addr uint32
	}{{"until", o.Until}, {"from", o.From}, {"to", o.To}, {"end", o.End}} {
		if a.addr != 0 {
			arg += fmt.Sprintf(",%s=%#x", a.name, a.addr)
		}
	}
	if o.Every {
		arg += ",every=on"
	}
	return []string{"-plugin", arg}
}

// quote makes a path part of an emulator's argument, in which a comma separates and,
// doubled, stands for itself.
func quote(path string) string { return strings.ReplaceAll(path, ",", ",,") }

// A Mode is the mode field of CPSR (ARM DDI 0406C, B1.3.1).
type Mode uint32

// userMode is User mode's, the only one that is not privileged.
const userMode Mode = 0x10

// String gives the mode's name as the architecture spells it.
func (m Mode) String() string {
	names := map[Mode]string{
		0x10: "User", 0x11: "FIQ", 0x12: "IRQ", 0x13: "Supervisor", 0x16: "Monitor",
		0x17: "Abort", 0x1a: "Hyp", 0x1b: "Undefined", 0x1f: "System",
	}
	if name, ok := names[m]; ok {
		return name
	}
	return fmt.Sprintf("mode %#x", uint32(m))
}

// A Run is a run of instructions executed with IRQs masked.
type Run struct {
	Length             uint64 // instructions
	Begin, End         uint32 // addresses of its first and its last instruction
	BeginMode, EndMode Mode   // the modes in which those were executed
}

// String describes the run on one line.
func (r Run) String() string {
	return fmt.Sprintf("%d instructions from %#x (%v) to %#x (%v)", r.Length, r.Begin, r.BeginMode, r.End, r.EndMode)
}

// A Window is what was counted between Options.From and Options.To: from the
// instruction at From, that one included, to the next execution of To, that one
// left out. A pass that meets From again before To begins anew there.
type Window struct {
	Passes   uint64
	Total    uint64 // instructions of all passes
	Min, Max uint64 // instructions of the shortest and of the longest pass
}

// Counts is a result.
type Counts struct {
	Insns      uint64 // executed in all
	User       uint64 // of those, in User mode
	Privileged uint64 // of those, in every other mode
	BeforeUser uint64 // executed before the first in User mode; all when there was none
	Masked     uint64 // in masked runs
	Runs       []Run  // the longest masked runs, longest first; of those that begin at one address only the longest
	Reached    bool   // Options.Until was executed
	Until      uint64 // instructions executed before the first execution of Options.Until
	Window     Window
}

// Read reads the result that the plugin wrote to the file out. It fails when the
// emulator did not end in good order, for then there is no whole result.
func Read(out string) (Counts, error) {
	data, err := os.ReadFile(out)
	if err != nil {
		return Counts{}, fmt.Errorf("insncount: no result: %w (was the emulator killed?)", err)
	}
	c, err := parse(string(data))
	if err != nil {
		return Counts{}, fmt.Errorf("insncount: %s: %w", out, err)
	}
	return c, nil
}

var errCut = errors.New("the result is cut: it does not end in \"done\"")

// parse reads the lines that the plugin's function report writes.
func parse(text string) (Counts, error) {
	body, whole := strings.CutSuffix(text, "done\n")
	if !whole {
		return Counts{}, errCut
	}
	var c Counts
	for line := range strings.Lines(body) {
		if err := c.parseLine(line); err != nil {
			return Counts{}, fmt.Errorf("bad line %q: %w", line, err)
		}
	}
	return c, nil
}

func (c *Counts) parseLine(line string) (err error) {
	var name string
	if _, err = fmt.Sscan(line, &name); err != nil {
		return err
	}
	rest := strings.TrimPrefix(line, name)
	switch name {
	case "insns":
		_, err = fmt.Sscan(rest, &c.Insns)
	case "user":
		_, err = fmt.Sscan(rest, &c.User)
	case "privileged":
		_, err = fmt.Sscan(rest, &c.Privileged)
	case "before_user":
		_, err = fmt.Sscan(rest, &c.BeforeUser)
	case "masked":
		_, err = fmt.Sscan(rest, &c.Masked)
	case "run":
		var r Run
		_, err = fmt.Sscan(rest, &r.Length, &r.Begin, &r.End, &r.BeginMode, &r.EndMode)
		c.Runs = append(c.Runs, r)
	case "until":
		c.Reached = true
		_, err = fmt.Sscan(rest, &c.Until)
	case "window":
		_, err = fmt.Sscan(rest, &c.Window.Passes, &c.Window.Total, &c.Window.Min, &c.Window.Max)
	default:
		return errors.New("unknown name")
	}
	return err
}
