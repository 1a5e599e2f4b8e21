package metal

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// A Package is one whose tests can be asked for. The fields are those of go list.
type Package struct {
	ImportPath   string
	Name         string
	Dir          string
	Standard     bool
	Imports      []string
	TestGoFiles  []string
	TestImports  []string
	XTestGoFiles []string
	XTestImports []string
}

// HasTests reports whether the package has tests for the board.
func (p *Package) HasTests() bool { return len(p.TestGoFiles)+len(p.XTestGoFiles) > 0 }

// StartsPrograms reports whether a package of this module, or a test of it, starts
// other programs. It is then a tool of the machine that builds, and there is no
// such thing on the board. (The standard library's tests are looked at one by
// one: see [Std].)
func (p *Package) StartsPrograms() bool {
	const exec = "os/exec"
	return !p.Standard &&
		(slices.Contains(p.Imports, exec) || slices.Contains(p.TestImports, exec) || slices.Contains(p.XTestImports, exec))
}

// corpora gives patterns of the package's fuzz targets that have kept inputs (go help
// fuzz: testdata/fuzz). They run on the machine that builds: the board cannot list a
// folder, and testing fails a target whose folder it cannot read.
func (p *Package) corpora() (patterns []string) {
	targets, err := os.ReadDir(filepath.Join(p.Dir, "testdata", "fuzz"))
	if err != nil {
		return nil // none are kept
	}
	for _, t := range targets {
		patterns = append(patterns, "^"+regexp.QuoteMeta(t.Name())+"$")
	}
	return patterns
}

// argsFile holds, an argument a line, what a package's tests want of the emulator
// beside the board itself, such as devices on its buses. {64M:card.img} within an
// argument stands for a file of that name and of 64 MiB, all zeros, made for the run.
const argsFile = "testdata/qemu.args"

var scratch = regexp.MustCompile(`\{([0-9]{1,4})M:([a-z0-9.-]+)\}`)

// emulatorArgs reads what the package's tests want of the emulator; most have no
// such wish, and no file. Scratch files are made in the folder temp.
func (p *Package) emulatorArgs(temp string) ([]string, error) {
	text, err := os.ReadFile(filepath.Join(p.Dir, argsFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("metal: %w", err)
	}
	args := strings.Fields(string(text))
	for i, arg := range args {
		for _, m := range scratch.FindAllStringSubmatch(arg, -1) {
			file := filepath.Join(temp, m[2])
			if err := makeScratch(file, m[1]); err != nil {
				return nil, fmt.Errorf("metal: %s: %w", argsFile, err)
			}
			args[i] = strings.ReplaceAll(args[i], m[0], file)
		}
	}
	return args, nil
}

// makeScratch makes a file of so many MiB, none of which take room yet.
func makeScratch(file, mib string) error {
	n, err := strconv.ParseInt(mib, 10, 64)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	return errors.Join(f.Truncate(n<<20), f.Close())
}

// List gives the packages that the patterns of the go command name, as the board
// sees them.
func List(ctx context.Context, patterns ...string) ([]*Package, error) {
	fields := "-json=ImportPath,Name,Dir,Standard,Imports,TestGoFiles,TestImports,XTestGoFiles,XTestImports"
	out, err := goCommand(ctx, ".", append([]string{"list", "-tags", "boardtest", fields, "--"}, patterns...)...)
	if err != nil {
		return nil, err
	}
	var list []*Package
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		p := new(Package)
		if err := d.Decode(p); err == io.EOF {
			return list, nil
		} else if err != nil {
			return nil, fmt.Errorf("metal: what go list says of %q: %w", patterns, err)
		}
		list = append(list, p)
	}
}
