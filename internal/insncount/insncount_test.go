package insncount

import (
	"context"
	"debug/elf"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

// The parts of testdata/counts.s, as its comments count them.
const (
	bringUp  = 2014 // before User mode
	inUser   = 63   // in User mode
	plain    = 205  // call 1, masked throughout
	first    = 67   // call 2, up to where it unmasks
	unmasked = 2002 // call 2, unmasked
	second   = 302  // call 2, from where it masks
	abort    = 3    // data abort
	irq      = 86   // interrupt
	leaving  = 6    // call 3, up to the end of the measurement
	after    = 1005 // from there to the emulator's exit
	masked   = plain + first + second + abort + irq + leaving
	total    = bringUp + inUser + masked + unmasked + after
)

// run must not be missing: a machine without a tool fails the test.
func run(t *testing.T, name string, args ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if said, err := exec.CommandContext(ctx, name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v (Debian packages: gcc, libc6-dev, binutils-arm-linux-gnueabihf, qemu-system-arm 10)\n%s",
			name, strings.Join(args, " "), err, said)
	}
}

// assemble makes an ELF file of counts.s and gives its path and symbols.
func assemble(t *testing.T) (string, map[string]uint32) {
	t.Helper()
	object, file := filepath.Join(t.TempDir(), "counts.o"), filepath.Join(t.TempDir(), "counts.elf")
	run(t, "arm-linux-gnueabihf-as", "-o", object, "testdata/counts.s")
	run(t, "arm-linux-gnueabihf-ld", "-Ttext=0x80010000", "-o", file, object)
	f, err := elf.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	symbols, err := f.Symbols()
	if err != nil {
		t.Fatal(err)
	}
	at := make(map[string]uint32)
	for _, s := range symbols {
		at[s.Name] = uint32(s.Value)
	}
	return file, at
}

// TestCounts runs a program whose counts are known and expects exactly them,
// however the plugin reads CPSR and however the emulator keeps time.
func TestCounts(t *testing.T) {
	plugin, err := Build(t.Context(), filepath.Join(t.TempDir(), "a,b"))
	if err != nil {
		t.Fatal(err)
	}
	program, at := assemble(t)
	runs := []Run{
		{second, at["masked2"], at["return2"], 0x13, 0x13},
		{plain, at["vectors"] + 0x08, at["return1"], 0x13, 0x13}, // hides the shorter run of call 2
		{irq, at["vectors"] + 0x18, at["returnirq"], 0x12, 0x12},
		{abort, at["vectors"] + 0x10, at["returnabort"], 0x17, 0x17},
	}
	base := Counts{Insns: total, User: inUser, Privileged: total - inUser, BeforeUser: bringUp, Masked: masked, Runs: runs}

	until, window, early := base, base, base
	until.Reached, until.Until = true, bringUp
	window.Window = Window{Passes: 1, Total: 1 + plain, Min: 1 + plain, Max: 1 + plain}
	early.Masked, early.Runs = plain+first, []Run{runs[1]}
	for _, c := range []struct {
		name string
		o    Options
		want Counts
	}{
		{"totals", Options{}, base},
		{"until", Options{Until: at["user"]}, until},
		{"until never reached", Options{Until: 0x90000000}, base},
		{"window", Options{From: at["call1"], To: at["after1"]}, window},
		{"window whose end is never reached", Options{From: at["call1"], To: 0x90000000}, base},
		{"earlier end", Options{End: at["masked2"]}, early},
	} {
		for _, every := range []bool{false, true} {
			for _, clock := range []string{"", "shift=0,sleep=off"} {
				c.o.Every = every
				got := count(t, plugin, program, c.o, clock)
				if !reflect.DeepEqual(got, c.want) {
					t.Errorf("%s, every=%v, icount %q:\ngot  %+v\nwant %+v", c.name, every, clock, got, c.want)
				}
			}
		}
	}
}

// count runs the program on the emulated board.
func count(t *testing.T, plugin, program string, o Options, clock string) Counts {
	t.Helper()
	out := filepath.Join(t.TempDir(), "counts,")
	runBoard(t, program, clock, Args(plugin, out, o))
	c, err := Read(out)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// runBoard runs a program on the emulated board to its end.
func runBoard(t *testing.T, program, clock string, further []string) {
	t.Helper()
	args := []string{"-M", "mcimx6ul-evk", "-display", "none", "-monitor", "none", "-serial", "none",
		"-semihosting-config", "enable=on,target=native", "-kernel", program}
	if clock != "" {
		args = append(args, "-icount", clock)
	}
	run(t, "qemu-system-arm", append(args, further...)...)
}

// TestPluginRefuses expects the emulator not to start with arguments that the
// plugin does not know, or on a board that it cannot count.
func TestPluginRefuses(t *testing.T) {
	plugin, err := Build(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	profiler, err := BuildProfiler(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "out")
	for _, c := range []struct {
		board []string
		arg   string
		says  string
	}{
		{[]string{"mcimx6ul-evk"}, plugin, "want out=FILE"},
		{[]string{"mcimx6ul-evk"}, plugin + ",out=" + out + ",from=1", "want out=FILE, and from=ADDR with to=ADDR"},
		{[]string{"mcimx6ul-evk"}, plugin + ",out=" + out + ",until=main", "bad argument until=main"},
		{[]string{"mcimx6ul-evk"}, plugin + ",out=" + out + ",untill=1", "bad argument untill=1"},
		{[]string{"mcimx7d-sabre", "-smp", "2"}, plugin + ",out=" + out, "one processor"},
		{[]string{"mcimx6ul-evk"}, profiler, "want out=FILE"},
		{[]string{"mcimx6ul-evk"}, profiler + ",out=" + out + ",once=on", "once=on goes with from=ADDR"},
		{[]string{"mcimx6ul-evk"}, profiler + ",out=" + out + ",from=main", "bad argument from=main"},
		{[]string{"mcimx6ul-evk"}, profiler + ",out=" + out + ",exact=1", "bad argument exact=1"},
		{[]string{"mcimx7d-sabre", "-smp", "2"}, profiler + ",out=" + out, "one processor"},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		args := append([]string{"-display", "none", "-monitor", "none", "-serial", "none", "-plugin", c.arg, "-M"}, c.board...)
		said, err := exec.CommandContext(ctx, "qemu-system-arm", args...).CombinedOutput()
		if ctx.Err() != nil || err == nil || !strings.Contains(string(said), c.says) {
			t.Errorf("%s on %v: %v, %s; want %q", c.arg, c.board, err, said, c.says)
		}
		cancel()
	}
}

func TestParseRefuses(t *testing.T) {
	for _, text := range []string{"", "insns 1\n", "insns x\ndone\n", "what 1\ndone\n", "run 1 2 3\ndone\n", "\ndone\n"} {
		if c, err := parse(text); err == nil {
			t.Errorf("%q: accepted as %+v", text, c)
		}
	}
}
