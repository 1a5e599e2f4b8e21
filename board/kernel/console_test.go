package kernel

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// filtered is what reaches the console of pieces written to standard error.
func filtered(pieces ...string) string {
	c := new(console)
	var out strings.Builder
	for _, p := range pieces {
		for i := range len(p) {
			c.filter.write(c, p[i])
			for b, ok := c.take(); ok; b, ok = c.take() {
				out.WriteByte(b)
			}
		}
	}
	return strings.ReplaceAll(out.String(), "\r\n", "\n")
}

var (
	kept    = regexp.MustCompile(`(pc=|addr=|\+)0x[0-9a-fA-F]+`)
	numeral = regexp.MustCompile(`0x[0-9a-fA-F]+`)
	dumped  = regexp.MustCompile(`(?m)^([0-9a-f]{8}:).*$`)
	longHex = regexp.MustCompile(`[0-9a-fA-F]{8,}`)
)

// blanked is what should reach the console of a whole text.
func blanked(s string) string {
	s = dumped.ReplaceAllString(s, "$1")
	s = kept.ReplaceAllStringFunc(s, func(w string) string { return strings.Replace(w, "0x", "0y", 1) })
	s = numeral.ReplaceAllString(s, "0x?")
	return strings.ReplaceAll(s, "0y", "0x")
}

// traces are named here since the board has no directories to list.
var traces = []string{
	"address.txt",
	"fatal.txt",
	"hexdump.txt",
	"index.txt",
	"nil.txt",
	"panic.txt",
	"value.txt",
}

// TestTracesAreBlanked feeds tracebacks of real Go programs, cut in two at every
// byte: no word of user memory survives, and all else is as it was.
func TestTracesAreBlanked(t *testing.T) {
	for _, name := range traces {
		b, err := os.ReadFile("testdata/traces/" + name)
		if err != nil {
			t.Fatal(err)
		}
		in := string(b)
		want := blanked(in)
		for i := range len(in) {
			got := filtered(in[:i], in[i:])
			if got != want {
				t.Fatalf("%s, cut at %d:\n%s\nnot\n%s", name, i, got, want)
			}
			if i == 0 {
				checkTrace(t, name, in, got)
			}
			if testing.Short() && i == 100 {
				break
			}
		}
	}
}

// checkTrace looks at a trace without knowing how it came about.
func checkTrace(t *testing.T, name, in, got string) {
	for _, w := range longHex.FindAllString(kept.ReplaceAllString(got, ""), -1) {
		const columns = "0123456789abcdef" // heads a hex dump
		if w != columns && !strings.Contains(got, "\n"+w+":\n") {
			t.Errorf("%s: %s is left", name, w)
		}
	}
	for _, w := range numeral.FindAllString(kept.ReplaceAllString(got, ""), -1) {
		t.Errorf("%s: %s is left", name, w)
	}
	if len(kept.FindAllString(in, -1)) != len(kept.FindAllString(got, -1)) {
		t.Errorf("%s: program counters are lost", name)
	}
	if strings.Count(in, "\n") != strings.Count(got, "\n") {
		t.Errorf("%s: lines are lost", name)
	}
	for _, word := range []string{"goroutine 1 ", "main.go:", "asm_arm.s:", "runtime.goexit"} {
		if strings.Count(in, word) != strings.Count(got, word) {
			t.Errorf("%s: %q is lost", name, word)
		}
	}
}

func TestHexFilter(t *testing.T) {
	for in, want := range map[string]string{
		"f(0x1234, 0xAB)":             "f(0x?, 0x?)",
		"+0x1c":                       "+0x1c",
		"pc=0x80012345 sp=0x1000":     "pc=0x80012345 sp=0x?",
		"addr=0xdead code=0x1":        "addr=0xdead code=0x?",
		"pc 0x1 lr 0x2":               "pc 0x? lr 0x?",
		"0x12pc=0x34":                 "0x?pc=0x34",
		"0x0x12":                      "0x?x12",
		"100x12":                      "100x12", // no number of Go's
		"0 0x 00x1":                   "0 0x? 00x1",
		"x=0x1+0x2":                   "x=0x?+0x2",
		"main.go:10 +0x4\n":           "main.go:10 +0x4\n",
		"0043a740: 73656372 secret\n": "0043a740:\n",
		"0043a74: word\n":             "0043a74: word\n",
		" 0043a740: word\n":           " 0043a740: word\n",
		"a\n0043a740: 1\n0x5\n":       "a\n0043a740:\n0x?\n",
		"":                            "",
	} {
		if got := filtered(in); got != want {
			t.Errorf("%q becomes %q, not %q", in, got, want)
		}
	}
}
