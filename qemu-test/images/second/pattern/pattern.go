// Package pattern makes byte patterns that images plant in their memory, for tests that
// look for them from outside. A pattern stands nowhere in a program that does not plant
// it: it is made of a seed.
package pattern

// Seeds of what is planted where.
const (
	Memory = 0x1f2e3d4c // by images/second: all over its memory
	Secret = 0x51c3e9a7 // by images/first: what a bootloader must not leave behind
	Frame  = 0x7b9d0f21 // in frames
)

// Size is a pattern's, in bytes.
const Size = 16

// Of makes a seed's pattern.
func Of(seed uint32) (p [Size]byte) {
	for i := range p {
		seed = seed*1664525 + 1013904223
		p[i] = byte(seed >> 24)
	}
	return p
}

// Fill fills memory, in whole patterns.
func Fill(mem []byte, seed uint32) {
	p := Of(seed)
	n := copy(mem, p[:])
	for n < len(mem) {
		n += copy(mem[n:], mem[:n])
	}
}
