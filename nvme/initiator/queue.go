package initiator

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"nitro/nvme/volume"
	"nitro/nvme/wire"
)

var le = binary.LittleEndian

// inSize is what a queue reads ahead, in bytes.
const inSize = 8 << 10

// A queue is a connection. Its users wait for their commands; a goroutine reads what the
// controller sends, one sends the data that it asks for, and one watches the time.
type queue struct {
	c         *Controller
	id        uint16
	nc        net.Conn
	in        *bufio.Reader
	framing   wire.Framing
	align     int // of data to the controller
	maxData   int // most bytes in one H2CData PDU
	inCapsule int

	wmu  sync.Mutex
	head [wire.MaxHeader + 256]byte // of the PDU that is sent

	slots []slot
	free  chan uint16
	asked chan request // R2Ts to be answered: at most one for each command

	fails sync.Once
	err   error
	over  chan struct{} // closed when the queue has failed
	gone  chan struct{} // closed when nothing uses the slots' data any more
	tasks sync.WaitGroup
}

// A slot is a command in flight.
type slot struct {
	cmd     wire.Command
	out, in []byte
	moves   uint32        // bytes that data PDUs carry, either way
	got     uint32        // of them, those that came, or were asked for
	done    chan struct{} // has one element when the completion is there
	busy    atomic.Bool
	since   atomic.Int64 // when it was sent, nanoseconds of the monotonic clock; 0: no limit
	result  wire.Completion

	supply sync.Mutex // held while data that was asked for is sent
	owed   uint32     // bytes that were asked for and not yet sent
}

// A request is an R2T.
type request struct {
	wire.R2T
	slot *slot
}

// newQueue connects and agrees upon parameters.
func newQueue(ctx context.Context, c *Controller, id uint16, depth int) (*queue, error) {
	nc, err := c.cfg.Dial(ctx)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", volume.ErrUnavailable, err)
	}
	q := &queue{c: c, id: id, nc: nc, in: bufio.NewReaderSize(nc, inSize), inCapsule: wire.MaxInCapsule, slots: make([]slot, depth),
		free: make(chan uint16, depth), asked: make(chan request, depth), over: make(chan struct{}), gone: make(chan struct{})}
	if err := q.setUp(ctx); err != nil {
		nc.Close()
		return nil, fmt.Errorf("initiator: queue %d: connection set-up: %w", id, err)
	}
	for i := range q.slots {
		q.slots[i].done = make(chan struct{}, 1)
		q.free <- uint16(i)
	}
	q.tasks.Go(func() { q.fail(q.receive()) })
	q.tasks.Go(q.supply)
	q.tasks.Go(q.watch)
	go func() {
		q.tasks.Wait()
		close(q.gone)
	}()
	return q, nil
}

// setUp exchanges ICReq and ICResp.
func (q *queue) setUp(ctx context.Context) error {
	limit := time.Now().Add(q.c.cfg.Limit)
	if d, ok := ctx.Deadline(); ok && d.Before(limit) {
		limit = d
	}
	q.nc.SetDeadline(limit)
	defer q.nc.SetDeadline(time.Time{})
	var b [wire.ICSize]byte
	req := wire.ICReq{}
	if q.c.cfg.HeaderDigest {
		req.Digest |= 1
	}
	if q.c.cfg.DataDigest {
		req.Digest |= 2
	}
	req.Encode(&b)
	if _, err := q.nc.Write(b[:]); err != nil {
		return err
	}
	if _, err := io.ReadFull(q.in, b[:]); err != nil {
		return err
	}
	resp, fatal := wire.DecodeICResp(&b)
	if fatal != nil {
		return fatal
	}
	if resp.Digest != req.Digest {
		return fmt.Errorf("asked for digests %#x, got %#x", req.Digest, resp.Digest)
	}
	q.framing = wire.Framing{HeaderDigest: q.c.cfg.HeaderDigest, DataDigest: q.c.cfg.DataDigest, Alignment: 4, MaxData: 1<<32 - 1}
	q.align, q.maxData = (int(resp.CPDA)+1)*4, int(min(resp.MAXH2CDATA, 1<<20))
	return nil
}

// fail ends the queue, once.
func (q *queue) fail(err error) {
	q.fails.Do(func() {
		q.err = err
		if !errors.Is(err, volume.ErrClosed) {
			q.err = fmt.Errorf("%w: queue %d: %w", volume.ErrUnavailable, q.id, err)
		}
		q.nc.Close()
		close(q.over)
	})
}

// errLimit says that a command took too long.
var errLimit = errors.New("initiator: a command took longer than its limit")

// epoch is where slots' times count from.
var epoch = time.Now()

