package usdhc

import (
	"errors"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"nitro/board/imx6ul/dma"
	"nitro/board/imx6ul/mmio/mmiotest"
	"nitro/board/imx6ul/sd"
)

// idle is PRES_STATE with a card, lines free, and the clock stable; empty is without
// the card.
const (
	idle  = 0xff810088
	empty = 0xff800088
)

// A line notes in the script when the driver sleeps, and what the interrupt's way out
// was: as a write of register 0 of a block of its own.
type line struct {
	block *mmiotest.Block
	wait  func(deadline time.Time) error
}

const lineEnabled = 1

func (l *line) Enable() error { l.block.Write32(0, lineEnabled); return nil }
func (l *line) Wait(deadline time.Time) (uint32, error) {
	return 1, l.wait(deadline)
}

type wire struct {
	*mmiotest.Script
	r    *mmiotest.Block
	irq  *mmiotest.Block
	line *line
	c    *Controller
}

func setUp(t *testing.T, c Config) *wire {
	s := mmiotest.New(t)
	w := &wire{Script: s, r: s.Block("usdhc"), irq: s.Block("irq")}
	w.line = &line{block: w.irq, wait: func(time.Time) error { t.Error("the driver sleeps"); return os.ErrDeadlineExceeded }}
	c.Clock, c.IRQ = 198000000, w.line
	c.Table = dma.Buffer{Bytes: make([]byte, 4*DescriptorSize), Addr: 0x9f000040}
	w.c = New(w.r, c)
	return w
}

// clock expects a change of the clock.
func (w *wire) clock(dividers uint32) {
	w.Expect(w.r.Writes(regVENDSPEC, 0x20007809), w.r.Reads(regPRESSTATE, 0xff810008), w.r.Reads(regPRESSTATE, idle),
		w.r.Writes(regSYSCTRL, 0x008f000f|dividers), w.r.Reads(regPRESSTATE, idle&^presSDSTB), w.r.Reads(regPRESSTATE, idle),
		w.r.Writes(regVENDSPEC, 0x20007909))
}

// resets expects a reset.
func (w *wire) resets(noted uint32) {
	w.Expect(
		w.r.Reads(regSYSCTRL, 0x80800f), w.r.Writes(regSYSCTRL, 0x180800f), w.r.Reads(regSYSCTRL, 0x180800f), w.r.Reads(regSYSCTRL, 0x80800f),
		w.r.Writes(regMIXCTRL, 0x80000000), w.r.Writes(regDLLCTRL, 0), w.r.Writes(regTUNE, 0), w.r.Writes(regMMCBOOT, 0),
		w.r.Writes(regVENDSPEC, 0x20007809), w.r.Writes(regWTMKLVL, 0x10401040), w.r.Writes(regPROTCTRL, 0x800220),
		w.r.Writes(regINTSTATUSEN, noted), w.r.Writes(regINTSIGNALEN, 0),
	)
	w.clock(0x10f0) // 198 MHz / 32 / 16 = 386.7 kHz
	w.Expect(w.r.Reads(regSYSCTRL, 0x8f10ff), w.r.Writes(regSYSCTRL, 0x88f10ff), w.r.Reads(regSYSCTRL, 0x88f10ff), w.r.Reads(regSYSCTRL, 0x8f10ff))
}

// TestReset: power, registers, clock, in order.
func TestReset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w *wire
		w = setUp(t, Config{Detect: true, Power: func(on bool) {
			v := uint32(0)
			if on {
				v = 1
			}
			w.irq.Write32(4, v)
		}})
		w.Expect(w.r.Reads(regINTSTATUS, 0), w.irq.Writes(4, 0), w.irq.Writes(4, 1))
		w.resets(0x117f008b)
		if err := w.c.Reset(); err != nil {
			t.Error(err)
		}
		w.Expect(w.r.Writes(regPROTCTRL, 0x800222))
		w.clock(0x30) // 198 MHz / 4
		if err := errors.Join(w.c.SetWide(), w.c.SetClock(50000000)); err != nil {
			t.Error(err)
		}
	})
}

