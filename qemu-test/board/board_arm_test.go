package board

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"nitro/board"
	"nitro/board/evk"
	"nitro/board/imx6ul"
	"nitro/board/imx6ul/caam"
	"nitro/board/imx6ul/ccm"
	"nitro/board/imx6ul/dma"
	"nitro/board/imx6ul/enet"
	"nitro/board/imx6ul/gpio"
	"nitro/board/imx6ul/i2c"
	"nitro/board/imx6ul/irq"
	"nitro/board/imx6ul/mmio"
	"nitro/board/imx6ul/pca9552"
	"nitro/board/imx6ul/phy"
	"nitro/board/imx6ul/rngb"
	"nitro/board/imx6ul/snvs"
	"nitro/board/imx6ul/src"
	"nitro/board/kernel"
)

var devices = sync.OnceValues(evk.Open)

func open(t *testing.T) *evk.Board {
	t.Helper()
	d, err := devices()
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestOneOwner: a block is mapped once, and only what the board lists.
func TestOneOwner(t *testing.T) {
	open(t)
	for base, want := range map[uint32]error{
		snvs.Base: syscall.EBUSY, 0x020bc000: syscall.EPERM, 0x020d8000: syscall.EPERM, 0x00a01000: syscall.EPERM,
		0x02020000: syscall.EPERM, 0x021c0000: syscall.EPERM, 0x0207c000: syscall.EPERM, 0x020e4000: syscall.EPERM,
	} {
		if w, err := mmio.Map(base, 4096); !errors.Is(err, want) {
			t.Errorf("block at %#x: %v, %v", base, w, err)
		}
	}
}

// TestHostLines: at power-on nobody pulls a line of the host, and all nets are high: held.
func TestHostLines(t *testing.T) {
	l := open(t).HostLines()
	pulled, levels, err := l.Expander.Read()
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range []*board.HostLine{l.Platform, l.BMC, l.Host, l.Mux, l.Protect, l.PowerGood, l.Button} {
		if pulled>>x.Line&1 != 0 || levels>>x.Line&1 == 0 {
			t.Errorf("%s: pulled low are %#x, levels %#x", x.Name, pulled, levels)
		}
	}
	for _, n := range []uint32{0, 0x12345678, 0} {
		if n != 0 {
			if err := l.Expander.SetNonce(n); err != nil {
				t.Error(err)
			}
		}
		if got, err := l.Expander.Nonce(); got != n || err != nil {
			t.Errorf("nonce %#x, %v; want %#x", got, err, n)
		}
		if err := l.Expander.SetNonce(0); err != nil {
			t.Error(err)
		}
	}
}

// TestOutput: what is set can be read back from the block. (QEMU's PSR shows inputs
// only: an output's pad reads 0.)
func TestOutput(t *testing.T) {
	l := open(t).Line(3, "test output")
	for _, high := range []bool{true, false, true} {
		l.Output(high)
		if output, got := l.Driven(); !output || got != high {
			t.Errorf("set to %v: output %v, level %v", high, output, got)
		}
	}
	l.Set(false)
	if output, got := l.Driven(); !output || got {
		t.Errorf("set to low: output %v, level %v", output, got)
	}
	l.Input()
	if output, _ := l.Driven(); output || l.High() {
		t.Errorf("an input: driven %v, high %v", output, l.High())
	}
}

// TestInterrupt: a level raises the line's interrupt through /dev/irq as long as it
// is there, one at a time; an edge that does not come raises none.
func TestInterrupt(t *testing.T) {
	l := open(t).Line(4, "test input")
	l.Input()
	line, err := irq.Open(imx6ul.GPIO1LineLow)
	if err != nil {
		t.Fatal(err)
	}
	defer line.Close()
	soon := func() time.Time { return time.Now().Add(200 * time.Millisecond) }

	l.Arm(gpio.RisingEdge)
	if n, err := line.Wait(soon()); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("an edge that did not come: %d interrupts, %v", n, err)
	}
	l.Arm(gpio.LowLevel)
	for round := range 3 {
		if n, err := line.Wait(soon()); n != 1 || err != nil {
			t.Fatalf("round %d: %d interrupts, %v", round, n, err)
		}
		if n, err := line.Wait(time.Now().Add(20 * time.Millisecond)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("round %d: %d interrupts of a line that is masked, %v", round, n, err)
		}
		if err := line.Enable(); err != nil {
			t.Error(err)
		}
	}
	l.Disarm()
	l.Acknowledge()
	if _, err := line.Wait(soon()); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err) // the one that came before Disarm
	}
	if err := line.Enable(); err != nil {
		t.Error(err)
	}
	if n, err := line.Wait(soon()); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a disarmed line: %d interrupts, %v", n, err)
	}
	if _, err := irq.Open(imx6ul.GPIO1LineLow); !errors.Is(err, syscall.EBUSY) {
		t.Errorf("a second owner: %v", err)
	}
}

