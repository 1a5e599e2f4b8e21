package target_test

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"nitro/nvme/dhchap"
	"nitro/nvme/wire"
)

var le = binary.LittleEndian

// A raw is a host that can do everything wrong: it sends bytes, and reads PDUs.
type raw struct {
	t    *testing.T
	nc   net.Conn
	next uint16 // command identifier
}

// raw opens a connection.
func (r *rig) raw() *raw {
	r.t.Helper()
	nc, err := r.pipes.Dial(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { nc.Close() })
	nc.SetDeadline(time.Now().Add(patience))
	return &raw{t: r.t, nc: nc}
}

func (c *raw) send(b []byte) {
	c.t.Helper()
	if _, err := c.nc.Write(b); err != nil {
		c.t.Fatal(err)
	}
}

// pdu reads a PDU; nil is the connection's end.
func (c *raw) pdu() []byte {
	head := make([]byte, wire.HeaderSize)
	if _, err := io.ReadFull(c.nc, head); err != nil {
		if errors.Is(err, os.ErrDeadlineExceeded) {
			c.t.Fatalf("not within %v: the connection's next PDU, or its end", patience)
		}
		return nil
	}
	b := append(head, make([]byte, int(le.Uint32(head[4:]))-len(head))...)
	if _, err := io.ReadFull(c.nc, b[len(head):]); err != nil {
		return nil
	}
	return b
}

// open sets the connection up without digests.
func (c *raw) open() *raw {
	c.t.Helper()
	var b [wire.ICSize]byte
	wire.ICReq{}.Encode(&b)
	c.send(b[:])
	if got := c.pdu(); got == nil || got[0] != wire.TypeICResp {
		c.t.Fatalf("set-up: % x", got)
	}
	return c
}

// capsule makes a command's PDU.
func capsule(cmd *wire.Command, data []byte) []byte {
	b := make([]byte, wire.CommandPDU, wire.CommandPDU+len(data))
	h := wire.Header{Type: wire.TypeCapsuleCmd, HLEN: wire.CommandPDU, PLEN: uint32(wire.CommandPDU + len(data))}
	if len(data) > 0 {
		h.PDO = wire.CommandPDU
	}
	h.Encode(b)
	cmd.Encode((*[wire.CommandSize]byte)(b[wire.HeaderSize:]))
	return append(b, data...)
}

// do does a command with data in its capsule, and gives its status, result and data.
func (c *raw) do(cmd wire.Command, out []byte) (wire.Completion, []byte) {
	c.t.Helper()
	c.next++
	cmd.CID, cmd.Flags = c.next, wire.FlagSGL
	if cmd.SGL == 0 {
		cmd.SGL = wire.SGLTransport
	}
	if len(out) > 0 {
		cmd.SGL, cmd.Length = wire.SGLInCapsule, uint32(len(out))
	}
	c.send(capsule(&cmd, out))
	return c.completion()
}

// completion reads until a response.
func (c *raw) completion() (e wire.Completion, data []byte) {
	c.t.Helper()
	for {
		b := c.pdu()
		switch {
		case b == nil:
			c.t.Fatal("the connection ended where a response belongs")
		case b[0] == wire.TypeC2HData:
			data = append(data, b[wire.DataPDU:]...)
		case b[0] == wire.TypeCapsuleResp:
			e.Decode((*[wire.CompletionSize]byte)(b[wire.HeaderSize:]))
			return e, data
		default:
			c.t.Fatalf("PDU % x where a response belongs", b)
		}
	}
}

// connect does a Connect.
func (c *raw) connect(r wire.Connect) wire.Completion {
	c.t.Helper()
	var cmd wire.Command
	data := new([wire.ConnectSize]byte)
	r.Encode(&cmd, data)
	e, _ := c.do(cmd, data[:])
	return e
}

// hello is a Connect that is in order.
func hello(nqn string) wire.Connect {
	return wire.Connect{SQSize: 31, KATO: 60000, HostID: [16]byte{1}, CNTLID: wire.DynamicController, SubsystemNQN: subsystem, HostNQN: nqn}
}

// authSend sends a message and gives the status.
func (c *raw) authSend(b []byte) wire.Status {
	c.t.Helper()
	cmd := wire.AuthCommand(wire.FabricsAuthSend, uint32(len(b)))
	e, _ := c.do(cmd, b)
	return e.Status
}

