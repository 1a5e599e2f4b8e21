package wire

// IdentifySize is the size of every Identify data structure in bytes.
const IdentifySize = 4096

// Values of CNS (Base, section 5.17.1, figure 273).
const (
	CNSNamespace            = 0x00
	CNSController           = 0x01
	CNSActiveNamespaces     = 0x02
	CNSDescriptors          = 0x03
	CNSCommandSetNamespace  = 0x05
	CNSCommandSetController = 0x06
	CNSCommandSetActive     = 0x07
	CNSIndependentNamespace = 0x08
)

// Controller types, CNTRLTYPE.
const (
	ControllerIO        = 1
	ControllerDiscovery = 2
)

// Bits of an Identify Controller (Base, section 5.17.2.1, figure 275).
const (
	OAESNamespace   = 1 << 8  // namespace attribute notices
	OAESDiscovery   = 1 << 31 // discovery log page change notices
	CTRATTHostID128 = 1 << 0
	CTRATTTraffic   = 1 << 6 // TBKAS: any command keeps the association alive
	OACSFormat      = 1 << 1
	LPAEffects      = 1 << 1 // commands supported and effects
	LPAExtended     = 1 << 2 // offsets and lengths of 32 bits
	SanitizeCrypto  = 1 << 0 // SANICAP: crypto erase
	// SanitizeDeallocates (SANICAP, NDI): no host has its blocks stay allocated.
	SanitizeDeallocates = 1 << 29
	ONCSCompare         = 1 << 0
	ONCSDeallocate      = 1 << 2
	ONCSWriteZeroes     = 1 << 3
	FNAFormatAll        = 1 << 0 // a format goes to all namespaces
	FNACryptoErase      = 1 << 2
	VWCPresent          = 1 << 0
	VWCFlushAll         = 3 << 1 // a flush of all namespaces works
	SGLSByte            = 1 << 0 // SGLs of any alignment
	SGLSOffset          = 1 << 20
)

// A Controller is an Identify Controller data structure, without what is 0 here.
type Controller struct {
	Serial, Model, Firmware string // 20, 40 and 8 bytes at most
	MDTS                    uint8  // most data of a command: 2^MDTS pages of 4 KiB
	CNTLID                  uint16
	OAES                    uint32
	CTRATT                  uint32
	Type                    uint8
	OACS                    uint16
	AERL                    uint8 // event requests, 0-based
	ABL                     uint8 // aborts, 0-based
	LPA                     uint8
	ELPE                    uint8  // error log entries, 0-based
	KAS                     uint16 // granularity of keep alive, units of 100 ms
	SANICAP                 uint32
	MAXCMD                  uint16
	NN                      uint32 // highest namespace identifier
	ONCS                    uint16
	FNA                     uint8
	VWC                     uint8
	SGLS                    uint32
	SubsystemNQN            string
	IOCCSZ                  uint32 // units of 16 bytes
}

// Encode writes the structure.
func (c *Controller) Encode(b *[IdentifySize]byte) {
	*b = [IdentifySize]byte{}
	padded(b[4:24], c.Serial)
	padded(b[24:64], c.Model)
	padded(b[64:72], c.Firmware)
	b[77] = c.MDTS
	le.PutUint16(b[78:], c.CNTLID)
	le.PutUint32(b[80:], Version)
	le.PutUint32(b[92:], c.OAES)
	le.PutUint32(b[96:], c.CTRATT)
	b[111] = c.Type
	le.PutUint16(b[256:], c.OACS)
	b[258], b[259] = c.ABL, c.AERL
	b[260] = 3 // FRMW: one slot, read only
	b[261], b[262] = c.LPA, c.ELPE
	le.PutUint16(b[320:], c.KAS)
	le.PutUint32(b[328:], c.SANICAP)
	b[512], b[513] = 0x66, 0x44 // SQES, CQES: 64 and 16 bytes
	le.PutUint16(b[514:], c.MAXCMD)
	le.PutUint32(b[516:], c.NN)
	le.PutUint16(b[520:], c.ONCS)
	b[524], b[525] = c.FNA, c.VWC
	le.PutUint32(b[536:], c.SGLS)
	le.PutUint32(b[540:], c.NN) // MNAN
	copy(b[768:1023], c.SubsystemNQN)
	le.PutUint32(b[1792:], c.IOCCSZ)
	le.PutUint32(b[1796:], CompletionSize/16) // IORCSZ
	b[1803] = 1                               // MSDBD: one SGL descriptor
	b[1804] = 1                               // OFCS: Disconnect
}

