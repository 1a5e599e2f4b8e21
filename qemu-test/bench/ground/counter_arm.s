#include "textflag.h"

// The assembler does not know the architected timer's registers, so their reads
// are written as words (ARM DDI 0406C, B4.1 and B8.2). ISB keeps a read in its
// place among the instructions around it.

// func counter() uint64
TEXT ·counter(SB),NOSPLIT,$0-8
	WORD	$0xf57ff06f	// isb
	WORD	$0xec510f1e	// mrrc p15, 1, r0, r1, c14: CNTVCT
	MOVW	R0, ret_lo+0(FP)
	MOVW	R1, ret_hi+4(FP)
	RET

// func frequency() uint32
TEXT ·frequency(SB),NOSPLIT,$0-4
	WORD	$0xee1e0f10	// mrc p15, 0, r0, c14, c0, 0: CNTFRQ
	MOVW	R0, ret+0(FP)
	RET

// func spin(n uint32)
TEXT ·spin(SB),NOSPLIT,$0-4
	MOVW	n+0(FP), R6
again:
	SUB.S	$1, R6
	BNE	again
	RET

// func traps(n uint32, what *call)
TEXT ·traps(SB),NOSPLIT,$0-8
	MOVW	n+0(FP), R6
	MOVW	what+4(FP), R8
again:
	MOVM.IA	(R8), [R0-R2, R7]
	SWI	$0
	SUB.S	$1, R6
	BNE	again
	RET

// func noTraps(n uint32, what *call)
TEXT ·noTraps(SB),NOSPLIT,$0-8
	MOVW	n+0(FP), R6
	MOVW	what+4(FP), R8
again:
	MOVM.IA	(R8), [R0-R2, R7]
	SUB.S	$1, R6
	BNE	again
	RET
