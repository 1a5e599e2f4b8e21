package target

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"nitro/nvme/wire"
)

var le = binary.LittleEndian

// Sizes of a connection's buffers in bytes.
const (
	// inSize holds a 4 KiB write with its command, or a hundred commands.
	inSize = 8 << 10
	// outSize holds the responses that wait to be sent together.
	outSize = 1 << 10
	// smallBuffer is an admin queue's: what fabrics commands bring, or a page of answer.
	smallBuffer = front + wire.MaxInCapsule + tail
)

// Why connections end, beside the peer's own wish.
var (
	errSetup     = errors.New("target: not authenticated within the limit")
	errStalled   = errors.New("target: the peer stopped in the middle of a PDU, or takes no answer")
	errKeepAlive = errors.New("target: keep alive timeout")
	errEnded     = errors.New("target: ended by the peer")
	errAuth      = errors.New("target: authentication failed")
	errDone      = errors.New("target: disconnected as asked")
	errAdminGone = errors.New("target: the admin queue is gone")
)

// A conn is a connection: one queue.
type conn struct {
	t      *Target
	nc     net.Conn
	remote string
	born   uint32 // tick

	framing wire.Framing
	align   uint32 // of data to the host, from the PDU's start, bytes

	// Receiving: one lane at a time.
	rmu    sync.Mutex
	in     []byte
	r, w   int  // what is in it
	inside bool // a PDU has begun
	since  atomic.Uint32

	// Sending.
	wmu     sync.Mutex
	out     []byte // gathered responses
	sending atomic.Uint32

	// The queue, once connected.
	k         *controller
	qid       uint16
	depth     uint32
	flow      bool          // SQ flow control
	head      atomic.Uint32 // SQHD
	proven    atomic.Bool   // needs no authentication any more
	auth      auth
	transfers transfers

	// What its lane does on the goroutine that receives for all connections (turn.go).
	prompt   prompt      // nil if the connection cannot
	hasty    bool        // on that goroutine just now: nothing may wait
	dry      bool        // all that there was has been read
	unsent   []byte      // found no room there
	fatal    *wire.Fatal // ends the connection, found there in what is quoted
	quote    []byte
	turnFail error // ends the connection, found there

	lanes sync.WaitGroup
	once  sync.Once
	why   error
}

func newConn(t *Target, nc net.Conn) *conn {
	p, _ := nc.(prompt)
	return &conn{t: t, nc: nc, prompt: p, remote: nc.RemoteAddr().String(), born: t.tick.Load(), in: make([]byte, inSize), out: make([]byte, 0, outSize)}
}

// late says whether a connection has to end, and why. The target's mutex is held.
func (c *conn) late(now uint32) error {
	stall := ticks(c.t.cfg.StallLimit)
	if s := c.since.Load(); s != 0 && now-s > stall {
		return errStalled
	}
	if s := c.sending.Load(); s != 0 && now-s > stall {
		return errStalled
	}
	if !c.proven.Load() && now-c.born > ticks(c.t.cfg.SetupLimit) {
		return errSetup
	}
	return nil
}

// end makes a connection end: its lanes then find out.
func (c *conn) end(why error) {
	c.once.Do(func() {
		c.why = why
		c.nc.Close()
	})
}

// A lane does commands of a queue, one after the other.
type lane struct {
	c    *conn
	buf  []byte // front, data, tail
	cmd  wire.Command
	data []byte    // the command's, from the host
	bad  bool      // its digest was wrong
	tag  *transfer // what the data came with, unless it was the capsule
}

// room is where a lane's data lies.
func (l *lane) room() []byte { return l.buf[front : len(l.buf)-tail] }

// serve is a connection's life.
func (c *conn) serve() {
	l := &lane{c: c, buf: make([]byte, smallBuffer)}
	err := c.setUp()
	if err == nil {
		err = l.run()
	}
	c.end(err)
	c.lanes.Wait()
	c.release(l)
}

// release gives back what a connection held.
func (c *conn) release(l *lane) {
	if len(l.buf) > smallBuffer {
		c.t.giveBuffer(l.buf)
	}
	c.transfers.release(c.t)
	c.auth.reset()
	t := c.t
	t.mu.Lock()
	delete(t.conns, c)
	if !c.proven.Load() {
		t.pending--
	}
	k := c.k
	if k != nil {
		k.remove(c)
	}
	t.mu.Unlock()
	var fatal *wire.Fatal
	switch {
	case errors.As(c.why, &fatal):
		t.notify(EventProtocol, c, c.hostNQN(), c.why)
	case errors.Is(c.why, errSetup), errors.Is(c.why, errStalled):
		t.notify(EventRefused, c, c.hostNQN(), c.why)
	}
	if k != nil && c.qid == 0 && !k.discovery && c.proven.Load() {
		t.notify(EventClosed, c, k.host.nqn, c.why)
	}
}

