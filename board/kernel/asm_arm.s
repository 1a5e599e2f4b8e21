#include "textflag.h"
#include "go_asm.h"

// Instructions that Go's assembler does not know are given as words, each with
// its name beside it.
#define ISB WORD $0xf57ff06f
#define DSB WORD $0xf57ff04f

// enter(config) is where board/cpu leaves: SVC mode, interrupts masked, MMU and
// data cache off. It zeroes the kernel's region but for the crash record, turns the MMU
// on, starts the kernel, and enters thread 1.
TEXT ·enter(SB),NOSPLIT|NOFRAME,$0
	MOVW	$const_kernelRegion, R1
	MOVW	$(const_kernelRegion + const_offCrash), R2
	BL	wipe<>(SB)
	MOVW	$(const_kernelRegion + const_offStack + const_stackSize - 16), R13
	MOVW	R0, 12(R13)
	MOVW	$(const_kernelRegion + const_offClock), g	// zeros: a g whose stack limit is 0
	BL	·buildTables(SB)

	MOVW	$(const_kernelRegion + 0x48), R0		// TTBR0, write-back write-allocate walks
	MCR	15, 0, R0, C2, C0, 0
	MOVW	$0, R0
	MCR	15, 0, R0, C2, C0, 2		// TTBCR: TTBR0 only
	MCR	15, 0, R0, C13, C0, 1		// CONTEXTIDR
	MOVW	$1, R0
	MCR	15, 0, R0, C3, C0, 0		// DACR: domain 0 is a client
	MOVW	$0, R0
	MCR	15, 0, R0, C8, C7, 0		// TLBIALL
	MOVW	$(const_regionVA + const_offVectors), R0
	MCR	15, 0, R0, C12, C0, 0		// VBAR
	DSB
	ISB
	MRC	15, 0, R0, C1, C0, 0		// SCTLR
	MOVW	$0x00081805, R1			// WXN, I, Z, C, M on
	ORR	R1, R0
	MOVW	$0x73122002, R1			// TE, AFE, TRE, EE, VE, UWXN, HA, V, A off
	BIC	R1, R0
	MCR	15, 0, R0, C1, C0, 0
	ISB

	MOVW	$(const_stackTop - 16), R13
	MOVW	$(const_regionVA + const_offG), g
	MOVW	12(R13), R0
	MOVW	R0, 4(R13)
	BL	·boot(SB)			// returns the first thread's registers
	MOVW	8(R13), R0
	B	leave<>(SB)

// An exception pushes its return address and status on the SVC stack, whose
// pointer lies at the end of the running thread's registers, and saves the user
// registers below. So they land where the thread keeps them.
#define SRS WORD $0xf96d0513	// srsdb sp!, #SVC
#define CPS_SVC WORD $0xf1020013	// cps #SVC
#define STM_USER WORD $0xe94d7fff	// stmdb sp, {r0-lr}^

// EXCEPTION enters the kernel by a vector, from a mode whose LR is some bytes ahead of
// where to return to (sub lr, lr, #ahead).
#define EXCEPTION(vector, ahead) \
	WORD	$(0xe24ee000 + ahead); \
	SRS; \
	CPS_SVC; \
	STM_USER; \
	MOVW	$vector, R0; \
	B	enterKernel<>(SB)

TEXT vecUndefined<>(SB),NOSPLIT|NOFRAME,$0
	EXCEPTION(const_vecUndefined, 4)
TEXT vecPrefetch<>(SB),NOSPLIT|NOFRAME,$0
	EXCEPTION(const_vecPrefetch, 4)
TEXT vecData<>(SB),NOSPLIT|NOFRAME,$0
	EXCEPTION(const_vecData, 8)
TEXT vecInterrupt<>(SB),NOSPLIT|NOFRAME,$0
	EXCEPTION(const_vecInterrupt, 4)
TEXT vecFast<>(SB),NOSPLIT|NOFRAME,$0
	EXCEPTION(const_vecFast, 4)

