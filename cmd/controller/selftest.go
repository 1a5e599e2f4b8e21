package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"syscall"
	"unsafe"
)

// A promise is something that the kernel owes to all other code. Each is proved at
// every boot, since each is one that an attacker would like to see broken.
type promise struct {
	name string
	keep func() error
}

var promises = []promise{
	{"text cannot be written", func() error { return faults(func() { poke(functionAddress(announceReady)) }) }},
	{"constants cannot be written", func() error { return faults(func() { poke(uintptr(unsafe.Pointer(unsafe.StringData(constant)))) }) }},
	{"page 0 is not there", func() error { return faults(func() { poke(0) }) }},
	{"kernel memory is out of reach", func() error { return faults(func() { peek(0xdff20000) }) }},
	{"device pages come on request only", func() error { return faults(func() { peek(0x02020000) }) }},
	{"what needs no access is refused", refusals},
}

// selfTest proves the promises.
func selfTest() error {
	for _, p := range promises {
		if err := p.keep(); err != nil {
			return fmt.Errorf("%s: %w; the board or its kernel is not what this firmware needs: take it out of service", p.name, err)
		}
	}
	return nil
}

const constant = "never changes"

// faults reports whether f ends in a memory fault, as it must.
func faults(f func()) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if _, fault := recover().(runtime.Error); fault {
			err = nil
		}
	}()
	err = errors.New("the access went through")
	f()
	return err
}

//go:noinline
func poke(addr uintptr) { *(*uint32)(unsafe.Add(nil, addr)) = 0 }

//go:noinline
func peek(addr uintptr) uint32 { return *(*uint32)(unsafe.Add(nil, addr)) }

func functionAddress(f func()) uintptr { return **(**uintptr)(unsafe.Pointer(&f)) }

// refusals asks /dev/mem for pages that no driver may have.
func refusals() error {
	mem, err := os.OpenFile("/dev/mem", os.O_RDWR|os.O_SYNC, 0)
	if err != nil {
		return err
	}
	defer mem.Close()
	for name, addr := range map[string]int64{"interrupt controller": 0x00a01000, "reset controller": 0x020d8000, "RAM": 0x80000000} {
		_, err := syscall.Mmap(int(mem.Fd()), addr, 4096, syscall.PROT_READ, syscall.MAP_SHARED)
		if !errors.Is(err, syscall.EPERM) {
			return fmt.Errorf("mapping the %s at %#x: %v, want EPERM", name, addr, err)
		}
	}
	return nil
}
