package stack

import (
	"fmt"
	"sync"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// A shortcut is a sink that takes segments for TCP too, and tells by which way each came.
type shortcut struct {
	*sink
	mu    sync.Mutex
	order []string
}

func (k *shortcut) note(way string, tcp header.TCP, n int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.order = append(k.order, fmt.Sprintf("%s %d+%d ack %d", way, tcp.SequenceNumber(), n, tcp.AckNumber()))
}

func (k *shortcut) DeliverNetworkPacket(_ tcpip.NetworkProtocolNumber, p *stack.PacketBuffer) {
	v := p.ToView()
	defer v.Release()
	tcp := header.TCP(v.AsSlice()[header.IPv4MinimumSize:])
	k.note("long", tcp, len(tcp.Payload()))
}

func (k *shortcut) DeliverTransportPacket(_ tcpip.TransportProtocolNumber, p *stack.PacketBuffer) stack.TransportPacketDisposition {
	k.note("short", header.TCP(p.TransportHeader().Slice()), p.Data().Size())
	return stack.TransportPacketHandled
}

func (*shortcut) DeliverTransportError(local, remote tcpip.Address, _ tcpip.NetworkProtocolNumber, _ tcpip.TransportProtocolNumber, _ stack.TransportError, _ *stack.PacketBuffer) {
}

func (*shortcut) DeliverRawPacket(tcpip.TransportProtocolNumber, *stack.PacketBuffer) {}

// take gives what has come up since the last call.
func (k *shortcut) take() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	s := fmt.Sprint(k.order)
	k.order = nil
	return s
}

// send notes what this side sends in the connection of the pieces: n bytes from a sequence
// number on.
func send(e *endpoint, seq uint32, n int) {
	f := piece{seq: seq, n: 0, flags: header.TCPFlagAck}.frame(false)[header.EthernetMinimumSize:]
	ip, tcp := f[:header.IPv4MinimumSize], f[header.IPv4MinimumSize:]
	for i := range 4 { // the other way round
		ip[12+i], ip[16+i] = ip[16+i], ip[12+i]
	}
	tcp[1], tcp[3] = tcp[3], tcp[1]
	e.flows.sent(ip, tcp, n)
}

// TestFlow: which packets go straight to TCP, and which segments wait when a batch ends.
func TestFlow(t *testing.T) {
	const ack, psh = header.TCPFlagAck, header.TCPFlagAck | header.TCPFlagPsh
	acks := func(number uint32) piece { return piece{seq: 5, ack: number, flags: ack} }
	data := func(number uint32) piece { return piece{seq: 5, n: 72, ack: number, flags: psh} }
	for _, c := range []struct {
		name   string
		sent   []int // bytes, from 100 on
		before []piece
		now    string // has come up when the first batch has ended
		after  []piece
		later  string // comes up with the second batch
	}{
		{"unknown", nil, []piece{data(7)}, "[long 5+72 ack 7]", nil, "[]"},
		{"known", []int{0}, []piece{data(7)}, "[short 5+72 ack 7]", nil, "[]"},
		{"other address", []int{0}, []piece{{seq: 5, n: 72, ack: 7, flags: psh, change: at(19, 1)}}, "[long 5+72 ack 7]", nil, "[]"},
		{"other port", []int{0}, []piece{{seq: 5, n: 72, ack: 7, flags: psh, change: at(21, 64)}}, "[long 5+72 ack 7]", nil, "[]"},
		{"handshake", []int{0}, []piece{acks(100)}, "[short 5+0 ack 100]", nil, "[]"},
		{"of little", []int{4000}, []piece{acks(4100)}, "[]", []piece{data(4100)}, "[short 5+72 ack 4100]"},
		{"of part of little", []int{1448, 1448, 1000}, []piece{acks(2996)}, "[]", []piece{data(3996)}, "[short 5+72 ack 3996]"},
		{"of much", []int{4000, 4000, 4000}, []piece{acks(4100)}, "[short 5+0 ack 4100]", nil, "[]"},
		{"of more than there is", []int{4000}, []piece{acks(4101)}, "[short 5+0 ack 4101]", nil, "[]"},
		{"repeated", []int{4000}, []piece{acks(2100), acks(2100)}, "[short 5+0 ack 2100 short 5+0 ack 2100]", nil, "[]"},
		{"not repeated by data", []int{4000}, []piece{acks(4100)}, "[]", []piece{data(4000)}, "[short 5+0 ack 4100 short 5+72 ack 4000]"},
		{"other data", []int{4000}, []piece{acks(4100)}, "[]", []piece{{seq: 5, n: 72, ack: 4100, flags: psh, change: at(21, 64)}}, "[short 5+0 ack 4100 long 5+72 ack 4100]"},
		{"middle of a burst", []int{0}, []piece{{seq: 0, n: 1000, flags: ack}}, "[short 0+1000 ack 0]", []piece{{seq: 1000, n: 500, flags: psh}}, "[short 1000+500 ack 0]"},
		{"end of a burst", []int{0}, []piece{{seq: 0, n: 1000, flags: ack}, {seq: 1000, n: 500, flags: psh}}, "[short 0+1500 ack 0]", nil, "[]"},
	} {
		k := &shortcut{sink: &sink{}}
		e := newEndpoint(k)
		e.dispatcher.Store(&dispatcher{k})
		next := uint32(100)
		for _, n := range c.sent {
			send(e, next, n)
			next += uint32(n)
		}
		for i, batch := range [][]piece{c.before, c.after} {
			for _, p := range batch {
				e.deliver(p.frame(false))
			}
			e.join.rest()
			if got, want := k.take(), []string{c.now, c.later}[i]; got != want {
				t.Errorf("%s, batch %d: %s; not %s", c.name, i+1, got, want)
			}
		}
		e.join.end()
	}
}

// TestLate: what waits does so once only, and not beyond the link's end.
func TestLate(t *testing.T) {
	k := &shortcut{sink: &sink{}}
	e := newEndpoint(k)
	e.dispatcher.Store(&dispatcher{k})
	late := func(round uint32) (want string) { // an acknowledgement that may wait
		first := 100 + 4000*round
		send(e, first, 4000)
		e.deliver(piece{seq: 5, ack: first + 4000, flags: header.TCPFlagAck}.frame(false))
		return fmt.Sprintf("[short 5+0 ack %d]", first+4000)
	}
	for round := range uint32(3) {
		want := late(round)
		waits := e.join.rest()
		if got := k.take(); !waits || got != "[]" {
			t.Errorf("round %d: %s, waits %t", round, got, waits)
		}
		waits = e.join.rest()
		if got := k.take(); waits || got != want {
			t.Errorf("round %d: %s, not %s; waits %t", round, got, want, waits)
		}
	}
	want := late(3)
	e.join.end()
	if got := k.take(); got != want {
		t.Errorf("at the end: %s, not %s", got, want)
	}
}
