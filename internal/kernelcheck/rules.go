package kernelcheck

// Smallest is the smallest image.
const Smallest = "qemu-test/images/hello"

// KernelRules are what board/kernel promises of its machine code.
func KernelRules() Rules {
	const k = "nitro/board/kernel."
	return Rules{
		Own: "nitro/board/",
		Static: map[string]bool{
			"cpuentry": true, "enterKernel": true, "leave": true, "vecUndefined": true, "vecCall": true, "vecPrefetch": true,
			"vecData": true, "vecInterrupt": true, "vecFast": true, "wipe": true,
		},
		Leaves: map[string]bool{
			"runtime.memclrNoHeapPointers": false, "runtime.memmove": false, "runtime.duffzero": false, "runtime.duffcopy": false,
			"runtime.memequal": false, "memeqbody": false,
			"runtime.uint64div": false, "runtime.uint64mod": false, "runtime.dodiv": false, "runtime.slowdodiv": false,
			"runtime.dodiv_slow": false, "runtime.udiv": false, "runtime._div": false, "runtime._divu": false, "runtime._mod": false, "runtime._modu": false,
			// Bounds checks and the stack check end in a fault, which kernelFault reports.
			"runtime.panicIndex": true, "runtime.panicIndexU": true, "runtime.panicBounds": true, "runtime.panicSliceAlen": true,
			"runtime.panicSliceAcap": true, "runtime.panicSliceB": true, "runtime.panicdivide": true, "runtime.panicshift": true,
			"runtime.morestack": false, "runtime.morestack_noctxt": true,
		},
		Float: map[string]bool{
			k + "saveFPU": true, k + "loadFPU": true, k + "resetFPU": true, "nitro/board/cpu.start": true,
		},
		Jumps: map[string]map[uint32]bool{
			"runtime.udiv": {0xe28bf000: true}, // its link register lies in R11
			k + "leaveFor": {0xe12fff1c: true}, // to the next image
		},
		Calls: map[string]string{"vecCall": k + "calls", k + "(*kernel).overPages": ""},
		Data: map[string][]string{
			// boot reads the board's description before any code runs in User mode.
			"cpuentry": {"nitro/board/evk.config"},
			// Whether there is a division instruction. User mode could change it, and so choose how the
			// kernel divides, not what comes out.
			"runtime.udiv": {"internal/cpu.ARM"},
			// The priority 0x80808080 looks like an address of a large image.
			k + "(*kernel).setUpInterrupts": {"crypto/internal/fips140/drbg.memory"},
		},
	}
}

// Roots are where the processor enters the kernel.
var Roots = []string{
	"cpuentry", "vecUndefined", "vecCall", "vecPrefetch", "vecData", "vecInterrupt", "vecFast",
}
