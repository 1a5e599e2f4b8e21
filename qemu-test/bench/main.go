// Command bench measures the firmware and what it stands on, and Linux on the same
// emulated board beside it.
//
//	go run ./qemu-test/bench [AREA]...
//
// It prints one line a figure,
//
//	name value unit peer peer_value ratio
//
// ("-" where there is no peer), and writes the same fields to build/bench-board.json,
// or to build/bench-AREA.json when areas are named. The areas:
//
//	ground  traps, clock, scheduler, interrupts: in instructions, so the figures repeat
//	boot    from reset until the firmware is ready, without and with the whole chain of
//	        trust; its memory and its size
//	host    from power-on until the host is released
//	net     TCP throughput
//	card    SD card: transfers and requests a second, and instructions a request
//	api     what a request takes, and a TLS handshake
//
// What goes by the wall clock (Mbit/s, ms, MB/s, IOPS) depends on the machine and on what else
// runs there. So both sides run in turns, and what tells something is the ratio of
// their medians.
package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"nitro/internal/metal"
	"nitro/internal/peer"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// A bench is one run of the command.
type bench struct {
	root, build string // folders of the module and of what is built
	linux       string // the peer's name and version
	figures     []figure
}

func run(ctx context.Context, areas []string) error {
	root, err := metal.ModuleRoot(ctx)
	if err != nil {
		return err
	}
	b := bench{root: root, build: filepath.Join(root, "build")}
	if b.linux, err = linuxName(); err != nil {
		return err
	}
	if err := os.MkdirAll(b.build, 0o755); err != nil {
		return err
	}
	measures := map[string]func(context.Context) error{"ground": b.groundArea, "boot": b.bootArea, "host": b.hostArea, "net": b.netArea, "card": b.cardArea, "api": b.apiArea}
	out := strings.Join(areas, "-")
	if len(areas) == 0 {
		areas, out = []string{"ground", "boot", "host", "net", "card", "api"}, "board"
	}
	for _, area := range areas {
		measure, there := measures[area]
		if !there {
			return fmt.Errorf("no area %s: name some of %v, or none for all", area, slices.Sorted(maps.Keys(measures)))
		}
		if err := measure(ctx); err != nil {
			return err
		}
	}
	return b.write(filepath.Join(b.build, "bench-"+out+".json"))
}

// inTurn measures one thing after the other.
func inTurn(ctx context.Context, measures ...func(context.Context) error) error {
	for _, measure := range measures {
		if err := measure(ctx); err != nil {
			return err
		}
	}
	return nil
}

// linuxName gives the peer's name in figures, such as linux-6.12.95.
func linuxName() (string, error) {
	name, err := peer.Linux()
	if err != nil {
		return "", err
	}
	name, _, _ = strings.Cut(strings.TrimPrefix(name, "linux-image-"), "+")
	return "linux-" + name, nil
}
