// The command that runs tests on the emulated board.
//
//	go run ./internal/metal/cmd [flags] packages...
//	go run ./internal/metal/cmd [flags] -std [packages...]
//
// It builds each package's tests as an image for the board, runs them in a few
// emulators, and ends with a line such as "12 passed, 0 failed". Its exit code
// is 1 when a test failed. With -std it runs the standard library's tests as
// docs/std-tests.md says, with -short too that page's short form; packages that
// are named narrow it down to them.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"nitro/internal/metal"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	report, err := command(ctx, os.Args[1:])
	if report != (metal.Report{}) {
		fmt.Println(report)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	if err != nil || report.Failed > 0 {
		os.Exit(1)
	}
}

func command(ctx context.Context, args []string) (metal.Report, error) {
	o := metal.Options{Log: os.Stdout}
	f := flag.NewFlagSet("metal", flag.ExitOnError)
	f.StringVar(&o.Run, "run", "", "run only the tests that match this `pattern`")
	f.StringVar(&o.Skip, "skip", "", "leave out the tests that match this `pattern`")
	f.BoolVar(&o.Short, "short", false, "tell the tests to be short")
	f.BoolVar(&o.Verbose, "v", false, "show all that the tests print")
	f.DurationVar(&o.Timeout, "timeout", metal.DefaultTimeout, "`limit` of one package's tests")
	f.IntVar(&o.Jobs, "j", metal.DefaultJobs, "`emulators` at a time")
	f.BoolVar(&o.Torment, "torment", false, "interrupt every 150 us and inject SIGURG")
	f.Func("env", "`KEY=value` for the tests' environment", func(v string) error {
		o.Env = append(o.Env, v)
		return nil
	})
	standard := f.Bool("std", false, "run the standard library's tests, with -short their short form")
	f.Parse(args)
	switch {
	case *standard && o.Skip != "":
		return metal.Report{}, errors.New("metal: -skip beside -std: what is left out stands in internal/metal/stdlist.go, with its reason")
	case *standard:
		return std(ctx, o, f.Args())
	case f.NArg() == 0:
		return metal.Report{}, errors.New("metal: no packages named: name some, such as ./... or sync")
	}
	return metal.Test(ctx, o, f.Args()...)
}

// std runs one form of the standard library's tests, of all packages or of some.
func std(ctx context.Context, o metal.Options, paths []string) (metal.Report, error) {
	list := metal.StdLong
	if o.Short {
		list = metal.StdShort
	}
	jobs, err := list(ctx, o)
	if err != nil {
		return metal.Report{}, err
	}
	if len(paths) > 0 {
		jobs = slices.DeleteFunc(jobs, func(j metal.Job) bool { return !slices.Contains(paths, j.Package.ImportPath) })
	}
	if len(jobs) == 0 {
		return metal.Report{}, fmt.Errorf("metal: this form of -std has none of the packages %q: name some of docs/std-tests.md", paths)
	}
	return metal.RunJobs(ctx, o, jobs)
}
