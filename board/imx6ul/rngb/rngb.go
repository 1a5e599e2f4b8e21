// Package rngb finds the i.MX 6ULL's random number generator, RNGB (IMX6ULLRM Rev. 1
// 11/2017, chapter 44). The i.MX 6UltraLite has CAAM in its place, and QEMU neither.
// Only the probe is here; seeding and reading are left out.
package rngb

import (
	"fmt"

	"nitro/board/imx6ul/mmio"
)

// Base and Size are the block's place (IMX6ULLRM 2.2).
const (
	Base = 0x02284000
	Size = 0x1000
)

// Registers (44.6).
const (
	regVER       = 0x00 // version: type, major and minor
	verTypeShift = 28
	verTypeRNGB  = 1
	verMajor     = 8
)

// Probe reads the block's version. The error tells that the chip has none.
func Probe(r mmio.Registers) (major, minor uint8, err error) {
	v, err := mmio.Probe(r, regVER)
	if err != nil {
		return 0, 0, fmt.Errorf("rngb: %w", err)
	}
	if v>>verTypeShift != verTypeRNGB {
		return 0, 0, fmt.Errorf("rngb: VER %#x is not that of an RNGB: take random numbers from elsewhere", v)
	}
	return uint8(v >> verMajor), uint8(v), nil
}
