package stack

import (
	"bytes"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// A sink is the link and the network layer of an endpoint in one: it keeps what is
// sent and what comes up.
type sink struct {
	Link
	offload bool
	frames  [][]byte
	packets [][]byte
}

func (*sink) HardwareAddr() []byte                        { return net.HardwareAddr{2, 0, 0, 0, 0, 1} }
func (k *sink) ChecksumOffload() (transmit, receive bool) { return k.offload, k.offload }
func (*sink) Flush() error                                { return nil }
func (k *sink) Queue(pieces [][]byte) error {
	k.frames = append(k.frames, bytes.Join(pieces, nil))
	return nil
}

func (k *sink) DeliverNetworkPacket(_ tcpip.NetworkProtocolNumber, p *stack.PacketBuffer) {
	v := p.ToView()
	k.packets = append(k.packets, bytes.Clone(v.AsSlice()))
	v.Release()
}

func (*sink) DeliverLinkPacket(tcpip.NetworkProtocolNumber, *stack.PacketBuffer) {}

func newSink(offload bool) (*sink, *endpoint) {
	k := &sink{offload: offload}
	e := newEndpoint(k)
	e.dispatcher.Store(&dispatcher{k})
	return k, e
}

// A piece is a segment to be joined: its payload is n bytes from the sequence number on.
type piece struct {
	seq, ack uint32
	n        int
	flags    header.TCPFlags
	change   func(frame []byte) // of the frame, before its checksums are made
	bad      bool               // its checksum is wrong
}

// frame makes a frame of IPv4 or IPv6. Every byte of payload is its sequence number's
// lowest byte.
func (p piece) frame(v6 bool) []byte {
	size := header.IPv4MinimumSize
	if v6 {
		size = header.IPv6MinimumSize
	}
	f := make([]byte, header.EthernetMinimumSize+size+header.TCPMinimumSize+12+p.n)
	copy(f, []byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0})
	tcp := header.TCP(f[header.EthernetMinimumSize+size:])
	tcp.Encode(&header.TCPFields{SrcPort: 1, DstPort: 2, SeqNum: p.seq, AckNum: p.ack, DataOffset: 32, Flags: p.flags, WindowSize: 1000})
	copy(tcp[header.TCPMinimumSize:], "\x01\x01\x08\x0a\x00\x00\x00\x01\x00\x00\x00\x02")
	for i := range p.n {
		tcp[32+i] = byte(p.seq + uint32(i))
	}
	ip := f[header.EthernetMinimumSize:]
	addresses := ip[12:20]
	if v6 {
		f[12], f[13] = 0x86, 0xdd
		header.IPv6(ip).Encode(&header.IPv6Fields{PayloadLength: uint16(len(tcp)), TransportProtocol: header.TCPProtocolNumber, HopLimit: 64,
			SrcAddr: tcpip.AddrFromSlice(bytes.Repeat([]byte{1}, 16)), DstAddr: tcpip.AddrFromSlice(bytes.Repeat([]byte{2}, 16))})
		addresses = ip[8:40]
	} else {
		header.IPv4(ip).Encode(&header.IPv4Fields{TotalLength: uint16(len(ip)), TTL: 64, Protocol: uint8(header.TCPProtocolNumber),
			SrcAddr: tcpip.AddrFrom4([4]byte{192, 0, 2, 2}), DstAddr: tcpip.AddrFrom4([4]byte{192, 0, 2, 1})})
	}
	if p.change != nil {
		p.change(f)
	}
	if !v6 {
		header.IPv4(ip).SetChecksum(^header.IPv4(ip).CalculateChecksum())
	}
	sum := checksum.Checksum(addresses, uint16(header.TCPProtocolNumber))
	sum = checksum.Combine(sum, uint16(len(tcp)))
	tcp.SetChecksum(^checksum.Checksum(tcp, sum))
	if p.bad {
		f[len(f)-1] ^= 1
	}
	return f
}

// at changes a byte of the IP header's or what follows.
func at(n int, b byte) func([]byte) {
	return func(f []byte) { f[header.EthernetMinimumSize+n] ^= b }
}

// describe gives what came up: sequence number+payload, or the number acknowledged.
func describe(packets [][]byte) string {
	var all []string
	for _, p := range packets {
		size := header.IPv4MinimumSize
		if p[0]>>4 == 6 {
			size = header.IPv6MinimumSize
		}
		tcp := header.TCP(p[size:])
		payload := tcp[tcp.DataOffset():]
		if len(payload) == 0 {
			all = append(all, fmt.Sprintf("ack %d", tcp.AckNumber()))
			continue
		}
		for i, b := range payload {
			if b != byte(tcp.SequenceNumber()+uint32(i)) {
				all = append(all, "wrong payload in")
				break
			}
		}
		length := int(header.IPv4(p).TotalLength())
		if size == header.IPv6MinimumSize {
			length = size + int(header.IPv6(p).PayloadLength())
		}
		if length != len(p) {
			all = append(all, fmt.Sprintf("length field %d of %d in", length, len(p)))
		}
		all = append(all, fmt.Sprintf("%d+%d", tcp.SequenceNumber(), len(payload)))
	}
	return strings.Join(all, ", ")
}

