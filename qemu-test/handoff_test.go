//go:build !arm

package qemutest

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"nitro/boot/card"
	"nitro/boot/journal"
	"nitro/boot/release"
	"nitro/internal/metal"
	"nitro/qemu-test/emulator"
	"nitro/qemu-test/factory"
	"nitro/qemu-test/images/second/pattern"
	"nitro/qemu-test/rack"
)

// A chain is a bootloader, and a card with the image that it starts.
type chain struct {
	*rack.Rack
	t       *testing.T
	loader  string // ELF file
	payload release.Payload
	card    string
}

// newChain builds a bootloader, and the stand-in for the controller.
func newChain(t *testing.T, loader string, how metal.Build) *chain {
	t.Helper()
	folder := t.TempDir()
	c := &chain{t: t, loader: filepath.Join(folder, "loader.elf"), card: filepath.Join(folder, "card")}
	second := filepath.Join(folder, "second.elf")
	c.must(how.Image(t.Context(), "nitro/qemu-test/images/second", second))
	how.Bootloader = true
	c.must(how.Image(t.Context(), loader, c.loader))
	var err error
	c.payload, err = release.ReadPayload(second)
	c.must(err)
	c.write()
	return c
}

// developmentKeys are those of all cards of a run: making some takes seconds.
var developmentKeys = sync.OnceValues(factory.New)

// write writes a card with the payload in slot A, signed, and the journal as after many
// good boots.
func (c *chain) write() {
	c.t.Helper()
	f, err := developmentKeys()
	c.must(err)
	loader, err := release.ReadPayload(c.loader)
	c.must(err)
	r, err := f.Build(loader, c.payload, factory.Version{Name: "test"})
	c.must(err)
	configuration, err := f.Configuration(1, nil)
	c.must(err)
	if err := os.Remove(c.card); !errors.Is(err, fs.ErrNotExist) {
		c.must(err)
	}
	c.must(f.Card(c.card, configuration, r))
	c.prove()
}

// prove has the journal say that slot A may be tried three times.
func (c *chain) prove() {
	c.t.Helper()
	d, err := card.Open(c.card, true)
	c.must(err)
	defer d.Close()
	j, err := journal.Open(d)
	c.must(err)
	c.must(j.Write(journal.State{Preferred: journal.A, Trying: journal.None, Slots: [2]journal.SlotState{{Status: journal.Proven, Attempts: journal.MaxAttempts}}}))
}

func (c *chain) must(errs ...error) {
	c.t.Helper()
	must(c.t, errs...)
}

