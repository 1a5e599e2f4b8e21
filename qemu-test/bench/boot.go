package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"nitro/internal/insncount"
	"nitro/internal/metal"
	"nitro/internal/peer"
	"nitro/qemu-test/rack"
)

// What the firmware does and says when its API can be reached, and its status line half
// a minute later.
const (
	readyFunction = "main.announceReady"
	readyLine     = `controller: ready\r\n`
	memoryLine    = `controller: up \d+ s, .*?([\d.]+) MiB in use.*\r\n`
)

// idleFunction is what the kernel's idle thread runs (board/kernel): a DSB, and then a
// WFI and a branch for each interrupt that nobody was waiting for.
const idleFunction = "idle"

const (
	readyLimit  = 2 * time.Minute // for the firmware to be ready
	memoryLimit = 2 * time.Minute // from there to its line on memory
	bootRounds  = 5               // of what goes by the wall clock: odd
	countRounds = 3               // of what is counted, since the world outside takes part
)

// bootArea measures the firmware's way from reset until it is ready, beside Linux's
// until it runs its first process, which has then to begin with what the firmware has
// already done.
//
//	boot.to_https_ready       instructions, without those of the idle thread
//	boot.to_https_ready_wall  ms from the emulator's start
//	ram.idle                  bytes in use half a minute later, as the status line has
//	                          them (to 0.1 MiB); on Linux by nothing but its kernel, its
//	                          first process and one other
//	image.size                MiB of build/controller.elf, as make all leaves it
//
// The firmware is started by the emulator here, without bootloader and card, as its drivers,
// its network and its TLS take the same then; see chainArea for the whole.
func (b *bench) bootArea(ctx context.Context) error {
	return inTurn(ctx, b.bootInstructions, b.bootTime, b.imageSize, b.chainArea)
}

// bootInstructions counts both ways to readiness. Linux meets nothing outside, so the
// emulator's clock can go by instructions there, and one run is enough.
func (b *bench) bootInstructions(ctx context.Context) error {
	image, err := b.image(ctx, metal.Build{Symbols: true}, "./cmd/controller", "controller-symbols")
	if err != nil {
		return err
	}
	var counts []float64
	for range countRounds {
		n, err := b.toReady(ctx, image)
		if err != nil {
			return fmt.Errorf("boot.to_https_ready: %w", err)
		}
		counts = append(counts, float64(n))
	}
	theirs, err := b.toUser(ctx)
	if err != nil {
		return fmt.Errorf("boot.to_https_ready on Linux: %w", err)
	}
	b.report(figure{Name: "boot.to_https_ready", Value: median(counts), Unit: "instructions", Peer: b.linux, PeerValue: float64(theirs)})
	return nil
}

// toReady counts the firmware's instructions before readyFunction, but for the idle
// thread's.
func (b *bench) toReady(ctx context.Context, image string) (uint64, error) {
	symbols, err := insncount.ReadSymbols(image)
	if err != nil {
		return 0, err
	}
	ready, err := symbols.Address(readyFunction)
	if err != nil {
		return 0, err
	}
	if _, err := symbols.Address(idleFunction); err != nil {
		return 0, err
	}
	plugin, read, err := b.profiler(ctx, insncount.ProfileOptions{To: ready, Exact: true})
	if err != nil {
		return 0, err
	}
	board, _, err := startController(image, plugin...)
	if err != nil {
		return 0, err
	}
	board.Close() // the plugin writes its result then
	p, err := read()
	if err != nil {
		return 0, err
	}
	n := p.Total().Insns
	for _, f := range p.Functions(symbols) {
		if f.Name == idleFunction {
			n -= f.Insns
		}
	}
	return n, nil
}

// toUser counts Linux's instructions before the first one in User mode.
func (b *bench) toUser(ctx context.Context) (uint64, error) {
	plugin, err := insncount.Build(ctx, b.build)
	if err != nil {
		return 0, err
	}
	out := filepath.Join(b.build, "counts")
	if _, err := b.idleLinux(ctx, peer.Job{Icount: true, QEMUArgs: insncount.Args(plugin, out, insncount.Options{})}); err != nil {
		return 0, err
	}
	c, err := insncount.Read(out)
	return c.BeforeUser, err
}

// bootTime measures both ways on the wall clock, in turns, and how much memory is in
// use at their ends.
func (b *bench) bootTime(ctx context.Context) error {
	image := filepath.Join(b.build, "controller.elf")
	var ours, theirs []float64
	var memory, linuxMemory float64
	for range bootRounds {
		board, took, err := startController(image)
		if err != nil {
			return fmt.Errorf("boot.to_https_ready_wall: %w", err)
		}
		if memory == 0 {
			memory, err = idleMemory(board)
		}
		board.Close()
		if err != nil {
			return fmt.Errorf("ram.idle: %w", err)
		}
		r, err := b.idleLinux(ctx, peer.Job{})
		if err != nil {
			return fmt.Errorf("boot.to_https_ready_wall on Linux: %w", err)
		}
		ours, theirs = append(ours, ms(took)), append(theirs, ms(r.Began))
		linuxMemory = parse(string(r.Output))["ram.idle"]
	}
	b.report(figure{Name: "boot.to_https_ready_wall", Value: median(ours), Unit: "ms", Peer: b.linux, PeerValue: median(theirs)})
	b.report(figure{Name: "ram.idle", Value: memory, Unit: "bytes", Peer: b.linux, PeerValue: linuxMemory})
	return nil
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// startController starts the firmware, on a board with a TPM and with a network at both
// Ethernet ports, and waits until it is ready, which took so long (the start of the
// TPM's emulator included). Who calls it must close the board.
func startController(image string, further ...string) (*rack.Rack, time.Duration, error) {
	start := time.Now()
	board, err := rack.Start(rack.Config{Image: image, Nets: []rack.Net{{Cable: rack.User}, {Cable: rack.User}}, Args: further})
	if err != nil {
		return nil, 0, err
	}
	if _, err := board.Expect(readyLine, readyLimit); err != nil {
		board.Close()
		return nil, 0, err
	}
	return board, time.Since(start), nil
}

// idleMemory waits for the firmware's line on its memory, and gives the bytes.
func idleMemory(board *rack.Rack) (float64, error) {
	m, err := board.Expect(memoryLine, memoryLimit)
	if err != nil {
		return 0, err
	}
	mib, err := strconv.ParseFloat(m[1], 64)
	return mib * (1 << 20), err
}

// idleLinux runs the program idle on Linux.
func (b *bench) idleLinux(ctx context.Context, job peer.Job) (peer.Result, error) {
	job.Program = filepath.Join(b.build, "idle-linux")
	if err := b.linuxProgram(ctx, "./qemu-test/bench/idle", job.Program); err != nil {
		return peer.Result{}, err
	}
	r, err := peer.Run(ctx, job)
	if err == nil && r.ExitCode != 0 {
		err = fmt.Errorf("exit code %d: %s", r.ExitCode, r.Output)
	}
	return r, err
}

// imageSize states how large the firmware is as it is delivered.
func (b *bench) imageSize(context.Context) error {
	info, err := os.Stat(filepath.Join(b.build, "controller.elf"))
	if err != nil {
		return fmt.Errorf("image.size: %w: run make all", err)
	}
	b.report(figure{Name: "image.size", Value: float64(info.Size()) / (1 << 20), Unit: "MiB"})
	return nil
}
