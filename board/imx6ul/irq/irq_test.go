package irq

import (
	"bytes"
	"errors"
	"os"
	"testing"
	"time"
)

// A line's file, as the kernel has it.
type fake struct {
	reads    bytes.Buffer
	wrote    []byte
	deadline time.Time
	err      error
}

func (f *fake) Read(p []byte) (int, error) {
	if f.err != nil {
		return 0, f.err
	}
	return f.reads.Read(p)
}
func (f *fake) Write(p []byte) (int, error) {
	f.wrote = append(f.wrote, p...)
	return len(p), f.err
}
func (f *fake) SetReadDeadline(t time.Time) error { f.deadline = t; return nil }
func (f *fake) Close() error                      { return f.err }

func TestLine(t *testing.T) {
	f := &fake{}
	l := &Line{number: 98, file: f}
	f.reads.Write([]byte{3, 1, 0, 0})
	at := time.Unix(5, 0)
	if n, err := l.Wait(at); n != 0x103 || err != nil || !f.deadline.Equal(at) {
		t.Errorf("%#x, %v, deadline %v", n, err, f.deadline)
	}
	if err := errors.Join(l.Enable(), l.Disable()); err != nil || !bytes.Equal(f.wrote, []byte{1, 0, 0, 0, 0, 0, 0, 0}) {
		t.Errorf("wrote %v, %v", f.wrote, err)
	}
	for range 2 { // a deadline that was there is taken away
		f.reads.Write([]byte{1, 0, 0, 0})
		if n, err := l.Wait(time.Time{}); n != 1 || err != nil || !f.deadline.IsZero() {
			t.Errorf("%d, %v, deadline %v", n, err, f.deadline)
		}
	}
	f.err = os.ErrDeadlineExceeded
	if _, err := l.Wait(at); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
	}
	f.err = os.ErrClosed
	if err := l.Enable(); !errors.Is(err, os.ErrClosed) {
		t.Error(err)
	}
}

func TestOpenNothing(t *testing.T) {
	if _, err := Open(5); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a line of the processor's own: %v", err)
	}
}
