//go:build !arm

package rack

import (
	"bytes"
	"encoding/binary"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"nitro/qemu-test/emulator"
)

// TestForwards: each rack has its own way to the board, and each network its own address.
func TestForwards(t *testing.T) {
	image := build(t, "hello")
	var addresses []string
	var networks string
	for range 2 {
		r := start(t, Config{Image: image, NoTPM: true, Nets: []Net{{Forward: map[int]int{443: 0, 80: 0}}, {}}, Hold: true})
		for _, port := range []int{443, 80} {
			address, err := r.Address(port)
			must(t, err)
			conn, err := net.DialTimeout("tcp", address, bootLimit)
			must(t, err)
			conn.Close()
			addresses = append(addresses, address)
		}
		if _, err := r.Address(22); err == nil {
			t.Error("there is a way to a port that is not forwarded")
		}
		text, err := r.QMP.Monitor("info network")
		must(t, err)
		networks += text
	}
	for i, a := range addresses {
		for _, b := range addresses[:i] {
			if a == b {
				t.Errorf("two ports have the address %s", a)
			}
		}
	}
	seen := map[string]bool{}
	for _, part := range strings.Split(networks, "macaddr=")[1:] {
		seen[part[:17]] = true
	}
	if len(seen) != 4 {
		t.Errorf("four ports have the hardware addresses %v", seen)
	}
}

// enet works ENET1 as its driver would, while the board stands still (IMX6ULLRM 22.5, and
// 22.6.14 for the descriptors). The ring of each direction has one descriptor.
type enet struct {
	t *testing.T
	g *emulator.GDB
}

const (
	enetBase = 0x02188000
	txRing   = 0x90000000
	rxRing   = 0x90000100
	txBuffer = 0x90001000
	rxBuffer = 0x90002000
)

func (e enet) write(addr, v uint32) {
	e.t.Helper()
	must(e.t, e.g.Write(addr, binary.LittleEndian.AppendUint32(nil, v)))
}

func (e enet) open() {
	e.write(enetBase+0x84, 1536<<16|8)     // RCR: all destinations
	e.write(enetBase+0x188, 1536)          // MRBR
	e.write(enetBase+0x180, rxRing)        // RDSR
	e.write(enetBase+0x184, txRing)        // TDSR
	e.write(enetBase+0x24, 1<<8|1<<1)      // ECR: DBSWP, ETHEREN
	e.write(rxRing, 0x8000<<16|0x2000<<16) // empty, wraps
	e.write(rxRing+4, rxBuffer)            //
	e.write(enetBase+0x10, 1<<24)          // RDAR
}

func (e enet) send(frame []byte) {
	e.t.Helper()
	must(e.t, e.g.Write(txBuffer, frame))
	e.write(txRing+4, txBuffer)
	e.write(txRing, 0xac00<<16|uint32(len(frame))) // ready, wraps, last, with check sequence
	e.write(enetBase+0x14, 1<<24)                  // TDAR
}

// TestFrames: frames go both ways through a raw cable, and not when it is out.
func TestFrames(t *testing.T) {
	r := start(t, Config{Image: build(t, "tpm"), NoTPM: true, Nets: []Net{{Cable: Raw}}})
	cable, err := r.Frames(0)
	must(t, err)
	r.expect(t, `tpm: none: .*`)
	g, err := r.Halt()
	must(t, err)
	e := enet{t, g}
	e.open()
	frame := append([]byte("\xff\xff\xff\xff\xff\xff\x52\x54\x00\x00\x00\x01\x88\xb5"), bytes.Repeat([]byte("out "), 20)...)
	e.send(frame)
	must(t, g.Release()) // the emulator sends it now
	got, err := cable.Receive(bootLimit)
	must(t, err)
	if !bytes.Equal(got, frame) {
		t.Errorf("the frame came as % x", got)
	}

	back := append([]byte("\xff\xff\xff\xff\xff\xff\x52\x54\x00\x00\x00\x02\x88\xb5"), bytes.Repeat([]byte("in  "), 20)...)
	must(t, cable.Send(back))
	for end := time.Now().Add(bootLimit); ; time.Sleep(time.Millisecond) {
		d, err := r.Dump()
		must(t, err)
		if hits := d.Find(back); len(hits) > 0 && hits[0] == (Hit{RAM, rxBuffer}) {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the frame did not come to the board")
		}
	}

	must(t, r.QMP.SetLink("net0", false))
	g, err = r.Halt()
	must(t, err)
	enet{t, g}.send(frame)
	must(t, g.Release())
	if frame, err := cable.Receive(200 * time.Millisecond); err == nil {
		t.Errorf("a frame came through a cable that is out: % x", frame)
	}
}

// TestTwoBoards: a frame goes from one board to another.
func TestTwoBoards(t *testing.T) {
	image, path := build(t, "tpm"), filepath.Join(t.TempDir(), "wire")
	one := start(t, Config{Image: image, NoTPM: true, Nets: []Net{{Cable: Listen, Path: path}}})
	two := start(t, Config{Image: image, NoTPM: true, Nets: []Net{{Cable: Dial, Path: path}}})
	one.expect(t, `tpm: none: .*`)
	two.expect(t, `tpm: none: .*`)
	g, err := two.Halt()
	must(t, err)
	enet{t, g}.open()
	must(t, g.Release())
	frame := append([]byte("\xff\xff\xff\xff\xff\xff\x52\x54\x00\x00\x00\x01\x88\xb5"), bytes.Repeat([]byte("over"), 20)...)
	for end := time.Now().Add(bootLimit); ; {
		g, err := one.Halt()
		must(t, err)
		e := enet{t, g}
		e.open()
		e.send(frame)
		must(t, g.Release())
		d, err := two.Dump()
		must(t, err)
		if len(d.Find(frame)) > 0 {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the frame did not come to the other board")
		}
	}
}
