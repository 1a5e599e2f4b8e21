#include "textflag.h"

// Assembly because Go has no vectors: gVisor's sum takes 2.3 instructions a byte here, this
// 0.16. The instructions of Advanced SIMD that Go's assembler does not know are given as
// words (ARM DDI 0406C, A8.8.320 and A8.8.367).

// func sumLanes(p []byte) uint64
TEXT ·sumLanes(SB), NOSPLIT, $0-20
	MOVW p_base+0(FP), R0
	MOVW p_len+4(FP), R1
	WORD $0xf2c00050 // vmov.i32 q8, #0
	WORD $0xf2c02050 // vmov.i32 q9, #0
lines:
	WORD $0xf420020d // vld1.8 {d0-d3}, [r0]!
	WORD $0xf3f406c0 // vpadal.u16 q8, q0
	WORD $0xf3f426c2 // vpadal.u16 q9, q1
	SUB.S $32, R1
	BNE lines
	WORD $0xf26008e2 // vadd.i32 q8, q8, q9
	WORD $0xf3f802e0 // vpaddl.u32 q8, q8
	WORD $0xf27008a1 // vadd.i64 d16, d16, d17
	WORD $0xec532b30 // vmov r2, r3, d16
	MOVW R2, ret_lo+12(FP)
	MOVW R3, ret_hi+16(FP)
	RET
