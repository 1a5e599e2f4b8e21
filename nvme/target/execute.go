package target

import "nitro/nvme/wire"

// wanted decides what a command without data in its capsule waits for: nothing, or data
// that it is asked for. A command that will be refused is not asked.
func (l *lane) wanted() (ready bool, err error) {
	c := l.c
	if !l.cmd.ToController() || l.cmd.Length == 0 || l.cmd.SGL != wire.SGLTransport || l.cmd.Opcode == wire.Fabrics || !c.proven.Load() {
		return true, nil
	}
	status := wire.Success
	if c.qid == 0 {
		if l.cmd.Length > page {
			status = wire.InvalidField | wire.DNR
		}
	} else if n := c.k.host.find(l.cmd.NSID); n == nil {
		status = wire.InvalidNamespace | wire.DNR
	} else {
		status = l.admit(n)
	}
	if status != wire.Success {
		return false, c.respond(l.cmd.CID, status, 0)
	}
	fits, err := c.transfers.begin(c, &l.cmd)
	if err == nil && !fits {
		err = c.terminate(&wire.Fatal{Status: wire.FatalSequence, What: "more commands than the queue holds"}, nil)
	}
	return false, err
}

// execute does a command and answers it. An error ends the connection.
func (l *lane) execute() error {
	c := l.c
	switch {
	case l.bad:
		return l.finish(wire.TransientTransport, 0)
	case l.cmd.Flags != wire.FlagSGL:
		return l.finish(wire.InvalidField|wire.DNR, 0)
	case l.cmd.Opcode == wire.Fabrics:
		return l.fabrics()
	case c.k == nil:
		return l.finish(wire.CommandSequence|wire.DNR, 0)
	case !c.proven.Load():
		return l.finish(wire.AuthRequired|wire.DNR, 0)
	case !c.k.enabled.Load():
		return l.finish(wire.CommandSequence|wire.DNR, 0)
	case c.qid == 0:
		return l.admin()
	}
	return l.io()
}

// finish completes a command without data.
func (l *lane) finish(status wire.Status, result uint64) error {
	if err := l.c.respond(l.cmd.CID, status, result); err != nil {
		return err
	}
	if l.tag != nil {
		return l.c.transfers.finish(l.c, l.tag)
	}
	return nil
}

// answer completes a command with what was filled in of the lane's room, and zeros up to
// the length that the host gave: a page at most.
func (l *lane) answer(filled int) error {
	length := int(l.cmd.Length)
	if l.cmd.SGL != wire.SGLTransport || length == 0 || length > page {
		return l.finish(wire.DataSGLLength|wire.DNR, 0)
	}
	clear(l.room()[min(filled, length):length])
	return l.reply(0, length, true)
}

// answerPages does the same with content that may be longer than the lane's room.
func (l *lane) answerPages(content []byte) error {
	length, room := int(l.cmd.Length), l.room()
	if l.cmd.SGL != wire.SGLTransport {
		return l.finish(wire.SGLType|wire.DNR, 0)
	}
	for at := 0; at < length; {
		n := min(length-at, len(room))
		k := copy(room[:n], content[min(at, len(content)):])
		clear(room[k:n])
		at += n
		if err := l.reply(uint32(at-n), n, at == length); err != nil {
			return err
		}
	}
	return nil
}
