package spinor

import (
	"bytes"
	"errors"
)

// A model is a chip at the level of its instructions, after its data sheet. What it is
// told wrongly it ignores, as chips do: without the latch, while busy, when protected.
type model struct {
	id    [3]byte
	sfdp  []byte
	mem   []byte
	page  int
	erase map[byte]int64 // opcodes with 3-byte addresses, or in the mode of 4
	wide  map[byte]bool  // opcodes that have 4-byte addresses of their own
	words bool           // AAI, no pages
	enter bool           // B7h and E9h
	latch bool           // which need the latch

	status, status2, config byte
	writable, writable2     byte // bits of the status registers
	guarded                 func(m *model) (from, to int64)
	pinLow                  bool // WP#
	flags                   byte
	failFlag                byte // set by the next operation
	flagsBusy               bool

	four   bool
	aai    bool
	next   int64 // address of AAI
	done   bool  // an operation is over once it is not busy
	busy   int   // polls until ready; negative: for ever
	polls  int   // that an operation takes
	deaf   bool  // the latch does not come
	absent bool

	ops   map[byte]int
	fault error
}

func (m *model) Tx(write, read []byte) error {
	for i := range read {
		read[i] = 0xff
	}
	if m.fault != nil || m.absent {
		return m.fault
	}
	op := write[0]
	if m.ops == nil {
		m.ops = map[byte]int{}
	}
	m.ops[op]++
	if m.busy != 0 && op != opReadStatus && op != opReadFlags {
		return nil
	}
	switch op {
	case opReadStatus:
		m.answer(read, m.statusNow())
	case opReadStatus2:
		m.answer(read, m.status2)
	case 0x15:
		m.answer(read, m.config)
	case opReadFlags:
		if m.answer(read, m.flags|flagsReady); m.flagsBusy {
			m.answer(read, m.flags)
		}
	case opClearFlags:
		m.flags = 0
	case opReadID:
		copy(read, m.id[:])
	case opReadSFDP:
		if at := int(write[1])<<16 | int(write[2])<<8 | int(write[3]); at < len(m.sfdp) {
			copy(read, m.sfdp[at:])
		}
	case opWriteEnable:
		if !m.deaf {
			m.status |= statusWEL
		}
	case opWriteDisable:
		m.status &^= statusWEL
		m.aai = false
	case opRead, opRead4:
		if at, ok := m.address(write, op); ok {
			for i := range read {
				read[i] = m.mem[(at+int64(i))%int64(len(m.mem))]
			}
		}
	case opEnter4Byte, opExit4Byte:
		if m.enter && (!m.latch || m.status&statusWEL != 0) {
			m.four = op == opEnter4Byte
			m.status &^= statusWEL
		}
	default:
		if m.status&statusWEL != 0 {
			m.change(write)
		}
	}
	return nil
}

func (m *model) answer(read []byte, v byte) {
	for i := range read {
		read[i] = v
	}
}

func (m *model) statusNow() byte {
	if m.busy != 0 {
		m.busy--
		return m.status | statusWIP
	}
	if m.done { // the latch goes with the end of the operation
		m.status, m.done = m.status&^statusWEL, false
	}
	return m.status
}

// address takes the address of an instruction; a chip with 3-byte ones takes 3 bytes,
// whatever follows.
func (m *model) address(write []byte, op byte) (at int64, ok bool) {
	n := 3
	if m.wide[op] || m.four && !m.wide[op] {
		n = 4
	} else if op == opRead4 || op == opProgram4 {
		return 0, false
	}
	if len(write) < 1+n {
		return 0, false
	}
	for _, b := range write[1 : 1+n] {
		at = at<<8 | int64(b)
	}
	return at % int64(len(m.mem)), true
}

// change carries out what needs the latch.
func (m *model) change(write []byte) {
	op := write[0]
	n := 4
	if m.wide[op] || m.four {
		n = 5
	}
	m.busy = m.polls
	m.flags |= m.failFlag
	m.failFlag = 0
	size, erases := m.erase[op]
	switch {
	case op == opWriteStatus:
		if m.status&statusLock == 0 || !m.pinLow {
			m.status = write[1]&m.writable | m.status&^m.writable
			if len(write) > 2 {
				m.status2 = write[2]&m.writable2 | m.status2&^m.writable2
			}
		}
	case erases:
		if at, ok := m.address(write, op); ok && len(write) == n {
			at -= at % size
			m.fill(at, bytes.Repeat([]byte{0xff}, int(size)), true)
		}
	case op == opProgramWords && m.words:
		at, data := m.next, write[1:]
		if !m.aai {
			at, _ = m.address(write, op)
			data = write[4:]
		}
		if len(data) == 2 && at%2 == 0 {
			m.fill(at, data, false)
			m.aai, m.next = true, at+2
		}
		return // the latch stays
	case (op == opProgram || op == opProgram4) && !m.words:
		if at, ok := m.address(write, op); ok {
			base := at - at%int64(m.page)
			for i, b := range write[n:] { // wraps within the page
				m.fill(base+(at+int64(i))%int64(m.page), []byte{b}, false)
			}
		}
	}
	m.done = true
}

func (m *model) fill(at int64, p []byte, erase bool) {
	from, to := m.guarded(m)
	if at < to && at+int64(len(p)) > from {
		if m.failFlag == 0 && m.flags == 0 && m.id[0] == 0x20 {
			m.flags |= flagsGuarded
		}
		return
	}
	for i, b := range p {
		if !erase {
			b &= m.mem[at+int64(i)]
		}
		m.mem[at+int64(i)] = b
	}
}

