package main

import (
	"errors"
	"fmt"
)

// counter reads the virtual counter CNTVCT.
//
//go:noescape
func counter() uint64

// frequency reads the counter's frequency CNTFRQ, in Hz.
//
//go:noescape
func frequency() uint32

// spin executes 2n+5 instructions, n at least 1, 2n of them in a loop.
//
//go:noescape
func spin(n uint32)

// A call is a system call in the order in which the assembly loads it: the
// arguments into R0, R1 and R2, the number into R7.
type call struct {
	args   [3]uint32
	number uint32
}

// traps makes a system call n times, n at least 1, in a loop of assembly.
//
//go:noescape
func traps(n uint32, what *call)

// noTraps is traps without its SWI instruction.
//
//go:noescape
func noTraps(n uint32, what *call)

// perTick is how many instructions one tick of the counter is: the emulator's
// -icount shift=0 makes an instruction one nanosecond, and a counter of 62.5 MHz
// ticks each 16 ns.
const perTick = 16

// instructions gives how many instructions f executes, in steps of perTick.
func instructions(f func()) float64 {
	start := counter()
	f()
	return float64(counter()-start) * perTick
}

// settle keeps the processor busy for 100 million instructions. Go's monitoring
// thread wakes each 20 us after the start and backs off to 10 ms when nothing
// needs it; until then it would be in every round.
func settle() { spin(50_000_000) }

// checkCounter makes sure that the counter counts instructions, by a loop whose
// length is known. Interrupts can only add, so the best of ten tries must fit.
func checkCounter() error {
	if hz := frequency(); hz != 1e9/perTick {
		return fmt.Errorf("the counter runs at %d Hz, want %d", hz, int(1e9/perTick))
	}
	const n = 100_000
	best := least(10, func() float64 { return instructions(func() { spin(n) }) })
	if best < 2*n || best > 2*n+100 {
		return errors.Join(fmt.Errorf("a loop of %d instructions took the counter %v", 2*n, best),
			errors.New("it does not count instructions: start the emulator with -icount shift=0,sleep=off"))
	}
	return nil
}

// least gives the smallest of n measurements.
func least(n int, measure func() float64) float64 {
	best := measure()
	for range n - 1 {
		best = min(best, measure())
	}
	return best
}
