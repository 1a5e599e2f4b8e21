//go:build !xts_portable

package xts

// encrypt32 encrypts 32 blocks from src to dst, which may be the same, with
// XTS. planes is the schedule's, rounds 10 or 14. tweak is the tweak of the
// first block, and becomes that of the one after the last.
//
// It takes about 46 microseconds at 528 MHz (docs/xts.md estimates the cycles), and Go does not preempt it: a
// bound for scheduling and for garbage collection. Interrupts and signals it
// does not mind, if they save the NEON registers. It takes 2 KiB of stack and
// leaves it zeroed.
//
//go:noescape
func encrypt32(planes *byte, rounds int, dst, src, tweak *byte)

// decrypt32 is the inverse of encrypt32.
//
//go:noescape
func decrypt32(planes *byte, rounds int, dst, src, tweak *byte)

// encrypt8 encrypts eight blocks in place, each by itself. planes is planes8 of a
// tweakSchedule. It takes a quarter of the time of encrypt32.
//
//go:noescape
func encrypt8(planes *byte, rounds int, blocks *byte)