func TestNoSwitch(t *testing.T) {
	w := setUp(t, Config{})
	w.Expect(w.r.Reads(regINTSTATUS, 0))
	w.resets(0x117f000b) // without CRM
	if err := w.c.Reset(); err != nil {
		t.Error(err)
	}
	w.Expect(w.r.Reads(regPRESSTATE, empty), w.r.Writes(regMIXCTRL, 0x80000000), w.r.Writes(regCMDARG, 0), w.r.Writes(regCMDXFRTYP, 0),
		w.r.Reads(regINTSTATUS, 1), w.r.Writes(regINTSTATUS, 1))
	if err := w.c.Do(&sd.Command{}); err != nil {
		t.Errorf("a slot without a switch never looks empty: %v", err)
	}
}

func TestDivide(t *testing.T) {
	for _, c := range []struct {
		clock, hz uint32
		want      uint32
		ok        bool
	}{
		{198000000, 50000000, 0x30, true}, {198000000, 25000000, 0x70, true}, {198000000, 400000, 0x10f0, true},
		{198000000, 198000000, 0, true}, {198000000, 197000000, 0x10, true}, {198000000, 12375000, 0xf0, true}, {198000000, 12374999, 0x180, true},
		{400000, 400000, 0, true}, {4096, 1, 0x80f0, true}, {4097, 1, 0, false}, {0, 1, 0, false}, {1, 0, 0, false}, {1, 2, 0, true},
	} {
		got, err := divide(c.clock, c.hz)
		if got != c.want || (err == nil) != c.ok {
			t.Errorf("%d Hz from %d: %#x, %v", c.hz, c.clock, got, err)
		}
		if err != nil {
			continue
		}
		prescaler := uint64(max(1, got>>sysSDCLKFS&0xff*2))
		if hz := uint64(c.clock) / (prescaler * uint64(got>>sysDVS&0xf+1)); hz > uint64(c.hz) {
			t.Errorf("%d Hz from %d: %d", c.hz, c.clock, hz)
		}
	}
}

// TestCommands: the word that each form of command makes, and where its answer lies.
func TestCommands(t *testing.T) {
	for _, c := range []struct {
		cmd  sd.Command
		want uint32
	}{
		{sd.Command{Index: 0}, 0},
		{sd.Command{Index: 2, Response: sd.R2}, 0x02090000},
		{sd.Command{Index: 3, Response: sd.R6}, 0x031a0000},
		{sd.Command{Index: 7, Response: sd.R1b}, 0x071b0000},
		{sd.Command{Index: 8, Response: sd.R7}, 0x081a0000},
		{sd.Command{Index: 12, Response: sd.R1b}, 0x0cdb0000},
		{sd.Command{Index: 13, Response: sd.R1}, 0x0d1a0000},
		{sd.Command{Index: 41, Response: sd.R3}, 0x29020000},
	} {
		w := setUp(t, Config{Detect: true})
		c.cmd.Arg = 0x12345678
		w.Expect(w.r.Reads(regPRESSTATE, idle|presCDIHB), // the data lines do not matter
			w.r.Writes(regMIXCTRL, 0x80000000), w.r.Writes(regCMDARG, 0x12345678), w.r.Writes(regCMDXFRTYP, c.want),
			w.r.Reads(regINTSTATUS, 0), w.r.Reads(regINTSTATUS, 1), w.r.Writes(regINTSTATUS, 1))
		switch c.cmd.Response {
		case sd.NoResponse:
		case sd.R2:
			w.Expect(w.r.Reads(regCMDRSP3, 0x00112233), w.r.Reads(regCMDRSP2, 0x44556677), w.r.Reads(regCMDRSP1, 0x8899aabb), w.r.Reads(regCMDRSP0, 0xccddeeff))
		default:
			w.Expect(w.r.Reads(regCMDRSP0, 0xcafe0000))
		}
		if err := w.c.Do(&c.cmd); err != nil {
			t.Errorf("CMD%d: %v", c.cmd.Index, err)
		}
		if c.cmd.Response == sd.R2 && c.cmd.Long != [16]byte{0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff, 0} {
			t.Errorf("CMD%d: %x", c.cmd.Index, c.cmd.Long)
		}
		if r := c.cmd.Response; r != sd.NoResponse && r != sd.R2 && c.cmd.Answer != 0xcafe0000 {
			t.Errorf("CMD%d: %#x", c.cmd.Index, c.cmd.Answer)
		}
	}
}

