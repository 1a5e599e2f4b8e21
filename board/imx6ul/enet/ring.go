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
	return ring{d, b, uint32(n)}, nil
}

func (r *ring) free(a *dma.Arena) error { return errors.Join(a.Free(r.descriptors), a.Free(r.buffers)) }

func (r *ring) get(i, word uint32) uint32     { return r.descriptors.Load32(i*descriptorSize + word) }
func (r *ring) set(i, word, v uint32)         { r.descriptors.Store32(i*descriptorSize+word, v) }
func (r *ring) buffer(i uint32, n int) []byte { return r.buffers.Bytes[i*bufferSize:][:n:n] }

// reset makes all descriptors the driver's own.
func (r *ring) reset() {
	for i := range r.n {
		for word := uint32(0); word < descriptorSize; word += 4 {
			r.set(i, word, 0)
		}
		r.set(i, wordBuffer, r.buffers.Addr+i*bufferSize)
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
