// Package caam finds the i.MX 6UltraLite's cryptographic accelerator, CAAM, tells
// what it can do, and reads its true random number generator (i.MX 6UltraLite
// Security Reference Manual, registers CAAMVID, CHAVID and RTMCTL to RTENT; the
// numbers are those of Linux's drivers/crypto/caam/regs.h and of NXP's TRNG driver for
// the chips that have the same block by itself). The i.MX 6ULL has none; QEMU answers
// zero. Jobs, and the DRBG that they use, are left out: the TRNG is read through its
// entropy registers, and what it gives seeds the kernel's generator. The block's
// clocks must run (CCM gates CAAM, CAAMBus and CAAMMemory), or the probe can hang.
package caam

import (
	"fmt"

	"nitro/board/imx6ul/mmio"
)

// Base and Size are the place of the block's first page, which has the versions.
const (
	Base = 0x02140000
	Size = 0x1000
)

// Registers.
const (
	regCHAVIDLS   = 0xfec // versions of the units
	chavidAES     = 0xf   // bits 3 to 0
	aesHigh       = 4     // the high-performance unit; 3 is the low-power one
	chavidRNG     = 0xf
	chavidRNGBits = 16
	regCAAMVIDMS  = 0xff8 // bits 31 to 16: the block, then major and minor
	vidBlock      = 0x0a16
	vidMajor      = 8
)

// A Version is what the block says of itself.
type Version struct {
	Major, Minor uint8
	AES          uint8 // unit: 3 low power, 4 high performance
	RNG          uint8 // generation of the random number generator
}

// XTS tells whether the AES unit does XTS by itself; the low-power unit does not.
func (v Version) XTS() bool { return v.AES >= aesHigh }

// Probe reads the block's versions. The error tells that the chip has none.
func Probe(r mmio.Registers) (Version, error) {
	id, err := mmio.Probe(r, regCAAMVIDMS)
	if err != nil {
		return Version{}, fmt.Errorf("caam: %w", err)
	}
	if id>>16 != vidBlock {
		return Version{}, fmt.Errorf("caam: CAAMVID %#x is not that of a CAAM: the chip has none, or is emulated", id)
	}
	units, err := mmio.Probe(r, regCHAVIDLS)
	if err != nil {
		return Version{}, fmt.Errorf("caam: %w", err)
	}
	return Version{uint8(id >> vidMajor), uint8(id), uint8(units & chavidAES), uint8(units >> chavidRNGBits & chavidRNG)}, nil
}
