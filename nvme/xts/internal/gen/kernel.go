package main

import (
	"fmt"
	"slices"

	"nitro/internal/neon"
)

// The kernel takes 32 blocks at once. A Q register holds, of one row of the
// state and one bit, four columns (a 32-bit lane each) of 32 blocks, so that
// MixColumns needs no permutation at all and ShiftRows one VEXT for a register
// of rows 1 to 3. The state is 32 such registers and lives in memory, in one
// of two orders: by rows, for the S-box, and by bits, for MixColumns.
//
// Rows are kept in the order 0, 2, 1, 3: the inverse MixColumns begins with
// sums of rows 0 and 2, and of rows 1 and 3.
var rowAt = [4]int{0, 2, 1, 3}

// slotOf is the place of a row in that order.
var slotOf = [4]int{0, 2, 1, 3}

// The scratch memory on the stack, in bytes from a base aligned to 64.
const (
	sumsAt   = 0    // 4 registers that MixColumns keeps aside
	rowsAt   = 128  // 32 registers by rows, [slot][bit], or before and after [slot][block]
	bitsAt   = 640  // 32 registers by bits, [bit][slot]
	tweaksAt = 1152 // the tweaks of 32 blocks
	slotsAt  = 1664 // what the S-box keeps aside
	slots    = 5
	scratch  = slotsAt + 16*slots
	frame    = scratch + 64 // and room to align it
	argBytes = 20
)

// Core registers by their use. R10 is g and R11 the assembler's own.
const (
	rPlanes = neon.R0
	rRows   = neon.R1
	rBits   = neon.R2
	rStep   = neon.R3  // 64: the distance of bits
	rRounds = neon.R4  // rounds to go
	rKey    = rRounds  // another round key, in the rounds that are not counted
	rSpill  = neon.R5  // and the four after it: addresses of slots
	rBase   = neon.R12 // the scratch memory
	rStride = neon.R14 // 128: the distance of rows
)

// kernel emits the functions of kernel_arm.s.
type kernel struct {
	neon.Asm
	forward, inverse []neon.Line
}

// kernels is the text of kernel_arm.s.
func kernels(forward, inverse []neon.Line) ([]byte, error) {
	k := &kernel{forward: forward, inverse: inverse}
	k.Constrain("!xts_portable")
	k.encrypt()
	k.decrypt()
	k.encrypt8()
	k.Spread(24)
	return k.File(generator)
}

// add emits r = from + n.
func (k *kernel) add(r, from neon.R, n int) {
	switch {
	case n < 0:
		k.Go("SUB $%d, R%d, R%d", -n, from, r)
	case n > 0 || r != from:
		k.Go("ADD $%d, R%d, R%d", n, from, r)
	}
}

// prologue aligns the scratch memory, and makes the tweaks.
func (k *kernel) prologue(name string) {
	k.Func(name, fmt.Sprintf("func %s(planes *byte, rounds int, dst, src, tweak *byte)", name), frame, argBytes)
	k.Go("ADD $(4+63), R13, R%d", rBase)
	k.Go("BIC $63, R%d", rBase)
	k.tweaks()
}

// tweaks writes the 32 tweaks that begin with the one at tweak, and leaves
// there the one after them. It works on two at a time, T(j) and T(j+16): their
// low halves in one register, their high halves in another. Doubling both
// takes six instructions (IEEE 1619, 5.2: x^128 = x^7 + x^2 + x + 1).
func (k *kernel) tweaks() {
	k.Comment("Tweaks.")
	k.Go("MOVW tweak+16(FP), R%d", rRows)
	k.Go("MOVW $0x87, R%d", rStep)
	k.Go("MOVW $0, R%d", rRounds)
	k.VMOVRR(30, rStep, rRounds)
	k.VMOVRR(31, rStep, rRounds)
	// Tweak j is in the low and high registers 4*(j/2%2)+j%2 and 2 more.
	at := func(j int) (lo, hi neon.Q) { q := neon.Q(4*(j/2%2) + j%2); return q, q + 2 }
	lo, hi := at(0)
	k.VLD1(8, lo.Lo(), 1, neon.At(rRows).Then(neon.Advance))
	k.VLD1(8, hi.Lo(), 1, neon.At(rRows))
	// T(16): the top 16 bits come back at 1, x, x^2 and x^7.
	top := neon.D(16)
	k.VSHRU(64, top, hi.Lo(), 48)
	k.VSHL(64, lo.Hi(), lo.Lo(), 16)
	k.VSHL(64, hi.Hi(), hi.Lo(), 16)
	k.VSRI(64, hi.Hi(), lo.Lo(), 48)
	k.VEOR(lo.Hi(), lo.Hi(), top)
	for i, by := range []int{1, 2, 7} {
		k.VSHL(64, top+1+neon.D(i), top, by)
	}
	for i := range neon.D(3) {
		k.VEOR(lo.Hi(), lo.Hi(), top+1+i)
	}
	k.add(rBits, rBase, tweaksAt)
	k.add(rPlanes, rBase, tweaksAt+16*16)
	for j := range 16 {
		lo, hi := at(j)
		nextLo, nextHi := at(j + 1)
		carry := neon.Q(8 + j%2)
		k.VSHRS(64, carry, hi, 63)
		k.VSHL(64, nextLo, lo, 1)
		k.VSHL(64, nextHi, hi, 1)
		k.VAND(carry, carry, neon.Q(15))
		k.VSRI(64, nextHi, lo, 63)
		k.VEOR(nextLo, nextLo, carry)
		k.VSWP(lo.Hi(), hi.Lo())
		if j%2 == 1 {
			k.VST1(64, (lo - 1).Lo(), 4, neon.At(rBits).Then(neon.Advance).Aligned(128))
			k.VST1(64, (hi - 1).Lo(), 4, neon.At(rPlanes).Then(neon.Advance).Aligned(128))
		}
	}
	lo, hi = at(16)
	k.VST1(8, hi.Hi(), 1, neon.At(rRows))
	k.add(rRows, rRows, -8)
	k.VST1(8, lo.Hi(), 1, neon.At(rRows))
}

