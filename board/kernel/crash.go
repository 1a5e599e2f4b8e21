package kernel

// Why the firmware died.
const (
	diedExit     = 1 // the program ended: code is its exit code
	diedSignal   = 2 // a signal that was not handled: code is its number
	diedKernel   = 3 // a fault in the kernel: code is the exception
	diedAbort    = 4 // an asynchronous abort: hardware refused an earlier access
	diedWatchdog = 5 // nobody serviced the watchdog
)

func reasonName(reason uint32) string {
	names := [...]string{
		diedExit: "program ended", diedSignal: "unhandled signal", diedKernel: "fault in the kernel",
		diedAbort: "asynchronous abort", diedWatchdog: "watchdog not serviced",
	}
	if reason == 0 || reason >= uint32(len(names)) {
		return "unknown"
	}
	return names[reason]
}

// A crashRecord lies at a fixed place in RAM that a reset leaves alone, and tells
// the next boot how this one died. It holds code addresses and what was on the
// console, no other memory. docs/kernel.md describes its layout.
type crashRecord struct {
	magic  [2]uint32
	size   uint32 // of the record
	crc    uint32 // CRC-32 (IEEE 802.3) of all that follows
	reason uint32
	code   uint32
	tid    uint32
	uptime uint32 // seconds

	pc, lr, sp, cpsr          uint32
	faultStatus, faultAddress uint32

	traceLen uint32
	trace    [32]uint32 // return addresses, innermost first
	textLen  uint32
	text     [4096]byte // the end of the console's output
}

const (
	crashMagic0 = 'N' | 'C'<<8 | 'C'<<16 | 'R'<<24
	crashMagic1 = 'A' | 'S'<<8 | 'H'<<16 | '1'<<24
	crashHeader = 16 // bytes before those that the CRC covers
)

func (r *crashRecord) valid(size, crc uint32) bool {
	return r.magic[0] == crashMagic0 && r.magic[1] == crashMagic1 && r.size == size &&
		r.traceLen <= uint32(len(r.trace)) && r.textLen <= uint32(len(r.text)) && r.crc == crc
}

// crc32 is the CRC of IEEE 802.3, bit by bit: it runs once in a boot.
func crc32(p []byte) uint32 {
	crc := ^uint32(0)
	for _, b := range p {
		crc ^= uint32(b)
		for range 8 {
			crc = crc>>1 ^ 0xedb88320&-(crc&1)
		}
	}
	return ^crc
}

// describe says how the firmware died.
func (t *text) describe(r *crashRecord) {
	t.str(reasonName(r.reason)).str(", code ").dec(r.code)
	t.str(", thread ").dec(r.tid).str(", after ").dec(r.uptime).str(" s, pc ").hex(r.pc)
	t.str(" lr ").hex(r.lr).str(" sp ").hex(r.sp).str(" cpsr ").hex(r.cpsr)
	t.str(" fault ").hex(r.faultStatus).str(" at ").hex(r.faultAddress)
	if r.traceLen > 0 {
		t.str("; called from")
	}
	for i := uint32(0); i < r.traceLen; i++ {
		t.str(" ").hex(r.trace[i])
	}
	t.str("\n")
}
