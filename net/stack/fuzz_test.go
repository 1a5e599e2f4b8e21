package stack_test

import (
	_ "embed"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip/header"

	"nitro/net/dhcp"
	"nitro/net/stack"
	"nitro/net/stack/stacktest"
)

// target is a stack with everything on that frames can reach: both protocols, DHCP,
// router advertisements, listeners, and a connection. Its link says that checksums are
// verified, so that those in frames need not be right.
type target struct {
	*station
	port uint16
}

// peer is who the probes of a target come from.
var peer = netip.MustParseAddr("192.0.2.99")

func newTarget(t testing.TB) *target {
	s := newStation(t, stacktest.Options{Offload: true, Lossy: true})
	serveDHCP(s, nil)
	k, err := stack.New(stack.Config{Name: "target", Link: s.link, DHCP: true, SLAAC: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.WaitAddress(within(t)); err != nil {
		t.Fatal(err)
	}
	l, err := k.Listen("tcp", ":80")
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				b := make([]byte, 4096)
				for {
					n, err := c.Read(b)
					if err != nil {
						c.Close()
						return
					}
					c.Write(b[:n])
				}
			}()
		}
	}()
	if _, err := k.ListenPacket("udp", ":7"); err != nil {
		t.Fatal(err)
	}
	return &target{station: s, port: 1024}
}

// serves shows that the stack goes on: it answers a SYN.
func (g *target) serves() {
	g.mu.Lock()
	g.seen = nil
	g.mu.Unlock()
	if g.port++; g.port < 1024 {
		g.port = 1024
	}
	port := g.port
	// Frames may have told another hardware address.
	g.link.Inject(g.arp(header.ARPRequest, addr(peer), addr(leased.Addr())))
	p, m := syn(peer, leased.Addr(), port, 80)
	g.link.Inject(g.ip(peer, leased.Addr(), p, m, nil, 0))
	g.expect("an answer to a SYN", func(f []byte) bool {
		_, to, p, m := transport(f)
		return p == header.TCPProtocolNumber && to == peer && header.TCP(m).DestinationPort() == port
	})
}

// join makes one input of frames: each has its length before it.
func joinFrames(frames ...[]byte) (all []byte) {
	for _, f := range frames {
		all = append(binary.BigEndian.AppendUint16(all, uint16(len(f))), f...)
	}
	return all
}

var live = sync.OnceValues(func() (*target, *sync.Mutex) { return newTarget(quiet{}), new(sync.Mutex) })

// quiet is a testing.TB that outlives a test: what all inputs share is set up in it.
type quiet struct{ testing.TB }

func (quiet) Helper()                   {}
func (quiet) Cleanup(func())            {}
func (quiet) Error(a ...any)            { panic(a) }
func (quiet) Fatal(a ...any)            { panic(a) }
func (quiet) Fatalf(f string, a ...any) { panic(fmt.Sprintf(f, a...)) }

// kept are inputs that the fuzzer found interesting, one a line. They are not where it
// looks for them by itself, since the board cannot list a folder.
//
//go:embed testdata/frames.hex
var kept string

// FuzzFrames: frames of any content and length, in any number, neither make a live
// stack panic nor keep it from serving.
func FuzzFrames(f *testing.F) {
	for _, seed := range seeds() {
		f.Add(seed)
	}
	for line := range strings.Lines(kept) {
		b, err := hex.DecodeString(strings.TrimSpace(line))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		g, mu := live()
		mu.Lock()
		defer mu.Unlock()
		for frames := 0; len(b) >= 2 && frames < 64; frames++ {
			n := min(int(binary.BigEndian.Uint16(b)), len(b)-2)
			frame := b[2 : 2+n]
			b = b[2+n:]
			// Most frames are for the stack: those for others end at once.
			if n >= 6 && frame[0]&1 == 0 {
				frame = append([]byte(g.own()), frame[6:]...)
			}
			g.link.Inject(frame)
		}
		g.serves()
	})
}

