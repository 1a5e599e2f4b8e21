//go:build !arm

package cpu

// InstructionTime knows nothing of other processors.
func InstructionTime() (ns uint64) { return 0 }
