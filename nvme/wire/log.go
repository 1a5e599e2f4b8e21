package wire

// Log page identifiers (Base, section 5.16.1, figure 202).
const (
	LogSupported         = 0x00
	LogError             = 0x01
	LogSMART             = 0x02
	LogFirmware          = 0x03
	LogChangedNamespaces = 0x04
	LogEffects           = 0x05
	LogFeatures          = 0x12
	LogDiscovery         = 0x70
	LogSanitize          = 0x81
)

// Sizes of log pages and their parts in bytes.
const (
	SupportedSize  = 1024 // figure 204
	ErrorEntrySize = 64   // figure 205
	SMARTSize      = 512  // figure 206
	FirmwareSize   = 512
	ChangedSize    = 4096
	EffectsSize    = 4096
	FeaturesSize   = 1024
	SanitizeSize   = 512

	DiscoveryHeader = 1024 // figure 264
	DiscoveryEntry  = 1024 // figure 265
)

// Feature identifiers (Base, section 5.27.1, figure 317).
const (
	FeatureArbitration    = 0x01
	FeaturePower          = 0x02
	FeatureTemperature    = 0x04
	FeatureErrorRecovery  = 0x05 // NVM, section 4.1.3
	FeatureWriteCache     = 0x06
	FeatureQueues         = 0x07
	FeatureWriteAtomicity = 0x0a
	FeatureAsyncEvents    = 0x0b
	FeatureKeepAlive      = 0x0f
	FeatureHostBehavior   = 0x16
	FeatureHostID         = 0x81
)

// An asynchronous event: type in bits 2:0, information in 15:8, log page in 23:16 of the
// completion's DW0 (Base, section 5.2, figure 145).
const (
	EventNamespaces = 2 | 0x00<<8 | LogChangedNamespaces<<16
	EventDiscovery  = 2 | 0xf0<<8 | LogDiscovery<<16
	EventSanitized  = 6 | 0x01<<8 | LogSanitize<<16 // I/O command specific: sanitize completed
)

// LogRequest is what a Get Log Page command asks for (Base, section 5.16).
type LogRequest struct {
	LID    uint8
	Retain bool   // RAE: do not clear the event
	Length uint64 // bytes
	Offset uint64 // bytes
}

// DecodeLogRequest reads it from the command.
func DecodeLogRequest(c *Command) LogRequest {
	return LogRequest{
		LID: uint8(c.CDW10), Retain: c.CDW10&(1<<15) != 0,
		Length: (uint64(c.CDW11&0xffff)<<16 | uint64(c.CDW10>>16) + 1) * 4,
		Offset: uint64(c.CDW13)<<32 | uint64(c.CDW12),
	}
}

// An ErrorEntry is an entry of the error log.
type ErrorEntry struct {
	Count     uint64 // 1 for the first error
	SQID, CID uint16
	Status    Status
	LBA       uint64
	NSID      uint32
}

// Encode writes an entry.
func (e *ErrorEntry) Encode(b *[ErrorEntrySize]byte) {
	*b = [ErrorEntrySize]byte{}
	le.PutUint64(b[0:], e.Count)
	le.PutUint16(b[8:], e.SQID)
	le.PutUint16(b[10:], e.CID)
	le.PutUint16(b[12:], uint16(e.Status)<<1)
	le.PutUint16(b[14:], 0xffff) // no parameter at fault
	le.PutUint64(b[16:], e.LBA)
	le.PutUint32(b[24:], e.NSID)
	b[30] = 3 // TRTYPE: TCP
}

// A SMART is a SMART / Health Information log page.
type SMART struct {
	Critical     uint8
	Kelvin       uint16 // composite temperature; 0 when not known
	ReadUnits    uint64 // thousands of 512 bytes, rounded up
	WrittenUnits uint64
	Reads        uint64 // commands
	Writes       uint64
	Hours        uint64 // powered on
	MediaErrors  uint64
	ErrorEntries uint64
}

