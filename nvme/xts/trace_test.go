//go:build !arm

package xts

import (
	"debug/elf"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// command runs a program to its end, or fails the test with what it said.
func command(t *testing.T, env []string, name string, args ...string) {
	t.Helper()
	c := exec.Command(name, args...)
	c.Env = append(os.Environ(), env...)
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s\n(needed: Debian's qemu-user and gcc)", name, strings.Join(args, " "), err, out)
	}
}

// subject builds the program to trace, for arm.
func subject(t *testing.T, dir, tags string) string {
	t.Helper()
	file := filepath.Join(dir, "subject-"+tags)
	env := []string{"GOOS=linux", "GOARCH=arm", "GOARM=7", "CGO_ENABLED=0"}
	command(t, env, "go", "build", "-tags="+tags, "-o", file, "./internal/subject")
	return file
}

// ranges lists the addresses of the functions whose names begin with one of
// the prefixes, as the plugin wants them.
func ranges(t *testing.T, file string, prefixes ...string) string {
	t.Helper()
	f, err := elf.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	symbols, err := f.Symbols()
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, s := range symbols {
		for _, p := range prefixes {
			if strings.HasPrefix(s.Name, p) && elf.ST_TYPE(s.Info) == elf.STT_FUNC && s.Size > 0 {
				list = append(list, fmt.Sprintf("%x-%x", s.Value, s.Value+s.Size))
			}
		}
	}
	if len(list) == 0 {
		t.Fatalf("%s has no function %v", file, prefixes)
	}
	return strings.Join(list, "+")
}

// TestConstantTime shows that neither the instructions executed nor the
// addresses read and written depend on key or data. It traces the functions of
// this package under emulation, for NEON and for the portable cipher, from the
// expansion of the key to the last byte, and compares digests of the traces.
// The control is golang.org/x/crypto/xts over table lookups: the very same
// comparison must tell its traces apart.
func TestConstantTime(t *testing.T) {
	dir := t.TempDir()
	plugin := filepath.Join(dir, "trace.so")
	source := filepath.Join("..", "..", "internal", "insncount", "user", "trace.c")
	command(t, nil, "gcc", "-O2", "-shared", "-fPIC", "-o", plugin, source)
	own := []string{"nitro/nvme/xts."}
	tables := []string{"golang.org/x/crypto/xts.", "crypto/aes.", "crypto/internal/fips140/aes."}
	neon, portable := subject(t, dir, "xts_neon"), subject(t, dir, "xts_portable")
	for _, c := range []struct {
		name, file, implementation string
		sectors                    string // size and count
		prefixes                   []string
		constant                   bool
	}{
		{"neon", neon, "nitro", "528 3", own, true},
		{"neon, many tweaks", neon, "nitro", "32 35", own, true},
		{"portable", portable, "nitro", "528 3", own, true},
		{"tables", neon, "x", "528 3", tables, false},
	} {
		watch := ranges(t, c.file, c.prefixes...)
		for _, direction := range []string{"enc", "dec"} {
			trace := func(seed int) string {
				out, sectors := filepath.Join(dir, "out"), strings.Fields(c.sectors)
				command(t, []string{"GODEBUG=asyncpreemptoff=1", "GOMAXPROCS=1"}, "qemu-arm", "-cpu", "cortex-a7",
					"-plugin", fmt.Sprintf("%s,out=%s,ranges=%s", plugin, out, watch),
					c.file, c.implementation, direction, sectors[0], sectors[1], "1", fmt.Sprint(seed))
				text, err := os.ReadFile(out)
				if err != nil {
					t.Fatal(err)
				}
				return strings.TrimSpace(string(text))
			}
			first := trace(1)
			t.Logf("%s %s: %s", c.name, direction, first)
			if again := trace(1); again != first {
				t.Errorf("%s %s: the same key and data gave %s and then %s", c.name, direction, first, again)
			}
			for seed := 2; seed <= 5; seed++ {
				if other := trace(seed); (other == first) != c.constant {
					t.Errorf("%s %s: traces %s and %s, of different keys and data", c.name, direction, first, other)
				}
			}
		}
	}
}
