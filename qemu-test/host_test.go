//go:build !arm

package qemutest

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"nitro/attest/eventlog"
	"nitro/attest/golden"
	"nitro/boot/card"
	"nitro/boot/config"
	"nitro/boot/medium"
	"nitro/internal/tied"
	"nitro/net/policy"
	"nitro/qemu-test/factory"
	"nitro/qemu-test/rack"
	"nitro/resetctl/firmware"
	"nitro/resetctl/firmware/cardflash"
)

// guarded is what a board that guards a host has beside a provisionedParts.
type guardedParts struct {
	board     *trustedBoard
	host, bmc *factory.Flash
	contents  rack.Sectors // of the board's card: where the golden copies' contents lie, in part
}

var (
	guardOnce sync.Once
	guardedAs guardedParts
)

// hostLimit is how long a board may take from power-on to a host that runs.
const hostLimit = 3 * time.Minute

// makeGuarded makes a provisioned board one that guards a host, and boots it once: the
// golden copies are installed, and the host was released. TestHostReleased looks on.
func makeGuarded(t *testing.T) *guardedParts {
	t.Helper()
	guardOnce.Do(func() {
		b := newProvisioned(t)
		host, bmc, err := factory.HostFirmware()
		must(t, err)
		b.flash = filepath.Join(filepath.Dir(b.card), "flash.img")
		must(t, factory.FlashCard(b.flash, host, bmc), b.factory.Deliver(b.card, host, bmc))
		b.reconfigure(2, factory.Guard)
		before := filepath.Join(filepath.Dir(b.card), "before.img")
		must(t, rack.CopyCard(before, b.card))
		g := guardedParts{host: host, bmc: bmc}
		b.on(nil)
		b.released(t, &g)
		b.off()
		g.contents = longest(t, before, b.card)
		folder, err := tied.NewFolder("nitro-guarded-")
		must(t, err)
		kept := *b
		kept.card, kept.tpm, kept.flash = folder.Join("card.img"), folder.Join("tpm"), folder.Join("flash.img")
		must(t, rack.CopyCard(kept.card, b.card), rack.CopyCard(kept.flash, b.flash), os.CopyFS(kept.tpm, os.DirFS(b.tpm)))
		g.board = &kept
		guardedAs = g
	})
	if guardedAs.board == nil {
		t.Fatal("the board with a host that all tests share could not be made")
	}
	return &guardedAs
}

// reconfigure signs the configuration of an epoch and writes it to the card.
func (b *trustedBoard) reconfigure(epoch uint64, change func(*config.Config)) {
	b.t.Helper()
	signed, err := b.factory.Configuration(epoch, change)
	must(b.t, err)
	file, err := card.Open(b.card, true)
	must(b.t, err)
	defer file.Close()
	anchors, err := b.factory.Keys.Anchors()
	must(b.t, err, config.Write(file, signed, config.Want{Product: factory.Product, Anchors: anchors, Epoch: epoch - 1}))
}

// longest is the longest run of sectors within the store in which two cards differ.
func longest(t *testing.T, a, b string) (best rack.Sectors) {
	t.Helper()
	runs, err := rack.CompareCards(a, b)
	must(t, err)
	for _, r := range runs {
		at := r.First * rack.SectorSize
		if at >= medium.Store.Offset && at < medium.Store.Offset+medium.Store.Size && r.Count > best.Count {
			best = r
		}
	}
	return best
}

// newGuarded makes a board that guards a host: a copy of one that all tests of a run share.
func newGuarded(t *testing.T) *trustedBoard {
	t.Helper()
	kept := makeGuarded(t).board
	folder, b := t.TempDir(), *kept
	b.t, b.card, b.tpm, b.flash = t, filepath.Join(folder, "card.img"), filepath.Join(folder, "tpm"), filepath.Join(folder, "flash.img")
	must(t, rack.CopyCard(b.card, kept.card), rack.CopyCard(b.flash, kept.flash), os.CopyFS(b.tpm, os.DirFS(kept.tpm)))
	return &b
}

// chip opens the host's chip on the second card.
func (b *trustedBoard) chip(do func(c *cardflash.Chip, f *os.File)) {
	b.t.Helper()
	d, err := card.Open(b.flash, false)
	must(b.t, err)
	defer d.Close()
	c, err := cardflash.Open(d, firmware.Host)
	must(b.t, err)
	f, err := os.OpenFile(b.flash, os.O_RDWR, 0)
	must(b.t, err)
	defer f.Close()
	do(c, f)
}

