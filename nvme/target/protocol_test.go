package target_test

import (
	"bytes"
	"testing"

	"nitro/internal/hostile"
	"nitro/nvme/target"
	"nitro/nvme/wire"
)

// TestSetUpRefused puts each field of an ICReq wrong.
func TestSetUpRefused(t *testing.T) {
	r := newRig(t, target.Config{})
	for _, c := range hostile.SetUps() {
		raw := r.raw()
		raw.Send(c.Sent)
		raw.Ended(c.Name, c.Status, c.Field)
	}
	r.eventually("all connections are gone", func() bool { n, p, _, _ := r.Counts(); return n == 0 && p == 0 })
}

// TestPDURefused sends PDUs that break the transport's rules, on an I/O queue that has
// an R2T open.
func TestPDURefused(t *testing.T) {
	r := newRig(t, target.Config{InCapsule: 8192})
	_, id := r.admin(alice)
	for _, c := range hostile.PDUs(8192) {
		q := r.queue(alice, id, 1)
		hostile.Ask(t, q, c.Name)
		go q.Conn.Write(c.Sent) // of long ones the target reads the start only
		q.Ended(c.Name, c.Status, c.Field)
		r.eventually("the queue is gone", func() bool { n, _, _, _ := r.Counts(); return n == 1 })
	}
	// The controller is there still, and a queue after all that works.
	q := r.queue(alice, id, 1)
	if e, _ := q.Do(wire.Command{Opcode: wire.IOWrite, NSID: 1}, pattern(512, 1)); e.Status != wire.Success {
		t.Error(e.Status)
	}
}

// TestTransferInPieces: data that is asked for may come in many PDUs of any length, those
// of two commands in turn.
func TestTransferInPieces(t *testing.T) {
	r := newRig(t, target.Config{InCapsule: 8192, Transfers: 2})
	_, id := r.admin(alice)
	q := r.queue(alice, id, 1)
	one, two := pattern(1024, 1), pattern(1024, 2)
	tags := map[uint16]uint16{}
	for cid := range uint16(3) { // the third has to wait for a transfer
		q.Send(hostile.Capsule(&wire.Command{Opcode: wire.IOWrite, CID: cid, NSID: 1, Flags: wire.FlagSGL, SGL: wire.SGLTransport, Length: 1024, CDW10: uint32(cid) * 2, CDW12: 1}, nil))
		if cid < 2 {
			d := wire.DecodeData((*[wire.R2TPDU]byte)(q.PDU()))
			tags[d.CCCID] = d.TTAG
		}
	}
	for _, part := range [][2]int{{0, 4}, {4, 516}, {516, 1024}} {
		for cid, data := range [][]byte{one, two} {
			flags := uint8(0)
			if part[1] == 1024 {
				flags = wire.FlagLast
			}
			q.Send(hostile.H2C(wire.Data{CCCID: uint16(cid), TTAG: tags[uint16(cid)], Offset: uint32(part[0]), Length: uint32(part[1] - part[0])}, flags, data[part[0]:part[1]]))
			if flags == 0 {
				continue
			}
			if e, _ := q.Completion(); e.CID != uint16(cid) || e.Status != wire.Success {
				t.Errorf("command %d: %v", e.CID, e.Status)
			}
			if cid == 0 {
				d := wire.DecodeData((*[wire.R2TPDU]byte)(q.PDU()))
				if d.CCCID != 2 || d.Length != 1024 {
					t.Errorf("the third command's R2T: %+v", d)
				}
				tags[2] = d.TTAG
			}
		}
	}
	q.Send(hostile.H2C(wire.Data{CCCID: 2, TTAG: tags[2], Length: 1024}, wire.FlagLast, one))
	if e, _ := q.Completion(); e.CID != 2 || e.Status != wire.Success {
		t.Errorf("command %d: %v", e.CID, e.Status)
	}
	got := make([]byte, 3072)
	if err := r.volumes[alice].ReadAt(t.Context(), 0, got); err != nil || !bytes.Equal(got, append(append(one, two...), pattern(1024, 1)...)) {
		t.Errorf("the volume holds something else: %v", err)
	}
}

