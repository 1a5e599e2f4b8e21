package main

import (
	"fmt"
	"log"
	"os"
	"strings"
	"time"

	"nitro/board"
)

// Times of the watchdog's service, of the status line, and of the lamp.
const (
	service   = 5 * time.Second
	status    = 30 * time.Second
	heartbeat = time.Second
)

// watch services the watchdog as long as the Go scheduler runs, and says now and
// then how the kernel is doing. It returns only if the watchdog is lost.
func watch() error {
	dog, err := os.OpenFile("/dev/watchdog", os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("watchdog: %w", err)
	}
	defer dog.Close()
	last := time.Now()
	for {
		if _, err := dog.Write([]byte{1}); err != nil {
			return fmt.Errorf("watchdog: %w", err)
		}
		time.Sleep(service)
		if time.Since(last) >= status {
			last = time.Now()
			log.Print(kernelStatus())
		}
	}
}

// blink shows that the firmware serves: a second on, a second off. Before, the lamp is
// dark; a lamp that stands still is a firmware that does not run.
func blink(lamp board.Lamp) {
	if lamp == nil {
		return
	}
	for on := true; ; on = !on {
		lamp.Light(on)
		time.Sleep(heartbeat)
	}
}

// kernelStatus sums the kernel's counters up in a line.
func kernelStatus() string {
	text, err := os.ReadFile("/dev/kernel")
	if err != nil {
		return err.Error()
	}
	count := map[string]uint64{}
	for line := range strings.Lines(string(text)) {
		var name string
		var n uint64
		if _, err := fmt.Sscan(line, &name, &n); err == nil {
			count[name] = n
		}
	}
	return fmt.Sprintf("up %d s, idle %d%%, %.1f MiB in use, %d threads, %d calls, %d interrupts",
		count["uptime.ms"]/1000, 100*count["idle.ms"]/max(count["uptime.ms"], 1),
		float64(count["pages.used"])/256, count["threads"], count["calls"], count["interrupts"])
}