func (c *conn) hostNQN() string {
	if c.k == nil {
		return ""
	}
	return c.k.host.nqn
}

// prove marks a queue as authenticated, or as one that needs no authentication, and
// starts an I/O queue's lanes.
func (c *conn) prove(l *lane) {
	if c.proven.Load() {
		return
	}
	t := c.t
	t.mu.Lock()
	if c.qid == 0 && t.count(c.k.host, c.k.discovery) >= t.cfg.Controllers {
		c.end(errBusy) // others authenticated meanwhile
	}
	c.proven.Store(true)
	t.pending--
	t.mu.Unlock()
	if c.qid == 0 {
		c.framing.MaxData = wire.MaxInCapsule
		if !c.k.discovery {
			t.notify(EventOpened, c, c.k.host.nqn, nil)
		}
		return
	}
	c.framing.MaxCapsule = uint32(t.cfg.InCapsule)
	c.framing.MaxData = uint32(t.cfg.MaxTransfer)
	l.buf = t.takeBuffer()
	for range t.cfg.Lanes - 1 {
		c.lanes.Go(func() {
			other := &lane{c: c, buf: t.takeBuffer()}
			c.end(other.run())
			t.giveBuffer(other.buf)
		})
	}
}

// run does commands until the connection ends.
func (l *lane) run() error {
	turn := l.turn
	for {
		if err := l.await(turn); err != nil {
			return err
		}
		if err := l.next(); err != nil {
			return err
		}
		if err := l.execute(); err != nil {
			return err
		}
	}
}

// setUp agrees upon the connection's parameters (TCP 1.0, section 3.4).
func (c *conn) setUp() error {
	c.inside = true
	if err := c.fill(wire.ICSize); err != nil {
		return err
	}
	b := (*[wire.ICSize]byte)(c.in[c.r:])
	req, fatal := wire.DecodeICReq(b)
	if fatal != nil {
		return c.terminate(fatal, b[:])
	}
	c.r += wire.ICSize
	c.done()
	c.framing = wire.Framing{HeaderDigest: req.Digest&1 != 0, DataDigest: req.Digest&2 != 0, Alignment: 4, Target: true, MaxCapsule: wire.MaxInCapsule}
	c.align = (uint32(req.HPDA) + 1) * 4
	var answer [wire.ICSize]byte
	wire.ICResp{Digest: req.Digest, MAXH2CDATA: uint32(c.t.cfg.MaxTransfer)}.Encode(&answer)
	return c.write(answer[:])
}

// read reads from the socket, having sent first what the peer may wait for.
func (c *conn) read(p []byte) (int, error) {
	if err := c.flush(); err != nil {
		return 0, err
	}
	if c.inside && c.since.Load() == 0 {
		c.since.Store(c.t.tick.Load())
	}
	if c.hasty {
		return c.attempt(p)
	}
	return c.nc.Read(p)
}

// fill sees to it that n bytes are in the buffer.
func (c *conn) fill(n int) error {
	for c.w-c.r < n {
		if c.r == c.w {
			c.r, c.w = 0, 0
		} else if len(c.in)-c.r < n {
			c.w = copy(c.in, c.in[c.r:c.w])
			c.r = 0
		}
		k, err := c.read(c.in[c.w:])
		if c.w += k; k > 0 {
			c.inside = true
			continue
		}
		if err != nil {
			return ended(err, c.w > c.r)
		}
	}
	return nil
}

// ended makes the end of the stream an error.
func ended(err error, inside bool) error {
	if err == io.EOF && !inside {
		return errEnded
	}
	return err
}

// done marks the end of a PDU.
func (c *conn) done() {
	c.inside = c.w > c.r
	if c.since.Load() != 0 {
		c.since.Store(0)
	}
}

// take reads n bytes into p: those in the buffer, and the others straight from the socket.
func (c *conn) take(p []byte) error {
	k := copy(p, c.in[c.r:c.w])
	c.r += k
	for k < len(p) {
		n, err := c.read(p[k:])
		if k += n; n == 0 && err != nil {
			return err
		}
	}
	return nil
}

// takeData reads the data of a PDU and reports whether its digest was wrong.
func (c *conn) takeData(p []byte) (bad bool, err error) {
	if err := c.take(p); err != nil {
		return false, err
	}
	if c.framing.DataDigest {
		if err := c.fill(wire.DigestSize); err != nil {
			return false, err
		}
		bad = !wire.SameDigest(c.in[c.r:], p)
		c.r += wire.DigestSize
	}
	return bad, nil
}

