package mmio

import (
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// memory makes a window onto ordinary memory.
func memory(t *testing.T) *Window {
	mem, err := syscall.Mmap(-1, 0, pageSize, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE|syscall.MAP_ANON)
	if err != nil {
		t.Fatal(err)
	}
	return &Window{0x1000, mem}
}

func TestWindow(t *testing.T) {
	w := memory(t)
	var r Registers = w
	r.Write32(8, 0x11223344)
	r.Write16(10, 0xaabb)
	if got := r.Read32(8); got != 0xaabb3344 {
		t.Errorf("32 bits: %#x", got)
	}
	if got := r.Read16(8); got != 0x3344 {
		t.Errorf("16 bits: %#x", got)
	}
	r.Write32(pageSize-4, 5)
	Barrier()
	if r.Read32(pageSize-4) != 5 {
		t.Error("the last register is lost")
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	if !panics(func() { r.Read32(8) }) {
		t.Error("an access after Close went through")
	}
}

func panics(f func()) (yes bool) {
	defer func() { yes = recover() != nil }()
	f()
	return false
}

func TestMistakes(t *testing.T) {
	w := memory(t)
	for name, f := range map[string]func(){
		"read beyond":     func() { w.Read32(pageSize) },
		"write beyond":    func() { w.Write32(pageSize, 0) },
		"wrapping offset": func() { w.Read32(0xfffffffc) },
		"unaligned":       func() { w.Read32(2) },
		"unaligned half":  func() { w.Write16(1, 0) },
		"half beyond":     func() { w.Read16(pageSize) },
	} {
		if !panics(f) {
			t.Errorf("%s went through", name)
		}
	}
	for _, c := range []struct{ base, size uint32 }{{0x20, pageSize}, {pageSize, 0}, {pageSize, 20}} {
		if _, err := Map(c.base, c.size); err == nil || !strings.Contains(err.Error(), "whole pages") {
			t.Errorf("%#x bytes at %#x: %v", c.size, c.base, err)
		}
	}
}

// TestWait: a wait ends when the condition holds, and when the limit has passed,
// which it does not overrun by more than a pause.
func TestWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		n := 0
		if !Wait(func() bool { n++; return n == 3 }, time.Second) || n != 3 || time.Since(start) != 0 {
			t.Errorf("a short wait took %d polls and %v", n, time.Since(start))
		}
		if Wait(func() bool { n++; return false }, time.Second) {
			t.Error("what never holds held")
		}
		if took := time.Since(start); took < time.Second || took > time.Second+pause {
			t.Errorf("a limit of a second took %v", took)
		}
		start, n = time.Now(), 0
		if Wait(func() bool { n++; return false }, 0) || n <= pollsWithoutPause || time.Since(start) != 0 {
			t.Errorf("no limit: %d polls, %v", n, time.Since(start))
		}
		start = time.Now()
		late := func() bool { return time.Since(start) >= time.Millisecond }
		if !Wait(late, time.Second) || time.Since(start) > time.Millisecond+pause {
			t.Errorf("a wait of a millisecond took %v", time.Since(start))
		}
	})
}

// TestWaitLateLook: the condition is looked at after the limit too.
func TestWaitLateLook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		held := Wait(func() bool {
			if n++; n == pollsWithoutPause+1 {
				time.Sleep(time.Hour) // not scheduled meanwhile
			}
			return n > pollsWithoutPause+1
		}, time.Second)
		if !held {
			t.Error("the device was in time, the wait saw its limit")
		}
	})
}

// nothing is where the bus refuses the access: it panics as the runtime does then. (A
// real refusal is in qemu-test/board.)
type nothing struct{ *Window }

func (nothing) Read32(uint32) uint32 { panic(refusal{}) }

type refusal struct{ error }

func (refusal) Addr() uintptr { return 0x2284000 }

func TestProbe(t *testing.T) {
	w := memory(t)
	w.Write32(16, 0x1234)
	if v, err := Probe(w, 16); v != 0x1234 || err != nil {
		t.Errorf("what is there: %#x, %v", v, err)
	}
	if v, err := Probe(nothing{w}, 16); v != 0 || err == nil || !strings.Contains(err.Error(), "nothing answers") {
		t.Errorf("what is not there: %#x, %v", v, err)
	}
	if !panics(func() { Probe(w, 2) }) {
		t.Error("a driver's mistake was taken for a block that is not there")
	}
}