// seeds are inputs to begin with: one of each kind of frame that the stack looks into.
func seeds() (all [][]byte) {
	g := newTarget(quiet{})
	own4, own6, peer6 := leased.Addr(), netip.MustParseAddr("fe80::1"), netip.MustParseAddr("fe80::2")
	var frames [][]byte
	add := func(f []byte) { frames = append(frames, f) }
	add(g.arp(header.ARPRequest, addr(peer), addr(own4)))
	add(g.arp(header.ARPReply, addr(peer), addr(own4)))
	for _, to := range []netip.Addr{own4, own6} {
		from := peer
		if to.Is6() {
			from = peer6
		}
		p, m := ping(from, to, 1)
		add(g.ip(from, to, p, m, nil, 0))
		p, m = syn(from, to, 4000, 80)
		add(g.ip(from, to, p, m, nil, 0))
		for flags := range 64 {
			segment := header.TCP(make([]byte, header.TCPMinimumSize+12+1000))
			segment.Encode(&header.TCPFields{SrcPort: 4000, DstPort: 80, SeqNum: 4000<<12 + 1, AckNum: 1, DataOffset: 32, Flags: header.TCPFlags(flags), WindowSize: 1000})
			copy(segment[header.TCPMinimumSize:], "\x01\x01\x08\x0a\x00\x00\x00\x01\x00\x00\x00\x00")
			add(g.ip(from, to, header.TCPProtocolNumber, segment, nil, 0))
		}
		p, m = datagram(from, to, 4000, 7, []byte("datagram"))
		add(g.ip(from, to, p, m, nil, 0))
		p, m = datagram(from, to, dhcp.ServerPort, dhcp.ClientPort, []byte("datagram"))
		add(g.ip(from, to, p, m, nil, 0))
	}
	for _, options := range [][]byte{{131, 7, 4, 192, 0, 2, 9, 0}, {7, 7, 4, 0, 0, 0, 0, 0}, {68, 8, 5, 0, 0, 0, 0, 0}, {148, 4, 0, 0}, {1, 1, 1, 0}} {
		p, m := ping(peer, own4, 1)
		add(g.ip(peer, own4, p, m, options, 0))
	}
	// Fragments; an error about a segment that was never sent.
	p, m := ping(peer, own4, 1)
	fragment := g.ip(peer, own4, p, m, nil, 0)
	fragment[14+6] = 0x20
	add(fragment)
	p, m = ping(peer6, own6, 1)
	add(g.ip(peer6, own6, p, m, []byte{0, 0, 0, 1, 0, 0, 0, 1}, 44))
	add(g.ip(peer, own4, header.ICMPv4ProtocolNumber, append([]byte{3, 4, 0, 0, 0, 0, 5, 0}, fragment[14:]...), nil, 0))
	// Extension headers, multicast listener queries, neighbour discovery.
	for _, kind := range []uint8{0, 43, 60, 135} {
		add(g.ip(peer6, own6, p, m, []byte{0, 0, 1, 4, 0, 0, 0, 0}, kind))
	}
	for kind := 128; kind < 144; kind++ {
		body := make([]byte, 64)
		body[0] = byte(kind)
		copy(body[24:], "\x01\x01\x02\x00\x00\x00\x00\x02\x03\x04\x40\xc0")
		f := g.ip(peer6, netip.MustParseAddr("ff02::1"), header.ICMPv6ProtocolNumber, body, nil, 0)
		copy(f, header.EthernetAddressFromMulticastIPv6Address(addr(netip.MustParseAddr("ff02::1"))))
		add(f)
	}
	for _, f := range frames {
		all = append(all, joinFrames(f))
	}
	return append(all, joinFrames(frames...), joinFrames(nil, []byte{1}, make([]byte, 13), make([]byte, 14), make([]byte, 1514)))
}
