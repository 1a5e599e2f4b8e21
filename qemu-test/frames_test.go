//go:build !arm

package qemutest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
	"testing"
	"time"

	"nitro/internal/metal"
	"nitro/qemu-test/rack"
)

// Types of frames that images/frames knows.
const (
	typeEcho  = 0x88b5
	typeTake  = 0x88b6
	typeRelay = 0x88b7
	typeStats = 0x88b8
)

var here = net.HardwareAddr{2, 0, 0, 0, 0, 0x99}

// frameOf makes a frame of n bytes, header included, with rubbish in it.
func frameOf(n int, to net.HardwareAddr, kind uint16) []byte {
	f := make([]byte, max(n, 14))
	for i := range f {
		f[i] = byte(rand.Uint32())
	}
	copy(f, to)
	copy(f[6:], here)
	binary.BigEndian.PutUint16(f[12:], kind)
	return f[:n]
}

// echoOf is what the board makes of a frame.
func echoOf(f []byte) []byte {
	e := append(append(append([]byte{}, f[6:12]...), f[:6]...), f[12:]...)
	return append(e, make([]byte, max(0, 60-len(e)))...)
}

// answerLimit bounds what the board takes for an answer.
const answerLimit = 20 * time.Second

// portAddress is that of the board's port n.
func portAddress(n int) net.HardwareAddr { return net.HardwareAddr{0x52, 0x54, 0, 0, 0, byte(n)} }

// A station is a board with images/frames, and the other ends of its ports' cables.
type station struct {
	*rack.Rack
	t     *testing.T
	wires [2]*rack.Frames
}

