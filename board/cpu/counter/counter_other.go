//go:build !arm

package counter

// InstructionTime knows nothing of other processors.
func InstructionTime() (ns uint64) { return 0 }
