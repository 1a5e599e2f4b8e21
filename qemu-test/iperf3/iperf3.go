// Package iperf3 is a server for iperf3's clients, over any net.Listener: with it
// the same client measures the TCP of our network stack and of Linux.
//
// The protocol is written down nowhere but in iperf3's sources. A test has one
// control connection and as many data connections as there are streams, all to the
// same port. Each begins with the test's cookie, 37 bytes with a zero at the end. On
// the control connection, states of one byte follow, and in between documents in
// JSON, each after its length in four bytes, big endian:
//
//	client  cookie
//	server  ParamExchange
//	client  parameters
//	server  CreateStreams       (the client opens the data connections)
//	server  TestStart, TestRunning
//	                            (data flows until the client has had enough)
//	client  TestEnd
//	server  ExchangeResults
//	client  its results
//	server  its results, DisplayResults
//	client  IperfDone
//
// Supported: TCP, either direction (-R), several streams (-P), -t, -n, -k, -l and
// -O. Left out: UDP, SCTP, both directions at once, authentication. One test runs
// at a time; further clients are turned away, as iperf3 does. Tested with version
// 3.12, Debian 12's.
package iperf3

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// cookieSize is the length of a cookie, in bytes.
const cookieSize = 37

// States, one byte each.
const (
	testStart       = 1
	testRunning     = 2
	testEnd         = 4
	paramExchange   = 9
	createStreams   = 10
	exchangeResults = 13
	displayResults  = 14
	iperfDone       = 16
	accessDenied    = 0xff
	serverError     = 0xfe
)

// Limits of what a client may ask for, and of waiting for it.
const (
	maxDocument = 64 << 10 // bytes of JSON
	maxStreams  = 16
	maxBlock    = 1 << 20 // bytes; iperf3's own limit for TCP
	maxTime     = time.Hour
	patience    = 20 * time.Second       // for the next message, and beyond a test's time
	streamsWait = 5 * time.Second        // for the data connections
	drain       = 100 * time.Millisecond // for data after the end
	sizeDefault = 128 << 10
)

// A Server serves one test at a time.
type Server struct {
	// Log is told of every test, and why one failed; nil tells nobody.
	Log func(format string, a ...any)

	mu      sync.Mutex
	current *test
}

// Parameters are what a client asks for. Those that are not here do not matter to
// the server.
type Parameters struct {
	TCP           bool   `json:"tcp"`
	Omit          int    `json:"omit"` // seconds at the start that do not count
	Time          int    `json:"time"` // seconds; 0 if num or blockcount end the test
	Parallel      int    `json:"parallel"`
	Reverse       bool   `json:"reverse"`
	Bidirectional int    `json:"bidirectional"`
	Length        int    `json:"len"` // bytes of a block
	ClientVersion string `json:"client_version"`
}

// results are one side's; the client insists on all the fields.
type results struct {
	CPUTotal    float64  `json:"cpu_util_total"`
	CPUUser     float64  `json:"cpu_util_user"`
	CPUSystem   float64  `json:"cpu_util_system"`
	Retransmits int      `json:"sender_has_retransmits"`
	Streams     []stream `json:"streams"`
}

type stream struct {
	ID          int     `json:"id"`
	Bytes       uint64  `json:"bytes"`
	Retransmits int     `json:"retransmits"`
	Jitter      float64 `json:"jitter"`
	Errors      int     `json:"errors"`
	Packets     int     `json:"packets"`
	Start       float64 `json:"start_time"`
	End         float64 `json:"end_time"`
}

// A test is a client's, from its cookie to its end.
type test struct {
	cookie  [cookieSize]byte
	control net.Conn
	Parameters
	joined chan net.Conn // data connections as they come
	counts []atomic.Uint64
}

// Serve accepts connections until the listener is closed, and gives its error.
func (s *Server) Serve(l net.Listener) error {
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		go s.greet(c)
	}
}

// greet reads a connection's cookie, and so finds out what it is for.
func (s *Server) greet(c net.Conn) {
	t := &test{control: c, joined: make(chan net.Conn, maxStreams)}
	c.SetDeadline(time.Now().Add(patience))
	if _, err := io.ReadFull(c, t.cookie[:]); err != nil {
		c.Close()
		return
	}
	s.mu.Lock()
	current := s.current
	if current == nil {
		s.current = t
	}
	s.mu.Unlock()
	switch {
	case current == nil:
		s.run(t)
	case current.cookie == t.cookie:
		select {
		case current.joined <- c:
		default:
			c.Close()
		}
	default:
		c.Write([]byte{accessDenied})
		c.Close()
	}
}

// run serves a test, and makes room for the next.
func (s *Server) run(t *test) {
	err := t.run()
	if err != nil {
		t.control.SetDeadline(time.Now().Add(time.Second))
		// The state is followed by iperf3's own error number and errno.
		t.control.Write([]byte{serverError, 0, 0, 0, 0, 0, 0, 0, 0})
	}
	t.control.Close()
	s.mu.Lock()
	s.current = nil
	s.mu.Unlock()
	for {
		select {
		case c := <-t.joined:
			c.Close()
			continue
		default:
		}
		break
	}
	if s.Log == nil {
		return
	}
	var sum uint64
	for i := range t.counts {
		sum += t.counts[i].Load()
	}
	s.Log("iperf3: %v: reverse %t, %d streams, %d s: %d bytes, error %v", t.control.RemoteAddr(), t.Reverse, t.Parallel, t.Time, sum, err)
}

