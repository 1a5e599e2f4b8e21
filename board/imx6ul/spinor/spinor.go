// Package spinor drives SPI NOR flash chips over one data line: those that describe
// themselves (JEDEC JESD216F, SFDP), up to 256 MiB, and SST's SST25VF016B, which does
// not. Reading is by 03h (13h with 4-byte addresses), which every chip takes at up to
// 25 MHz; [Open] says how a large chip gets its fourth byte.
//
// Block protection follows the vendors' data sheets for the chips in the table of
// protect.go; others are read and written, but protect nothing.
//
// Nothing waits longer than what the chip says an operation takes at most. That a chip
// reports an operation done does not make it right: who writes must read back.
//
// Left out: two and four data lines, suspended erasures, one-time-programmable areas,
// and locks of single sectors.
package spinor

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"nitro/board/imx6ul/mmio"
)

// A Bus selects the chip, sends write, reads len(read) bytes, and unselects it. An
// ecspi.Bus is one.
type Bus interface {
	Tx(write, read []byte) error
}

// Instructions. JESD216F names those of the basic table; AAI is SST's.
const (
	opWriteStatus   = 0x01
	opProgram       = 0x02
	opRead          = 0x03
	opWriteDisable  = 0x04
	opReadStatus    = 0x05
	opWriteEnable   = 0x06
	opProgram4      = 0x12
	opRead4         = 0x13
	opReadStatus2   = 0x35
	opClearFlags    = 0x50
	opReadSFDP      = 0x5a
	opReadFlags     = 0x70
	opReadID        = 0x9f
	opProgramWords  = 0xad
	opEnter4Byte    = 0xb7
	opExit4Byte     = 0xe9
	flagsReady      = 1 << 7 // of the flag status register (Micron N25Q256A, table 11)
	flagsEraseError = 1 << 5
	flagsWriteError = 1 << 4
	flagsGuarded    = 1 << 1 // a protected block was to be changed
)

// Limits for what a chip says nothing of: the longest of the chips in the table.
const (
	defaultProgram = 5 * time.Millisecond   // a page
	defaultErase   = 5 * time.Second        // a block
	statusLimit    = 500 * time.Millisecond // writing status registers
	modeLimit      = 10 * time.Millisecond  // settling after an instruction without data
)

// Errors that methods wrap.
var (
	ErrAbsent  = errors.New("no chip answers: check its power, chip select, and who owns the bus")
	ErrUnknown = errors.New("the chip does not describe itself, and is not in the table")
	ErrBusy    = errors.New("the chip is still busy after its longest time: it is worn, or has lost its power")
	ErrLatch   = errors.New("the chip does not take the write enable: something holds it, or it is not there")
	ErrLocked  = errors.New("the chip's protection bits do not change: its WP# pin is low, or they are locked until power-on")
	ErrFailed  = errors.New("the chip reports that it failed")
	ErrRange   = errors.New("not within the chip, or not whole erase blocks")
)

// A Flash is a chip. Its methods may be called by several goroutines; one works at a time.
type Flash struct {
	mu     sync.Mutex
	bus    Bus
	id     [3]byte
	g      geometry
	scheme *scheme // nil where it is not known
}

// sst25vf016b has no SFDP (S71271: page 1, and table 5 for the times).
var sst25vf016b = geometry{size: 2 << 20, page: 256, words: true, program: 10 * time.Millisecond, erasers: []eraser{
	{0x20, 4 << 10, 25 * time.Millisecond}, {0x52, 32 << 10, 25 * time.Millisecond}, {0xd8, 64 << 10, 25 * time.Millisecond}}}

// Open finds out which chip is on the bus.
//
// Of a chip above 16 MiB it prefers the instructions that have 4-byte addresses by
// themselves. If the chip has none it is put into the 4-byte mode, in which the host's
// boot would not find its firmware: [Flash.Close] takes it out again.
func Open(bus Bus) (*Flash, error) {
	f := &Flash{bus: bus}
	if err := bus.Tx([]byte{opReadID}, f.id[:]); err != nil {
		return nil, fmt.Errorf("spinor: %w", err)
	}
	if f.id == [3]byte{} || f.id == [3]byte{0xff, 0xff, 0xff} {
		return nil, fmt.Errorf("spinor: JEDEC id %x: %w", f.id, ErrAbsent)
	}
	p := known(f.id)
	g, err := parseSFDP(f.readSFDP, p)
	if errors.Is(err, errNoSFDP) && f.id == [3]byte{0xbf, 0x25, 0x41} {
		g, err = &sst25vf016b, nil
	} else if errors.Is(err, errNoSFDP) {
		err = ErrUnknown
	}
	if err != nil {
		return nil, fmt.Errorf("spinor: JEDEC id %x: %w", f.id, err)
	}
	f.g, f.scheme = *g, p.scheme
	// A chip may still be busy with what somebody else began.
	if err := f.ready(f.g.erasers[len(f.g.erasers)-1].limit); err != nil {
		return nil, err
	}
	return f, f.mode(true)
}