// load reads count consecutive Q registers from first on.
func load(k *kernel, r neon.R, advance bool, first neon.Q, count int) {
	k.VLDM(r, advance, first.Lo(), 2*count)
}

// transpose transposes the 8 by 8 matrices of bits that are byte n of each of
// x, which are eight registers in any order. It uses all the others.
func (k *kernel) transpose(x [8]neon.Q) {
	var free []neon.Q
	for q := range neon.Q(neon.NumQ) {
		if !slices.Contains(x[:], q) {
			free = append(free, q)
		}
	}
	pairs, quads := free[6], free[7]
	k.VMOVI8(pairs, 0x33)
	k.VMOVI8(quads, 0x55)
	for i := range 4 {
		a, b, t := x[i], x[i+4], free[i]
		k.VMOV(t, a)
		k.VSLI(8, a, b, 4)
		k.VSRI(8, b, t, 4)
	}
	for _, i := range [...]int{0, 4} {
		k.exchangeBits(2, pairs, x[i], x[i+2], x[i+1], x[i+3], free)
	}
	for _, i := range [...]int{0, 4} {
		k.exchangeBits(1, quads, x[i], x[i+1], x[i+2], x[i+3], free)
	}
}

// exchangeBits exchanges the bits of b at mask low with those of a by places
// higher up, and so for d and c. The two take turns, so that none waits for
// the result before it.
func (k *kernel) exchangeBits(by int, low, a, b, c, d neon.Q, free []neon.Q) {
	k.VSHL(8, free[0], b, by)
	k.VSHL(8, free[1], d, by)
	k.VSHRU(8, free[2], a, by)
	k.VSHRU(8, free[3], c, by)
	k.VBIF(a, free[0], low)
	k.VBIF(c, free[1], low)
	k.VBIT(b, free[2], low)
	k.VBIT(d, free[3], low)
}

// blocksIn reads the blocks from src, adds their tweaks, and brings rows
// together: two bits of the number of a block change places with the two of
// the row, which are the low bits of the number of a byte (FIPS 197, 3.4).
// What was [block] becomes [slot][8 blocks].
func (k *kernel) blocksIn() {
	k.Comment("Blocks to rows.")
	k.Go("MOVW src+12(FP), R%d", rPlanes)
	k.add(rBits, rBase, tweaksAt)
	k.add(rRows, rBase, rowsAt)
	k.Go("MOVW $128, R%d", rStride)
	for n := range 4 {
		for i := range 4 {
			k.VLD1(8, neon.D(4*i), 4, neon.At(rPlanes).Then(neon.Advance))
		}
		load(k, rBits, true, 8, 8)
		for i := range neon.Q(8) {
			k.VEOR(i, i, 8+i)
		}
		k.exchange(0, 2, 4, 6)
		k.exchange(1, 3, 5, 7)
		for _, row := range rowAt {
			k.VST1(64, neon.D(4*row), 4, neon.At(rRows).Then(neon.By(rStride)).Aligned(128))
		}
		if n < 3 {
			k.add(rRows, rRows, 32-4*128)
		}
	}
}

// blocksOut is the inverse of blocksIn, to dst.
func (k *kernel) blocksOut() {
	k.Comment("Rows to blocks.")
	k.Go("MOVW dst+8(FP), R%d", rPlanes)
	k.add(rBits, rBase, tweaksAt)
	k.add(rRows, rBase, rowsAt)
	for n := range 4 {
		for _, row := range rowAt {
			k.VLD1(64, neon.D(4*row), 4, neon.At(rRows).Then(neon.By(rStride)).Aligned(128))
		}
		if n < 3 {
			k.add(rRows, rRows, 32-4*128)
		}
		k.exchange(0, 2, 4, 6)
		k.exchange(1, 3, 5, 7)
		load(k, rBits, true, 8, 8)
		for i := range neon.Q(8) {
			k.VEOR(i, i, 8+i)
		}
		for i := range 4 {
			k.VST1(8, neon.D(4*i), 4, neon.At(rPlanes).Then(neon.Advance))
		}
	}
}

// exchange exchanges the number of a register among four with the two low bits
// of the number of a byte. It is its own inverse.
func (k *kernel) exchange(a, b, c, d neon.Q) {
	k.VTRN(8, a, b)
	k.VTRN(8, c, d)
	k.VTRN(16, a, c)
	k.VTRN(16, b, d)
}

// wipe clears the scratch memory, which has held plaintext and tweaks.
func (k *kernel) wipe() {
	k.Comment("Leave nothing behind.")
	for i := range neon.Q(8) {
		k.VMOVI8(i, 0)
	}
	k.add(rBits, rBase, sumsAt)
	for at := 0; at < scratch; at += 128 {
		k.VSTM(rBits, true, 0, min(16, (scratch-at)/8))
	}
	k.Go("RET")
}
