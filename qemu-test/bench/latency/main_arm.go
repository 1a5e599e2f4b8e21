// Latency measures how long an interrupt takes to reach the goroutine that waits
// for it, while another goroutine computes without end: from the timer's
// interrupt to the first line after the Read of /dev/irq/N. It is an image for
// the board. Each figure is one line,
//
//	name value ms
//
//	irq.to_goroutine_mean, irq.to_goroutine_worst
//	    with as many processors as the kernel reports
//	irq.to_goroutine1_mean, irq.to_goroutine1_worst
//	    with GOMAXPROCS=1, for comparison
//
// Under the emulator's -icount shift=0 a nanosecond is an instruction.
//
// The interrupt is EPIT1's, at times that vary. When something fails the program
// says what and ends with code 1.
package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"

	_ "nitro/board/evk"
	"nitro/qemu-test/epit"
)

func main() {
	if err := measure(); err != nil {
		fmt.Fprintln(os.Stderr, "latency:", err)
		os.Exit(1)
	}
}

func measure() error {
	timer, err := epit.Open()
	if err != nil {
		return err
	}
	hz := timer.Hz()
	go compute()
	if err := figure("irq.to_goroutine", timer, hz, 600); err != nil {
		return err
	}
	runtime.GOMAXPROCS(1)
	if err := figure("irq.to_goroutine1", timer, hz, 60); err != nil {
		return err
	}
	return timer.Close()
}

// sink keeps the compiler from dropping compute.
var sink uint32

// compute keeps a processor busy. Its loop calls nothing: only a signal takes the
// processor away from it.
func compute() {
	for x := uint32(1); x != 0; x = x*1664525 + 1013904223 | 1 {
		sink = x
	}
}

// figure takes n samples, at intervals of 0.4 to 3.6 ms beside the latency itself.
func figure(name string, timer *epit.Timer, hz float64, n int) error {
	late := make([]uint32, n)
	for i := range late {
		timer.Start(uint32(hz * (0.4 + 3.2*rand.Float64()) / 1000))
		count, err := timer.Wait()
		late[i] = timer.Since()
		if err != nil {
			return fmt.Errorf("sample %d of %d: %w", i+1, n, err)
		}
		if count != 1 || !timer.Pending() {
			return fmt.Errorf("sample %d of %d: %d interrupts, pending %v; want 1, true", i+1, n, count, timer.Pending())
		}
		timer.Stop()
		if err := timer.Enable(); err != nil {
			return fmt.Errorf("sample %d of %d: %w", i+1, n, err)
		}
	}
	sum := 0.0
	for _, v := range late {
		sum += float64(v)
	}
	fmt.Printf("%s_mean %.6f ms\n", name, sum/float64(n)/hz*1000)
	fmt.Printf("%s_worst %.6f ms\n", name, float64(slices.Max(late))/hz*1000)
	return nil
}
