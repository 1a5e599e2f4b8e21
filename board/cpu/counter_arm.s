#include "textflag.h"

// func countable() uint32
TEXT ·countable(SB),NOSPLIT,$0-4
	MRC	15, 0, R0, C9, C14, 0	// PMUSERENR, which User mode may read
	MOVW	R0, ret+0(FP)
	RET

// func instructions() uint32
TEXT ·instructions(SB),NOSPLIT,$0-4
	MRC	15, 0, R0, C9, C13, 2	// PMXEVCNTR
	MOVW	R0, ret+0(FP)
	RET