// vecCall is where SWI comes. The call's number is still in R7. The kernel itself
// has no SWI, so it comes from User mode.
TEXT vecCall<>(SB),NOSPLIT|NOFRAME,$0
	SRS
	STM_USER
	MOVW	4(R13), R1		// saved cpsr
	TST	$0x20, R1		// Thumb state
	BNE	thumb
	MOVW	$(const_stackTop - 16), R13
	MOVW	$(const_regionVA + const_offG), g
	MOVW	$const_stateVA, R0
	MOVW	kernel_running(R0), R1
	MOVW	kernel_count(R0), R2	// counters.calls is the first
	ADD	$1, R2
	MOVW	R2, kernel_count(R0)
	CMP	$const_numCalls, R7
	BHS	unknown
	MOVW	$·calls(SB), R2
	MOVW	R7<<2(R2), R2
	CMP	$0, R2
	BEQ	unknown
	MOVW	R0, 4(R13)
	MOVW	R1, 8(R13)
	BL	(R2)
	MOVW	12(R13), R0		// the result
	B	done
thumb:
	MOVW	$const_vecUndefined, R0	// a call could not be sent back to its SWI
	B	enterKernel<>(SB)
unknown:
	MOVW	$-38, R0		// ENOSYS
done:
	MOVW	$const_stateVA, R3
	MOVW	kernel_running(R3), R1
	ADD	$600, R0, R2		// again, asIs and restartSys lie from -600 to -512
	CMP	$88, R2
	BLS	unfinished
	MOVBU	thread_resumed(R1), R2
	CMP	$0, R2
	BNE	unfinished
	MOVW	R0, thread_regs(R1)
	MOVW	kernel_work(R3), R2
	CMP	$0, R2
	BNE	work
	MOVW	R1, R0
	B	leave<>(SB)
unfinished:
	MOVW	R0, 4(R13)
	BL	·finishCall(SB)
	MOVW	8(R13), R0
	B	leave<>(SB)
work:
	BL	·workAfterCall(SB)
	MOVW	4(R13), R0
	B	leave<>(SB)

// enterKernel runs on the SVC stack pointer that lies just below pc and cpsr.
TEXT enterKernel<>(SB),NOSPLIT|NOFRAME,$0
	MOVW	4(R13), R1		// saved cpsr
	TST	$15, R1			// not User mode: a fault in the kernel
	BNE	inKernel
	MOVW	$(const_stackTop - 16), R13
	MOVW	$(const_regionVA + const_offG), g
	MOVW	R0, 4(R13)
	BL	·trap(SB)
	MOVW	8(R13), R0
	B	leave<>(SB)
inKernel:
	MOVW	R13, R1			// what was saved lies on both sides
	MOVW	$(const_regionVA + const_offFault + const_faultSize - 16), R13
	MOVW	$(const_regionVA + const_offFaultG), g
	MOVW	R0, 4(R13)
	MOVW	R1, 8(R13)
	MOVW	R14, 12(R13)
	BL	·kernelFault(SB)	// does not return

// leave goes to User mode with the registers at R0.
TEXT leave<>(SB),NOSPLIT|NOFRAME,$0
	MOVW	R0, R13
	WORD	$0xf57ff01f		// clrex
	WORD	$0xe8dd7fff		// ldmia sp, {r0-lr}^
	WORD	$0xe1a00000		// nop: the banked registers settle
	WORD	$0xe28dd03c		// add sp, sp, #60
	WORD	$0xf8bd0a00		// rfeia sp!

// signalReturn is where signal handlers return to, in User mode.
TEXT signalReturn<>(SB),NOSPLIT|NOFRAME,$0
	MOVW	$173, R7		// rt_sigreturn
	SWI	$0

