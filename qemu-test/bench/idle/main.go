// Idle tells how much memory Linux has in use when nothing but this program runs: the
// peer of the firmware's own figure. It prints one line,
//
//	ram.idle N bytes
//
// In use is all RAM of the board but what the kernel could give to programs (its
// MemAvailable, which counts caches that it could drop). So the kernel itself and what
// it holds back are in use.
package main

import (
	"fmt"
	"os"
	"strings"
	"time"
)

// ram is the board's memory, in bytes.
const ram = 512 << 20

// settle is how long the kernel has to end what it does after its start.
const settle = 5 * time.Second

func main() {
	time.Sleep(settle)
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		fmt.Println("idle:", err)
		os.Exit(1)
	}
	for line := range strings.Lines(string(text)) {
		var kib uint64
		if _, err := fmt.Sscanf(line, "MemAvailable: %d kB", &kib); err == nil {
			fmt.Printf("ram.idle %d bytes\n", ram-kib<<10)
			return
		}
	}
	fmt.Println("idle: /proc/meminfo has no line MemAvailable")
	os.Exit(1)
}
