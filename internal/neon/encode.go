package neon

import "fmt"

// The three register fields of an Advanced SIMD instruction: four bits in one
// place and the fifth in another (DDI 0406C, A7.4).
func vd(n uint32) uint32 { return n&15<<12 | n>>4<<22 }
func vn(n uint32) uint32 { return n&15<<16 | n>>4<<7 }
func vm(n uint32) uint32 { return n&15 | n>>4<<5 }

const quadBit = 1 << 6

// widths checks that every register exists and that all are of one width,
// and returns their numbers and the Q bit.
func (a *Asm) widths(regs ...Reg) (n []uint32, q uint32) {
	n = make([]uint32, len(regs))
	_, quad := regs[0].field()
	for i, r := range regs {
		f, isQuad := r.field()
		if f >= NumD {
			a.fail("no register %v", r)
		}
		if isQuad != quad {
			a.fail("%v and %v differ in width", regs[0], r)
		}
		n[i] = f
	}
	if quad {
		q = quadBit
	}
	return n, q
}

// three encodes an instruction with three registers of one width.
func (a *Asm) three(base uint32, name string, d, n, m Reg) {
	f, q := a.widths(d, n, m)
	a.word(classOf(q), base|q|vd(f[0])|vn(f[1])|vm(f[2]), "%s\t%v, %v, %v", name, d, n, m)
}

// two encodes an instruction with two registers of one width.
func (a *Asm) two(c Class, base uint32, name string, d, m Reg) {
	f, q := a.widths(d, m)
	if c == ClassNone {
		c = classOf(q)
	}
	a.word(c, base|q|vd(f[0])|vm(f[1]), "%s\t%v, %v", name, d, m)
}

// VAND sets d to n AND m.
func (a *Asm) VAND(d, n, m Reg) { a.three(0xf2000110, "vand", d, n, m) }

// VBIC sets d to n AND NOT m.
func (a *Asm) VBIC(d, n, m Reg) { a.three(0xf2100110, "vbic", d, n, m) }

// VORR sets d to n OR m.
func (a *Asm) VORR(d, n, m Reg) {
	if n == m {
		a.fail("vorr with equal operands is vmov")
	}
	a.three(0xf2200110, "vorr", d, n, m)
}

// VORN sets d to n OR NOT m.
func (a *Asm) VORN(d, n, m Reg) { a.three(0xf2300110, "vorn", d, n, m) }

// VEOR sets d to n XOR m.
func (a *Asm) VEOR(d, n, m Reg) { a.three(0xf3000110, "veor", d, n, m) }

// VBSL selects by d itself: d becomes n where d is 1 and m where it is 0.
func (a *Asm) VBSL(d, n, m Reg) { a.three(0xf3100110, "vbsl", d, n, m) }

// VBIT inserts n into d where m is 1.
func (a *Asm) VBIT(d, n, m Reg) { a.three(0xf3200110, "vbit", d, n, m) }

// VBIF inserts n into d where m is 0.
func (a *Asm) VBIF(d, n, m Reg) { a.three(0xf3300110, "vbif", d, n, m) }

// VMOV copies m to d.
func (a *Asm) VMOV(d, m Reg) {
	f, q := a.widths(d, m)
	a.word(classOf(q), 0xf2200110|q|vd(f[0])|vn(f[1])|vm(f[1]), "vorr\t%v, %v, %v", d, m, m)
}

// VMVN sets d to NOT m.
func (a *Asm) VMVN(d, m Reg) { a.two(ClassNone, 0xf3b00580, "vmvn", d, m) }

// sizeField is the two-bit size of 8, 16, 32 or 64-bit elements.
func (a *Asm) sizeField(bits, max int) uint32 {
	for s := 0; s < 4; s++ {
		if bits == 8<<s && bits <= max {
			return uint32(s)
		}
	}
	a.fail("element size %d", bits)
	return 0
}

// VADD adds elements of 8, 16, 32 or 64 bits.
func (a *Asm) VADD(bits int, d, n, m Reg) {
	a.three(0xf2000800|a.sizeField(bits, 64)<<20, fmt.Sprintf("vadd.i%d", bits), d, n, m)
}

// VSUB subtracts elements of 8, 16, 32 or 64 bits.
func (a *Asm) VSUB(bits int, d, n, m Reg) {
	a.three(0xf3000800|a.sizeField(bits, 64)<<20, fmt.Sprintf("vsub.i%d", bits), d, n, m)
}

// VTST sets an element of 8, 16 or 32 bits of d to all ones where n AND m is
// not zero.
func (a *Asm) VTST(bits int, d, n, m Reg) {
	a.three(0xf2000810|a.sizeField(bits, 32)<<20, fmt.Sprintf("vtst.%d", bits), d, n, m)
}

// VMULLP8 multiplies the eight bytes of n and m as polynomials over GF(2)
// into the eight 16-bit elements of d.
func (a *Asm) VMULLP8(d Q, n, m D) {
	fd, _ := a.widths(d)
	f, _ := a.widths(n, m)
	a.word(ClassQ, 0xf2800e00|vd(fd[0])|vn(f[0])|vm(f[1]), "vmull.p8\t%v, %v, %v", d, n, m)
}

// right encodes a right shift by 1 to bits.
func (a *Asm) right(u, opc uint32, name string, bits int, d, m Reg, by int) {
	if by < 1 || by > bits {
		a.fail("%s by %d of %d bits", name, by, bits)
	}
	a.shift(u, opc, name, bits, 2*bits-by, d, m, by)
}

// left encodes a left shift by 0 to bits-1.
func (a *Asm) left(u, opc uint32, name string, bits int, d, m Reg, by int) {
	if by < 0 || by >= bits {
		a.fail("%s by %d of %d bits", name, by, bits)
	}
	a.shift(u, opc, name, bits, bits+by, d, m, by)
}