// transfers expects a transfer up to its command.
func (w *wire) transfers(mix, blocks, command uint32) {
	w.Expect(w.r.Reads(regPRESSTATE, idle|presCDIHB), w.r.Reads(regPRESSTATE, idle),
		w.r.Writes(regADMASYS, 0x9f000040), w.r.Writes(regBLKATT, blocks),
		w.r.Writes(regMIXCTRL, mix), w.r.Writes(regCMDARG, 7), w.r.Writes(regCMDXFRTYP, command))
}

func blocks(n int) dma.Buffer { return dma.Buffer{Bytes: make([]byte, n*512), Addr: 0x9f001000} }

// TestTransfers: the mode of each kind of transfer, and that it is over when command,
// data and DMA are.
func TestTransfers(t *testing.T) {
	for _, c := range []struct {
		cmd                 sd.Command
		mix, blocks, wanted uint32
	}{
		{sd.Command{Index: 17, Data: blocks(1)}, 0x80000013, 0x10200, 0x113a0000},
		{sd.Command{Index: 24, Data: blocks(1), Write: true}, 0x80000003, 0x10200, 0x183a0000},
		{sd.Command{Index: 18, Data: blocks(256), AutoStop: true}, 0x80000037, 0x1000200, 0x123a0000},
		{sd.Command{Index: 18, Data: blocks(2)}, 0x80000033, 0x20200, 0x123a0000},
		{sd.Command{Index: 25, Data: blocks(8), Write: true, AutoStop: true}, 0x80000027, 0x80200, 0x193a0000},
	} {
		w := setUp(t, Config{Detect: true})
		w.transfers(c.mix, c.blocks, c.wanted)
		w.Expect(w.r.Reads(regINTSTATUS, 1), w.r.Reads(regINTSTATUS, 3), w.r.Reads(regINTSTATUS, 9), w.r.Reads(regINTSTATUS, 11), w.r.Writes(regINTSTATUS, 11),
			w.r.Reads(regCMDRSP0, 0x900))
		if c.cmd.AutoStop {
			w.Expect(w.r.Reads(regCMDRSP3, 0xb00))
		}
		c.cmd.Arg, c.cmd.Response, c.cmd.BlockSize = 7, sd.R1, 512
		if err := w.c.Do(&c.cmd); err != nil || c.cmd.Answer != 0x900 || c.cmd.AutoStop && c.cmd.Stop != 0xb00 {
			t.Errorf("CMD%d: %v, %+v", c.cmd.Index, err, c.cmd)
		}
	}
	w := setUp(t, Config{Detect: true})
	w.Expect(w.r.Reads(regPRESSTATE, idle))
	if err := w.c.Do(&sd.Command{Index: 17, Data: dma.Buffer{Bytes: make([]byte, 512), Addr: 2}, BlockSize: 512}); err == nil {
		t.Error("memory that is not aligned was taken")
	}
}

// faulty expects the registers that an error tells of.
func (w *wire) faulty() {
	w.Expect(w.r.Reads(regPRESSTATE, idle))
	w.faultyToo()
}

// faultyToo is faulty behind polls of PRES_STATE, which take one more read in.
func (w *wire) faultyToo() {
	w.Expect(w.r.Reads(regSYSCTRL, 0x8f003f), w.r.Reads(regAC12ERR, 0), w.r.Reads(regADMAERR, 0))
}

// TestErrors: each error bit, alone and beside completion.
func TestErrors(t *testing.T) {
	for _, c := range []struct {
		bits uint32
		want error
	}{
		{intCTOE, sd.ErrTimeout}, {intDTOE, sd.ErrTimeout}, {intCCE, sd.ErrCRC}, {intCEBE, sd.ErrCRC}, {intCIE, sd.ErrCRC},
		{intDCE, sd.ErrCRC}, {intDEBE, sd.ErrCRC}, {intAC12E, sd.ErrCRC}, {intDMAE, sd.ErrDMA}, {intCRM, sd.ErrNoCard},
		{intCTOE | intCCE, sd.ErrTimeout}, {intCRM | intDCE, sd.ErrNoCard},
	} {
		for _, beside := range []uint32{0, intCC, intCC | intTC | intDINT} {
			w := setUp(t, Config{Detect: true})
			w.transfers(0x80000013, 0x10200, 0x113a0000)
			status := c.bits | beside
			w.Expect(w.r.Reads(regINTSTATUS, 0), w.r.Reads(regINTSTATUS, status), w.r.Writes(regINTSTATUS, status&^intCRM))
			w.faulty()
			cmd := sd.Command{Index: 17, Arg: 7, Response: sd.R1, Data: blocks(1), BlockSize: 512}
			if err := w.c.Do(&cmd); !errors.Is(err, c.want) {
				t.Errorf("INT_STATUS %#x: %v", status, err)
			}
		}
	}
}