// authReceive receives a message.
func (c *raw) authReceive() ([]byte, wire.Status) {
	c.t.Helper()
	e, b := c.do(wire.AuthCommand(wire.FabricsAuthReceive, wire.MaxAuthMessage), nil)
	return b, e.Status
}

// challenged goes as far as the challenge.
func (c *raw) challenged(id uint16) *wire.Challenge {
	c.t.Helper()
	n := wire.Negotiate{Transaction: id, Hashes: []byte{1}, Groups: []byte{1}}
	if s := c.authSend(n.Encode()); s != wire.Success {
		c.t.Fatal(s)
	}
	b, s := c.authReceive()
	ch := new(wire.Challenge)
	if err := ch.Decode(b); err != nil || s != wire.Success {
		c.t.Fatalf("challenge: %v, %v", err, s)
	}
	return ch
}

// reply makes the right reply to a challenge; change may make it wrong.
func (r *rig) reply(nqn string, ch *wire.Challenge, change func(*wire.Reply)) []byte {
	r.t.Helper()
	x, err := dhchap.NewExchange(dhchap.Group(ch.Group))
	if err != nil {
		r.t.Fatal(err)
	}
	shared, err := x.Shared(ch.Public)
	if err != nil {
		r.t.Fatal(err)
	}
	t := dhchap.Transaction{Hash: dhchap.Hash(ch.Hash), ID: ch.Transaction, Sequence: ch.Sequence, HostNQN: nqn, ControllerNQN: subsystem, Session: shared}
	m := wire.Reply{Transaction: ch.Transaction, Sequence: 5, Public: x.Public, Response: t.Response(dhchap.Host, r.secrets[nqn][0], ch.Value),
		Challenge: pattern(t.Hash.Size(), 9)}
	if change != nil {
		change(&m)
	}
	return m.Encode()
}

// authenticate does it right.
func (r *rig) authenticate(c *raw, nqn string) {
	r.t.Helper()
	ch := c.challenged(7)
	c.authSend(r.reply(nqn, ch, nil))
	if b, s := c.authReceive(); s != wire.Success || b[1] != wire.AuthSuccess1 {
		r.t.Fatalf("authentication: %v, % x", s, b[:16])
	}
	if s := c.authSend(wire.EncodeSuccess2(7)); s != wire.Success {
		r.t.Fatal(s)
	}
}

// enable sets CC.EN.
const enable = wire.ConfigEnable | 6<<wire.ConfigSQES | 4<<wire.ConfigCQES

func propertySet(v uint32) wire.Command {
	return wire.Command{Opcode: wire.Fabrics, NSID: wire.FabricsPropertySet, CDW11: wire.PropertyCC, CDW12: v}
}

// admin connects an admin queue with everything that belongs to it.
func (r *rig) admin(nqn string) (*raw, uint16) {
	r.t.Helper()
	c := r.raw().open()
	e := c.connect(hello(nqn))
	if e.Status != wire.Success || e.Result>>16 == 0 {
		r.t.Fatalf("connect: %v, result %#x", e.Status, e.Result)
	}
	r.authenticate(c, nqn)
	if e, _ := c.do(propertySet(enable), nil); e.Status != wire.Success {
		r.t.Fatal(e.Status)
	}
	return c, uint16(e.Result)
}

// queue connects an I/O queue of a controller.
func (r *rig) queue(nqn string, controller, id uint16) *raw {
	r.t.Helper()
	c := r.raw().open()
	h := hello(nqn)
	h.QID, h.CNTLID = id, controller
	if e := c.connect(h); e.Status != wire.Success {
		r.t.Fatal(e.Status)
	}
	r.authenticate(c, nqn)
	return c
}

// ended expects the connection to end with a termination of a kind.
func (c *raw) ended(what string, status uint16, field uint32) {
	c.t.Helper()
	for {
		b := c.pdu()
		switch {
		case b == nil:
			c.t.Errorf("%s: the connection ended without a word", what)
			return
		case b[0] != wire.TypeC2HTermReq:
			continue
		}
		got := wire.DecodeTermReq((*[wire.TermReqPDU]byte)(b))
		if got.Status != status || got.Field != field {
			c.t.Errorf("%s: terminated with %#x at %d, want %#x at %d", what, got.Status, got.Field, status, field)
		}
		c.nc.Close()
		return
	}
}
