package i2c

import (
	"bytes"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"nitro/board/imx6ul/gpio"
	"nitro/board/imx6ul/mmio/mmiotest"
)

const (
	on    = i2crIEN | i2crIIEN
	begin = on | i2crMSTA | i2crMTX
	busy  = i2srIBB
	done  = i2srIBB | i2srIIF
)

// A wire is a script of one I2C block, set up for a bus.
type wire struct {
	*mmiotest.Script
	r   *mmiotest.Block
	bus *Bus
}

func setUp(t *testing.T, pins func(*mmiotest.Script) Pins) *wire {
	s := mmiotest.New(t)
	w := &wire{Script: s, r: s.Block("i2c")}
	c := Config{Clock: 66000000, Speed: 100000}
	if pins != nil {
		c.Pins = pins(s)
	}
	s.Expect(w.r.Writes16(regI2CR, 0), w.r.Writes16(regIFDR, 0x39)) // 66 MHz / 768
	bus, err := New(w.r, c)
	if err != nil {
		t.Fatal(err)
	}
	w.bus = bus
	return w
}

// start expects the bus to be found free and taken.
func (w *wire) start() {
	w.Expect(w.r.Writes16(regI2CR, on), w.r.Writes16(regI2SR, 0), w.r.Polls16(regI2SR, 0x81&^1),
		w.r.Writes16(regI2CR, begin), w.r.Reads16(regI2SR, 0), w.r.Reads16(regI2SR, busy))
}

// sends expects a byte to go out, and the status that follows.
func (w *wire) sends(v, status uint16) {
	w.Expect(w.r.Writes16(regI2DR, v), w.r.Reads16(regI2SR, busy), w.r.Reads16(regI2SR, status), w.r.Writes16(regI2SR, 0))
}

// receives expects a byte to come in: what must happen between its arrival and
// reading it out comes as before.
func (w *wire) receives(v uint16, before ...*mmiotest.Step) {
	w.Expect(w.r.Reads16(regI2SR, busy), w.r.Reads16(regI2SR, done), w.r.Writes16(regI2SR, 0))
	w.Expect(before...)
	w.Expect(w.r.Reads16(regI2DR, v))
}

func (w *wire) stop() []*mmiotest.Step {
	return []*mmiotest.Step{w.r.Writes16(regI2CR, on), w.r.Reads16(regI2SR, busy), w.r.Reads16(regI2SR, 0)}
}

func TestWrite(t *testing.T) {
	w := setUp(t, nil)
	w.start()
	w.sends(0xa0, done)
	w.sends(0x12, done)
	w.sends(0x34, done)
	w.Expect(w.stop()...)
	if err := w.bus.Tx(0x50, []byte{0x12, 0x34}, nil); err != nil {
		t.Error(err)
	}
}

func TestWriteThenRead(t *testing.T) {
	w := setUp(t, nil)
	w.start()
	w.sends(0xa0, done)
	w.sends(0x12, done)
	w.Expect(w.r.Writes16(regI2CR, begin|i2crRSTA))
	w.sends(0xa1, done)
	w.Expect(w.r.Writes16(regI2CR, on|i2crMSTA), w.r.Reads16(regI2DR, 0xff))
	w.receives(1)
	w.receives(2, w.r.Writes16(regI2CR, on|i2crMSTA|i2crTXAK))
	w.receives(3, w.stop()...)
	read := make([]byte, 3)
	if err := w.bus.Tx(0x50, []byte{0x12}, read); err != nil || !bytes.Equal(read, []byte{1, 2, 3}) {
		t.Errorf("%v, %v", read, err)
	}
}

func TestReadOne(t *testing.T) {
	w := setUp(t, nil)
	w.start()
	w.sends(0x91, done)
	w.Expect(w.r.Writes16(regI2CR, on|i2crMSTA|i2crTXAK), w.r.Reads16(regI2DR, 0xff))
	w.receives(0x77, w.stop()...)
	read := make([]byte, 1)
	if err := w.bus.Tx(0x48, nil, read); err != nil || read[0] != 0x77 {
		t.Errorf("%v, %v", read, err)
	}
}

func TestNoAcknowledge(t *testing.T) {
	w := setUp(t, nil)
	w.start()
	w.sends(0xa0, done|i2srRXAK)
	w.Expect(w.stop()...)
	w.Expect(w.r.Reads16(regI2SR, 1))
	if err := w.bus.Tx(0x50, []byte{1}, nil); !errors.Is(err, ErrNoAnswer) {
		t.Errorf("address: %v", err)
	}
	w.start()
	w.sends(0xa0, done)
	w.sends(1, done|i2srRXAK)
	w.Expect(w.stop()...)
	w.Expect(w.r.Reads16(regI2SR, 1))
	if err := w.bus.Tx(0x50, []byte{1, 2}, nil); !errors.Is(err, ErrRefused) {
		t.Errorf("byte: %v", err)
	}
	if err := w.bus.Tx(0x80, nil, nil); err == nil {
		t.Error("an address of 8 bits was taken")
	}
}

