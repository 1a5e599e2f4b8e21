package sd

import (
	"encoding/binary"
	"slices"
	"testing"
	"time"

	"nitro/board/imx6ul/dma"
)

// A slot is the model of a host, with the card in its slot.
type slot struct {
	t       *testing.T
	card    *modelCard // nil: the slot is empty
	detect  bool       // the host sees cards come and go
	removed bool

	clock uint32
	wide  bool
	stuck bool // a command failed: its lines must be reset

	sent  int                   // commands
	fault func(*Command) error  // if set, may fail a command that is then not carried out
	after func(*Command) error  // if set, may fail a command that was carried out
	tells func(*Command) uint32 // if set, gives bits to add to an answer
}

// States of a card (4.1), as CURRENT_STATE has them.
const (
	idle = iota
	ready
	ident
	standby
	transfer
	sending
	receiving
	programming
)

// A modelCard is a card. What it does not answer to is a time-out to the host.
type modelCard struct {
	cid, csd [16]byte
	scr      [8]byte
	high     bool // SDHC, SDXC
	version1 bool // knows no CMD8
	fast     bool // offers high speed
	startup  int  // ACMD41s until it has powered up
	address  uint32
	voltages uint32
	locked   uint32
	blocks   uint64
	data     map[uint64][512]byte

	state   uint32
	rca     uint32
	app     bool
	lines4  bool
	clock50 bool
	count   uint32 // CMD23's
	busy    int    // looks at DAT0 that find it low after a write
	unready int    // CMD13s after that which find it without room for data
	length  uint32
	pending map[uint64][512]byte
	waiting int
	full    int
	asked   int
	status  uint32 // errors to tell with the next answer
	strict  bool   // OUT_OF_RANGE after the last block, as real cards do
}

func csd1(size, mult, length uint32) (r [16]byte) {
	put(r[:], 95, 84, 0x5f5)
	put(r[:], 73, 62, size)
	put(r[:], 49, 47, mult)
	put(r[:], 83, 80, length)
	return r
}

func csd2(size uint32) (r [16]byte) {
	put(r[:], 127, 126, 1)
	put(r[:], 95, 84, 0x5b5)
	put(r[:], 69, 48, size)
	return r
}

// put sets bits hi to lo of a register.
func put(r []byte, hi, lo int, v uint32) {
	for i := lo; i <= hi; i++ {
		b := &r[len(r)-1-i/8]
		*b = *b&^(1<<(i%8)) | byte(v>>(i-lo)&1)<<(i%8)
	}
}

// scr makes an SCR of version 3.
func scr(widths, commands uint32) (r [8]byte) {
	put(r[:], 59, 56, 2)
	put(r[:], 51, 48, widths)
	put(r[:], 47, 47, 1)
	put(r[:], 33, 32, commands)
	return r
}

// sdhc makes a card of 8 GiB.
func sdhc(serial byte) *modelCard {
	return &modelCard{
		cid: [16]byte{3, 'S', 'D', 'S', 'U', '0', '8', 'G', 0x80, 0, 0, 0, serial, 1, 0x42}, csd: csd2(16383), scr: scr(5, 0),
		high: true, fast: true, startup: 3, address: 0xb368, voltages: ocrVoltages, blocks: 16384 * 1024, data: map[uint64][512]byte{},
	}
}

func (s *slot) Forget() { s.removed = false }

func (s *slot) Reset() error {
	s.clock, s.wide, s.stuck = 400000, false, false
	if c := s.card; c != nil {
		c.reset()
		c.lines4, c.clock50, c.asked = false, false, 0
	}
	return nil
}

// reset is that of CMD0.
func (c *modelCard) reset() {
	c.state, c.rca, c.app, c.status, c.pending, c.waiting = idle, 0, false, 0, nil, 0
	c.length, c.full = 0, 0
}

// change takes the card out, and puts another in its place, or none.
func (s *slot) change(c *modelCard) {
	s.removed = s.detect
	s.card = c
	if c != nil {
		c.reset()
	}
}

