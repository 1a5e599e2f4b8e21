//go:build !arm

package spinor

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"nitro/board/imx6ul"
	"nitro/board/imx6ul/ecspi"
	"nitro/board/imx6ul/gpio"
	"nitro/board/imx6ul/spinor"
	"nitro/boot/image"
	"nitro/boot/image/imagetest"
	"nitro/boot/medium"
	"nitro/boot/medium/mediumtest"
	"nitro/boot/store"
	"nitro/qemu-test/emulator"
	"nitro/resetctl/firmware"
)

var _ firmware.Flash = (*spinor.Flash)(nil)

// Where the sabrelite's chip select is (QEMU, hw/arm/sabrelite.c), and the bus of the
// chips that the test adds to the other board.
const (
	gpio3     = 0x020a4000 // IMX6DQRM 2.1
	chipLine  = 19
	ecspi4    = 0x02014000
	blockRate = 60000000
)

// A block is registers of the emulated chip.
type block struct {
	t    *testing.T
	q    *emulator.QTest
	base uint32
}

func (b block) Read32(offset uint32) uint32 {
	p, err := b.q.Read(b.base+offset, 4)
	if err != nil {
		b.t.Fatal(err)
	}
	return binary.LittleEndian.Uint32(p)
}

func (b block) Write32(offset, value uint32) {
	if err := b.q.Write32(b.base+offset, value); err != nil {
		b.t.Fatal(err)
	}
}

func (b block) Read16(uint32) uint16         { panic("these blocks have 32 bits") }
func (b block) Write16(uint32, uint16)       { panic("these blocks have 32 bits") }
func (b block) Select()                      {} // the pad of a line: all are connected
func (b block) line(n int) (l *gpio.Line)    { return gpio.New(b).Line(n, "chip select", b) }
func (b block) at(base uint32) (other block) { b.base = base; return b }

// wire is the chip select of a chip that has no wire.
type wire struct {
	block
	device string
}

func (w wire) Set(high bool) {
	if err := w.q.DriveNamed(w.device, "ssi-gpio-cs", 0, high); err != nil {
		w.t.Fatal(err)
	}
}