func TestResetLines(t *testing.T) {
	w := setUp(t, Config{})
	for _, bit := range []uint32{1 << 25, 1 << 26} {
		w.Expect(w.r.Reads(regSYSCTRL, 0x8f003f), w.r.Writes(regSYSCTRL, 0x8f003f|bit), w.r.Reads(regSYSCTRL, 0x8f003f|bit), w.r.Reads(regSYSCTRL, 0x8f003f))
	}
	w.Expect(w.r.Writes(regINTSTATUS, 0x117f000b), w.r.Reads(regPRESSTATE, 0xfe800088), w.r.Reads(regPRESSTATE, idle))
	if err := w.c.ResetLines(); err != nil {
		t.Error(err)
	}
	if !w.c.Busy() || w.c.Busy() {
		t.Error("DAT0 low is busy, and high is not")
	}
}

// TestTakenOut: the slot is empty, or was meanwhile. A reset does not forget it, though
// it clears the status.
func TestTakenOut(t *testing.T) {
	w := setUp(t, Config{Detect: true})
	w.Expect(w.r.Reads(regPRESSTATE, empty))
	if err := w.c.Do(&sd.Command{}); !errors.Is(err, sd.ErrNoCard) {
		t.Errorf("an empty slot: %v", err)
	}
	w.Expect(w.r.Reads(regINTSTATUS, intCRM))
	w.resets(0x117f008b)
	w.Expect(w.r.Reads(regPRESSTATE, idle))
	if err := w.c.Reset(); err != nil {
		t.Error(err)
	}
	if err := w.c.Do(&sd.Command{}); !errors.Is(err, sd.ErrNoCard) {
		t.Errorf("out and in again, before a reset: %v", err)
	}
	w.Expect(w.r.Writes(regINTSTATUS, intCRM), w.r.Reads(regPRESSTATE, idle), w.r.Writes(regMIXCTRL, 0x80000000), w.r.Writes(regCMDARG, 0),
		w.r.Writes(regCMDXFRTYP, 0), w.r.Reads(regINTSTATUS, 1), w.r.Writes(regINTSTATUS, 1))
	w.c.Forget()
	if err := w.c.Do(&sd.Command{}); err != nil {
		t.Errorf("forgotten: %v", err)
	}
}

// TestInterrupt: after so many looks the driver sleeps, for what is missing, past an
// interrupt that means nothing.
func TestInterrupt(t *testing.T) {
	w := setUp(t, Config{Detect: true, Polls: 2})
	waits := 0
	end := time.Now().Add(3 * time.Second)
	w.line.wait = func(deadline time.Time) error {
		if d := deadline.Sub(end); d < 0 || d > time.Second {
			t.Errorf("the deadline is off by %v", d)
		}
		waits++
		return nil
	}
	w.transfers(0x80000013, 0x10200, 0x113a0000)
	w.Expect(w.r.Reads(regINTSTATUS, 0), w.r.Reads(regINTSTATUS, 1),
		w.r.Writes(regINTSIGNALEN, 0x117f008a), w.irq.Writes(0, lineEnabled), w.r.Writes(regINTSIGNALEN, 0), w.r.Reads(regINTSTATUS, 1),
		w.r.Writes(regINTSIGNALEN, 0x117f008a), w.irq.Writes(0, lineEnabled), w.r.Writes(regINTSIGNALEN, 0), w.r.Reads(regINTSTATUS, 3),
		w.r.Writes(regINTSIGNALEN, 0x117f0088), w.irq.Writes(0, lineEnabled), w.r.Writes(regINTSIGNALEN, 0), w.r.Reads(regINTSTATUS, 11),
		w.r.Writes(regINTSTATUS, 11), w.r.Reads(regCMDRSP0, 0x900))
	cmd := sd.Command{Index: 17, Arg: 7, Response: sd.R1, Limit: 3 * time.Second, Data: blocks(1), BlockSize: 512}
	if err := w.c.Do(&cmd); err != nil || waits != 3 {
		t.Errorf("%v, %d waits", err, waits)
	}
}

