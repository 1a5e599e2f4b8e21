package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"nitro/boot/config"
	"nitro/boot/release"
	"nitro/internal/insncount"
	"nitro/internal/metal"
	"nitro/internal/peer"
	"nitro/qemu-test/factory"
	"nitro/qemu-test/rack"
)

// What the whole chain says when a boot has ended, and when it has been provisioned.
const (
	offeredLine = `controller: provisioning is offered on port \d+\r\n`
	provenLine  = `controller: slot A is proven; [^\r]*\r\n`
	chainLimit  = 10 * time.Minute
)

// chainArea measures the whole way from power-on until the API can be reached: bootloader
// and controller from the card, verified, measured, the store unsealed; with the product's
// own programs, and a provisioned TPM. Linux's way is that until its kernel's NVMe/TCP
// target listens.
//
//	boot.power_on_to_https       instructions, without those of the idle threads
//	boot.phase.IMAGE.NAME        instructions of a phase, as the boot log has them where
//	                             the emulator counts
//	boot.power_on_to_https_wall  ms from the emulator's start
//	image.bootloader             MiB of build/bootloader.elf, as make all leaves it
func (b *bench) chainArea(ctx context.Context) error {
	c, err := b.provisioned(ctx, nil)
	if err != nil {
		return err
	}
	defer os.RemoveAll(c.folder)
	if err := b.chainInstructions(ctx, c); err != nil {
		return err
	}
	if err := b.chainPhases(c); err != nil {
		return err
	}
	if err := b.chainTime(ctx, c); err != nil {
		return err
	}
	info, err := os.Stat(filepath.Join(b.build, "bootloader.elf"))
	if err != nil {
		return fmt.Errorf("image.bootloader: %w: run make all", err)
	}
	b.report(figure{Name: "image.bootloader", Value: float64(info.Size()) / (1 << 20), Unit: "MiB"})
	return nil
}

// A chain is a provisioned board: its programs with symbols, its card and its TPM, and the
// card that stands in for its host's flash, if it has a host.
type chain struct {
	folder, bootloader, controller, card, tpm, flash string
	factory                                          *factory.Factory
}

// provisioned makes a board and takes it through the factory, with a configuration that
// change may change.
func (b *bench) provisioned(ctx context.Context, change func(*config.Config)) (*chain, error) {
	folder, err := os.MkdirTemp(b.build, "chain-")
	if err != nil {
		return nil, err
	}
	c := &chain{folder: folder, card: filepath.Join(folder, "card.img"), tpm: filepath.Join(folder, "tpm")}
	if c.bootloader, err = b.image(ctx, metal.Build{Symbols: true, Bootloader: true}, "./cmd/bootloader", "bootloader-symbols"); err != nil {
		return nil, err
	}
	if c.controller, err = b.image(ctx, metal.Build{Symbols: true}, "./cmd/controller", "controller-symbols"); err != nil {
		return nil, err
	}
	f, err := factory.New()
	if err != nil {
		return nil, err
	}
	r, err := f.Release(c.bootloader, c.controller, factory.Version{Name: "bench", Security: 1})
	if err != nil {
		return nil, err
	}
	c.factory = f
	configuration, err := f.Configuration(1, change)
	if err != nil {
		return nil, err
	}
	if err := f.Card(c.card, configuration, r); err != nil {
		return nil, err
	}
	if err := factory.MakeTPM(c.tpm); err != nil {
		return nil, err
	}
	return c, c.throughFactory(ctx, f, r)
}

// throughFactory provisions the board and lets it boot once more.
func (c *chain) throughFactory(ctx context.Context, f *factory.Factory, r *release.Release) error {
	board, _, err := c.on()
	if err != nil {
		return err
	}
	defer board.Close()
	if _, err := board.Expect(offeredLine, chainLimit); err != nil {
		return err
	}
	address, err := board.Address(4430)
	if err != nil {
		return err
	}
	makers, err := factory.Makers(c.tpm)
	if err != nil {
		return err
	}
	if _, err := f.Provision(ctx, factory.Provisioning{Address: address, Makers: makers, Releases: []*release.Release{r}}); err != nil {
		return err
	}
	_, err = board.Expect(provenLine, chainLimit)
	return err
}

// on switches the board on. Who calls it must close the rack.
func (c *chain) on(further ...string) (*rack.Rack, time.Time, error) {
	start := time.Now()
	board, err := rack.Start(rack.Config{
		TPMState: c.tpm, Cards: [2]string{c.card, c.flash}, Args: further, Expander: true, Wires: rack.HostWires(), Hold: true,
		Nets: []rack.Net{{Cable: rack.User, Forward: map[int]int{httpsPort: 0, 4430: 0}}, {Cable: rack.User}},
	})
	if err != nil {
		return nil, start, err
	}
	// The host has power all the time.
	if err := errors.Join(board.Pins.Drive(rack.PowerGood, false), board.QMP.Continue()); err != nil {
		board.Close()
		return nil, start, err
	}
	return board, start, nil
}