// int __vdso_clock_gettime(clockid_t, struct timespec *), in the C calling
// convention and in User mode. It reads the clock page that publishClock writes.
// The kernel writes it between two instructions of this code or not at all, so
// an unchanged sequence number proves a consistent reading.
TEXT ·vdsoClockGettime(SB),NOSPLIT|NOFRAME,$0-0
	CMP	$1, R0
	BHI	call
	MOVM.DB.W	[R4-R6], (R13)
	MOVW	$const_clockVA, R2
retry:
	MOVW	0(R2), R3		// sequence
	ISB
	WORD	$0xec554f0e		// mrrc p15, 0, r4, r5, c14: CNTPCT
	MOVW	4(R2), R5		// base, low word
	SUB	R5, R4
	MOVW	8(R2), R5		// nanoseconds per tick << 24
	MULLU	R5, R4, (R5, R4)
	MOVW	R4>>24, R4
	ORR	R5<<8, R4		// nanoseconds since base
	MOVW	12(R2), R5		// monotonic seconds at base
	CMP	$0, R0
	MOVW.EQ	16(R2), R5		// wall-clock seconds at base
	MOVW.EQ	20(R2), R6		// and nanoseconds
	ADD.EQ	R6, R4
	MOVW	0(R2), R6
	CMP	R3, R6
	BNE	retry
	MOVW	$1000000000, R3
seconds:
	CMP	R3, R4
	SUB.CS	R3, R4
	ADD.CS	$1, R5
	BCS	seconds
	MOVW	R5, 0(R1)
	MOVW	R4, 4(R1)
	MOVW	$0, R0
	MOVM.IA.W	(R13), [R4-R6]
	WORD	$0xe12fff1e		// bx lr
call:
	MOVW	R7, R12
	MOVW	$263, R7		// clock_gettime
	SWI	$0
	MOVW	R12, R7
	WORD	$0xe12fff1e		// bx lr

TEXT ·counter(SB),NOSPLIT,$0-8
	ISB
	WORD	$0xec510f0e		// mrrc p15, 0, r0, r1, c14: CNTPCT
	MOVW	R0, ret_lo+0(FP)
	MOVW	R1, ret_hi+4(FP)
	RET

TEXT ·counterHz(SB),NOSPLIT,$0-4
	MRC	15, 0, R0, C14, C0, 0
	MOVW	R0, ret+0(FP)
	RET

TEXT ·setCounterHz(SB),NOSPLIT,$0-4
	MOVW	hz+0(FP), R0
	MCR	15, 0, R0, C14, C0, 0
	RET

TEXT ·setTimer(SB),NOSPLIT,$0-8
	MOVW	at_lo+0(FP), R0
	MOVW	at_hi+4(FP), R1
	WORD	$0xec410f2e		// mcrr p15, 2, r0, r1, c14: CNTP_CVAL
	MOVW	$1, R0
	MCR	15, 0, R0, C14, C2, 1	// CNTP_CTL: enable, not masked
	ISB
	RET

// idle is what the idle thread runs.
TEXT idle<>(SB),NOSPLIT|NOFRAME,$0
	DSB
again:
	WORD	$0xe320f003		// wfi
	B	again

TEXT ·permitCounter(SB),NOSPLIT,$0-0
	MOVW	$3, R0			// PL0VCTEN, PL0PCTEN
	MCR	15, 0, R0, C14, C1, 0	// CNTKCTL
	RET

// func userFault(addr uint32, write bool) uint32
TEXT ·userFault(SB),NOSPLIT,$0-12
	MOVW	addr+0(FP), R0
	MOVBU	write+4(FP), R1
	CMP	$0, R1
	MCR.EQ	15, 0, R0, C7, C8, 2	// ATS1CUR
	MCR.NE	15, 0, R0, C7, C8, 3	// ATS1CUW
	ISB
	MRC	15, 0, R0, C7, C4, 0	// PAR
	AND	$1, R0
	MOVW	R0, ret+8(FP)
	RET