// Encode writes the page.
func (s *SMART) Encode(b *[SMARTSize]byte) {
	*b = [SMARTSize]byte{}
	b[0] = s.Critical
	le.PutUint16(b[1:], s.Kelvin)
	b[3], b[4] = 100, 10 // available spare and its threshold, percent
	for at, v := range map[int]uint64{32: s.ReadUnits, 48: s.WrittenUnits, 64: s.Reads, 80: s.Writes,
		128: s.Hours, 160: s.MediaErrors, 176: s.ErrorEntries} {
		le.PutUint64(b[at:], v)
	}
}

// An Effect of a command, in the Commands Supported and Effects log page (figure 211).
type Effect struct {
	Opcode  uint8
	IO      bool // of the I/O command set
	Content bool // changes the contents of namespaces, LBCC
}

// EncodeEffects writes that log page.
func EncodeEffects(b *[EffectsSize]byte, effects []Effect) {
	*b = [EffectsSize]byte{}
	for _, e := range effects {
		at, bits := 4*int(e.Opcode), byte(1) // CSUPP
		if e.IO {
			at += 1024
		}
		if e.Content {
			bits |= 1 << 1
		}
		b[at] = bits
	}
}

// EncodeSanitize writes a Sanitize Status log page (figure 291): progress in units of
// 1/65536, the status (1 completed, 2 in progress, 3 failed, 0 never), and CDW10 of the
// command.
func EncodeSanitize(b *[SanitizeSize]byte, progress, status uint16, cdw10 uint32) {
	*b = [SanitizeSize]byte{}
	le.PutUint16(b[0:], progress)
	le.PutUint16(b[2:], status)
	le.PutUint32(b[4:], cdw10)
	for at := 8; at < 32; at += 4 {
		le.PutUint32(b[at:], 0xffffffff) // times are not reported
	}
}

// Address families of a discovery entry, ADRFAM.
const (
	FamilyIPv4 = 1
	FamilyIPv6 = 2
)

// Subsystem types of a discovery entry, SUBTYPE.
const (
	SubtypeNVM              = 2
	SubtypeCurrentDiscovery = 3
)

// An Entry is a discovery log page entry for NVMe/TCP without TLS.
type Entry struct {
	Family       uint8
	Subtype      uint8
	PortID       uint16
	CNTLID       uint16
	AdminSize    uint16 // ASQSZ, most entries of the admin queue
	Service      string // port, at most 31 bytes
	Address      string // at most 255 bytes
	SubsystemNQN string
}

// EncodeDiscoveryHeader writes the start of a discovery log page.
func EncodeDiscoveryHeader(b *[DiscoveryHeader]byte, generation, entries uint64) {
	*b = [DiscoveryHeader]byte{}
	le.PutUint64(b[0:], generation)
	le.PutUint64(b[8:], entries)
}

// DecodeDiscoveryHeader reads it.
func DecodeDiscoveryHeader(b *[DiscoveryHeader]byte) (generation, entries uint64, format uint16) {
	return le.Uint64(b[0:]), le.Uint64(b[8:]), le.Uint16(b[16:])
}

// Encode writes an entry.
func (e *Entry) Encode(b *[DiscoveryEntry]byte) {
	*b = [DiscoveryEntry]byte{}
	b[0], b[1], b[2] = 3, e.Family, e.Subtype // TRTYPE: TCP
	b[3] = 1<<2 | 2                           // TREQ: SQ flow control can be off; no secure channel
	le.PutUint16(b[4:], e.PortID)
	le.PutUint16(b[6:], e.CNTLID)
	le.PutUint16(b[8:], e.AdminSize)
	padded(b[32:64], e.Service)
	copy(b[256:511], e.SubsystemNQN)
	padded(b[512:768], e.Address)
}

// Decode reads an entry.
func (e *Entry) Decode(b *[DiscoveryEntry]byte) {
	*e = Entry{b[1], b[2], le.Uint16(b[4:]), le.Uint16(b[6:]), le.Uint16(b[8:]),
		trimmed(b[32:64]), trimmed(b[512:768]), text(b[256:512])}
}