// watch ends the queue when a command takes too long.
func (q *queue) watch() {
	limit := q.c.cfg.Limit
	ticker := time.NewTicker(max(limit/8, time.Millisecond))
	defer ticker.Stop()
	for {
		select {
		case <-q.over:
			return
		case <-ticker.C:
		}
		now := int64(time.Since(epoch))
		for i := range q.slots {
			if since := q.slots[i].since.Load(); since != 0 && now-since > int64(limit) {
				q.fail(errLimit)
				return
			}
		}
	}
}

// do does a command. It returns when nothing uses out and in any more: a context that
// ends while the command is in flight ends the queue.
func (q *queue) do(ctx context.Context, cmd *wire.Command, out, in []byte) (uint64, error) {
	var tag uint16
	select {
	case tag = <-q.free:
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	case <-q.over:
		return 0, q.err
	}
	s := &q.slots[tag]
	s.cmd, s.out, s.in, s.got, s.owed = *cmd, out, in, 0, 0
	s.cmd.CID, s.cmd.Flags = tag, wire.FlagSGL
	s.cmd.SGL, s.cmd.Address, s.cmd.Length = wire.SGLTransport, 0, uint32(len(out)+len(in))
	s.moves = s.cmd.Length
	inline := len(out) > 0 && (len(out) <= q.inCapsule || cmd.Opcode == wire.Fabrics)
	if inline {
		s.cmd.SGL = wire.SGLInCapsule
		s.moves = 0
	}
	if cmd.Opcode != wire.AdminAsyncEvent || q.id != 0 {
		s.since.Store(int64(time.Since(epoch)))
	}
	s.busy.Store(true)
	if err := q.sendCommand(s, inline); err != nil {
		q.fail(err)
	}
	select {
	case <-s.done:
	case <-q.over:
		<-q.gone
		return 0, q.err
	case <-ctx.Done():
		q.fail(context.Cause(ctx))
		<-q.gone
		return 0, q.err
	}
	s.out, s.in = nil, nil
	result, status := s.result.Result, s.result.Status
	q.free <- tag
	if status.Code() != wire.Success {
		return result, status
	}
	return result, nil
}

// sendCommand sends a command capsule.
func (q *queue) sendCommand(s *slot, inline bool) error {
	q.wmu.Lock()
	defer q.wmu.Unlock()
	s.cmd.Encode((*[wire.CommandSize]byte)(q.head[wire.HeaderSize:]))
	var data []byte
	if inline {
		data = s.out
	}
	return q.sendPDU(wire.TypeCapsuleCmd, 0, wire.CommandPDU, data)
}

// sendPDU sends a PDU whose header, but for the common one, is in q.head. The sending
// mutex is held.
func (q *queue) sendPDU(kind, flags, size uint8, data []byte) error {
	start := int(size)
	if q.framing.HeaderDigest {
		flags |= wire.FlagHeaderDigest
		start += wire.DigestSize
	}
	h := wire.Header{Type: kind, HLEN: size, PLEN: uint32(start)}
	if len(data) > 0 {
		start = (start + q.align - 1) / q.align * q.align
		h.PDO, h.PLEN = uint8(start), uint32(start+len(data))
		if q.framing.DataDigest {
			flags |= wire.FlagDataDigest
			h.PLEN += wire.DigestSize
		}
	}
	h.Flags = flags
	h.Encode(q.head[:])
	if q.framing.HeaderDigest {
		wire.PutDigest(q.head[size:], q.head[:size])
	}
	if _, err := q.nc.Write(q.head[:start]); err != nil || len(data) == 0 {
		return err
	}
	if _, err := q.nc.Write(data); err != nil || !q.framing.DataDigest {
		return err
	}
	wire.PutDigest(q.head[:], data)
	_, err := q.nc.Write(q.head[:wire.DigestSize])
	return err
}

// supply sends the data that the controller asks for.
func (q *queue) supply() {
	for {
		select {
		case r := <-q.asked:
			if err := q.sendData(r); err != nil {
				q.fail(err)
			}
		case <-q.over:
			return
		}
	}
}

// sendData answers an R2T with as many PDUs as it takes.
func (q *queue) sendData(r request) error {
	r.slot.supply.Lock()
	defer r.slot.supply.Unlock()
	data := r.slot.out[r.Offset:][:r.Length]
	r.slot.owed -= r.Length
	for at := 0; at < len(data); {
		part := data[at:min(at+q.maxData, len(data))]
		flags := uint8(0)
		if at+len(part) == len(data) {
			flags = wire.FlagLast
		}
		q.wmu.Lock()
		wire.Data{CCCID: r.CCCID, TTAG: r.TTAG, Offset: r.Offset + uint32(at), Length: uint32(len(part))}.Encode(q.head[:])
		err := q.sendPDU(wire.TypeH2CData, flags, wire.DataPDU, part)
		q.wmu.Unlock()
		if err != nil {
			return err
		}
		at += len(part)
	}
	return nil
}