// TestNoAcknowledgeOfQEMU: no IIF comes, but no byte is on its way either.
func TestNoAcknowledgeOfQEMU(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := setUp(t, nil)
		w.start()
		w.Expect(w.r.Writes16(regI2DR, 0xa0), w.r.Polls16(regI2SR, i2srICF|busy|i2srRXAK), w.r.Writes16(regI2SR, 0))
		w.Expect(w.stop()...)
		w.Expect(w.r.Reads16(regI2SR, 1))
		if err := w.bus.Tx(0x50, nil, nil); !errors.Is(err, ErrNoAnswer) {
			t.Error(err)
		}
	})
}

// TestArbitrationLost: no stop, the block is switched off, and the next transfer
// goes on as ever.
func TestArbitrationLost(t *testing.T) {
	w := setUp(t, nil)
	w.start()
	w.sends(0xa0, done|i2srIAL)
	w.Expect(w.r.Writes16(regI2SR, 0), w.r.Writes16(regI2CR, 0), w.r.Reads16(regI2SR, busy))
	if err := w.bus.Tx(0x50, nil, nil); !errors.Is(err, ErrArbitration) {
		t.Errorf("byte: %v", err)
	}
	w.Expect(w.r.Writes16(regI2CR, on), w.r.Writes16(regI2SR, 0), w.r.Reads16(regI2SR, 0),
		w.r.Writes16(regI2CR, begin), w.r.Reads16(regI2SR, busy|i2srIAL),
		w.r.Writes16(regI2SR, 0), w.r.Writes16(regI2CR, 0), w.r.Reads16(regI2SR, busy))
	if err := w.bus.Tx(0x50, nil, nil); !errors.Is(err, ErrArbitration) {
		t.Errorf("start: %v", err)
	}
	w.start()
	w.sends(0xa0, done)
	w.Expect(w.stop()...)
	if err := w.bus.Tx(0x50, nil, nil); err != nil {
		t.Error(err)
	}
}

// TestClockHeld: a device that stretches the clock without end is an error within
// the limit, even if nothing can free it.
func TestClockHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := setUp(t, nil)
		w.start()
		w.Expect(w.r.Writes16(regI2DR, 0xa0), w.r.Polls16(regI2SR, busy),
			w.r.Writes16(regI2CR, on), w.r.Polls16(regI2SR, busy), w.r.Writes16(regI2CR, 0), w.r.Reads16(regI2SR, busy))
		start := time.Now()
		err := w.bus.Tx(0x50, nil, nil)
		if took := time.Since(start); !errors.Is(err, ErrClockHeld) || took > 3*defaultLimit {
			t.Errorf("%v, after %v", err, took)
		}
	})
}

// TestNoStart: the block never says that it has the bus.
func TestNoStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := setUp(t, nil)
		w.Expect(w.r.Writes16(regI2CR, on), w.r.Writes16(regI2SR, 0), w.r.Reads16(regI2SR, 0),
			w.r.Writes16(regI2CR, begin), w.r.Polls16(regI2SR, 0),
			w.r.Writes16(regI2CR, on), w.r.Reads16(regI2SR, 0), w.r.Reads16(regI2SR, 0))
		if err := w.bus.Tx(0x50, nil, nil); !errors.Is(err, ErrClockHeld) {
			t.Error(err)
		}
	})
}

type pad struct {
	block  *mmiotest.Block
	offset uint32
}

func (p pad) Select() { p.block.Write32(p.offset, 1) }

// GPIO's registers, and the lines' bits.
const (
	dr, gdir, psr = 0, 4, 8
	scl, sda      = 1 << 28, 1 << 29
)

