#include "textflag.h"

#define ISB WORD $0xf57ff06f
#define DSB WORD $0xf57ff04f

// start(config in R0). It uses no stack and no memory.
TEXT ·start(SB),NOSPLIT|NOFRAME,$0-0
	MOVW	R0, R12
	BL	nitro∕board∕kernel·cachesOff(SB)

	MRC	15, 0, R0, C1, C0, 1	// ACTLR
	ORR	$0x40, R0		// SMP: or the caches stay off (DDI 0464F 4.3.31)
	MCR	15, 0, R0, C1, C0, 1
	MOVW	$0x00f00000, R0		// CPACR: coprocessors 10 and 11 for all modes
	MCR	15, 0, R0, C1, C0, 2
	ISB
	MOVW	$0x40000000, R1
	WORD	$0xeee81a10		// vmsr fpexc, r1: EN

	MOVW	R12, R0
	B	nitro∕board∕kernel·enter(SB)
