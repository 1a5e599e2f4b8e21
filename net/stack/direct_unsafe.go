package stack

import (
	_ "unsafe" // for linkname

	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// handleConnected is what gVisor's own goroutines for TCP (its processors) call when an
// endpoint has segments: it does nothing if somebody else has the endpoint's lock, and
// leaves the endpoint as they would in every other case.
//
// There is no exported way to it. It is named here since the hand-over to a processor costs
// more instructions than all that TCP does for a segment. The version of gVisor is fixed by
// go.mod; should another one not have the function, the program does not link, and
// TestDirect finds one that does something else.
//
//go:linkname handleConnected gvisor.dev/gvisor/pkg/tcpip/transport/tcp.handleConnected
func handleConnected(ep *tcp.Endpoint)

// direct has TCP deal with a segment of an established connection on this goroutine, if
// nobody else is at work on the endpoint; otherwise, and with everything that is left over,
// gVisor wakes a processor as ever.
func direct(t stack.TransportDispatcher, ep *tcp.Endpoint, p *stack.PacketBuffer) {
	if ep.EndpointState() != tcp.StateEstablished || !ep.TryLock() {
		t.DeliverTransportPacket(header.TCPProtocolNumber, p)
		return
	}
	// An endpoint that is marked as in use by a call gets segments into its queue, and no
	// processor is woken. The mark stays when its lock is given up by ResumeWork.
	ep.ResumeWork()
	ep.LockUser()
	ep.ResumeWork()
	t.DeliverTransportPacket(header.TCPProtocolNumber, p)
	handleConnected(ep)
	// This takes the mark away, and wakes a processor if segments are left.
	ep.LockUser()
	ep.UnlockUser()
}
