#include "textflag.h"

#define ISB WORD $0xf57ff06f

// func ticks() uint64
TEXT ·ticks(SB),NOSPLIT,$0-8
	ISB
	WORD	$0xec510f1e		// mrrc p15, 1, r0, r1, c14: CNTVCT
	MOVW	R0, ret_lo+0(FP)
	MOVW	R1, ret_hi+4(FP)
	RET

// func frequency() uint32
TEXT ·frequency(SB),NOSPLIT,$0-4
	MRC	15, 0, R0, C14, C0, 0	// CNTFRQ
	MOVW	R0, ret+0(FP)
	RET

// func spin(n uint32)
TEXT ·spin(SB),NOSPLIT,$0-4
	MOVW	n+0(FP), R0
again:
	SUB.S	$1, R0
	BNE	again
	RET
