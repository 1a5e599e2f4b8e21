package kernel

import (
	"strings"
	"testing"
)

// newConsole is a console whose UART is ordinary memory: a transmitter that is
// ready, or is not, for as long as the test likes.
func newConsole(t *testing.T, full bool) *console {
	c := &console{uart: lowMemory(t, pageSize)}
	if full {
		store(c.uart+uartUTS, utsTXFULL)
	}
	return c
}

// TestTransmitNeverWaits: a transmitter that never gets ready costs a look, and
// an interrupt is asked for.
func TestTransmitNeverWaits(t *testing.T) {
	c := newConsole(t, true)
	for range 100 {
		c.put('a')
	}
	c.transmit()
	if c.head-c.tail != 100 || load(c.uart+uartTXD) != 0 {
		t.Errorf("%d of 100 bytes are left", c.head-c.tail)
	}
	if load(c.uart+uartUCR1) != ucr1UARTEN|ucr1TRDYEN {
		t.Errorf("UCR1 is %#x: no interrupt was asked for", load(c.uart+uartUCR1))
	}
}

// TestTransmitIsBounded: a transmitter that is always ready is given one FIFO's
// worth at a time; the interrupt is on while there is more, then off.
func TestTransmitIsBounded(t *testing.T) {
	c := newConsole(t, false)
	for i := range 2*uartFIFO + 5 {
		c.put(byte('0' + i))
	}
	for _, left := range []uint32{uartFIFO + 5, 5, 0, 0} {
		store(c.uart+uartTXD, 0)
		was := c.head - c.tail
		c.transmit()
		if c.head-c.tail != left {
			t.Fatalf("%d bytes are left, not %d", c.head-c.tail, left)
		}
		if more := load(c.uart+uartUCR1)&ucr1TRDYEN != 0; was > 0 && more != (left > 0) {
			t.Errorf("with %d bytes left the interrupt is on: %v", left, more)
		}
		if last := load(c.uart + uartTXD); was > 0 && last != uint32('0'+2*uartFIFO+4)-left {
			t.Errorf("with %d bytes left the last one sent is %#x", left, last)
		}
	}
}

// TestWritersWakeWhenThereIsRoom: half the ring must be free.
func TestWritersWakeWhenThereIsRoom(t *testing.T) {
	k := newKernel(t, 2)
	k.console.uart = lowMemory(t, pageSize)
	for k.console.room() >= maxPut {
		k.console.put('x')
	}
	th := k.current
	k.park(nodeConsole, never)
	k.reschedule(0)
	for k.thread[th].state == threadWaiting {
		if k.console.room() >= consoleSize/2 {
			t.Fatal("there is room, but the writer sleeps")
		}
		k.consoleInterrupt()
	}
	if k.console.room() < consoleSize/2 || k.work&workSchedule == 0 {
		t.Errorf("woken with room for %d", k.console.room())
	}
}

// TestConsoleRing: what is put in comes out, in order, line feeds as CR LF, also
// when the counters wrap.
func TestConsoleRing(t *testing.T) {
	c := &console{head: ^uint32(99), tail: ^uint32(99)}
	if _, ok := c.take(); ok {
		t.Fatal("a byte from an empty ring")
	}
	in := strings.Repeat("line\n", 3000)
	out := []byte{}
	for i := range len(in) {
		if c.room() < maxPut {
			t.Fatal("no room")
		}
		c.put(in[i])
		for i%7 == 0 || c.room() < maxPut {
			b, ok := c.take()
			if !ok {
				break
			}
			out = append(out, b)
		}
	}
	for b, ok := c.take(); ok; b, ok = c.take() {
		out = append(out, b)
	}
	if string(out) != strings.ReplaceAll(in, "\n", "\r\n") {
		t.Errorf("%d bytes came out of %d", len(out), len(in))
	}
}

// TestSayStopsWhenFull: the kernel never waits for the console, and never
// overwrites what has not been sent.
func TestSayStopsWhenFull(t *testing.T) {
	c := new(console)
	txt := new(text)
	for range 5 {
		for range 8192 {
			txt.char('\n')
		}
		c.say(txt)
	}
	if c.head-c.tail > consoleSize || c.room() >= maxPut || txt.n != 0 {
		t.Errorf("%d bytes in a ring of %d", c.head-c.tail, consoleSize)
	}
}
