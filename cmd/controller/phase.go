package main

import (
	"fmt"
	"log"
	"os"
	"strconv"
	"strings"
	"time"

	"nitro/board/imx6ul/src"
)

// A phase is a part of the way from power-on to ready.
type phase struct {
	name string
	do   func() error
}

// run runs the phase and says what it took.
func (p phase) run(instructionTime *uint64) error {
	start := kernelCounts()
	if err := p.do(); err != nil {
		return fmt.Errorf("%s: %w", p.name, err)
	}
	report("phase "+p.name, start, kernelCounts(), *instructionTime)
	return nil
}

// report says how long something took, and how much of it the processor was busy: as
// instructions, where an instruction takes a known time.
func report(what string, start, end counts, instructionTime uint64) {
	took, busy := end.uptime()-start.uptime(), end.busy()-start.busy()
	cost := fmt.Sprintf("%.1f ms busy", milliseconds(busy))
	if instructionTime > 0 {
		cost = fmt.Sprintf("%.3f M instructions", float64(busy)/float64(instructionTime)/1e6)
	}
	log.Printf("%-20s %8.1f ms, %s", what, milliseconds(took), cost)
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// counts are the kernel's counters, by their names in /dev/kernel.
type counts map[string]uint64

// kernelCounts reads them. Where that fails they are all 0: they only inform.
func kernelCounts() counts {
	text, err := os.ReadFile("/dev/kernel")
	if err != nil {
		log.Printf("kernel's counters: %v", err)
	}
	c := counts{}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		if n, err := strconv.ParseUint(value, 10, 64); err == nil {
			c[name] = n
		}
	}
	return c
}

func (c counts) span(name string) time.Duration {
	return time.Duration(c[name+".s"])*time.Second + time.Duration(c[name+".us"])*time.Microsecond
}

func (c counts) uptime() time.Duration { return c.span("uptime") }

// busy is how long the processor has worked.
func (c counts) busy() time.Duration { return c.span("uptime") - c.span("idle") }

func (c counts) String() string {
	return fmt.Sprintf("up %d s, idle %d%%, %.1f MiB in use, %d threads, %d calls, %d interrupts",
		c["uptime.s"], 100*c.span("idle")/max(c.uptime(), 1),
		float64(c["pages.used"])/256, c["threads"], c["calls"], c["interrupts"])
}

// reportReset tells what reset the board, and how the previous boot died, which the
// kernel has kept.
func reportReset() {
	if r, err := src.Read(); err != nil {
		log.Printf("reset cause: %v", err)
	} else {
		log.Printf("reset by: %v", r)
	}
	crash, err := os.ReadFile("/dev/crash")
	switch {
	case err != nil:
		log.Printf("crash record: %v", err)
	case len(crash) == 0:
		log.Print("the previous boot left no crash record")
	default:
		how, _, _ := strings.Cut(string(crash), "\n")
		log.Printf("the previous boot died: %s", how)
	}
}
