package stack_test

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/faketime"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"nitro/net/stack"
	"nitro/net/stack/stacktest"
)

// badWire loses one frame in a hundred, doubles one, and holds one back until others
// have passed.
type badWire struct {
	mu   sync.Mutex
	r    *rand.Rand
	held []byte
}

func (w *badWire) filter(f []byte) []byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch w.r.IntN(100) {
	case 0:
		return nil
	case 1:
		f, w.held = w.held, f
	}
	return f
}

// TestBadWire: TCP delivers over a wire that loses and reorders, on both kinds of link.
func TestBadWire(t *testing.T) {
	for _, offload := range []bool{false, true} {
		w := &badWire{r: rand.New(rand.NewPCG(1, 2))}
		a, b, _, _ := pair(t, stacktest.Options{Offload: offload, Filter: w.filter, Lossy: true})
		client, server := connect(t, a, b, "tcp4", "192.0.2.2:0")
		transfer(t, client, server, 2<<20)
		transfer(t, server, client, 2<<20)
		if a.Stats().Retransmissions == 0 || b.Stats().Retransmissions == 0 {
			t.Errorf("nothing was lost: the test tests nothing")
		}
	}
}

// TestFlippedBits: on a link that verifies no checksums the stack does, also of what
// is joined.
func TestFlippedBits(t *testing.T) {
	w := &badWire{r: rand.New(rand.NewPCG(1, 2))}
	a, b, _, _ := pair(t, stacktest.Options{Filter: func(f []byte) []byte {
		w.mu.Lock()
		defer w.mu.Unlock()
		if len(f) > 1000 && w.r.IntN(50) == 0 {
			f[14+w.r.IntN(len(f)-14)] ^= 1 << w.r.IntN(8)
		}
		return f
	}})
	client, server := connect(t, a, b, "tcp4", "192.0.2.2:0")
	transfer(t, client, server, 2<<20)
	if s := b.Stats(); s.ChecksumErrors+s.PacketsMalformed == 0 || s.SegmentsJoined == 0 {
		t.Errorf("%+v", s)
	}
}

// TestLinkFlap: a connection outlives a short break of the link.
func TestLinkFlap(t *testing.T) {
	a, b, la, _ := pair(t, stacktest.Options{})
	client, server := connect(t, a, b, "tcp4", "192.0.2.2:0")
	transfer(t, client, server, 1000)
	la.SetUp(false)
	wrote := make(chan error, 1)
	go func() {
		_, err := client.Write([]byte("over"))
		wrote <- err
	}()
	time.Sleep(100 * time.Millisecond)
	la.SetUp(true)
	server.SetReadDeadline(time.Now().Add(limit))
	got := make([]byte, 4)
	if _, err := io.ReadFull(server, got); err != nil || string(got) != "over" {
		t.Errorf("%q, %v", got, err)
	}
	if err := <-wrote; err != nil {
		t.Error(err)
	}
}

// TestDeadPeers: connections to a peer that has vanished end, by keep-alives when they
// are idle, and sooner when there is data.
func TestDeadPeers(t *testing.T) {
	clock := faketime.NewManualClock()
	la, lb := stacktest.NewLinks(stacktest.Options{})
	a := start(t, stack.WithClock(stack.Config{Name: "one", Link: la, Address: address1, NoIPv6: true}, clock))
	b := start(t, stack.WithClock(stack.Config{Name: "two", Link: lb, Address: address2, NoIPv6: true}, clock))
	idle, _ := connect(t, a, b, "tcp4", "192.0.2.2:0")
	busy, _ := connect(t, a, b, "tcp4", "192.0.2.2:0")

	// settle waits, on the real clock, until no more frames come of the last step of the
	// played one: a slow machine takes its time to answer.
	settle := func() {
		last, quiet := uint64(0), 0
		for quiet < 3 {
			time.Sleep(time.Millisecond)
			frames := a.Stats().FramesReceived + b.Stats().FramesReceived
			if quiet++; frames != last {
				last, quiet = frames, 0
			}
		}
	}

	// As long as the peer is there, an idle connection stays.
	for range 60 {
		clock.Advance(10 * time.Second)
		settle()
	}
	ended := make(chan error, 1)
	read := func(c net.Conn) {
		_, err := c.Read(make([]byte, 1))
		ended <- err
	}
	la.SetUp(false)
	begin := clock.NowMonotonic()
	await := func(what string, least, most time.Duration) {
		t.Helper()
		for {
			select {
			case err := <-ended:
				if took := clock.NowMonotonic().Sub(begin); !errors.Is(err, syscall.ETIMEDOUT) && !errors.Is(err, syscall.EHOSTUNREACH) || took < least || took > most {
					t.Errorf("%s ended after %v: %v", what, took, err)
				}
				return
			default:
			}
			if clock.NowMonotonic().Sub(begin) > 10*time.Minute {
				t.Fatalf("%s does not end", what)
			}
			clock.Advance(time.Second)
			settle()
		}
	}
	if _, err := busy.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	go read(busy)
	await("a connection with data", 30*time.Second, 75*time.Second)
	go read(idle)
	await("an idle connection", 60*time.Second, 100*time.Second)
}

