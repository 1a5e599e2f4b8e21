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

	// Event counter 0 of the performance monitors counts instructions, where there
	// are any, and User mode may read it (ARM ARM C12.8, B4.1.82).
	MRC	15, 0, R1, C0, C1, 2	// ID_DFR0
	MOVW	R1>>24, R1
	AND	$15, R1			// performance monitors: version
	CMP	$0, R1
	BEQ	uncounted
	CMP	$15, R1
	BEQ	uncounted
	MOVW	$0, R0
	MCR	15, 0, R0, C9, C12, 5	// PMSELR: counter 0
	MOVW	$8, R0
	MCR	15, 0, R0, C9, C13, 1	// PMXEVTYPER: INST_RETIRED, in all modes
	MOVW	$1, R0
	MCR	15, 0, R0, C9, C14, 0	// PMUSERENR
	MCR	15, 0, R0, C9, C12, 1	// PMCNTENSET: counter 0
	MOVW	$3, R0
	MCR	15, 0, R0, C9, C12, 0	// PMCR: enable; event counters to 0
	ISB
uncounted:

	MOVW	R12, R0
	B	nitro∕board∕kernel·enter(SB)
