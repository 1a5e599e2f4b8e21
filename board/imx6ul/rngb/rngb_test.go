package rngb

import (
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