// description makes an SFDP space of doublewords of the basic table and, if there are
// any, of the table of 4-byte instructions.
func description(basic, four []uint32) []byte {
	b := le.AppendUint32(nil, sfdpSignature)
	b = append(b, 6, 1, 0, 0xff)
	header := func(id uint16, at int, t []uint32) []byte {
		return append(le.AppendUint32([]byte{byte(id), 6, 1, byte(len(t))}, uint32(at)|0xff000000)[:7], byte(id>>8))
	}
	if four != nil {
		b[6] = 1
	}
	b = append(b, header(tableBasic, 0x30, basic)...)
	if four != nil {
		b = append(b, header(table4Byte, 0x30+4*len(basic), four)...)
	}
	b = append(b, bytes.Repeat([]byte{0xff}, 0x30-len(b))...)
	for _, w := range append(append([]uint32(nil), basic...), four...) {
		b = le.AppendUint32(b, w)
	}
	return b
}

// basicTable is that of a chip of 2^bits bits, with erasures of 4, 32 and 64 KiB by 20h,
// 52h and D8h (typically 48, 128 and 160 ms, at most 8 times that), pages of 256 bytes
// (typically 704 us, at most 4 times that). Last come the 14th and the 16th doubleword.
func basicTable(bits, w1, w14, w16 uint32) []uint32 {
	return []uint32{0xfff120e5&^(3<<17) | w1, bits, 0, 0, 0, 0, 0, 0x520f200c, 0x0000d810,
		3 | 2<<4 | 1<<9 | 7<<11 | 1<<16 | 9<<18 | 1<<23, 1 | 8<<4 | 10<<8 | 1<<13, 0, 0, w14, 0, w16}
}

// top is what is guarded where the highest n bytes are.
func top(m *model, n int64) (int64, int64) { return int64(len(m.mem)) - n, int64(len(m.mem)) }

func newModel(size int) *model {
	return &model{mem: bytes.Repeat([]byte{0xff}, size), page: 256, polls: 3,
		erase: map[byte]int64{0x20: 4 << 10, 0x52: 32 << 10, 0xd8: 64 << 10}, wide: map[byte]bool{}}
}

// w25q128 is Winbond's W25Q128JV: 3-byte addresses, two status registers, quad mode on as
// it comes from the factory in some versions.
func w25q128() *model {
	m := newModel(16 << 20)
	m.id, m.sfdp = [3]byte{0xef, 0x40, 0x18}, description(basicTable(1<<27-1, 0, 0, 0), nil)
	m.status2, m.writable, m.writable2 = 0x02, 0xfc, 0x43
	m.guarded = func(m *model) (int64, int64) {
		kib := map[byte]int64{0x00: 0, 0x04: 256, 0x08: 512, 0x0c: 1 << 10, 0x10: 2 << 10, 0x14: 4 << 10, 0x18: 8 << 10, 0x1c: 16 << 10, // SEC 0
			0x44: 4, 0x48: 8, 0x4c: 16, 0x50: 32, 0x54: 32, 0x5c: 16 << 10}[m.status&0x5c]
		from, to := top(m, kib<<10)
		if m.status&0x20 != 0 {
			from, to = 0, kib<<10
		}
		if m.status2&0x40 != 0 && from == 0 {
			from, to = to, int64(len(m.mem))
		} else if m.status2&0x40 != 0 {
			from, to = 0, from
		}
		return from, to
	}
	return m
}

// mx25l25645g is Macronix's: 4-byte instructions of its own, the protection's bit for top
// or bottom in the configuration register.
func mx25l25645g() *model {
	m := newModel(32 << 20)
	m.id, m.sfdp = [3]byte{0xc2, 0x20, 0x19}, description(basicTable(1<<28-1, 1<<17, 1<<2, 0x21<<24), []uint32{0x7f | 7<<9, 0xffdc5c21})
	m.wide = map[byte]bool{0x13: true, 0x12: true, 0x21: true, 0x5c: true, 0xdc: true}
	m.erase[0x21], m.erase[0x5c], m.erase[0xdc] = 4<<10, 32<<10, 64<<10
	m.enter, m.writable = true, 0xfc
	m.guarded = func(m *model) (int64, int64) {
		n := [16]int64{0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 512, 512, 512, 512, 512}[m.status>>2&15] << 16
		if m.config&8 != 0 {
			return 0, n
		}
		return top(m, n)
	}
	return m
}

// n25q256 is Micron's, of the kind without 4-byte erase instructions: it has a mode that
// needs the latch, and a flag status register.
func n25q256() *model {
	m := newModel(32 << 20)
	m.id, m.sfdp = [3]byte{0x20, 0xba, 0x19}, description(basicTable(1<<31|28, 1<<17, 2<<2, 0x2<<24), nil)
	m.enter, m.latch, m.writable = true, true, 0xfc
	m.guarded = func(m *model) (int64, int64) {
		bp := m.status>>2&7 | m.status>>3&8
		n := int64(0)
		if bp > 0 {
			n = min(int64(1)<<(bp-1), 512) << 16
		}
		if m.status&0x20 != 0 {
			return 0, n
		}
		return top(m, n)
	}
	return m
}

// sst25vf016bModel is SST's: no SFDP, words, all protected at power-on.
func sst25vf016bModel() *model {
	m := newModel(2 << 20)
	m.id, m.words, m.status, m.writable = [3]byte{0xbf, 0x25, 0x41}, true, 0x3c, 0xbc
	m.guarded = func(m *model) (int64, int64) {
		return top(m, [8]int64{0, 64, 128, 256, 512, 1024, 2048, 2048}[m.status>>2&7]<<10)
	}
	return m
}

var errBus = errors.New("the bus is out of order")