// TestSYNFlood: many half-open connections cost little, and others are still served.
func TestSYNFlood(t *testing.T) {
	s := newStation(t, stacktest.Options{})
	k := start(t, stack.Config{Name: "one", Link: s.link, Address: address1, NoIPv6: true})
	l, err := k.Listen("tcp", ":80")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan net.Conn, 1)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			served <- c
		}
	}()
	before := heap()
	const flood = 20000
	for i := range flood {
		from := netip.AddrFrom4([4]byte{192, 0, 2, byte(3 + i%200)})
		p, m := syn(from, address1.Addr(), uint16(1024+i), 80)
		s.link.Inject(s.ip(from, address1.Addr(), p, m, nil, 0))
	}
	from := netip.MustParseAddr("192.0.2.250")
	p, m := syn(from, address1.Addr(), 999, 80)
	honest := s.ip(from, address1.Addr(), p, m, nil, 0)
	answer := s.insist("an answer to the honest SYN", func(f []byte) bool {
		_, to, p, m := transport(f)
		return p == header.TCPProtocolNumber && to == from && header.TCP(m).DestinationPort() == 999
	}, func() { s.link.Inject(honest) }) // it may be lost in the flood
	_, _, _, m = transport(answer)
	ack := header.TCP(make([]byte, header.TCPMinimumSize))
	ack.Encode(&header.TCPFields{
		SrcPort: 999, DstPort: 80, SeqNum: header.TCP(m).AckNumber(), AckNum: header.TCP(m).SequenceNumber() + 1,
		DataOffset: header.TCPMinimumSize, Flags: header.TCPFlagAck, WindowSize: 65535,
	})
	ack.SetChecksum(^ack.CalculateChecksum(sumOf(header.TCPProtocolNumber, from, address1.Addr(), len(ack))))
	honest = s.ip(from, address1.Addr(), header.TCPProtocolNumber, ack, nil, 0)
	var c net.Conn
	for end := time.Now().Add(limit); c == nil && time.Now().Before(end); {
		s.link.Inject(honest)
		select {
		case c = <-served:
		case <-time.After(time.Second):
		}
	}
	if c == nil {
		t.Error("the honest client is not served")
	} else if got := c.RemoteAddr().String(); got != "192.0.2.250:999" {
		t.Errorf("served %v", got)
	}
	st := k.Stats()
	if st.SYNCookiesSent < flood/2 {
		t.Errorf("%d cookies for %d SYNs", st.SYNCookiesSent, flood)
	}
	s.take()
	if grown := heap() - before; grown > 4<<20 {
		t.Errorf("%d SYNs hold %d KiB", flood, grown>>10)
	}
}

func heap() int64 {
	var m runtime.MemStats
	for range 3 {
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestManyConnections: beyond MaxConnections clients wait, and are served when others
// have gone.
func TestManyConnections(t *testing.T) {
	a, b, _, _ := pair(t, stacktest.Options{})
	l, err := b.Listen("tcp4", ":80")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	accepted := make(chan net.Conn, stack.MaxConnections+10)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			accepted <- c
		}
	}()
	for i := range stack.MaxConnections + 10 {
		c, err := a.Dial(within(t), "tcp4", "192.0.2.2:80")
		if err != nil {
			t.Fatal(i, err)
		}
		defer c.Close()
	}
	var open []net.Conn
	for range stack.MaxConnections {
		open = append(open, <-accepted)
	}
	select {
	case <-accepted:
		t.Error("more than MaxConnections were accepted")
	case <-time.After(50 * time.Millisecond):
	}
	for _, c := range open {
		c.Close()
	}
	for range 10 {
		select {
		case c := <-accepted:
			c.Close()
		case <-time.After(limit):
			t.Fatal("those that waited are not served")
		}
	}
}

// TestLeak: connections that come and go leave nothing.
func TestLeak(t *testing.T) {
	t.Parallel()
	connections := 10000
	if testing.Short() {
		connections = 1000
	}
	a, b, _, _ := pair(t, stacktest.Options{})
	l, err := b.Listen("tcp4", ":80")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				io.Copy(c, c)
				c.Close()
			}()
		}
	}()
	one := func() {
		c, err := a.Dial(within(t), "tcp4", "192.0.2.2:80")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(limit))
		if _, err := c.Write([]byte("ping")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, make([]byte, 4)); err != nil {
			t.Fatal(err)
		}
	}
	for range 100 {
		one()
	}
	for range connections {
		one()
	}
	left := func() uint64 { return a.Stats().Connections + b.Stats().Connections }
	for end := time.Now().Add(limit); left() > 0 && time.Now().Before(end); { // TIME-WAIT takes ten seconds
		time.Sleep(100 * time.Millisecond)
	}
	if n := left(); n > 0 {
		t.Errorf("%d connections are left", n)
	}
	// What a connection leaves would be ten thousand times there. Other tests run meanwhile,
	// and hold 14 to 20 MiB.
	if held := heap(); held > 24<<20 {
		t.Errorf("%d KiB are held after %d connections", held>>10, connections)
	}
}

// TestStopsWhole: Close leaves no goroutine.
func TestStopsWhole(t *testing.T) {
	before := runtime.NumGoroutine()
	for i := range 20 {
		la, lb := stacktest.NewLinks(stacktest.Options{})
		a := start(t, stack.Config{Name: "one", Link: la, Address: address1, SLAAC: true})
		b := start(t, stack.Config{Name: "two", Link: lb, DHCP: i%2 == 0})
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Millisecond)
		a.Dial(ctx, "tcp4", "192.0.2.2:80")
		cancel()
		l, err := a.Listen("tcp", ":80")
		if err != nil {
			t.Fatal(err)
		}
		go l.Accept()
		a.Close()
		b.Close()
		l.Close()
	}
	for end := time.Now().Add(limit); ; time.Sleep(10 * time.Millisecond) {
		n := runtime.NumGoroutine()
		if n <= before {
			return
		}
		if time.Now().After(end) {
			buf := make([]byte, 1<<20)
			t.Fatalf("%d goroutines, %d before\n%s", n, before, buf[:runtime.Stack(buf, true)])
		}
	}
}
