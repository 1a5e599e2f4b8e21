package kernel

// Functions in asm_arm.s. Those that touch privileged registers run in the
// kernel only.

func counter() uint64                                  // CNTPCT, the architected counter
func counterHz() uint32                                // CNTFRQ
func setCounterHz(hz uint32)                           // CNTFRQ
func setTimer(at uint64)                               // CNTP_CVAL, and enable
func waitForInterrupt()                                // WFI
func permitCounter()                                   // CNTKCTL: User mode reads the counters
func userCanRead(addr uint32) uint32                   // ATS1CUR, then PAR: bit 0 is set on a fault
func userCanWrite(addr uint32) uint32                  // ATS1CUW, then PAR
func userLoad64(addr uint32) (low, high, fault uint32) // ATS1CUR, then two loads; fault unless aligned and readable
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
func barrier() // DSB

//go:noescape
func symbolAddrs(s *imageSymbols)
func vdsoClockGettime() // called by the Go runtime through the vDSO