// shift encodes a shift by an immediate: imm is the seven bits L:imm6.
func (a *Asm) shift(u, opc uint32, name string, bits, imm int, d, m Reg, by int) {
	a.sizeField(bits, 64)
	f, q := a.widths(d, m)
	l := uint32(imm) >> 6 & 1
	w := 0xf2800010 | u<<24 | uint32(imm)&63<<16 | opc<<8 | l<<7
	a.word(classOf(q), w|q|vd(f[0])|vm(f[1]), "%s%d\t%v, %v, #%d", name, bits, d, m, by)
}

// VSHL shifts elements of m left into d. (Binutils writes .s where the manual
// has .i: the sign does not matter to a left shift.)
func (a *Asm) VSHL(bits int, d, m Reg, by int) { a.left(0, 5, "vshl.s", bits, d, m, by) }

// VSLI shifts elements of m left and inserts them into d, whose low by bits
// stay.
func (a *Asm) VSLI(bits int, d, m Reg, by int) { a.left(1, 5, "vsli.", bits, d, m, by) }

// VSHRU shifts elements of m right into d, zeros coming in.
func (a *Asm) VSHRU(bits int, d, m Reg, by int) { a.right(1, 0, "vshr.u", bits, d, m, by) }

// VSHRS shifts elements of m right into d, copies of the sign coming in.
func (a *Asm) VSHRS(bits int, d, m Reg, by int) { a.right(0, 0, "vshr.s", bits, d, m, by) }

// VSRI shifts elements of m right and inserts them into d, whose high by bits
// stay.
func (a *Asm) VSRI(bits int, d, m Reg, by int) { a.right(1, 4, "vsri.", bits, d, m, by) }

// VEXT sets d to the bytes from byte by of n on, continued with those of m.
func (a *Asm) VEXT(d, n, m Reg, by int) {
	f, q := a.widths(d, n, m)
	if by < 0 || by > 15 || q == 0 && by > 7 {
		a.fail("vext by %d bytes", by)
	}
	w := 0xf2b00000 | uint32(by&15)<<8 | q | vd(f[0]) | vn(f[1]) | vm(f[2])
	a.word(ClassPermute, w, "vext.8\t%v, %v, %v, #%d", d, n, m, by)
}

// VREV reverses the elements of bits within each group of group bits.
func (a *Asm) VREV(group, bits int, d, m Reg) {
	g, s := a.sizeField(group, 64), a.sizeField(bits, 32)
	if g <= s {
		a.fail("vrev%d.%d", group, bits)
	}
	a.two(ClassPermute, 0xf3b00000|s<<18|(3-g)<<7, fmt.Sprintf("vrev%d.%d", group, bits), d, m)
}

// VSWP exchanges d and m.
func (a *Asm) VSWP(d, m Reg) { a.two(ClassPermute, 0xf3b20000, "vswp", d, m) }

// pair encodes a permutation that writes both of its registers.
func (a *Asm) pair(base uint32, name string, bits int, d, m Reg) {
	if d == m {
		a.fail("%s of %v with itself", name, d)
	}
	a.two(ClassPermute, base|a.sizeField(bits, 32)<<18, fmt.Sprintf("%s.%d", name, bits), d, m)
}

// VTRN transposes the 2 by 2 matrices of elements of bits in d and m.
func (a *Asm) VTRN(bits int, d, m Reg) { a.pair(0xf3b20080, "vtrn", bits, d, m) }

// VUZP gathers the even elements of d and m in d and the odd ones in m. Its
// 32-bit form on D registers is VTRN's.
func (a *Asm) VUZP(bits int, d, m Q) { a.pair(0xf3b20100, "vuzp", bits, d, m) }

// VZIP interleaves the elements of d and m, the lower half in d.
func (a *Asm) VZIP(bits int, d, m Q) { a.pair(0xf3b20180, "vzip", bits, d, m) }

// VTBL looks up the bytes of m in the table of count (1 to 4) registers from
// first on. Its index is a register, its table registers: no memory is read.
func (a *Asm) VTBL(d, first D, count int, m D) {
	f, _ := a.widths(d, first, m)
	if count < 1 || count > 4 || int(first)+count > NumD {
		a.fail("vtbl of %d registers from %v", count, first)
	}
	w := 0xf3b00800 | uint32(count-1)&3<<8 | vd(f[0]) | vn(f[1]) | vm(f[2])
	a.word(ClassPermute, w, "vtbl.8\t%v, %s, %v", d, list(first, count), m)
}

// VMOVI8 sets every byte of d to imm.
func (a *Asm) VMOVI8(d Reg, imm uint8) {
	f, q := a.widths(d)
	w := 0xf2800e10 | uint32(imm)>>7<<24 | uint32(imm)>>4&7<<16 | uint32(imm)&15
	a.word(classOf(q), w|q|vd(f[0]), "vmov.i8\t%v, #%d\t@ 0x%02x", d, imm, imm)
}

// VDUP32 copies r to every 32-bit element of d.
func (a *Asm) VDUP32(d Reg, r R) {
	f, q := a.widths(d)
	a.core(r)
	w := uint32(0xee800b10) | q<<15 | f[0]&15<<16 | f[0]>>4<<7 | uint32(r)<<12
	a.word(classOf(q), w, "vdup.32\t%v, %v", d, r)
}

// VMOVRR sets d from two core registers, lo being its low 32 bits.
func (a *Asm) VMOVRR(d D, lo, hi R) {
	f, _ := a.widths(d)
	a.core(lo)
	a.core(hi)
	a.word(ClassD, 0xec400b10|uint32(hi)<<16|uint32(lo)<<12|vm(f[0]), "vmov\t%v, %v, %v", d, lo, hi)
}
