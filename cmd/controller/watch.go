package main

import (
	"fmt"
	"log"
	"os"
	"time"

	"nitro/board"
	"nitro/board/phase"
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
			log.Print(phase.Count())
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
