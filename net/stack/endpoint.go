package stack

import (
	"errors"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// mtu is the longest network packet of an Ethernet frame, in bytes.
const mtu = 1500

// burst is the longest packet that TCP hands down to be split into segments, in
// bytes. The longer it is, the less work there is above the link; it need not be
// longer than what the link's ring takes at once.
const burst = 48 << 10

// retry is how long the receiver waits after the link failed in some other way
// than by being closed.
const retry = 100 * time.Millisecond

// spell is how long the receiver goes on without giving the processor to others. Go's
// scheduler, which counts the time that a link waits on its thread, thinks after 10 ms that
// the receiver has had the processor for that long, and takes it away each time that it
// waits.
const spell = 8 * time.Millisecond

// An endpoint joins a Link to the network layer: it is gVisor's link endpoint. It
// adds and takes off Ethernet headers, splits what TCP sends (split.go), and joins
// what TCP receives (join.go).
type endpoint struct {
	link       Link
	address    tcpip.LinkAddress
	txOffload  bool
	rxOffload  bool
	dispatcher atomic.Pointer[dispatcher] // nil while detached
	capture    func(frame []byte) bool    // takes frames before the network layer
	done       chan struct{}              // closed when the receiver has ended
	counts     counts

	sending sync.Mutex // serializes Queue and Flush, and guards what follows
	pieces  [][]byte
	headers [header.EthernetMinimumSize + header.IPv6MinimumSize + header.TCPHeaderMaximumSize]byte

	clock     *clock
	flows     flows
	tcp       queuer        // gVisor's
	unsettled []*connection // the receiver's, see settle
	turns     turns
	join      join        // the receiver's
	verified  atomic.Bool // the packet that goes up needs no verification
}

type dispatcher struct{ stack.NetworkDispatcher }

// counts are the link's own counters; see Stats.
type counts struct {
	received, receivedBytes, sent, sentBytes   atomic.Uint64
	dropped, unsent, joined, receiveErrors, up atomic.Uint64
	addressErrors                              atomic.Uint64
}

var (
	_ stack.LinkEndpoint = (*endpoint)(nil)
	_ stack.GSOEndpoint  = (*endpoint)(nil)
)

func newEndpoint(l Link) *endpoint {
	e := &endpoint{link: l, clock: newClock(), address: tcpip.LinkAddress(l.HardwareAddr()), done: make(chan struct{})}
	e.txOffload, e.rxOffload = l.ChecksumOffload()
	e.join.e = e
	return e
}

// receive takes frames from the link until that is closed. When it has delivered some, it
// sees to the connections that can be seen to at once, and looks for more frames between
// them.
func (e *endpoint) receive() {
	defer close(e.done)
	yielded := e.clock.freeze()
	for limit := time.Duration(-1); ; {
		if now := e.clock.thaw(); now.Sub(yielded) >= spell {
			runtime.Gosched()
			yielded = now
		}
		err := e.link.Receive(limit, e.deliver)
		limit = -1
		if e.join.rest() {
			limit = holdLimit
		}
		if e.turns.run() {
			limit = 0
		}
		e.settle()
		if errors.Is(err, os.ErrClosed) {
			e.join.end()
			return
		}
		if err != nil {
			e.counts.receiveErrors.Add(1)
			e.join.end()
			time.Sleep(retry)
		}
	}
}

// deliver looks at one frame. Frames to other stations (a link may let them
// through) and protocols that nobody here speaks go no further.
func (e *endpoint) deliver(frame []byte) {
	e.counts.received.Add(1)
	e.counts.receivedBytes.Add(uint64(len(frame)))
	if len(frame) < header.EthernetMinimumSize {
		e.counts.dropped.Add(1)
		return
	}
	to := kind(frame[:6], e.address)
	protocol := tcpip.NetworkProtocolNumber(frame[12])<<8 | tcpip.NetworkProtocolNumber(frame[13])
	if to == tcpip.PacketOtherHost ||
		protocol != header.IPv4ProtocolNumber && protocol != header.IPv6ProtocolNumber && protocol != header.ARPProtocolNumber {
		e.counts.dropped.Add(1)
		return
	}
	if e.capture != nil && e.capture(frame) {
		return
	}
	packet := frame[header.EthernetMinimumSize:]
	if protocol == header.IPv4ProtocolNumber && sourceRouted(packet) {
		e.counts.dropped.Add(1)
		return
	}
	if e.clock.frozen.Load() == nil {
		e.clock.freeze()
	}
	e.join.mu.Lock()
	defer e.join.mu.Unlock()
	if to == tcpip.PacketHost && e.join.add(packet, protocol) {
		return
	}
	e.join.flush() // nothing overtakes what came before it
	p := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithView(buffer.NewViewWithData(packet))})
	p.PktType = to
	e.up(protocol, p, e.rxOffload)
}

