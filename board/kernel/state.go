package kernel

// Limits of the tables that are fixed in size.
const (
	// MaxThreads bounds the threads alive at a time; clone fails with EAGAIN.
	MaxThreads = 256
	// MaxFiles bounds the open descriptors; open fails with EMFILE.
	MaxFiles = 256

	maxItems     = 512 // descriptors watched by epoll, over all sets
	futexBuckets = 64
	maxPipes     = 8
)

// A kernel is all state of the kernel. There is one, in the kernel region; tests
// make more of them, since it is plain data: it holds no Go pointers.
type kernel struct {
	thread  [MaxThreads]thread
	file    [MaxFiles]file
	item    [maxItems]item
	pipe    [maxPipes]pipe
	rings   rings
	mem     memoryMap
	frames  frames
	timers  timers
	clock   clock
	console console
	random  generator
	irq     interrupts
	action  [numSignals + 1]action
	pending uint64 // signals sent to the process that every thread blocks

	current    uint32 // the running thread
	lastTid    uint32
	numThreads uint32
	slice      uint32 // ticks of a full time slice
	switchedAt uint64 // when the current thread was given the processor
	runFirst   uint32 // which of the two run queues is served: 0 or 1
	resched    bool   // another thread should run at the next return
	retime     bool   // the timer may have to be set anew
	idle       bool   // no thread runs
	dying      bool

	mayBlockForSeed bool // the board can seed: getrandom waits for it
	watchdog        watchdog
	text            text        // scratch, for what the kernel says
	crash           crashRecord // of the previous boot; reason 0 is none
	allowed         [maxDeviceRanges]DeviceRange
	symbols         imageSymbols
	filePages       uint32 // pages of the image that its file holds

	count counters
}

// counters feed /dev/kernel.
type counters struct {
	calls      uint32
	interrupts uint32
	switches   uint32
	faults     uint32 // pages given on demand
	signals    uint32
	idle       uint64 // ticks spent waiting for an interrupt
}

// imageSymbols are addresses that only the linker knows.
type imageSymbols struct {
	text, etext  uint32
	entry        uint32 // _rt0_arm_linux
	vectors      [7]uint32
	signalReturn uint32
	clockGettime uint32
}

// numLines is how many interrupt lines there are, the CPU's own included.
const numLines = 160

// interrupts remembers which file, plus one, has which line open.
type interrupts struct {
	owner [numLines]uint16
}
