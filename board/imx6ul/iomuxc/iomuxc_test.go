package iomuxc

import (
	"testing"

	"nitro/board/imx6ul/mmio/mmiotest"
)

// TestPads compares offsets that other sources have (docs of the boards, and the
// kernel's configuration) with those that follow from the manual's order.
func TestPads(t *testing.T) {
	for p, want := range map[Pad]uint32{
		GPIO1_IO00: 0x05c, GPIO1_IO06: 0x074, GPIO1_IO07: 0x078, UART1_TX_DATA: 0x084, UART4_TX_DATA: 0x0b4,
		ENET1_TX_EN: 0x0d8, ENET2_TX_CLK: 0x0fc, SD1_CMD: 0x1bc, CSI_PIXCLK: 0x1d8, CSI_DATA07: 0x200,
	} {
		if uint32(p) != want {
			t.Errorf("pad %#x should be at %#x", uint32(p), want)
		}
	}
}

func TestSelect(t *testing.T) {
	s := mmiotest.New(t)
	r := s.Block("iomuxc")
	m := New(r)
	s.Expect(
		// UART1's transmitter, as the console has it.
		r.Writes(0x310, 0x1b0b1), r.Writes(0x084, 0),
		// I2C1's clock: input path on, and its input comes from this pad.
		r.Writes(0x340, 0x1b8b0), r.Writes(0x5a4, 1), r.Writes(0x0b4, 0x12),
		r.Reads(0x0b4, 0x12), r.Reads(0x340, 0x1b8b0),
	)
	m.Assign(Setting{Pad: UART1_TX_DATA, Control: Hysteresis | PullUp100k | Speed100 | Drive43 | FastSlew}).Select()
	scl := Setting{Pad: UART4_TX_DATA, Mode: 2, Input: true, Control: Hysteresis | PullUp100k | OpenDrain | Speed100 | Drive43, Daisy: 0x5a4, Select: 1}
	m.Assign(scl).Select()
	if mode, input, control := m.State(UART4_TX_DATA); mode != 2 || !input || control != scl.Control {
		t.Errorf("state %d, %v, %#x", mode, input, control)
	}
}

// TestSNVS: the same pads are elsewhere on the ULL (both chips' device trees).
func TestSNVS(t *testing.T) {
	s := mmiotest.New(t)
	ul, ull := s.Block("iomuxc"), s.Block("iomuxc_snvs")
	s.Expect(
		ul.Writes(0x2a0, 0x70a1), ul.Writes(0x014, 5), ul.Writes(0x2c4, 0x70a1), ul.Writes(0x038, 5),
		ull.Writes(0x044, 0x70a1), ull.Writes(0x000, 5), ull.Writes(0x068, 0x70a1), ull.Writes(0x024, 5),
		ull.Reads(0x024, 5), ull.Reads(0x068, 0x70a1),
	)
	m := NewSNVS(ull)
	for _, m := range []*Mux{New(ul), m} {
		for _, p := range []Pad{BOOT_MODE0, SNVS_TAMPER7} {
			m.Assign(Setting{Pad: p, Mode: 5, Control: PullUp47k | Speed100 | Drive65 | FastSlew}).Select()
		}
	}
	if mode, _, control := m.State(SNVS_TAMPER7); mode != 5 || control != 0x70a1 {
		t.Errorf("state %d, %#x", mode, control)
	}
	for _, s := range []Setting{{Pad: JTAG_MOD}, {Pad: BOOT_MODE0, Daisy: 0x4b8}, {Pad: 0x010}} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%+v was taken", s)
				}
			}()
			m.Assign(s)
		}()
	}
}

func TestNoSuchSetting(t *testing.T) {
	m := New(mmiotest.New(t).Block("iomuxc"))
	for _, s := range []Setting{
		{}, {Pad: 0x010}, {Pad: 0x204}, {Pad: 0x046}, {Pad: SD1_CLK, Mode: 10}, {Pad: SD1_CLK, Control: 1 << 17},
		{Pad: SD1_CLK, Daisy: 0x4b4}, {Pad: SD1_CLK, Daisy: 0x73c}, {Pad: SD1_CLK, Daisy: 0x4ba}, {Pad: SD1_CLK, Daisy: 0x4b8, Select: 8},
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%+v was taken", s)
				}
			}()
			m.Assign(s)
		}()
	}
}