// up sends a packet up the layers, and gives it away. It tells whether the packet's
// checksums have been verified.
func (e *endpoint) up(protocol tcpip.NetworkProtocolNumber, p *stack.PacketBuffer, verified bool) {
	e.verified.Store(verified)
	if d := e.dispatcher.Load(); d != nil {
		d.DeliverNetworkPacket(protocol, p)
	}
	p.DecRef()
}

// sourceRouted tells whether an IPv4 packet has a source route (RFC 791 section 3.1,
// options 131 and 137). gVisor would not follow it, but take the packet for its own.
// A way that the sender chooses serves attacks only, so such packets are dropped (RFC
// 7126 sections 4.3 and 4.4).
func sourceRouted(p []byte) bool {
	const end, nop, loose, strict = 0, 1, 131, 137
	if len(p) < header.IPv4MinimumSize {
		return false
	}
	n := min(int(p[0]&0xf)*4, len(p))
	for i := header.IPv4MinimumSize; i < n && p[i] != end; {
		switch {
		case p[i] == loose || p[i] == strict:
			return true
		case p[i] == nop:
			i++
		case i+1 < n && p[i+1] >= 2:
			i += int(p[i+1])
		default:
			return false // malformed; gVisor refuses it
		}
	}
	return false
}

// kind tells who a frame is for.
func kind(to []byte, own tcpip.LinkAddress) tcpip.PacketType {
	switch {
	case string(to) == string(own):
		return tcpip.PacketHost
	case string(to) == string(header.EthernetBroadcastAddress):
		return tcpip.PacketBroadcast
	case to[0]&1 != 0:
		return tcpip.PacketMulticast
	}
	return tcpip.PacketOtherHost
}

// WritePackets implements stack.LinkWriter: it queues what TCP has joined as
// frames, and rings the doorbell once.
func (e *endpoint) WritePackets(packets stack.PacketBufferList) (int, tcpip.Error) {
	e.sending.Lock()
	defer e.sending.Unlock()
	n := 0
	var err error
	for _, p := range packets.AsSlice() {
		if err = e.write(p); err != nil {
			e.counts.unsent.Add(1)
			break
		}
		n++
	}
	if ferr := e.link.Flush(); err == nil {
		err = ferr
	}
	if n == 0 && err != nil {
		return 0, &tcpip.ErrNoBufferSpace{}
	}
	return n, nil
}

// write queues one packet; sending is held.
func (e *endpoint) write(p *stack.PacketBuffer) error {
	if p.TransportProtocolNumber == header.TCPProtocolNumber && p.NetworkProtocolNumber == header.IPv4ProtocolNumber {
		e.flows.sent(p.NetworkHeader().Slice(), p.TransportHeader().Slice(), p.Data().Size())
	}
	if p.GSOOptions.Type != stack.GSONone {
		if mss := int(p.GSOOptions.MSS); mss > 0 && p.Data().Size() > mss {
			return e.split(p, mss)
		}
		e.finish(p)
	}
	views, offset := p.AsViewList()
	pieces, size := e.pieces[:0], 0
	for v := views.Front(); v != nil; v = v.Next() {
		b := v.AsSlice()
		if offset >= len(b) {
			offset -= len(b)
			continue
		}
		pieces = append(pieces, b[offset:])
		size += len(b) - offset
		offset = 0
	}
	err := e.queue(pieces, size)
	clear(pieces)
	e.pieces = pieces[:0]
	return err
}