// TestEEPROM writes and reads a memory chip, whole and byte by byte.
func TestEEPROM(t *testing.T) {
	bus := open(t).I2C1
	const address = 0x50
	data := make([]byte, 256)
	for i := range data {
		data[i] = byte(i*7 + 3)
	}
	for at := 0; at < len(data); at += 16 {
		if err := bus.Tx(address, append([]byte{byte(at)}, data[at:at+16]...), nil); err != nil {
			t.Fatal(err)
		}
	}
	for _, n := range []int{1, 2, 3, 255, 256} {
		got := make([]byte, n)
		if err := bus.Tx(address, []byte{0}, got); err != nil || !bytes.Equal(got, data[:n]) {
			t.Errorf("%d bytes: %v, %x", n, err, got)
		}
	}
	got := make([]byte, 2)
	if err := errors.Join(bus.Tx(address, []byte{17}, nil), bus.Tx(address, nil, got)); err != nil || !bytes.Equal(got, data[17:19]) {
		t.Errorf("read without a write: %v, %x", err, got)
	}
}

func TestThermometer(t *testing.T) {
	bus := open(t).I2C1
	limits := make([]byte, 2)
	if err := bus.Tx(0x48, []byte{3}, limits); err != nil || limits[0] != 0x50 {
		t.Errorf("the limit after power-on is 80 degrees: %v, %x", err, limits)
	}
	if err := bus.Tx(0x48, []byte{3, 0x32, 0x10}, nil); err != nil {
		t.Error(err)
	}
	if err := bus.Tx(0x48, []byte{3}, limits); err != nil || !bytes.Equal(limits, []byte{0x32, 0x10}) {
		t.Errorf("the limit that was set: %v, %x", err, limits)
	}
}

// TestNobodyThere: an address without a device is an error, and the bus goes on.
func TestNobodyThere(t *testing.T) {
	bus := open(t).I2C1
	for range 3 {
		if err := bus.Tx(0x33, []byte{1}, make([]byte, 4)); !errors.Is(err, i2c.ErrNoAnswer) {
			t.Errorf("nobody there: %v", err)
		}
		if err := bus.Tx(0x50, nil, nil); err != nil {
			t.Errorf("the device beside it: %v", err)
		}
	}
}

func TestExpander(t *testing.T) {
	e, err := pca9552.New(open(t).I2C1, 0x60)
	if err != nil {
		t.Fatal(err)
	}
	if v, err := e.Levels(); v != 0xffff || err != nil {
		t.Errorf("released, all lines read %#x, %v", v, err)
	}
	for _, line := range []int{0, 5, 15} {
		if err := e.Pull(line, true); err != nil {
			t.Error(err)
		}
		if v, err := e.Levels(); v != ^uint16(1<<line) || err != nil {
			t.Errorf("line %d pulled low: levels %#x, %v", line, v, err)
		}
		if low, err := e.PulledLow(line); !low || err != nil {
			t.Errorf("line %d: pulled low %v, %v", line, low, err)
		}
		if err := e.Pull(line, false); err != nil {
			t.Error(err)
		}
	}
}

// TestClockTicks: the battery's clock runs as fast as the kernel's.
func TestClockTicks(t *testing.T) {
	s := open(t).SNVS
	before, err := s.Time()
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	time.Sleep(1500 * time.Millisecond)
	after, err := s.Time()
	took := time.Since(start)
	if d := after - before - took; err != nil || d < -500*time.Millisecond || d > 500*time.Millisecond {
		t.Errorf("from %v to %v in %v, %v", before, after, took, err)
	}
	if st := s.Status(); st.HasOwnKey() {
		t.Errorf("the emulator has no key of its own: %+v", st)
	}
}

