package cpu

func countable() uint32    // PMUSERENR: bit 0 is set if User mode may read counters
func instructions() uint32 // PMXEVCNTR of the counter that start selected

// Instructions reads how many instructions the processor has executed since it
// was started, modulo 2^32, in all modes and by all threads (PMU event 0x08,
// INST_RETIRED; ARM DDI 0406C, C12.8). It is false where they are not counted: QEMU
// knows the event under -icount only, and silicon may forbid counting in the Secure
// state (C12.5, SPNIDEN).
func Instructions() (n uint32, counted bool) {
	if countable()&1 == 0 {
		return 0, false
	}
	n = instructions()
	return n, n != 0
}
