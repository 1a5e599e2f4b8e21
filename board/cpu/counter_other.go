//go:build !arm

package cpu

// Instructions counts nothing here: only the board's processor is known.
func Instructions() (n uint32, counted bool) { return 0, false }
