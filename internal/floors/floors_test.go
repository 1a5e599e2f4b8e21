// Package floors holds the module to its layers: what may import what, and what
// stands at the top of the tree.
package floors

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"
)

// A pkg is a package as go list describes it.
type pkg struct {
	ImportPath, Name string
	Imports          []string
}

const module = "nitro"

// floor is the first element of a package's path within the module; "" is outside.
// A generator that lies beside what it writes is a tool of the build.
func floor(path string) string {
	rest, in := strings.CutPrefix(path, module+"/")
	if !in {
		return ""
	}
	if strings.HasSuffix(rest, "/internal/gen") {
		return "internal"
	}
	f, _, _ := strings.Cut(rest, "/")
	return f
}

// standard reports whether a path is of the standard library.
func standard(path string) bool {
	first, _, _ := strings.Cut(path, "/")
	return first != module && !strings.Contains(first, ".")
}

// never lists, for each floor, the floors that it must not import: those above it,
// the board, and the tools of the build.
var never = map[string][]string{
	"board":    {"attest", "boot", "resetctl", "nvme", "net", "flash", "cmd", "internal", "qemu-test"},
	"attest":   {"board", "boot", "resetctl", "nvme", "net", "flash", "cmd", "internal", "qemu-test"},
	"boot":     {"board", "resetctl", "nvme", "net", "flash", "cmd", "internal", "qemu-test"},
	"nvme":     {"board", "boot", "resetctl", "net", "flash", "cmd", "internal", "qemu-test"},
	"resetctl": {"board", "nvme", "net", "flash", "cmd", "internal", "qemu-test"},
	"net":      {"board", "flash", "cmd", "internal", "qemu-test"},
	"cmd":      {"qemu-test"},
}

// rackCommand starts the emulated rack, which is what it is for: it alone among the
// commands reaches qemu-test.
const rackCommand = module + "/cmd/rack"

// sdk is what tests alone may import: it is the peer of the key service's KMS face.
const sdk = "github.com/aws/"

// problems are the imports that no floor allows, directly or by way of others.
func problems(pkgs []pkg) (found []string) {
	say := func(words ...string) { found = append(found, strings.Join(words, " ")) }
	imports := map[string][]string{}
	for _, p := range pkgs {
		imports[p.ImportPath] = p.Imports
	}
	for _, p := range pkgs {
		f := floor(p.ImportPath)
		for _, i := range p.Imports {
			if p.ImportPath == module+"/board/kernel" && i != "unsafe" {
				say(p.ImportPath, "imports", i)
			}
			if strings.HasPrefix(i, sdk) {
				say(p.ImportPath, "imports", i)
			}
			if f == "board" && !standard(i) && floor(i) != "board" {
				say(p.ImportPath, "imports", i)
			}
		}
		for _, i := range reach(imports, p.ImportPath) {
			if slices.Contains(never[f], floor(i)) && !(p.ImportPath == rackCommand && floor(i) == "qemu-test") {
				say(p.ImportPath, "reaches", i)
			}
		}
		if f == "cmd" && p.Name != "main" {
			say(p.ImportPath, "is no command")
		}
	}
	return found
}

// reach lists all packages of the module that one imports, with those that they
// import.
func reach(imports map[string][]string, from string) (all []string) {
	seen := map[string]bool{}
	for next := slices.Clone(imports[from]); len(next) > 0; next = next[1:] {
		if p := next[0]; floor(p) != "" && !seen[p] {
			seen[p] = true
			all = append(all, p)
			next = append(next, imports[p]...)
		}
	}
	return all
}

// top is all that may stand at the top of the tree.
var top = []string{
	"board", "boot", "attest", "resetctl", "nvme", "net", "flash", "qemu-test", "cmd", "internal", "docs", ".ci",
	"README.md", "LICENSE", "Makefile", "go.mod", "go.sum", ".gitignore",
}

func strays(files []string) (found []string) {
	for _, f := range files {
		if first, _, _ := strings.Cut(f, "/"); first != "" && !slices.Contains(top, first) && !slices.Contains(found, first) {
			found = append(found, first)
		}
	}
	return found
}

