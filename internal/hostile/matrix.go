package hostile

import (
	"testing"

	"nitro/nvme/wire"
)

// A Case is something that a peer sends, and how the target has to end the connection: with a
// C2HTermReq of this status (FES) and field (FEI).
type Case struct {
	Name   string
	Sent   []byte
	Status uint16
	Field  uint32
}

// SetUps puts each field of an ICReq wrong.
func SetUps() (all []Case) {
	for _, c := range []struct {
		name   string
		change func(b []byte)
		status uint16
		field  uint32
	}{
		{"a command first", func(b []byte) { b[0] = wire.TypeCapsuleCmd }, wire.FatalSequence, 0},
		{"an answer first", func(b []byte) { b[0] = wire.TypeICResp }, wire.FatalSequence, 0},
		{"HLEN", func(b []byte) { b[2] = 127 }, wire.FatalHeaderField, 2},
		{"PLEN too short", func(b []byte) { b[4] = 24 }, wire.FatalHeaderField, 4},
		{"PLEN too long", func(b []byte) { b[7] = 0x80 }, wire.FatalHeaderField, 4},
		{"PFV", func(b []byte) { b[8] = 1 }, wire.FatalUnsupported, 8},
		{"HPDA", func(b []byte) { b[10] = 32 }, wire.FatalHeaderField, 10},
		{"DGST", func(b []byte) { b[11] = 4 }, wire.FatalUnsupported, 11},
	} {
		var b [wire.ICSize]byte
		wire.ICReq{}.Encode(&b)
		c.change(b[:])
		all = append(all, Case{c.name, b[:], c.status, c.field})
	}
	return all
}

// The transfer that is open while a case of PDUs is sent: Asked is what the target's R2T
// asks for.
const (
	askedCommand = 9
	askedBytes   = 1024
)

// Asked is what the R2T says.
var Asked = wire.Data{CCCID: askedCommand, TTAG: 0, Offset: 0, Length: askedBytes}

// Ask has the target ask for the data of a Write to namespace 1, and sees that it does.
func Ask(t testing.TB, c *Peer, what string) {
	t.Helper()
	c.Send(Capsule(&wire.Command{Opcode: wire.IOWrite, CID: askedCommand, NSID: 1, Flags: wire.FlagSGL, SGL: wire.SGLTransport, Length: askedBytes, CDW12: askedBytes/512 - 1}, nil))
	b := c.PDU()
	if b == nil || b[0] != wire.TypeR2T || wire.DecodeData((*[wire.R2TPDU]byte)(b)) != Asked {
		t.Fatalf("%s: R2T % x", what, b)
	}
}