func TestJoin(t *testing.T) {
	const ack, psh, fin, ece, cwr = header.TCPFlagAck, header.TCPFlagAck | header.TCPFlagPsh, header.TCPFlagAck | header.TCPFlagFin, header.TCPFlagAck | header.TCPFlagEce, header.TCPFlagAck | header.TCPFlagCwr
	data := func(seq uint32, n int) piece { return piece{seq: seq, n: n, flags: ack, ack: 7} }
	changed := func(change func([]byte)) piece { p := data(1000, 1000); p.change = change; return p }
	acks := func(number uint32) piece { return piece{seq: 5, ack: number, flags: ack} }
	for _, c := range []struct {
		name   string
		pieces []piece
		want   string
		only   int // 4 or 6: with this version only
	}{
		{"in order", []piece{data(0, 1000), data(1000, 1000), data(2000, 1000)}, "0+3000", 0},
		{"wraps", []piece{data(1<<32-1000, 1000), data(0, 1000)}, "4294966296+2000", 0},
		{"a gap", []piece{data(0, 1000), data(1001, 1000)}, "0+1000, 1001+1000", 0},
		{"again", []piece{data(0, 1000), data(0, 1000)}, "0+1000, 0+1000", 0},
		{"backwards", []piece{data(1000, 1000), data(0, 1000)}, "1000+1000, 0+1000", 0},
		{"a shorter one ends it", []piece{data(0, 1000), data(1000, 600), data(1600, 1000)}, "0+1600, 1600+1000", 0},
		{"a longer one", []piece{data(0, 600), data(600, 1000)}, "0+600, 600+1000", 0},
		{"short ones", []piece{data(0, 500), data(500, 500)}, "0+500, 500+500", 0},
		{"push ends it", []piece{data(0, 1000), {seq: 1000, n: 1000, flags: psh, ack: 7}, data(2000, 1000)}, "0+2000, 2000+1000", 0},
		{"end ends it", []piece{data(0, 1000), {seq: 1000, n: 1000, flags: fin, ack: 7}, data(2000, 1000)}, "0+2000, 2000+1000", 0},
		{"another acknowledgement", []piece{data(0, 1000), {seq: 1000, n: 1000, flags: ack, ack: 8}}, "0+1000, 1000+1000", 0},
		{"congestion told", []piece{data(0, 1000), {seq: 1000, n: 1000, flags: ece, ack: 7}}, "0+1000, 1000+1000", 0},
		{"congestion heard", []piece{data(0, 1000), {seq: 1000, n: 1000, flags: cwr, ack: 7}}, "0+1000, 1000+1000", 0},
		{"bad checksum", []piece{data(0, 1000), {seq: 1000, n: 1000, flags: ack, ack: 7, bad: true}}, "0+1000, wrong payload in, 1000+1000", 0},
		{"more than 64 KiB", slices.Collect(func(yield func(piece) bool) {
			for i := range uint32(48) {
				if !yield(data(i*1400, 1400)) {
					return
				}
			}
		}), "0+64400, 64400+2800", 0},

		{"class", []piece{data(0, 1000), changed(at(1, 4))}, "0+1000, 1000+1000", 4},
		{"marked (ECN)", []piece{data(0, 1000), changed(at(1, 0x30))}, "0+1000, 1000+1000", 6},
		{"identification may differ", []piece{data(0, 1000), changed(at(5, 1))}, "0+2000", 4},
		{"fragment", []piece{data(0, 1000), changed(at(6, 0x20))}, "0+1000, 1000+1000", 4},
		{"time to live", []piece{data(0, 1000), changed(at(8, 1))}, "0+1000, 1000+1000", 4},
		{"hop limit", []piece{data(0, 1000), changed(at(7, 1))}, "0+1000, 1000+1000", 6},
		{"source", []piece{data(0, 1000), changed(at(15, 1))}, "0+1000, 1000+1000", 0},
		{"destination", []piece{data(0, 1000), changed(at(19, 1))}, "0+1000, 1000+1000", 4},
		{"source port", []piece{data(0, 1000), changed(at(20, 1))}, "0+1000, 1000+1000", 0},
		{"window", []piece{data(0, 1000), changed(at(34, 1))}, "0+1000, 1000+1000", 4},
		{"time stamp", []piece{data(0, 1000), changed(at(47, 1))}, "0+1000, 1000+1000", 4},

		{"acknowledgements", []piece{acks(10), acks(20), acks(1000)}, "ack 1000", 0},
		{"wrap", []piece{acks(1<<32 - 5), acks(5)}, "ack 5", 0},
		{"repeated", []piece{acks(10), acks(10), acks(10), acks(20)}, "ack 10, ack 10, ack 20", 0},
		{"backwards", []piece{acks(20), acks(10)}, "ack 20, ack 10", 0},
		{"of another connection", []piece{acks(10), {seq: 5, ack: 20, flags: ack, change: at(21, 1)}}, "ack 10, ack 20", 4},
		{"with other options", []piece{acks(10), {seq: 5, ack: 20, flags: ack, change: at(42, 13)}}, "ack 10, ack 20", 4},
		{"marked (ECN)", []piece{acks(10), {seq: 5, ack: 20, flags: ack, change: at(1, 3)}}, "ack 10, ack 20", 4},
		{"after data", []piece{data(0, 1000), acks(10), data(1000, 1000)}, "0+1000, ack 10, 1000+1000", 0},
		{"with an end", []piece{acks(10), {seq: 5, ack: 20, flags: fin}}, "ack 10, ack 20", 0},
	} {
		for _, v6 := range []bool{false, true} {
			if c.only == 4 && v6 || c.only == 6 && !v6 {
				continue
			}
			k, e := newSink(false)
			for _, p := range c.pieces {
				e.deliver(p.frame(v6))
			}
			e.join.flush()
			if got := describe(k.packets); got != c.want {
				t.Errorf("%s (IPv6 %t): %s; not %s", c.name, v6, got, c.want)
			}
		}
	}
}

