package spinor

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// Bounds of what a chip may say of itself.
const (
	maxHeaders = 16 // of the 256 that there may be; the standard's own tables are below ten
	maxSize    = 256 << 20
	minErase   = 4 << 10
	maxErase   = 256 << 10
	maxLimit   = time.Minute // for one operation
)

// Signature and table numbers (JESD216F, 6.2 and 6.3).
const (
	sfdpSignature = 0x50444653 // "SFDP"
	tableBasic    = 0xff00
	table4Byte    = 0xff84
)

// errNoSFDP tells that a chip has no such table at all.
var errNoSFDP = errors.New("no SFDP signature")

// An eraser is one way to erase.
type eraser struct {
	opcode byte
	size   int64         // bytes
	limit  time.Duration // the longest that it may take
}

// A geometry is what the driver has to know of a chip.
type geometry struct {
	size    int64
	page    int
	program time.Duration // the longest for a page
	erasers []eraser      // by rising size
	wide    bool          // addresses have 4 bytes
	native  bool          // by instructions of their own
	enter   enterMode     // else how
	words   bool          // written two bytes at a time (AAI), not in pages
	flagged bool          // the flag status register tells when it is ready
}

// An enterMode is how a chip gets into the mode of 4-byte addresses.
type enterMode int

const (
	enterNever      enterMode = iota // it needs no mode
	enterPlain                       // B7h
	enterWithEnable                  // 06h, B7h
)

// A reader reads from the SFDP's address space.
type reader func(p []byte, at uint32) error

// parseSFDP reads a chip's description (JESD216F). Nothing in it is taken without a bound.
// The part says what the description may leave out.
func parseSFDP(read reader, p part) (*geometry, error) {
	var h [8]byte
	if err := read(h[:], 0); err != nil {
		return nil, err
	}
	if le.Uint32(h[:]) != sfdpSignature {
		return nil, errNoSFDP
	}
	if h[5] != 1 {
		return nil, fmt.Errorf("SFDP: major revision %d, not 1", h[5])
	}
	tables := map[uint16][]uint32{}
	for i := range min(int(h[6])+1, maxHeaders) {
		id, words, err := parameters(read, uint32(8+8*i))
		if err != nil {
			return nil, err
		}
		if id == tableBasic || id == table4Byte {
			tables[id] = words // of several the last one is the newest (6.3)
		}
	}
	basic, ok := tables[tableBasic]
	if !ok {
		return nil, errors.New("SFDP: there is no basic table")
	}
	return parseTables(basic, tables[table4Byte], p)
}

// parameters reads a parameter header and the table that it names (6.3). Of vendors'
// tables only the number is read.
func parameters(read reader, at uint32) (id uint16, words []uint32, err error) {
	var h [8]byte
	if err := read(h[:], at); err != nil {
		return 0, nil, err
	}
	id = uint16(h[7])<<8 | uint16(h[0])
	if id != tableBasic && id != table4Byte {
		return id, nil, nil
	}
	if h[2] != 1 {
		return 0, nil, nil // a major revision that is none of the standard's
	}
	n := int(h[3])
	b := make([]byte, n*4) // at most 1,020 bytes
	if err := read(b, le.Uint32(h[4:])&0xffffff); err != nil {
		return 0, nil, err
	}
	for i := range n {
		words = append(words, le.Uint32(b[i*4:]))
	}
	return id, words, nil
}

var le = binary.LittleEndian

// word is doubleword n of a table, counted from 1 as the standard does; 0 where the table
// is shorter.
func word(t []uint32, n int) uint32 {
	if n > len(t) {
		return 0
	}
	return t[n-1]
}

// bits are bits hi to lo of a doubleword.
func bits(w uint32, hi, lo int) uint32 { return w >> lo & (1<<(hi-lo+1) - 1) }

