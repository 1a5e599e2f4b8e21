// The command that tells where an image's instructions go: it runs the image on the
// emulated board under a plugin that counts how often each piece of code is executed,
// and prints the shares of functions and of Go packages.
//
//	go run ./internal/insncount/cmd [flags] IMAGE|PACKAGE [ARG]...
//
// IMAGE is an ELF file linked without -s. PACKAGE, a program's import path or a path
// such as ./qemu-test/images/hello, is built; with -test its tests and benchmarks
// are. Arguments reach only programs built here, which then have the tag boardtest.
// The board's console goes to standard output. When the emulator ends, when the time
// of -for is over, or at an interrupt (Ctrl-C), the profile follows:
//
//	profile: INSTRUCTIONS in N windows, SHARE in User mode
//	SHARE SUM USER INSTRUCTIONS NAME
//
// one line a function and then one line a package: its share of all instructions in
// per cent, the sum of the shares down to it, how much of its own instructions ran in
// User mode, their number, its name. Code that waits in WFI executes nothing.
//
// A window narrows it down: with -from alone all counts from that function's first
// execution on; with -from and -to each stretch from the one to the other; with -once
// only the first such stretch. Both take a function's name as the linker spells it
// ("main.serve", "nitro/board/kernel.(*kernel).trap") or an address (0x80012345).
//
// Examples:
//
//	go run ./internal/insncount/cmd -from main.main ./qemu-test/images/hello
//	go run ./internal/insncount/cmd -test crypto/sha256 -test.run '^$' -test.bench Hash8K
//	go run ./internal/insncount/cmd -for 30s -qemu -nic -qemu user,hostfwd=tcp:127.0.0.1:5201-:5201 build/iperf.elf
//
// For a board that a test starts, give its emulator insncount.ProfileArgs, and print
// what insncount.ReadProfile reads.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"nitro/internal/insncount"
	"nitro/internal/metal"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := command(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// A request is what the command line asks for.
type request struct {
	build    metal.Build
	test     bool
	from, to string
	o        insncount.ProfileOptions
	top      int
	m        metal.Machine
}

func parse(args []string) (*request, []string) {
	r := &request{build: metal.Build{Symbols: true}}
	f := flag.NewFlagSet("profile", flag.ExitOnError)
	f.StringVar(&r.from, "from", "", "`function` or address that opens the window")
	f.StringVar(&r.to, "to", "", "`function` or address that closes it")
	f.BoolVar(&r.o.Once, "once", false, "open the window once only")
	f.BoolVar(&r.o.Exact, "exact", false, "count each instruction by itself (about half as fast)")
	f.DurationVar(&r.m.Limit, "for", time.Minute, "`time` after which the emulator is ended")
	f.IntVar(&r.top, "top", 40, "`lines` of functions and of packages to print")
	f.BoolVar(&r.test, "test", false, "PACKAGE's tests instead of its program")
	f.Func("tags", "build `tags`, with commas", func(v string) error {
		r.build.Tags = append(r.build.Tags, strings.Split(v, ",")...)
		return nil
	})
	f.Func("qemu", "further `argument` for the emulator; once for each", func(v string) error {
		r.m.QEMUArgs = append(r.m.QEMUArgs, v)
		return nil
	})
	icount := f.Bool("icount", false, "virtual time counts instructions; idle time is skipped")
	f.Parse(args)
	if *icount {
		r.m.QEMUArgs = append(r.m.QEMUArgs, "-icount", "shift=0,sleep=off")
	}
	return r, f.Args()
}

func command(ctx context.Context, args []string) error {
	r, rest := parse(args)
	if len(rest) == 0 {
		return errors.New("profile: name an image or a package; -help lists the flags")
	}
	dir, err := os.MkdirTemp("", "profile-")
	if err != nil {
		return fmt.Errorf("profile: %w", err)
	}
	defer os.RemoveAll(dir)
	if err := r.prepare(ctx, dir, rest[0], rest[1:]); err != nil {
		return err
	}
	symbols, err := insncount.ReadSymbols(r.m.Image)
	if err != nil {
		return err
	}
	if err := errors.Join(locate(symbols, r.from, &r.o.From), locate(symbols, r.to, &r.o.To)); err != nil {
		return err
	}
	profile, err := r.run(ctx, dir)
	if err != nil {
		return err
	}
	if profile.Windows == 0 {
		return fmt.Errorf("profile: %s was never executed", r.from)
	}
	write(os.Stdout, profile, symbols, r.top)
	return nil
}

// prepare finds the image that was named, or builds it.
func (r *request) prepare(ctx context.Context, dir, what string, args []string) error {
	if info, err := os.Stat(what); err == nil && info.Mode().IsRegular() {
		if len(args) > 0 || r.test {
			return fmt.Errorf("profile: %s is an image: arguments and -test go with a package", what)
		}
		r.m.Image = what
		return nil
	}
	r.build.Test = r.test || len(args) > 0
	r.m.Image = filepath.Join(dir, "image.elf")
	r.m.Args = append([]string{what}, args...)
	if !r.test {
		return r.build.Image(ctx, what, r.m.Image)
	}
	packages, err := metal.List(ctx, what)
	if err != nil {
		return err
	}
	if len(packages) != 1 {
		return fmt.Errorf("profile: %s is %d packages: name one", what, len(packages))
	}
	r.m.Dir = packages[0].Dir
	r.m.Image, err = r.build.TestImage(ctx, packages[0])
	return err
}

// locate reads a function's name or an address.
func locate(s *insncount.Symbols, text string, to *uint32) (err error) {
	if strings.HasPrefix(text, "0x") {
		v, err := strconv.ParseUint(text, 0, 32)
		*to = uint32(v)
		return err
	}
	if text != "" {
		*to, err = s.Address(text)
	}
	return err
}

// run runs the image to its end, or until it is told to end. How it ended does not
// matter as long as there is a profile.
func (r *request) run(ctx context.Context, dir string) (insncount.Profile, error) {
	plugin, err := insncount.BuildProfiler(ctx, dir)
	if err != nil {
		return insncount.Profile{}, err
	}
	out := filepath.Join(dir, "profile")
	r.m.QEMUArgs = append(r.m.QEMUArgs, insncount.ProfileArgs(plugin, out, r.o)...)
	r.m.Console = os.Stdout
	res, ended := metal.Run(ctx, r.m)
	p, err := insncount.ReadProfile(out)
	if err != nil {
		return p, errors.Join(err, ended)
	}
	fmt.Printf("\nprofile: the emulator ran for %v\n", res.Took.Round(time.Millisecond))
	return p, nil
}

// write prints the shares.
func write(w io.Writer, p insncount.Profile, s *insncount.Symbols, top int) {
	total := p.Total()
	fmt.Fprintf(w, "profile: %d instructions in %d windows, %.1f %% in User mode\n",
		total.Insns, p.Windows, percent(total.User, total.Insns))
	for _, list := range []struct {
		what   string
		shares []insncount.Share
	}{{"function", p.Functions(s)}, {"package", p.Packages(s)}} {
		fmt.Fprintf(w, "\n%7s %7s %7s %15s %s\n", "share", "sum", "user", "instructions", list.what)
		sum := uint64(0)
		for _, f := range list.shares[:min(top, len(list.shares))] {
			sum += f.Insns
			fmt.Fprintf(w, "%6.2f%% %6.2f%% %6.1f%% %15d %s\n",
				percent(f.Insns, total.Insns), percent(sum, total.Insns), percent(f.User, f.Insns), f.Insns, f.Name)
		}
	}
}

func percent(part, whole uint64) float64 {
	if whole == 0 {
		return 0
	}
	return 100 * float64(part) / float64(whole)
}