// receive reads PDUs until the connection ends.
func (q *queue) receive() error {
	var head [256]byte
	for {
		if _, err := io.ReadFull(q.in, head[:wire.HeaderSize]); err != nil {
			return err
		}
		h := wire.DecodeHeader((*[wire.HeaderSize]byte)(head[:]))
		start, length, fatal := q.framing.Check(h)
		if fatal != nil {
			return fatal
		}
		if _, err := io.ReadFull(q.in, head[wire.HeaderSize:start]); err != nil {
			return err
		}
		if q.framing.HeaderDigest && h.Type != wire.TypeC2HTermReq && !wire.SameDigest(head[h.HLEN:], head[:h.HLEN]) {
			return &wire.Fatal{Status: wire.FatalHeaderDigest, What: "header digest"}
		}
		if err := q.take(h, &head, length); err != nil {
			return err
		}
	}
}

// take does what a PDU says.
func (q *queue) take(h wire.Header, head *[256]byte, length uint32) error {
	switch h.Type {
	case wire.TypeCapsuleResp:
		var e wire.Completion
		e.Decode((*[wire.CompletionSize]byte)(head[wire.HeaderSize:]))
		s := q.slot(e.CID)
		if s == nil {
			return &wire.Fatal{Status: wire.FatalHeaderField, What: "response to no command"}
		}
		// out is the caller's again with the completion, so nothing of it may be still to
		// send.
		s.supply.Lock()
		owed := s.owed
		s.supply.Unlock()
		if owed != 0 || e.Status.Code() == wire.Success && s.got != s.moves {
			return &wire.Fatal{Status: wire.FatalSequence, What: "response before all data"}
		}
		q.complete(s, e)
		return nil
	case wire.TypeC2HData:
		return q.takeData(h, wire.DecodeData((*[wire.DataPDU]byte)(head[:])), length)
	case wire.TypeR2T:
		r := wire.DecodeData((*[wire.R2TPDU]byte)(head[:]))
		s := q.slot(r.CCCID)
		if s == nil || r.Length == 0 || r.Offset != s.got || uint64(r.Offset)+uint64(r.Length) > uint64(len(s.out)) {
			return &wire.Fatal{Status: wire.FatalHeaderField, What: "R2T outside its command's data, or not in order"}
		}
		s.got += r.Length
		s.supply.Lock()
		s.owed += r.Length
		s.supply.Unlock()
		select {
		case q.asked <- request{r, s}:
			return nil
		default:
			return &wire.Fatal{Status: wire.FatalDataLimit, What: "more R2Ts than commands"}
		}
	}
	t := wire.DecodeTermReq((*[wire.TermReqPDU]byte)(head[:])) // nothing else passes the framing
	return fmt.Errorf("terminated by the controller: %w", &wire.Fatal{Status: t.Status, Field: t.Field, What: "said the controller"})
}

// slot finds a command in flight.
func (q *queue) slot(cid uint16) *slot {
	if int(cid) >= len(q.slots) || !q.slots[cid].busy.Load() {
		return nil
	}
	return &q.slots[cid]
}

// takeData reads data of a command.
func (q *queue) takeData(h wire.Header, d wire.Data, length uint32) error {
	s := q.slot(d.CCCID)
	if s == nil || d.Length != length || d.Offset != s.got || uint64(d.Offset)+uint64(length) > uint64(len(s.in)) || length == 0 {
		return &wire.Fatal{Status: wire.FatalDataRange, What: "data outside its command's, or not in order"}
	}
	if h.Flags&wire.FlagSuccess != 0 && (h.Flags&wire.FlagLast == 0 || int(s.got+length) != len(s.in) || !q.c.cfg.NoFlowControl) {
		return &wire.Fatal{Status: wire.FatalHeaderField, What: "SUCCESS where it cannot be"}
	}
	p := s.in[d.Offset:][:length]
	if _, err := io.ReadFull(q.in, p); err != nil {
		return err
	}
	s.got += length
	if q.framing.DataDigest {
		var sum [wire.DigestSize]byte
		if _, err := io.ReadFull(q.in, sum[:]); err != nil {
			return err
		}
		if !wire.SameDigest(sum[:], p) {
			return errDigest
		}
	}
	if h.Flags&wire.FlagSuccess != 0 {
		q.complete(s, wire.Completion{CID: d.CCCID})
	}
	return nil
}

// errDigest says that data was damaged on the way. The connection ends: its other data is
// as doubtful.
var errDigest = errors.New("initiator: data digest is wrong")

// complete hands a completion over.
func (q *queue) complete(s *slot, e wire.Completion) {
	s.result = e
	s.since.Store(0)
	s.busy.Store(false)
	s.done <- struct{}{}
}
