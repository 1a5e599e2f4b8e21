// Package iomuxc connects pads to blocks: the i.MX 6UltraLite's multiplexer IOMUXC
// (IMX6ULLRM Rev. 1 11/2017, chapter 32; register names and offsets are the UL's
// too). For each pad it sets which of its functions the pad has (ALT0 to ALT9), its
// electrical properties, and, where an input can come from several pads, which one
// it comes from (daisy chain).
//
// The pads of the SNVS domain (boot mode, tamper) are in this block on the UL, and in
// one of their own, IOMUXC_SNVS, on the ULL (NewSNVS). The pads of the memory
// interface, and the group and general purpose registers are left out.
package iomuxc

import (
	"fmt"

	"nitro/board/imx6ul/mmio"
)

// Base and Size are the block's place (IMX6ULLRM 2.2).
const (
	Base     = 0x020e0000
	Size     = 0x4000
	SNVSBase = 0x02290000 // ULL only
	SNVSSize = 0x1000
)

// A Pad is known by the offset of its SW_MUX_CTL register (32.6.1 to 32.6.112; of the
// SNVS domain's, that on the UL); its SW_PAD_CTL register lies a fixed distance on.
type Pad uint32

const (
	lastPad         = 0x200
	padDistance     = 0x28c
	snvsPadDistance = 0x044 // in IOMUXC_SNVS, which begins with BOOT_MODE0

	firstSelect = 0x4b8
	lastSelect  = 0x738
)

// SW_MUX_CTL (32.6.1).
const (
	muxMode = 0xf
	muxSION = 1 << 4
	maxMode = 9
)

// The fields of SW_PAD_CTL (32.6.147), for Setting.Control.
const (
	FastSlew   = 1 << 0 // SRE
	Drive260   = 1 << 3 // DSE: 260 ohm at 3.3 V; n is 260/n ohm
	Drive130   = 2 << 3
	Drive87    = 3 << 3
	Drive65    = 4 << 3
	Drive52    = 5 << 3
	Drive43    = 6 << 3
	Drive37    = 7 << 3
	Speed50    = 0 << 6 // SPEED: 50 MHz
	Speed100   = 2 << 6
	Speed200   = 3 << 6
	OpenDrain  = 1 << 11 // ODE
	Keeper     = 1 << 12 // PKE with PUE = 0
	PullDown   = 3 << 12 // PKE, PUE, PUS: 100 kOhm down
	PullUp47k  = 3<<12 | 1<<14
	PullUp100k = 3<<12 | 2<<14
	PullUp22k  = 3<<12 | 3<<14
	Hysteresis = 1 << 16 // HYS

	controlBits = 1<<17 - 1
)

// A Setting is what a pad is to be.
type Setting struct {
	Pad     Pad
	Mode    uint32 // ALT0 to ALT9
	Input   bool   // SION: the input path is on, whatever the function
	Control uint32 // SW_PAD_CTL; 0 leaves the pad floating, undriven
	Daisy   uint32 // offset of the input's SELECT_INPUT register, or 0
	Select  uint32 // its value
}

// A Mux is the block.
type Mux struct {
	regs        mmio.Registers
	first, last Pad    // which pads it has
	before      uint32 // what their offsets are to be lessened by
	distance    uint32 // from SW_MUX_CTL to SW_PAD_CTL
}

// New drives the block behind r. The pads of the SNVS domain are there on the UL only.
func New(r mmio.Registers) *Mux { return &Mux{r, BOOT_MODE0, lastPad, 0, padDistance} }

// NewSNVS drives the ULL's IOMUXC_SNVS behind r.
func NewSNVS(r mmio.Registers) *Mux {
	return &Mux{r, BOOT_MODE0, SNVS_TAMPER9, uint32(BOOT_MODE0), snvsPadDistance}
}

// place gives the offset of a pad's SW_MUX_CTL register.
func (m *Mux) place(p Pad) uint32 { return uint32(p) - m.before }

// Assign binds a setting to the block. It panics where there is no such pad,
// function or input: the board's wiring is wrong.
func (m *Mux) Assign(s Setting) Assignment {
	if s.Pad < m.first || s.Pad > m.last || s.Pad%4 != 0 || s.Mode > maxMode || s.Control&^controlBits != 0 ||
		s.Daisy != 0 && (m.before != 0 || s.Daisy < firstSelect || s.Daisy > lastSelect || s.Daisy%4 != 0 || s.Select > 7) {
		panic(fmt.Sprintf("iomuxc: no such setting: %+v", s))
	}
	return Assignment{m, s}
}

// An Assignment is a setting that can be made.
type Assignment struct {
	mux *Mux
	Setting
}

// Select makes the setting: the pad's properties first, so that a pull is there
// before the function is, then the way of its input, then the function.
func (a Assignment) Select() {
	a.mux.regs.Write32(a.mux.place(a.Pad)+a.mux.distance, a.Control)
	if a.Daisy != 0 {
		a.mux.regs.Write32(a.Daisy, a.Setting.Select)
	}
	v := a.Mode
	if a.Input {
		v |= muxSION
	}
	a.mux.regs.Write32(a.mux.place(a.Pad), v)
}

// State reads a pad's function, whether its input path is on, and its properties.
func (m *Mux) State(p Pad) (mode uint32, input bool, control uint32) {
	v := m.regs.Read32(m.place(p))
	return v & muxMode, v&muxSION != 0, m.regs.Read32(m.place(p) + m.distance)
}
