// Command second is an image that a bootloader starts, in the controller's place. It
// tells on the console how it was started and what it was left, and shows that the Go
// runtime is well:
//
//	second: hand-over <hex>     the fixed part of the hand-over block; all of it is zeroed then
//	second: crash: <words>      the first line of /dev/crash, or "none"
//	second: no other image      it can neither open /dev/next nor map the window
//	second: healthy             after garbage collections, with many goroutines
//
// After a boot that left no crash record it fills memory with a pattern, the DMA memory
// too, tells "second: planted", and leaves the watchdog. After one that did it tells
// "second: idle", and runs on.
package main

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"

	_ "nitro/board/evk"
	"nitro/board/kernel"
	"nitro/board/next"
	"nitro/qemu-test/images/second/pattern"
)

func main() {
	if err := run(); err != nil {
		fmt.Println("second:", err)
		os.Exit(1)
	}
}

func run() error {
	block, err := next.Handover()
	if err != nil {
		return err
	}
	fmt.Printf("second: hand-over %x\n", block[:256])
	clear(block)
	record, err := os.ReadFile("/dev/crash")
	if err != nil {
		return err
	}
	crash, _, _ := bytes.Cut(record, []byte("\n"))
	if len(crash) == 0 {
		crash = []byte("none")
	}
	fmt.Printf("second: crash: %s\n", crash)
	if err := alone(); err != nil {
		return err
	}
	if err := healthy(); err != nil {
		return err
	}
	if len(record) == 0 {
		return plant()
	}
	fmt.Println("second: idle")
	for {
		time.Sleep(time.Minute)
	}
}

// alone makes sure that this image cannot start another.
func alone() error {
	if _, err := os.OpenFile("/dev/next", os.O_WRONLY, 0); !errors.Is(err, syscall.EPERM) {
		return fmt.Errorf("opening /dev/next: %v, want EPERM", err)
	}
	mem, err := os.OpenFile("/dev/mem", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer mem.Close()
	for _, page := range []int64{0x8000f000, 0x81fff000, 0x9800f000} {
		_, err := syscall.Mmap(int(mem.Fd()), page, 4096, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
		if !errors.Is(err, syscall.EPERM) {
			return fmt.Errorf("mapping %#x: %v, want EPERM", page, err)
		}
	}
	fmt.Println("second: no other image")
	return nil
}

// healthy keeps the scheduler and the garbage collector busy, and checks what comes of it.
func healthy() error {
	const workers, rounds = 16, 60
	want := sha256.Sum256(make([]byte, 1000*rounds))
	var wg sync.WaitGroup
	wrong := make(chan error, workers)
	for range workers {
		wg.Go(func() {
			h := sha256.New()
			for round := range rounds {
				p := make([]byte, 1000*(1+round%3))
				h.Write(p[:1000])
				if round%20 == 0 {
					runtime.GC()
				}
				time.Sleep(time.Millisecond)
			}
			if !bytes.Equal(h.Sum(nil), want[:]) {
				wrong <- errors.New("a digest is wrong")
			}
		})
	}
	wg.Wait()
	select {
	case err := <-wrong:
		return err
	default:
		fmt.Println("second: healthy")
		return nil
	}
}

// plant fills much of the memory with the pattern, and leaves the watchdog.
func plant() error {
	const size = 100 << 20
	mem, err := syscall.Mmap(-1, 0, size, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		return err
	}
	pattern.Fill(mem, pattern.Memory)
	f, err := os.OpenFile("/dev/mem", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	shared, err := syscall.Mmap(int(f.Fd()), kernel.DMAStart, kernel.DMAEnd-kernel.DMAStart, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	if err != nil {
		return err
	}
	pattern.Fill(shared, pattern.Memory)
	if _, err := os.OpenFile("/dev/watchdog", os.O_WRONLY, 0); err != nil {
		return err
	}
	fmt.Println("second: planted")
	for { // busily: an emulator that counts instructions lets time pass faster so
	}
}
