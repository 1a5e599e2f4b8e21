package rngb

import (
	"bytes"
	"errors"
	"testing"

	"nitro/board/imx6ul/mmio/mmiotest"
)

func TestProbe(t *testing.T) {
	s := mmiotest.New(t)
	r := s.Block("rngb")
	s.Expect(r.Reads(regVER, 0x10000280), r.Reads(regVER, 0), r.Reads(regVER, 0x20000280))
	if major, minor, err := Probe(r); major != 2 || minor != 0x80 || err != nil {
		t.Errorf("%d.%d, %v", major, minor, err)
	}
	for range 2 {
		if _, _, err := Probe(r); err == nil {
			t.Error("another block was taken for an RNGB")
		}
	}
}

// nothing is where the bus refuses the access.
type nothing struct{ *mmiotest.Block }

func (nothing) Read32(uint32) uint32 { panic(refusal{}) }

type refusal struct{ error }

func (refusal) Addr() uintptr { return Base }

func TestAbsent(t *testing.T) {
	if _, _, err := Probe(nothing{}); err == nil {
		t.Error("what is not there was found")
	}
}

const control = crMaskDone | crMaskErr | crUnderflowBE

// good is what a block that works is asked until it is seeded.
func good(r *mmiotest.Block) []*mmiotest.Step {
	return []*mmiotest.Step{
		r.Writes(regCMD, cmdReset), r.Writes(regCR, control),
		r.Writes(regCMD, cmdClearInt|cmdClearErr|cmdSelfTest),
		r.Reads(regSR, srBusy), r.Reads(regSR, srTestDone|srBusy), r.Reads(regSR, srTestDone),
		r.Writes(regCMD, cmdClearInt|cmdClearErr|cmdSeed),
		r.Reads(regSR, srBusy|srTestDone), r.Reads(regSR, srTestDone|srSeedDone),
		r.Writes(regCR, control|crAutoReseed),
		r.Reads(regSR, 1<<srLevelShift), r.Reads(regOUT, 0xaaaaaaaa),
	}
}

func TestRead(t *testing.T) {
	s := mmiotest.New(t)
	r := s.Block("rngb")
	s.Expect(good(r)...)
	s.Expect(
		r.Reads(regSR, 0), r.Reads(regSR, 2<<srLevelShift), r.Reads(regOUT, 0x04030201),
		r.Reads(regSR, 1<<srLevelShift), r.Reads(regOUT, 0x99999905),
		// The same word again, then an error, then nothing at all.
		r.Reads(regSR, 1<<srLevelShift), r.Reads(regOUT, 0x99999905),
		r.Reads(regSR, srErr), r.Reads(regESR, 1<<3),
		r.Polls(regSR, 0),
	)
	b, err := New(r)
	if err != nil {
		t.Fatal(err)
	}
	p := make([]byte, 5)
	if n, err := b.Read(p); n != 5 || err != nil || !bytes.Equal(p, []byte{1, 2, 3, 4, 5}) {
		t.Errorf("%x, %v", p, err)
	}
	for _, want := range []error{ErrRepeats, ErrFailed, ErrNoWord} {
		copy(p, "guess")
		if n, err := b.Read(p); n != 0 || !errors.Is(err, want) || !bytes.Equal(p, make([]byte, 5)) {
			t.Errorf("%d bytes, %x, %v, want %v", n, p, err, want)
		}
	}
}

// TestFailure: a test that fails, or never ends, leaves no generator.
func TestFailure(t *testing.T) {
	for name, status := range map[string]uint32{"error": srErr | srTestDone, "test failed": srTestDone | 1<<21, "statistics": srTestDone | 1<<31, "for ever": srBusy} {
		s := mmiotest.New(t)
		r := s.Block("rngb")
		s.Expect(good(r)[:3]...)
		s.Expect(r.Polls(regSR, status), r.Reads(regESR, 0))
		if b, err := New(r); b != nil || !errors.Is(err, ErrFailed) {
			t.Errorf("%s: %v, %v", name, b, err)
		}
		s.Finish()
	}
}
