package stack

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/waiter"
)

// A socket is a gVisor endpoint with what blocking calls on it need. Its two waiter
// entries are registered for as long as it is open, so a call allocates nothing.
type socket struct {
	ep      tcpip.Endpoint
	queue   *waiter.Queue
	network string // "tcp" or "udp"
	link    *endpoint

	queued   bool        // among the link's turns, whose lock guards it
	armed    atomic.Bool // there is a handler
	handling sync.Mutex  // held while it runs
	handler  Handler     // guarded by handling

	readable, writable         chan struct{}
	readEntry, writeEntry      waiter.Entry
	readDeadline, writeTimeout deadline

	reading sync.Mutex        // one Read at a time
	into    tcpip.SliceWriter // guarded by reading
	copied  int               // bytes read of which gVisor has not been told; guarded by reading
	writing sync.Mutex        // one Write at a time
	from    bytes.Reader      // guarded by writing

	once   sync.Once
	closed chan struct{}
	free   func() // called once when closed; may be nil
}

func (e *endpoint) newSocket(ep tcpip.Endpoint, queue *waiter.Queue, network string) *socket {
	s := &socket{ep: ep, queue: queue, network: network, link: e, closed: make(chan struct{}), readable: make(chan struct{}, 1)}
	s.readEntry.Init((*listening)(s), waiter.ReadableEvents)
	s.writeEntry, s.writable = waiter.NewChannelEntry(waiter.WritableEvents)
	queue.EventRegister(&s.readEntry)
	queue.EventRegister(&s.writeEntry)
	s.readDeadline.init()
	s.writeTimeout.init()
	return s
}

// Close ends the socket. Calls that wait return net.ErrClosed. What was written is
// still sent.
func (s *socket) Close() error {
	err := s.opError("close", net.ErrClosed)
	s.once.Do(func() {
		close(s.closed)
		s.link.flows.detach(s.ep)
		s.ep.Close()
		s.queue.EventUnregister(&s.readEntry)
		s.queue.EventUnregister(&s.writeEntry)
		s.readDeadline.set(time.Time{})
		s.writeTimeout.set(time.Time{})
		if s.free != nil {
			s.free()
		}
		err = nil
	})
	return err
}

// wait waits for an event; it gives an error if there is another reason to return.
func (s *socket) wait(event <-chan struct{}, d *deadline) error {
	select {
	case <-event:
		return nil
	case <-d.expired():
		return os.ErrDeadlineExceeded
	case <-s.closed:
		return net.ErrClosed
	}
}

// ready gives the reason not to begin a call, if there is one.
func (s *socket) ready(d *deadline) error {
	select { // of one case each, which are cheap
	case <-s.closed:
		return net.ErrClosed
	default:
	}
	select {
	case <-d.expired():
		return os.ErrDeadlineExceeded
	default:
		return nil
	}
}

// read waits for data, and reads what is there.
func (s *socket) read(b []byte, needSource bool) (tcpip.ReadResult, error) {
	s.reading.Lock()
	defer s.reading.Unlock()
	if err := s.ready(&s.readDeadline); err != nil {
		return tcpip.ReadResult{}, err
	}
	for {
		r, err := s.take(b, needSource)
		switch err.(type) {
		case nil:
			return r, nil
		case *tcpip.ErrWouldBlock:
			if err := s.wait(s.readable, &s.readDeadline); err != nil {
				return r, err
			}
		default:
			return r, s.reason(err)
		}
	}
}

// take reads what is there; reading is held.
func (s *socket) take(b []byte, needSource bool) (tcpip.ReadResult, tcpip.Error) {
	s.into = b
	r, err := s.ep.Read(&s.into, tcpip.ReadOptions{NeedRemoteAddr: needSource})
	s.into = nil
	if s.copied += r.Count; s.copied >= moderate {
		s.ep.ModerateRecvBuf(s.copied)
		s.copied = 0
	}
	return r, err
}

// moderate is how many bytes are read before gVisor considers whether a receive buffer is
// long enough: a small part of what it has to begin with.
const moderate = receiveBuffer / 8

// put writes what there is room for; writing is held.
func (s *socket) put(b []byte, to *tcpip.FullAddress) (int, tcpip.Error) {
	s.from.Reset(b)
	// Atomic only has TCP keep its lock while it copies.
	n, err := s.ep.Write(&s.from, tcpip.WriteOptions{To: to, Atomic: true})
	s.from.Reset(nil)
	return int(n), err
}

// write writes all of b to the peer, or to an address.
func (s *socket) write(b []byte, to *tcpip.FullAddress) (int, error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	if err := s.ready(&s.writeTimeout); err != nil {
		return 0, err
	}
	for n := 0; ; {
		m, err := s.put(b[n:], to)
		n += m
		switch err.(type) {
		case nil:
			if n >= len(b) {
				return n, nil
			}
		case *tcpip.ErrWouldBlock:
			if err := s.wait(s.writable, &s.writeTimeout); err != nil {
				return n, err
			}
		default:
			return n, s.reason(err)
		}
	}
}

// reason gives what a gVisor error is to package net's callers; if the socket has
// been closed, that is it.
func (s *socket) reason(err tcpip.Error) error {
	select {
	case <-s.closed:
		return net.ErrClosed
	default:
		return toError(err)
	}
}

