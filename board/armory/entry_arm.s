#include "textflag.h"

// cpuentry is the first instruction of an image for this board.
TEXT cpuentry(SB),NOSPLIT|NOFRAME,$0
	MOVW	$·config(SB), R0
	B	nitro∕board∕cpu·start(SB)
