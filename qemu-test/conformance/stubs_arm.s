#include "textflag.h"

// func pointer(addr uintptr) unsafe.Pointer
TEXT ·pointer(SB), NOSPLIT, $0-8
	MOVW	addr+0(FP), R0
	MOVW	R0, ret+4(FP)
	RET

// func load8(addr uintptr) uint8
TEXT ·load8(SB), NOSPLIT, $0-5
	MOVW	addr+0(FP), R0
	MOVBU	(R0), R1
	MOVB	R1, ret+4(FP)
	RET

// func store8(addr uintptr, v uint8)
TEXT ·store8(SB), NOSPLIT, $0-5
	MOVW	addr+0(FP), R0
	MOVBU	v+4(FP), R1
	MOVB	R1, (R0)
	RET

// func jump(addr uintptr)
TEXT ·jump(SB), $4-4
	MOVW	addr+0(FP), R0
	BL	(R0)
	RET

// Go's assembler names D0-D15 only, so moves of all 32 are spelled as words.
#define VLDMIA_R0_D0_D15 WORD $0xecb00b20
#define VLDMIA_R0_D16_D31 WORD $0xecf00b20
#define VSTMIA_R0_D0_D15 WORD $0xeca00b20
#define VSTMIA_R0_D16_D31 WORD $0xece00b20
#define VMRS_FPSCR_R1 WORD $0xeef11a10
#define VMSR_R1_FPSCR WORD $0xeee11a10

// func holdRegisters(in, out *registers, loops uint32)
TEXT ·holdRegisters(SB), NOSPLIT, $8-12
	VMRS_FPSCR_R1
	MOVW	R1, fpscr-4(SP)
	MOVW	in+0(FP), R0
	ADD	$56, R0
	VLDMIA_R0_D0_D15
	VLDMIA_R0_D16_D31
	MOVW	in+0(FP), R0
	MOVW	48(R0), R1
	VMSR_R1_FPSCR
	MOVM.IA	(R0), [R1-R9,R11,R12,R14]
	MOVW	loops+8(FP), R0
hold:
	SUB.S	$1, R0
	BNE	hold
	MOVW	out+4(FP), R0
	MOVM.IA	[R1-R9,R11,R12,R14], (R0)
	VMRS_FPSCR_R1
	MOVW	R1, 48(R0)
	ADD	$56, R0
	VSTMIA_R0_D0_D15
	VSTMIA_R0_D16_D31
	MOVW	fpscr-4(SP), R1
	VMSR_R1_FPSCR
	RET

// func callKeeps(nr uint32, in, out *registers) (r0 uint32)
TEXT ·callKeeps(SB), NOSPLIT, $8-16
	VMRS_FPSCR_R1
	MOVW	R1, fpscr-4(SP)
	MOVW	in+4(FP), R0
	ADD	$56, R0
	VLDMIA_R0_D0_D15
	VLDMIA_R0_D16_D31
	MOVW	in+4(FP), R0
	MOVW	48(R0), R1
	VMSR_R1_FPSCR
	MOVM.IA	(R0), [R1-R9,R11,R12,R14]
	MOVW	nr+0(FP), R7
	MOVW	$0, R0
	SWI	$0
	MOVW	R0, r0-8(SP)
	MOVW	out+8(FP), R0
	MOVM.IA	[R1-R9,R11,R12,R14], (R0)
	VMRS_FPSCR_R1
	MOVW	R1, 48(R0)
	ADD	$56, R0
	VSTMIA_R0_D0_D15
	VSTMIA_R0_D16_D31
	MOVW	fpscr-4(SP), R1
	VMSR_R1_FPSCR
	MOVW	r0-8(SP), R0
	MOVW	R0, r0+12(FP)
	RET

// func rawClone(flags, stack uintptr, b uintptr) int32
TEXT ·rawClone(SB), NOSPLIT, $0-16
	MOVW	flags+0(FP), R0
	MOVW	stack+4(FP), R1
	MOVW	b+8(FP), R8
	MOVW	$0, R2
	MOVW	$0, R3
	MOVW	$0, R4
	MOVW	$0x55aa1234, R5
	MOVW	$0x9abcdef0, R6
	WORD	$0xec465b18	// vmov d8, r5, r6
	MOVW	$120, R7	// clone
	SWI	$0
	CMP	$0, R0
	BEQ	child
	MOVW	R0, ret+12(FP)
	RET
child:
	MOVW	R0, 24(R8)
	MOVW	R5, 0(R8)
	MOVW	R6, 4(R8)
	MOVW	R13, 12(R8)
	WORD	$0xec565b18	// vmov r5, r6, d8
	MOVW	R5, 16(R8)
	MOVW	R6, 20(R8)
	MOVW	$224, R7	// gettid
	SWI	$0
	MOVW	R0, 8(R8)
	MOVW	$1, R0
	WORD	$0xf57ff05f	// dmb sy
	MOVW	R0, 28(R8)
	ADD	$28, R8, R0
	MOVW	$129, R1	// FUTEX_WAKE_PRIVATE
	MOVW	$1, R2
	MOVW	$240, R7	// futex
	SWI	$0
	MOVW	$0, R0
	MOVW	$1, R7	// exit
	SWI	$0
	WORD	$0xe7f000f0	// udf: exit does not return

// A signal handler as Linux calls it: R0 = signal, R1 = siginfo, R2 = ucontext,
// LR = the return trampoline. R4-R11 are kept.
TEXT noteSignal<>(SB), NOSPLIT|NOFRAME, $0
	MOVM.DB.W	[R4,R5,R6,R7,R8,R14], (R13)
	MOVW	$·note(SB), R4
	MOVW	R0, 4(R4)
	MOVW	8(R1), R3
	MOVW	R3, 8(R4)
	MOVW	12(R1), R3
	MOVW	R3, 60(R4)
	MOVW	R13, 12(R4)
	MOVW	R2, 56(R4)
	MOVW	$0, R0
	MOVW	$0, R1
	ADD	$16, R4, R2
	MOVW	$8, R3
	MOVW	$175, R7	// rt_sigprocmask
	SWI	$0
	MOVW	$0, R0
	ADD	$24, R4, R1
	MOVW	$186, R7	// sigaltstack
	SWI	$0
	ADD	$40, R4, R0
	MOVW	$0, R1
	SWI	$0
	MOVW	R0, 52(R4)
	MOVW	0(R4), R0
	ADD	$1, R0
	WORD	$0xf57ff05f	// dmb sy
	MOVW	R0, 0(R4)
	MOVM.IA.W	(R13), [R4,R5,R6,R7,R8,R14]
	B	(R14)

TEXT emptySignal<>(SB), NOSPLIT|NOFRAME, $0
	B	(R14)

// func noteSignalPC() uintptr
TEXT ·noteSignalPC(SB), NOSPLIT, $0-4
	MOVW	$noteSignal<>(SB), R0
	MOVW	R0, ret+0(FP)
	RET

// func emptySignalPC() uintptr
TEXT ·emptySignalPC(SB), NOSPLIT, $0-4
	MOVW	$emptySignal<>(SB), R0
	MOVW	R0, ret+0(FP)
	RET