// start starts a board whose processor stands still.
func start(t *testing.T, machine string, args ...string) (*emulator.Board, block) {
	t.Helper()
	b, err := emulator.Start(emulator.Config{Machine: machine, Args: append([]string{"-S"}, args...)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	q, err := b.QTest("", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(q.Close)
	return b, block{t: t, q: q}
}

func open(t *testing.T, regs block, cs ecspi.Select) *spinor.Flash {
	t.Helper()
	bus, err := ecspi.New(regs, ecspi.Config{Clock: blockRate, Speed: 20000000, Select: cs})
	if err != nil {
		t.Fatal(err)
	}
	f, err := spinor.Open(bus)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// uboot is a real program.
func uboot(t *testing.T) []byte {
	t.Helper()
	b, err := os.ReadFile("/usr/lib/u-boot/qemu_arm/u-boot.bin")
	if err != nil {
		t.Fatalf("%v: install Debian's package u-boot-qemu (make deps)", err)
	}
	return b
}

// backing makes the file that a chip is kept in.
func backing(t *testing.T, content []byte) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "nor.img")
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func flashImage(t *testing.T, size int) []byte {
	b := bytes.Repeat([]byte{0xff}, size)
	copy(b, uboot(t))
	copy(b[size-64<<10:], uboot(t)) // and in the highest block its beginning
	return b
}

// end ends the emulator and compares the file with what should be in it.
func end(t *testing.T, b *emulator.Board, file string, want []byte) {
	t.Helper()
	q, err := b.QMP()
	if err != nil {
		t.Fatal(err)
	}
	if err := q.Quit(); err != nil {
		t.Fatal(err)
	}
	if err := b.Wait(time.Minute); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for at := 0; at < len(want); at += 4 << 10 {
		if !bytes.Equal(got[at:at+4<<10], want[at:at+4<<10]) {
			t.Errorf("the file differs from %#x on", at)
			break
		}
	}
}

// TestSabrelite reads a real image, erases, writes, and proves and recovers the highest
// block as firmware.
func TestSabrelite(t *testing.T) {
	want := flashImage(t, 2<<20)
	file := backing(t, want)
	b, regs := start(t, "sabrelite", "-drive", "if=mtd,format=raw,file="+file)
	cs := regs.at(gpio3).line(chipLine)
	cs.Output(true)
	f := open(t, regs.at(imx6ul.ECSPI1), cs)
	if f.ID() != [3]byte{0xbf, 0x25, 0x41} || f.Size() != 2<<20 {
		t.Fatal(f)
	}
	n := int64(2 << 20)
	if testing.Short() {
		n = 32 << 10
	}
	got := make([]byte, n)
	if _, err := f.ReadAt(got, 0); err != nil || !bytes.Equal(got, want[:n]) {
		t.Errorf("reading %d bytes gives something else, %v", n, err)
	}
	exercise(t, f, want, 64<<10+1)
	recover(t, f, want)
	end(t, b, file, want)
}

// exercise erases a block, writes half of it from an odd place on, and reads it back.
func exercise(t *testing.T, f *spinor.Flash, want []byte, odd int64) {
	t.Helper()
	at := odd &^ (4<<10 - 1)
	if err := f.Erase(at, 4<<10); err != nil {
		t.Fatal(err)
	}
	p := make([]byte, 2<<10)
	rand.NewChaCha8([32]byte{3}).Read(p)
	if _, err := f.WriteAt(p, odd); err != nil {
		t.Fatal(err)
	}
	copy(want[at:], bytes.Repeat([]byte{0xff}, 4<<10))
	copy(want[odd:], p)
	got := make([]byte, 4<<10)
	if _, err := f.ReadAt(got, at); err != nil || !bytes.Equal(got, want[at:at+4<<10]) {
		t.Errorf("reading back gives something else, %v", err)
	}
}

// counter is the TPM's.
type counter struct{ n uint64 }

func (c *counter) Read() (uint64, error)      { return c.n, nil }
func (c *counter) Increment() (uint64, error) { c.n++; return c.n, nil }

// recover installs a golden copy of the chip's highest block, changes that on the chip, and
// has a cycle put it right and protect it.
func recover(t *testing.T, f *spinor.Flash, want []byte) {
	t.Helper()
	config := func() store.Config {
		return store.Config{Place: medium.Place{Size: 1 << 20}, Key: make([]byte, store.KeySize)}
	}
	c := config()
	c.Device, c.Counter = mediumtest.New(1<<20/mediumtest.SectorSize), &counter{}
	if err := store.Format(c); err != nil {
		t.Fatal(err)
	}
	c.Key = config().Key
	s, err := store.Open(c)
	if err != nil {
		t.Fatal(err)
	}
	g := firmware.New(firmware.Config{Part: firmware.BMC, Host: "sabrelite", Product: imagetest.Product, Store: s,
		Authorities: []image.Authority{imagetest.Authority(image.Release, "one")}})
	m := &firmware.Manifest{Part: firmware.BMC, Host: "sabrelite", Version: "1", Size: f.Size(), Erase: f.EraseSize(), Regions: []firmware.Region{
		{Name: "rest", Length: f.Size() - 64<<10, Kind: firmware.Mutable}, {Name: "code", Offset: f.Size() - 64<<10, Length: 64 << 10, Kind: firmware.Static}}}
	var pack bytes.Buffer
	if err := firmware.Package(&pack, m, imagetest.Header(image.BMCFirmware, "1", 0), want, imagetest.Signer(image.Release, "one")); err != nil {
		t.Fatal(err)
	}
	if _, err := g.Install(&pack); err != nil {
		t.Fatal(err)
	}
	if err := f.Protect(nil); err != nil {
		t.Fatal(err)
	}
	at := f.Size() - 40<<10
	if _, err := f.WriteAt([]byte{0, 0, 0, 0}, at); err != nil {
		t.Fatal(err)
	}
	r, err := g.Verify(f, firmware.Options{})
	if err != nil || !slices.Equal(r.Updated, []string{"code"}) || r.Rewritten != 1 || r.Measurement != m.Measurement() {
		t.Fatalf("changed: %+v, %v", r, err)
	}
	if _, err := f.WriteAt([]byte{0, 0, 0, 0}, at); err != nil { // the chip ignores it
		t.Fatal(err)
	}
	got := make([]byte, 4<<10)
	if _, err := f.ReadAt(got, at); err != nil || !bytes.Equal(got, want[at:at+4<<10]) {
		t.Errorf("what is protected was written, %v", err)
	}
}

// TestVendors is for chips of 32 MiB: real descriptions, 4-byte addresses on both sides of
// 16 MiB, and protection as far as QEMU has the chips' bits.
func TestVendors(t *testing.T) {
	const size, mib = 32 << 20, int64(1 << 20)
	for _, c := range []struct {
		device    string
		id        [3]byte
		protected [2]int64
	}{
		{"w25q256", [3]byte{0xef, 0x40, 0x19}, [2]int64{28 * mib, 4 * mib}},
		{"mx25l25635e", [3]byte{0xc2, 0x20, 0x19}, [2]int64{28 * mib, 4 * mib}},
		{"mx25l25635f", [3]byte{0xc2, 0x20, 0x19}, [2]int64{28 * mib, 4 * mib}},
		{"n25q256a", [3]byte{0x20, 0xba, 0x19}, [2]int64{0, 16 * mib}},
	} {
		t.Run(c.device, func(t *testing.T) {
			want := flashImage(t, size)
			file := backing(t, want)
			b, regs := start(t, "", "-drive", "if=none,id=nor,format=raw,file="+file, "-device", c.device+",id=chip,drive=nor")
			f := open(t, regs.at(ecspi4), wire{regs, "/machine/peripheral/chip"})
			if f.ID() != c.id || f.Size() != size || f.EraseSize() != 4<<10 {
				t.Fatal(f)
			}
			t.Log(f)
			for _, at := range []int64{0, 16*mib - 2<<10, size - 4<<10} {
				got := make([]byte, 4<<10)
				if _, err := f.ReadAt(got, at); err != nil || !bytes.Equal(got, want[at:at+4<<10]) {
					t.Errorf("reading at %#x gives something else, %v", at, err)
				}
			}
			exercise(t, f, want, 1*mib+3)
			exercise(t, f, want, 17*mib)
			if err := f.Protect([][2]int64{c.protected}); err != nil {
				t.Fatal(err)
			}
			if got, err := f.Protected(); err != nil || !slices.Equal(got, [][2]int64{c.protected}) {
				t.Errorf("protected are %#x, %v", got, err)
			}
			if _, err := f.WriteAt([]byte{0}, c.protected[0]+2*mib); err != nil {
				t.Error(err)
			}
			if err := f.Protect(nil); err != nil {
				t.Error(err)
			}
			if err := f.Close(); err != nil {
				t.Error(err)
			}
			end(t, b, file, want)
		})
	}
}
