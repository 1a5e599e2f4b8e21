// Ground measures what Go programs stand on, in instructions: system calls, the
// clock, the scheduler. The same program runs on the project's own kernel and on
// Linux, on the same emulated board, so that the two can be compared.
//
// It counts by the processor's virtual counter, which under the emulator's
// -icount shift=0,sleep=off ticks once each 16 instructions; it checks that first,
// and refuses to measure when it is not so. Each figure is one line,
//
//	name value instructions
//
// printed once all is measured. When something fails it says what and exits with
// code 1, without any figure.
//
//	trap.getpid, trap.futex_wake, trap.eventfd_write
//	    from SWI to return; measureTraps tells how, and what _bare, _gross and
//	    trap.user_side are
//	time.now
//	    a call of time.Now
//	sched.pingpong, sched.pingpong_min
//	    a round trip between two goroutines over unbuffered channels, with as many
//	    processors as the kernel reports: the median and the smallest
//	sched.pingpong1, sched.pingpong2 and their _min
//	    the same with GOMAXPROCS 1 and 2
//	sched.procs
//	    how many processors the kernel reports (a number, not instructions)
package main

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
)

// lines holds the figures until all is measured: printing is work for the kernel.
var lines strings.Builder

// figure notes a figure in instructions.
func figure(name string, value float64) {
	fmt.Fprintf(&lines, "%s %.2f instructions\n", name, value)
}

func main() {
	debug.SetGCPercent(-1) // no collection in the middle; little is allocated
	if err := measure(); err != nil {
		fmt.Fprintln(os.Stderr, "ground:", err)
		os.Exit(1)
	}
	fmt.Print(lines.String())
}

func measure() error {
	settle()
	if err := checkCounter(); err != nil {
		return err
	}
	if err := measureTraps(); err != nil {
		return err
	}
	measureNow()
	procs := runtime.GOMAXPROCS(0)
	fmt.Fprintf(&lines, "sched.procs %d processors\n", procs)
	measurePingPong("sched.pingpong")
	for _, n := range []int{1, 2} {
		runtime.GOMAXPROCS(n)
		measurePingPong(fmt.Sprintf("sched.pingpong%d", n))
	}
	runtime.GOMAXPROCS(procs)
	return nil
}
