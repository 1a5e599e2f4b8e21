package ccm

import (
	"errors"
	"testing"
	"testing/synctest"

	"nitro/board/imx6ul/mmio/mmiotest"
)

func TestGates(t *testing.T) {
	s := mmiotest.New(t)
	r := s.Block("ccm")
	c := New(r, s.Block("analog"))
	s.Expect(
		r.Reads(0x6c, 0), r.Writes(0x6c, 0x0c000000),
		r.Reads(0x70, 0x40), r.Writes(0x70, 0xc0),
		r.Reads(0x80, 0xffffffff), r.Writes(0x80, 0xffffffff),
		r.Reads(0x68, 0x40000000), r.Reads(0x68, 0x3fffffff),
	)
	c.On(GPIO1, I2C1, USDHC2)
	if !c.IsOn(GPIO2) || c.IsOn(GPIO2) {
		t.Error("a gate's state is not its own bits'")
	}
	for _, g := range []Gate{{7, 0}, {0, 16}} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%+v was switched on", g)
				}
			}()
			c.On(g)
		}()
	}
}

func TestENET(t *testing.T) {
	s := mmiotest.New(t)
	a := s.Block("analog")
	c := New(s.Block("ccm"), a)
	const down, locked = 0x11001, 0x80010001
	s.Expect(
		a.Writes(0xe8, 2), a.Writes(0xe4, 1), a.Writes(0xe8, 0x1000), a.Reads(0xe0, down), a.Reads(0xe0, locked),
		a.Writes(0xe4, 0x2000), a.Writes(0xe8, 0x10000),
		a.Writes(0xe8, 8), a.Writes(0xe4, 4), a.Writes(0xe8, 0x1000), a.Reads(0xe0, locked),
		a.Writes(0xe4, 0x100000), a.Writes(0xe8, 0x10000),
	)
	for port := 1; port <= 2; port++ {
		if err := c.EnableENET(port); err != nil {
			t.Error(err)
		}
	}
	for _, port := range []int{0, 3} {
		if err := c.EnableENET(port); err == nil {
			t.Errorf("port %d was enabled", port)
		}
	}
}

// TestNoLock: the clock is not let out of a PLL that does not lock.
func TestNoLock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := mmiotest.New(t)
		a := s.Block("analog")
		s.Expect(a.Writes(0xe8, 2), a.Writes(0xe4, 1), a.Writes(0xe8, 0x1000), a.Polls(0xe0, 0x10001))
		if err := New(s.Block("ccm"), a).EnableENET(1); !errors.Is(err, ErrNoLock) {
			t.Error(err)
		}
	})
}

func TestChip(t *testing.T) {
	s := mmiotest.New(t)
	a := s.Block("analog")
	for v, want := range map[uint32]string{
		0x640002: "i.MX 6UltraLite revision 1.2 (DIGPROG 0x640002)",
		0x650001: "i.MX 6ULL revision 1.1 (DIGPROG 0x650001)",
		0x630100: "unknown family 0x63 revision 2.0 (DIGPROG 0x630100)",
		0x640000: "i.MX 6UltraLite revision 1.0 (DIGPROG 0x640000)",
	} {
		s.Expect(a.Reads(0x260, v))
		if got := Chip(v).Emulated(); got != (v == 0x640000) {
			t.Errorf("%#x: emulated %v", v, got)
		}
		if got := New(s.Block("ccm"), a).Chip().String(); got != want {
			t.Errorf("%q, not %q", got, want)
		}
	}
}
