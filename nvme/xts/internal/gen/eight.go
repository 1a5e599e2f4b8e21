package main

import (
	"slices"

	"nitro/internal/neon"
)

// encrypt8 is for tweaks when there are few of them: eight blocks, in place,
// one bit of all of them in a register. A byte of a register is a byte of the
// state, in the order of FIPS 197, 3.4 (row n of column m is byte n+4m), and
// its bits are the eight blocks. Here ShiftRows takes two VTBL a register, as
// a permutation of bytes, and MixColumns rotates 32-bit lanes.
//
// The planes begin with the sixteen indices of ShiftRows; each round key is
// eight registers.
const (
	frame8 = 16*slots + 16
	args8  = 12
)

// encrypt8 emits the function. The state is in q8 to q15 between rounds.
func (k *kernel) encrypt8() {
	k.Func("encrypt8", "func encrypt8(planes *byte, rounds int, blocks *byte)", frame8, args8)
	k.Go("ADD $(4+15), R13, R%d", rBase)
	k.Go("BIC $15, R%d", rBase)
	for i := range neon.R(slots) {
		k.add(rSpill+i, rBase, 16*int(i))
	}
	k.Go("MOVW planes+0(FP), R%d", rBits) // the indices stay there
	k.add(rPlanes, rBits, 16)
	k.Go("MOVW rounds+4(FP), R%d", rRounds)
	k.Go("MOVW blocks+8(FP), R%d", rRows)
	for i := range 4 {
		k.VLD1(8, neon.D(16+4*i), 4, neon.At(rRows).Then(neon.Advance))
	}
	k.transpose(eight(8))
	k.Label("round")
	x := k.box(k.forward, k.keyThenBytes(), true)
	k.Go("SUB.S $1, R%d", rRounds)
	k.Go("BEQ last")
	k.mixLanes(x)
	k.Go("B round")
	k.Label("last")
	load(k, rPlanes, true, 8, 8)
	for i, q := range x {
		k.VEOR(q, q, neon.Q(8+i))
	}
	k.transpose(x)
	k.add(rRows, rRows, -128)
	for _, q := range x {
		k.VST1(8, q.Lo(), 2, neon.At(rRows).Then(neon.Advance))
	}
	k.VMOVI8(neon.Q(0), 0)
	for range slots {
		k.VST1(64, 0, 2, neon.At(rBase).Then(neon.Advance).Aligned(128))
	}
	k.Go("RET")
}

// keyThenBytes adds the next round key and applies ShiftRows.
func (k *kernel) keyThenBytes() (x [8]neon.Q) {
	load(k, rPlanes, true, 0, 8)
	for i := range neon.Q(8) {
		k.VEOR(8+i, 8+i, i)
	}
	const index = neon.Q(7)
	k.VLD1(8, index.Lo(), 2, neon.At(rBits))
	for i := range neon.Q(8) {
		// The last has room where the first was.
		x[i] = i
		if i == index {
			x[i] = 8
		}
		k.VTBL(x[i].Lo(), (8 + i).Lo(), 2, index.Lo())
		k.VTBL(x[i].Hi(), (8 + i).Lo(), 2, index.Hi())
	}
	return x
}

// mixLanes is MixColumns from x, which are below q8, to q8 to q15. A column is
// a lane of 32 bits with row 0 lowest: the next row comes by turning it right
// by a byte.
func (k *kernel) mixLanes(x [8]neon.Q) {
	next := func(i int) {
		r := neon.Q(8 + i)
		k.VSHRU(32, r, x[i], 8)
		k.VSLI(32, r, x[i], 24)
		k.VEOR(x[i], x[i], r) // t
	}
	next(7)
	temporary := neon.Q(14) // bit 6 comes last
	for i := range 8 {
		r := neon.Q(8 + i)
		if i < 7 {
			next(i)
		}
		if i == 6 {
			temporary = x[0]
		}
		k.VREV(32, 16, temporary, x[i])
		k.VEOR(r, r, temporary)
		k.VEOR(r, r, x[(i+7)%8])
		if slices.Contains([]int{1, 3, 4}, i) {
			k.VEOR(r, r, x[7])
		}
	}
}
