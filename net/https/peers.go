package https

import (
	"net"
	"net/netip"
	"sync"
)

// PeerConnections is how many connections one address may have open. It answers the one
// machine that opens all there are, and keeps everybody else from a board in quarantine.
// Many operators behind one address share them.
const PeerConnections = 32

// perPeer is a listener that closes what a peer opens beyond PeerConnections.
type perPeer struct {
	net.Listener
	crowded func() // is told of each connection that is closed for that

	mu   sync.Mutex
	open map[netip.Addr]int
}

func limitPeers(l net.Listener, crowded func()) net.Listener {
	return &perPeer{Listener: l, crowded: crowded, open: map[netip.Addr]int{}}
}

// Accept implements net.Listener.
func (l *perPeer) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		peer := addressOf(c)
		if l.enter(peer) {
			return &peerConn{Conn: c, leave: sync.OnceFunc(func() { l.leave(peer) })}, nil
		}
		c.Close()
		l.crowded()
	}
}

// addressOf is a connection's peer, without its port.
func addressOf(c net.Conn) netip.Addr {
	a, err := netip.ParseAddrPort(c.RemoteAddr().String())
	if err != nil {
		return netip.Addr{} // all such peers are one
	}
	return a.Addr().Unmap()
}

func (l *perPeer) enter(peer netip.Addr) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open[peer] >= PeerConnections {
		return false
	}
	l.open[peer]++
	return true
}

func (l *perPeer) leave(peer netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open[peer]--; l.open[peer] == 0 {
		delete(l.open, peer)
	}
}

// A peerConn gives its peer's place back when it is closed.
type peerConn struct {
	net.Conn
	leave func()
}

// Close implements net.Conn.
func (c *peerConn) Close() error {
	c.leave()
	return c.Conn.Close()
}