func must(t *testing.T, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

func (c *chain) powerOn(config rack.Config) {
	c.t.Helper()
	config.Image, config.Cards = c.loader, [2]string{c.card}
	var err error
	c.Rack, err = rack.Start(config)
	c.must(err)
	c.t.Cleanup(c.Close)
}

// say waits for a line of the console and gives what its group matches.
func (c *chain) say(pattern string) string {
	c.t.Helper()
	m, err := c.Expect(`(?m)^`+pattern+`\r\n`, time.Minute)
	c.must(err)
	return m[len(m)-1]
}

// find looks for what was planted in all of the board's memory and in its registers.
func (c *chain) find(seed uint32) []rack.Hit {
	c.t.Helper()
	d, err := c.Dump()
	c.must(err)
	p := pattern.Of(seed)
	return d.Find(p[:])
}

// TestHandOff follows boots through bootloader and second image: what a boot leaves in
// memory is gone in the next, where its crash record reaches both images.
func TestHandOff(t *testing.T) {
	c := newChain(t, "nitro/cmd/bootloader", metal.Build{})
	c.powerOn(rack.Config{Args: emulator.Hurried})

	c.say(`bootloader: the previous boot left no crash record`)
	c.say(`bootloader: starting the controller, version test, at 0x[0-9a-f]+`)
	checkHandover(t, c.say(`second: hand-over ([0-9a-f]+)`))
	c.say(`second: crash: none`)
	c.say(`second: no other image`)
	c.say(`second: healthy`)
	c.say(`second: planted`)
	if n := len(c.find(pattern.Memory)); n < 100<<20/pattern.Size {
		t.Fatalf("the pattern is in %d places of memory: the test looks in the wrong place", n)
	}

	c.say(`kernel: watchdog not serviced, code 0, .*`)
	c.say(`bootloader: the previous boot died: watchdog not serviced, code 0, .*`)
	checkHandover(t, c.say(`second: hand-over ([0-9a-f]+)`))
	c.say(`second: crash: watchdog not serviced, code 0, .*`)
	c.say(`second: idle`)
	if hits := c.find(pattern.Memory); len(hits) > 0 {
		t.Errorf("the pattern of the boot before is still in %d places: %v", len(hits), hits[:min(len(hits), 10)])
	}

	c.prove()
	c.must(c.Reset())
	c.say(`bootloader: the previous boot left no crash record`) // it was reported, once
	c.say(`second: crash: none`)
}

// checkHandover checks the block's fixed part (docs/medium.md, Hand-over).
func checkHandover(t *testing.T, text string) {
	t.Helper()
	b, err := hex.DecodeString(text)
	must(t, err)
	if len(b) != 256 || string(b[:8]) != "NCHANDO1" {
		t.Fatalf("the hand-over block is % x", b)
	}
	if slot := binary.LittleEndian.Uint32(b[12:]); slot != 0 {
		t.Errorf("slot %d was handed over, want 0", slot)
	}
	if length := binary.LittleEndian.Uint32(b[8:]); length < 500 {
		t.Errorf("the event log has %d bytes", length)
	}
	if us := binary.LittleEndian.Uint64(b[128:]); us == 0 || us > 600e6 { // of the board's time, which may be hurried
		t.Errorf("the bootloader says that it took %d microseconds", us)
	}
}

// TestHandOffTorment does it all with an interrupt every 150 microseconds.
func TestHandOffTorment(t *testing.T) {
	c := newChain(t, "nitro/cmd/bootloader", metal.Build{Torment: true})
	c.powerOn(rack.Config{})
	checkHandover(t, c.say(`second: hand-over ([0-9a-f]+)`))
	c.say(`second: healthy`)
}

// TestManyHandOffs boots again and again.
func TestManyHandOffs(t *testing.T) {
	boots := 50
	if testing.Short() {
		boots = 5
	}
	c := newChain(t, "nitro/cmd/bootloader", metal.Build{})
	c.powerOn(rack.Config{})
	for range boots {
		c.say(`bootloader: starting .*`)
		checkHandover(t, c.say(`second: hand-over ([0-9a-f]+)`))
		c.say(`second: healthy`)
		c.prove()
		c.must(c.Reset())
	}
}

// TestHangAfterHandOff: an image that hangs at its first instruction is reset, since the
// watchdog runs on.
func TestHangAfterHandOff(t *testing.T) {
	c := newChain(t, "nitro/cmd/bootloader", metal.Build{})
	const forever = 0xeafffffe // B to itself
	c.payload = release.Payload{Load: 0x8000f000, Entry: 0x80010000, Bytes: make([]byte, 0x2000)}
	binary.LittleEndian.PutUint32(c.payload.Bytes[0x1000:], forever)
	c.write()
	c.powerOn(rack.Config{Args: emulator.Hurried})
	for range 2 {
		c.say(`bootloader: starting the controller, version test, at 0x80010000`)
		_, err := c.QMP.Await(0, time.Minute, "WATCHDOG")
		c.must(err)
		c.say(`bootloader: the previous boot left no crash record`) // nobody was there to leave one
	}
}

// TestSloppyBootloader stops the board at the second image's first instruction, after a
// bootloader that leaves secrets wherever it can and a port that receives: registers and
// memory hold nothing of it, and nothing writes to memory any more.
func TestSloppyBootloader(t *testing.T) {
	c := newChain(t, "nitro/qemu-test/images/first", metal.Build{})
	c.powerOn(rack.Config{Hold: true, Nets: []rack.Net{{Cable: rack.Raw}, {Cable: rack.Raw}}})
	wire, err := c.Frames(1)
	c.must(err)
	defer keepSending(wire)()

	g, err := c.Halt()
	c.must(err, g.Break(c.payload.Entry), g.Resume(time.Minute))
	c.say(`first: all refused`)
	c.say(`first: leaving`)
	checkEntry(c, g)
	checkQuiet(c, g)
	checkMemory(c)
	for _, seed := range []uint32{pattern.Secret, pattern.Frame} {
		if hits := c.find(seed); len(hits) > 0 {
			t.Errorf("pattern %#x is left in %d places: %v", seed, len(hits), hits[:min(len(hits), 10)])
		}
	}

	c.must(g.Unbreak(c.payload.Entry), g.Release())
	if h := c.say(`second: hand-over ([0-9a-f]+)`); strings.Trim(h, "0") != "" {
		t.Errorf("the hand-over block that nobody has filled is %s", h)
	}
	c.say(`second: healthy`)
	if hits := c.find(pattern.Frame); len(hits) > 0 {
		t.Errorf("a frame has come to memory: %v", hits[:min(len(hits), 10)])
	}
}

// keepSending sends frames until the function that it returns is called.
func keepSending(wire *rack.Frames) (stop func()) {
	quit, over := make(chan struct{}), make(chan struct{})
	frame := bytes.Repeat([]byte{0xff}, 6) // to everybody
	frame = append(frame, 2, 0, 0, 0, 0, 1, 0x88, 0xb6)
	p := pattern.Of(pattern.Frame)
	frame = append(frame, bytes.Repeat(p[:], 60)...)
	go func() {
		defer close(over)
		for tick := time.NewTicker(5 * time.Millisecond); ; {
			select {
			case <-quit:
				tick.Stop()
				return
			case <-tick.C:
				wire.Send(frame) // a port that does not listen is no failure
			}
		}
	}()
	return func() { close(quit); <-over }
}

// checkEntry checks the processor's state: as the boot ROM leaves it.
func checkEntry(c *chain, g *emulator.GDB) {
	c.t.Helper()
	for r := range emulator.Register(16) {
		want := uint32(0)
		if r == 12 || r == emulator.PC {
			want = c.payload.Entry
		}
		got, err := g.Get(r)
		c.must(err)
		if got != want {
			c.t.Errorf("R%d is %#x, want %#x", r, got, want)
		}
	}
	cpsr, err := g.Get(emulator.CPSR)
	c.must(err)
	if cpsr&0x1ff != 0x1d3 {
		c.t.Errorf("CPSR is %#x, want SVC mode, ARM state, all masked", cpsr)
	}
	values, _, err := c.QMP.Registers()
	c.must(err)
	if vector := values[17*4:]; len(bytes.Trim(vector, "\x00")) > 0 {
		c.t.Errorf("D0 to D31 are % x", vector)
	}
	at, err := c.QMP.Monitor("gva2gpa 0xc0000000")
	c.must(err)
	if strings.TrimSpace(at) != "gpa: 0xc0000000" {
		c.t.Errorf("the MMU is on: 0xc0000000 is at %s", at)
	}
}

// checkQuiet checks that the devices are off, and the watchdog is on.
func checkQuiet(c *chain, g *emulator.GDB) {
	c.t.Helper()
	for _, r := range []struct {
		name             string
		addr, mask, want uint32
	}{
		{"ENET1 ECR.ETHEREN", 0x02188024, 1 << 1, 0},
		{"ENET2 ECR.ETHEREN", 0x020b4024, 1 << 1, 0},
		{"UART1 UCR1", 0x02020080, ^uint32(0), 0},
		{"WDOG1 WCR.WDE", 0x020bc000, 1 << 2, 1 << 2},
	} {
		v, err := c.QMP.Words(r.addr, 1)
		c.must(err)
		if v[0]&r.mask != r.want {
			c.t.Errorf("%s: %#x", r.name, v[0])
		}
	}
	for _, r := range []struct {
		name string
		addr uint32
	}{{"GICD_CTLR", 0x00a01000}, {"GICC_CTLR", 0x00a02000}} {
		b, err := g.ReadAs(r.addr, 4)
		c.must(err)
		if v := binary.LittleEndian.Uint32(b); v != 0 {
			c.t.Errorf("%s is %#x", r.name, v)
		}
	}
}

// checkMemory checks that RAM holds the second image, the bootloader's text and constants,
// which are no secret, and else nothing: the hand-over block was not written, and there
// is no crash record.
func checkMemory(c *chain) {
	c.t.Helper()
	const base, size, page = 0x80000000, 512 << 20, 4096
	file := filepath.Join(c.t.TempDir(), "ram")
	c.must(c.QMP.SaveMemory(base, size, file))
	ram, err := os.ReadFile(file)
	c.must(err)
	image := ram[c.payload.Load-base:][:len(c.payload.Bytes)]
	if !bytes.Equal(image, c.payload.Bytes) {
		c.t.Error("the second image is not in memory as it is on the card")
	}
	clear(image)
	start, end := constants(c.t, c.loader)
	clear(ram[start-base : end-base])
	zero := make([]byte, page)
	for at := 0; at < size; at += page {
		if !bytes.Equal(ram[at:at+page], zero) {
			c.t.Fatalf("the page at %#x is not zero", base+at)
		}
	}
}

// constants are where an image's text and constants lie.
func constants(t *testing.T, image string) (start, end uint64) {
	t.Helper()
	f, err := elf.Open(image)
	must(t, err)
	defer f.Close()
	for _, p := range f.Progs {
		switch {
		case p.Type != elf.PT_LOAD:
		case p.Flags&elf.PF_W != 0:
			return start, p.Vaddr
		case start == 0:
			start = p.Vaddr
		}
	}
	t.Fatal(fmt.Errorf("%s has no variables", image))
	return 0, 0
}
