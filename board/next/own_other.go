//go:build !arm

package next

// Constants gives nothing where there is no image for the board.
func Constants() (addr uint32, memory []byte) { return 0, nil }
