#include "textflag.h"

#define ISB WORD $0xf57ff06f
#define DSB WORD $0xf57ff04f

// cachesOff writes the data caches back to memory and invalidates them, by set and way
// (ARM ARM B2.2.7, example code), turns caches, MMU and branch prediction off, and
// invalidates the instruction cache, the branch predictor and the TLB. A data cache that
// is off already holds whatever it holds, and is only invalidated. It runs where virtual
// addresses equal physical ones, uses no memory, and leaves R0, R12, g and R13 alone.
//
// All levels below the level of coherency have data: the Cortex-A7's L1 data cache and
// its L2 (DDI 0464F 4.3.22).
TEXT ·cachesOff(SB),NOSPLIT|NOFRAME,$0-0
	WORD	$0xf10e01d3		// cpsid aif, #SVC
	MRC	15, 0, R11, C1, C0, 0	// SCTLR
	MOVW	$0, R1			// level, times 2
level:
	MCR	15, 2, R1, C0, C0, 0	// CSSELR
	ISB
	MRC	15, 1, R3, C0, C0, 0	// CCSIDR
	AND	$7, R3, R2
	ADD	$4, R2			// log2 of the line length
	MOVW	$0x3ff, R4
	AND	R3>>3, R4		// ways - 1
	CLZ	R4, R5			// where the way stands
	MOVW	$0x7fff, R6
	AND	R3>>13, R6		// sets - 1
set:
	MOVW	R4, R7			// way
way:
	ORR	R7<<R5, R1, R8
	ORR	R6<<R2, R8
	TST	$4, R11			// SCTLR.C
	MCR.NE	15, 0, R8, C7, C14, 2	// DCCISW
	MCR.EQ	15, 0, R8, C7, C6, 2	// DCISW
	SUB.S	$1, R7
	BGE	way
	SUB.S	$1, R6
	BGE	set
	ADD	$2, R1
	MRC	15, 1, R2, C0, C0, 1	// CLIDR
	AND	$(7<<24), R2		// level of coherency
	CMP	R2>>23, R1
	BLT	level
	DSB
	MOVW	$0x1805, R1
	BIC	R1, R11
	MCR	15, 0, R11, C1, C0, 0	// I, Z, C, M off
	ISB
	MOVW	$0, R1
	MCR	15, 0, R1, C7, C5, 0	// ICIALLU
	MCR	15, 0, R1, C7, C5, 6	// BPIALL
	MCR	15, 0, R1, C8, C7, 0	// TLBIALL
	DSB
	ISB
	WORD	$0xe12fff1e		// bx lr
