package stack

import (
	"io"
	"sync"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/waiter"
)

// A Handler deals with what has come for a connection, on the goroutine that receives for
// all of them: so it must not wait for anything but the processor. It tells whether there is
// more for it to do, for which it gets another turn when others have had theirs, and whether
// it is done: if not, the goroutine that is in Await goes on.
type Handler = func() (more, done bool)

// turns are the sockets for whose handlers there is something to do. The receiver sees to
// them when it has delivered a batch of frames.
type turns struct {
	mu   sync.Mutex
	open bool // the receiver is going to look
	all  []*socket
	next []*socket // those that the receiver is at
}

// begin has sockets come here from now on, until run finds none.
func (t *turns) begin() {
	t.mu.Lock()
	t.open = true
	t.mu.Unlock()
}

// add adds a socket, if the receiver is going to look.
func (t *turns) add(s *socket) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.open {
		return false
	}
	if !s.queued {
		s.queued = true
		t.all = append(t.all, s)
	}
	return true
}

// run gives each socket that is here a turn. It reports whether some want another one.
func (t *turns) run() (more bool) {
	t.mu.Lock()
	if len(t.all) == 0 {
		t.open = false
		t.mu.Unlock()
		return false
	}
	t.all, t.next = t.next[:0], t.all
	for _, s := range t.next {
		s.queued = false
	}
	t.mu.Unlock()
	for i, s := range t.next {
		t.next[i] = nil
		s.link.clock.freeze()
		if s.turn() {
			more = t.add(s)
		}
	}
	return more || t.rest()
}

// rest closes the door if nobody is here, and reports whether somebody is.
func (t *turns) rest() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.open = len(t.all) > 0
	return t.open
}

// A listener's NotifyEvent is called when there may be something to read.
type listening socket

// NotifyEvent implements waiter.EventListener. The endpoint is locked.
func (l *listening) NotifyEvent(waiter.EventMask) {
	s := (*socket)(l)
	if !s.armed.Load() || !s.link.turns.add(s) {
		s.wake()
	}
}

// wake has who waits for something to read look.
func (s *socket) wake() {
	select {
	case s.readable <- struct{}{}:
	default:
	}
}

// turn calls the handler, and reports whether it wants another turn.
func (s *socket) turn() bool {
	s.handling.Lock()
	defer s.handling.Unlock()
	if s.handler == nil {
		s.wake()
		return false
	}
	more, done := s.handler()
	if !done {
		s.disarm()
		s.wake()
	}
	return more && done
}

// disarm takes the handler away. The lock is held.
func (s *socket) disarm() {
	s.armed.Store(false)
	s.handler = nil
}

// Await waits until there is something to read that the handler has not dealt with, or the
// connection has ended, or the deadline for reading has passed. The handler is called on
// another goroutine, and not after Await has returned. It is not called for everything: what
// comes over IPv6, or while something else is done with the connection, is Await's caller's.
func (c tcpConn) Await(h Handler) error {
	s := c.socket
	s.handling.Lock()
	select {
	case <-s.readable: // it told of what has been read
	default:
	}
	s.handler = h
	s.armed.Store(true)
	s.handling.Unlock()
	defer func() {
		s.handling.Lock()
		defer s.handling.Unlock()
		s.disarm()
	}()
	if err := s.ready(&s.readDeadline); err != nil {
		return c.opError("read", err)
	}
	if s.ep.Readiness(waiter.ReadableEvents)&waiter.ReadableEvents != 0 {
		return nil
	}
	if err := s.wait(s.readable, &s.readDeadline); err != nil {
		return c.opError("read", err)
	}
	return nil
}

// TryRead reads what is there, which may be nothing.
func (c tcpConn) TryRead(b []byte) (int, error) {
	c.reading.Lock()
	defer c.reading.Unlock()
	if err := c.ready(&c.readDeadline); err != nil {
		return 0, c.opError("read", err)
	}
	r, err := c.take(b, false)
	return r.Count, c.attempted("read", err)
}

// TryWrite writes as much as there is room for, which may be nothing.
func (c tcpConn) TryWrite(b []byte) (int, error) {
	c.writing.Lock()
	defer c.writing.Unlock()
	if err := c.ready(&c.writeTimeout); err != nil {
		return 0, c.opError("write", err)
	}
	n, err := c.put(b, nil)
	return n, c.attempted("write", err)
}

// attempted gives the error of an attempt, which is none where a call would have waited.
func (c tcpConn) attempted(op string, err tcpip.Error) error {
	switch err.(type) {
	case nil, *tcpip.ErrWouldBlock:
		return nil
	}
	reason := c.reason(err)
	if reason == io.EOF {
		return reason
	}
	return c.opError(op, reason)
}
