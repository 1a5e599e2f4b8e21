package target

import (
	"sync"

	"nitro/nvme/wire"
)

// A transfer is a command whose data an R2T has asked for. Its fields are the reading
// lane's until the data is there, then the lane's that does the command.
type transfer struct {
	buf    []byte
	tag    uint16
	cmd    wire.Command
	got    uint32
	bad    bool // a data digest was wrong
	active bool // asked for, and not yet given back
}

// room is where the data lies; what it came around is not used here.
func (x *transfer) room() []byte { return x.buf[front : len(x.buf)-tail] }

// transfers are a queue's, and the commands that wait for one. Buffers come when they are
// first needed.
type transfers struct {
	mu      sync.Mutex
	all     []*transfer
	waiting []wire.Command // bounded by the queue's depth
}

// begin asks for a command's data, now or when a transfer is free. It gives false if the
// host has more commands outstanding than its queue holds.
func (s *transfers) begin(c *conn, cmd *wire.Command) (bool, error) {
	s.mu.Lock()
	x := s.idle(c)
	if x == nil {
		fits := len(s.waiting) < int(c.depth)
		if fits {
			s.waiting = append(s.waiting, *cmd)
		}
		s.mu.Unlock()
		return fits, nil
	}
	x.start(cmd)
	s.mu.Unlock()
	return true, c.requestData(cmd.CID, x.tag, cmd.Length)
}

// idle gives a transfer that may be used, or nil. The mutex is held.
func (s *transfers) idle(c *conn) *transfer {
	for _, x := range s.all {
		if !x.active {
			return x
		}
	}
	if len(s.all) >= c.t.cfg.Transfers {
		return nil
	}
	x := &transfer{tag: uint16(len(s.all))}
	if c.qid == 0 {
		x.buf = make([]byte, smallBuffer)
	} else {
		x.buf = c.t.takeBuffer()
	}
	s.all = append(s.all, x)
	return x
}

func (x *transfer) start(cmd *wire.Command) {
	x.cmd, x.got, x.bad, x.active = *cmd, 0, false, true
}

// finish makes a transfer free, and asks for the data of the command that has waited the
// longest.
func (s *transfers) finish(c *conn, x *transfer) error {
	s.mu.Lock()
	if len(s.waiting) == 0 {
		x.active = false
		s.mu.Unlock()
		return nil
	}
	x.start(&s.waiting[0])
	s.waiting = s.waiting[:copy(s.waiting, s.waiting[1:])]
	cid, length := x.cmd.CID, x.cmd.Length
	s.mu.Unlock()
	return c.requestData(cid, x.tag, length)
}

// expect finds the transfer that data belongs to, if it is the data that must come next
// (TCP 1.0, sections 3.3.2.2 and 3.6.2.8).
func (s *transfers) expect(d wire.Data, last bool, length uint32) (*transfer, *wire.Fatal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if int(d.TTAG) >= len(s.all) || !s.all[d.TTAG].active || s.all[d.TTAG].got == s.all[d.TTAG].cmd.Length {
		return nil, &wire.Fatal{Status: wire.FatalHeaderField, Field: 10, What: "data that no R2T asked for"}
	}
	x := s.all[d.TTAG]
	left := x.cmd.Length - x.got
	switch {
	case d.CCCID != x.cmd.CID:
		return nil, &wire.Fatal{Status: wire.FatalHeaderField, Field: 8, What: "data of another command than the R2T's"}
	case d.Length != length || length == 0:
		return nil, &wire.Fatal{Status: wire.FatalHeaderField, Field: 16, What: "DATAL does not fit PLEN"}
	case d.Offset != x.got || length > left:
		return nil, &wire.Fatal{Status: wire.FatalDataRange, Field: 12, What: "data out of order, or more than the R2T asked for"}
	case last != (length == left):
		return nil, &wire.Fatal{Status: wire.FatalHeaderField, Field: 1, What: "LAST_PDU is not on the last"}
	}
	return x, nil
}

// release gives the buffers back when all lanes have ended.
func (s *transfers) release(t *Target) {
	for _, x := range s.all {
		if len(x.buf) > smallBuffer {
			t.giveBuffer(x.buf)
		}
	}
	s.all, s.waiting = nil, nil
}