// TestFreed: a device holds the data line. After the third clock it lets go; the
// lines are GPIO only meanwhile, and never driven high.
func TestFreed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g, mux *mmiotest.Block
		w := setUp(t, func(s *mmiotest.Script) Pins {
			g, mux = s.Block("gpio"), s.Block("mux")
			s.Expect(g.Reads(dr, 0))
			p := gpio.New(g)
			return &Pads{Clock: p.Line(28, "scl", pad{mux, 0}), Data: p.Line(29, "sda", pad{mux, 4}), Function: []gpio.Pad{pad{mux, 8}, pad{mux, 12}}}
		})
		r := w.r
		release := func(bit uint32) { w.Expect(g.Reads(gdir, bit), g.Writes(gdir, 0)) }
		pull := func(bit, all uint32) {
			w.Expect(g.Writes(dr, 0), g.Reads(gdir, all&^bit), g.Writes(gdir, all))
		}
		levels := func(v uint32) { w.Expect(g.Reads(psr, v), g.Reads(psr, v)) }

		w.Expect(r.Writes16(regI2CR, on), r.Writes16(regI2SR, 0), r.Polls16(regI2SR, busy), r.Writes16(regI2CR, 0))
		w.Expect(g.Reads(gdir, 0), g.Writes(gdir, 0), mux.Writes(0, 1), g.Reads(gdir, 0), g.Writes(gdir, 0), mux.Writes(4, 1))
		for range 3 {
			levels(scl)
			levels(scl)
			pull(scl, scl)
			release(scl)
		}
		levels(scl | sda)
		levels(scl | sda)
		pull(scl, scl)
		pull(sda, scl|sda)
		w.Expect(g.Reads(gdir, scl|sda), g.Writes(gdir, sda))
		levels(scl)
		release(sda)
		levels(scl | sda)
		w.Expect(mux.Writes(8, 1), mux.Writes(12, 1), r.Writes16(regI2CR, on), r.Writes16(regI2SR, 0), r.Reads16(regI2SR, 0),
			r.Writes16(regI2CR, begin), r.Reads16(regI2SR, busy))
		w.sends(0xa0, done)
		w.Expect(w.stop()...)
		if err := w.bus.Tx(0x50, nil, nil); err != nil {
			t.Error(err)
		}
	})
}

// stuck are pins whose device lets go of data after some clocks, or never, and may
// hold the clock.
type stuck struct {
	clocks    int // until data is released
	holdClock bool
	low       bool // we pull the clock
	given     bool
}

func (s *stuck) Take() { s.given = false }
func (s *stuck) Give() { s.given = true }
func (s *stuck) SCL(low bool) {
	if s.low && !low {
		s.clocks--
	}
	s.low = low
}
func (s *stuck) SDA(bool) {}
func (s *stuck) Levels() (scl, sda bool) {
	return !s.holdClock && !s.low, s.clocks <= 0
}

func TestFree(t *testing.T) {
	for _, c := range []struct {
		pins stuck
		want error
	}{
		{stuck{clocks: 0}, nil}, {stuck{clocks: 1}, nil}, {stuck{clocks: 10}, nil}, {stuck{clocks: 11}, ErrDataHeld}, // nine, and the one of the stop
		{stuck{clocks: 100}, ErrDataHeld}, {stuck{holdClock: true}, ErrClockHeld},
	} {
		synctest.Test(t, func(t *testing.T) {
			p := c.pins
			w := setUp(t, func(*mmiotest.Script) Pins { return &p })
			w.Expect(w.r.Writes16(regI2CR, 0), w.r.Writes16(regI2CR, on), w.r.Writes16(regI2SR, 0))
			start := time.Now()
			if err := w.bus.free(); !errors.Is(err, c.want) || !p.given {
				t.Errorf("%+v: %v, lines given back: %v", c.pins, err, p.given)
			}
			if took := time.Since(start); took > 2*defaultLimit {
				t.Errorf("%+v: took %v", c.pins, took)
			}
		})
	}
}

func TestDivider(t *testing.T) {
	for _, c := range []struct {
		clock, speed uint32
		want         uint16
		ok           bool
	}{
		{66000000, 100000, 0x39, true}, {66000000, 400000, 0x31, true}, {66000000, 412500, 0x30, true},
		{24000000, 100000, 0x0f, true}, {66000000, 3000000, 0x20, true}, {66000000, 17187, 0, false},
		{66000000, 17188, 0x1f, true}, {0, 100000, 0, false}, {100000, 0, 0, false},
	} {
		ic, ok := divider(c.clock, c.speed)
		if ok != c.ok || ok && ic != c.want {
			t.Errorf("%d Hz from %d Hz: %#x, %v", c.speed, c.clock, ic, ok)
		}
	}
	for i := 1; i < len(dividers); i++ {
		if dividers[i-1].by >= dividers[i].by {
			t.Errorf("divider %d is out of order", i)
		}
	}
	if _, err := New(mmiotest.New(t).Block("i2c"), Config{Clock: 66000000}); err == nil {
		t.Error("a bus that stands still was made")
	}
}
