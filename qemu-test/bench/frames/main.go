// Frames measures what the Ethernet driver costs, in instructions: the board's two
// ports are on one hub, so nothing from outside takes part. It needs the emulator's
// -icount shift=0,sleep=off, under which an instruction is a nanosecond, and
//
//	-netdev hubport,id=a,hubid=0 -net nic,netdev=a -netdev hubport,id=b,hubid=0 -net nic,netdev=b
//
// Each figure is one line,
//
//	name value instructions
//
//	frame.transmit, frame.transmit60
//	    Queue and Flush of one frame of 1,514 and of 60 bytes, given as a header of 54
//	    and the rest; the median
//	frame.transmit_batched
//	    Queue of one of 32 frames of 1,514 bytes, with one Flush
//	frame.receive, frame.receive_copied
//	    Receive of one of 32 frames of 1,514 bytes that wait, which are looked at only,
//	    and which are copied out
//	frame.interrupt
//	    from the write that sends one frame of 1,514 bytes to the other port's
//	    receiver, who waits for an interrupt: kernel, scheduler and driver
//
// When something fails it says what and ends with code 1.
package main

import (
	"fmt"
	"os"
	"runtime/debug"
	"slices"
	"time"

	"nitro/board/evk"
	"nitro/board/imx6ul/enet"
)

const (
	rounds = 101 // odd, so that one is in the middle
	burst  = 32
	header = 54 // Ethernet, IPv4 and TCP
)

func main() {
	debug.SetGCPercent(-1) // no collection in the middle; little is allocated
	if err := measure(); err != nil {
		fmt.Fprintln(os.Stderr, "frames:", err)
		os.Exit(1)
	}
}

func measure() error {
	b, err := evk.Open()
	if err != nil {
		return err
	}
	from, err := open(b, 0)
	if err != nil {
		return err
	}
	to, err := open(b, 1)
	if err != nil {
		return err
	}
	w := &wire{from: from, to: to}
	for _, f := range []struct {
		name string
		size int
		one  func(pieces [][]byte) (time.Duration, error)
	}{
		{"frame.transmit", enet.MaxFrame, w.transmit}, {"frame.transmit60", 60, w.transmit},
		{"frame.transmit_batched", enet.MaxFrame, w.batched},
		{"frame.receive", enet.MaxFrame, w.receive}, {"frame.receive_copied", enet.MaxFrame, w.copied},
		{"frame.interrupt", enet.MaxFrame, w.interrupt},
	} {
		var all []time.Duration
		for range rounds {
			d, err := f.one(w.frame(f.size))
			if err != nil {
				return fmt.Errorf("%s: %w", f.name, err)
			}
			all = append(all, d)
		}
		slices.Sort(all)
		fmt.Printf("%s %d instructions\n", f.name, all[rounds/2].Nanoseconds())
	}
	return nil
}

// open opens a port and waits for its link.
func open(b *evk.Board, n int) (*enet.Port, error) {
	p, err := b.Ethernet(n)
	if err != nil {
		return nil, err
	}
	for end := time.Now().Add(10 * time.Second); !p.LinkUp(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			return nil, fmt.Errorf("port %d has no link: %w", n, p.PHYError())
		}
	}
	return p, nil
}

// A wire is two ports on a hub.
type wire struct {
	from, to *enet.Port
	buffer   [enet.MaxFrame]byte
}

// frame makes a TCP segment, as far as the driver looks at it: headers, and a payload
// that begins at a multiple of four, as the network stack's do.
func (w *wire) frame(n int) [][]byte {
	f := make([]byte, n)
	copy(f, w.to.HardwareAddr())
	copy(f[6:], w.from.HardwareAddr())
	copy(f[12:], []byte{8, 0, 0x45, 0, byte((n - 14) >> 8), byte(n - 14), 0, 0, 0, 0, 64, 6})
	return [][]byte{f[:header], append([]byte{}, f[header:]...)}
}

func (w *wire) transmit(pieces [][]byte) (time.Duration, error) {
	start := time.Now()
	err := w.from.Queue(pieces)
	if err == nil {
		err = w.from.Flush()
	}
	took := time.Since(start)
	if err == nil {
		err = w.take(1, func([]byte) {})
	}
	return took, err
}

func (w *wire) batched(pieces [][]byte) (time.Duration, error) {
	start := time.Now()
	err := w.send(pieces)
	took := time.Since(start)
	if err == nil {
		err = w.take(burst, func([]byte) {})
	}
	return took / burst, err
}

func (w *wire) receive(pieces [][]byte) (time.Duration, error) {
	return w.received(pieces, func([]byte) {})
}

func (w *wire) copied(pieces [][]byte) (time.Duration, error) {
	return w.received(pieces, func(f []byte) { copy(w.buffer[:], f) })
}

func (w *wire) received(pieces [][]byte, deliver func([]byte)) (time.Duration, error) {
	if err := w.send(pieces); err != nil {
		return 0, err
	}
	start := time.Now()
	err := w.take(burst, deliver)
	return time.Since(start) / burst, err
}

func (w *wire) send(pieces [][]byte) error {
	for range burst {
		if err := w.from.Queue(pieces); err != nil {
			return err
		}
	}
	return w.from.Flush()
}

// take receives n frames that wait.
func (w *wire) take(n int, deliver func([]byte)) error {
	for n > 0 {
		if err := w.to.Receive(-1, func(f []byte) { n--; deliver(f) }); err != nil {
			return err
		}
	}
	return nil
}

func (w *wire) interrupt(pieces [][]byte) (time.Duration, error) {
	came := make(chan time.Time)
	failed := make(chan error, 1)
	go func() {
		var at time.Time
		err := w.to.Receive(-1, func([]byte) { at = time.Now() })
		failed <- err
		came <- at
	}()
	time.Sleep(time.Millisecond) // the receiver waits by now
	if err := w.from.Queue(pieces); err != nil {
		return 0, err
	}
	start := time.Now()
	if err := w.from.Flush(); err != nil {
		return 0, err
	}
	if err := <-failed; err != nil {
		return 0, err
	}
	return (<-came).Sub(start), nil
}