// next reads until there is a command to do.
func (l *lane) next() error {
	c := l.c
	if !c.rmu.TryLock() {
		// The lane that reads may wait for long: what has been gathered goes first.
		if err := c.flush(); err != nil {
			return err
		}
		c.rmu.Lock()
	}
	defer c.rmu.Unlock()
	for {
		ready, err := l.receive()
		if ready || err != nil {
			return err
		}
	}
}

// receive reads one PDU, and reports whether a command is ready with it.
func (l *lane) receive() (ready bool, err error) {
	c := l.c
	if err := c.fill(wire.HeaderSize); err != nil {
		return false, err
	}
	h := wire.DecodeHeader((*[wire.HeaderSize]byte)(c.in[c.r:]))
	start, length, fatal := c.framing.Check(h)
	if fatal != nil {
		return false, c.terminate(fatal, c.in[c.r:c.r+wire.HeaderSize])
	}
	if err := c.fill(int(start)); err != nil {
		return false, err
	}
	head := c.in[c.r : c.r+int(start)]
	if c.framing.HeaderDigest && h.Type != wire.TypeH2CTermReq && !wire.SameDigest(head[h.HLEN:], head[:h.HLEN]) {
		return false, c.terminate(&wire.Fatal{Status: wire.FatalHeaderDigest, Field: le.Uint32(head[h.HLEN:]), What: "header digest"}, head[:h.HLEN])
	}
	switch h.Type {
	case wire.TypeCapsuleCmd:
		ready, err = l.capsule(head, length)
	case wire.TypeH2CData:
		ready, err = l.dataPDU(h, head, length)
	default: // H2CTermReq: the framing lets nothing else through
		return false, errEnded
	}
	c.done()
	return ready, err
}

// capsule takes a command with what came with it.
func (l *lane) capsule(head []byte, length uint32) (bool, error) {
	c := l.c
	l.cmd.Decode((*[wire.CommandSize]byte)(head[wire.HeaderSize:]))
	l.tag, l.data, l.bad = nil, nil, false
	if c.flow {
		c.head.Store((c.head.Load() + 1) % c.depth)
	}
	if k := c.k; k != nil {
		k.seen.Store(c.t.tick.Load())
	}
	if length == 0 {
		c.r += len(head)
		return l.wanted()
	}
	if l.cmd.SGL != wire.SGLInCapsule || l.cmd.Address != 0 || l.cmd.Length != length {
		return false, c.terminate(&wire.Fatal{Status: wire.FatalHeaderField, Field: 4, What: "data in a capsule that its command does not describe"}, head[:wire.CommandPDU])
	}
	c.r += len(head)
	l.data = l.room()[:length]
	var err error
	l.bad, err = c.takeData(l.data)
	return err == nil, err
}

// dataPDU takes data that an R2T asked for.
func (l *lane) dataPDU(h wire.Header, head []byte, length uint32) (bool, error) {
	c := l.c
	d := wire.DecodeData((*[wire.DataPDU]byte)(head))
	x, fatal := c.transfers.expect(d, h.Flags&wire.FlagLast != 0, length)
	if fatal != nil {
		return false, c.terminate(fatal, head[:wire.DataPDU])
	}
	c.r += len(head)
	bad, err := c.takeData(x.room()[d.Offset:][:length])
	if err != nil {
		return false, err
	}
	x.bad = x.bad || bad
	if x.got += length; x.got < x.cmd.Length {
		return false, nil
	}
	l.cmd, l.tag, l.data, l.bad = x.cmd, x, x.room()[:x.got], x.bad
	return true, nil
}

// flush sends the gathered responses.
func (c *conn) flush() error {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	return c.flushLocked()
}

func (c *conn) flushLocked() error {
	if len(c.out) == 0 {
		return nil
	}
	err := c.send(c.out)
	c.out = c.out[:0]
	return err
}

// send writes to the socket. The sending mutex is held.
func (c *conn) send(p []byte) error {
	if c.hasty {
		return c.sendHastily(p)
	}
	c.sending.Store(c.t.tick.Load())
	_, err := c.nc.Write(p)
	c.sending.Store(0)
	return err
}

func (c *conn) write(p []byte) error {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	return c.send(p)
}

// header begins a PDU of a header only among the gathered ones and gives its room; the
// sending mutex is held.
func (c *conn) header(kind, size uint8) ([]byte, error) {
	total := int(size)
	if c.framing.HeaderDigest {
		total += wire.DigestSize
	}
	if len(c.out)+total > cap(c.out) {
		if err := c.flushLocked(); err != nil {
			return nil, err
		}
	}
	at := len(c.out)
	c.out = c.out[:at+total]
	b := c.out[at:]
	c.putHeader(b, kind, 0, size, 0, uint32(total))
	return b, nil
}