// TestDigests: a wrong header digest ends the connection, a wrong data digest fails the
// command and nothing else.
func TestDigests(t *testing.T) {
	r := newRig(t, target.Config{InCapsule: 8192})
	_, id := r.admin(alice)
	open := func() *hostile.Peer {
		q := r.raw()
		var b [wire.ICSize]byte
		wire.ICReq{Digest: 2}.Encode(&b)
		q.Send(b[:])
		q.PDU()
		return q
	}
	withDigest := func(b []byte, start int) []byte {
		b[1] |= wire.FlagDataDigest
		le.PutUint32(b[4:], uint32(len(b)+wire.DigestSize))
		return le.AppendUint32(b, wire.Digest(b[start:]))
	}
	q := open()
	h := hello(alice)
	h.QID, h.CNTLID = 1, id
	var cmd wire.Command
	data := new([wire.ConnectSize]byte)
	h.Encode(&cmd, data)
	bad := withDigest(hostile.Capsule(&cmd, data[:]), wire.CommandPDU)
	bad[200] ^= 1
	q.Send(bad)
	if e, _ := q.Completion(); e.Status != wire.TransientTransport {
		t.Errorf("a Connect with a wrong data digest: %v", e.Status)
	}
	q.Send(withDigest(hostile.Capsule(&cmd, data[:]), wire.CommandPDU))
	if e, _ := q.Completion(); e.Status != wire.Success {
		t.Errorf("a Connect with a right data digest: %v", e.Status)
	}
	none := open()
	none.Send(hostile.Capsule(&cmd, data[:]))
	none.Ended("no data digest", wire.FatalHeaderField, 1)

	head := r.raw()
	var b [wire.ICSize]byte
	wire.ICReq{Digest: 1}.Encode(&b)
	head.Send(b[:])
	head.PDU()
	c := hostile.Capsule(&wire.Command{Opcode: wire.AdminKeepAlive, Flags: wire.FlagSGL}, nil)
	c[1], c[4] = wire.FlagHeaderDigest, wire.CommandPDU+wire.DigestSize
	sum := wire.Digest(c) ^ 1
	head.Send(le.AppendUint32(c, sum))
	head.Ended("a wrong header digest", wire.FatalHeaderDigest, sum)
}

// TestDataDigestOfTransfer: the second of two PDUs is damaged, the command fails, the
// volume keeps what it had, and the queue goes on.
func TestDataDigestOfTransfer(t *testing.T) {
	r := newRig(t, target.Config{InCapsule: 8192})
	cfg := r.config(alice)
	cfg.DataDigest = true
	damage := &damaged{rig: r}
	cfg.Dial = damage.dial
	cfg.InCapsule = 1
	n := r.namespace(r.connect(cfg), 1)
	if err := n.WriteAt(t.Context(), 0, pattern(4096, 1)); err != nil {
		t.Fatal(err)
	}
	damage.next.Store(true)
	wantStatus(t, "a damaged write", n.WriteAt(t.Context(), 0, pattern(4096, 2)), wire.TransientTransport)
	if damage.next.Load() {
		t.Error("nothing was damaged")
	}
	if same, err := n.Compare(t.Context(), 0, pattern(4096, 1)); !same || err != nil {
		t.Errorf("after a damaged write: %v, %v", same, err)
	}
}