func (s *socket) opError(op string, err error) error {
	return &net.OpError{Op: op, Net: s.network, Source: s.LocalAddr(), Addr: s.RemoteAddr(), Err: err}
}

// LocalAddr gives the socket's own address.
func (s *socket) LocalAddr() net.Addr {
	a, err := s.ep.GetLocalAddress()
	if err != nil {
		return nil
	}
	return toNetAddr(s.network, a)
}

// RemoteAddr gives the peer's address, or nil if there is none.
func (s *socket) RemoteAddr() net.Addr {
	a, err := s.ep.GetRemoteAddress()
	if err != nil {
		return nil
	}
	return toNetAddr(s.network, a)
}

// SetDeadline implements net.Conn.
func (s *socket) SetDeadline(t time.Time) error {
	s.SetReadDeadline(t)
	return s.SetWriteDeadline(t)
}

// SetReadDeadline implements net.Conn.
func (s *socket) SetReadDeadline(t time.Time) error { return s.setDeadline(&s.readDeadline, t) }

// SetWriteDeadline implements net.Conn.
func (s *socket) SetWriteDeadline(t time.Time) error { return s.setDeadline(&s.writeTimeout, t) }

func (s *socket) setDeadline(d *deadline, t time.Time) error {
	select {
	case <-s.closed:
		return s.opError("set", net.ErrClosed)
	default:
		d.set(t)
		return nil
	}
}

// A deadline is a channel that is closed at a time that can be changed.
type deadline struct {
	mu    sync.Mutex
	timer *time.Timer
	c     chan struct{}
}

func (d *deadline) init() { d.c = make(chan struct{}) }

func (d *deadline) expired() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.c
}

func (d *deadline) set(t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.timer != nil && !d.timer.Stop() {
		<-d.c // the timer has fired; let it finish
	}
	d.timer = nil
	past := false
	select {
	case <-d.c:
		past = true
	default:
	}
	left := time.Until(t)
	if t.IsZero() || left > 0 {
		if past {
			d.c = make(chan struct{})
		}
		if !t.IsZero() {
			c := d.c
			d.timer = time.AfterFunc(left, func() { close(c) })
		}
		return
	}
	if !past {
		close(d.c)
	}
}

// A conn is a connection, of TCP or UDP.
type conn struct{ *socket }

var _ net.Conn = conn{}

// Read implements net.Conn.
func (c conn) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	r, err := c.read(b, false)
	if err == io.EOF {
		return 0, err
	}
	if err != nil {
		return 0, c.opError("read", err)
	}
	return r.Count, nil
}

// Write implements net.Conn.
func (c conn) Write(b []byte) (int, error) {
	if len(b) == 0 && c.network == "tcp" {
		return 0, nil
	}
	n, err := c.write(b, nil)
	if err != nil {
		return n, c.opError("write", err)
	}
	return n, nil
}

// A tcpConn can be closed one way.
type tcpConn struct{ conn }

// CloseRead refuses what the peer sends from now on.
func (c tcpConn) CloseRead() error { return c.shutdown(tcpip.ShutdownRead) }

// CloseWrite tells the peer that nothing more will come.
func (c tcpConn) CloseWrite() error { return c.shutdown(tcpip.ShutdownWrite) }

// SetHopLimit bounds how many links the packets of this connection may pass: 1 keeps them on
// the wire, since each router takes one off (RFC 791, 3.2, time to live; RFC 8200, 3). The
// answer to the connection's SYN has gone out already.
func (c tcpConn) SetHopLimit(hops int) error {
	if hops < 1 || hops > 255 {
		return c.opError("set", fmt.Errorf("a hop limit of %d; it is 1 to 255", hops))
	}
	if err := c.ep.SetSockOptInt(tcpip.IPv4TTLOption, hops); err != nil {
		return c.opError("set", c.reason(err))
	}
	if err := c.ep.SetSockOptInt(tcpip.IPv6HopLimitOption, hops); err != nil {
		return c.opError("set", c.reason(err))
	}
	return nil
}

func (c tcpConn) shutdown(how tcpip.ShutdownFlags) error {
	if err := c.ep.Shutdown(how); err != nil {
		return c.opError("close", c.reason(err))
	}
	return nil
}

// toError gives the standard library's error for one of gVisor's.
func toError(err tcpip.Error) error {
	switch err.(type) {
	case *tcpip.ErrClosedForReceive:
		return io.EOF
	case *tcpip.ErrClosedForSend:
		return syscall.EPIPE
	case *tcpip.ErrConnectionReset:
		return syscall.ECONNRESET
	case *tcpip.ErrConnectionRefused:
		return syscall.ECONNREFUSED
	case *tcpip.ErrConnectionAborted, *tcpip.ErrAborted:
		return syscall.ECONNABORTED
	case *tcpip.ErrTimeout:
		return syscall.ETIMEDOUT
	case *tcpip.ErrHostUnreachable:
		return syscall.EHOSTUNREACH
	case *tcpip.ErrNetworkUnreachable:
		return syscall.ENETUNREACH
	case *tcpip.ErrPortInUse:
		return syscall.EADDRINUSE
	case *tcpip.ErrBadLocalAddress:
		return syscall.EADDRNOTAVAIL
	case *tcpip.ErrNoBufferSpace:
		return syscall.ENOBUFS
	case *tcpip.ErrMessageTooLong:
		return syscall.EMSGSIZE
	}
	return fmt.Errorf("gVisor: %v", err)
}
