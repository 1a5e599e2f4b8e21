package evidence

import "encoding/binary"

// Sizes of the TSS's structures (TCG TSS 2.0 Overview and Common Structures; as
// tss2_tpm2_types.h has them).
const (
	toolSelections = 16 // TPM2_NUM_PCR_BANKS
	toolDigests    = 8  // of a TPML_DIGEST
	toolDigestSize = 64 // of a TPM2B_DIGEST: its union TPMU_HA
)

// ToolPCRs are the PCR values as tpm2_quote and tpm2_pcrread of tpm2-tools write them to a
// file and tpm2_checkquote reads them: structures of the TSS as they lie in memory, little
// endian. (With -l that tool takes bare values, but 5.4 loses the eighth of a list.)
func (e *Evidence) ToolPCRs() []byte {
	le := binary.LittleEndian
	b := le.AppendUint32(nil, 1)                   // TPML_PCR_SELECTION: count
	b = append(b, 0x0b, 0, 3, 0xff, 0x01, 0, 0, 0) // TPM_ALG_SHA256, 3 octets, PCR 0 to 8
	b = append(b, make([]byte, (toolSelections-1)*8)...)
	lists := (len(e.PCRs) + toolDigests - 1) / toolDigests
	b = le.AppendUint32(b, uint32(lists))
	for i := range lists {
		some := e.PCRs[i*toolDigests : min((i+1)*toolDigests, len(e.PCRs))]
		b = le.AppendUint32(b, uint32(len(some))) // TPML_DIGEST: count, digests of size and bytes
		for n := range toolDigests {
			var size uint16
			var value [toolDigestSize]byte
			if n < len(some) {
				size = uint16(copy(value[:], some[n][:]))
			}
			b = append(le.AppendUint16(b, size), value[:]...)
		}
	}
	return b
}
