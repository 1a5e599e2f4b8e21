// Package phase brings a board up phase by phase, with a log line for each: what it took
// in time and in instructions.
package phase

import (
	"fmt"
	"log"
	"os"
	"strings"
	"time"

	"nitro/board/cpu"
	"nitro/board/imx6ul/src"
)

// A Phase is a part of the way from power-on to ready.
type Phase struct {
	Name string
	Do   func() error
}

// Run runs phases in order, up to the first that fails.
func Run(phases ...Phase) error {
	for _, p := range phases {
		if err := p.run(); err != nil {
			return err
		}
	}
	return nil
}

// run runs the phase and says what it took.
func (p Phase) run() error {
	start := time.Now()
	before, counted := cpu.Instructions()
	if err := p.Do(); err != nil {
		return fmt.Errorf("%s: %w", p.Name, err)
	}
	after, _ := cpu.Instructions()
	executed := "instructions not counted here"
	if counted {
		executed = fmt.Sprintf("%.3f M instructions", float64(after-before)/1e6)
	}
	log.Printf("phase %-15s %8.1f ms, %s", p.Name, float64(time.Since(start).Microseconds())/1000, executed)
	return nil
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