func parseTables(basic, four []uint32, p part) (*geometry, error) {
	if len(basic) < 9 {
		return nil, fmt.Errorf("SFDP: a basic table of %d doublewords, at least 9", len(basic))
	}
	g := &geometry{page: 256, program: defaultProgram}
	if err := g.density(word(basic, 2)); err != nil {
		return nil, err
	}
	types := eraseTypes(basic)
	if len(basic) >= 11 {
		w := word(basic, 11) // 6.4.14
		g.page = 1 << bits(w, 7, 4)
		unit := 8 * time.Microsecond
		if bits(w, 13, 13) != 0 {
			unit = 64 * time.Microsecond
		}
		g.program = unit * time.Duration((bits(w, 12, 8)+1)*2*(bits(w, 3, 0)+1))
	}
	if g.page < 16 || g.page > 1024 {
		return nil, fmt.Errorf("SFDP: pages of %d bytes", g.page)
	}
	g.flagged = p.flagged || bits(word(basic, 14), 7, 2)&2 != 0 // 6.4.17: bit 7 of the flag status register
	if err := g.addressing(basic, four, p.enter, &types); err != nil {
		return nil, err
	}
	return g, g.setErasers(types)
}

// density is the second doubleword (6.4.5).
func (g *geometry) density(w uint32) error {
	n := uint64(w) + 1
	if w>>31 != 0 {
		if w &= 1<<31 - 1; w > 40 {
			return fmt.Errorf("SFDP: 2^%d bits", w)
		}
		n = 1 << w
	}
	if n%(8*minErase) != 0 || n/8 > maxSize {
		return fmt.Errorf("SFDP: %d bits: whole 4 KiB, at most %d MiB", n, maxSize>>20)
	}
	g.size = int64(n / 8)
	return nil
}

// eraseTypes are the four of the 8th and 9th doubleword (6.4.11, 6.4.12), with their times
// from the 10th (6.4.13).
func eraseTypes(basic []uint32) (all [4]eraser) {
	times := word(basic, 10)
	for i := range all {
		w := word(basic, 8+i/2) >> (16 * (i % 2))
		all[i] = eraser{byte(bits(w, 15, 8)), 1 << bits(w, 7, 0), defaultErase}
		if len(basic) >= 10 {
			t := bits(times>>(4+7*i), 6, 0)
			unit := [4]time.Duration{time.Millisecond, 16 * time.Millisecond, 128 * time.Millisecond, time.Second}[t>>5]
			all[i].limit = min(unit*time.Duration((t&31+1)*2*(bits(times, 3, 0)+1)), maxLimit)
		}
	}
	return all
}

// addressing finds how the part above 16 MiB is reached (6.4.4, 6.4.19, and 6.6 for
// instructions of their own, which leave no mode behind and so are preferred).
func (g *geometry) addressing(basic, four []uint32, enter enterMode, types *[4]eraser) error {
	switch always := bits(word(basic, 1), 18, 17) == 2; {
	case g.size <= 16<<20 && !always:
		return nil
	case always:
		g.wide = true
		return nil
	}
	g.wide = true
	if w := word(four, 1); bits(w, 0, 0) != 0 && bits(w, 6, 6) != 0 && bits(w, 12, 9) != 0 {
		g.native = true
		for i := range types {
			types[i].opcode = byte(bits(word(four, 2), 8*i+7, 8*i))
			if bits(w, 9+i, 9+i) == 0 {
				types[i].size = 0
			}
		}
		return nil
	}
	switch how := bits(word(basic, 16), 31, 24); {
	case how&1 != 0:
		g.enter = enterPlain
	case how&2 != 0:
		g.enter = enterWithEnable
	case how&0x40 != 0: // always
	case len(basic) < 16 && enter != enterNever:
		g.enter = enter
	default:
		return fmt.Errorf("SFDP: %d MiB, and no way known to 4-byte addresses (%#x)", g.size>>20, how)
	}
	return nil
}

// setErasers keeps the types that the driver can use, by size.
func (g *geometry) setErasers(types [4]eraser) error {
	for size := int64(minErase); size <= maxErase; size *= 2 {
		for _, t := range types {
			if t.size == size && t.opcode != 0 && g.size%size == 0 {
				g.erasers = append(g.erasers, t)
				break
			}
		}
	}
	if len(g.erasers) == 0 {
		return errors.New("SFDP: no erase type from 4 to 256 KiB")
	}
	return nil
}
