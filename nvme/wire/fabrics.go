package wire

import "bytes"

// ConnectSize is the size of the data of a Connect command in bytes.
const ConnectSize = 1024

// MaxInCapsule is how much data a fabrics command may carry in its capsule, whatever
// IOCCSZ says, on NVMe/TCP (TCP, section 3.3.2: 8,192 bytes).
const MaxInCapsule = 8192

// DynamicController is the CNTLID that asks for any controller (Base, section 6.3).
const DynamicController = 0xffff

// Bit of a Connect's CATTR: no flow control of the submission queue (Base, figure 381).
const ConnectNoFlowControl = 1 << 2

// ConnectAuthRequired is the bit of a Connect's result that asks for an authentication
// (Base, section 6.3, figure 384: AUTHREQ.ATR).
const ConnectAuthRequired = 1 << 17

// A Connect is a Connect command with its data (Base, section 6.3). From the command:
type Connect struct {
	RecordFormat uint16
	QID          uint16
	SQSize       uint16 // 0-based
	Attributes   uint8  // CATTR
	KATO         uint32 // keep alive timeout, milliseconds

	HostID       [16]byte
	CNTLID       uint16
	SubsystemNQN string
	HostNQN      string
}

// DecodeConnect reads a Connect. The names are as sent, up to their NUL; a field without
// one gives an empty name.
func DecodeConnect(c *Command, data *[ConnectSize]byte) Connect {
	r := Connect{
		RecordFormat: uint16(c.CDW10), QID: uint16(c.CDW10 >> 16),
		SQSize: uint16(c.CDW11), Attributes: uint8(c.CDW11 >> 16), KATO: c.CDW12,
		CNTLID:       le.Uint16(data[16:]),
		SubsystemNQN: text(data[256:512]), HostNQN: text(data[512:768]),
	}
	copy(r.HostID[:], data[:16])
	return r
}

// Encode writes a Connect into a command, whose identifier is the caller's, and its data.
func (r *Connect) Encode(c *Command, data *[ConnectSize]byte) {
	*c = Command{Opcode: Fabrics, Flags: FlagSGL, CID: c.CID, NSID: FabricsConnect, Length: ConnectSize, SGL: SGLInCapsule,
		CDW10: uint32(r.RecordFormat) | uint32(r.QID)<<16, CDW11: uint32(r.SQSize) | uint32(r.Attributes)<<16, CDW12: r.KATO}
	*data = [ConnectSize]byte{}
	copy(data[:16], r.HostID[:])
	le.PutUint16(data[16:], r.CNTLID)
	copy(data[256:511], r.SubsystemNQN)
	copy(data[512:767], r.HostNQN)
}

// text reads a NUL-terminated name.
func text(field []byte) string {
	name, _, ok := bytes.Cut(field, []byte{0})
	if !ok {
		return ""
	}
	return string(name)
}

// Properties of a controller, by offset (Base, section 3.1.3). CAP is 8 bytes long, the
// others 4.
const (
	PropertyCAP  = 0x00
	PropertyVS   = 0x08
	PropertyCC   = 0x14
	PropertyCSTS = 0x1c
)

// Bits of CAP, CC and CSTS (Base, sections 3.1.3.1, 3.1.3.5, 3.1.3.6).
const (
	CapContiguous = 1 << 16 // CQR
	CapTimeout    = 24      // TO, bits 31:24, units of 500 ms
	CapNVM        = 1 << 37 // CSS: the NVM command set

	ConfigEnable   = 1 << 0
	ConfigShutdown = 3 << 14 // SHN
	ConfigSQES     = 16
	ConfigCQES     = 20

	StatusReady            = 1 << 0
	StatusFatal            = 1 << 1
	StatusShutdownComplete = 2 << 2 // SHST
)

// Version is revision 2.0.0 of Base, as in VS and VER.
const Version = 0x00020000

// AuthProtocol is the security protocol of authentication commands, SECP: NVMe (Base,
// section 6.1, figure 376), with SPSP0 and SPSP1 of 1.
const AuthProtocol = 0xe9

// authCDW10 is CDW10 of such a command.
const authCDW10 = AuthProtocol<<24 | 1<<16 | 1<<8

// AuthCommand makes an Authentication Send or Receive of a number of bytes (Base,
// sections 6.1 and 6.2).
func AuthCommand(fabricsType uint8, length uint32) Command {
	c := Command{Opcode: Fabrics, Flags: FlagSGL, NSID: uint32(fabricsType), Length: length, SGL: SGLTransport, CDW10: authCDW10, CDW11: length}
	if fabricsType == FabricsAuthSend {
		c.SGL = SGLInCapsule
	}
	return c
}

// AuthCommandValid reports whether the command is for this security protocol and says
// the same length twice.
func AuthCommandValid(c *Command) bool {
	return c.CDW10>>8 == authCDW10>>8 && c.CDW11 == c.Length && c.Length > 0
}
