package neon

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// everything emits every instruction with operands drawn from rng.
func everything(a *Asm, rng *rand.Rand) {
	q := func() Q { return Q(rng.IntN(NumQ)) }
	d := func() D { return D(rng.IntN(NumD)) }
	r := func() R { return []R{R0, R1, R5, R9, R12, R14}[rng.IntN(6)] }
	twoQ := func() (Q, Q) { x := q(); return x, Q((int(x) + 1 + rng.IntN(NumQ-1)) % NumQ) }
	twoD := func() (D, D) { x := d(); return x, D((int(x) + 1 + rng.IntN(NumD-1)) % NumD) }
	for _, op := range []func(d, n, m Reg){a.VAND, a.VBIC, a.VORR, a.VORN, a.VEOR, a.VBSL, a.VBIT, a.VBIF} {
		n, m := twoQ()
		op(q(), n, m)
		nd, md := twoD()
		op(d(), nd, md)
	}
	for _, op := range []func(d, m Reg){a.VMOV, a.VMVN, a.VSWP} {
		op(twoRegs(twoQ()))
		op(twoRegs(twoD()))
	}
	for _, bits := range []int{8, 16, 32, 64} {
		a.VADD(bits, q(), q(), q())
		a.VSUB(bits, d(), d(), d())
		by := rng.IntN(bits)
		for _, op := range []func(int, Reg, Reg, int){a.VSHL, a.VSLI} {
			op(bits, q(), q(), by)
			op(bits, d(), d(), by)
		}
		for _, op := range []func(int, Reg, Reg, int){a.VSHRU, a.VSHRS, a.VSRI} {
			op(bits, q(), q(), by+1)
			op(bits, d(), d(), by+1)
		}
		for count := 1; count <= 4; count++ {
			first := D(rng.IntN(NumD - count))
			a.VLD1(bits, first, count, At(r()))
			a.VLD1(bits, first, count, At(r()).Aligned(64).Then(Advance))
			a.VST1(bits, first, count, At(r()).Then(By(r())))
		}
		a.VST1(bits, D(rng.IntN(30)), 2, At(r()).Aligned(128))
		a.VST1(bits, D(rng.IntN(28)), 4, At(r()).Aligned(256).Then(Advance))
	}
	for _, bits := range []int{8, 16, 32} {
		a.VTST(bits, q(), q(), q())
		x, y := twoQ()
		a.VTRN(bits, x, y)
		a.VUZP(bits, x, y)
		a.VZIP(bits, x, y)
		a.VREV(64, bits, q(), q())
	}
	a.VREV(32, 16, d(), d())
	a.VREV(32, 8, q(), q())
	a.VREV(16, 8, d(), d())
	a.VEXT(q(), q(), q(), rng.IntN(16))
	a.VEXT(d(), d(), d(), rng.IntN(8))
	a.VMULLP8(q(), d(), d())
	for count := 1; count <= 4; count++ {
		a.VTBL(d(), D(rng.IntN(NumD-count)), count, d())
	}
	a.VMOVI8(q(), uint8(rng.IntN(256)))
	a.VMOVI8(d(), uint8(rng.IntN(256)))
	a.VDUP32(q(), r())
	a.VDUP32(d(), r())
	a.VMOVRR(d(), r(), r())
	for _, advance := range []bool{false, true} {
		count := 1 + rng.IntN(16)
		a.VLDM(r(), advance, D(rng.IntN(NumD-count)), count)
		a.VSTM(r(), advance, D(rng.IntN(NumD-count)), count)
	}
	a.VLDR(d(), r(), 4*(rng.IntN(511)-255))
	a.VSTR(d(), r(), 4*(rng.IntN(511)-255))
	scalar(a, rng)
}

