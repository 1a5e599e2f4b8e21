package neon

import "fmt"

// Mem is the address of a VLD1 or VST1: a core register, the alignment in
// bits that the instruction may rely on (0, 64, 128 or 256: it faults where
// the address is not so aligned), and what is added to the register after
// the access.
type Mem struct {
	Base  R
	Align int
	Post  Post
}

// Post is the change of the base register after an access.
type Post struct {
	// bytes moves the base past the bytes accessed; by adds a register.
	bytes bool
	by    R
	reg   bool
}

// Advance moves the base register past the bytes accessed.
var Advance = Post{bytes: true}

// By adds core register r to the base register after the access.
func By(r R) Post { return Post{reg: true, by: r} }

// At is the address in base, left as it is.
func At(base R) Mem { return Mem{Base: base} }

// Aligned is m with a promised alignment in bits.
func (m Mem) Aligned(bits int) Mem { m.Align = bits; return m }

// Then is m with a change of its base register.
func (m Mem) Then(p Post) Mem { m.Post = p; return m }

// list prints count registers from first on, as binutils does.
func list(first D, count int) string {
	if count == 1 {
		return fmt.Sprintf("{%v}", first)
	}
	return fmt.Sprintf("{%v-%v}", first, first+D(count)-1)
}

// core refuses the core registers that generated code must not name as an
// operand: g, the assembler's scratch register, and the program counter.
func (a *Asm) core(r R) {
	if r == R10 || r == R11 || r >= R15 {
		a.fail("core register %v is not for use", r)
	}
}

// multiple encodes VLD1 and VST1 of one to four consecutive D registers.
func (a *Asm) multiple(c Class, base uint32, name string, bits int, first D, count int, m Mem) {
	f, _ := a.widths(first)
	a.core(m.Base)
	if count < 1 || count > 4 || int(first)+count > NumD {
		a.fail("%s of %d registers from %v", name, count, first)
		return
	}
	kind := [...]uint32{1: 7, 2: 10, 3: 6, 4: 2}[count]
	align, ok := map[int]uint32{0: 0, 64: 1, 128: 2, 256: 3}[m.Align]
	if !ok || m.Align > 64*count || m.Align == 128 && count == 3 {
		a.fail("%s of %d registers aligned to %d bits", name, count, m.Align)
	}
	rm, text := uint32(15), fmt.Sprintf("[%v", m.Base)
	if m.Align != 0 {
		text += fmt.Sprintf(" :%d", m.Align)
	}
	text += "]"
	switch {
	case m.Post.bytes:
		rm, text = 13, text+"!"
	case m.Post.reg:
		a.core(m.Post.by)
		if m.Post.by == R13 {
			a.fail("the stack pointer as an index")
		}
		rm, text = uint32(m.Post.by), fmt.Sprintf("%s, %v", text, m.Post.by)
	}
	w := base | vd(f[0]) | uint32(m.Base)<<16 | kind<<8 | a.sizeField(bits, 64)<<6 | align<<4 | rm
	a.word(c, w, "%s.%d\t%s, %s", name, bits, list(first, count), text)
}

// VLD1 loads count (1 to 4) consecutive D registers. The address must be a
// multiple of the element size unless unaligned access is on (SCTLR.A = 0);
// elements of 8 bits have no such demand.
func (a *Asm) VLD1(bits int, first D, count int, m Mem) {
	a.multiple(ClassLoad, 0xf4200000, "vld1", bits, first, count, m)
}

// VST1 stores count (1 to 4) consecutive D registers.
func (a *Asm) VST1(bits int, first D, count int, m Mem) {
	a.multiple(ClassStore, 0xf4000000, "vst1", bits, first, count, m)
}

// block encodes VLDM and VSTM, increment after.
func (a *Asm) block(c Class, base uint32, name string, r R, advance bool, first D, count int) {
	f, _ := a.widths(first)
	a.core(r)
	if count < 1 || count > 16 || int(first)+count > NumD {
		a.fail("%s of %d registers from %v", name, count, first)
		return
	}
	bang := ""
	if advance {
		base, bang = base|1<<21, "!"
	}
	w := base | vd(f[0]) | uint32(r)<<16 | uint32(2*count)
	a.word(c, w, "%s\t%v%s, %s", name, r, bang, list(first, count))
}

// VLDM loads count (1 to 16) consecutive D registers from r, a multiple of 4,
// and moves r past them if advance is set.
func (a *Asm) VLDM(r R, advance bool, first D, count int) {
	a.block(ClassLoad, 0xec900b00, "vldmia", r, advance, first, count)
}

// VSTM stores count (1 to 16) consecutive D registers to r, a multiple of 4,
// and moves r past them if advance is set.
func (a *Asm) VSTM(r R, advance bool, first D, count int) {
	a.block(ClassStore, 0xec800b00, "vstmia", r, advance, first, count)
}

// VLDR loads d from r plus offset, a multiple of 4 from -1020 to 1020.
func (a *Asm) VLDR(d D, r R, offset int) { a.single(ClassLoad, 0xed100b00, "vldr", d, r, offset) }

// VSTR stores d to r plus offset, a multiple of 4 from -1020 to 1020.
func (a *Asm) VSTR(d D, r R, offset int) { a.single(ClassStore, 0xed000b00, "vstr", d, r, offset) }

// single encodes VLDR and VSTR.
func (a *Asm) single(c Class, base uint32, name string, d D, r R, offset int) {
	f, _ := a.widths(d)
	a.core(r)
	if offset%4 != 0 || offset < -1020 || offset > 1020 {
		a.fail("%s with offset %d", name, offset)
	}
	up, n := uint32(1), offset
	if offset < 0 {
		up, n = 0, -offset
	}
	at := fmt.Sprintf("[%v, #%d]", r, offset)
	if offset == 0 {
		at = fmt.Sprintf("[%v]", r)
	}
	a.word(c, base|up<<23|vd(f[0])|uint32(r)<<16|uint32(n/4)&255, "%s\t%v, %s", name, d, at)
}
