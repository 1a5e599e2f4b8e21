#include "textflag.h"

// func ownBounds() *[2]uint32: where text begins and variables begin, as the linker has
// placed them. A table of addresses is all that Go code cannot write down itself.
TEXT ·ownBounds(SB),NOSPLIT,$0-4
	MOVW	$bounds<>(SB), R0
	MOVW	R0, ret+0(FP)
	RET

DATA bounds<>+0(SB)/4, $runtime·text(SB)
DATA bounds<>+4(SB)/4, $runtime·noptrdata(SB)
GLOBL bounds<>(SB), RODATA|NOPTR, $8
