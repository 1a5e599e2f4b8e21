// Package pipes has a listener whose connections lie in memory, for tests of servers that
// run where there are no sockets, such as the board.
package pipes

import (
	"context"
	"net"
	"sync"
)

// A Listener accepts what Dial connects: net.Pipe's connections.
type Listener struct {
	accept chan net.Conn
	once   sync.Once
	closed chan struct{}
}

// New makes a listener.
func New() *Listener { return &Listener{accept: make(chan net.Conn), closed: make(chan struct{})} }

// Accept implements net.Listener.
func (l *Listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.accept:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (l *Listener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

// Addr implements net.Listener.
func (l *Listener) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "pipe"} }

// Dial connects, and waits until the connection is accepted.
func (l *Listener) Dial(ctx context.Context) (net.Conn, error) {
	here, there := net.Pipe()
	select {
	case l.accept <- there:
		return here, nil
	case <-l.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
