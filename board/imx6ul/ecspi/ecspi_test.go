package ecspi

import (
	"bytes"
	"errors"
	"testing"
	"testing/synctest"

	"nitro/board/imx6ul/mmio"
	"nitro/board/imx6ul/mmio/mmiotest"
)

// A wire is a script of the block and of the line that selects the device.
type wire struct {
	*mmiotest.Script
	r, cs *mmiotest.Block
	bus   *Bus
}

// line plays the chip select as a register.
type line struct{ mmio.Registers }

func (l line) Set(high bool) {
	v := uint32(0)
	if high {
		v = 1
	}
	l.Write32(0, v)
}

const control = 1 | 1<<4 | 2<<12 // enabled, channel 0 master, 60 MHz / 3

func setUp(t *testing.T) *wire {
	s := mmiotest.New(t)
	w := &wire{Script: s, r: s.Block("ecspi"), cs: s.Block("cs")}
	s.Expect(w.cs.Writes(0, 1), w.r.Writes(regCONREG, 0), w.r.Writes(regCONREG, control), w.r.Writes(regCONFIGREG, 0),
		w.r.Writes(regINTREG, 0), w.r.Writes(regDMAREG, 0), w.r.Writes(regPERIODREG, 0))
	bus, err := New(w.r, Config{Clock: 60000000, Speed: 25000000, Select: line{w.cs}})
	if err != nil {
		t.Fatal(err)
	}
	w.bus = bus
	return w
}

// burst expects words to go out as one burst of n bytes, and others to come in.
func (w *wire) burst(n uint32, out, in []uint32) {
	for _, v := range out {
		w.Expect(w.r.Writes(regTXDATA, v))
	}
	w.Expect(w.r.Writes(regCONREG, control|(n*8-1)<<20|1<<2), w.r.Reads(regSTATREG, 0x03), w.r.Reads(regSTATREG, 0x8b),
		w.r.Writes(regSTATREG, 0x80), w.r.Reads(regSTATREG, 0x0b))
	for _, v := range in {
		w.Expect(w.r.Reads(regRXDATA, v))
	}
	w.Expect(w.r.Reads(regSTATREG, 0x03))
}

// TestTx: bytes that make no whole word come first, in the lowest part.
func TestTx(t *testing.T) {
	w := setUp(t)
	w.Expect(w.cs.Writes(0, 0))
	w.burst(5, []uint32{0x12, 0x3456789a}, []uint32{0xff, 0xffffffff})
	w.burst(7, []uint32{0, 0}, []uint32{0xaa010203, 0x04050607})
	w.Expect(w.cs.Writes(0, 1))
	read := make([]byte, 7)
	if err := w.bus.Tx([]byte{0x12, 0x34, 0x56, 0x78, 0x9a}, read); err != nil || !bytes.Equal(read, []byte{1, 2, 3, 4, 5, 6, 7}) {
		t.Errorf("%x, %v", read, err)
	}
	w.Expect(w.cs.Writes(0, 0))
	w.burst(1, []uint32{6}, []uint32{0})
	w.Expect(w.cs.Writes(0, 1))
	if err := w.bus.Tx([]byte{6}, nil); err != nil {
		t.Error(err)
	}
}

// TestLong: more than the FIFO holds goes in several bursts under one chip select.
func TestLong(t *testing.T) {
	w := setUp(t)
	words := make([]uint32, 64)
	out := make([]byte, 260)
	for i := range words {
		words[i] = uint32(i) * 0x01010101
		for j := range 4 {
			out[i*4+j] = byte(i)
		}
	}
	copy(out[256:], "last")
	w.Expect(w.cs.Writes(0, 0))
	w.burst(256, words, make([]uint32, 64))
	w.burst(4, []uint32{0x6c617374}, []uint32{0})
	w.Expect(w.cs.Writes(0, 1))
	if err := w.bus.Tx(out, nil); err != nil {
		t.Error(err)
	}
}

// TestStuck: a burst that does not end is an error within its limit, and the block is
// reset.
func TestStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := setUp(t)
		w.Expect(w.cs.Writes(0, 0), w.r.Writes(regTXDATA, 5), w.r.Writes(regCONREG, control|7<<20|4), w.r.Polls(regSTATREG, 0x03),
			w.r.Writes(regCONREG, 0), w.r.Writes(regCONREG, control), w.cs.Writes(0, 1), w.r.Reads(regSTATREG, 3))
		if err := w.bus.Tx([]byte{5}, make([]byte, 1)); !errors.Is(err, ErrStuck) {
			t.Error(err)
		}
	})
}

// TestReceived: too little, too much, or an overflow.
func TestReceived(t *testing.T) {
	for _, c := range []struct{ before, after uint32 }{{0x03, 0x03}, {0x4b, 0x03}, {0x0b, 0x0b}} {
		w := setUp(t)
		w.Expect(w.cs.Writes(0, 0), w.r.Writes(regTXDATA, 5), w.r.Writes(regCONREG, control|7<<20|4), w.r.Reads(regSTATREG, 0x80), w.r.Writes(regSTATREG, 0x80),
			w.r.Reads(regSTATREG, c.before), w.r.Reads(regRXDATA, 0))
		if c.before == 0x0b {
			w.Expect(w.r.Reads(regSTATREG, c.after))
		}
		w.Expect(w.r.Writes(regCONREG, 0), w.r.Writes(regCONREG, control), w.cs.Writes(0, 1), w.r.Reads(regSTATREG, 3))
		if err := w.bus.Tx([]byte{5}, nil); !errors.Is(err, ErrReceived) {
			t.Errorf("%#x, %#x: %v", c.before, c.after, err)
		}
	}
}

func TestDividers(t *testing.T) {
	for _, c := range []struct{ clock, speed, pre, post, is uint32 }{
		{60000000, 60000000, 0, 0, 60000000}, {60000000, 100000000, 0, 0, 60000000}, {60000000, 25000000, 2, 0, 20000000},
		{60000000, 30000000, 1, 0, 30000000}, {60000000, 1000000, 14, 2, 1000000}, {60000000, 59999999, 1, 0, 30000000}, {60000000, 115, 15, 15, 114},
	} {
		pre, post, is, ok := dividers(c.clock, c.speed)
		if !ok || (pre+1)<<post != (c.pre+1)<<c.post || is != c.is {
			t.Errorf("%d of %d: %d, %d, %d, %t", c.speed, c.clock, pre, post, is, ok)
		}
	}
	if _, _, _, ok := dividers(60000000, 114); ok {
		t.Error("slower than the block can")
	}
	if _, err := New(mmiotest.New(t).Block("ecspi"), Config{Clock: 60000000, Select: line{}}); err == nil {
		t.Error("a bus of 0 Hz")
	}
}