TEXT ·userLoad64(SB),NOSPLIT,$0-16
	MOVW	addr+0(FP), R0
	MOVW	$1, R1
	CMP	$const_areaStart, R0	// never a device's registers
	BLO	absent
	MCR	15, 0, R0, C7, C8, 2	// ATS1CUR
	ISB
	MRC	15, 0, R1, C7, C4, 0	// PAR
	AND	$1, R1
	AND	$7, R0, R2
	ORR.S	R2, R1
	BNE	absent
	MOVW	0(R0), R2
	MOVW	4(R0), R3
	MOVW	R2, low+4(FP)
	MOVW	R3, high+8(FP)
absent:
	MOVW	R1, fault+12(FP)
	RET

TEXT ·syncPage(SB),NOSPLIT,$0-4
	MOVW	addr+0(FP), R0
	DSB
	MCR	15, 0, R0, C8, C7, 1	// TLBIMVA
	MCR	15, 0, R0, C7, C5, 6	// BPIALL
	DSB
	ISB
	RET

TEXT ·syncAll(SB),NOSPLIT,$0-0
	DSB
	MOVW	$0, R0
	MCR	15, 0, R0, C8, C7, 0	// TLBIALL
	MCR	15, 0, R0, C7, C5, 6	// BPIALL
	DSB
	ISB
	RET

TEXT ·cleanLine(SB),NOSPLIT,$0-4
	MOVW	addr+0(FP), R0
	MCR	15, 0, R0, C7, C10, 1	// DCCMVAC
	RET

TEXT ·dataFault(SB),NOSPLIT,$0-8
	MRC	15, 0, R0, C5, C0, 0
	MOVW	R0, status+0(FP)
	MRC	15, 0, R0, C6, C0, 0
	MOVW	R0, addr+4(FP)
	RET

TEXT ·prefetchFault(SB),NOSPLIT,$0-8
	MRC	15, 0, R0, C5, C0, 1
	MOVW	R0, status+0(FP)
	MRC	15, 0, R0, C6, C0, 2
	MOVW	R0, addr+4(FP)
	RET

TEXT ·saveFPU(SB),NOSPLIT,$0-4
	MOVW	t+0(FP), R0
	WORD	$0xeca00b20		// vstmia r0!, {d0-d15}
	WORD	$0xece00b20		// vstmia r0!, {d16-d31}
	WORD	$0xeef11a10		// vmrs r1, fpscr
	MOVW	R1, 0(R0)
	RET

TEXT ·loadFPU(SB),NOSPLIT,$0-4
	MOVW	t+0(FP), R0
	WORD	$0xecb00b20		// vldmia r0!, {d0-d15}
	WORD	$0xecf00b20		// vldmia r0!, {d16-d31}
	MOVW	0(R0), R1
	WORD	$0xeee11a10		// vmsr fpscr, r1
	RET

TEXT ·resetFPU(SB),NOSPLIT,$0-0
	MOVW	$0, R1
	WORD	$0xeee11a10		// vmsr fpscr, r1
	RET

TEXT ·threadRegs(SB),NOSPLIT,$0-8
	WORD	$0xee1d0f50		// mrc p15, 0, r0, c13, c0, 2: TPIDRURW
	MOVW	R0, rw+0(FP)
	WORD	$0xee1d0f70		// mrc p15, 0, r0, c13, c0, 3: TPIDRURO
	MOVW	R0, ro+4(FP)
	RET

TEXT ·setThreadRegs(SB),NOSPLIT,$0-8
	MOVW	rw+0(FP), R0
	WORD	$0xee0d0f50		// mcr p15, 0, r0, c13, c0, 2
	MOVW	ro+4(FP), R0
	WORD	$0xee0d0f70		// mcr p15, 0, r0, c13, c0, 3
	RET

TEXT ·barrier(SB),NOSPLIT,$0-0
	DSB
	RET

// func linkerSymbols() *imageSymbols: a table in read-only memory.
TEXT ·linkerSymbols(SB),NOSPLIT,$0-4
	MOVW	$symbols<>(SB), R0
	MOVW	R0, ret+0(FP)
	RET