// Close leaves the chip as the host's boot expects it: with 3-byte addresses, if it came
// with those.
func (f *Flash) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.mode(false)
}

// mode enters or leaves the mode of 4-byte addresses, where the chip needs one.
func (f *Flash) mode(on bool) error {
	if f.g.enter == enterNever {
		return nil
	}
	op := byte(opExit4Byte)
	if on {
		op = opEnter4Byte
	}
	if f.g.enter == enterWithEnable {
		return f.change([]byte{op}, modeLimit)
	}
	return f.send([]byte{op})
}

// ID is the chip's JEDEC id: manufacturer, type, capacity.
func (f *Flash) ID() [3]byte { return f.id }

// Size is that of the chip in bytes.
func (f *Flash) Size() int64 { return f.g.size }

// EraseSize is that of its smallest erase block in bytes.
func (f *Flash) EraseSize() int64 { return f.g.erasers[0].size }

func (f *Flash) String() string {
	s := "protects nothing that is known"
	if f.scheme != nil {
		s = f.scheme.name
	}
	return fmt.Sprintf("SPI NOR %x, %d KiB, erases %d KiB, %s", f.id, f.g.size>>10, f.EraseSize()>>10, s)
}

func (f *Flash) send(command []byte) error {
	if err := f.bus.Tx(command, nil); err != nil {
		return fmt.Errorf("spinor: instruction %#02x: %w", command[0], err)
	}
	return nil
}

func (f *Flash) register(op byte) (byte, error) {
	var v [1]byte
	if err := f.bus.Tx([]byte{op}, v[:]); err != nil {
		return 0, fmt.Errorf("spinor: instruction %#02x: %w", op, err)
	}
	return v[0], nil
}

// sfdpSpace is all that 3-byte addresses reach.
const sfdpSpace = 1 << 24

func (f *Flash) readSFDP(p []byte, at uint32) error {
	if at > sfdpSpace-uint32(len(p)) {
		return fmt.Errorf("SFDP: %d bytes at %#x", len(p), at)
	}
	return f.bus.Tx([]byte{opReadSFDP, byte(at >> 16), byte(at >> 8), byte(at), 0}, p)
}

// command is an instruction with an address.
func (f *Flash) command(op, op4 byte, at int64) []byte {
	if !f.g.wide {
		return []byte{op, byte(at >> 16), byte(at >> 8), byte(at)}
	}
	if f.g.native {
		op = op4
	}
	return []byte{op, byte(at >> 24), byte(at >> 16), byte(at >> 8), byte(at)}
}

func (f *Flash) inside(at, n int64) error {
	if at < 0 || n < 0 || n > f.g.size || at > f.g.size-n {
		return fmt.Errorf("spinor: %#x bytes at %#x of %#x: %w", n, at, f.g.size, ErrRange)
	}
	return nil
}