// spoil changes bytes of the host's flash from outside, protected or not.
func (b *trustedBoard) spoil(offsets ...int64) {
	b.t.Helper()
	b.chip(func(c *cardflash.Chip, f *os.File) {
		for _, at := range offsets {
			var one [1]byte
			_, err := f.ReadAt(one[:], c.Offset()+at)
			must(b.t, err)
			one[0] ^= 0x40
			_, err = f.WriteAt(one[:], c.Offset()+at)
			must(b.t, err)
		}
	})
}

// hostSet is the firmware that the host may run.
func (g *guardedParts) hostSet(t *testing.T, f *factory.Factory) *golden.HostSet {
	t.Helper()
	set, err := f.HostSet(g.host, g.bmc)
	must(t, err)
	return set
}

// released waits until the host runs, and sees that it runs from what was verified, that the
// lines were let go in the order that keeps everybody from the flash, and that evidence
// says all of that. It gives the host's boot and what evidence has of it.
func (b *trustedBoard) released(t *testing.T, g *guardedParts) (*rack.Boot, *golden.HostCycle) {
	t.Helper()
	return b.releasedSince(t, g, len(b.Pins.Changes()))
}

// releasedSince is released, of the changes of lines from a number on.
func (b *trustedBoard) releasedSince(t *testing.T, g *guardedParts, seen int) (*rack.Boot, *golden.HostCycle) {
	t.Helper()
	b.says(`controller: host: cycle \d+: running`)
	boot, err := b.Host.AwaitRunning(hostLimit)
	must(t, err)
	if want := sha256.Sum256(g.host.Data); boot.Digest != want {
		t.Errorf("the host runs from flash with SHA-256 %x, and verified was %x", boot.Digest, want)
	}
	b.inOrder(t, seen)
	if _, err := boot.Machine.Expect(`BdsDxe: starting Boot0001 [^\r]*\r\n`, hostLimit); err != nil {
		t.Error(err)
	}
	if s := b.status(); s.State != "in service" || s.Host.State != "running" || !s.Host.Running || !s.Host.Power || s.Host.Code != 0 {
		t.Errorf("it is %+v", s)
	}
	r, err := b.evidence(g.hostSet(t, b.factory))
	if err != nil {
		t.Fatal(err)
	}
	return boot, r.Facts.Host
}

// inOrder sees that of the changes from a number on, the host's processor was let go last,
// with the protection held. (The rack samples the lines, so it cannot tell the order of
// those that change within some milliseconds.)
func (b *trustedBoard) inOrder(t *testing.T, from int) {
	t.Helper()
	var order []string
	names := map[string]string{}
	for _, w := range rack.HostWires() {
		names[w.From.String()] = w.Name
	}
	for _, c := range b.Pins.Changes()[from:] {
		name := names[c.Pin.String()]
		switch {
		case name == "" || name == rack.WireButton:
		case name == rack.WireProtect:
			if c.Drive == rack.Low && len(order) > 0 {
				t.Errorf("the protection was let go behind %v", order)
			}
		case c.Drive == rack.Low:
			order = append(order, name)
		case c.Drive == rack.Released:
			order = slices.DeleteFunc(order, func(n string) bool { return n == name })
		}
	}
	if len(order) != 4 || order[3] != rack.WireHost {
		t.Errorf("the lines were let go in the order %v", order)
	}
	if high, err := b.Pins.Level(rack.WireProtect); !high || err != nil {
		t.Errorf("the host runs, and the protection's line is high %v, %v", high, err)
	}
}

// undisturbed sees that since a change no line to the host has moved, and that it still runs.
func (b *trustedBoard) undisturbed(t *testing.T, boot *rack.Boot, from int) {
	t.Helper()
	for _, c := range b.Pins.Changes()[from:] {
		if strings.HasPrefix(c.Pin.String(), "expander") {
			t.Errorf("a line to the host moved: %v", c)
		}
	}
	if _, running, boots, _ := b.Host.State(); !running || boots[len(boots)-1] != boot || boot.Ended {
		t.Errorf("the host runs %v, %d times", running, len(boots))
	}
	if running, state, err := boot.Running(); !running || err != nil {
		t.Errorf("the host's machine is %s, %v", state, err)
	}
}

