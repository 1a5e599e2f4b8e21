package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"nitro/boot/config"
	"nitro/internal/insncount"
	"nitro/qemu-test/factory"
	"nitro/resetctl/firmware"
)

// What the firmware does and says when the host runs.
const (
	runsFunction = "main.announceRuns"
	runsLine     = `controller: host: cycle \d+: running\r\n`
)

// hostArea measures the way from power-on until the host is released: the whole boot chain,
// and a host cycle that finds the flash as it should be (docs/firmware.md, "A cycle": it is
// hashed twice). All of the flash is static; it is read from an SD card, and the host
// has power. Linux has nothing that would be beside it. How many instructions SHA-256 takes a
// byte is in make bench-sha256.
//
//	host.release_4m, host.release_16m            instructions, without those of the idle threads,
//	                                             for a flash of 4 and of 16 MiB
//	host.release_4m_wall, host.release_16m_wall  ms from the emulator's start
func (b *bench) hostArea(ctx context.Context) error {
	c, err := b.provisioned(ctx, func(c *config.Config) { c.Host = &config.Host{Product: factory.HostProduct} })
	if err != nil {
		return err
	}
	defer os.RemoveAll(c.folder)
	for _, mib := range []int64{4, 16} {
		if err := b.hostRelease(ctx, c, mib); err != nil {
			return fmt.Errorf("host.release_%dm: %w", mib, err)
		}
	}
	return nil
}

// hostRelease measures with a flash of so many MiB.
func (b *bench) hostRelease(ctx context.Context, c *chain, mib int64) error {
	size := mib << 20
	data := make([]byte, size)
	rand.NewChaCha8([32]byte{byte(mib)}).Read(data)
	flash := &factory.Flash{Data: data, Manifest: firmware.Manifest{
		Part: firmware.Host, Host: factory.HostProduct, Version: fmt.Sprintf("%d-mib", mib), SecurityVersion: 1, Size: size, Erase: 4 << 10,
		Regions: []firmware.Region{{Name: "code", Length: size, Kind: firmware.Static}},
	}}
	c.flash = filepath.Join(c.folder, fmt.Sprintf("flash-%d.img", mib))
	if err := factory.FlashCard(c.flash, flash); err != nil {
		return err
	}
	if err := c.factory.Deliver(c.card, flash); err != nil {
		return err
	}
	if _, err := c.release(); err != nil { // installs, and verifies for the first time
		return err
	}
	var counts, times []float64
	for range countRounds {
		n, err := b.hostInstructions(ctx, c)
		if err != nil {
			return err
		}
		took, err := c.release()
		if err != nil {
			return err
		}
		counts, times = append(counts, n), append(times, ms(took))
	}
	b.report(figure{Name: fmt.Sprintf("host.release_%dm", mib), Value: median(counts), Unit: "instructions"})
	b.report(figure{Name: fmt.Sprintf("host.release_%dm_wall", mib), Value: median(times), Unit: "ms"})
	return nil
}

// release boots the board until its host runs, and says how long that took. The slot is
// proven by then or later, so that the next boot is like this one.
func (c *chain) release(further ...string) (time.Duration, error) {
	board, start, err := c.on(further...)
	if err != nil {
		return 0, err
	}
	defer board.Close()
	if _, err := board.Expect(runsLine, chainLimit); err != nil {
		return 0, err
	}
	took := time.Since(start)
	if !regexp.MustCompile(provenLine).Match(board.Console()) {
		_, err = board.Expect(provenLine, chainLimit)
	}
	return took, err
}

// hostInstructions counts those of both images up to runsFunction.
func (b *bench) hostInstructions(ctx context.Context, c *chain) (float64, error) {
	controller, err := insncount.ReadSymbols(c.controller)
	if err != nil {
		return 0, err
	}
	bootloader, err := insncount.ReadSymbols(c.bootloader)
	if err != nil {
		return 0, err
	}
	runs, err := controller.Address(runsFunction)
	if err != nil {
		return 0, err
	}
	plugin, read, err := b.profiler(ctx, insncount.ProfileOptions{To: runs, Exact: true})
	if err != nil {
		return 0, err
	}
	if _, err := c.release(plugin...); err != nil {
		return 0, err
	}
	p, err := read()
	if err != nil {
		return 0, err
	}
	n := p.Total().Insns
	for _, symbols := range []*insncount.Symbols{bootloader, controller} {
		for _, f := range p.Functions(symbols) {
			if f.Name == idleFunction {
				n -= f.Insns
			}
		}
	}
	return float64(n), nil
}