// PDUs are PDUs that break the transport's rules, on an I/O queue that has an R2T open (see
// [Ask]): each field in turn, lengths that lie, data that nobody has asked for. The target
// takes inCapsule bytes of data with a command.
func PDUs(inCapsule int) []Case {
	command := func(change func(b []byte)) []byte {
		b := Capsule(&wire.Command{Opcode: wire.IOFlush, NSID: 1, Flags: wire.FlagSGL, SGL: wire.SGLTransport}, nil)
		change(b)
		return b
	}
	write := func(w wire.Command, data int) []byte {
		w.Opcode, w.NSID, w.Flags = wire.IOWrite, 1, wire.FlagSGL
		return Capsule(&w, Data(data))
	}
	data := Data(askedBytes)
	return []Case{
		{"second set-up", command(func(b []byte) { b[0] = wire.TypeICReq }), wire.FatalSequence, 0},
		{"PDU of a controller", command(func(b []byte) { b[0] = wire.TypeCapsuleResp }), wire.FatalHeaderField, 0},
		{"R2T", command(func(b []byte) { b[0] = wire.TypeR2T }), wire.FatalHeaderField, 0},
		{"unknown type", command(func(b []byte) { b[0] = 0x7f }), wire.FatalHeaderField, 0},
		{"HLEN", command(func(b []byte) { b[2] = 73 }), wire.FatalHeaderField, 2},
		{"digest that was not agreed", command(func(b []byte) { b[1] = wire.FlagHeaderDigest }), wire.FatalHeaderField, 1},
		{"PLEN below the header", command(func(b []byte) { b[4] = 71 }), wire.FatalHeaderField, 4},
		{"PLEN of 4 GiB", command(func(b []byte) { copy(b[4:], "\xff\xff\xff\xff"); b[3] = 72 }), wire.FatalDataLimit, 4},
		{"PDO in the header", command(func(b []byte) { b[5] = 1; b[3] = 8 }), wire.FatalHeaderField, 3},
		{"PDO not aligned", command(func(b []byte) { b[5] = 1; b[3] = 73 }), wire.FatalHeaderField, 3},
		{"PDO at the end", command(func(b []byte) { b[4] = 76; b[3] = 76 }), wire.FatalHeaderField, 4},
		{"more in the capsule than fits", command(func(b []byte) { b[3] = 72; le.PutUint32(b[4:], uint32(72+inCapsule+1)) }), wire.FatalDataLimit, 4},
		{"data that the command does not have", write(wire.Command{SGL: wire.SGLTransport, Length: 512}, 512), wire.FatalHeaderField, 4},
		{"other length than the command's", write(wire.Command{SGL: wire.SGLInCapsule, Length: 1024}, 512), wire.FatalHeaderField, 4},
		{"offset into the capsule", write(wire.Command{SGL: wire.SGLInCapsule, Address: 16, Length: 512}, 512), wire.FatalHeaderField, 4},
		{"data for no R2T", H2C(wire.Data{CCCID: askedCommand, TTAG: 1, Length: 1024}, wire.FlagLast, data), wire.FatalHeaderField, 10},
		{"data for a tag of 65535", H2C(wire.Data{CCCID: askedCommand, TTAG: 0xffff, Length: 1024}, wire.FlagLast, data), wire.FatalHeaderField, 10},
		{"data of another command", H2C(wire.Data{CCCID: 8, Length: 1024}, wire.FlagLast, data), wire.FatalHeaderField, 8},
		{"data out of order", H2C(wire.Data{CCCID: askedCommand, Offset: 512, Length: 512}, wire.FlagLast, data[:512]), wire.FatalDataRange, 12},
		{"data at 4 GiB", H2C(wire.Data{CCCID: askedCommand, Offset: 0xfffffe00, Length: 512}, wire.FlagLast, data[:512]), wire.FatalDataRange, 12},
		{"more data than asked for", H2C(wire.Data{CCCID: askedCommand, Length: 1536}, wire.FlagLast, Data(1536)), wire.FatalDataRange, 12},
		{"DATAL that lies", H2C(wire.Data{CCCID: askedCommand, Length: 512}, wire.FlagLast, data), wire.FatalHeaderField, 16},
		{"not the last", H2C(Asked, 0, data), wire.FatalHeaderField, 1},
		{"the last too early", H2C(wire.Data{CCCID: askedCommand, Length: 512}, wire.FlagLast, data[:512]), wire.FatalHeaderField, 1},
		{"no data", H2C(Asked, wire.FlagLast, nil), wire.FatalHeaderField, 16},
		{"more than MAXH2CDATA", func() []byte { b := H2C(Asked, wire.FlagLast, nil); le.PutUint32(b[4:], 24+1<<20); return b }(), wire.FatalDataLimit, 4},
	}
}

// Capsule makes a command's PDU.
func Capsule(cmd *wire.Command, data []byte) []byte {
	b := make([]byte, wire.CommandPDU, wire.CommandPDU+len(data))
	h := wire.Header{Type: wire.TypeCapsuleCmd, HLEN: wire.CommandPDU, PLEN: uint32(wire.CommandPDU + len(data))}
	if len(data) > 0 {
		h.PDO = wire.CommandPDU
	}
	h.Encode(b)
	cmd.Encode((*[wire.CommandSize]byte)(b[wire.HeaderSize:]))
	return append(b, data...)
}

// H2C makes an H2CData PDU.
func H2C(d wire.Data, flags uint8, data []byte) []byte {
	b := make([]byte, wire.DataPDU)
	h := wire.Header{Type: wire.TypeH2CData, Flags: flags, HLEN: wire.DataPDU, PDO: wire.DataPDU, PLEN: uint32(wire.DataPDU + len(data))}
	h.Encode(b)
	d.Encode(b)
	return append(b, data...)
}

// Data is data that differs from block to block.
func Data(n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(i>>9)*37 ^ byte(i)
	}
	return p
}