// TestHost: a board takes its host's firmware from its card, verifies and releases the host;
// corrects a corrupted flash; leaves a host that runs alone when the controller restarts,
// and vouches for it by its ticket; and does not when the latch has lost what it knew.
func TestHost(t *testing.T) {
	g := makeGuarded(t)
	b := newGuarded(t)
	code := g.host.Regions[1]
	b.spoil(code.Offset, code.Offset+code.Length/2)
	b.on(nil)
	boot, cycle := b.released(t, g)
	if len(cycle.Recoveries) != 1 || cycle.Recoveries[0].Value("what") != "host.code" || cycle.Recoveries[0].Value("sha256") != fmt.Sprintf("%x", code.Digest) || cycle.Adopted || cycle.Number != 2 {
		t.Errorf("the cycle is %+v", cycle)
	}
	if !slices.ContainsFunc(cycle.Components, func(e eventlog.Event) bool { return e.Value("what") == "host.signer-mldsa65" }) {
		t.Errorf("its components are %v", cycle.Components)
	}

	// The controller restarts, by its reset button, and by its watchdog.
	for _, restart := range []func() error{b.Reset, b.Bite} {
		seen := len(b.Pins.Changes())
		must(t, restart())
		b.says(`(?s)controller: (host: cycle 2: running, adopted\r\n.*controller: ready|ready\r\n.*controller: host: cycle 2: running, adopted)`)
		b.undisturbed(t, boot, seen)
		r, err := b.evidence(g.hostSet(t, b.factory))
		if err != nil || !r.Facts.Host.Adopted || r.Facts.Host.Number != 2 || len(r.Facts.Host.Recoveries) != 1 {
			t.Errorf("evidence of the adopted host: %v", err)
		}
	}

	// While it restarts, something resets the expander and lets the lines go as they were.
	must(t, b.ResetAnd(func(registers []byte) { registers[0] ^= 1 }))
	b.says(`controller: host: cycle 2: holding, after code 702 host-latch-broken, [^\r]*the latch has nonce [^\r]*`)
	next, cycle := b.released(t, g)
	if !boot.Ended || next == boot || cycle.Number != 3 || cycle.Adopted {
		t.Errorf("the cycle behind a broken latch is %+v", cycle)
	}

	b.byOperator(t, g, next)

	// The host loses its power, and with it the latch.
	b.Host.PowerOff()
	b.says(`controller: host: cycle 5: held`)
	for _, w := range rack.HostWires() {
		must(t, b.Pins.AwaitLevel(w.Name, true, hostLimit))
	}
	if s := b.status(); s.State != "in service" || s.Host.State != "held" || s.Host.Power || s.Host.Running {
		t.Errorf("without power it is %+v", s)
	}
}

// byOperator has an operator hold the host, let it go, and reset it, and sees the lines do so.
func (b *trustedBoard) byOperator(t *testing.T, g *guardedParts, boot *rack.Boot) {
	t.Helper()
	tool := newTool(b)
	operator, err := b.factory.Clients.Certificate(policy.Operator, "operator")
	must(t, err)
	cert, key := savePEM(t, tool.folder, operator)
	r, err := b.evidence(nil)
	must(t, err)
	address, err := b.Address(443)
	must(t, err)
	type state struct {
		Powered, Held bool
		Cycle         uint64
	}
	ask := func(line string) (s state) {
		tool.run(&s, line, "-board", address, "-pin", fmt.Sprintf("%x", r.Facts.TLSKey), "-cert", cert, "-key", key)
		return s
	}
	if s := ask("host power off"); !s.Held || s.Cycle != 3 {
		t.Errorf("off: %+v", s)
	}
	for _, reset := range []string{rack.WireHost, rack.WireBMC, rack.WirePlatform} {
		must(t, b.Pins.AwaitLevel(reset, true, hostLimit))
	}
	if !boot.Ended {
		t.Error("the host was turned off, and runs")
	}
	for n, line := range []string{"host power on", "host reset"} {
		seen := len(b.Pins.Changes())
		s := ask(line)
		next, cycle := b.releasedSince(t, g, seen)
		if want := uint64(4 + n); s.Held || !s.Powered || s.Cycle != want || cycle.Number != want || next == boot || !boot.Ended {
			t.Errorf("%s: %+v, and evidence has cycle %d", line, s, cycle.Number)
		}
		boot = next
	}
	if s := ask("host status"); s.Held || s.Cycle != 5 {
		t.Errorf("status: %+v", s)
	}
}