// queue gives the link a frame; sending is held.
func (e *endpoint) queue(pieces [][]byte, size int) error {
	if err := e.link.Queue(pieces); err != nil {
		return err
	}
	e.counts.sent.Add(1)
	e.counts.sentBytes.Add(uint64(size))
	return nil
}

// sendFrame sends a frame that was made outside the network layer.
func (e *endpoint) sendFrame(frame []byte) error {
	e.sending.Lock()
	defer e.sending.Unlock()
	if err := e.queue([][]byte{frame}, len(frame)); err != nil {
		e.counts.unsent.Add(1)
		return err
	}
	return e.link.Flush()
}

// GSOMaxSize implements stack.GSOEndpoint.
func (*endpoint) GSOMaxSize() uint32 { return burst }

// SupportedGSO implements stack.GSOEndpoint. To gVisor the endpoint looks like one
// whose hardware splits: its own splitting (GVisorGSOSupported) makes a packet of
// each segment above the network layer.
func (*endpoint) SupportedGSO() stack.SupportedGSO { return stack.HostGSOSupported }

// MTU implements stack.LinkEndpoint.
func (*endpoint) MTU() uint32 { return mtu }

// SetMTU implements stack.LinkEndpoint; the MTU is Ethernet's and does not change.
func (*endpoint) SetMTU(uint32) {}

// MaxHeaderLength implements stack.LinkEndpoint.
func (*endpoint) MaxHeaderLength() uint16 { return header.EthernetMinimumSize }

// LinkAddress implements stack.LinkEndpoint.
func (e *endpoint) LinkAddress() tcpip.LinkAddress { return e.address }

// SetLinkAddress implements stack.LinkEndpoint; the address is the link's own.
func (*endpoint) SetLinkAddress(tcpip.LinkAddress) {}

// Capabilities implements stack.LinkEndpoint. gVisor asks for each packet that comes
// up whether checksums are verified beneath, and sets PacketBuffer's
// RXChecksumValidated by the answer, whatever it was.
func (e *endpoint) Capabilities() stack.LinkEndpointCapabilities {
	c := stack.LinkEndpointCapabilities(stack.CapabilityResolutionRequired)
	if e.txOffload {
		c |= stack.CapabilityTXChecksumOffload
	}
	if e.verified.Load() {
		c |= stack.CapabilityRXChecksumOffload
	}
	return c
}

// Attach implements stack.LinkEndpoint. The receiver starts with the first
// dispatcher and ends when the link is closed.
func (e *endpoint) Attach(d stack.NetworkDispatcher) {
	if d == nil {
		e.dispatcher.Store(nil)
		return
	}
	if e.dispatcher.Swap(&dispatcher{d}) == nil {
		go e.receive()
	}
}

// IsAttached implements stack.LinkEndpoint.
func (e *endpoint) IsAttached() bool { return e.dispatcher.Load() != nil }

// Wait implements stack.LinkEndpoint.
func (e *endpoint) Wait() { <-e.done }

// ARPHardwareType implements stack.LinkEndpoint.
func (*endpoint) ARPHardwareType() header.ARPHardwareType { return header.ARPHardwareEther }

// AddHeader implements stack.LinkEndpoint.
func (*endpoint) AddHeader(p *stack.PacketBuffer) {
	header.Ethernet(p.LinkHeader().Push(header.EthernetMinimumSize)).Encode(&header.EthernetFields{
		SrcAddr: p.EgressRoute.LocalLinkAddress, DstAddr: p.EgressRoute.RemoteLinkAddress, Type: p.NetworkProtocolNumber,
	})
}

// ParseHeader implements stack.LinkEndpoint.
func (*endpoint) ParseHeader(p *stack.PacketBuffer) bool {
	_, ok := p.LinkHeader().Consume(header.EthernetMinimumSize)
	return ok
}

// Close implements stack.LinkEndpoint.
func (e *endpoint) Close() { e.link.Close() }

// SetOnCloseAction implements stack.LinkEndpoint.
func (*endpoint) SetOnCloseAction(func()) {}
