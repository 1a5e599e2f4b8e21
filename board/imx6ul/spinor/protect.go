package spinor

import "fmt"

// Bits of status register 1 that all vendors have.
const (
	statusWIP  = 1 << 0 // a write is in progress
	statusWEL  = 1 << 1 // write enable latch
	statusLock = 1 << 7 // SRWD, SRP0, BPL: with WP# low no status register can be written
)

// A scheme is how a family of chips protects blocks by bits of its status registers. A
// state is status register 1, and in its upper byte register 2 where there is one.
type scheme struct {
	name  string
	two   bool   // there is a register 2, read by 35h and written behind register 1 (01h)
	mask  uint16 // the bits that protect, which the driver writes
	fixed byte   // instruction that reads a register with bits that only it may look at; 0: none

	// area gives what a state protects, of a chip of a size; ok is false where the data
	// sheet does not say. The third argument is the fixed register.
	area func(state uint16, size int64, fixed byte) (from, length int64, ok bool)
}

// A part is what the driver has to know of a chip beforehand.
type part struct {
	id     [3]byte // JEDEC
	scheme *scheme

	// How it gets into the mode of 4-byte addresses, and whether it has a flag status
	// register: the first descriptions (JESD216, 2011) do not say.
	enter   enterMode
	flagged bool
}

// The data sheets' protection schemes.
var (
	// Winbond W25Q32JV, W25Q64JV, W25Q128FV and JV (rev. M 2016, 6.1: BP2-0 bits 4-2, TB 5,
	// SEC 6; CMP bit 6 of register 2). Register 2's other bits, of which some can be
	// written once only, keep what they are.
	winbond = &scheme{name: "Winbond BP2-0, TB, SEC, CMP", two: true, mask: 0x407c, area: func(s uint16, size int64, _ byte) (int64, int64, bool) {
		bp, sector := s>>2&7, s>>6&1 != 0
		length := int64(0)
		switch {
		case bp == 7:
			length = size
		case sector && bp == 6:
			return 0, 0, false
		case sector && bp > 0:
			length = min(int64(4<<10)<<(bp-1), 32<<10)
		case bp > 0:
			length = size >> (7 - bp)
		}
		from, length := place(size, length, s>>5&1 != 0)
		if s>>14&1 != 0 {
			return complement(size, from, length)
		}
		return from, length, true
	}}

	// Winbond W25Q256JV (rev. G 2017, 7.1: BP3-0 bits 5-2, TB bit 6; CMP bit 6 of
	// register 2).
	winbond256 = &scheme{name: "Winbond BP3-0, TB, CMP", two: true, mask: 0x407c, area: func(s uint16, size int64, _ byte) (int64, int64, bool) {
		from, length := place(size, blocks(s>>2&15, size), s>>6&1 != 0)
		if s>>14&1 != 0 {
			return complement(size, from, length)
		}
		return from, length, true
	}}

	// Macronix MX25L12845G and MX25L25645G (rev. 1.6 2019, table 6 and 7: BP3-0 bits 5-2).
	// Top or bottom is bit 3 of the configuration register, which can be written only
	// once: the driver takes it as it is.
	macronix = &scheme{name: "Macronix BP3-0", mask: 0x3c, fixed: 0x15, area: func(s uint16, size int64, fixed byte) (int64, int64, bool) {
		from, length := place(size, blocks(s>>2&15, size), fixed>>3&1 != 0)
		return from, length, true
	}}

	// Micron N25Q128A, N25Q256A and MT25QL (N25Q256A rev. U, table 9: BP2-0 bits 4-2, TB
	// bit 5, BP3 bit 6).
	micron = &scheme{name: "Micron BP3-0, TB", mask: 0x7c, area: func(s uint16, size int64, _ byte) (int64, int64, bool) {
		from, length := place(size, blocks(s>>2&7|s>>3&8, size), s>>5&1 != 0)
		return from, length, true
	}}

	// SST25VF016B (S71271, table 4: BP2-0 bits 4-2; BP3, bit 5, means nothing). At
	// power-on all are set; they do not outlive the power.
	sst = &scheme{name: "SST BP2-0", mask: 0x3c, area: func(s uint16, size int64, _ byte) (int64, int64, bool) {
		bp := s >> 2 & 7
		length := int64(0)
		if bp > 0 {
			length = min(size>>5<<(bp-1), size)
		}
		from, length := place(size, length, false)
		return from, length, true
	}}
)