// putHeader writes a common header as the digests were agreed upon.
func (c *conn) putHeader(b []byte, kind, flags, size, pdo uint8, total uint32) {
	if c.framing.HeaderDigest {
		flags |= wire.FlagHeaderDigest
	}
	wire.Header{Type: kind, Flags: flags, HLEN: size, PDO: pdo, PLEN: total}.Encode(b)
}

// seal writes the digest of a header of size bytes after it.
func (c *conn) seal(b []byte, size uint8) {
	if c.framing.HeaderDigest {
		wire.PutDigest(b[size:], b[:size])
	}
}

// putResponse writes a response capsule into b and gives its length.
func (c *conn) putResponse(b []byte, cid uint16, status wire.Status, result uint64) int {
	n := wire.ResponsePDU
	if c.framing.HeaderDigest {
		n += wire.DigestSize
	}
	head := uint16(0xffff)
	if c.flow {
		head = uint16(c.head.Load())
	}
	c.putHeader(b, wire.TypeCapsuleResp, 0, wire.ResponsePDU, 0, uint32(n))
	e := wire.Completion{Result: result, SQHD: head, SQID: c.qid, CID: cid, Status: status}
	e.Encode(b[wire.HeaderSize:])
	c.seal(b, wire.ResponsePDU)
	return n
}

// respond completes a command without data. It is sent before the connection next waits.
func (c *conn) respond(cid uint16, status wire.Status, result uint64) error {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	if cap(c.out)-len(c.out) < wire.ResponsePDU+wire.DigestSize {
		if err := c.flushLocked(); err != nil {
			return err
		}
	}
	at := len(c.out)
	c.out = c.out[:at+wire.ResponsePDU+wire.DigestSize]
	c.out = c.out[:at+c.putResponse(c.out[at:], cid, status, result)]
	return nil
}

// requestData sends an R2T for all data of a command.
func (c *conn) requestData(cid, tag uint16, length uint32) error {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	b, err := c.header(wire.TypeR2T, wire.R2TPDU)
	if err != nil {
		return err
	}
	wire.R2T{CCCID: cid, TTAG: tag, Length: length}.Encode(b)
	c.seal(b, wire.R2TPDU)
	return nil
}

// reply sends n bytes of the lane's room as a command's data from an offset, with
// what is gathered, and completes the command with the last.
func (l *lane) reply(offset uint32, n int, last bool) error {
	c := l.c
	size := uint32(wire.DataPDU)
	if c.framing.HeaderDigest {
		size += wire.DigestSize
	}
	pdo := (size + c.align - 1) / c.align * c.align
	end := front + n
	total := pdo + uint32(n)
	flags := uint8(0)
	if c.framing.DataDigest {
		flags |= wire.FlagDataDigest
		wire.PutDigest(l.buf[end:], l.buf[front:end])
		end, total = end+wire.DigestSize, total+wire.DigestSize
	}
	if last {
		flags |= wire.FlagLast
	}
	c.wmu.Lock()
	defer c.wmu.Unlock()
	if last && c.flow {
		end += c.putResponse(l.buf[end:], l.cmd.CID, wire.Success, 0)
	} else if last {
		flags |= wire.FlagSuccess
	}
	begin := front - int(pdo)
	b := l.buf[begin:front] // zero past the header: nothing else ever lies there
	c.putHeader(b, wire.TypeC2HData, flags, wire.DataPDU, uint8(pdo), total)
	wire.Data{CCCID: l.cmd.CID, Offset: offset, Length: uint32(n)}.Encode(b)
	c.seal(b, wire.DataPDU)
	if len(c.out) <= begin {
		begin -= copy(l.buf[begin-len(c.out):], c.out)
		c.out = c.out[:0]
	} else if err := c.flushLocked(); err != nil {
		return err
	}
	return c.send(l.buf[begin:end])
}

// drainLimit is how long a host may take to read why a connection ended.
const drainLimit = time.Second

// terminate says why the connection ends (TCP 1.0, section 3.5) and gives the error that
// ends it.
func (c *conn) terminate(f *wire.Fatal, quote []byte) error {
	if c.hasty { // await does it
		c.fatal, c.quote = f, bytes.Clone(quote)
		return f
	}
	var b [wire.MaxTermReq]byte
	n := wire.EncodeTermReq(&b, wire.TypeC2HTermReq, wire.TermReq{Status: f.Status, Field: f.Field}, quote)
	if c.flush() == nil && c.write(b[:n]) == nil {
		c.linger()
	}
	return f
}

// linger lets the host read what was sent last: closing a TCP socket that holds unread
// data resets it, so it is closed for writing first.
func (c *conn) linger() {
	half, ok := c.nc.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	c.nc.SetReadDeadline(time.Now().Add(drainLimit))
	var rest [512]byte
	for range 2 * (1 << 20) / len(rest) {
		if _, err := c.nc.Read(rest[:]); err != nil {
			return
		}
	}
}
