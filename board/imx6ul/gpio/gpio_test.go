package gpio

import (
	"testing"

	"nitro/board/imx6ul/mmio/mmiotest"
)

// A pad notes its selection as a write in the script.
type pad struct{ block *mmiotest.Block }

func (p pad) Select() { p.block.Write32(0, 5) }

func setUp(t *testing.T, dr uint32) (*mmiotest.Script, *mmiotest.Block, *mmiotest.Block, *Port) {
	s := mmiotest.New(t)
	g := s.Block("gpio")
	s.Expect(g.Reads(regDR, dr))
	return s, g, s.Block("pad"), New(g)
}

// TestOrder: level, direction, function.
func TestOrder(t *testing.T) {
	s, g, mux, p := setUp(t, 0x80000001)
	s.Expect(
		g.Writes(regDR, 0x80000009), g.Reads(regGDIR, 0x80000000), g.Writes(regGDIR, 0x80000008), mux.Writes(0, 5),
		g.Writes(regDR, 0x80000001),
		g.Reads(regGDIR, 0x80000008), g.Writes(regGDIR, 0x80000000), mux.Writes(0, 5),
	)
	l := p.Line(3, "host reset", pad{mux})
	l.Output(true)
	l.Set(false)
	l.Input()
	if l.Name() != "host reset" {
		t.Error(l.Name())
	}
}

// TestLatchKept: DR reads as the pad where a line is an input. That must not reach
// the flip-flop of an open-drain line, which would then drive high.
func TestLatchKept(t *testing.T) {
	s, g, mux, p := setUp(t, 0)
	s.Expect(
		g.Writes(regDR, 0), g.Reads(regGDIR, 0), g.Writes(regGDIR, 1<<4), // pull low
		g.Reads(regGDIR, 1<<4), g.Writes(regGDIR, 0), // release: the pad is high now
		g.Writes(regDR, 1<<5), // another line; bit 4 stays 0
	)
	sda := p.Line(4, "sda", pad{mux})
	sda.OpenDrain(true)
	sda.OpenDrain(false)
	p.Line(5, "led", pad{mux}).Set(true)
}

func TestReads(t *testing.T) {
	s, g, mux, p := setUp(t, 0)
	s.Expect(
		g.Reads(regPSR, 1<<31), g.Reads(regPSR, ^uint32(1<<31)),
		g.Reads(regGDIR, 0),
		g.Reads(regGDIR, 1<<31), g.Reads(regDR, 1<<31),
		g.Reads(regGDIR, 1<<31), g.Reads(regDR, 1),
	)
	l := p.Line(31, "x", pad{mux})
	if !l.High() || l.High() {
		t.Error("a line's level is not the pad's")
	}
	for _, want := range [][2]bool{{false, false}, {true, true}, {true, false}} {
		if output, high := l.Driven(); output != want[0] || high != want[1] {
			t.Errorf("output %v, high %v, want %v", output, high, want)
		}
	}
}

func TestInterrupts(t *testing.T) {
	for _, c := range []struct {
		line     int
		on       Trigger
		edge     uint32 // EDGE_SEL, with the line's bit as it must be
		register uint32 // ICR
		icr      uint32
	}{
		{0, LowLevel, 0, regICR1, 0xfffffffc},
		{3, RisingEdge, 0, regICR1, 0xffffffbf},
		{15, FallingEdge, 0, regICR1, 0xffffffff},
		{16, HighLevel, 0, regICR2, 0xfffffffd},
		{31, RisingEdge, 0, regICR2, 0xbfffffff},
		{31, BothEdges, 1 << 31, 0, 0},
	} {
		s, g, mux, p := setUp(t, 0)
		bit := uint32(1) << c.line
		s.Expect(g.Reads(regIMR, ^uint32(0)), g.Writes(regIMR, ^bit), g.Reads(regEDGESEL, bit), g.Writes(regEDGESEL, c.edge))
		if c.register != 0 {
			s.Expect(g.Reads(c.register, ^uint32(0)), g.Writes(c.register, c.icr))
		}
		s.Expect(g.Writes(regISR, bit), g.Reads(regIMR, 0), g.Writes(regIMR, bit))
		p.Line(c.line, "x", pad{mux}).Arm(c.on)
		s.Finish()
	}
}

// TestAcknowledge: other lines' interrupts stay pending.
func TestAcknowledge(t *testing.T) {
	s, g, mux, p := setUp(t, 0)
	s.Expect(
		g.Reads(regISR, 0x7), g.Reads(regIMR, 0x6),
		g.Reads(regISR, 0x7), g.Writes(regISR, 0x2),
		g.Reads(regISR, 0x5),
		g.Reads(regIMR, 0x6), g.Writes(regIMR, 0x4),
	)
	l := p.Line(1, "x", pad{mux})
	if got := p.Pending(); got != 0x6 {
		t.Errorf("pending %#x", got)
	}
	if !l.Acknowledge() || l.Acknowledge() {
		t.Error("an interrupt was not told apart from none")
	}
	l.Disarm()
}

func TestNoSuchLine(t *testing.T) {
	_, _, mux, p := setUp(t, 0)
	for _, f := range []func(){
		func() { p.Line(-1, "x", pad{mux}) },
		func() { p.Line(32, "x", pad{mux}) },
		func() { p.Line(3, "x", nil) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Error("a line that cannot be was made")
				}
			}()
			f()
		}()
	}
}
