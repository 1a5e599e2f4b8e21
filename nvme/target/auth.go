package target

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"slices"

	"nitro/nvme/dhchap"
	"nitro/nvme/wire"
)

// Where an authentication is (Base 2.0, section 8.13.5.1): what the controller waits for.
const (
	waitNegotiate = iota // the host's first message
	waitChallenge        // the host to receive the challenge
	waitReply
	waitSuccess1 // the host to receive the result
	waitSuccess2 // the host's word that the controller is authentic too
	waitFailure  // the host to receive the failure; then the connection ends
)

// auth is a queue's authentication. The lane that does commands owns it: it is the only
// one until the queue is authenticated, and again while a host authenticates anew, which
// takes the queue's commands in order.
type auth struct {
	step     int
	t        dhchap.Transaction
	group    dhchap.Group
	exchange *dhchap.Exchange
	value    [dhchap.MaxHash]byte // the challenge
	answer   []byte               // what the host receives next
	mutual   bool
}

// reset forgets an authentication.
func (a *auth) reset() {
	if a.exchange != nil {
		a.exchange.Zero()
	}
	clear(a.t.Session)
	*a = auth{}
}

// fail makes the host receive a failure.
func (a *auth) fail(explanation uint8) {
	id := a.t.ID
	a.reset()
	a.step = waitFailure
	a.answer = wire.EncodeFailure(wire.AuthFailure1, id, explanation)
}

// authSend takes a message of the host's (Base 2.0, section 6.2). What is wrong with it
// the host learns from its next Authentication Receive.
func (l *lane) authSend() error {
	c := l.c
	if c.k.discovery || c.qid != 0 && c.t.cfg.Lanes > 1 && c.proven.Load() {
		// With several lanes an I/O queue cannot authenticate again: it is connected anew.
		return l.finish(wire.InvalidOpcode|wire.DNR, 0)
	}
	if !wire.AuthCommandValid(&l.cmd) || len(l.data) != int(l.cmd.Length) {
		return l.finish(wire.InvalidField|wire.DNR, 0)
	}
	kind, id, transaction, err := wire.AuthKind(l.data)
	if err != nil {
		return l.finish(wire.InvalidField|wire.DNR, 0)
	}
	a := &c.auth
	switch {
	case kind == wire.AuthCommon && id == wire.AuthNegotiate && a.step == waitNegotiate:
		c.negotiate(l.data)
	case kind == wire.AuthCommon && id == wire.AuthFailure2:
		// The host does not believe the controller.
		if err := l.finish(wire.Success, 0); err != nil {
			return err
		}
		return l.refuseAuth(wire.AuthFailed)
	case a.step == waitFailure:
	case transaction != a.t.ID:
		a.fail(wire.AuthPayload)
	case kind == wire.AuthDHCHAP && id == wire.AuthReply && a.step == waitReply:
		c.verify(l)
	case kind == wire.AuthDHCHAP && id == wire.AuthSuccess2 && a.step == waitSuccess2:
		a.reset()
		c.prove(l)
	default:
		a.fail(wire.AuthMessage)
	}
	return l.finish(wire.Success, 0)
}

// negotiate chooses hash and group, and makes a challenge.
func (c *conn) negotiate(b []byte) {
	a := &c.auth
	var n wire.Negotiate
	if err := n.Decode(b); err != nil {
		a.fail(wire.AuthPayload)
		return
	}
	a.t = dhchap.Transaction{ID: n.Transaction, HostNQN: c.k.host.nqn, ControllerNQN: c.t.cfg.SubsystemNQN}
	if n.Concatenation != 0 {
		a.fail(wire.AuthConcatenation)
		return
	}
	hash := slices.IndexFunc(c.t.cfg.Hashes, func(h dhchap.Hash) bool { return slices.Contains(n.Hashes, uint8(h)) })
	group := slices.IndexFunc(c.t.cfg.Groups, func(g dhchap.Group) bool { return slices.Contains(n.Groups, uint8(g)) })
	switch {
	case hash < 0:
		a.fail(wire.AuthHash)
		return
	case group < 0:
		a.fail(wire.AuthGroup)
		return
	}
	a.t.Hash, a.group = c.t.cfg.Hashes[hash], c.t.cfg.Groups[group]
	c.challenge()
}

