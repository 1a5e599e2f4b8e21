package enet

import (
	"errors"
	"fmt"

	"nitro/board/imx6ul/dma"
)

// bufferSize is that of each frame's buffer: a multiple of 64 that holds the longest
// frame that the block hands on (FTRL). So a frame never takes two buffers.
const bufferSize = 1536

// A ring is descriptors and a buffer for each. Their memory is not cached, so each
// access to it costs; there are as few as can be.
type ring struct {
	descriptors, buffers dma.Buffer
	words, data          []uint32 // the same memory
	n                    uint32
}

func newRing(a *dma.Arena, n int) (ring, error) {
	d, err := a.Alloc(n*descriptorSize, dma.LineSize)
	if err != nil {
		return ring{}, fmt.Errorf("%d descriptors: %w", n, err)
	}
	b, err := a.Alloc(n*bufferSize, dma.LineSize)
	if err != nil {
		return ring{}, errors.Join(fmt.Errorf("%d buffers of %d bytes: %w", n, bufferSize, err), a.Free(d))
	}
	return ring{d, b, d.Words(), b.Words(), uint32(n)}, nil
}

func (r *ring) free(a *dma.Arena) error { return errors.Join(a.Free(r.descriptors), a.Free(r.buffers)) }

// word gives a word of a descriptor.
func (r *ring) word(i, word uint32) *uint32 { return &r.words[i*(descriptorSize/4)+word] }

// buffer gives the first n bytes of a descriptor's buffer.
func (r *ring) buffer(i uint32, n int) []byte { return r.buffers.Bytes[i*bufferSize:][:n:n] }

// reset makes all descriptors the driver's own.
func (r *ring) reset() {
	for i := range r.n {
		for word := range uint32(descriptorSize / 4) {
			dma.Store(r.word(i, word), 0)
		}
		dma.Store(r.word(i, wordBuffer), r.buffers.Addr+i*bufferSize)
	}
}

// wrapAt gives the flag that ends the ring, where i is its last descriptor.
func (r *ring) wrapAt(i uint32) uint32 {
	if i == r.n-1 {
		return wrap
	}
	return 0
}

// after gives the next descriptor's number.
func (r *ring) after(i uint32) uint32 {
	if i++; i == r.n {
		return 0
	}
	return i
}
