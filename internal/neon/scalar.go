package neon

import (
	"fmt"
	"math/bits"
)

// Operand is the second operand of a scalar instruction: a register R, a
// register turned right, Ror, or a number, Imm (DDI 0406C, A5.2).
type Operand interface {
	// operand encodes the low twelve bits and the I bit, and prints them.
	operand(a *Asm) (w uint32, text string)
}

// Ror is a register turned right by 1 to 31 bits.
type Ror struct {
	Reg R
	By  int
}

// Imm is a number: eight bits, turned by an even number of bits.
type Imm uint32

func (r R) operand(a *Asm) (uint32, string) {
	a.reads(r)
	return uint32(r), r.String()
}

func (r Ror) operand(a *Asm) (uint32, string) {
	a.reads(r.Reg)
	if r.By < 1 || r.By > 31 {
		a.fail("ror by %d", r.By)
	}
	return uint32(r.By)<<7 | 3<<5 | uint32(r.Reg), fmt.Sprintf("%v, ror #%d", r.Reg, r.By)
}

func (n Imm) operand(a *Asm) (uint32, string) {
	for turn := range 16 {
		if v := bits.RotateLeft32(uint32(n), 2*turn); v < 256 {
			return 1<<25 | uint32(turn)<<8 | v, fmt.Sprintf("#%d", n)
		}
	}
	a.fail("#%d is not eight bits turned by an even number", n)
	return 0, ""
}

// reads refuses core registers that a scalar instruction must not name: g and
// the program counter, and the assembler's scratch register unless it holds
// what an instruction before has put there. Lines for Go's assembler, save
// those of Branch, may change it.
func (a *Asm) reads(r R) {
	if r == R10 || r >= R15 || r == R11 && !a.held {
		a.fail("core register %v is not for use", r)
	}
}

// writes is reads for a register that is written.
func (a *Asm) writes(r R) {
	if r == R11 {
		a.held = true
	}
	if r == R13 {
		a.fail("the stack pointer is not to be written")
	}
	a.reads(r)
}

// Branch emits a branch of Go's assembler to a label, by the name that Go's
// assembler gives it: it leaves all registers alone.
func (a *Asm) Branch(name, label string) { a.print("\t%s %s\n", name, label) }

// The conditions of scalar instructions.
const (
	equal  = 0x0 << 28
	always = 0xe << 28
)

// process encodes a data-processing instruction with a result.
func (a *Asm) process(base uint32, name string, d, n R, m Operand) {
	w, text := m.operand(a)
	a.reads(n)
	a.writes(d)
	a.word(ClassScalar, base|uint32(n)<<16|uint32(d)<<12|w, "%s\t%v, %v, %s", name, d, n, text)
}

// AND sets d to n AND m.
func (a *Asm) AND(d, n R, m Operand) { a.process(always|0<<21, "and", d, n, m) }

// EOR sets d to n XOR m.
func (a *Asm) EOR(d, n R, m Operand) { a.process(always|1<<21, "eor", d, n, m) }

// SUB sets d to n - m.
func (a *Asm) SUB(d, n R, m Operand) { a.process(always|2<<21, "sub", d, n, m) }

// SUBS sets d to n - m, and the flags.
func (a *Asm) SUBS(d, n R, m Operand) { a.process(always|2<<21|1<<20, "subs", d, n, m) }

// SUBEQ sets d to n - m if the flags say equal.
func (a *Asm) SUBEQ(d, n R, m Operand) { a.process(equal|2<<21, "subeq", d, n, m) }

// ADD sets d to n + m.
func (a *Asm) ADD(d, n R, m Operand) { a.process(always|4<<21, "add", d, n, m) }

// CMP sets the flags by n - m.
func (a *Asm) CMP(n R, m Operand) {
	w, text := m.operand(a)
	a.reads(n)
	a.word(ClassScalar, always|10<<21|1<<20|uint32(n)<<16|w, "cmp\t%v, %s", n, text)
}

// upBit says that an offset is added.
const upBit = 1 << 23

// offset is the U bit, the magnitude and the text of an offset up to max.
func (a *Asm) offset(by, max int) (up, n uint32, text string) {
	if by < -max || by > max {
		a.fail("offset %d", by)
	}
	if by < 0 {
		return 0, uint32(-by), fmt.Sprintf(", #%d", by)
	}
	if by > 0 {
		text = fmt.Sprintf(", #%d", by)
	}
	return upBit, uint32(by), text
}

// LDR loads t from n plus an offset of -4095 to 4095 bytes.
func (a *Asm) LDR(t, n R, by int) {
	a.writes(t)
	a.memory(1<<20, "ldr", t, n, by)
}

// STR stores t at n plus an offset of -4095 to 4095 bytes.
func (a *Asm) STR(t, n R, by int) {
	a.reads(t)
	a.memory(0, "str", t, n, by)
}

// memory encodes LDR and STR.
func (a *Asm) memory(load uint32, name string, t, n R, by int) {
	a.reads(n)
	up, imm, text := a.offset(by, 4095)
	a.word(ClassScalar, always|0x05000000|load|up|uint32(n)<<16|uint32(t)<<12|imm, "%s\t%v, [%v%s]", name, t, n, text)
}

// double encodes LDRD and STRD with the bits in base that tell them apart.
// Binutils prints the first register alone.
func (a *Asm) double(base uint32, name, form string, t, n R, by int) {
	a.reads(n)
	if t%2 != 0 || t > R8 || n/2 == t/2 {
		a.fail("%s of %v and the one after it, at %v", name, t, n)
	}
	up, imm, text := a.offset(by, 255)
	w := always | base | up | uint32(n)<<16 | uint32(t)<<12 | imm>>4<<8 | imm&15
	a.word(ClassScalar, w, "%s\t%v, "+form, name, t, n, text)
}

const (
	offsetForm = "[%v%s]"
	postForm   = "[%v]%s"
)

// LDRD loads t, of even number up to r8, and the register after it from n
// plus an offset of -255 to 255 bytes. The address is a multiple of 4.
func (a *Asm) LDRD(t, n R, by int) { a.double(0x014000d0, "ldrd", offsetForm, t, n, by) }

// LDRDPost loads t and the register after it from n, and adds by to n after
// that, 1 to 255 or -255 to -1.
func (a *Asm) LDRDPost(t, n R, by int) {
	if by == 0 {
		a.fail("ldrd that adds nothing")
	}
	a.double(0x004000d0, "ldrd", postForm, t, n, by)
}

// STRD stores t and the register after it at n plus an offset, as LDRD loads.
func (a *Asm) STRD(t, n R, by int) { a.double(0x014000f0, "strd", offsetForm, t, n, by) }
