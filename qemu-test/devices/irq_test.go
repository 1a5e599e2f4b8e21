//go:build boardtest

package devices

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"nitro/qemu-test/epit"
)

// soon is a time in which an interrupt surely comes, or would have come.
const soon = 50 * time.Millisecond

// shortly is about a millisecond, in ticks. (With some microseconds the emulated
// timer has been seen to miss its time.)
const shortly = 66000

func openTimer(t *testing.T) *epit.Timer {
	t.Helper()
	timer, err := epit.Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { timer.Close() })
	return timer
}

func TestLineNumbers(t *testing.T) {
	for _, c := range []struct {
		name string
		want error
	}{
		{"0", syscall.ENOENT},
		{"29", syscall.ENOENT}, // the processor's own timer
		{"31", syscall.ENOENT},
		{"160", syscall.ENOENT},
		{"1000", syscall.ENOENT},
		{"4294967384", syscall.ENOENT}, // 88 in 32 bits
		{"-88", syscall.ENOENT},
		{"+88", syscall.ENOENT},
		{"0x58", syscall.ENOENT},
		{"88/", syscall.ENOENT},
		{"", syscall.ENOENT},
		{"58", syscall.EBUSY},  // the console's
		{"112", syscall.EBUSY}, // the watchdog's
	} {
		f, err := os.OpenFile("/dev/irq/"+c.name, os.O_RDWR, 0)
		if !errors.Is(err, c.want) {
			t.Errorf("/dev/irq/%s: %v, want %v", c.name, err, c.want)
		}
		if err == nil {
			f.Close()
		}
	}
	for n := 32; n < 160; n++ {
		if n == 58 || n == 112 {
			continue
		}
		f, err := os.OpenFile(fmt.Sprintf("/dev/irq/%d", n), os.O_RDWR, 0)
		if err != nil {
			t.Errorf("line %d: %v", n, err)
			continue
		}
		f.Close()
	}
}

func TestLineOpenTwice(t *testing.T) {
	timer := openTimer(t)
	if f, err := os.OpenFile(epit.LinePath, os.O_RDWR, 0); !errors.Is(err, syscall.EBUSY) {
		t.Fatalf("a line that is open opens as %v, %v; want EBUSY", f, err)
	}
	timer.Close()
	f, err := os.OpenFile(epit.LinePath, os.O_RDWR, 0)
	if err != nil {
		t.Fatalf("a line that was closed: %v", err)
	}
	f.Close()
}

func TestLineDeadline(t *testing.T) {
	timer := openTimer(t)
	start := time.Now()
	timer.IRQ.SetReadDeadline(start.Add(soon))
	if n, err := timer.Wait(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("%d interrupts, %v; want deadline exceeded", n, err)
	}
	if took := time.Since(start); took < soon {
		t.Errorf("the deadline passed after %v, want %v", took, soon)
	}
	timer.IRQ.SetReadDeadline(time.Now().Add(time.Minute))
	timer.Start(shortly)
	if n, err := timer.Wait(); n != 1 || err != nil {
		t.Errorf("after a missed deadline: %d interrupts, %v; want 1", n, err)
	}
}

func TestLineCloseWakes(t *testing.T) {
	timer := openTimer(t)
	got := make(chan error)
	go func() {
		_, err := timer.Wait()
		got <- err
	}()
	time.Sleep(soon) // the reader waits by now
	timer.IRQ.Close()
	select {
	case err := <-got:
		if !errors.Is(err, os.ErrClosed) {
			t.Errorf("Read of a file that is closed: %v, want file already closed", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("Close does not wake a blocked Read")
	}
}

// TestLineMask disables the line by hand, and finds that an interrupt comes once
// for each time that it is enabled.
func TestLineMask(t *testing.T) {
	timer := openTimer(t)
	expect := func(what string, want uint32) {
		t.Helper()
		timer.IRQ.SetReadDeadline(time.Now().Add(soon))
		n, err := timer.Wait()
		if n != want || (err != nil) != (want == 0) {
			t.Fatalf("%s: %d interrupts, %v; want %d", what, n, err, want)
		}
	}
	if _, err := timer.IRQ.Write([]byte{0, 0, 0, 0}); err != nil {
		t.Fatal(err)
	}
	timer.Start(shortly)
	expect("disabled", 0)
	timer.Enable()
	expect("enabled", 1)
	expect("not enabled again", 0)
	timer.Enable()
	expect("enabled, and never cleared", 1)
	timer.Clear()
	timer.Enable()
	expect("cleared", 0)
	for _, bad := range [][]byte{{}, {1}, {1, 0, 0}, {2, 0, 0, 0}, {1, 0, 0, 1}, {1, 0, 0, 0, 0}} {
		if n, err := syscall.Write(int(timer.IRQ.Fd()), bad); err != syscall.EINVAL {
			t.Errorf("writing % x: %d, %v; want EINVAL", bad, n, err)
		}
	}
}

// TestStorm never clears its device's interrupt and enables the line as fast as it
// can: each time there is an interrupt. The rest goes on.
func TestStorm(t *testing.T) {
	const long = 300 * time.Millisecond
	timer := openTimer(t)
	var progress atomic.Uint64
	var done atomic.Bool
	defer done.Store(true)
	go func() {
		for !done.Load() {
			progress.Add(1)
		}
	}()
	measure := func() uint64 {
		before := progress.Load()
		time.Sleep(long)
		return progress.Load() - before
	}
	quiet := measure()
	stormed := make(chan error)
	var count atomic.Uint64
	timer.Start(shortly)
	go func() {
		for !done.Load() {
			if _, err := timer.Wait(); err != nil {
				stormed <- err
				return
			}
			count.Add(1)
			timer.Enable()
		}
		stormed <- nil
	}()
	start := time.Now()
	stormy := measure()
	took := time.Since(start)
	done.Store(true)
	timer.IRQ.SetReadDeadline(time.Now().Add(10 * time.Second))
	if err := <-stormed; err != nil {
		t.Fatal(err)
	}
	t.Logf("progress %d in a storm of %d interrupts, %d without", stormy, count.Load(), quiet)
	if count.Load() < 10 { // a busy machine's emulator has few in the time
		t.Errorf("the storm had %d interrupts, want at least 10", count.Load())
	}
	if stormy < quiet/20 {
		t.Errorf("progress %d in the storm, %d without", stormy, quiet)
	}
	if took > 10*long {
		t.Errorf("a sleep of %v took %v in the storm", long, took)
	}
}
