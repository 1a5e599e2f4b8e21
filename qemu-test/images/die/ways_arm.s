#include "textflag.h"

// func spin(word uint32)
TEXT ·spin(SB),NOSPLIT,$0-4
	MOVW	word+0(FP), R0
	MOVW	R0, R1
	MOVW	R0, R2
	MOVW	R0, R3
	MOVW	R0, R4
	MOVW	R0, R5
	MOVW	R0, R6
	MOVW	R0, R7
	MOVW	R0, R8
	MOVW	R0, R9
	MOVW	R0, R11
	MOVW	R0, R12
	MOVW	R0, R14
again:
	B	again

// func smash(word uint32)
TEXT ·smash(SB),NOSPLIT,$4-4
	MOVW	word+0(FP), R0
	MOVW	R0, 0(R13)	// where LR was saved
	MOVW	$0, R1
	MOVW	R0, 0(R1)
	RET
