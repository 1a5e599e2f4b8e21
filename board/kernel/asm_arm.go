package kernel

// Functions in asm_arm.s. Those that touch privileged registers run in the
// kernel only.

func counter() uint64                                  // CNTPCT, the architected counter
func counterHz() uint32                                // CNTFRQ
func setCounterHz(hz uint32)                           // CNTFRQ
func setTimer(at uint64)                               // CNTP_CVAL, and enable
func permitCounter()                                   // CNTKCTL: User mode reads the counters
func userFault(addr uint32, write bool) uint32         // ATS1CUR or ATS1CUW, then PAR: 1 is a fault
func userLoad64(addr uint32) (low, high, fault uint32) // ATS1CUR, then two loads; fault unless aligned, readable and no device
func syncPage(addr uint32)                             // after a change of one page's descriptor
func syncAll()                                         // after a change of many
func cleanLine(addr uint32)                            // DCCMVAC: write a cache line back
func dataFault() (status, addr uint32)                 // DFSR, DFAR
func prefetchFault() (status, addr uint32)             // IFSR, IFAR

//go:noescape
func saveFPU(t *[65]uint32) // d0-d31, FPSCR

//go:noescape
func loadFPU(t *[65]uint32)
func resetFPU()                   // FPSCR as a new thread has it
func threadRegs() (rw, ro uint32) // TPIDRURW, TPIDRURO
func setThreadRegs(rw, ro uint32)
func barrier()   // DSB
func cachesOff() // jumped to with the link in a register: see caches_arm.s

func wipe(start, end uint32)       // multiples of 256
func leaveFor(entry uint32)        // to another image
func linkerSymbols() *imageSymbols // in read-only memory
func vdsoClockGettime()            // called by the Go runtime through the vDSO
