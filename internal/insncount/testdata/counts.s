@ A bare-metal program whose instruction counts are known exactly: the comments
@ count them, and insncount_test.go expects the sums. "2n" is a loop of n rounds.
	.arch	armv7ve
	.arm
	.text
	.global	_start, vectors, user, call1, after1, opened, masked2, return1, return2, returnirq, returnabort, magic

	.balign	32
vectors:
	b	.		@ reset
	b	.		@ undefined
	b	svc		@ supervisor call
	b	.		@ prefetch abort
	b	abort		@ data abort
	b	.		@ unused
	b	irq		@ IRQ
	b	.		@ FIQ

@ SVC mode, IRQs masked: 2014 instructions, a long masked run that is left out
@ since it lies before the first entry into User mode.
_start:	ldr	r0, =vectors			@ 1
	mcr	p15, 0, r0, c12, c0, 0		@ 2  VBAR
	ldr	r0, =0x00a01000			@ 3  GIC distributor
	mov	r1, #1				@ 4
	str	r1, [r0]			@ 5  GICD_CTLR: on
	ldr	r0, =0x00a02000			@ 6  GIC processor interface
	mov	r1, #0xff			@ 7
	str	r1, [r0, #4]			@ 8  GICC_PMR: all priorities
	mov	r1, #1				@ 9
	str	r1, [r0]			@ 10 GICC_CTLR: on
	mov	r4, #1000			@ 11
1:	subs	r4, r4, #1			@ 11 + 2n, n = 1000
	bne	1b
	msr	spsr_cxsf, #0x10		@ 2012 User mode, nothing masked
	adr	lr, user			@ 2013
	movs	pc, lr				@ 2014

@ User mode: 63 instructions.
user:	mov	r4, #20				@ 1
1:	subs	r4, r4, #1			@ 1 + 2n, n = 20
	bne	1b
	mov	r7, #1				@ 42
call1:	svc	#0				@ 43
after1:	mov	r7, #2				@ 44
	svc	#0				@ 45
	ldr	r0, =0x02280000			@ 46 nothing is mapped there
	mov	r1, #3				@ 47
	ldr	r2, [r0]			@ 48 data abort in the middle of a block
	add	r1, r1, #1			@ 49
	add	r1, r1, #1			@ 50
	ldr	r0, =0x00a01f00			@ 51 GICD_SGIR
	mov	r1, #0x02000000			@ 52 interrupt 0 to this processor
	str	r1, [r0]			@ 53
	b	1f				@ 54
1:	mov	r4, #3				@ 55
2:	subs	r4, r4, #1			@ 55 + 2n, n = 3
	bne	2b
	mov	r7, #3				@ 62
	svc	#0				@ 63

@ Supervisor call. With its vector: call 1 masks for 205; call 2 masks for 67,
@ runs 2002 unmasked, masks for 302; call 3 masks for 6 up to the magic.
svc:	cmp	r7, #1				@ 2 (the vector is 1)
	beq	plain				@ 3
	cmp	r7, #2				@ 4
	beq	opens				@ 5
	b	leave				@ 6

plain:	mov	r4, #100			@ 4
1:	subs	r4, r4, #1			@ 4 + 2n, n = 100
	bne	1b
return1:
	movs	pc, lr				@ 205

opens:	mov	r4, #30				@ 6
1:	subs	r4, r4, #1			@ 6 + 2n, n = 30
	bne	1b
opened:	cpsie	i				@ 67, the last masked one
	mov	r4, #1000			@ 1 unmasked
1:	subs	r4, r4, #1			@ 1 + 2n, n = 1000
	bne	1b
	cpsid	i				@ 2002, the last unmasked one
masked2:
	mov	r4, #150			@ 1 masked
1:	subs	r4, r4, #1			@ 1 + 2n, n = 150
	bne	1b
return2:
	movs	pc, lr				@ 302

leave:						@ here after 6
magic:	mov	r8, r8				@ 1 end of the measurement
	mov	r4, #500			@ 2
1:	subs	r4, r4, #1			@ 2 + 2n, n = 500
	bne	1b
	mov	r0, #0x18			@ 1003 semihosting: SYS_EXIT
	ldr	r1, =0x20026			@ 1004 ADP_Stopped_ApplicationExit
	svc	#0x123456			@ 1005

@ Data abort: 3 with its vector, all masked.
abort:	add	r3, r3, #1			@ 2
returnabort:
	subs	pc, lr, #4			@ 3  back to the instruction after

@ Interrupt: 86 with its vector, all masked.
irq:	ldr	r9, =0x00a02000			@ 2
	ldr	r10, [r9, #0xc]			@ 3  GICC_IAR
	str	r10, [r9, #0x10]		@ 4  GICC_EOIR
	mov	r4, #40				@ 5
1:	subs	r4, r4, #1			@ 5 + 2n, n = 40
	bne	1b
returnirq:
	subs	pc, lr, #4			@ 86
	.ltorg
