package main

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"
)

// In the functions below the comment "here" marks the line that the Go runtime's
// trace must name.

//go:noinline
func panics(word uint32) {
	panic(errors.New("this was to be expected")) // here
}

//go:noinline
func dereferencesNil(p *[4]uint32, word uint32) {
	p[1] = word // here
}

// exhaustsMemory takes memory and keeps it, until the runtime finds no more.
func exhaustsMemory() {
	var kept [][]byte
	for {
		kept = append(kept, make([]byte, 4<<20)) // here
		kept[len(kept)-1][0] = byte(len(kept))
	}
}

// overflowsStack grows the stack until the runtime's limit.
func overflowsStack(word uint32) uint32 {
	var frame [256]uint32
	frame[word%uint32(len(frame))] = word
	return overflowsStack(word) + frame[(word+1)%uint32(len(frame))] // here
}

//go:noinline
func deadlocks(word uint32) {
	select {} // here
}

// absentDevice is an address that /dev/mem allows, in the I2C controllers' range,
// where the emulated board has no device.
const absentDevice = 0x021a1000

func touchesAbsentDevice() {
	mem, err := os.OpenFile("/dev/mem", os.O_RDWR, 0)
	if err != nil {
		fmt.Println("die:", err)
		os.Exit(1)
	}
	page, err := syscall.Mmap(int(mem.Fd()), absentDevice, 4096, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	if err != nil {
		fmt.Println("die: mapping", err)
		os.Exit(1)
	}
	page[8] = 1 // here
	fmt.Println("die: an absent device was written to, and nothing happened")
}

// smashesStack loses its return address and then faults: the runtime cannot find
// the callers, and shows what is on the stack instead.
func smashesStack() { smash(secret) }

// smash overwrites its return address with the word, and writes to address 0.
//
//go:noescape
func smash(word uint32)

// isKilled sends itself a signal that nobody can handle.
func isKilled() {
	err := syscall.Kill(syscall.Getpid(), syscall.SIGKILL)
	fmt.Println("die: outlived SIGKILL:", err)
}

// leavesWatchdog services the watchdog a few times and then no longer.
func leavesWatchdog() {
	dog, err := os.OpenFile("/dev/watchdog", os.O_WRONLY, 0)
	if err != nil {
		fmt.Println("die:", err)
		os.Exit(1)
	}
	for range 3 {
		if _, err := dog.Write([]byte{0}); err != nil {
			fmt.Println("die: servicing the watchdog:", err)
			os.Exit(1)
		}
		time.Sleep(100 * time.Millisecond)
	}
	spin(secret)
}

// spin never returns. All registers that a program may use hold the word.
//
//go:noescape
func spin(word uint32)

func exits() { os.Exit(3) }

// waits waits for death from outside.
func waits() {
	for {
		time.Sleep(time.Second)
	}
}
