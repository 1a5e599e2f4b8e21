// Package phase brings a board up phase by phase, with a log line for each: what it took
// in time, and how much of it the processor was busy.
package phase

import (
	"fmt"
	"log"
	"os"
	"strconv"
	"strings"
	"time"

	"nitro/board/imx6ul/src"
)

// A Phase is a part of the way from power-on to ready.
type Phase struct {
	Name string
	Do   func() error
}

// Run runs phases in order, up to the first that fails, and says what each took.
// instructionTime is how long an instruction takes, ns, where that is known, and else 0;
// a phase may find it out.
func Run(instructionTime *uint64, phases ...Phase) error {
	for _, p := range phases {
		start := Count()
		if err := p.Do(); err != nil {
			return fmt.Errorf("%s: %w", p.Name, err)
		}
		Report("phase "+p.Name, start, Count(), *instructionTime)
	}
	return nil
}

// Report says how long something took, and how much of it the processor was busy: as
// instructions, where an instruction takes a known time.
func Report(what string, start, end Counts, instructionTime uint64) {
	took, busy := end.Uptime()-start.Uptime(), end.busy()-start.busy()
	cost := fmt.Sprintf("%.1f ms busy", milliseconds(busy))
	if instructionTime > 0 {
		cost = fmt.Sprintf("%.3f M instructions", float64(end.Instructions(instructionTime)-start.Instructions(instructionTime))/1e6)
	}
	log.Printf("%-20s %8.1f ms, %s", what, milliseconds(took), cost)
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// Counts are the kernel's counters, by their names in /dev/kernel.
type Counts map[string]uint64

// Count reads them. Where that fails they are all 0: they only inform.
func Count() Counts {
	text, err := os.ReadFile("/dev/kernel")
	if err != nil {
		log.Printf("kernel's counters: %v", err)
	}
	c := Counts{}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		if n, err := strconv.ParseUint(value, 10, 64); err == nil {
			c[name] = n
		}
	}
	return c
}

func (c Counts) span(name string) time.Duration {
	return time.Duration(c[name+".s"])*time.Second + time.Duration(c[name+".us"])*time.Microsecond
}

// Uptime is the time since the kernel's start.
func (c Counts) Uptime() time.Duration { return c.span("uptime") }

// busy is how long the processor has worked.
func (c Counts) busy() time.Duration { return c.span("uptime") - c.span("idle") }

// Instructions is how many have been executed, where an instruction takes a known time,
// and else 0.
func (c Counts) Instructions(instructionTime uint64) uint64 {
	if instructionTime == 0 {
		return 0
	}
	return uint64(c.busy()) / instructionTime
}

func (c Counts) String() string {
	return fmt.Sprintf("up %d s, idle %d%%, %.1f MiB in use, %d threads, %d calls, %d interrupts",
		c["uptime.s"], 100*c.span("idle")/max(c.Uptime(), 1),
		float64(c["pages.used"])/256, c["threads"], c["calls"], c["interrupts"])
}

// ReportReset tells what reset the board, and how the previous boot died, which the
// kernel has kept.
func ReportReset() {
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
