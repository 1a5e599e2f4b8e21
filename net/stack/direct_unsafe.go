package stack

import (
	"reflect"
	"unsafe"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// gVisor's goroutines for TCP (its processors) take an endpoint's segments from its queue
// and deal with them. There is no exported way to do that elsewhere, and the hand-over to a
// processor costs more instructions than all that TCP does for a segment. So what they call
// is named here. The version of gVisor is fixed by go.mod. Should another one not have the
// functions, the program does not link; TestDirect finds one in which they do something else,
// and the queue's place is asked for by its name.

//go:linkname queueEmpty gvisor.dev/gvisor/pkg/tcpip/transport/tcp.(*segmentQueue).empty
func queueEmpty(q unsafe.Pointer) bool

//go:linkname dequeue gvisor.dev/gvisor/pkg/tcpip/transport/tcp.(*segmentQueue).dequeue
func dequeue(q unsafe.Pointer) (segment unsafe.Pointer)

//go:linkname releaseSegment gvisor.dev/gvisor/pkg/tcpip/transport/tcp.(*segment).DecRef
func releaseSegment(segment unsafe.Pointer)

// handleSegmentLocked deals with one segment. The endpoint is locked.
//
//go:linkname handleSegmentLocked gvisor.dev/gvisor/pkg/tcpip/transport/tcp.(*Endpoint).handleSegmentLocked
func handleSegmentLocked(ep *tcp.Endpoint, segment unsafe.Pointer) (goOn bool, err tcpip.Error)

// handleSegmentsLocked deals with the segments in the queue, and then acknowledges what has
// not been acknowledged, and sets the timer of keep-alives. The endpoint is locked.
//
//go:linkname handleSegmentsLocked gvisor.dev/gvisor/pkg/tcpip/transport/tcp.(*Endpoint).handleSegmentsLocked
func handleSegmentsLocked(ep *tcp.Endpoint) tcpip.Error

// queuePlace is where an endpoint has its queue.
var queuePlace = func() uintptr {
	f, ok := reflect.TypeFor[tcp.Endpoint]().FieldByName("segmentQueue")
	if !ok {
		panic("stack: this version of gVisor's endpoints has no segmentQueue: see direct_unsafe.go")
	}
	return f.Offset
}()

// queueOf gives an endpoint's queue. It is sound, as it lies within the endpoint.
func queueOf(ep *tcp.Endpoint) unsafe.Pointer { return unsafe.Add(unsafe.Pointer(ep), queuePlace) }

// A queuer is what gVisor's TCP is to those below it.
type queuer interface {
	QueuePacket(stack.TransportEndpoint, stack.TransportEndpointID, *stack.PacketBuffer)
}

// direct has TCP deal with a segment that has ACK and at most PSH set, on this goroutine, if
// its connection is established, nobody else is at work on it and none waits before it. It
// then is settle's to acknowledge it, and to see to the rest, unless whole is set: of what a
// processor does, settle leaves out only to note that the neighbour is reachable. Otherwise
// gVisor wakes a processor as ever. It reports whether settle is needed.
//
// Such a segment neither fails, nor ends a connection or a direction of it. So nothing else is
// left to do of what a processor does after it.
func direct(q queuer, ep *tcp.Endpoint, p *stack.PacketBuffer, whole bool) bool {
	if ep.EndpointState() != tcp.StateEstablished || !ep.TryLock() {
		q.QueuePacket(ep, ep.ID, p)
		return false
	}
	// LockUser marks the endpoint as in use by a call: then segments are queued, and no
	// processor is woken before UnlockUser, if there are any by then.
	ep.ResumeWork()
	ep.LockUser()
	defer ep.UnlockUser()
	alone := queueEmpty(queueOf(ep))
	q.QueuePacket(ep, ep.ID, p)
	if !alone || ep.EndpointState() != tcp.StateEstablished {
		return false
	}
	if whole {
		handleSegmentsLocked(ep)
		return false
	}
	s := dequeue(queueOf(ep))
	if s == nil { // there was no room for it
		return false
	}
	handleSegmentLocked(ep, s)
	releaseSegment(s)
	return true
}

// settle acknowledges what direct has taken and no data have acknowledged since. Segments
// that wait by now are a processor's, which does that too.
func settle(ep *tcp.Endpoint) {
	ep.LockUser()
	defer ep.UnlockUser()
	if queueEmpty(queueOf(ep)) {
		handleSegmentsLocked(ep)
	}
}
