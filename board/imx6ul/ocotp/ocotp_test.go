package ocotp

import (
	"errors"
	"testing"
	"testing/synctest"

	"nitro/board/imx6ul/mmio/mmiotest"
)

// TestOffsets compares with the list of registers in 37.5.
func TestOffsets(t *testing.T) {
	for at, want := range map[[2]int]uint32{
		{0, 0}: 0x400, {0, 1}: 0x410, {0, 7}: 0x470, {1, 0}: 0x480, {2, 7}: 0x570, {3, 0}: 0x580, {4, 2}: 0x620,
		{5, 7}: 0x6f0, {6, 0}: 0x800, {7, 0}: 0x880, {7, 7}: 0x8f0, {15, 7}: 0xcf0,
	} {
		if got := offset(at[0], at[1]); got != want {
			t.Errorf("bank %d, word %d: %#x, not %#x", at[0], at[1], got, want)
		}
	}
}

func TestUniqueID(t *testing.T) {
	s := mmiotest.New(t)
	r := s.Block("ocotp")
	s.Expect(
		r.Reads(regCTRL, ctrlBUSY), r.Reads(regCTRL, 0), r.Reads(0x410, 0x89abcdef), r.Reads(regCTRL, 0),
		r.Reads(regCTRL, 0), r.Reads(0x420, 0x01234567), r.Reads(regCTRL, 0),
	)
	if id, err := New(r).UniqueID(); id != 0x0123456789abcdef || err != nil {
		t.Errorf("%#x, %v", id, err)
	}
}

// TestErrorCleared: an error of an earlier access does not spoil this one.
func TestErrorCleared(t *testing.T) {
	s := mmiotest.New(t)
	r := s.Block("ocotp")
	s.Expect(r.Reads(regCTRL, ctrlERROR), r.Writes(regCTRLClr, ctrlERROR), r.Reads(0x800, 7), r.Reads(regCTRL, 0))
	if v, err := New(r).Read(6, 0); v != 7 || err != nil {
		t.Errorf("%#x, %v", v, err)
	}
}

func TestLocked(t *testing.T) {
	for _, c := range []struct{ value, ctrl uint32 }{{locked, ctrlERROR}, {locked, 0}, {5, ctrlERROR}} {
		s := mmiotest.New(t)
		r := s.Block("ocotp")
		s.Expect(r.Reads(regCTRL, 0), r.Reads(0x500, c.value), r.Reads(regCTRL, c.ctrl))
		if c.ctrl != 0 {
			s.Expect(r.Writes(regCTRLClr, ctrlERROR))
		}
		if v, err := New(r).Read(2, 0); v != 0 || !errors.Is(err, ErrLocked) {
			t.Errorf("%+v: %#x, %v", c, v, err)
		}
	}
}

func TestRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := mmiotest.New(t)
		r := s.Block("ocotp")
		s.Expect(r.Polls(regCTRL, ctrlBUSY))
		if _, err := New(r).Read(0, 0); !errors.Is(err, ErrBusy) {
			t.Error(err)
		}
		if _, err := New(r).UniqueID(); !errors.Is(err, ErrBusy) {
			t.Error(err)
		}
	})
	for _, c := range [][2]int{{-1, 0}, {16, 0}, {0, -1}, {0, 8}} {
		if _, err := New(mmiotest.New(t).Block("ocotp")).Read(c[0], c[1]); err == nil {
			t.Errorf("%v was read", c)
		}
	}
}
