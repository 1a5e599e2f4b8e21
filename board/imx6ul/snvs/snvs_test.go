package snvs

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"nitro/board/imx6ul/mmio/mmiotest"
)

func setUp(t *testing.T) (*mmiotest.Script, *mmiotest.Block, *SNVS) {
	s := mmiotest.New(t)
	r := s.Block("snvs")
	return s, r, New(r)
}

// TestTicks: the lower half wraps between the reads of the two halves.
func TestTicks(t *testing.T) {
	s, r, d := setUp(t)
	s.Expect(
		r.Reads(regLPSRTCMR, 1), r.Reads(regLPSRTCLR, 0), // was 1.ffffffff when the upper half was read
		r.Reads(regLPSRTCMR, 2), r.Reads(regLPSRTCLR, 0),
		r.Reads(regLPSRTCMR, 2), r.Reads(regLPSRTCLR, 0),
		r.Reads(regLPSRTCMR, 0xffff8000), r.Reads(regLPSRTCLR, 3*TicksPerSecond/2),
		r.Reads(regLPSRTCMR, 0xffff8000), r.Reads(regLPSRTCLR, 3*TicksPerSecond/2),
	)
	if v, err := d.Ticks(); v != 2<<32 || err != nil {
		t.Errorf("%#x, %v", v, err)
	}
	if v, err := d.Time(); v != 1500*time.Millisecond || err != nil {
		t.Errorf("%v, %v", v, err)
	}
}

func TestTicksNeverAgree(t *testing.T) {
	s, r, d := setUp(t)
	for i := range uint32(rereads + 1) {
		s.Expect(r.Reads(regLPSRTCMR, 0), r.Reads(regLPSRTCLR, i))
	}
	if _, err := d.Ticks(); !errors.Is(err, ErrClock) {
		t.Error(err)
	}
}

func TestSetTime(t *testing.T) {
	s, r, d := setUp(t)
	s.Expect(
		r.Reads(regLPCR, 0x21), r.Writes(regLPCR, 0x20), r.Reads(regLPCR, 0x21), r.Reads(regLPCR, 0x20),
		r.Writes(regLPSRTCMR, 2), r.Writes(regLPSRTCLR, 0x4000),
		r.Reads(regLPCR, 0x20), r.Writes(regLPCR, 0x21), r.Reads(regLPCR, 0x20), r.Reads(regLPCR, 0x21),
	)
	if err := d.SetTime((2<<32/TicksPerSecond)*time.Second + 500*time.Millisecond); err != nil {
		t.Error(err)
	}
	for _, v := range []time.Duration{-1, 1 << 32 * time.Second} {
		if err := d.SetTime(v); err == nil {
			t.Errorf("%v was set", v)
		}
	}
}

func TestClockStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, r, d := setUp(t)
		s.Expect(r.Reads(regLPCR, 1), r.Writes(regLPCR, 0), r.Polls(regLPCR, 1))
		if err := d.SetTime(0); !errors.Is(err, ErrClock) {
			t.Error(err)
		}
	})
}

func TestStatus(t *testing.T) {
	for _, c := range []struct {
		hpsr, lpsr uint32
		want       Status
		own        bool
		name       string
	}{
		{0x80000000, 0x8, Status{State: Init, Glitch: true}, false, "init"},
		{0x80000b00, 0, Status{State: NonSecure}, false, "non-secure"},
		{0x80000d00, 0, Status{State: Trusted}, true, "trusted"},
		{0x80000f00, 0xf7, Status{State: Secure}, true, "secure"},
		{0x88000d00, 0, Status{State: Trusted, KeyIsZero: true}, false, "trusted"},
		{0x81ff0d00, 0, Status{State: Trusted, Syndrome: 0x1ff}, false, "trusted"},
		{0x00000300, 0, Status{State: SoftFail}, false, "soft fail"},
		{0x00000500, 0, Status{State: 5}, false, "unknown state 5"},
	} {
		s, r, d := setUp(t)
		s.Expect(r.Reads(regHPSR, c.hpsr), r.Reads(regLPSR, c.lpsr))
		if got := d.Status(); got != c.want || got.HasOwnKey() != c.own || got.State.String() != c.name {
			t.Errorf("%#x, %#x: %+v, own key %v", c.hpsr, c.lpsr, got, got.HasOwnKey())
		}
	}
}

func TestGlitch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, r, d := setUp(t)
		s.Expect(r.Writes(regLPPGDR, 0x41736166), r.Writes(regLPSR, 8), r.Reads(regLPSR, 8), r.Reads(regLPSR, 0))
		if err := d.ClearGlitch(); err != nil {
			t.Error(err)
		}
		s.Expect(r.Writes(regLPPGDR, 0x41736166), r.Writes(regLPSR, 8), r.Polls(regLPSR, 8))
		if err := d.ClearGlitch(); !errors.Is(err, ErrGlitch) {
			t.Error(err)
		}
	})
}

func TestPowerOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, r, d := setUp(t)
		s.Expect(r.Reads(regLPCR, 1), r.Writes(regLPCR, 0x61), r.Reads(regLPCR, 0x61))
		if err := d.PowerOff(); !errors.Is(err, ErrPower) {
			t.Error(err)
		}
	})
}