DATA symbols<>+0(SB)/4, $runtime·text(SB)
DATA symbols<>+4(SB)/4, $runtime·etext(SB)
DATA symbols<>+8(SB)/4, $_rt0_arm_linux(SB)
DATA symbols<>+12(SB)/4, $vecUndefined<>(SB)
DATA symbols<>+16(SB)/4, $vecCall<>(SB)
DATA symbols<>+20(SB)/4, $vecPrefetch<>(SB)
DATA symbols<>+24(SB)/4, $vecData<>(SB)
DATA symbols<>+28(SB)/4, $vecData<>(SB)	// reserved vector
DATA symbols<>+32(SB)/4, $vecInterrupt<>(SB)
DATA symbols<>+36(SB)/4, $vecFast<>(SB)
DATA symbols<>+40(SB)/4, $signalReturn<>(SB)
DATA symbols<>+44(SB)/4, $·vdsoClockGettime(SB)
DATA symbols<>+48(SB)/4, $idle<>(SB)
GLOBL symbols<>(SB), RODATA|NOPTR, $52

// wipe<> writes zeros from R1, a multiple of 256, up to R2. It uses neither memory nor
// R0, R12 and g, and leaves zeros in R3 to R9 and R11.
TEXT wipe<>(SB),NOSPLIT|NOFRAME,$0
	MOVW	$0, R3
	MOVW	$0, R4
	MOVW	$0, R5
	MOVW	$0, R6
	MOVW	$0, R7
	MOVW	$0, R8
	MOVW	$0, R9
	MOVW	$0, R11
	B	check
block:
	MOVM.IA.W	[R3-R9,R11], (R1)
	MOVM.IA.W	[R3-R9,R11], (R1)
	MOVM.IA.W	[R3-R9,R11], (R1)
	MOVM.IA.W	[R3-R9,R11], (R1)
	MOVM.IA.W	[R3-R9,R11], (R1)
	MOVM.IA.W	[R3-R9,R11], (R1)
	MOVM.IA.W	[R3-R9,R11], (R1)
	MOVM.IA.W	[R3-R9,R11], (R1)
check:
	CMP	R2, R1
	BLO	block
	WORD	$0xe12fff1e		// bx lr

// func wipe(start, end uint32)
TEXT ·wipe(SB),NOSPLIT|NOFRAME,$0-8
	MOVW	4(R13), R1
	MOVW	8(R13), R2
	B	wipe<>(SB)

// leaveFor(entry) leaves this image for another one, as the boot ROM would: in SVC mode,
// exceptions masked, caches and MMU off, all registers zero but the one that holds the
// entry. The kernel's region, where the stack was, is zeroed on the way, but for the
// crash record behind it.
TEXT ·leaveFor(SB),NOSPLIT|NOFRAME,$0-4
	MOVW	4(R13), R12
	BL	·cachesOff(SB)
	MOVW	$const_kernelRegion, R1
	MOVW	$(const_kernelRegion + const_offCrash), R2
	BL	wipe<>(SB)
	WORD	$0xf10e01df		// cpsid aif, #SYS: SP and LR of User mode
	MOVW	R3, R13
	MOVW	R3, R14
	WORD	$0xf10e01d3		// cpsid aif, #SVC
	MCR	15, 0, R3, C14, C2, 1	// CNTP_CTL: the timer is off
	MCR	15, 0, R3, C12, C0, 0	// VBAR: the boot ROM's vectors
	WORD	$0xee0d3f50		// mcr p15, 0, r3, c13, c0, 2: TPIDRURW
	WORD	$0xee0d3f70		// mcr p15, 0, r3, c13, c0, 3: TPIDRURO
	DSB
	ISB
	MOVW	R3, R0
	MOVW	R3, R1
	MOVW	R3, R2
	MOVW	R3, g
	MOVW	R3, R13
	MOVW	R3, R14
	WORD	$0xe12fff1c		// bx r12
