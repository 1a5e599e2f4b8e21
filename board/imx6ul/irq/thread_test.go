package irq

import (
	"errors"
	"os"
	"syscall"
	"testing"
	"time"
)

// newPipe makes a line of a pipe, which holds what the kernel would count.
func newPipe(t *testing.T) (*ThreadLine, func(count ...byte)) {
	t.Helper()
	var ends [2]int
	if err := syscall.Pipe2(ends[:], syscall.O_NONBLOCK|syscall.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	l, err := newThreadLine(9, ends[0])
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Close(ends[1]) })
	return l, func(count ...byte) {
		if _, err := syscall.Write(ends[1], count); err != nil {
			t.Fatal(err)
		}
	}
}

// TestThreadLine: interrupts that have come, that come, and that do not.
func TestThreadLine(t *testing.T) {
	l, interrupt := newPipe(t)
	interrupt(3, 1, 0, 0)
	for _, limit := range []time.Duration{-1, time.Minute} {
		if n, err := l.Wait(limit); n != 0x103 || err != nil {
			t.Errorf("%#x, %v", n, err)
		}
		time.AfterFunc(5*time.Millisecond, func() { interrupt(3, 1, 0, 0) })
	}
	if n, err := l.Wait(-1); n != 0x103 || err != nil {
		t.Errorf("%#x, %v", n, err)
	}
	for _, limit := range []time.Duration{0, time.Microsecond, 3 * time.Millisecond} {
		begin := time.Now()
		if n, err := l.Wait(limit); n != 0 || err != nil || time.Since(begin) < limit {
			t.Errorf("limit %v: %d, %v after %v", limit, n, err, time.Since(begin))
		}
	}
	if err := l.Enable(); !errors.Is(err, syscall.EBADF) { // the end of a pipe that is read
		t.Errorf("Enable: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}

// TestThreadLineClose: who waits, or comes later, is told.
func TestThreadLineClose(t *testing.T) {
	l, _ := newPipe(t)
	back := make(chan error)
	go func() {
		_, err := l.Wait(-1)
		back <- err
	}()
	time.Sleep(5 * time.Millisecond) // it waits by now, or finds the line closed
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if err := <-back; err != os.ErrClosed {
		t.Errorf("who waited: %v", err)
	}
	if _, err := l.Wait(-1); err != os.ErrClosed {
		t.Errorf("who came later: %v", err)
	}
	if err := l.Close(); err != os.ErrClosed {
		t.Errorf("closed again: %v", err)
	}
	var stat syscall.Stat_t
	if err := syscall.Fstat(l.line, &stat); err != syscall.EBADF {
		t.Errorf("the line is still open: %v", err)
	}
}

func TestOpenThreadNothing(t *testing.T) {
	if _, err := OpenThread(5); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a line of the processor's own: %v", err)
	}
}