func output(t *testing.T, env []string, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = "../.."
	cmd.Env = append(cmd.Environ(), env...)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %v: %v", name, args, err)
	}
	return string(out)
}

func TestFloors(t *testing.T) {
	for _, env := range [][]string{{"GOOS=linux", "GOARCH=arm", "GOARM=7"}, {}} {
		var pkgs []pkg
		d := json.NewDecoder(strings.NewReader(output(t, env, "go", "list", "-json=ImportPath,Name,Imports", "./...")))
		for {
			var p pkg
			if err := d.Decode(&p); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatal(err)
			}
			pkgs = append(pkgs, p)
		}
		if !slices.ContainsFunc(pkgs, func(p pkg) bool { return p.ImportPath == module+"/board/kernel" }) {
			t.Error("board/kernel is not among the packages")
		}
		for _, p := range problems(pkgs) {
			t.Error(p)
		}
	}
}

func TestTop(t *testing.T) {
	for _, f := range strays(strings.Split(output(t, nil, "git", "ls-files"), "\n")) {
		t.Errorf("%s does not belong at the top", f)
	}
}

// TestFindsFaults: each rule, broken.
func TestFindsFaults(t *testing.T) {
	for _, c := range []struct {
		pkgs []pkg
		want string
	}{
		{[]pkg{{"nitro/board/kernel", "kernel", []string{"unsafe"}}}, ""},
		{[]pkg{{"nitro/board/kernel", "kernel", []string{"sync"}}}, "nitro/board/kernel imports sync"},
		{[]pkg{{"nitro/board/evk", "evk", []string{"nitro/board/cpu", "fmt"}}}, ""},
		{[]pkg{{"nitro/board/evk", "evk", []string{"golang.org/x/sys/unix"}}}, "nitro/board/evk imports golang.org/x/sys/unix"},
		{[]pkg{{"nitro/attest", "attest", []string{"nitro/board/evk"}}}, "nitro/attest reaches nitro/board/evk"},
		{[]pkg{{"nitro/boot", "boot", []string{"nitro/attest/log"}}}, ""},
		{[]pkg{{"nitro/attest", "attest", []string{"nitro/boot"}}}, "nitro/attest reaches nitro/boot"},
		{[]pkg{{"nitro/boot", "boot", []string{"nitro/resetctl"}}}, "nitro/boot reaches nitro/resetctl"},
		{[]pkg{{"nitro/resetctl", "resetctl", []string{"nitro/net/policy"}}}, "nitro/resetctl reaches nitro/net/policy"},
		{[]pkg{{"nitro/nvme/xts", "xts", []string{"nitro/net"}}}, "nitro/nvme/xts reaches nitro/net"},
		{[]pkg{{"nitro/net", "net", []string{"nitro/internal/neon"}}}, "nitro/net reaches nitro/internal/neon"},
		{[]pkg{{"nitro/cmd/nitroctl", "main", []string{"github.com/aws/smithy-go"}}}, "nitro/cmd/nitroctl imports github.com/aws/smithy-go"},
		{[]pkg{{"nitro/cmd/rack", "rack", nil}}, "nitro/cmd/rack is no command"},
		{[]pkg{{"nitro/cmd/controller", "main", []string{"nitro/board/evk", "nitro/net"}}}, ""},
		{[]pkg{{"nitro/cmd/rack", "main", []string{"nitro/qemu-test/rack"}}}, ""},
		{[]pkg{{"nitro/cmd/controller", "main", []string{"nitro/qemu-test/rack"}}}, "nitro/cmd/controller reaches nitro/qemu-test/rack"},
		{[]pkg{
			{"nitro/net", "net", []string{"example.org/x", "nitro/flash"}}, {"nitro/flash", "flash", []string{"nitro/board"}},
		}, "nitro/net reaches nitro/flash nitro/net reaches nitro/board"},
	} {
		if got := strings.Join(problems(c.pkgs), " "); got != c.want {
			t.Errorf("%v: %q, not %q", c.pkgs, got, c.want)
		}
	}
	if got := strays([]string{"go.mod", "util/x.go", "util/y.go", "board/kernel/doc.go", "notes.txt", ""}); !slices.Equal(got, []string{"util", "notes.txt"}) {
		t.Errorf("strays: %v", got)
	}
}
