// Package hostile is a host that breaks the rules of NVMe/TCP, for tests of the target: on
// pipes (nvme/target) and on the wire of the emulated board (qemu-test). What it does wrong,
// and what a target has to say to that, is in one place: [SetUps] and [PDUs]; what the rules
// are is in the NVM Express TCP Transport Specification 1.0 and in docs/nvme.md.
//
// A [Host] is who it claims to be, and a [Peer] one connection of it.
package hostile

import (
	"context"
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

// maxPDU bounds what a target's PDU may say that it has, in bytes.
const maxPDU = 2 << 20

// A Host is a name, what belongs to it, and the way to a target.
type Host struct {
	Dial      func(context.Context) (net.Conn, error)
	Subsystem string // NQN
	NQN       string
	Secret    *dhchap.Secret // what it proves itself with
	Patience  time.Duration  // how long a connection may take for all that it is for
}

// A Peer is a connection of a host that can do everything wrong: it sends bytes, and reads
// PDUs.
type Peer struct {
	Conn net.Conn

	t        testing.TB
	patience time.Duration
	next     uint16 // command identifier
}

// New makes a peer of a connection.
func New(t testing.TB, nc net.Conn, patience time.Duration) *Peer {
	nc.SetDeadline(time.Now().Add(patience))
	return &Peer{Conn: nc, t: t, patience: patience}
}

// Peer opens a connection, which is closed when the test is over.
func (h *Host) Peer(t testing.TB) *Peer {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), h.Patience)
	defer cancel()
	nc, err := h.Dial(ctx)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	return New(t, nc, h.Patience)
}

// Send sends bytes.
func (c *Peer) Send(b []byte) {
	c.t.Helper()
	if _, err := c.Conn.Write(b); err != nil {
		c.t.Fatal(err)
	}
}

// PDU reads a PDU; nil is the connection's end.
func (c *Peer) PDU() []byte {
	c.t.Helper()
	head := make([]byte, wire.HeaderSize)
	if _, err := io.ReadFull(c.Conn, head); err != nil {
		if errors.Is(err, os.ErrDeadlineExceeded) {
			c.t.Fatalf("not within %v: the connection's next PDU, or its end", c.patience)
		}
		return nil
	}
	n := le.Uint32(head[4:])
	if n < wire.HeaderSize || n > maxPDU {
		c.t.Fatalf("a PDU of %d bytes: % x", n, head)
	}
	b := append(head, make([]byte, int(n)-len(head))...)
	if _, err := io.ReadFull(c.Conn, b[len(head):]); err != nil {
		return nil
	}
	return b
}

// Open sets the connection up without digests.
func (c *Peer) Open() *Peer {
	c.t.Helper()
	var b [wire.ICSize]byte
	wire.ICReq{}.Encode(&b)
	c.Send(b[:])
	if got := c.PDU(); got == nil || got[0] != wire.TypeICResp {
		c.t.Fatalf("set-up: % x", got)
	}
	return c
}

// Do does a command with data in its capsule, and gives its status, result and data.
func (c *Peer) Do(cmd wire.Command, out []byte) (wire.Completion, []byte) {
	c.t.Helper()
	c.next++
	cmd.CID, cmd.Flags = c.next, wire.FlagSGL
	if cmd.SGL == 0 {
		cmd.SGL = wire.SGLTransport
	}
	if len(out) > 0 {
		cmd.SGL, cmd.Length = wire.SGLInCapsule, uint32(len(out))
	}
	c.Send(Capsule(&cmd, out))
	return c.Completion()
}

// Completion reads until a response.
func (c *Peer) Completion() (e wire.Completion, data []byte) {
	c.t.Helper()
	for {
		b := c.PDU()
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

// Connect does a Connect.
func (c *Peer) Connect(r wire.Connect) wire.Completion {
	c.t.Helper()
	var cmd wire.Command
	data := new([wire.ConnectSize]byte)
	r.Encode(&cmd, data)
	e, _ := c.Do(cmd, data[:])
	return e
}

// AuthSend sends a message of an authentication and gives the status.
func (c *Peer) AuthSend(b []byte) wire.Status {
	c.t.Helper()
	cmd := wire.AuthCommand(wire.FabricsAuthSend, uint32(len(b)))
	e, _ := c.Do(cmd, b)
	return e.Status
}

// AuthReceive receives a message.
func (c *Peer) AuthReceive() ([]byte, wire.Status) {
	c.t.Helper()
	e, b := c.Do(wire.AuthCommand(wire.FabricsAuthReceive, wire.MaxAuthMessage), nil)
	return b, e.Status
}

// Challenged goes as far as the challenge.
func (c *Peer) Challenged(id uint16) *wire.Challenge {
	c.t.Helper()
	n := wire.Negotiate{Transaction: id, Hashes: []byte{1}, Groups: []byte{1}}
	if s := c.AuthSend(n.Encode()); s != wire.Success {
		c.t.Fatal(s)
	}
	b, s := c.AuthReceive()
	ch := new(wire.Challenge)
	if err := ch.Decode(b); err != nil || s != wire.Success {
		c.t.Fatalf("challenge: %v, %v", err, s)
	}
	return ch
}

// Ended expects the connection to end with a C2HTermReq of a status (FES) and field (FEI).
func (c *Peer) Ended(what string, status uint16, field uint32) {
	c.t.Helper()
	for {
		b := c.PDU()
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
		c.Conn.Close()
		return
	}
}
