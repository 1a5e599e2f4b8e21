//go:build linux && arm

package conformance

import "unsafe"

// The assembly is here because Go cannot say these things: touch an address
// that may fault without the compiler reasoning about it, hold every register,
// start a thread that the runtime does not know, handle a signal without the
// runtime. Each stub touches only memory that its caller passes in.

// pointer returns addr as a pointer. It is sound only for memory outside the Go
// heap and stacks, which the garbage collector neither moves nor frees.
//
//go:noescape
func pointer(addr uintptr) unsafe.Pointer

// load8 reads the byte at addr.
//
//go:noescape
func load8(addr uintptr) uint8

// store8 writes the byte at addr.
//
//go:noescape
func store8(addr uintptr, v uint8)

// jump calls the code at addr.
func jump(addr uintptr)

// registers is what holdRegisters and callKeeps load and store: R1-R9, R11, R12
// and R14, the floating-point status, and D0-D31.
type registers struct {
	core  [12]uint32
	fpscr uint32
	_     uint32
	d     [32]uint64
}

// holdRegisters loads all registers from in, counts loops down to zero, stores
// all registers to out and puts the floating-point status back.
//
//go:noescape
func holdRegisters(in, out *registers, loops uint32)

// callKeeps loads all registers from in except R7, which holds nr, makes the
// system call with R0 = 0, and stores all registers to out.
//
//go:noescape
func callKeeps(nr uint32, in, out *registers) (r0 uint32)

// birth is what a raw thread reports about its start.
type birth struct {
	r5, r6   uint32 // as loaded by the parent
	tid      uint32
	sp       uint32
	d8       uint64 // as loaded by the parent
	r0       uint32
	finished uint32 // set to 1 last, then woken as a futex
}

// rawClone makes a thread that fills *b, wakes b.finished and exits. It
// returns the parent's result. Signals must be blocked around it.
func rawClone(flags, stack uintptr, b uintptr) int32

// stack is struct sigaltstack.
type stack struct {
	sp    uint32
	flags int32
	size  uint32
}

// noted is what noteSignal saw when it last ran.
type noted struct {
	count   uint32
	sig     uint32
	code    int32
	sp      uint32
	mask    uint64 // signals blocked while the handler ran
	old     stack  // sigaltstack(NULL, &old)
	_       uint32
	set     stack // given to sigaltstack(&set, NULL)
	setErr  int32 // its result
	context uint32
	fault   uint32 // siginfo's address or sender
}

var note noted

// noteSignalPC returns the address of a signal handler that fills note.
func noteSignalPC() uintptr

// emptySignalPC returns the address of a signal handler that does nothing.
func emptySignalPC() uintptr