func (s *slot) SetClock(hz uint32) error { s.clock = hz; return nil }
func (s *slot) SetWide() error           { s.wide = true; return nil }
func (s *slot) ResetLines() error        { s.stuck = false; return nil }

func (s *slot) Busy() bool {
	if s.card == nil || s.card.state != programming {
		return false
	}
	s.card.program()
	return s.card.state == programming
}

// program passes one look's time of programming.
func (c *modelCard) program() {
	if c.waiting > 0 {
		c.waiting--
		return
	}
	for at, block := range c.pending {
		c.data[at] = block
	}
	c.pending, c.state, c.full = nil, transfer, c.unready
}

func (s *slot) Do(cmd *Command) error {
	s.sent++
	if s.sent > 100000 {
		s.t.Fatal("the driver does not come to an end")
	}
	if s.removed || s.detect && s.card == nil {
		return ErrNoCard
	}
	if s.stuck {
		s.t.Errorf("CMD%d on lines that were not reset after an error", cmd.Index)
	}
	err := s.carryOut(cmd)
	s.stuck = err != nil
	return err
}

func (s *slot) carryOut(cmd *Command) error {
	if s.fault != nil {
		if err := s.fault(cmd); err != nil {
			return err
		}
	}
	if s.card == nil {
		return late(cmd)
	}
	if s.clock > 400000 && s.card.state < standby && slices.Contains([]uint8{8, 55, 41, 2, 3}, cmd.Index) {
		s.t.Errorf("CMD%d to a card that is not identified, at %d Hz", cmd.Index, s.clock)
	}
	err := s.do(s.card, cmd)
	if err == nil && s.after != nil {
		err = s.after(cmd)
	}
	if err == nil && s.tells != nil {
		cmd.Answer |= s.tells(cmd)
	}
	return err
}

func late(cmd *Command) error {
	if cmd.Response == NoResponse {
		return nil
	}
	time.Sleep(time.Millisecond)
	return ErrTimeout
}

// do carries out a command in the card's state, or leaves it without an answer.
func (s *slot) do(c *modelCard, cmd *Command) error {
	app := c.app
	c.app = false
	mine := cmd.Arg>>16 == c.rca
	answer := func(bits uint32) error {
		cmd.Answer = bits | c.state<<9 | c.status
		if c.state == programming || c.state == transfer && c.full == 0 { // it may take data in while it programs
			cmd.Answer |= statusReady
		}
		c.status = 0
		return nil
	}
	switch at := (key{cmd.Index, c.state}); {
	case cmd.Index == 0:
		c.reset()
		return nil
	case at == key{8, idle} && !c.version1:
		cmd.Answer = cmd.Arg & 0xfff
		return nil
	case cmd.Index == 55 && mine && (c.state == idle || c.state >= standby):
		c.app = true
		return answer(statusAppCommand)
	case app && at == key{41, idle}:
		return s.operate(c, cmd)
	case at == key{2, ready}:
		c.state = ident
		cmd.Long = c.cid
		return nil
	case at == key{3, ident}, at == key{3, standby}:
		c.state = standby
		c.rca = c.address
		cmd.Answer = c.rca << 16
		return nil
	case at == key{9, standby} && mine:
		cmd.Long = c.csd
		return nil
	case at == key{7, standby} && mine:
		err := answer(c.locked)
		c.state = transfer
		return err
	case cmd.Index == 13 && mine && c.state >= standby:
		if c.state == programming {
			c.program()
			return answer(0)
		}
		err := answer(0)
		c.full = max(0, c.full-1)
		return err
	case cmd.Index == 12 && (c.state == sending || c.state == receiving):
		err := answer(0)
		c.state = transfer
		return err
	case c.state == transfer:
		return s.inTransfer(c, cmd, app, answer)
	}
	return late(cmd)
}

type key struct {
	index uint8
	state uint32
}

// operate is ACMD41.
func (s *slot) operate(c *modelCard, cmd *Command) error {
	if cmd.Response != R3 {
		s.t.Errorf("ACMD41 with response %d", cmd.Response)
	}
	c.asked++
	cmd.Answer = c.voltages
	if c.asked > c.startup && (!c.high || cmd.Arg&ocrHigh != 0) {
		cmd.Answer |= ocrReady
		if c.high {
			cmd.Answer |= ocrHigh
		}
		c.state = ready
	}
	return nil
}