// TestPadding: what Ethernet adds to short frames is no payload.
func TestPadding(t *testing.T) {
	k, e := newSink(false)
	f := piece{seq: 5, ack: 10, flags: header.TCPFlagAck}.frame(false)
	e.deliver(append(f, 1, 2, 3, 4))
	e.join.flush()
	if got := describe(k.packets); got != "ack 10" {
		t.Error(got)
	}
}

// TestSplit: a long packet becomes segments with right headers, on links that make
// checksums and on those that do not; joined again it is the same.
func TestSplit(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		for _, offload := range []bool{false, true} {
			k, e := newSink(offload)
			const n, mss = 10001, 1448
			flags := header.TCPFlags(header.TCPFlagAck | header.TCPFlagPsh | header.TCPFlagFin | header.TCPFlagCwr)
			whole := piece{seq: 1<<32 - 3000, ack: 7, n: n, flags: flags, change: func(f []byte) {
				if !v6 {
					f[header.EthernetMinimumSize+5] = 9 // identification
				}
			}}.frame(v6)
			size := len(whole) - n
			p := stack.NewPacketBuffer(stack.PacketBufferOptions{ReserveHeaderBytes: size})
			copy(p.TransportHeader().Push(32), whole[size-32:])
			copy(p.NetworkHeader().Push(size-32-header.EthernetMinimumSize), whole[header.EthernetMinimumSize:])
			copy(p.LinkHeader().Push(header.EthernetMinimumSize), whole)
			for at := size; at < len(whole); at += 3333 { // in several views, of odd lengths
				p.Data().AppendView(buffer.NewViewWithData(whole[at:min(at+3333, len(whole))]))
			}
			p.GSOOptions = stack.GSO{Type: stack.GSOTCPv4, MSS: mss, NeedsCsum: true}
			var list stack.PacketBufferList
			list.PushBack(p)
			if sent, err := e.WritePackets(list); sent != 1 || err != nil {
				t.Fatal(sent, err)
			}
			if len(k.frames) != 7 {
				t.Fatalf("%d frames", len(k.frames))
			}
			for i, f := range k.frames {
				want := piece{seq: 1<<32 - 3000 + uint32(i*mss), ack: 7, n: min(mss, n-i*mss), flags: flags &^ header.TCPFlagCwr, change: func(f []byte) {
					if !v6 {
						f[header.EthernetMinimumSize+5] = 9 + byte(i)
					}
				}}
				if i == 0 {
					want.flags |= header.TCPFlagCwr
				}
				if i < 6 {
					want.flags &^= header.TCPFlagPsh | header.TCPFlagFin
				}
				w := want.frame(v6)
				if offload { // left to the link
					copy(w[size-32+header.TCPChecksumOffset:], []byte{0, 0})
					if !v6 {
						copy(w[header.EthernetMinimumSize+10:], []byte{0, 0})
					}
				}
				if !bytes.Equal(f, w) {
					t.Errorf("IPv6 %t, offload %t, segment %d:\n%x\nnot\n%x", v6, offload, i, f[:size], w[:size])
				}
			}
			p.DecRef()
		}
	}
}
