package kernel

// Limits of the tables that are fixed in size.
const (
	// MaxThreads bounds the threads alive at a time; clone fails with EAGAIN.
	MaxThreads = 256
	// MaxFiles bounds the open descriptors; open fails with EMFILE.
	MaxFiles = 256

	maxItems     = 512 // descriptors watched by epoll, over all sets
	futexBuckets = 64
)

// A kernel is all state of the kernel. There is one, in the kernel region; tests
// make more of them, since it is plain data: it holds no Go pointers.
type kernel struct {
	// What every exception looks at comes first: it is within reach of one
	// instruction.
	work       uint32 // what is to be done before the return to User mode
	current    uint32 // the running thread
	running    uint32 // and its address
	lastTid    uint32
	lastSerial uint32 // of a file
	numThreads uint32
	slice      uint32 // ticks of a full time slice
	switchedAt uint64 // when the current thread was given the processor
	runFirst   uint32 // which of the two run queues is served: 0 or 1
	pending    uint64 // signals sent to the process that every thread blocks
	fpu        uint32 // the thread whose floating-point state is in the registers
	dying      bool
	count      counters

	mayBlockForSeed bool   // the board can seed: getrandom waits for it
	mapped          uint32 // pages of RAM that /dev/mem has mapped
	watchdog        watchdog
	reset           resetCause
	clock           clock
	frames          frames
	image           imageLayout
	symbols         imageSymbols
	allowed         [maxDeviceRanges + 3]DeviceRange // what /dev/mem maps
	next            DeviceRange                      // where the next image goes; empty: there is none
	stop            [maxStops + 3]RegisterWrite      // stop what runs beside the processor
	random          generator
	irq             interrupts
	timers          timers
	file            [MaxFiles]file
	rings           rings
	item            [maxItems]item
	pipe            pipes
	action          [numSignals + 1]action
	mem             memoryMap
	console         console
	text            text                   // scratch, for what the kernel says
	crash           crashRecord            // of the previous boot; reason 0 is none
	thread          [MaxThreads + 1]thread // the last one is the idle thread
}

// Work to be done before the return to User mode.
const (
	workSchedule = 1 << iota // another thread should run
	workTimer                // the timer may have to be set anew
	workSignals              // the running thread may have a signal to take
)

// counters feed /dev/kernel.
type counters struct {
	calls      uint32 // first: the assembly counts them
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
	idle         uint32
}

// numLines is how many interrupt lines there are, the CPU's own included.
const numLines = 160

// interrupts remembers which file, plus one, has which line open.
type interrupts struct {
	owner [numLines]uint16
}
