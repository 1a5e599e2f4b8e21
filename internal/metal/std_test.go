package metal

import (
	"bytes"
	"context"
	"flag"
	"go/ast"
	"go/build"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write docs/std-tests.md anew")

// TestStdTable holds the page in docs to the list.
func TestStdTable(t *testing.T) {
	file := filepath.Join("..", "..", "docs", "std-tests.md")
	want := []byte(StdTable())
	if *update {
		if err := os.WriteFile(file, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s is not what the list says: run go test ./internal/metal -run TestStdTable -update", file)
	}
}

// testsOf gives the names of the tests, examples and fuzz targets of a package of
// the standard library, as linux/arm sees it.
func testsOf(t *testing.T, path string) map[string]bool {
	t.Helper()
	b := build.Default
	b.GOOS, b.GOARCH, b.CgoEnabled = "linux", "arm", false
	p, err := b.Import(path, "", 0)
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, file := range append(p.TestGoFiles, p.XTestGoFiles...) {
		f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, file), nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			if d, ok := d.(*ast.FuncDecl); ok && d.Recv == nil {
				names[d.Name.Name] = true
			}
		}
	}
	return names
}

// TestStdRules checks that each rule names a package that is tested, and tests that
// it has, so that no rule outlives what it was made for.
func TestStdRules(t *testing.T) {
	list, err := List(context.Background(), StdPatterns...)
	if err != nil {
		t.Fatal(err)
	}
	tested := map[string]bool{}
	for _, p := range list {
		tested[p.ImportPath] = p.Standard && p.HasTests()
	}
	for path, r := range Std {
		if !tested[path] {
			t.Errorf("%s has a rule, and no pattern names it as a package of the standard library with tests", path)
			continue
		}
		names := testsOf(t, path)
		for _, l := range r.LeftOut {
			if l.Why == "" {
				t.Errorf("%s: tests are left out without a reason: %s", path, l.Tests)
			}
			for name := range strings.FieldsSeq(l.Tests) {
				if top, _, _ := strings.Cut(name, "/"); !names[top] {
					t.Errorf("%s: %s is left out, and there is no such test", path, name)
				}
			}
		}
		for _, pattern := range []string{r.Quick, r.Torment} {
			if pattern != "" && !matchesSome(t, pattern, names) {
				t.Errorf("%s: no test matches %s", path, pattern)
			}
		}
	}
}

func matchesSome(t *testing.T, pattern string, names map[string]bool) bool {
	re, err := regexp.Compile(pattern)
	if err != nil {
		t.Fatal(err)
	}
	for name := range names {
		if re.MatchString(name) {
			return true
		}
	}
	return false
}

func TestSkip(t *testing.T) {
	r := Rule{LeftOut: []LeftOut{{"a", "TestOne TestTwo/sub"}, {"b", "TestThree"}}}
	if got, want := r.skip(), "^TestOne$|^TestTwo$/^sub$|^TestThree$"; got != want {
		t.Errorf("skip is %q, should be %q", got, want)
	}
}
