//go:build arm.7

package sha256

// compress takes blocks, one or more, from p into state. k is roundConstants.
//
// Go does not preempt it: what it is given bounds how long scheduler and garbage
// collector wait. Interrupts and signals it does not mind, if they save the NEON
// registers. It takes 1.1 KiB of stack. p need not be aligned.
//
//go:noescape
func compress(state *uint32, p *byte, blocks int, k *uint32)

// batch is the most that one call of compress is given, in bytes. It takes about 50
// microseconds at 528 MHz (docs/sha256.md estimates the cycles).
const batch = 16 * BlockSize
