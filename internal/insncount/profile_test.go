package insncount

import (
	"maps"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
)

// The instructions behind each label of testdata/counts.s, as its comments count
// them: in all, and in parts that windows cut out.
var (
	everything = map[string]uint64{
		"vectors": 5, "_start": bringUp, "user": 42, "call1": 1, "after1": 20,
		"svc": 2 + 4 + 5, "plain": 201, "return1": 1, "opens": 61, "opened": 1 + unmasked,
		"masked2": 301, "return2": 1, "magic": after, "abort": 1, "returnabort": 1, "irq": 84, "returnirq": 1,
	}
	firstCall = map[string]uint64{"vectors": 1, "call1": 1, "svc": 2, "plain": 201, "return1": 1}
	fromSVC   = map[string]uint64{ // from svc to after1, and from the next svc to the end
		"vectors": 3, "svc": 2 + 4 + 5, "plain": 201, "return1": 1, "opens": 61, "opened": 1 + unmasked,
		"masked2": 301, "return2": 1, "after1": 18, "abort": 1, "returnabort": 1, "irq": 84, "returnirq": 1, "magic": after,
	}
)

// unprivileged are the labels of the code that runs in User mode.
var unprivileged = []string{"user", "call1", "after1"}

// without gives a copy of counts that lacks some.
func without(counts map[string]uint64, names ...string) map[string]uint64 {
	rest := maps.Clone(counts)
	maps.DeleteFunc(rest, func(name string, _ uint64) bool { return slices.Contains(names, name) })
	return rest
}

// TestProfile expects the shares of a program whose counts are known, in all and in
// windows.
func TestProfile(t *testing.T) {
	plugin, err := BuildProfiler(t.Context(), filepath.Join(t.TempDir(), "a,b"))
	if err != nil {
		t.Fatal(err)
	}
	program, at := assemble(t)
	symbols, err := ReadSymbols(program)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name    string
		o       ProfileOptions
		windows uint64
		want    map[string]uint64
	}{
		{"all", ProfileOptions{Exact: true}, 1, everything},
		{"up to an address", ProfileOptions{To: at["user"], Exact: true}, 1, map[string]uint64{"_start": bringUp}},
		{"from an address on", ProfileOptions{From: at["user"], Exact: true}, 1, without(everything, "_start")},
		{"window that begins within a block", ProfileOptions{From: at["call1"], To: at["after1"]}, 1, firstCall},
		{"two windows", ProfileOptions{From: at["svc"], To: at["after1"], Exact: true}, 2, fromSVC},
		{"the first of two windows", ProfileOptions{From: at["svc"], To: at["after1"], Once: true}, 1,
			map[string]uint64{"svc": 2, "plain": 201, "return1": 1}},
		{"never", ProfileOptions{From: 0x90000000, To: at["user"]}, 0, map[string]uint64{}},
	} {
		for _, clock := range []string{"", "shift=0,sleep=off"} {
			p := profileOf(t, plugin, program, c.o, clock)
			if got := insns(p.Functions(symbols)); p.Windows != c.windows || !reflect.DeepEqual(got, c.want) {
				t.Errorf("%s, icount %q: %d windows\ngot  %v\nwant %d\n     %v", c.name, clock, p.Windows, got, c.windows, c.want)
			}
			checkUser(t, c.name, p, symbols)
		}
	}
}