func newStation(t *testing.T) *station {
	t.Helper()
	image := filepath.Join(t.TempDir(), "frames.elf")
	if err := (metal.Build{}).Image(t.Context(), "nitro/qemu-test/images/frames", image); err != nil {
		t.Fatal(err)
	}
	c := rack.Config{Image: image, NoTPM: true}
	for n := range 2 {
		c.Nets = append(c.Nets, rack.Net{Cable: rack.Raw, MAC: portAddress(n).String()})
	}
	r, err := rack.Start(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	s := &station{Rack: r, t: t}
	for n := range s.wires {
		if s.wires[n], err = r.Frames(n); err != nil {
			t.Fatal(err)
		}
	}
	s.expect(`port \d link true\r\n(?s:.*)port \d link true\r\n`)
	return s
}

func (s *station) expect(pattern string) {
	s.t.Helper()
	if _, err := s.Expect(pattern, bootLimit); err != nil {
		s.t.Fatal(err)
	}
}

// send sends frames to port n, as fast as they go.
func (s *station) send(n int, frames ...[]byte) {
	for _, f := range frames {
		if err := s.wires[n].Send(f); err != nil {
			s.t.Error(err)
			return
		}
	}
}

// stats asks a port for its counters.
func (s *station) stats(n int) map[string]int {
	s.t.Helper()
	s.send(n, frameOf(60, portAddress(n), typeStats))
	f, err := s.wires[n].Receive(answerLimit)
	if err != nil {
		s.t.Fatal(err)
	}
	counts := map[string]int{}
	for _, m := range regexp.MustCompile(`(\w+):(\d+)`).FindAllSubmatch(f[14:], -1) {
		counts[string(m[1])], _ = strconv.Atoi(string(m[2])) // digits
	}
	if _, ok := counts["Received"]; !ok {
		s.t.Fatalf("no counters, but %q", f)
	}
	return counts
}

// echoes sends frames to port n, and compares what comes of those that are good.
func (s *station) echoes(n int, all, good [][]byte) {
	s.t.Helper()
	go s.send(n, all...)
	for i, f := range good {
		got, err := s.wires[n].Receive(answerLimit)
		if err != nil {
			s.t.Errorf("port %d, frame %d of %d, %d bytes: %v", n, i, len(good), len(f), err)
			return
		}
		if want := echoOf(f); !bytes.Equal(got, want) {
			s.t.Errorf("port %d, frame %d of %d: %d bytes came, % x, want %d bytes, % x", n, i, len(good), len(got), got[:min(20, len(got))], len(want), want[:20])
			return
		}
	}
}

// works makes sure that the board still does.
func (s *station) works() {
	s.t.Helper()
	for n := range s.wires {
		f := [][]byte{frameOf(777, portAddress(n), typeEcho)}
		s.echoes(n, f, f)
	}
}

// TestFrames torments the emulated board's ports from the other ends of their cables.
// The subtests share the board.
func TestFrames(t *testing.T) {
	s := newStation(t)
	for _, c := range []struct {
		name string
		test func(s *station)
	}{
		{"lengths", lengths}, {"checksums", checksums}, {"flood", flood}, {"rubbish", rubbish}, {"flaps", flaps}, {"storm", storm},
	} {
		t.Run(c.name, func(t *testing.T) {
			s.t = t
			c.test(s)
			s.works()
		})
	}
}

// lengths sends frames of every length to beyond what a port takes. (None of no bytes:
// QEMU takes the port's answer, 0 bytes taken, for a port that is busy, and offers that
// frame for ever.)
func lengths(s *station) {
	const most = 1700
	for n := range s.wires {
		before := s.stats(n)
		var all, good [][]byte
		for length := 1; length < most; length++ {
			f := frameOf(length, portAddress(n), typeEcho)
			all = append(all, f)
			if length >= 14 && length <= 1514 {
				good = append(good, f)
			}
		}
		s.echoes(n, all, good)
		after := s.stats(n)
		for name, want := range map[string]int{
			"Received": 1518 - 13 + 1, "TooShort": 13, "TooLong": most - 1519, "Transmitted": len(good) + 1, "Damaged": 0, "Resets": 0,
		} {
			if got := after[name] - before[name]; got != want {
				s.t.Errorf("port %d: %s rose by %d, not by %d", n, name, got, want)
			}
		}
	}
}

// checksums has the board send packets with rubbish for checksums, which its port puts
// right.
func checksums(s *station) {
	for _, k := range []struct {
		name     string
		v6       bool
		protocol byte
		sumAt    int
	}{
		{"TCP over IPv4", false, 6, 16}, {"UDP over IPv4", false, 17, 6}, {"ICMP", false, 1, 2},
		{"TCP over IPv6", true, 6, 16}, {"UDP over IPv6", true, 17, 6}, {"ICMPv6", true, 58, 2},
	} {
		for _, length := range []int{20, 21, 100, 1439} {
			payload := frameOf(length, nil, 0)
			packet := ipFrame(k.v6, k.protocol, payload)
			s.send(0, append(frameOf(14, portAddress(0), typeRelay), packet...))
			got, err := s.wires[0].Receive(answerLimit)
			if err != nil {
				s.t.Fatal(err)
			}
			got = got[:len(packet)]
			if at := len(packet) - length + k.sumAt; !bytes.Equal(got[len(packet)-length:at], packet[len(packet)-length:at]) || !bytes.Equal(got[at+2:], packet[at+2:]) {
				s.t.Errorf("%s: %d bytes came back changed", k.name, length)
			}
			if !k.v6 && onesSum(got[14:34]) != 0xffff {
				s.t.Errorf("%s: the header's checksum is wrong", k.name)
			}
			pseudo := []byte{byte(length >> 8), byte(length), 0, k.protocol}
			switch {
			case k.v6:
				pseudo = append(pseudo, got[22:54]...)
			case k.protocol == 1:
				pseudo = nil
			default:
				pseudo = append(pseudo, got[26:34]...)
			}
			if onesSum(append(pseudo, got[len(packet)-length:]...)) != 0xffff {
				s.t.Errorf("%s: the checksum of %d bytes is wrong", k.name, length)
			}
		}
	}
}

// ipFrame makes a frame of an IP packet, with rubbish for a header checksum.
func ipFrame(v6 bool, protocol byte, payload []byte) []byte {
	f := append(append([]byte{}, here...), portAddress(0)...)
	if v6 {
		f = append(f, 0x86, 0xdd, 0x60, 0, 0, 0, byte(len(payload)>>8), byte(len(payload)), protocol, 64)
		f = append(f, bytes.Repeat([]byte{0xfe, 0x80, 1, 2}, 8)...)
	} else {
		f = append(f, 8, 0, 0x45, 0, byte((len(payload)+20)>>8), byte(len(payload)+20), 1, 2, 0x40, 0, 64, protocol, 0xaa, 0xbb)
		f = append(f, 192, 0, 2, 1, 192, 0, 2, 2)
	}
	return append(f, payload...)
}

// onesSum is a one's complement sum (RFC 1071).
func onesSum(b []byte) uint16 {
	v := uint32(0)
	for i, x := range b {
		v += uint32(x) << (8 * (1 - i%2))
	}
	for v > 0xffff {
		v = v&0xffff + v>>16
	}
	return uint16(v)
}

// flood sends 10,000 frames as fast as they go, on both ports at once.
func flood(s *station) {
	const frames = 5000
	var both sync.WaitGroup
	for n := range s.wires {
		var all [][]byte
		for range frames {
			all = append(all, frameOf(14+rand.IntN(1501), portAddress(n), typeEcho))
		}
		both.Go(func() { s.echoes(n, all, all) })
	}
	both.Wait()
	counts := s.stats(0)
	s.t.Logf("%d interrupts for %d frames so far", counts["Interrupts"], counts["Received"])
	if counts["Interrupts"] > counts["Received"]/2 {
		s.t.Errorf("%d interrupts for %d frames", counts["Interrupts"], counts["Received"])
	}
}

// rubbish floods a port with what it must drop or take in silence, and sees that other
// work goes on, that nothing comes back, and that all was counted.
func rubbish(s *station) {
	before := s.stats(0)
	var all [][]byte
	count := map[string]int{}
	for range 10000 {
		switch rand.IntN(4) {
		case 0:
			all = append(all, frameOf(1519+rand.IntN(500), portAddress(0), typeEcho))
			count["TooLong"]++
		case 1:
			all = append(all, frameOf(1+rand.IntN(13), portAddress(0), typeEcho))
			count["TooShort"]++
		case 2:
			all = append(all, frameOf(14+rand.IntN(1501), portAddress(9), typeEcho))
			count["Foreign"]++
		case 3:
			all = append(all, frameOf(14+rand.IntN(1501), net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, typeTake))
			count["Received"]++
		}
	}
	count["Received"]++ // the question
	s.send(0, all...)
	after := s.stats(0)
	for name, want := range count {
		if got := after[name] - before[name]; got != want {
			s.t.Errorf("%s rose by %d, not by %d", name, got, want)
		}
	}
	if after["Worked"] == before["Worked"] {
		s.t.Error("nothing else was done meanwhile")
	}
}

// flaps pulls the plug and puts it back.
func flaps(s *station) {
	for range 3 {
		s.plug(0, false)
		s.expect(`port 0 link false\r\n`)
		s.plug(0, true)
		s.expect(`port 0 link true\r\n`)
		s.works()
	}
	for range 20 { // faster than the port looks
		s.plug(0, false)
		s.plug(0, true)
		time.Sleep(time.Duration(rand.IntN(30)) * time.Millisecond)
	}
}

func (s *station) plug(n int, up bool) {
	s.t.Helper()
	if err := s.QMP.SetLink(fmt.Sprint("net", n), up); err != nil {
		s.t.Fatal(err)
	}
}

// storm raises an event at port 0 that the driver does not know, and lets it through to
// the line: the line is raised until somebody puts that right.
func storm(s *station) {
	const (
		eimr = 0x02188008
		mmfr = 0x02188040
		mii  = 1 << 23
	)
	before := s.stats(0)
	g, err := s.Halt()
	if err != nil {
		s.t.Fatal(err)
	}
	mask, err := g.Read(eimr, 4)
	if err == nil {
		err = g.Write(mmfr, word(0x60020000)) // reads a register of PHY 0, and raises MII
	}
	if err == nil {
		err = g.Write(eimr, word(binary.LittleEndian.Uint32(mask)|mii))
	}
	if err == nil {
		err = g.Release()
	}
	if err != nil {
		s.t.Fatal(err)
	}
	time.Sleep(300 * time.Millisecond)
	after := s.stats(0)
	s.t.Logf("%d interrupts in the storm, %d pauses", after["Interrupts"]-before["Interrupts"], after["Fruitless"]-before["Fruitless"])
	if n := after["Interrupts"] - before["Interrupts"]; n < 10 || n > 100 {
		s.t.Errorf("%d interrupts came in the storm", n)
	}
	if after["Worked"] == before["Worked"] {
		s.t.Error("nothing else was done meanwhile")
	}
}
