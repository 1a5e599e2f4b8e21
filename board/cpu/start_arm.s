#include "textflag.h"

#define ISB WORD $0xf57ff06f
#define DSB WORD $0xf57ff04f

// start(config in R0). It uses no stack and no memory.
TEXT ·start(SB),NOSPLIT|NOFRAME,$0-0
	WORD	$0xf10e01d3		// cpsid aif, #SVC
	MOVW	R0, R12

	// Data caches, by set and way (ARM ARM B2.2.7, example code). If the cache
	// is on, lines that were written must not be lost: clean and invalidate.
	// If it is off its contents are whatever they are: invalidate.
	MRC	15, 0, R11, C1, C0, 0	// SCTLR
	MRC	15, 1, R0, C0, C0, 1	// CLIDR
	MOVW	R0>>23, R3
	AND	$14, R3			// level of coherency, times 2
	MOVW	$0, R14			// level, times 2
level:
	CMP	R3, R14
	BGE	flushed
	ADD	R14>>1, R14, R2
	MOVW	R0>>R2, R1
	AND	$7, R1			// type of cache at this level
	CMP	$2, R1
	BLT	next			// no data cache
	MCR	15, 2, R14, C0, C0, 0	// CSSELR
	ISB
	MRC	15, 1, R1, C0, C0, 0	// CCSIDR
	AND	$7, R1, R2
	ADD	$4, R2			// log2 of the line length
	MOVW	R1>>3, R4
	MOVW	$0x3ff, R5
	AND	R5, R4			// ways - 1
	CLZ	R4, R5			// where the way stands
	MOVW	R1>>13, R7
	MOVW	$0x7fff, R6
	AND	R6, R7			// sets - 1
set:
	MOVW	R4, R9			// way
way:
	MOVW	R9<<R5, R8
	ORR	R14, R8
	MOVW	R7<<R2, R6
	ORR	R6, R8
	TST	$4, R11			// SCTLR.C
	BEQ	invalidate
	MCR	15, 0, R8, C7, C14, 2	// DCCISW
	B	done
invalidate:
	MCR	15, 0, R8, C7, C6, 2	// DCISW
done:
	SUB.S	$1, R9
	BGE	way
	SUB.S	$1, R7
	BGE	set
next:
	ADD	$2, R14
	B	level
flushed:
	DSB

	MOVW	$0x1805, R1		// MMU, caches, branch prediction off
	BIC	R1, R11
	MCR	15, 0, R11, C1, C0, 0
	ISB
	MOVW	$0, R0
	MCR	15, 0, R0, C7, C5, 0	// ICIALLU
	MCR	15, 0, R0, C7, C5, 6	// BPIALL
	MCR	15, 0, R0, C8, C7, 0	// TLBIALL
	DSB
	ISB

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
