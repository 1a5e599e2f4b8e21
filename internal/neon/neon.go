// Package neon encodes ARMv7 Advanced SIMD (NEON) instructions, and the scalar
// ones that go between them, for Go assembly files.
//
// Go's ARM assembler has no NEON mnemonics, so NEON code has to be written as
// WORD directives. This package is the build-time library behind the
// generators that write such files: a generator names registers and
// operations in Go, the package checks every operand, encodes it, and prints
// the word with the readable instruction beside it.
//
// Encodings are those of the ARM Architecture Reference Manual, ARMv7-A and
// ARMv7-R edition (DDI 0406C), chapter A7, "Advanced SIMD and floating-point
// instruction encoding", A1 form. Only what straight-line integer code needs
// is here: no floating point, no structure loads (VLD2 to VLD4), no
// comparisons, no saturating arithmetic. Scalar instructions can be left to
// Go's own assembler, through Asm.Go; the few that are encoded here (A5.2,
// A8.8) are for code that needs all registers, R11 among them, or pairs of
// them (LDRD), which that assembler does not have.
package neon

import "fmt"

// D is a 64-bit NEON register, d0 to d31.
type D uint8

// Q is a 128-bit NEON register, q0 to q15: d2n (low half) and d2n+1.
type Q uint8

// R is an ARM core register, r0 to r15.
type R uint8

// Core registers by the names of Go's assembler.
const (
	R0 R = iota
	R1
	R2
	R3
	R4
	R5
	R6
	R7
	R8
	R9
	R10 // g, the goroutine pointer: never to be written
	R11 // scratch of Go's assembler: any line for it may change this register
	R12
	R13 // stack pointer
	R14
	R15
)

// NumQ and NumD are the sizes of the register file.
const (
	NumQ = 16
	NumD = 32
)

// Lo is the low half of q.
func (q Q) Lo() D { return D(2 * q) }

// Hi is the high half of q.
func (q Q) Hi() D { return D(2*q + 1) }

// String is the register's name as binutils prints it.
func (d D) String() string { return fmt.Sprintf("d%d", uint8(d)) }

// String is the register's name as binutils prints it.
func (q Q) String() string { return fmt.Sprintf("q%d", uint8(q)) }

// String is the register's name as binutils prints it.
func (r R) String() string {
	switch r {
	case R10:
		return "sl"
	case R11:
		return "fp"
	case R12:
		return "ip"
	case R13:
		return "sp"
	case R14:
		return "lr"
	case R15:
		return "pc"
	}
	return fmt.Sprintf("r%d", uint8(r))
}

// Reg is a NEON register of either width. Both operands of one instruction
// must have the same width, save where a method says otherwise.
type Reg interface {
	fmt.Stringer
	// field is the 5-bit register number of the encoding (a D number) and
	// whether the register is a Q.
	field() (n uint32, quad bool)
}

func (d D) field() (uint32, bool) { return uint32(d), false }
func (q Q) field() (uint32, bool) { return uint32(q) * 2, true }