// scalar emits every scalar instruction.
func scalar(a *Asm, rng *rand.Rand) {
	all := []R{R0, R1, R5, R9, R11, R12, R14}
	r := func() R { return all[rng.IntN(len(all))] }
	even := func() R { return R(2 * rng.IntN(5)) }
	at := func() R { return []R{R11, R12, R13, R14}[rng.IntN(4)] }
	a.ADD(R11, R13, Imm(8))
	for _, op := range []func(d, n R, m Operand){a.AND, a.EOR, a.SUB, a.SUBS, a.SUBEQ, a.ADD} {
		op(r(), r(), r())
		op(r(), r(), Ror{r(), 1 + rng.IntN(31)})
		op(r(), R13, Imm(rng.IntN(256)<<(2*rng.IntN(12))))
	}
	a.CMP(r(), r())
	a.CMP(r(), Imm(rng.IntN(256)))
	a.Branch("BNE", "next")
	a.Label("next")
	a.LDR(r(), at(), rng.IntN(8191)-4095)
	a.STR(r(), at(), rng.IntN(8191)-4095)
	a.LDRD(even(), at(), rng.IntN(511)-255)
	a.LDRDPost(even(), at(), 1+rng.IntN(255))
	a.STRD(even(), at(), rng.IntN(511)-255)
}

func twoRegs[T Reg](x, y T) (Reg, Reg) { return x, y }

