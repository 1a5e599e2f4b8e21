package target

import (
	"errors"

	"nitro/nvme/wire"
)

// A prompt connection can have somebody else look at what has come, on the goroutine that
// receives for all connections, before it wakes who waits for it; net/stack's can. For a
// small command, waking a goroutine and going to sleep again takes more than all the rest.
type prompt interface {
	// Await waits until there is something to read that the handler has not dealt with,
	// or reading would fail. The handler must not wait for anything but the processor. It
	// tells whether there is more for it to do, for which it is called again when others
	// had their turn, and whether it is done: if not, Await returns.
	Await(handler func() (more, done bool)) error
	TryRead(p []byte) (int, error)  // reads what is there, which may be nothing
	TryWrite(p []byte) (int, error) // writes what there is room for, which may be nothing
}

// Bounds of what is done on the goroutine that receives, while no connection's packets are
// looked at: as much takes a slow board some three milliseconds.
const (
	promptSize = 16 << 10 // bytes of a command's data
	turnSize   = 16 << 10 // bytes of data of a turn's commands, but for the last one's
)

// errLater says that there is nothing to read yet.
var errLater = errors.New("target: nothing to read yet")

// await waits for the next command that cannot be done at once, on a queue whose commands
// may be. What the turns have left undone is here then.
func (l *lane) await(turn func() (more, done bool)) error {
	c := l.c
	if c.prompt == nil || c.qid == 0 || c.t.cfg.Lanes > 1 || c.w > c.r || !c.proven.Load() {
		return nil
	}
	if err := c.flush(); err != nil {
		return err
	}
	if err := c.prompt.Await(turn); err != nil {
		return err
	}
	if c.fatal != nil {
		return c.terminate(c.fatal, c.quote)
	}
	if c.turnFail != nil {
		return c.turnFail
	}
	if rest := c.unsent; len(rest) > 0 {
		c.unsent = nil
		return c.write(rest)
	}
	return nil
}

// turn does the commands that are there whole, and can be done at once.
func (l *lane) turn() (more, done bool) {
	c := l.c
	c.hasty, c.dry = true, false
	defer func() { c.hasty = false }()
	for size := 0; size < turnSize; size += int(l.cmd.Length) {
		at, err := l.atOnce()
		if err == nil && at {
			if _, err = l.receive(); err == nil {
				err = l.execute()
			}
		}
		switch {
		case err == errLater:
			return false, len(c.unsent) == 0
		case err != nil:
			c.turnFail = err
			return false, false
		case !at || len(c.unsent) > 0:
			return false, false
		}
	}
	return true, true
}

// atOnce reports whether the next PDU is there whole, and a command that can be done at
// once: a small Read, or a Write with its data, of a volume that waits for nothing. The
// error is errLater if the PDU is not there yet; nothing of it has been taken.
func (l *lane) atOnce() (bool, error) {
	c := l.c
	if err := c.fill(wire.HeaderSize); err != nil {
		return false, err
	}
	h := wire.DecodeHeader((*[wire.HeaderSize]byte)(c.in[c.r:]))
	if _, _, fatal := c.framing.Check(h); fatal != nil || h.Type != wire.TypeCapsuleCmd || int(h.PLEN) > len(c.in) {
		return false, nil
	}
	if err := c.fill(int(h.PLEN)); err != nil {
		return false, err
	}
	l.cmd.Decode((*[wire.CommandSize]byte)(c.in[c.r+wire.HeaderSize:]))
	switch {
	case l.cmd.Length > promptSize || !c.k.enabled.Load():
		return false, nil
	case l.cmd.Opcode == wire.IOWrite && l.cmd.SGL == wire.SGLInCapsule || l.cmd.Opcode == wire.IORead:
		n := c.k.host.find(l.cmd.NSID)
		return n != nil && n.prompt, nil
	}
	return false, nil
}

// attempt reads what is there. What comes after a read that left room has another turn.
func (c *conn) attempt(p []byte) (int, error) {
	if c.dry {
		return 0, errLater
	}
	n, err := c.prompt.TryRead(p)
	c.dry = n < len(p)
	if n == 0 && err == nil {
		err = errLater
	}
	return n, err
}

// sendHastily writes what there is room for, and keeps the rest. The sending mutex is held.
func (c *conn) sendHastily(p []byte) error {
	n := 0
	if len(c.unsent) == 0 {
		var err error
		if n, err = c.prompt.TryWrite(p); err != nil {
			return err
		}
	}
	c.unsent = append(c.unsent, p[n:]...)
	return nil
}
