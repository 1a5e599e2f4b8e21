// The command behind make peer: it sets up the Linux peer of the emulated board
// and runs programs on it.
//
//	go run ./internal/peer/cmd setup [-suite SUITE] [-host] [-update]
//	go run ./internal/peer/cmd run [-icount] [-limit TIME] [-console] [-network] [-forward HERE:GUEST]... [-module NAME]... [-env KEY=value]... [-qemu ARG]... PROGRAM [ARG]...
//
// PROGRAM is a linux/arm program: a static one, or one whose libraries are among
// those of Debian that setup has put under build/peer/debian, as its iperf3 is. Its
// output goes to standard output, its exit code becomes the command's (a signal's
// number plus 128 when one ended it).
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"nitro/internal/peer"
)

const usage = `usage:
  peer setup [-suite SUITE] [-host] [-update]
  peer run [-icount] [-limit TIME] [-console] [-network] [-forward HERE:GUEST]... [-module NAME]... [-env KEY=value]... [-qemu ARG]... PROGRAM [ARG]...`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	code, err := command(ctx, os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = max(code, 1)
	}
	os.Exit(code)
}

// command carries out one command line and gives the exit code.
func command(ctx context.Context, args []string) (int, error) {
	if len(args) == 0 {
		return 2, errors.New(usage)
	}
	switch args[0] {
	case "setup":
		return 0, setup(ctx, args[1:])
	case "run":
		return run(ctx, args[1:])
	}
	return 2, errors.New(usage)
}

func setup(ctx context.Context, args []string) error {
	o := peer.Options{Log: os.Stderr}
	f := flag.NewFlagSet("peer setup", flag.ExitOnError)
	f.StringVar(&o.Suite, "suite", peer.Suite, "Debian `suite` of the kernel")
	f.BoolVar(&o.Host, "host", false, "set up the rack's x86 host alone")
	f.BoolVar(&o.Update, "update", false, "look for a newer kernel")
	f.Parse(args)
	if f.NArg() > 0 {
		return errors.New(usage)
	}
	return peer.Setup(ctx, o)
}

func run(ctx context.Context, args []string) (int, error) {
	var job peer.Job
	f := flag.NewFlagSet("peer run", flag.ExitOnError)
	f.BoolVar(&job.Icount, "icount", false, "virtual time counts instructions")
	f.DurationVar(&job.Limit, "limit", peer.DefaultLimit, "of wall-clock `time`")
	console := f.Bool("console", false, "show the kernel's and the emulator's messages on standard error afterwards")
	list := func(to *[]string) func(string) error {
		return func(v string) error { *to = append(*to, v); return nil }
	}
	f.Func("module", "`name` of a kernel module to load first", list(&job.Modules))
	f.Func("env", "`KEY=value` for the program's environment", list(&job.Env))
	f.BoolVar(&job.Network, "network", false, "bring the first Ethernet port up first")
	f.Func("forward", "`HERE:GUEST`, a TCP port of this machine that leads to one of the guest", func(v string) error {
		var here, there int
		if _, err := fmt.Sscanf(v, "%d:%d", &here, &there); err != nil {
			return err
		}
		if job.Forward == nil {
			job.Forward = make(map[int]int)
		}
		job.Forward[here] = there
		return nil
	})
	f.Func("qemu", "`argument` for the emulator", list(&job.QEMUArgs))
	f.Parse(args)
	if f.NArg() == 0 {
		return 2, errors.New(usage)
	}
	job.Program, job.Args = f.Arg(0), f.Args()[1:]
	res, err := peer.Run(ctx, job)
	if *console {
		os.Stderr.Write(res.Console)
		os.Stderr.Write(res.Emulator)
	}
	if err != nil {
		return 1, err
	}
	os.Stdout.Write(res.Output)
	if res.Signal != 0 {
		return 128 + res.Signal, fmt.Errorf("peer: %s: ended by signal %d", job.Program, res.Signal)
	}
	return res.ExitCode, nil
}
