package wire

import (
	"errors"
	"fmt"
	"hash/crc32"
)

// PDU types (TCP, section 3.6.1, figure 17).
const (
	TypeICReq       = 0x00
	TypeICResp      = 0x01
	TypeH2CTermReq  = 0x02
	TypeC2HTermReq  = 0x03
	TypeCapsuleCmd  = 0x04
	TypeCapsuleResp = 0x05
	TypeH2CData     = 0x06
	TypeC2HData     = 0x07
	TypeR2T         = 0x09
)

// Flags of the common header (TCP, section 3.6.1, figure 18 and the PDUs' own).
const (
	FlagHeaderDigest = 1 << 0 // HDGSTF: a header digest follows the header
	FlagDataDigest   = 1 << 1 // DDGSTF: a data digest follows the data
	FlagLast         = 1 << 2 // LAST_PDU, of data PDUs
	FlagSuccess      = 1 << 3 // SUCCESS, of C2HData: it stands for the response as well
)

// Sizes in bytes (TCP, section 3.6).
const (
	HeaderSize   = 8   // the common header, CH
	ICSize       = 128 // ICReq and ICResp, no digest
	CommandPDU   = HeaderSize + CommandSize
	ResponsePDU  = HeaderSize + CompletionSize
	DataPDU      = 24 // header of H2CData and C2HData
	R2TPDU       = 24
	TermReqPDU   = 24
	DigestSize   = 4
	MaxTermReq   = 152 // TermReqPDU and at most 128 bytes of the offending header
	MaxHeader    = ICSize
	MinH2CData   = 4096 // the least MAXH2CDATA (TCP, section 3.6.2.3)
	maxAlignment = 31   // CPDA and HPDA are units of 4 bytes, 0-based
)

// Fatal error statuses of a TermReq PDU (TCP, section 3.6.2.4, figure 23). Each ends the
// connection.
const (
	FatalHeaderField  = 0x01 // invalid PDU header field
	FatalSequence     = 0x02 // PDU sequence error
	FatalHeaderDigest = 0x03 // header digest error
	FatalDataRange    = 0x04 // data transfer out of range
	FatalDataLimit    = 0x05 // data transfer limit exceeded (R2T limit, for a host)
	FatalUnsupported  = 0x06 // unsupported parameter
)

// Where a TermReq has its FEI, and how much of the PDU at fault it quotes at most.
const (
	termFEI   = 10
	termQuote = MaxTermReq - TermReqPDU
)

// A Fatal is a breach of the transport's rules that ends a connection (TCP, section
// 3.5). Field is the offset of the header field at fault, where the status has one.
type Fatal struct {
	Status uint16
	Field  uint32
	What   string
}

func (f *Fatal) Error() string {
	return fmt.Sprintf("nvme: fatal transport error %#02x at header byte %d: %s", f.Status, f.Field, f.What)
}