// TestConnectRefused puts each field of a Connect wrong.
func TestConnectRefused(t *testing.T) {
	r := newRig(t, target.Config{Queues: 2, Depth: 64})
	_, id := r.admin(alice)
	r.queue(alice, id, 1)
	for _, c := range []struct {
		name   string
		change func(h *wire.Connect)
		status wire.Status
		field  uint64
	}{
		{"record format", func(h *wire.Connect) { h.RecordFormat = 1 }, wire.ConnectFormat, 40},
		{"subsystem", func(h *wire.Connect) { h.SubsystemNQN += "x" }, wire.ConnectParameters, 1<<16 | 256},
		{"no subsystem", func(h *wire.Connect) { h.SubsystemNQN = "" }, wire.ConnectParameters, 1<<16 | 256},
		{"unknown host", func(h *wire.Connect) { h.HostNQN += "x" }, wire.ConnectHost, 1<<16 | 512},
		{"unknown host of discovery", func(h *wire.Connect) { h.HostNQN += "x"; h.SubsystemNQN = wire.DiscoveryNQN }, wire.ConnectHost, 1<<16 | 512},
		{"the subsystem's name as a host's", func(h *wire.Connect) { h.HostNQN = subsystem }, wire.ConnectHost, 1<<16 | 512},
		{"the discovery's name as a host's", func(h *wire.Connect) { h.HostNQN = wire.DiscoveryNQN }, wire.ConnectHost, 1<<16 | 512},
		{"no name", func(h *wire.Connect) { h.HostNQN = "x" }, wire.ConnectParameters, 1<<16 | 512},
		{"no host identifier", func(h *wire.Connect) { h.HostID = [16]byte{} }, wire.ConnectParameters, 1 << 16},
		{"queue size of 0", func(h *wire.Connect) { h.SQSize = 0 }, wire.ConnectParameters, 44},
		{"queue size above the most", func(h *wire.Connect) { h.SQSize = 64 }, wire.ConnectParameters, 44},
		{"queue above the most", func(h *wire.Connect) { h.QID = 3; h.CNTLID = id }, wire.ConnectParameters, 42},
		{"queue of no controller", func(h *wire.Connect) { h.QID = 2; h.CNTLID = id + 1 }, wire.ConnectParameters, 1<<16 | 16},
		{"queue of another host's controller", func(h *wire.Connect) { h.QID = 2; h.CNTLID = id; h.HostNQN = bob }, wire.ConnectParameters, 1<<16 | 16},
		{"queue of another HostID's controller", func(h *wire.Connect) { h.QID = 2; h.CNTLID = id; h.HostID[5] = 1 }, wire.ConnectParameters, 1<<16 | 16},
		{"queue that is there", func(h *wire.Connect) { h.QID = 1; h.CNTLID = id }, wire.CommandSequence, 42},
		{"static controller", func(h *wire.Connect) { h.CNTLID = 5 }, wire.ConnectParameters, 1<<16 | 16},
		{"no keep alive", func(h *wire.Connect) { h.KATO = 0 }, wire.KeepAliveInvalid, 48},
		{"keep alive of 11 minutes", func(h *wire.Connect) { h.KATO = 11 * 60000 }, wire.KeepAliveInvalid, 48},
	} {
		h := hello(alice)
		c.change(&h)
		q := r.raw().Open()
		e := q.Connect(h)
		if e.Status.Code() != c.status || e.Result != c.field {
			t.Errorf("%s: %v, result %#x, want status %#x, %#x", c.name, e.Status, e.Result, uint16(c.status), c.field)
		}
		if e, _ := q.Do(wire.Command{Opcode: wire.AdminKeepAlive}, nil); e.Status.Code() != wire.CommandSequence {
			t.Errorf("%s: a command afterwards: %v", c.name, e.Status)
		}
		q.Conn.Close()
		r.eventually("the connection is gone", func() bool { _, pending, _, _ := r.Counts(); return pending == 0 })
	}
}

// TestBeforeAuthentication: a queue that has not authenticated does nothing else.
func TestBeforeAuthentication(t *testing.T) {
	r := newRig(t, target.Config{})
	c := r.raw().Open()
	if e := c.Connect(hello(alice)); e.Status != wire.Success {
		t.Fatal(e.Status)
	}
	for name, cmd := range map[string]wire.Command{
		"identify":     {Opcode: wire.AdminIdentify, CDW10: 1, Length: 4096},
		"property get": {Opcode: wire.Fabrics, NSID: wire.FabricsPropertyGet, CDW10: 1},
		"property set": hostile.PropertySet(hostile.Enable),
		"disconnect":   {Opcode: wire.Fabrics, NSID: wire.FabricsDisconnect},
		"keep alive":   {Opcode: wire.AdminKeepAlive},
		"features":     {Opcode: wire.AdminSetFeatures, CDW10: wire.FeatureHostBehavior, Length: 512},
	} {
		if e, data := c.Do(cmd, nil); e.Status.Code() != wire.AuthRequired || len(data) > 0 {
			t.Errorf("%s: %v and %d bytes", name, e.Status, len(data))
		}
	}
	if e := c.Connect(hello(alice)); e.Status.Code() != wire.CommandSequence {
		t.Errorf("a second Connect: %v", e.Status)
	}
	// An I/O queue cannot come before its controller has authenticated.
	h := hello(alice)
	h.QID, h.CNTLID = 1, 1
	if e := r.raw().Open().Connect(h); e.Status.Code() != wire.ConnectParameters {
		t.Errorf("an I/O queue: %v", e.Status)
	}
	r.authenticate(c, alice)
	if e, _ := c.Do(wire.Command{Opcode: wire.AdminIdentify, CDW10: 1, Length: 4096}, nil); e.Status.Code() != wire.CommandSequence {
		t.Errorf("identify before the controller is enabled: %v", e.Status)
	}
}

