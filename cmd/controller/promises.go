package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"sync"
	"syscall"
	"time"
	"unsafe"
)

// A promise is something that the kernel or the Go runtime owes to all other code.
type promise struct {
	name string
	keep func() error
}

var promises = []promise{
	{"text cannot be written", func() error { return faults(func() { poke(functionAddress(reportCrash)) }) }},
	{"constants cannot be written", func() error { return faults(func() { poke(uintptr(unsafe.Pointer(unsafe.StringData(constant)))) }) }},
	{"page 0 is not there", func() error { return faults(func() { poke(0) }) }},
	{"kernel memory is out of reach", func() error { return faults(func() { peek(0xdff20000) }) }},
	{"device pages come on request only", func() error { return faults(func() { peek(0x0209c000) }) }},
	{"what needs no access is refused", refusals},
	{"goroutines, preemption, timers", concurrency},
	{"garbage collection", collection},
	{"random numbers differ", randomness},
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

// concurrency runs goroutines that never yield beside ones that sleep.
func concurrency() error {
	done := make(chan struct{})
	for range 2 {
		go func() {
			for n := 0; ; n++ {
				select {
				case <-done:
					return
				default:
				}
			}
		}()
	}
	defer close(done)
	var wg sync.WaitGroup
	for range 1000 {
		wg.Go(func() { time.Sleep(10 * time.Millisecond) })
	}
	slept := make(chan struct{})
	go func() { wg.Wait(); close(slept) }()
	select {
	case <-slept:
		return nil
	case <-time.After(20 * time.Second):
		return errors.New("1,000 sleepers of 10 ms are not up after 20 s")
	}
}

type tree struct{ left, right *tree }

func grow(depth int) *tree {
	if depth == 0 {
		return &tree{}
	}
	return &tree{grow(depth - 1), grow(depth - 1)}
}

func (t *tree) count() int {
	if t == nil {
		return 0
	}
	return 1 + t.left.count() + t.right.count()
}

// collection keeps a tree alive through collections that reuse what lies around it.
func collection() error {
	const depth = 14
	live := grow(depth)
	for range 8 {
		if n := grow(depth).count(); n != 1<<(depth+1)-1 {
			return fmt.Errorf("a new tree has %d nodes", n)
		}
		debug.FreeOSMemory()
	}
	if n := live.count(); n != 1<<(depth+1)-1 {
		return fmt.Errorf("the live tree has %d nodes", n)
	}
	return nil
}

// randomness is no test of quality, only of the generator being there.
func randomness() error {
	var a, b [32]byte
	rand.Read(a[:])
	rand.Read(b[:])
	if a == b {
		return errors.New("two draws are equal")
	}
	return nil
}