func TestChip(t *testing.T) {
	d := open(t)
	if id, err := d.Fuses.UniqueID(); id != 0 || err != nil {
		t.Errorf("the emulator's number is %#x, %v", id, err)
	}
	if c := d.Clocks.Chip(); c.Family() != ccm.UL || !c.Emulated() {
		t.Errorf("the chip is %v", c)
	}
	r, err := src.Read()
	if err != nil || !r.PowerOn() || r.Watchdog() {
		t.Errorf("reset by %v, %v", r, err)
	}
	if !strings.HasPrefix(r.String(), "power on") {
		t.Error(r)
	}
}

// TestAbsentBlocks: a probe of what is not there is an error, not the end.
func TestAbsentBlocks(t *testing.T) {
	r, err := mmio.Map(rngb.Base, rngb.Size)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, _, err := rngb.Probe(r); err == nil || !strings.Contains(err.Error(), "nothing answers") {
			t.Errorf("RNGB: %v", err)
		}
	}
	c, err := mmio.Map(caam.Base, caam.Size)
	if err != nil {
		t.Fatal(err)
	}
	if v, err := caam.Probe(c); err == nil {
		t.Errorf("CAAM: %+v", v)
	}
}

// TestAbsentPHY: QEMU's ENET1 has no PHY on its own management interface, which reads
// as all ones.
func TestAbsentPHY(t *testing.T) {
	r, err := mmio.Map(enet.Base1, enet.Size)
	if err != nil {
		t.Fatal(err)
	}
	mdio := enet.NewMDIO(r, 66000000)
	if v, err := mdio.Read(2, 1); v != 0xffff || err != nil {
		t.Errorf("nobody reads as %#x, %v", v, err)
	}
	line, err := irq.OpenThread(enet.Line1)
	if err != nil {
		t.Fatal(err)
	}
	p, err := enet.Open(enet.Config{Registers: r, Line: line, Arena: open(t).DMA, PHY: phy.New(mdio, 2), Emulated: true})
	if err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(10 * time.Second); p.PHYError() == nil && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	if err := p.PHYError(); !errors.Is(err, phy.ErrAbsent) || p.LinkUp() {
		t.Errorf("link %v, %v", p.LinkUp(), err)
	}
	if err := p.Queue([][]byte{make([]byte, 60)}); !errors.Is(err, enet.ErrNoLink) {
		t.Errorf("without a link: %v", err)
	}
	back := make(chan error)
	go func() { back <- p.Receive(-1, func([]byte) { t.Error("a frame came") }) }()
	time.Sleep(10 * time.Millisecond)
	buffers, _, _ := open(t).DMA.Usage()
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if err := <-back; err != os.ErrClosed {
		t.Errorf("who waited got %v", err)
	}
	if left, _, _ := open(t).DMA.Usage(); left != buffers-4 {
		t.Errorf("%d buffers before Close, %d after it", buffers, left)
	}
}

// TestDMA: the arena is where the kernel says, zeroed, and writable.
func TestDMA(t *testing.T) {
	a := open(t).DMA
	b, err := a.Alloc(5000, 4096)
	if err != nil || b.Addr < kernel.DMAStart || b.Addr >= kernel.DMAEnd {
		t.Fatalf("%#x, %v", b.Addr, err)
	}
	defer a.Free(b)
	if !bytes.Equal(b.Bytes, make([]byte, 5000)) {
		t.Error("a buffer is not zero")
	}
	for i := range b.Bytes {
		b.Bytes[i] = byte(i)
	}
	mmio.Barrier()
	if b.Bytes[4999] != 4999&0xff {
		t.Error("a buffer does not hold what was written")
	}
	if _, err := dma.Open(4096); !errors.Is(err, syscall.EBUSY) {
		t.Errorf("a second arena: %v", err)
	}
}

func BenchmarkI2CByte(b *testing.B) {
	d, err := devices()
	if err != nil {
		b.Fatal(err)
	}
	got := make([]byte, 1)
	for b.Loop() {
		if err := d.I2C1.Tx(0x50, []byte{0}, got); err != nil {
			b.Fatal(err)
		}
	}
}