// disassemble returns what binutils prints for each word.
func disassemble(t *testing.T, words []uint32) []string {
	t.Helper()
	const tool = "arm-linux-gnueabihf-objdump"
	if _, err := exec.LookPath(tool); err != nil {
		t.Fatalf("%s is needed: install binutils-arm-linux-gnueabihf", tool)
	}
	name := filepath.Join(t.TempDir(), "words")
	var raw bytes.Buffer
	for _, w := range words {
		binary.Write(&raw, binary.LittleEndian, w)
	}
	if err := os.WriteFile(name, raw.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(tool, "-D", "-b", "binary", "-m", "arm", name).Output()
	if err != nil {
		t.Fatal(err)
	}
	line := regexp.MustCompile(`^\s*[0-9a-f]+:\t[0-9a-f]{8} \t(.*)$`)
	var texts []string
	for s := bufio.NewScanner(bytes.NewReader(out)); s.Scan(); {
		if m := line.FindStringSubmatch(s.Text()); m != nil {
			texts = append(texts, m[1])
		}
	}
	return texts
}

var remark = regexp.MustCompile(`\s*@ 0x.*$`)

// plain drops binutils' remark after an immediate and evens out the blanks.
func plain(s string) string {
	return strings.Join(strings.Fields(remark.ReplaceAllString(s, "")), " ")
}

// TestDisassembly compares the text of every instruction with what binutils
// reads in its word.
func TestDisassembly(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var a Asm
	for range 200 {
		everything(&a, rng)
	}
	if a.Err() != nil {
		t.Fatal(a.Err())
	}
	var words []uint32
	for _, i := range a.Insts() {
		words = append(words, i.Word)
	}
	texts := disassemble(t, words)
	if len(texts) != len(words) {
		t.Fatalf("%d words, %d lines of disassembly", len(words), len(texts))
	}
	for n, i := range a.Insts() {
		if got, want := plain(texts[n]), plain(i.Text); got != want {
			t.Errorf("0x%08x: binutils reads %q, the encoder says %q", i.Word, got, want)
		}
	}
	t.Logf("%d instructions", len(words))
}

// TestRefusals gives each check of an operand a wrong one.
func TestRefusals(t *testing.T) {
	for _, c := range []struct {
		why string
		do  func(*Asm)
	}{
		{"widths differ", func(a *Asm) { a.VEOR(Q(0), Q(1), D(2)) }},
		{"no such q", func(a *Asm) { a.VAND(Q(16), Q(0), Q(0)) }},
		{"no such d", func(a *Asm) { a.VMOV(D(32), D(0)) }},
		{"a copy in disguise", func(a *Asm) { a.VORR(Q(0), Q(1), Q(1)) }},
		{"left shift by the size", func(a *Asm) { a.VSHL(8, Q(0), Q(1), 8) }},
		{"right shift by nothing", func(a *Asm) { a.VSHRU(8, Q(0), Q(1), 0) }},
		{"shift of odd elements", func(a *Asm) { a.VSHL(24, Q(0), Q(1), 1) }},
		{"byte position past a d", func(a *Asm) { a.VEXT(D(0), D(1), D(2), 8) }},
		{"reversal within an element", func(a *Asm) { a.VREV(16, 16, Q(0), Q(1)) }},
		{"permutation with itself", func(a *Asm) { a.VTRN(8, Q(3), Q(3)) }},
		{"table past d31", func(a *Asm) { a.VTBL(D(0), D(30), 3, D(1)) }},
		{"list past d31", func(a *Asm) { a.VLD1(8, D(30), 4, At(R0)) }},
		{"too long a list", func(a *Asm) { a.VLDM(R0, false, D(0), 17) }},
		{"alignment beyond the access", func(a *Asm) { a.VLD1(8, D(0), 2, At(R0).Aligned(256)) }},
		{"g as a base", func(a *Asm) { a.VLD1(8, D(0), 2, At(R10)) }},
		{"the assembler's scratch register as a base", func(a *Asm) { a.VLDM(R11, true, D(0), 2) }},
		{"the stack pointer as an index", func(a *Asm) { a.VST1(8, D(0), 1, At(R0).Then(By(R13))) }},
		{"offset out of reach", func(a *Asm) { a.VLDR(D(0), R0, 1024) }},
		{"offset not of words", func(a *Asm) { a.VSTR(D(0), R0, 6) }},
		{"g as an operand", func(a *Asm) { a.ADD(R0, R1, R10) }},
		{"g as a result", func(a *Asm) { a.EOR(R10, R1, R2) }},
		{"the program counter", func(a *Asm) { a.LDR(R0, R15, 8) }},
		{"the stack pointer written", func(a *Asm) { a.SUB(R13, R13, Imm(8)) }},
		{"the scratch register read first", func(a *Asm) { a.CMP(R11, Imm(0)) }},
		{"the scratch register across a line of Go's", func(a *Asm) { a.LDR(R11, R0, 0); a.Go("NOP"); a.STR(R11, R0, 4) }},
		{"the scratch register of another function", func(a *Asm) { a.LDR(R11, R0, 0); a.Func("f", "func f()", 0, 0); a.LDRD(R0, R11, 4) }},
		{"nine bits", func(a *Asm) { a.ADD(R0, R1, Imm(257)) }},
		{"eight bits at an odd place", func(a *Asm) { a.ADD(R0, R1, Imm(0x1fe)) }},
		{"a turn by nothing", func(a *Asm) { a.EOR(R0, R1, Ror{R2, 0}) }},
		{"a pair from an odd register", func(a *Asm) { a.LDRD(R1, R12, 0) }},
		{"a pair with g", func(a *Asm) { a.LDRD(R10, R12, 0) }},
		{"a pair over its address", func(a *Asm) { a.LDRD(R8, R9, 0) }},
		{"a pair too far", func(a *Asm) { a.STRD(R8, R12, 256) }},
		{"a step of nothing", func(a *Asm) { a.LDRDPost(R8, R12, 0) }},
		{"a word too far", func(a *Asm) { a.STR(R8, R12, -4096) }},
	} {
		var a Asm
		c.do(&a)
		if a.Err() == nil {
			t.Errorf("%s: accepted", c.why)
		}
		if _, err := a.File("test"); err == nil {
			t.Errorf("%s: a file came of it", c.why)
		}
	}
}

// TestFile shows the form of an emitted file.
func TestFile(t *testing.T) {
	var a Asm
	a.Func("add", "func add(p *[16]byte)", 0, 4)
	a.Go("MOVW p+0(FP), R0")
	a.VLD1(8, Q(0).Lo(), 2, At(R0))
	a.VADD(32, Q(0), Q(0), Q(0))
	a.Go("RET")
	got, err := a.File("a test")
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("%s\n\n%s\n\n%s\n%s\n\t%s\n\t%s\n\t%s\n\t%s\n",
		"// Code generated by a test. DO NOT EDIT.", `#include "textflag.h"`,
		"// func add(p *[16]byte)", "TEXT ·add(SB), NOSPLIT, $0-4",
		"MOVW p+0(FP), R0", "WORD $0xf4200a0f // vld1.8 {d0-d1}, [r0]",
		"WORD $0xf2200840 // vadd.i32 q0, q0, q0", "RET")
	if string(got) != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
