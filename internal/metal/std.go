package metal

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// A Rule says how a package of the standard library is tested on the board, where
// that is not simply all of its tests.
type Rule struct {
	None    string    // why none of its tests run; "" where some do
	Quick   string    // pattern (as -run) of the tests in the short form; "" for none
	Torment string    // pattern of the tests that also run tormented in the long form
	Short   string    // why the long form gives it -short; "" where it does not
	LeftOut []LeftOut // tests that do not run in any form
}

// A LeftOut names tests that cannot run on the board, and says why.
type LeftOut struct {
	Why   string
	Tests string // names, parted by spaces; a subtest's as in Test/subtest
}

// shortLimit bounds a package of the short form, stdLimit one of the long form:
// several times what they take on a machine with nothing else to do.
const (
	shortLimit = 3 * time.Minute
	stdLimit   = 15 * time.Minute
)

// skip gives the pattern, as for -skip, of the tests that are left out.
func (r *Rule) skip() string {
	var p []string
	for _, l := range r.LeftOut {
		for name := range strings.FieldsSeq(l.Tests) {
			p = append(p, "^"+strings.ReplaceAll(name, "/", "$/^")+"$")
		}
	}
	return strings.Join(p, "|")
}

// StdShort lists the jobs of the short form: a selection of the standard library's
// tests that covers scheduling, timers, collection, memory and signals.
func StdShort(ctx context.Context, o Options) ([]Job, error) {
	o.Short, o.Timeout = true, shortLimit
	var paths []string
	for path, r := range Std {
		if r.Quick != "" {
			paths = append(paths, path)
		}
	}
	slices.Sort(paths)
	list, err := List(ctx, paths...)
	if err != nil {
		return nil, err
	}
	var jobs []Job
	for _, p := range list {
		r := Std[p.ImportPath]
		j := Job{p, o}
		j.Skip = r.skip()
		if j.Run == "" {
			j.Run = r.Quick
		}
		jobs = append(jobs, j)
	}
	return jobs, nil
}

// StdLong lists the jobs of the long form: all that StdPatterns name, and what is
// tormented.
func StdLong(ctx context.Context, o Options) ([]Job, error) {
	list, err := List(ctx, StdPatterns...)
	if err != nil {
		return nil, err
	}
	o.Timeout = stdLimit
	var jobs, tormented []Job
	for _, p := range list {
		r := Std[p.ImportPath]
		if r.None != "" {
			continue
		}
		j := Job{p, o}
		j.Short, j.Skip = r.Short != "", r.skip()
		jobs = append(jobs, j)
		if r.Torment != "" {
			j.Short, j.Torment, j.Run = true, true, r.Torment
			tormented = append(tormented, j)
		}
	}
	return append(jobs, tormented...), nil
}

// StdTable gives the text of docs/std-tests.md.
func StdTable() string {
	var b strings.Builder
	b.WriteString(stdHead)
	for _, p := range StdPatterns {
		fmt.Fprintf(&b, "- `%s`\n", p)
	}
	b.WriteString(stdTests)
	for _, path := range sortedStd() {
		if why := Std[path].None; why != "" {
			fmt.Fprintf(&b, "| %s | all | %s |\n", path, why)
		}
		for _, l := range Std[path].LeftOut {
			names := strings.Fields(l.Tests)
			fmt.Fprintf(&b, "| %s | %s | %s |\n", path, "`"+strings.Join(names, "` `")+"`", l.Why)
		}
	}
	b.WriteString(stdShortened)
	for _, path := range sortedStd() {
		if why := Std[path].Short; why != "" {
			fmt.Fprintf(&b, "| %s | %s |\n", path, why)
		}
	}
	b.WriteString(stdForms)
	for _, path := range sortedStd() {
		if r := Std[path]; r.Quick != "" || r.Torment != "" {
			fmt.Fprintf(&b, "| %s | %s | %s |\n", path, pattern(r.Quick), pattern(r.Torment))
		}
	}
	return b.String()
}

// pattern shows a pattern of tests in the table.
func pattern(p string) string {
	switch p {
	case "":
		return ""
	case ".":
		return "all"
	}
	return "`" + strings.ReplaceAll(p, "|", "` `") + "`"
}

func sortedStd() []string {
	var paths []string
	for path := range Std {
		paths = append(paths, path)
	}
	slices.Sort(paths)
	return paths
}

const stdHead = `# The standard library's tests on the board

The standard library's own tests run on the board, built from the unchanged
sources of the Go toolchain. This page is made from internal/metal/stdlist.go by
"go test ./internal/metal -run TestStdTable -update", and a test compares the two.

The long form runs the packages that these patterns name, and some of them once
more tormented: with an interrupt each 150 microseconds, and signals that preempt
goroutines injected.

`

const stdTests = `
## Tests left out

A test is left out where the board, on purpose, does not have what it is about.
No other test of these packages is left out, but for those that skip themselves:
they need another system, 64 bits, a Go toolchain, or more time than -short gives.

| package | tests | why |
|---|---|---|
`

const stdShortened = `
## Packages that the long form runs with -short

| package | why |
|---|---|
`

const stdForms = `
## The short form, and what is tormented

The short form is a selection, with -short, that covers scheduling, timers,
collection, memory and signals.

| package | short form | tormented (with -short) |
|---|---|---|
`
