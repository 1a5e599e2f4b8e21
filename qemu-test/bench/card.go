package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"nitro/internal/metal"
	"nitro/internal/peer"
)

const (
	cardRuns = 3        // of each, by turns
	cardSize = 64 << 20 // bytes
)

// cardModules are those that Linux reads a card with; the fuses and GPIO are its device
// tree's wish.
var cardModules = []string{"nvmem-imx-ocotp", "gpio-mxc", "sdhci-esdhc-imx", "mmc_block"}

// A cardBench runs the one program that measures a card, on the bare board and on Linux.
type cardBench struct {
	dir, image, linux string
}

// cardArea measures an SD card by the wall clock, and what a request of 4 KiB takes of
// the processor.
func (b *bench) cardArea(ctx context.Context) error {
	const program = "./qemu-test/bench/sd"
	c := cardBench{dir: b.build, linux: filepath.Join(b.build, "sd-linux")}
	var err error
	if c.image, err = b.image(ctx, metal.Build{Tags: []string{"board"}, Test: true}, program, "sd"); err != nil {
		return err
	}
	if err := b.linuxProgram(ctx, program, c.linux); err != nil {
		return err
	}
	var ours, theirs [][]figure
	for range cardRuns {
		o, t, err := c.pair(ctx, false)
		if err != nil {
			return err
		}
		ours, theirs = append(ours, o), append(theirs, t)
	}
	for i, f := range ours[0] {
		f.Value, f.Peer, f.PeerValue = median(column(ours, i)), b.linux, median(column(theirs, i))
		b.report(f)
	}
	counted, theirCounted, err := c.pair(ctx, true)
	if err != nil {
		return err
	}
	for i, f := range counted {
		if f.Unit == "IOPS" { // of a second in which each nanosecond is an instruction
			b.report(figure{Name: f.Name + "_instructions", Value: 1e9 / f.Value, Unit: "instructions", Peer: b.linux, PeerValue: 1e9 / theirCounted[i].Value})
		}
	}
	return nil
}

// pair runs both once, each on a card of its own. With counted, virtual time counts
// instructions.
func (c *cardBench) pair(ctx context.Context, counted bool) (ours, theirs []figure, err error) {
	file := filepath.Join(c.dir, "sd.img")
	drive := []string{"-drive", "if=sd,index=0,format=raw,file=" + file}
	if err := freshCard(file); err != nil {
		return nil, nil, err
	}
	m := metal.Machine{Image: c.image, Args: []string{"sd"}, Dir: c.dir, QEMUArgs: drive}
	if counted {
		m.QEMUArgs = append(m.QEMUArgs, icount...)
	}
	r, err := metal.Run(ctx, m)
	if ours = parseOrder(string(r.Console)); err != nil || r.ExitCode != 0 || len(ours) == 0 {
		return nil, nil, fmt.Errorf("sd on the board: exit code %d, %w\n%s", r.ExitCode, err, r.Console)
	}
	if err := freshCard(file); err != nil {
		return nil, nil, err
	}
	p, err := peer.Run(ctx, peer.Job{Program: c.linux, Modules: cardModules, QEMUArgs: drive, Icount: counted})
	if theirs = parseOrder(string(p.Output)); err != nil || p.ExitCode != 0 || len(theirs) != len(ours) {
		return nil, nil, fmt.Errorf("sd on Linux: exit code %d, %w\n%s", p.ExitCode, err, p.Output)
	}
	return ours, theirs, os.Remove(file)
}

// freshCard makes a card's image anew.
func freshCard(file string) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	return errors.Join(f.Truncate(cardSize), f.Close())
}

// column gives figure i of all runs.
func column(runs [][]figure, i int) (values []float64) {
	for _, r := range runs {
		values = append(values, r[i].Value)
	}
	return values
}
