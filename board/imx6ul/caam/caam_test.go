package caam

import (
	"testing"

	"nitro/board/imx6ul/mmio/mmiotest"
)

func TestProbe(t *testing.T) {
	s := mmiotest.New(t)
	r := s.Block("caam")
	s.Expect(r.Reads(0xff8, 0x0a160301), r.Reads(0xfec, 0x10040103), r.Reads(0xff8, 0x0a160301), r.Reads(0xfec, 0x4), r.Reads(0xff8, 0))
	v, err := Probe(r)
	if want := (Version{3, 1, 3, 4}); v != want || v.XTS() || err != nil {
		t.Errorf("%+v, %v", v, err)
	}
	if v, err := Probe(r); !v.XTS() || err != nil {
		t.Errorf("%+v, %v", v, err)
	}
	if _, err := Probe(r); err == nil {
		t.Error("zeros were taken for a CAAM")
	}
}

// nothing is where the bus refuses the access.
type nothing struct{ *mmiotest.Block }

func (nothing) Read32(uint32) uint32 { panic(refusal{}) }

type refusal struct{ error }

func (refusal) Addr() uintptr { return Base }

func TestAbsent(t *testing.T) {
	if _, err := Probe(nothing{}); err == nil {
		t.Error("what is not there was found")
	}
}