// inTransfer are the commands of the transfer state.
func (s *slot) inTransfer(c *modelCard, cmd *Command, app bool, answer func(uint32) error) error {
	if len(cmd.Data.Bytes) > 0 && (s.wide != c.lines4 || s.clock > 25000000 && !c.clock50 || s.clock > 50000000) {
		return ErrCRC
	}
	switch {
	case app && cmd.Index == 51:
		copy(cmd.Data.Bytes, c.scr[:])
	case app && cmd.Index == 6:
		if cmd.Arg != 2 || c.scr[1]&4 == 0 {
			s.t.Errorf("ACMD6(%d) to a card with SCR %x", cmd.Arg, c.scr)
		}
		c.lines4 = true
	case app:
		return late(cmd)
	case cmd.Index == 6:
		clear(cmd.Data.Bytes)
		if c.fast {
			put(cmd.Data.Bytes, 415, 400, 0x8003)
			put(cmd.Data.Bytes, 379, 376, cmd.Arg&0xf)
			c.clock50 = cmd.Arg>>31 != 0
		} else if cmd.Arg>>31 != 0 {
			s.t.Errorf("CMD6(%#x) sets what the card does not offer", cmd.Arg)
		}
	case cmd.Index == 16 && !c.high:
		c.length = cmd.Arg
	case cmd.Index == 23 && c.scr[3]&2 != 0:
		c.count = cmd.Arg
	case cmd.Index == 17 || cmd.Index == 18 || cmd.Index == 24 || cmd.Index == 25:
		return s.data(c, cmd, answer)
	default:
		return late(cmd)
	}
	return answer(0)
}

// data are the commands that read and write blocks.
func (s *slot) data(c *modelCard, cmd *Command, answer func(uint32) error) error {
	write, many := cmd.Index >= 24, cmd.Index == 18 || cmd.Index == 25
	first := uint64(cmd.Arg)
	if !c.high {
		if first%512 != 0 {
			s.t.Errorf("CMD%d at byte %d", cmd.Index, first)
		}
		first /= 512
	}
	n := uint64(len(cmd.Data.Bytes)) / 512
	counted := c.count != 0
	if !c.high && c.length != 512 || c.full > 0 {
		s.t.Errorf("CMD%d with blocks of %d bytes, to a card with no room: %v", cmd.Index, c.length, c.full > 0)
	}
	if cmd.Write != write || cmd.BlockSize != 512 || many != (n > 1) || counted && uint64(c.count) != n ||
		many && cmd.AutoStop == counted || first+n > c.blocks {
		s.t.Errorf("CMD%d at block %d: %+v, announced %d", cmd.Index, first, cmd, c.count)
	}
	c.count = 0
	err := answer(0)
	for i := range n {
		block := cmd.Data.Bytes[i*512:][:512]
		if !write {
			old := c.data[first+i]
			copy(block, old[:])
			continue
		}
		if c.pending == nil {
			c.pending = map[uint64][512]byte{}
		}
		c.pending[first+i] = [512]byte(block)
	}
	if write {
		c.state, c.waiting = programming, c.busy
	}
	cmd.Stop = c.state << 9
	if c.strict && cmd.AutoStop && first+n == c.blocks {
		cmd.Stop |= statusOutOfRange
	}
	return err
}

// buffer is what a Card under test has for its transfers.
func buffer(blocks int) dma.Buffer {
	return dma.Buffer{Bytes: make([]byte, (1+blocks)*512), Addr: 0x9f000000}
}

// block gives a block's contents, which tell place and version.
func block(at uint64, version uint32) (b [512]byte) {
	for i := 0; i < 512; i += 16 {
		binary.LittleEndian.PutUint64(b[i:], at)
		binary.LittleEndian.PutUint32(b[i+8:], version)
		binary.LittleEndian.PutUint32(b[i+12:], uint32(i))
	}
	return b
}
