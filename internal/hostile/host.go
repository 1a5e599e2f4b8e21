package hostile

import (
	"testing"

	"nitro/nvme/dhchap"
	"nitro/nvme/wire"
)

// transaction is the identifier of the authentications that are in order.
const transaction = 7

// Hello is a Connect of an admin queue that is in order.
func (h *Host) Hello() wire.Connect {
	return wire.Connect{SQSize: 31, KATO: 60000, HostID: [16]byte{1}, CNTLID: wire.DynamicController, SubsystemNQN: h.Subsystem, HostNQN: h.NQN}
}

// Reply makes the right reply to a challenge; change may make it wrong.
func (h *Host) Reply(t testing.TB, ch *wire.Challenge, change func(*wire.Reply)) []byte {
	t.Helper()
	x, err := dhchap.NewExchange(dhchap.Group(ch.Group))
	if err != nil {
		t.Fatal(err)
	}
	shared, err := x.Shared(ch.Public)
	if err != nil {
		t.Fatal(err)
	}
	a := dhchap.Transaction{Hash: dhchap.Hash(ch.Hash), ID: ch.Transaction, Sequence: ch.Sequence, HostNQN: h.NQN, ControllerNQN: h.Subsystem, Session: shared}
	m := wire.Reply{Transaction: ch.Transaction, Sequence: 5, Public: x.Public, Response: a.Response(dhchap.Host, h.Secret, ch.Value),
		Challenge: Data(a.Hash.Size())}
	if change != nil {
		change(&m)
	}
	return m.Encode()
}

// Authenticate does it right.
func (h *Host) Authenticate(t testing.TB, c *Peer) {
	t.Helper()
	ch := c.Challenged(transaction)
	c.AuthSend(h.Reply(t, ch, nil))
	if b, s := c.AuthReceive(); s != wire.Success || b[1] != wire.AuthSuccess1 {
		t.Fatalf("authentication: %v, % x", s, b[:16])
	}
	if s := c.AuthSend(wire.EncodeSuccess2(transaction)); s != wire.Success {
		t.Fatal(s)
	}
}

// Admin connects an admin queue with everything that belongs to it, and gives the
// controller's identifier.
func (h *Host) Admin(t testing.TB) (*Peer, uint16) {
	t.Helper()
	c := h.Peer(t).Open()
	e := c.Connect(h.Hello())
	if e.Status != wire.Success || e.Result>>16 == 0 {
		t.Fatalf("connect: %v, result %#x", e.Status, e.Result)
	}
	h.Authenticate(t, c)
	if e, _ := c.Do(PropertySet(Enable), nil); e.Status != wire.Success {
		t.Fatal(e.Status)
	}
	return c, uint16(e.Result)
}

// Queue connects an I/O queue of a controller.
func (h *Host) Queue(t testing.TB, controller, id uint16) *Peer {
	t.Helper()
	c := h.Peer(t).Open()
	hello := h.Hello()
	hello.QID, hello.CNTLID = id, controller
	if e := c.Connect(hello); e.Status != wire.Success {
		t.Fatal(e.Status)
	}
	h.Authenticate(t, c)
	return c
}

// Enable is the controller's configuration with CC.EN.
const Enable = wire.ConfigEnable | 6<<wire.ConfigSQES | 4<<wire.ConfigCQES

// PropertySet sets the controller's configuration.
func PropertySet(v uint32) wire.Command {
	return wire.Command{Opcode: wire.Fabrics, NSID: wire.FabricsPropertySet, CDW11: wire.PropertyCC, CDW12: v}
}