// TestDigestOfPieces: of two PDUs with a command's data the first is damaged, the second
// is not; the command fails and the volume is as it was.
func TestDigestOfPieces(t *testing.T) {
	v := ramVolume(t, 512, 1<<20)
	p := target.NewProven(t, subsystem, alice, v)
	p.Digest = true
	q := hostile.New(t, p.Queue(), patience)
	q.Send(hostile.Capsule(&wire.Command{Opcode: wire.IOWrite, CID: 9, NSID: 1, Flags: wire.FlagSGL, SGL: wire.SGLTransport, Length: 1024, CDW12: 1}, nil))
	d := wire.DecodeData((*[wire.R2TPDU]byte)(q.PDU()))
	data := pattern(512, 1)
	for i, damage := range []uint32{1, 0} {
		b := hostile.H2C(wire.Data{CCCID: 9, TTAG: d.TTAG, Offset: uint32(i) * 512, Length: 512}, wire.FlagDataDigest|uint8(i)*wire.FlagLast, data)
		le.PutUint32(b[4:], uint32(len(b)+wire.DigestSize))
		q.Send(le.AppendUint32(b, wire.Digest(data)^damage))
	}
	if e, _ := q.Completion(); e.Status != wire.TransientTransport {
		t.Error(e.Status)
	}
	got := make([]byte, 1024)
	if err := v.ReadAt(t.Context(), 0, got); err != nil || !bytes.Equal(got, make([]byte, 1024)) {
		t.Errorf("the volume has changed: %v", err)
	}
}

// TestAlignment: data to a host that wants it aligned is, and what lies before it is
// zero, whatever the buffer held.
func TestAlignment(t *testing.T) {
	p := target.NewProven(t, subsystem, alice, ramVolume(t, 512, 1<<20))
	p.Align = 128
	q := hostile.New(t, p.Queue(), patience)
	read := hostile.Capsule(&wire.Command{Opcode: wire.IORead, NSID: 1, Flags: wire.FlagSGL, SGL: wire.SGLTransport, Length: 512}, nil)
	flush := hostile.Capsule(&wire.Command{Opcode: wire.IOFlush, NSID: 1, Flags: wire.FlagSGL, SGL: wire.SGLTransport}, nil)
	go q.Conn.Write(bytes.Join([][]byte{flush, flush, flush, read, flush, read}, nil)) // the responses leave traces before the data
	seen := 0
	for seen < 2 {
		b := q.PDU()
		if b == nil {
			t.Fatal("the connection ended")
		}
		if b[0] != wire.TypeC2HData {
			continue
		}
		seen++
		if b[3] != 128 || len(b) != 128+512 || !bytes.Equal(b[wire.DataPDU:128], make([]byte, 128-wire.DataPDU)) {
			t.Errorf("PDO %d of %d bytes: % x", b[3], len(b), b[:min(128, len(b))])
		}
	}
}

// TestFlowControl: SQHD goes round with the commands, and with flow control off there is
// none, and a read needs no response.
func TestFlowControl(t *testing.T) {
	r := newRig(t, target.Config{})
	c, id := r.admin(alice)
	first, _ := c.Do(wire.Command{Opcode: wire.AdminKeepAlive}, nil)
	for i := range uint16(70) {
		if e, _ := c.Do(wire.Command{Opcode: wire.AdminKeepAlive}, nil); e.SQHD != (first.SQHD+1+i)%32 {
			t.Fatalf("SQHD %d after %d and %d commands", e.SQHD, first.SQHD, i+1)
		}
	}
	q := r.raw().Open()
	h := hello(alice)
	h.QID, h.CNTLID, h.Attributes = 1, id, wire.ConnectNoFlowControl
	if e := q.Connect(h); e.SQHD != 0xffff || e.Status != wire.Success {
		t.Errorf("connect: SQHD %#x, %v", e.SQHD, e.Status)
	}
	// A message of an authentication is data as well: it comes with SUCCESS.
	n := wire.Negotiate{Transaction: 1, Hashes: []byte{1}, Groups: []byte{1}}
	q.AuthSend(n.Encode())
	cmd := wire.AuthCommand(wire.FabricsAuthReceive, 512)
	q.Send(hostile.Capsule(&cmd, nil))
	if b := q.PDU(); b[0] != wire.TypeC2HData || b[1] != wire.FlagLast|wire.FlagSuccess {
		t.Errorf("% x", b[:8])
	}
}

// TestAdminGoes: with its admin queue a controller loses the others.
func TestAdminGoes(t *testing.T) {
	r := newRig(t, target.Config{})
	c, id := r.admin(alice)
	q := r.queue(alice, id, 1)
	c.Conn.Close()
	if q.PDU() != nil {
		t.Error("the I/O queue goes on")
	}
}
