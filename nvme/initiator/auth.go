package initiator

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"nitro/nvme/dhchap"
	"nitro/nvme/wire"
)

// ErrAuth says that an authentication failed, the host's or the controller's.
var ErrAuth = errors.New("initiator: authentication failed")

// receiveSize is asked for of each message: more than the longest.
const receiveSize = 2048

// authenticate proves the host to the controller, and the controller to the host if it
// has a secret for that (Base 2.0, section 8.13.5.1).
func (c *Controller) authenticate(ctx context.Context, q *queue) error {
	if c.secret.Empty() {
		return fmt.Errorf("%w: the controller asks for it, and there is no secret", ErrAuth)
	}
	t := dhchap.Transaction{HostNQN: c.cfg.HostNQN, ControllerNQN: c.cfg.SubsystemNQN}
	defer func() { clear(t.Session) }()
	var number [2]byte
	rand.Read(number[:]) // never fails
	t.ID = binary.LittleEndian.Uint16(number[:])
	n := wire.Negotiate{Transaction: t.ID}
	for _, h := range c.cfg.Hashes {
		n.Hashes = append(n.Hashes, uint8(h))
	}
	for _, g := range c.cfg.Groups {
		n.Groups = append(n.Groups, uint8(g))
	}
	if err := q.authSend(ctx, n.Encode()); err != nil {
		return err
	}
	b, err := q.authReceive(ctx, wire.AuthChallenge, t.ID)
	if err != nil {
		return err
	}
	var ch wire.Challenge
	if err := ch.Decode(b); err != nil {
		return err
	}
	return c.reply(ctx, q, &t, &ch)
}

// reply answers the challenge and puts one of its own.
func (c *Controller) reply(ctx context.Context, q *queue, t *dhchap.Transaction, ch *wire.Challenge) error {
	t.Hash, t.Sequence = dhchap.Hash(ch.Hash), ch.Sequence
	group := dhchap.Group(ch.Group)
	if !slices.Contains(c.cfg.Hashes, t.Hash) || !slices.Contains(c.cfg.Groups, group) || len(ch.Value) != t.Hash.Size() {
		return fmt.Errorf("%w: the controller chose hash %d and group %d, which were not offered", ErrAuth, t.Hash, group)
	}
	x, err := dhchap.NewExchange(group)
	if err != nil {
		return err
	}
	defer x.Zero()
	if t.Session, err = x.Shared(ch.Public); err != nil {
		return err
	}
	r := wire.Reply{Transaction: t.ID, Public: x.Public, Response: t.Response(dhchap.Host, &c.secret, ch.Value)}
	if !c.opposite.Empty() {
		r.Challenge = make([]byte, t.Hash.Size())
		rand.Read(r.Challenge)
		var sequence [4]byte
		rand.Read(sequence[:])
		r.Sequence = max(binary.LittleEndian.Uint32(sequence[:]), 1)
	}
	if err := q.authSend(ctx, r.Encode()); err != nil {
		return err
	}
	b, err := q.authReceive(ctx, wire.AuthSuccess1, t.ID)
	if err != nil {
		return err
	}
	var s wire.Success1
	if err := s.Decode(b); err != nil {
		return err
	}
	if c.opposite.Empty() {
		return nil
	}
	t.Sequence = r.Sequence
	if !t.Verify(dhchap.Controller, &c.opposite, r.Challenge, s.Response) {
		q.authSend(ctx, wire.EncodeFailure(wire.AuthFailure2, t.ID, wire.AuthFailed)) // the connection ends anyhow
		return fmt.Errorf("%w: the controller does not know its secret", ErrAuth)
	}
	return q.authSend(ctx, wire.EncodeSuccess2(t.ID))
}

// authSend sends a message.
func (q *queue) authSend(ctx context.Context, b []byte) error {
	cmd := wire.AuthCommand(wire.FabricsAuthSend, uint32(len(b)))
	if _, err := q.do(ctx, &cmd, b, nil); err != nil {
		return fmt.Errorf("%w: send: %w", ErrAuth, err)
	}
	return nil
}

// authReceive receives the message that must come next.
func (q *queue) authReceive(ctx context.Context, want uint8, transaction uint16) ([]byte, error) {
	cmd := wire.AuthCommand(wire.FabricsAuthReceive, receiveSize)
	b := make([]byte, receiveSize)
	if _, err := q.do(ctx, &cmd, nil, b); err != nil {
		return nil, fmt.Errorf("%w: receive: %w", ErrAuth, err)
	}
	kind, id, t, err := wire.AuthKind(b)
	switch {
	case err != nil:
		return nil, err
	case kind == wire.AuthCommon && id == wire.AuthFailure1:
		return nil, fmt.Errorf("%w: refused by the controller, explanation %d", ErrAuth, b[7])
	case kind != wire.AuthDHCHAP || id != want || t != transaction:
		return nil, fmt.Errorf("%w: message %#x of transaction %d where %#x of %d belongs", ErrAuth, id, t, want, transaction)
	}
	return b[:wire.MaxAuthMessage], nil
}
