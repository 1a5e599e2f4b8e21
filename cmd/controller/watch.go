package main

import (
	"fmt"
	"log"
	"os"
	"runtime"
	"runtime/metrics"
	"time"

	"nitro/board"
	"nitro/board/phase"
	"nitro/boot/code"
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
			log.Printf("%v, %v", phase.Count(), inUse())
		}
	}
}

// A usage is what a leak would make grow.
type usage struct {
	goroutines, descriptors int
	live                    uint64 // bytes of the heap that the last collection found in use
}

func inUse() (u usage) {
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(live)
	u.goroutines, u.live = runtime.NumGoroutine(), live[0].Value.Uint64()
	if f, err := os.Open("/dev/null"); err == nil { // the kernel gives out the lowest number that is free
		u.descriptors = int(f.Fd())
		f.Close()
	}
	return u
}

func (u usage) String() string {
	return fmt.Sprintf("%d goroutines, %d descriptors, %d KiB live", u.goroutines, u.descriptors, u.live>>10)
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

// guardTPM asks now and then whether the TPM is still the one of this boot. One that was
// reset, or whose answer is forged, is quarantine at once; one that does not answer blocks
// what needs it, and what is live goes on.
func (f *firmware) guardTPM() {
	for range time.Tick(status) {
		err := f.chain.Check()
		switch {
		case err == nil:
			f.tpmTrouble.Store(nil)
		case code.Of(err).Class() == code.Latched:
			f.tellTPMLost()
			f.enterQuarantine(err)
			return
		default:
			f.tpmTrouble.Store(&err)
			log.Printf("%v", err)
		}
	}
}