// run is the protocol; see the package comment.
func (t *test) run() error {
	if err := t.exchangeParameters(); err != nil {
		return err
	}
	data, err := t.connect()
	if err != nil {
		for _, c := range data {
			c.Close()
		}
		return err
	}
	begin := time.Now()
	if err := t.flow(data); err != nil {
		return err
	}
	seconds := time.Since(begin).Seconds() - float64(t.Omit)
	return t.exchangeResults(seconds)
}

// exchangeParameters reads what the client wants, and refuses what there is not.
func (t *test) exchangeParameters() error {
	if err := t.state(paramExchange); err != nil {
		return err
	}
	if err := t.read(&t.Parameters); err != nil {
		return err
	}
	t.Parallel = max(t.Parallel, 1)
	if t.Length == 0 {
		t.Length = sizeDefault
	}
	switch {
	case !t.TCP:
		return errors.New("iperf3: only TCP is there")
	case t.Bidirectional != 0:
		return errors.New("iperf3: both directions at once are not there")
	case t.Parallel > maxStreams || t.Length < 0 || t.Length > maxBlock || t.Time < 0 || t.Omit < 0 || time.Duration(t.Time+t.Omit) > maxTime/time.Second:
		return fmt.Errorf("iperf3: %+v is out of bounds", t.Parameters)
	}
	return nil
}

// connect waits for the data connections.
func (t *test) connect() (data []net.Conn, err error) {
	if err := t.state(createStreams); err != nil {
		return nil, err
	}
	for limit := time.After(streamsWait); len(data) < t.Parallel; {
		select {
		case c := <-t.joined:
			data = append(data, c)
		case <-limit:
			return data, fmt.Errorf("iperf3: %d of %d streams after %v", len(data), t.Parallel, streamsWait)
		}
	}
	return data, nil
}

// flow lets data flow until the client ends it, and closes its connections.
func (t *test) flow(data []net.Conn) error {
	limit := time.Duration(t.Time+t.Omit)*time.Second + patience
	if t.Time == 0 { // the client counts bytes instead
		limit = maxTime
	}
	end := time.Now().Add(limit)
	t.counts = make([]atomic.Uint64, len(data))
	var flows sync.WaitGroup
	err := t.state(testStart)
	for i, c := range data {
		c.SetDeadline(end)
		flows.Go(func() { t.move(c, &t.counts[i]) })
	}
	if err == nil {
		err = t.state(testRunning)
	}
	t.control.SetDeadline(end)
	var omitted *time.Timer
	if t.Omit > 0 {
		omitted = time.AfterFunc(time.Duration(t.Omit)*time.Second, func() {
			for i := range t.counts {
				t.counts[i].Store(0)
			}
		})
	}
	if err == nil {
		err = t.expect(testEnd)
	}
	if omitted != nil {
		omitted.Stop()
	}
	if !t.Reverse && err == nil {
		// What is still under way counts, but may not take long.
		for _, c := range data {
			c.SetDeadline(time.Now().Add(drain))
		}
		flows.Wait()
	}
	// The client may be waiting for the rest of a block, and goes on when the
	// connection ends.
	for _, c := range data {
		c.Close()
	}
	flows.Wait()
	return err
}

// move sends or receives on one stream until its connection or its time ends.
func (t *test) move(c net.Conn, count *atomic.Uint64) {
	block := make([]byte, t.Length)
	for {
		f := c.Read
		if t.Reverse {
			f = c.Write
		}
		n, err := f(block)
		count.Add(uint64(n))
		if err != nil {
			return
		}
	}
}

// exchangeResults swaps the results of both sides, after which the client ends.
func (t *test) exchangeResults(seconds float64) error {
	t.control.SetDeadline(time.Now().Add(patience))
	if err := t.state(exchangeResults); err != nil {
		return err
	}
	var theirs json.RawMessage
	if err := t.read(&theirs); err != nil {
		return err
	}
	ours := results{Retransmits: -1}
	for i := range t.counts {
		id := i + 1
		if i > 0 {
			id++ // iperf3 counts 1, 3, 4, 5
		}
		ours.Streams = append(ours.Streams, stream{ID: id, Bytes: t.counts[i].Load(), Retransmits: -1, End: seconds})
	}
	if err := t.write(ours); err != nil {
		return err
	}
	if err := t.state(displayResults); err != nil {
		return err
	}
	return t.expect(iperfDone)
}

// state tells the client the next state.
func (t *test) state(s byte) error {
	t.control.SetDeadline(time.Now().Add(patience))
	if _, err := t.control.Write([]byte{s}); err != nil {
		return fmt.Errorf("iperf3: state %d: %w", s, err)
	}
	return nil
}

// expect reads a state from the client.
func (t *test) expect(want byte) error {
	var b [1]byte
	if _, err := io.ReadFull(t.control, b[:]); err != nil {
		return fmt.Errorf("iperf3: waiting for state %d: %w", want, err)
	}
	if b[0] != want {
		return fmt.Errorf("iperf3: state %d from the client, not %d", b[0], want)
	}
	return nil
}

// read reads a document from the client.
func (t *test) read(v any) error {
	var size [4]byte
	if _, err := io.ReadFull(t.control, size[:]); err != nil {
		return fmt.Errorf("iperf3: document: %w", err)
	}
	n := binary.BigEndian.Uint32(size[:])
	if n > maxDocument {
		return fmt.Errorf("iperf3: document of %d bytes is longer than %d", n, maxDocument)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(t.control, b); err != nil {
		return fmt.Errorf("iperf3: document: %w", err)
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("iperf3: document: %w", err)
	}
	return nil
}

// write writes a document to the client.
func (t *test) write(v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("iperf3: results: %w", err)
	}
	if _, err := t.control.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...)); err != nil {
		return fmt.Errorf("iperf3: results: %w", err)
	}
	return nil
}