// boot boots the board until its slot is proven, so that the next boot is like this one,
// and says how long it took until the API was ready.
func (c *chain) boot(further ...string) (console []byte, took time.Duration, err error) {
	board, start, err := c.on(further...)
	if err != nil {
		return nil, 0, err
	}
	defer board.Close()
	if _, err := board.Expect(readyLine, chainLimit); err != nil {
		return nil, 0, err
	}
	took = time.Since(start)
	_, err = board.Expect(provenLine, chainLimit)
	return board.Console(), took, err
}

// chainInstructions counts those of both images, up to the controller's readyFunction.
func (b *bench) chainInstructions(ctx context.Context, c *chain) error {
	controller, err := insncount.ReadSymbols(c.controller)
	if err != nil {
		return err
	}
	bootloader, err := insncount.ReadSymbols(c.bootloader)
	if err != nil {
		return err
	}
	ready, err := controller.Address(readyFunction)
	if err != nil {
		return err
	}
	var counts []float64
	for range countRounds {
		plugin, read, err := b.profiler(ctx, insncount.ProfileOptions{To: ready, Exact: true})
		if err != nil {
			return err
		}
		if _, _, err := c.boot(plugin...); err != nil {
			return fmt.Errorf("boot.power_on_to_https: %w", err)
		}
		p, err := read()
		if err != nil {
			return err
		}
		n := p.Total().Insns
		for _, symbols := range []*insncount.Symbols{bootloader, controller} {
			for _, f := range p.Functions(symbols) {
				if f.Name == idleFunction {
					n -= f.Insns
				}
			}
		}
		counts = append(counts, float64(n))
	}
	b.report(figure{Name: "boot.power_on_to_https", Value: median(counts), Unit: "instructions"})
	return nil
}

// phaseLine is a phase in the boot log of an emulator that counts.
var phaseLine = regexp.MustCompile(`(bootloader|controller): phase (.*?) +[\d.]+ ms, ([\d.]+) M instructions`)

// chainPhases reads what each phase takes from the board's own log.
func (b *bench) chainPhases(c *chain) error {
	console, _, err := c.boot("-icount", "shift=0")
	if err != nil {
		return fmt.Errorf("boot.phase: %w", err)
	}
	phases := phaseLine.FindAllSubmatch(console, -1)
	if len(phases) == 0 {
		return fmt.Errorf("boot.phase: the boot log has no phases:\n%s", console)
	}
	for _, m := range phases {
		n, err := strconv.ParseFloat(string(m[3]), 64)
		if err != nil {
			return fmt.Errorf("boot.phase: %q: %w", m[0], err)
		}
		name := strings.ReplaceAll(string(m[2]), " ", "_")
		b.report(figure{Name: fmt.Sprintf("boot.phase.%s.%s", m[1], name), Value: n * 1e6, Unit: "instructions"})
	}
	return nil
}

// chainTime measures both sides on the wall clock, in turns.
func (b *bench) chainTime(ctx context.Context, c *chain) error {
	var ours, theirs []float64
	for range bootRounds {
		_, took, err := c.boot()
		if err != nil {
			return fmt.Errorf("boot.power_on_to_https_wall: %w", err)
		}
		linux, err := b.linuxTarget(ctx)
		if err != nil {
			return fmt.Errorf("boot.power_on_to_https_wall on Linux: %w", err)
		}
		ours, theirs = append(ours, ms(took)), append(theirs, ms(linux))
	}
	b.report(figure{Name: "boot.power_on_to_https_wall", Value: median(ours), Unit: "ms", Peer: b.linux, PeerValue: median(theirs)})
	return nil
}

// linuxTarget boots Linux until its NVMe/TCP target listens.
func (b *bench) linuxTarget(ctx context.Context) (time.Duration, error) {
	program := filepath.Join(b.build, "nvmet-linux")
	if err := b.linuxProgram(ctx, "./qemu-test/bench/nvmet", program); err != nil {
		return 0, err
	}
	w := &watcher{start: time.Now(), word: []byte("nvmet: listening")}
	r, err := peer.Run(ctx, peer.Job{Program: program, Modules: []string{"configfs", "nvmet", "nvmet-tcp"}, Network: true, Live: w})
	if err == nil && r.ExitCode != 0 {
		err = fmt.Errorf("exit code %d: %s", r.ExitCode, r.Output)
	}
	if err == nil && w.took == 0 {
		err = fmt.Errorf("it never listened: %s", r.Output)
	}
	return w.took, err
}

// A watcher notes when a word comes for the first time.
type watcher struct {
	start time.Time
	word  []byte

	mu   sync.Mutex
	said []byte
	took time.Duration
}

func (w *watcher) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.said = append(w.said, p...)
	if w.took == 0 && bytes.Contains(w.said, w.word) {
		w.took = time.Since(w.start)
	}
	return len(p), nil
}
