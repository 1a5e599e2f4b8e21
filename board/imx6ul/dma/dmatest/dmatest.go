// Package dmatest gives the tests of drivers an arena of DMA memory, and the view of
// it that the device has, which a test plays.
package dmatest

import (
	"testing"

	"nitro/board/imx6ul/dma"
	"nitro/board/kernel"
)

// A Memory is DMA memory as a device sees it: by bus addresses.
type Memory struct{ mem []byte }

// New makes an arena of size bytes, filled with rubbish, at the address where the
// board has its DMA memory.
func New(t testing.TB, size int) (*dma.Arena, *Memory) {
	t.Helper()
	mem := make([]byte, size) // so large that Go aligns it to more than words
	for i := range mem {
		mem[i] = 0xa5
	}
	return dma.Over(mem, kernel.DMAStart), &Memory{mem}
}

// At gives n bytes at a bus address, or nil where there is no such memory, as a bus
// error is to a device.
func (m *Memory) At(addr uint32, n int) []byte {
	start := uint64(addr) - kernel.DMAStart
	if addr < kernel.DMAStart || n < 0 || start+uint64(n) > uint64(len(m.mem)) {
		return nil
	}
	return m.mem[start:][:n:n]
}