// TestHostHeld: a flash that does not hold what it should, and a golden copy that does not
// either: the host stays held, with the code, and evidence does not vouch for it.
func TestHostHeld(t *testing.T) {
	g := makeGuarded(t)
	b := newGuarded(t)
	b.spoil(g.host.Regions[1].Offset + 100)
	f, err := os.OpenFile(b.card, os.O_RDWR, 0)
	must(t, err)
	at := (g.contents.First + g.contents.Count/4) * rack.SectorSize
	_, err = f.WriteAt(bytes.Repeat([]byte{0x5a}, 64<<10), at)
	must(t, err, f.Close())
	b.on(nil)
	b.says(`controller: host: cycle \d+: held, code 703 host-firmware[^\r]*`)
	if s := b.status(); s.State != "in service" || s.Host.State != "held" || s.Host.Code != 703 || s.Host.Running {
		t.Errorf("it is %+v", s)
	}
	if _, err := b.evidence(nil); err != nil {
		t.Errorf("the board itself is refused: %v", err)
	}
	c := newClients(b)
	if o := fmt.Sprint(c.want(policy.Operator, "GET", "/redfish/v1/Systems/host", "", 200)); !strings.Contains(o, "PowerState:Off") || !strings.Contains(o, "Health:Critical") {
		t.Errorf("the API has the host as %s", o)
	}
	reset := func(role policy.Role, kind string, status int) string {
		return fmt.Sprint(c.want(role, "POST", "/redfish/v1/Systems/host/Actions/ComputerSystem.Reset", `{"ResetType":"`+kind+`"}`, status))
	}
	reset(policy.Auditor, "On", 403)
	b.refusedResets(t, reset)
	r, err := b.evidence(g.hostSet(t, b.factory))
	if err == nil || !strings.Contains(err.Error(), "host-firmware: was not measured") {
		t.Errorf("evidence vouches for the host: %v, %v", err, r.Facts)
	}
	if _, running, boots, _ := b.Host.State(); running || len(boots) != 0 {
		t.Errorf("the host ran %d times", len(boots))
	}
}

// refusedResets sees that a host whose firmware does not verify is refused to whoever wants it
// to run, with the next step, that no line moves for that, and that holding it first has it
// verified once more.
func (b *trustedBoard) refusedResets(t *testing.T, reset func(role policy.Role, kind string, status int) string) {
	t.Helper()
	seen, cycle := len(b.Pins.Changes()), b.status().Host.Cycle
	for _, kind := range []string{"On", "ForceRestart"} {
		if said := reset(policy.Operator, kind, 409); !strings.Contains(said, "Code 703") || !strings.Contains(said, "recovery image") {
			t.Errorf("%s: the next step is %s", kind, said)
		}
	}
	for _, change := range b.Pins.Changes()[seen:] {
		if strings.HasPrefix(change.Pin.String(), "expander") {
			t.Errorf("a line moved for what was refused: %v", change)
		}
	}
	reset(policy.Operator, "ForceOff", 204)
	b.says(`controller: host: cycle \d+: held`)
	reset(policy.Operator, "On", 204)
	b.says(`controller: host: cycle \d+: held, code 703 host-firmware[^\r]*`)
	if next := b.status().Host.Cycle; next <= cycle {
		t.Errorf("it was not verified anew: cycle %d behind %d", next, cycle)
	}
}

// TestFlashChanges: a flash whose bytes change between two readings is found by the last
// one. The host is held, and released with what was verified then.
func TestFlashChanges(t *testing.T) {
	g := makeGuarded(t)
	b := newGuarded(t)
	b.on(nil)
	b.says(`controller: host: cycle 2: reading back`)
	b.spoil(g.host.Size - 5)
	b.says(`controller: host: cycle 2: holding, after code 703 host-firmware, [^\r]*has changed since it was verified[^\r]*`)
	if _, _, boots, _ := b.Host.State(); len(boots) != 0 {
		t.Error("the host was given the flash")
	}
	if _, cycle := b.released(t, g); cycle.Number != 3 || len(cycle.Recoveries) != 1 {
		t.Errorf("the cycle behind is %+v", cycle)
	}
}