// ReadAt reads bytes, as io.ReaderAt.
func (f *Flash) ReadAt(p []byte, at int64) (int, error) {
	if err := f.inside(at, int64(len(p))); err != nil || len(p) == 0 {
		return 0, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.bus.Tx(f.command(opRead, opRead4, at), p); err != nil {
		return 0, fmt.Errorf("spinor: reading %#x bytes at %#x: %w", len(p), at, err)
	}
	return len(p), nil
}

// Erase makes whole erase blocks FFh, by as few instructions as the chip allows. A
// protected block may be left as it is without an error.
func (f *Flash) Erase(at, n int64) error {
	if err := f.inside(at, n); err != nil {
		return err
	}
	if at%f.EraseSize() != 0 || n%f.EraseSize() != 0 {
		return fmt.Errorf("spinor: erasing %#x bytes at %#x, in blocks of %#x: %w", n, at, f.EraseSize(), ErrRange)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for n > 0 {
		e := f.g.largest(at, n)
		if err := f.change(f.command(e.opcode, e.opcode, at), e.limit); err != nil {
			return fmt.Errorf("spinor: erasing %#x bytes at %#x: %w", e.size, at, err)
		}
		at, n = at+e.size, n-e.size
	}
	return nil
}

// largest is the eraser of the most bytes that begin at a place. The smallest fits always.
func (g *geometry) largest(at, n int64) eraser {
	for i := len(g.erasers) - 1; i > 0; i-- {
		if e := g.erasers[i]; at%e.size == 0 && e.size <= n {
			return e
		}
	}
	return g.erasers[0]
}

// WriteAt writes erased bytes, as io.WriterAt. Bits only go from 1 to 0; a protected block
// may be left as it is without an error.
func (f *Flash) WriteAt(p []byte, at int64) (int, error) {
	if err := f.inside(at, int64(len(p))); err != nil {
		return 0, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for n := 0; n < len(p); {
		k := min(len(p)-n, f.g.page-int(at+int64(n))%f.g.page)
		if err := f.writePage(p[n:n+k], at+int64(n)); err != nil {
			return n, fmt.Errorf("spinor: writing %#x bytes at %#x: %w", k, at+int64(n), err)
		}
		n += k
	}
	return len(p), nil
}

// writePage writes bytes of one page. What is to stay erased is left out.
func (f *Flash) writePage(p []byte, at int64) error {
	if blank(p) {
		return nil
	}
	if f.g.words {
		return f.writeWords(p, at)
	}
	return f.change(append(f.command(opProgram, opProgram4, at), p...), f.g.program)
}

func blank(p []byte) bool {
	for _, b := range p {
		if b != 0xff {
			return false
		}
	}
	return true
}

// writeWords writes two bytes at a time with automatic address increment (SST25VF016B,
// S71271, "Auto Address Increment (AAI) Word-Program"). The first is at an even address;
// FFh before and behind makes whole words and changes nothing.
func (f *Flash) writeWords(p []byte, at int64) error {
	if at%2 != 0 {
		p, at = append([]byte{0xff}, p...), at-1
	}
	if len(p)%2 != 0 {
		p = append(append([]byte(nil), p...), 0xff)
	}
	err := f.change(append(f.command(opProgramWords, 0, at), p[0], p[1]), f.g.program)
	for i := 2; i < len(p) && err == nil; i += 2 {
		if err = f.send([]byte{opProgramWords, p[i], p[i+1]}); err == nil {
			err = f.ready(f.g.program)
		}
	}
	return errors.Join(err, f.send([]byte{opWriteDisable})) // which ends it
}

// change sends an instruction that changes the chip, and waits for its end.
func (f *Flash) change(command []byte, limit time.Duration) error {
	if err := f.send([]byte{opWriteEnable}); err != nil {
		return err
	}
	status, err := f.register(opReadStatus)
	if err != nil {
		return err
	}
	if status&(statusWEL|statusWIP) != statusWEL {
		return fmt.Errorf("status %#x: %w", status, ErrLatch)
	}
	if err := f.send(command); err != nil {
		return err
	}
	if err := f.ready(limit); err != nil {
		return fmt.Errorf("instruction %#02x: %w", command[0], err)
	}
	return nil
}

// ready waits until the chip is, and asks it, where it can tell, whether it succeeded.
func (f *Flash) ready(limit time.Duration) (err error) {
	var status byte
	done := mmio.Wait(func() bool {
		status, err = f.register(opReadStatus)
		return err != nil || status&statusWIP == 0
	}, limit)
	switch {
	case err != nil:
		return err
	case !done:
		return fmt.Errorf("status %#x: %w", status, ErrBusy)
	case !f.g.flagged:
		return nil
	}
	flags, err := f.register(opReadFlags)
	switch {
	case err != nil:
		return err
	case flags&flagsReady == 0:
		return fmt.Errorf("flag status %#x: %w", flags, ErrBusy)
	case flags&(flagsEraseError|flagsWriteError|flagsGuarded) != 0:
		return errors.Join(fmt.Errorf("flag status %#x: %w", flags, ErrFailed), f.send([]byte{opClearFlags}))
	}
	return nil
}
