// Package wire has the structures of NVMe over TCP as Go types: what the target
// (nvme/target) and the initiator (nvme/initiator) say to each other.
//
// The documents, as they are cited:
//
//	Base   NVM Express Base Specification, revision 2.0
//	NVM    NVM Express NVM Command Set Specification, revision 1.0
//	TCP    NVM Express TCP Transport Specification, revision 1.0
//
// All integers are little-endian. A type that is decoded from a peer checks every
// length in it against what the caller allows before anything uses it; decoding and
// encoding allocate nothing, apart from the messages of an authentication.
//
// Left out: metadata and protection information, PRPs (fabrics have SGLs only), keyed
// and segment SGLs (NVMe/TCP has neither), and TLS, which Go's library cannot speak
// with the external keys that NVMe/TCP asks for.
package wire

import "encoding/binary"

var le = binary.LittleEndian