// parts are the chips whose protection the driver knows.
var parts = []part{
	{[3]byte{0xef, 0x40, 0x16}, winbond, enterNever, false}, // W25Q32
	{[3]byte{0xef, 0x40, 0x17}, winbond, enterNever, false}, // W25Q64
	{[3]byte{0xef, 0x40, 0x18}, winbond, enterNever, false}, // W25Q128
	{[3]byte{0xef, 0x70, 0x18}, winbond, enterNever, false}, // W25Q128JV-M
	{[3]byte{0xef, 0x40, 0x19}, winbond256, enterPlain, false},
	{[3]byte{0xef, 0x70, 0x19}, winbond256, enterPlain, false},
	{[3]byte{0xc2, 0x20, 0x18}, macronix, enterNever, false}, // MX25L128xx
	{[3]byte{0xc2, 0x20, 0x19}, macronix, enterPlain, false}, // MX25L256xx
	{[3]byte{0x20, 0xba, 0x18}, micron, enterNever, true},    // N25Q128, MT25QL128
	{[3]byte{0x20, 0xba, 0x19}, micron, enterWithEnable, true},
	{[3]byte{0xbf, 0x25, 0x41}, sst, enterNever, false},
}

// known finds a chip in the table; the zero part is one that is not there.
func known(id [3]byte) part {
	for _, p := range parts {
		if p.id == id {
			return p
		}
	}
	return part{}
}

// blocks is the area of four bits n: 2^(n-1) blocks of 64 KiB, at most all.
func blocks(n uint16, size int64) int64 {
	if n == 0 {
		return 0
	}
	return min(int64(64<<10)<<(n-1), size)
}

// place puts an area at the top of the chip, or the bottom.
func place(size, length int64, bottom bool) (int64, int64) {
	if bottom || length == 0 {
		return 0, length
	}
	return size - length, length
}

// complement is all but an area that touches one of the chip's ends.
func complement(size, from, length int64) (int64, int64, bool) {
	if from == 0 {
		return length, size - length, true
	}
	return 0, from, true
}

// Protect makes as much of the ranges read-only as the chip can, and nothing outside of
// them, and locks the bits that say so: with WP# low they cannot be changed any more. The
// pin guards the bits only, and a chip whose quad mode is on does not look at it. Without
// ranges nothing is protected. Where the chip's bits cannot be written the error is
// ErrLocked; where its scheme is not known nothing is done, which [Flash.Protected] shows.
//
// On most chips the bits are kept without power and wear out like the array, so what is
// right already is not written.
func (f *Flash) Protect(ranges [][2]int64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.scheme == nil {
		return nil
	}
	is, fixed, err := f.state()
	if err != nil {
		return err
	}
	want := is&^(f.scheme.mask|statusLock) | f.scheme.best(ranges, f.g.size, fixed)
	if want == is {
		return nil
	}
	if err := f.writeState(want); err != nil {
		return err
	}
	got, _, err := f.state()
	if err == nil && (got^want)&(f.scheme.mask|statusLock) != 0 {
		err = fmt.Errorf("spinor: status %#x, and %#x was written: %w", got, want, ErrLocked)
	}
	return err
}

// best is the state that protects most of the ranges and nothing else.
func (s *scheme) best(ranges [][2]int64, size int64, fixed byte) (state uint16) {
	most := int64(0)
	for n := uint16(0); ; n = (n - s.mask) & s.mask { // each subset of the mask, rising
		if from, length, ok := s.area(n, size, fixed); ok && length > most && within(from, length, ranges) {
			state, most = n|statusLock, length
		}
		if n == s.mask {
			return state
		}
	}
}

// within tells whether one of the ranges holds an area.
func within(from, length int64, ranges [][2]int64) bool {
	for _, r := range ranges {
		if from >= r[0] && from+length <= r[0]+r[1] {
			return true
		}
	}
	return false
}

// Protected reads from the chip which ranges are protected. Where the chip's scheme is not
// known it says none.
func (f *Flash) Protected() ([][2]int64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.scheme == nil {
		return nil, nil
	}
	is, fixed, err := f.state()
	if err != nil {
		return nil, err
	}
	from, length, ok := f.scheme.area(is, f.g.size, fixed)
	switch {
	case !ok:
		return nil, fmt.Errorf("spinor: status %#x: the data sheet does not say what it protects (%s)", is, f.scheme.name)
	case length == 0:
		return nil, nil
	}
	return [][2]int64{{from, length}}, nil
}

// state reads the registers that protect.
func (f *Flash) state() (state uint16, fixed byte, err error) {
	one, err := f.register(opReadStatus)
	state = uint16(one)
	if err == nil && f.scheme.two {
		var two byte
		two, err = f.register(opReadStatus2)
		state |= uint16(two) << 8
	}
	if err == nil && f.scheme.fixed != 0 {
		fixed, err = f.register(f.scheme.fixed)
	}
	return state, fixed, err
}

func (f *Flash) writeState(state uint16) error {
	command := []byte{opWriteStatus, byte(state)}
	if f.scheme.two {
		command = append(command, byte(state>>8))
	}
	return f.change(command, statusLimit)
}
