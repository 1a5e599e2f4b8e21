package main

import (
	"fmt"

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
	sumsAt   = 0    // 8 registers that MixColumns keeps aside
	rowsAt   = 128  // 32 registers by rows, [slot][bit]; also [group][block or bit]
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
// q0 to q7. It uses q8 to q13, and the masks that it sets in q14 and q15.
func (k *kernel) transpose() {
	k.VMOVI8(neon.Q(14), 0x33)
	k.VMOVI8(neon.Q(15), 0x55)
	for i := range 4 {
		a, b, t := neon.Q(i), neon.Q(i+4), neon.Q(8+i)
		k.VMOV(t, a)
		k.VSLI(8, a, b, 4)
		k.VSRI(8, b, t, 4)
	}
	for _, stage := range []struct {
		by   int
		low  neon.Q
		from [4]int
	}{{2, 14, [4]int{0, 1, 4, 5}}, {1, 15, [4]int{0, 2, 4, 6}}} {
		for n := 0; n < 4; n += 2 {
			// Two exchanges at a time, so that none waits for the other.
			var a, b, t, u [2]neon.Q
			for i := range 2 {
				a[i] = neon.Q(stage.from[n+i])
				b[i], t[i], u[i] = a[i]+neon.Q(stage.by), neon.Q(8+n+i), neon.Q(12-n+i)
				if n > 0 {
					u[i] = neon.Q(8 + i)
				}
			}
			for i := range 2 {
				k.VSHL(8, t[i], b[i], stage.by)
				k.VSHRU(8, u[i], a[i], stage.by)
			}
			for i := range 2 {
				k.VBIF(a[i], t[i], stage.low)
				k.VBIT(b[i], u[i], stage.low)
			}
		}
	}
}

// blocksIn reads the blocks from src, adds their tweaks, and transposes the
// bits of each group of eight: what was [group][block] becomes [group][bit].
func (k *kernel) blocksIn() {
	k.Comment("Blocks to bits.")
	k.Go("MOVW src+12(FP), R%d", rPlanes)
	k.add(rBits, rBase, tweaksAt)
	k.add(rRows, rBase, rowsAt)
	for range 4 {
		for i := range 4 {
			k.VLD1(8, neon.D(4*i), 4, neon.At(rPlanes).Then(neon.Advance))
		}
		load(k, rBits, true, 8, 8)
		for i := range neon.Q(8) {
			k.VEOR(i, i, 8+i)
		}
		k.transpose()
		k.VSTM(rRows, true, 0, 16)
	}
}

// blocksOut is the inverse of blocksIn, to dst.
func (k *kernel) blocksOut() {
	k.Comment("Bits to blocks.")
	k.Go("MOVW dst+8(FP), R%d", rPlanes)
	k.add(rBits, rBase, tweaksAt)
	k.add(rRows, rBase, rowsAt)
	for range 4 {
		load(k, rRows, true, 0, 8)
		k.transpose()
		load(k, rBits, true, 8, 8)
		for i := range neon.Q(8) {
			k.VEOR(i, i, 8+i)
		}
		for i := range 4 {
			k.VST1(8, neon.D(4*i), 4, neon.At(rPlanes).Then(neon.Advance))
		}
	}
}

// exchange swaps the two bits of the group with the two of the row, which are
// the low bits of the number of a byte, in four registers.
func (k *kernel) exchange(q [4]neon.Q) {
	k.VTRN(8, q[0], q[1])
	k.VTRN(8, q[2], q[3])
	k.VTRN(16, q[0], q[2])
	k.VTRN(16, q[1], q[3])
}

// shiftRow turns row row by its number of columns: to the left for ShiftRows,
// to the right for its inverse (FIPS 197, 5.1.2 and 5.3.1).
func (k *kernel) shiftRow(q neon.Q, row int, inverse bool) {
	by := row
	if inverse {
		by = (4 - row) % 4
	}
	if by > 0 {
		k.VEXT(q, q, q, 4*by)
	}
}

// rowsIn brings the state from [group][bit] to rows, in place. The inverse
// cipher begins with the last round key, which is by bits, and with the inverse
// of ShiftRows.
func (k *kernel) rowsIn(inverse bool) {
	k.Comment("Groups to rows.")
	if inverse {
		k.lastKey()
	}
	for g := range neon.R(4) {
		k.add(rSpill+g, rBase, rowsAt+128*int(g))
	}
	for bit := 0; bit < 8; bit += 2 {
		for g := range neon.R(4) {
			k.VLD1(64, neon.D(4*g), 4, neon.At(rSpill+g).Aligned(128))
		}
		// Groups, and then rows, of one bit are the even registers, and of
		// the next bit the odd ones.
		k.exchange([4]neon.Q{0, 2, 4, 6})
		k.exchange([4]neon.Q{1, 3, 5, 7})
		if inverse {
			load(k, rPlanes, true, 8, 8)
			for i := range neon.Q(8) {
				k.VEOR(i, i, 8+neon.Q(slotOf[i/2])+i%2*4)
				k.shiftRow(i, int(i/2), true)
			}
		}
		for slot, row := range rowAt {
			at := neon.At(rSpill + neon.R(slot)).Then(neon.Advance).Aligned(128)
			k.VST1(64, neon.D(4*row), 4, at)
		}
	}
}

// rowsOut brings the state from bits to [group][bit]. The cipher ends with
// ShiftRows and the last round key, which is by bits as well.
func (k *kernel) rowsOut(inverse bool) {
	k.Comment("Rows to groups.")
	if !inverse {
		k.lastKey()
	}
	k.add(rBits, rBase, bitsAt)
	k.add(rRows, rBase, rowsAt)
	for bit := 0; bit < 8; bit += 2 {
		load(k, rBits, true, 0, 8)
		if !inverse {
			load(k, rPlanes, true, 8, 8)
			for i := range neon.Q(8) {
				k.shiftRow(i, rowAt[i%4], false)
				k.VEOR(i, i, 8+i)
			}
		}
		for _, first := range [2]neon.Q{0, 4} {
			k.exchange([4]neon.Q{first, first + 2, first + 1, first + 3})
		}
		for i := range 8 {
			q := neon.Q(slotOf[i%4] + i/4*4)
			k.VST1(64, q.Lo(), 2, neon.At(rRows).Then(neon.By(rStride)).Aligned(128))
			if i == 3 {
				k.add(rRows, rRows, 16-4*128)
			}
		}
		k.add(rRows, rRows, 16-4*128)
	}
}

// lastKey points rPlanes to the last round key.
func (k *kernel) lastKey() {
	k.Go("MOVW planes+0(FP), R%d", rPlanes)
	k.Go("MOVW rounds+4(FP), R%d", rRounds)
	k.Go("ADD R%d<<9, R%d", rRounds, rPlanes)
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