// TestProfileByBlocks expects the same of code that neither faults nor accesses
// devices when it is counted by blocks, and at least as much of other code. Blocks
// belong to the label where they begin.
func TestProfileByBlocks(t *testing.T) {
	plugin, err := BuildProfiler(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	program, _ := assemble(t)
	symbols, err := ReadSymbols(program)
	if err != nil {
		t.Fatal(err)
	}
	want := maps.Clone(everything)
	for label, before := range map[string]string{"call1": "user", "returnabort": "abort"} {
		want[before] += want[label]
		delete(want, label)
	}
	for _, clock := range []string{"", "shift=0,sleep=off"} {
		p := profileOf(t, plugin, program, ProfileOptions{}, clock)
		got := insns(p.Functions(symbols))
		for _, device := range []string{"_start", "after1", "irq"} {
			if least := want[device]; got[device] < least || got[device] > least+20 {
				t.Errorf("icount %q: %s has %d instructions, want %d or up to 20 more", clock, device, got[device], least)
			}
			got[device] = want[device]
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("icount %q:\ngot  %v\nwant %v", clock, got, want)
		}
		checkUser(t, clock, p, symbols)
	}
}

// checkUser expects what belongs to User mode there, and nothing else.
func checkUser(t *testing.T, name string, p Profile, symbols *Symbols) {
	t.Helper()
	total := Share{}
	for _, f := range p.Functions(symbols) {
		want := uint64(0)
		if slices.Contains(unprivileged, f.Name) {
			want = f.Insns
		}
		if f.User != want {
			t.Errorf("%s: %s has %d instructions in User mode, want %d", name, f.Name, f.User, want)
		}
		total.Insns += f.Insns
		total.User += f.User
	}
	if got := p.Total(); got != total {
		t.Errorf("%s: total %+v, functions sum up to %+v", name, got, total)
	}
}

func insns(shares []Share) map[string]uint64 {
	counts := make(map[string]uint64)
	for _, s := range shares {
		counts[s.Name] = s.Insns
	}
	return counts
}

// profileOf runs a program under the profiling plugin.
func profileOf(t *testing.T, plugin, program string, o ProfileOptions, clock string) Profile {
	t.Helper()
	out := filepath.Join(t.TempDir(), "profile,")
	runBoard(t, program, clock, ProfileArgs(plugin, out, o))
	p, err := ReadProfile(out)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestParseProfile(t *testing.T) {
	const text = "windows 2\ncode 0x80010004 3 0x10 5\ncode 0x80010000 1 0x13 7\ncode 0x80010004 3 0x10 6\ndone\n"
	want := Profile{Windows: 2, Code: []Code{{0x80010000, 1, 0x13, 7}, {0x80010004, 3, 0x10, 11}}}
	if got, err := parseProfile(text); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	for _, bad := range []string{"", "windows 1\n", "windows x\ndone\n", "code 1 2 3\ndone\n", "what 1\ndone\n", "code 1 2 3 4 5\ndone\n"} {
		if got, err := parseProfile(bad); err == nil {
			t.Errorf("%q: accepted as %+v", bad, got)
		}
	}
}

func TestPackageOf(t *testing.T) {
	for name, want := range map[string]string{
		"main.main":                           "main",
		"nitro/board/kernel.(*kernel).trap":   "nitro/board/kernel",
		"golang.org/x/crypto/chacha20.block":  "golang.org/x/crypto/chacha20",
		"gopkg.in/yaml%2ev3.read":             "gopkg.in/yaml.v3",
		"slices.sort[go.shape.int]":           "slices",
		"slices.sort[go.shape.*a/b.c].func1":  "slices",
		"type:.eq.crypto/internal/fips140.x":  "type:.eq.crypto/internal/fips140",
		"cpuentry":                            "cpuentry",
		"[0xdff00000]":                        "[0xdff00000]",
		"vendor/golang.org/x/net/idna.(*P).x": "vendor/golang.org/x/net/idna",
	} {
		if got := packageOf(name); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}

// TestSymbols finds functions in a Go program, this one.
func TestSymbols(t *testing.T) {
	program, at := assemble(t)
	s, err := ReadSymbols(program)
	if err != nil {
		t.Fatal(err)
	}
	for pc, want := range map[uint32]string{
		at["_start"] + 4: "_start", at["vectors"]: "vectors", at["vectors"] - 4: "[0x8000f000]", at["return1"]: "return1",
	} {
		if got := s.Name(pc); got != want {
			t.Errorf("%#x: %s, want %s", pc, got, want)
		}
	}
	if got, err := s.Address("call1"); err != nil || got != at["call1"] {
		t.Errorf("call1: %#x, %v, want %#x", got, err, at["call1"])
	}
	if got, err := s.Address("nothing"); err == nil {
		t.Errorf("nothing: found at %#x", got)
	}
	stripped := filepath.Join(t.TempDir(), "stripped")
	run(t, "arm-linux-gnueabihf-strip", "-o", stripped, program)
	if _, err := ReadSymbols(stripped); err == nil {
		t.Error("a stripped file is accepted")
	}
}