// DecodeController reads the fields that an initiator needs.
func DecodeController(b *[IdentifySize]byte) Controller {
	return Controller{
		Serial: trimmed(b[4:24]), Model: trimmed(b[24:64]), Firmware: trimmed(b[64:72]),
		MDTS: b[77], CNTLID: le.Uint16(b[78:]), OAES: le.Uint32(b[92:]), CTRATT: le.Uint32(b[96:]), Type: b[111],
		OACS: le.Uint16(b[256:]), ABL: b[258], AERL: b[259], LPA: b[261], ELPE: b[262], KAS: le.Uint16(b[320:]),
		SANICAP: le.Uint32(b[328:]), MAXCMD: le.Uint16(b[514:]), NN: le.Uint32(b[516:]), ONCS: le.Uint16(b[520:]),
		FNA: b[524], VWC: b[525], SGLS: le.Uint32(b[536:]), SubsystemNQN: text(b[768:1024]), IOCCSZ: le.Uint32(b[1792:]),
	}
}

// padded writes an ASCII field, which is padded with spaces (Base, section 1.4.2).
func padded(dst []byte, s string) {
	for i := copy(dst, s); i < len(dst); i++ {
		dst[i] = ' '
	}
}

// trimmed reads one.
func trimmed(b []byte) string {
	for len(b) > 0 && (b[len(b)-1] == ' ' || b[len(b)-1] == 0) {
		b = b[:len(b)-1]
	}
	return string(b)
}

// A Namespace is an Identify Namespace data structure of the NVM command set with one
// LBA format (NVM, section 4.1.5.1, figure 97).
type Namespace struct {
	Size       uint64 // NSZE and NCAP, blocks
	Used       uint64 // NUSE
	BlockShift uint8  // LBADS: blocks of 2^LBADS bytes
	ReadsZero  bool   // DLFEAT: deallocated blocks read as zeros
	NGUID      [16]byte
}

// Encode writes the structure.
func (n *Namespace) Encode(b *[IdentifySize]byte) {
	*b = [IdentifySize]byte{}
	le.PutUint64(b[0:], n.Size)
	le.PutUint64(b[8:], n.Size)
	le.PutUint64(b[16:], n.Used)
	if n.ReadsZero {
		b[33] = 1<<3 | 1 // and Write Zeroes may deallocate
	}
	copy(b[104:120], n.NGUID[:])
	b[130] = n.BlockShift
}

// DecodeNamespace reads the structure, the LBA format being the one in use.
func DecodeNamespace(b *[IdentifySize]byte) Namespace {
	n := Namespace{Size: le.Uint64(b[0:]), Used: le.Uint64(b[16:]), ReadsZero: b[33]&7 == 1}
	copy(n.NGUID[:], b[104:120])
	format := int(b[26]&0x0f) | int(b[26]>>5&3)<<4 // FLBAS
	n.BlockShift = b[128+4*format+2]
	return n
}

// EncodeIndependent writes the I/O command set independent Identify Namespace data
// structure of a namespace that is ready (Base, section 5.17.2.8, figure 280).
func EncodeIndependent(b *[IdentifySize]byte) {
	*b = [IdentifySize]byte{}
	b[14] = 1 // NSTAT: ready
}

// EncodeDescriptors writes a Namespace Identification Descriptor list: NGUID, UUID and
// command set (Base, section 5.17.2.3, figure 278).
func EncodeDescriptors(b *[IdentifySize]byte, nguid, uuid *[16]byte) {
	*b = [IdentifySize]byte{}
	at := 0
	for _, d := range []struct {
		kind uint8
		id   []byte
	}{{2, nguid[:]}, {3, uuid[:]}, {4, []byte{0}}} {
		b[at], b[at+1] = d.kind, uint8(len(d.id))
		at += 4 + copy(b[at+4:], d.id)
	}
}

// EncodeNVMController writes the Identify Controller data structure of the NVM command
// set: sizes of Write Zeroes and Dataset Management are bounded by the given blocks and
// ranges (NVM, section 4.1.5.2, figure 102).
func EncodeNVMController(b *[IdentifySize]byte, wzsl uint8, ranges uint8) {
	*b = [IdentifySize]byte{}
	b[1] = wzsl // WZSL, as MDTS
	b[3] = ranges
}

// PutNamespaces writes a namespace list of those above an identifier (Base, section
// 4.3.3) and gives how many there were. The identifiers are in ascending order.
func PutNamespaces(b *[IdentifySize]byte, ids []uint32, above uint32) int {
	*b = [IdentifySize]byte{}
	n := 0
	for _, id := range ids {
		if id > above && n < IdentifySize/4 {
			le.PutUint32(b[4*n:], id)
			n++
		}
	}
	return n
}

// Namespaces reads a namespace list.
func Namespaces(b *[IdentifySize]byte) (ids []uint32) {
	for at := 0; at < IdentifySize; at += 4 {
		id := le.Uint32(b[at:])
		if id == 0 {
			break
		}
		ids = append(ids, id)
	}
	return ids
}