// castagnoli is the polynomial of the digests: CRC32C (TCP, section 3.3.1.1).
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Digest is the digest of b as it goes on the wire.
func Digest(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

// UpdateDigest continues a digest.
func UpdateDigest(d uint32, b []byte) uint32 { return crc32.Update(d, castagnoli, b) }

// PutDigest writes the digest of data into dst.
func PutDigest(dst, data []byte) { le.PutUint32(dst, Digest(data)) }

// SameDigest reports whether got, of DigestSize bytes, is the digest of data.
func SameDigest(got, data []byte) bool { return le.Uint32(got) == Digest(data) }

// A Header is the common header of a PDU (TCP, section 3.6.1).
type Header struct {
	Type, Flags uint8
	HLEN        uint8  // bytes of the header, digest excluded
	PDO         uint8  // offset of the data from the PDU's start; 0 without data
	PLEN        uint32 // bytes of the whole PDU
}

// DecodeHeader reads a common header.
func DecodeHeader(b *[HeaderSize]byte) Header {
	return Header{b[0], b[1], b[2], b[3], le.Uint32(b[4:])}
}

// Encode writes a common header.
func (h Header) Encode(b []byte) {
	b[0], b[1], b[2], b[3] = h.Type, h.Flags, h.HLEN, h.PDO
	le.PutUint32(b[4:], h.PLEN)
}

// A Framing is what a connection agreed upon in its ICReq and ICResp, and which end
// reads: it decides which PDUs may come and how long they may be.
type Framing struct {
	HeaderDigest, DataDigest bool
	Alignment                uint32 // of the data of what the reader gets, bytes: (xPDA+1)*4
	Target                   bool   // the reader is the controller
	MaxCapsule               uint32 // most bytes of data in a command capsule to the reader
	MaxData                  uint32 // most bytes of data in a data PDU to the reader
}

// headerLength gives the length of the header that a PDU of this type must have, if the
// reader may get one in this direction.
func (f *Framing) headerLength(t uint8) (length uint8, data bool, ok bool) {
	switch {
	case f.Target && t == TypeCapsuleCmd:
		return CommandPDU, true, true
	case f.Target && t == TypeH2CData, !f.Target && t == TypeC2HData:
		return DataPDU, true, true
	case f.Target && t == TypeH2CTermReq, !f.Target && t == TypeC2HTermReq:
		return TermReqPDU, true, true
	case !f.Target && t == TypeCapsuleResp:
		return ResponsePDU, false, true
	case !f.Target && t == TypeR2T:
		return R2TPDU, false, true
	}
	return 0, false, false
}

// Check holds a header to the rules and gives where the data begins and how long it is,
// both in bytes. Its error is what the connection has to end with.
func (f *Framing) Check(h Header) (start, length uint32, err *Fatal) {
	hlen, data, ok := f.headerLength(h.Type)
	if !ok {
		if h.Type == TypeICReq || h.Type == TypeICResp {
			return 0, 0, &Fatal{FatalSequence, 0, "a second connection set-up"}
		}
		return 0, 0, &Fatal{FatalHeaderField, 0, "PDU type that cannot come here"}
	}
	if h.HLEN != hlen {
		return 0, 0, &Fatal{FatalHeaderField, 2, "HLEN does not fit the PDU type"}
	}
	term := h.Type == TypeH2CTermReq || h.Type == TypeC2HTermReq // has no digests
	if f.HeaderDigest != (h.Flags&FlagHeaderDigest != 0) && !term {
		return 0, 0, &Fatal{FatalHeaderField, 1, "header digest not as agreed"}
	}
	start = uint32(hlen)
	if f.HeaderDigest && !term {
		start += DigestSize
	}
	if h.PLEN < start {
		return 0, 0, &Fatal{FatalHeaderField, 4, "PLEN shorter than the header"}
	}
	if h.PLEN == start {
		if h.Flags&FlagDataDigest != 0 {
			return 0, 0, &Fatal{FatalHeaderField, 1, "data digest without data"}
		}
		return start, 0, nil
	}
	switch {
	case !data:
		return 0, 0, &Fatal{FatalHeaderField, 4, "PLEN longer than the header"}
	case term:
		if h.PLEN > MaxTermReq {
			return 0, 0, &Fatal{FatalHeaderField, 4, "PLEN of a termination above 152"}
		}
		return start, h.PLEN - start, nil
	}
	return f.checkData(h, start)
}

// checkData holds the fields about data to the rules.
func (f *Framing) checkData(h Header, start uint32) (uint32, uint32, *Fatal) {
	pdo := uint32(h.PDO)
	if pdo < start || (f.Alignment > 4 && pdo%f.Alignment != 0) || pdo%4 != 0 {
		return 0, 0, &Fatal{FatalHeaderField, 3, "PDO before the header's end, or not aligned"}
	}
	tail := uint32(0)
	if f.DataDigest {
		tail = DigestSize
	}
	if f.DataDigest != (h.Flags&FlagDataDigest != 0) {
		return 0, 0, &Fatal{FatalHeaderField, 1, "data digest not as agreed"}
	}
	if h.PLEN < pdo || h.PLEN-pdo <= tail {
		return 0, 0, &Fatal{FatalHeaderField, 4, "PLEN leaves no data"}
	}
	length := h.PLEN - pdo - tail
	limit := f.MaxData
	if h.Type == TypeCapsuleCmd {
		limit = f.MaxCapsule
	}
	if length > limit {
		return 0, 0, &Fatal{FatalDataLimit, 4, "more data than may be sent"}
	}
	return pdo, length, nil
}

// An ICReq opens a connection (TCP, section 3.6.2.2).
type ICReq struct {
	PFV    uint16 // format version, 0
	HPDA   uint8  // alignment of data to the host, units of 4 bytes, 0-based, 0 to 31
	Digest uint8  // bit 0: header digest, bit 1: data digest
	MAXR2T uint32 // most outstanding R2Ts of one command, 0-based
}

// Encode writes the PDU.
func (r ICReq) Encode(b *[ICSize]byte) {
	*b = [ICSize]byte{}
	Header{TypeICReq, 0, ICSize, 0, ICSize}.Encode(b[:])
	le.PutUint16(b[8:], r.PFV)
	b[10], b[11] = r.HPDA, r.Digest
	le.PutUint32(b[12:], r.MAXR2T)
}

// DecodeICReq reads the PDU, whose reserved bytes are ignored (Base, section 1.4).
func DecodeICReq(b *[ICSize]byte) (ICReq, *Fatal) {
	h := DecodeHeader((*[HeaderSize]byte)(b[:]))
	r := ICReq{le.Uint16(b[8:]), b[10], b[11], le.Uint32(b[12:])}
	switch {
	case h.Type != TypeICReq:
		return r, &Fatal{FatalSequence, 0, "first PDU is no ICReq"}
	case h.HLEN != ICSize:
		return r, &Fatal{FatalHeaderField, 2, "HLEN of an ICReq is not 128"}
	case h.PLEN != ICSize:
		return r, &Fatal{FatalHeaderField, 4, "PLEN of an ICReq is not 128"}
	case r.PFV != 0:
		return r, &Fatal{FatalUnsupported, 8, "format version is not 0"}
	case r.HPDA > maxAlignment:
		return r, &Fatal{FatalHeaderField, 10, "HPDA above 31"}
	case r.Digest&^3 != 0:
		return r, &Fatal{FatalUnsupported, 11, "digest of an unknown kind"}
	}
	return r, nil
}

// An ICResp answers an ICReq (TCP, section 3.6.2.3).
type ICResp struct {
	PFV        uint16
	CPDA       uint8
	Digest     uint8
	MAXH2CDATA uint32 // most bytes of data in an H2CData PDU, a multiple of 4
}

// Encode writes the PDU.
func (r ICResp) Encode(b *[ICSize]byte) {
	*b = [ICSize]byte{}
	Header{TypeICResp, 0, ICSize, 0, ICSize}.Encode(b[:])
	le.PutUint16(b[8:], r.PFV)
	b[10], b[11] = r.CPDA, r.Digest
	le.PutUint32(b[12:], r.MAXH2CDATA)
}

// DecodeICResp reads the PDU.
func DecodeICResp(b *[ICSize]byte) (ICResp, *Fatal) {
	h := DecodeHeader((*[HeaderSize]byte)(b[:]))
	r := ICResp{le.Uint16(b[8:]), b[10], b[11], le.Uint32(b[12:])}
	switch {
	case h.Type != TypeICResp:
		return r, &Fatal{FatalSequence, 0, "first PDU is no ICResp"}
	case h.HLEN != ICSize:
		return r, &Fatal{FatalHeaderField, 2, "HLEN of an ICResp is not 128"}
	case h.PLEN != ICSize:
		return r, &Fatal{FatalHeaderField, 4, "PLEN of an ICResp is not 128"}
	case r.PFV != 0:
		return r, &Fatal{FatalUnsupported, 8, "format version is not 0"}
	case r.CPDA > maxAlignment:
		return r, &Fatal{FatalHeaderField, 10, "CPDA above 31"}
	case r.MAXH2CDATA < MinH2CData || r.MAXH2CDATA%4 != 0:
		return r, &Fatal{FatalHeaderField, 12, "MAXH2CDATA below 4096 or not a multiple of 4"}
	}
	return r, nil
}

// A Data is the header of an H2CData or C2HData PDU (TCP, sections 3.6.2.8 and 3.6.2.9).
type Data struct {
	CCCID  uint16 // the command's identifier
	TTAG   uint16 // the R2T's tag; reserved in C2HData
	Offset uint32 // DATAO: where the data belongs in the command's, bytes
	Length uint32 // DATAL
}

// DecodeData reads what follows the common header.
func DecodeData(b *[DataPDU]byte) Data {
	return Data{le.Uint16(b[8:]), le.Uint16(b[10:]), le.Uint32(b[12:]), le.Uint32(b[16:])}
}

// Encode writes what follows the common header.
func (d Data) Encode(b []byte) {
	le.PutUint16(b[8:], d.CCCID)
	le.PutUint16(b[10:], d.TTAG)
	le.PutUint32(b[12:], d.Offset)
	le.PutUint32(b[16:], d.Length)
	le.PutUint32(b[20:], 0)
}

// An R2T asks for data of a command (TCP, section 3.6.2.7). Its fields lie as those of a
// Data: CCCID, TTAG, R2TO and R2TL.
type R2T = Data

// A TermReq ends a connection (TCP, sections 3.6.2.4 and 3.6.2.5).
type TermReq struct {
	Status uint16 // FES
	Field  uint32 // FEI: offset of the field at fault, or the wrong digest
}

// EncodeTermReq writes a termination of the given type that quotes the start of the PDU
// at fault, and gives its length.
func EncodeTermReq(b *[MaxTermReq]byte, t uint8, r TermReq, quote []byte) int {
	*b = [MaxTermReq]byte{}
	n := TermReqPDU + copy(b[TermReqPDU:], quote[:min(len(quote), termQuote)])
	Header{t, 0, TermReqPDU, 0, uint32(n)}.Encode(b[:])
	le.PutUint16(b[8:], r.Status)
	le.PutUint32(b[termFEI:], r.Field)
	return n
}

// DecodeTermReq reads what follows the common header.
func DecodeTermReq(b *[TermReqPDU]byte) TermReq {
	return TermReq{le.Uint16(b[8:]), le.Uint32(b[termFEI:])}
}

// ErrNQN says that a name is no NVMe Qualified Name.
var ErrNQN = errors.New("nvme: not an NVMe qualified name (nqn.yyyy-mm.domain:... of at most 223 bytes)")

// MaxNQN is the longest NQN in bytes, its NUL excluded (Base, section 4.5).
const MaxNQN = 223

// DiscoveryNQN is the well-known name of discovery subsystems (Base, section 4.5.1).
const DiscoveryNQN = "nqn.2014-08.org.nvmexpress.discovery"

// CheckNQN holds a name to the form of an NQN, printable ASCII only.
func CheckNQN(name string) error {
	if len(name) < len("nqn.2014-08.x") || len(name) > MaxNQN || name[:4] != "nqn." ||
		name[8] != '-' || name[11] != '.' {
		return ErrNQN
	}
	for i := range len(name) {
		digit := i >= 4 && i < 11 && i != 8
		if c := name[i]; c <= ' ' || c > '~' || digit && (c < '0' || c > '9') {
			return ErrNQN
		}
	}
	return nil
}