// TestNoInterrupt: what never comes is an error, what came with the deadline is none,
// and a line that fails is an error at once.
func TestNoInterrupt(t *testing.T) {
	for _, c := range []struct {
		status uint32
		line   error
		want   error
	}{
		{0, os.ErrDeadlineExceeded, sd.ErrHost}, {1, os.ErrDeadlineExceeded, nil}, {0, os.ErrClosed, os.ErrClosed},
	} {
		w := setUp(t, Config{Polls: 1})
		w.line.wait = func(time.Time) error { return c.line }
		w.Expect(w.r.Reads(regPRESSTATE, idle), w.r.Writes(regMIXCTRL, 0x80000000), w.r.Writes(regCMDARG, 0), w.r.Writes(regCMDXFRTYP, 0),
			w.r.Reads(regINTSTATUS, 0), w.r.Writes(regINTSIGNALEN, 0x117f0081), w.irq.Writes(0, lineEnabled), w.r.Writes(regINTSIGNALEN, 0))
		if c.line == os.ErrDeadlineExceeded {
			w.Expect(w.r.Reads(regINTSTATUS, c.status), w.r.Writes(regINTSTATUS, c.status))
		}
		if c.want == sd.ErrHost {
			w.faulty()
		}
		if err := w.c.Do(&sd.Command{}); !errors.Is(err, c.want) || (c.want == nil) != (err == nil) {
			t.Errorf("status %#x, line %v: %v", c.status, c.line, err)
		}
	}
}

// TestStuck: a controller that does not come to an end is an error, soon.
func TestStuck(t *testing.T) {
	for name, c := range map[string]struct {
		script func(w *wire)
		call   func(c *Controller) error
	}{
		"reset": {func(w *wire) {
			w.Expect(w.r.Reads(regINTSTATUS, 0), w.r.Reads(regSYSCTRL, 0x80800f), w.r.Writes(regSYSCTRL, 0x180800f), w.r.Polls(regSYSCTRL, 0x180800f))
			w.faulty()
		}, (*Controller).Reset},
		"clock off": {func(w *wire) {
			w.Expect(w.r.Writes(regVENDSPEC, 0x20007809), w.r.Polls(regPRESSTATE, 0xff810008))
			w.faultyToo()
		}, func(c *Controller) error { return c.SetClock(400000) }},
		"clock unstable": {func(w *wire) {
			w.Expect(w.r.Writes(regVENDSPEC, 0x20007809), w.r.Reads(regPRESSTATE, idle), w.r.Writes(regSYSCTRL, 0x8f10ff), w.r.Polls(regPRESSTATE, idle&^presSDSTB))
			w.faultyToo()
		}, func(c *Controller) error { return c.SetClock(400000) }},
		"command line": {func(w *wire) {
			w.Expect(w.r.Polls(regPRESSTATE, idle|presCIHB), w.r.Reads(regINTSTATUS, 0))
			w.faulty()
		}, func(c *Controller) error { return c.Do(&sd.Command{Response: sd.R1}) }},
		"data lines": {func(w *wire) {
			w.Expect(w.r.Polls(regPRESSTATE, idle|presCDIHB), w.r.Reads(regINTSTATUS, 0))
			w.faulty()
		}, func(c *Controller) error { return c.Do(&sd.Command{Data: blocks(1), BlockSize: 512}) }},
		"lines' reset": {func(w *wire) {
			w.Expect(w.r.Reads(regSYSCTRL, 0x8f003f), w.r.Writes(regSYSCTRL, 0x28f003f), w.r.Polls(regSYSCTRL, 0x28f003f))
			w.faulty()
		}, (*Controller).ResetLines},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := setUp(t, Config{Detect: true})
				c.script(w)
				start := time.Now()
				err := c.call(w.c)
				if took := time.Since(start); !errors.Is(err, sd.ErrHost) || took > 2*lineLimit {
					t.Errorf("%v after %v", err, took)
				}
			})
		})
	}
}
