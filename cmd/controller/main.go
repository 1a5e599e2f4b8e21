// Command controller is the firmware of the Nitro Controller.
//
// So far it stands on the ground only: it tells how the previous boot ended,
// proves on the running board the promises that everything else will rely on, and
// then keeps the watchdog fed while it reports what the kernel counts. Any promise
// that is broken ends the firmware.
package main

import (
	"fmt"
	"log"
	"os"
	"runtime"
	"strings"
	"time"

	_ "nitro/board/evk"
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("controller: ")
	log.SetOutput(os.Stdout)
	log.Printf("%s %s/%s, %d processors reported", runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU())
	reportCrash()
	for _, p := range promises {
		start := time.Now()
		if err := p.keep(); err != nil {
			log.Fatalf("%s: %v; the board or its kernel is not what this firmware needs: take it out of service", p.name, err)
		}
		log.Printf("ok %-34s %8.1f ms", p.name, float64(time.Since(start).Microseconds())/1000)
	}
	log.Print("ready")
	if err := watch(); err != nil {
		log.Fatalf("watchdog: %v", err)
	}
}

// reportCrash shows what the kernel kept of how the previous boot died.
func reportCrash() {
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

// Times of the watchdog's service and of the status line.
const (
	service = 5 * time.Second
	status  = 30 * time.Second
)

// watch services the watchdog as long as the Go scheduler runs, and says now and
// then how the kernel is doing. It returns only if the watchdog is lost.
func watch() error {
	dog, err := os.OpenFile("/dev/watchdog", os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer dog.Close()
	last := time.Now()
	for {
		if _, err := dog.Write([]byte{1}); err != nil {
			return err
		}
		time.Sleep(service)
		if time.Since(last) >= status {
			last = time.Now()
			log.Print(kernelStatus())
		}
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
