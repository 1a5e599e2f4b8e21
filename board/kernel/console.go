package kernel

// consoleSize is how much output waits for the UART; a power of two.
const consoleSize = 16384

// A console is a ring of bytes on their way to the UART. Writers fill it, the
// transmitter's interrupt empties it; nobody waits for the UART with interrupts
// masked. What was sent last stays readable, for the crash record.
type console struct {
	uart         uint32 // address of its registers
	line         uint32 // its interrupt
	head, tail   uint32 // bytes put in and taken out so far
	transmitting bool   // the transmit interrupt is enabled
	filter       hexFilter
	buf          [consoleSize]byte
}

func (c *console) room() uint32 { return consoleSize - (c.head - c.tail) }

// put appends a byte; a line feed becomes carriage return and line feed. There
// must be room for maxPut.
func (c *console) put(b byte) {
	if b == '\n' {
		c.raw('\r')
	}
	c.raw(b)
}

// maxPut is the most ring bytes that one written byte takes.
const maxPut = 4

func (c *console) raw(b byte) {
	c.buf[c.head%consoleSize] = b
	c.head++
}

// take removes the oldest byte; false if there is none.
func (c *console) take() (b byte, ok bool) {
	if c.head == c.tail {
		return 0, false
	}
	b = c.buf[c.tail%consoleSize]
	c.tail++
	return b, true
}

// A hexFilter blanks hexadecimal numbers in what goes to standard error, where
// the Go runtime prints registers and the words of function arguments when a
// program dies: user memory, maybe a key. In its place stands "0x?". Program
// counters (pc=0x..., +0x...) and fault addresses (addr=0x...) stay, so that a
// trace still names every line of code. Of a hex dump (eight digits and a colon at
// the start of a line: runtime/hexdump.go) only the address stays.
//
// It is a state machine over the bytes of the stream, so that a number that is
// written in pieces does not slip through.
type hexFilter struct {
	state  uint8
	keep   bool // the number at hand is a program counter or fault address
	last   [4]byte
	column uint8 // digits since the line began; beyond dumpDigits, it began otherwise
	dump   bool  // in a line of a hex dump
}

const (
	plain    = iota
	zero     // seen 0
	blanking // seen 0x
)

const dumpDigits = 8

// dumps follows a line from its start and reports whether the byte belongs to the
// words of a hex dump.
func (f *hexFilter) dumps(b byte) bool {
	switch {
	case b == '\n':
		f.column, f.dump = 0, false
	case f.dump:
		return true
	case f.column < dumpDigits && isHex(b):
		f.column++
	case f.column == dumpDigits && b == ':':
		f.dump = true
	default:
		f.column = dumpDigits + 1
	}
	return false
}

// write passes a byte of standard error on to the console.
func (f *hexFilter) write(c *console, b byte) {
	if f.dumps(b) {
		return
	}
	switch f.state {
	case blanking:
		if isHex(b) {
			if f.keep {
				c.put(b)
			}
			return
		}
		f.state = plain
	case zero:
		if b == 'x' {
			c.put('x')
			if !f.keep {
				c.put('?')
			}
			f.state = blanking
			return
		}
		f.state = plain
	}
	if b == '0' && !isHex(f.last[3]) {
		f.state = zero
		f.keep = f.last[3] == '+' ||
			f.last[1] == 'p' && f.last[2] == 'c' && f.last[3] == '=' ||
			f.last[0] == 'd' && f.last[1] == 'd' && f.last[2] == 'r' && f.last[3] == '='
	}
	c.put(b)
	f.last[0], f.last[1], f.last[2], f.last[3] = f.last[1], f.last[2], f.last[3], b
}

func isHex(b byte) bool {
	return b >= '0' && b <= '9' || b >= 'a' && b <= 'f' || b >= 'A' && b <= 'F'
}
