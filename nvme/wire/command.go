package wire

// Sizes in bytes (Base, sections 3.3.3.1 and 3.3.3.2).
const (
	CommandSize    = 64
	CompletionSize = 16
)

// Opcodes of the admin command set (Base, section 5, figure 138).
const (
	AdminDeleteSQ         = 0x00
	AdminCreateSQ         = 0x01
	AdminGetLogPage       = 0x02
	AdminDeleteCQ         = 0x04
	AdminCreateCQ         = 0x05
	AdminIdentify         = 0x06
	AdminAbort            = 0x08
	AdminSetFeatures      = 0x09
	AdminGetFeatures      = 0x0a
	AdminAsyncEvent       = 0x0c
	AdminKeepAlive        = 0x18
	AdminFormatNVM        = 0x80
	AdminSanitize         = 0x84
	Fabrics               = 0x7f // with a fabrics command type
	FabricsPropertySet    = 0x00 // Base, section 6, figure 379
	FabricsConnect        = 0x01
	FabricsPropertyGet    = 0x04
	FabricsAuthSend       = 0x05
	FabricsAuthReceive    = 0x06
	FabricsDisconnect     = 0x08
	fabricsDirectionWrite = 1 // bits 1:0 of an opcode or fabrics type: host to controller
)

// Opcodes of the NVM command set (NVM, section 3, figure 19).
const (
	IOFlush             = 0x00
	IOWrite             = 0x01
	IORead              = 0x02
	IOCompare           = 0x05
	IOWriteZeroes       = 0x08
	IODatasetManagement = 0x09
)

// SGL descriptor identifiers: type in bits 7:4, subtype in bits 3:0 (Base, section
// 4.1.2, figures 83 to 87).
const (
	SGLInCapsule = 0x01 // data block, offset: the data is in the capsule
	SGLTransport = 0x5a // transport data block, NVMe/TCP: data PDUs carry it
)

// A Command is a submission queue entry (Base, section 3.3.3.1).
type Command struct {
	Opcode  uint8
	Flags   uint8 // FUSE in bits 1:0, PSDT in bits 7:6
	CID     uint16
	NSID    uint32 // of fabrics commands, the command type in bits 7:0
	Address uint64 // of SGL1: offset in the capsule
	Length  uint32 // of SGL1, bytes
	SGL     uint8  // identifier of SGL1
	CDW10   uint32
	CDW11   uint32
	CDW12   uint32
	CDW13   uint32
	CDW14   uint32
	CDW15   uint32
}

// Decode reads a command.
func (c *Command) Decode(b *[CommandSize]byte) {
	c.Opcode, c.Flags = b[0], b[1]
	c.CID = le.Uint16(b[2:])
	c.NSID = le.Uint32(b[4:])
	c.Address = le.Uint64(b[24:])
	c.Length = le.Uint32(b[32:])
	c.SGL = b[39]
	c.CDW10, c.CDW11 = le.Uint32(b[40:]), le.Uint32(b[44:])
	c.CDW12, c.CDW13 = le.Uint32(b[48:]), le.Uint32(b[52:])
	c.CDW14, c.CDW15 = le.Uint32(b[56:]), le.Uint32(b[60:])
}

// Encode writes a command.
func (c *Command) Encode(b *[CommandSize]byte) {
	*b = [CommandSize]byte{}
	b[0], b[1] = c.Opcode, c.Flags
	le.PutUint16(b[2:], c.CID)
	le.PutUint32(b[4:], c.NSID)
	le.PutUint64(b[24:], c.Address)
	le.PutUint32(b[32:], c.Length)
	b[39] = c.SGL
	for i, v := range [...]uint32{c.CDW10, c.CDW11, c.CDW12, c.CDW13, c.CDW14, c.CDW15} {
		le.PutUint32(b[40+4*i:], v)
	}
}

// FlagSGL is PSDT of 01b: SGLs without metadata, which fabrics commands have (Base, section
// 3.3.3.1, figure 87).
const FlagSGL = 0x40

// FabricsType is the fabrics command type, FCTYPE.
func (c *Command) FabricsType() uint8 { return uint8(c.NSID) }

// ToController reports whether the command's data goes to the controller (Base, section
// 3.3.3.1: bits 1:0 of the opcode, or of FCTYPE).
func (c *Command) ToController() bool {
	op := c.Opcode
	if op == Fabrics {
		op = c.FabricsType()
	}
	return op&3 == fabricsDirectionWrite
}

// LBA is the starting LBA of an I/O command, SLBA (NVM, section 3.2).
func (c *Command) LBA() uint64 { return uint64(c.CDW11)<<32 | uint64(c.CDW10) }

// Blocks is the number of logical blocks of an I/O command, 1-based, from NLB, which is
// 0-based.
func (c *Command) Blocks() uint32 { return c.CDW12&0xffff + 1 }

// A Completion is a completion queue entry (Base, section 3.3.3.2).
type Completion struct {
	Result uint64 // DW1:0, the command's own
	SQHD   uint16 // submission queue head; 0xffff when SQ flow control is off
	SQID   uint16
	CID    uint16
	Status Status
}

// Decode reads a completion.
func (c *Completion) Decode(b *[CompletionSize]byte) {
	*c = Completion{le.Uint64(b[:]), le.Uint16(b[8:]), le.Uint16(b[10:]), le.Uint16(b[12:]), Status(le.Uint16(b[14:]) >> 1)}
}

// Encode writes a completion. The phase tag is 0: fabrics have none.
func (c *Completion) Encode(b []byte) {
	le.PutUint64(b, c.Result)
	le.PutUint16(b[8:], c.SQHD)
	le.PutUint16(b[10:], c.SQID)
	le.PutUint16(b[12:], c.CID)
	le.PutUint16(b[14:], uint16(c.Status)<<1)
}

// A Range is a range of blocks of Dataset Management (NVM, section 3.2.3, figure 39).
type Range struct {
	Attributes uint32
	Blocks     uint32
	LBA        uint64
}

// RangeSize is the size of a range in bytes; MaxRanges how many a command has at most.
const (
	RangeSize = 16
	MaxRanges = 256
)

// DecodeRange reads a range.
func DecodeRange(b *[RangeSize]byte) Range {
	return Range{le.Uint32(b[:]), le.Uint32(b[4:]), le.Uint64(b[8:])}
}

// Encode writes a range.
func (r Range) Encode(b *[RangeSize]byte) {
	le.PutUint32(b[:], r.Attributes)
	le.PutUint32(b[4:], r.Blocks)
	le.PutUint64(b[8:], r.LBA)
}
