// Package stacktest joins two ends of net/stack's Link in memory, for tests: a wire
// that can lose and reorder frames and be pulled out, and at whose ends a test can
// send frames of its own.
package stacktest

import (
	"errors"
	"os"
	"sync"
	"time"
)

// Size of a Link's receive ring, in frames, and of a batch that Receive delivers.
// The board's driver has rings of the same order.
const (
	ring  = 256
	batch = 64
)

// patience is how long Queue waits for room in the other end's ring.
const patience = 50 * time.Millisecond

var errFull = errors.New("stacktest: the other end's ring is full")

const (
	minFrame = 14
	maxFrame = 1514
)

// A Link is an end of a wire. It is a net/stack Link.
type Link struct {
	address []byte
	offload bool
	peer    *Link
	filter  func(frame []byte) []byte

	mu      sync.Mutex
	arrived sync.Cond
	room    chan struct{} // buffered 1: a batch was delivered
	frames  [ring][maxFrame]byte
	sizes   [ring]int
	first   int // the oldest frame
	count   int // frames that have not been delivered
	down    bool
	closed  bool
	lossy   bool
	changed chan struct{}
}

// Options are a wire's properties.
type Options struct {
	// Offload has both ends say that they insert and verify all checksums, which
	// then nobody does: the wire corrupts nothing.
	Offload bool

	// Filter sees every frame as it is sent and gives what is to arrive instead:
	// the same, another, or nil for nothing. Calls may come at the same time.
	Filter func(frame []byte) []byte

	// Lossy drops what finds the other end's ring full, as Ethernet does;
	// otherwise Queue waits for room.
	Lossy bool
}

// NewLinks makes a wire. Its ends have the addresses 02-00-00-00-00-01 and -02.
func NewLinks(o Options) (a, b *Link) {
	a, b = newLink(1, o), newLink(2, o)
	a.peer, b.peer = b, a
	return a, b
}

func newLink(n byte, o Options) *Link {
	l := &Link{address: []byte{2, 0, 0, 0, 0, n}, offload: o.Offload, filter: o.Filter, lossy: o.Lossy, changed: make(chan struct{}, 1), room: make(chan struct{}, 1)}
	l.arrived.L = &l.mu
	return l
}

// HardwareAddr gives the end's address.
func (l *Link) HardwareAddr() []byte { return l.address }

// ChecksumOffload tells what Options.Offload said.
func (l *Link) ChecksumOffload() (transmit, receive bool) { return l.offload, l.offload }

// Queue sends a frame to the other end; it panics if the frame is none.
func (l *Link) Queue(pieces [][]byte) error {
	size := 0
	for _, p := range pieces {
		size += len(p)
	}
	if size < minFrame || size > maxFrame {
		panic("stacktest: frame is too short or too long")
	}
	if l.filter == nil {
		return l.peer.put(pieces, size)
	}
	frame := make([]byte, 0, size)
	for _, p := range pieces {
		frame = append(frame, p...)
	}
	if frame = l.filter(frame); frame == nil {
		return nil
	}
	return l.peer.put([][]byte{frame}, len(frame))
}

// Inject makes a frame arrive at this end, as if the other had sent it; no filter
// sees it. Longer ones than a frame can be are cut.
func (l *Link) Inject(frame []byte) {
	frame = frame[:min(len(frame), maxFrame)]
	l.put([][]byte{frame}, len(frame))
}

// put appends a frame to the ring of those that arrive here.
func (l *Link) put(pieces [][]byte, size int) error {
	for l.full() {
		if l.lossy {
			return nil
		}
		select {
		case <-l.room:
		case <-time.After(patience):
			return errFull
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || l.down || l.count == ring {
		return nil // it is lost
	}
	i := (l.first + l.count) % ring
	n := 0
	for _, p := range pieces {
		n += copy(l.frames[i][n:], p)
	}
	l.sizes[i] = size
	l.count++
	l.arrived.Signal()
	return nil
}

func (l *Link) full() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.count == ring && !l.closed && !l.down
}

// Flush does nothing: Queue has sent.
func (l *Link) Flush() error { return nil }

// Receive delivers what has arrived, or arrives within the limit, if that is not negative.
func (l *Link) Receive(limit time.Duration, deliver func(frame []byte)) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	late := limit == 0
	if limit > 0 {
		wake := time.AfterFunc(limit, func() {
			l.mu.Lock()
			defer l.mu.Unlock()
			late = true
			l.arrived.Broadcast()
		})
		defer wake.Stop()
	}
	for l.count == 0 && !l.closed && !late {
		l.arrived.Wait()
	}
	if l.closed {
		return os.ErrClosed
	}
	if l.count == 0 {
		return nil
	}
	n := min(l.count, batch)
	l.mu.Unlock()
	for i := range n {
		at := (l.first + i) % ring
		deliver(l.frames[at][:l.sizes[at]])
	}
	l.mu.Lock()
	l.first, l.count = (l.first+n)%ring, l.count-n
	select {
	case l.room <- struct{}{}:
	default:
	}
	return nil
}

// SetUp pulls the wire out at both ends, or plugs it in again.
func (l *Link) SetUp(up bool) {
	for _, e := range []*Link{l, l.peer} {
		e.mu.Lock()
		e.down = !up
		e.mu.Unlock()
		select {
		case e.changed <- struct{}{}:
		default:
		}
	}
}

// LinkUp tells whether the wire is plugged in.
func (l *Link) LinkUp() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.down
}

// LinkChanged gets a value whenever LinkUp changes.
func (l *Link) LinkChanged() <-chan struct{} { return l.changed }

// Close ends Receive.
func (l *Link) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	l.arrived.Broadcast()
	return nil
}