// challenge makes the challenge. Its value and its sequence number are new each time, so
// that an old reply is none to it.
func (c *conn) challenge() {
	a := &c.auth
	release := c.t.exponentiate()
	x, err := dhchap.NewExchange(a.group)
	release()
	if err != nil {
		a.fail(wire.AuthGroup)
		return
	}
	a.exchange = x
	value := a.value[:a.t.Hash.Size()]
	rand.Read(value) // never fails
	var sequence [4]byte
	rand.Read(sequence[:])
	a.t.Sequence = max(binary.LittleEndian.Uint32(sequence[:]), 1) // 0 is reserved
	m := wire.Challenge{Transaction: a.t.ID, Hash: uint8(a.t.Hash), Group: uint8(a.group), Sequence: a.t.Sequence, Value: value, Public: x.Public}
	a.answer, a.step = m.Encode(), waitChallenge
}

// exponentiate waits for the one turn at modular exponentiations: whoever can reach the
// target can ask for one, and shall not take the processor from those who are in. It gives
// what ends the turn.
func (t *Target) exponentiate() (release func()) {
	t.exp <- struct{}{}
	return func() { <-t.exp }
}

// verify holds a reply to the challenge, once: whatever comes of it, the challenge is
// spent.
func (c *conn) verify(l *lane) {
	a := &c.auth
	var r wire.Reply
	if err := r.Decode(l.data); err != nil || len(r.Response) != a.t.Hash.Size() {
		a.fail(wire.AuthPayload)
		return
	}
	release := c.t.exponentiate()
	session, err := a.exchange.Shared(r.Public)
	release()
	if err != nil {
		a.fail(wire.AuthPayload)
		return
	}
	a.t.Session = session
	h := c.k.host
	h.mu.RLock()
	defer h.mu.RUnlock()
	value := a.value[:a.t.Hash.Size()]
	mutual := !h.opposite.Empty()
	// A host that was given a secret to know the target by has to ask for the proof; one
	// that was not cannot. A challenge that is the target's own is a reflection.
	if !a.t.Verify(dhchap.Host, &h.secret, value, r.Response) || mutual != (len(r.Challenge) > 0) || mutual && slices.Equal(r.Challenge, value) {
		a.fail(wire.AuthFailed)
		return
	}
	s := wire.Success1{Transaction: a.t.ID}
	if mutual {
		a.t.Sequence = r.Sequence
		s.Response = a.t.Response(dhchap.Controller, &h.opposite, r.Challenge)
	}
	a.answer, a.step, a.mutual = s.Encode(a.t.Hash.Size()), waitSuccess1, mutual
}

// authReceive hands the host what it has to get (Base 2.0, section 6.1).
func (l *lane) authReceive() error {
	c := l.c
	a := &c.auth
	if c.k.discovery || !wire.AuthCommandValid(&l.cmd) || l.cmd.Length > page {
		return l.finish(wire.InvalidField|wire.DNR, 0)
	}
	if a.answer == nil {
		return l.finish(wire.CommandSequence|wire.DNR, 0)
	}
	if int(l.cmd.Length) < len(a.answer) {
		return l.finish(wire.DataSGLLength|wire.DNR, 0)
	}
	n := copy(l.room(), a.answer)
	explanation := a.answer[len(a.answer)-1]
	a.answer = nil
	if err := l.answer(n); err != nil {
		return err
	}
	switch a.step {
	case waitChallenge:
		a.step = waitReply
	case waitSuccess1:
		if a.mutual {
			a.step = waitSuccess2
			break
		}
		a.reset()
		c.prove(l)
	case waitFailure:
		return l.refuseAuth(explanation)
	}
	return nil
}

// refuseAuth ends a connection whose authentication failed.
func (l *lane) refuseAuth(explanation uint8) error {
	c := l.c
	c.t.notify(EventFailed, c, c.k.host.nqn, fmt.Errorf("%w: explanation %d", errAuth, explanation))
	if err := c.flush(); err != nil {
		return err
	}
	c.linger()
	return errAuth
}
