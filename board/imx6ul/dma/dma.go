// Package dma hands out the memory that devices read and write by themselves. It is
// the one allocator of it: an [Arena] owns the kernel's DMA memory, which /dev/mem
// maps as normal memory that is not cached, at a virtual address that equals the
// physical one. So no buffer of an arena needs cache maintenance, only
// mmio.Barrier between filling it and telling the device.
//
// Cacheable buffers are left out: cleaning and invalidating lines are privileged
// (ARM DDI 0406C, B4.2.1), and User mode has none. [Lines] and [Shares] hold the
// arithmetic that such buffers stand on all the same.
package dma

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"syscall"

	"nitro/board/kernel"
)

// LineSize is a data cache line's length in bytes (Cortex-A7 MPCore TRM, DDI 0464F,
// 6.1: L1 data cache and L2).
const LineSize = 64

// Lines gives the cache lines that n bytes at addr touch: the first one's start and
// the end of the last one. No bytes touch no lines. The range must not wrap.
func Lines(addr, n uint32) (start, end uint32) {
	if n == 0 {
		return addr, addr
	}
	return addr &^ (LineSize - 1), ((addr + n - 1) | (LineSize - 1)) + 1
}

// Shares tells whether the first and the last line of n bytes at addr hold other
// bytes too. Invalidating such a line loses what the processor wrote beside the
// buffer, so it is to be cleaned first, and not touched while the device owns it.
func Shares(addr, n uint32) (first, last bool) {
	return n > 0 && addr%LineSize != 0, n > 0 && (addr+n)%LineSize != 0
}

// A Buffer is memory that a device and the processor share. It begins at a line and
// owns all lines that it touches.
type Buffer struct {
	Bytes []byte // what was asked for
	Addr  uint32 // for the device: the bus address
}

// ErrNoMemory tells that no gap of the arena holds what was asked for.
var ErrNoMemory = errors.New("no gap is large enough: free buffers, or open a larger arena")

type span struct{ start, end uint32 }

// An Arena is a range of DMA memory. Its methods may be called by several
// goroutines.
type Arena struct {
	mem  []byte
	base uint32

	mu   sync.Mutex
	free []span // in order of address, never adjacent
	used map[uint32]uint32
}

// Open maps the first size bytes of the board's DMA memory, a multiple of 4,096 and
// at most 15 MiB. There is one arena: a second one is refused (EBUSY).
func Open(size uint32) (*Arena, error) {
	const most = kernel.DMAEnd - kernel.DMAStart
	if size == 0 || size%4096 != 0 || size > most {
		return nil, fmt.Errorf("dma: arena of %#x bytes: ask for whole pages, at most %#x bytes", size, most)
	}
	f, err := os.OpenFile("/dev/mem", os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("dma: %w", err)
	}
	defer f.Close()
	mem, err := syscall.Mmap(int(f.Fd()), kernel.DMAStart, int(size), syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("dma: arena of %#x bytes at %#x: %w: open one arena and share it", size, uint32(kernel.DMAStart), err)
	}
	return Over(mem, kernel.DMAStart), nil
}

// Over makes an arena of memory that the caller has, known to devices by the address
// base. [Open] does it with the board's DMA memory, package dmatest with a test's.
func Over(mem []byte, base uint32) *Arena {
	return &Arena{mem: mem, base: base, free: []span{{base, base + uint32(len(mem))}}, used: map[uint32]uint32{}}
}

// Alloc gives a zeroed buffer of n bytes, n > 0, whose address is a multiple of
// align, a power of two; what is below LineSize counts as that. The error is
// ErrNoMemory where nothing fits.
func (a *Arena) Alloc(n, align int) (Buffer, error) {
	if n <= 0 || align <= 0 || align&(align-1) != 0 {
		return Buffer{}, fmt.Errorf("dma: buffer of %d bytes, aligned to %d: ask for at least one byte and a power of two", n, align)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if n > len(a.mem) || align > len(a.mem) {
		return Buffer{}, fmt.Errorf("dma: buffer of %d bytes, aligned to %d, of an arena of %d: %w", n, align, len(a.mem), ErrNoMemory)
	}
	mask := uint32(max(align, LineSize)) - 1
	for i, gap := range a.free {
		start := (gap.start + mask) &^ mask
		_, end := Lines(start, uint32(n))
		if start < gap.start || end > gap.end || end <= start {
			continue
		}
		a.take(i, span{start, end})
		b := a.mem[start-a.base:][:n:n]
		clear(a.mem[start-a.base : end-a.base])
		return Buffer{b, start}, nil
	}
	return Buffer{}, fmt.Errorf("dma: buffer of %d bytes, aligned to %d, beside %d others: %w", n, align, len(a.used), ErrNoMemory)
}

// take cuts s out of gap i.
func (a *Arena) take(i int, s span) {
	gap := a.free[i]
	var rest []span
	if gap.start < s.start {
		rest = append(rest, span{gap.start, s.start})
	}
	if s.end < gap.end {
		rest = append(rest, span{s.end, gap.end})
	}
	a.free = slices.Replace(a.free, i, i+1, rest...)
	a.used[s.start] = s.end
}

// Free takes a buffer back. The device must have let go of it. A buffer that is not
// the arena's, or that is free already, is an error.
func (a *Arena) Free(b Buffer) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	end, ok := a.used[b.Addr]
	if !ok {
		return fmt.Errorf("dma: the buffer at %#x is not in use: free each buffer once", b.Addr)
	}
	delete(a.used, b.Addr)
	i, _ := slices.BinarySearchFunc(a.free, b.Addr, func(s span, addr uint32) int { return int(int64(s.start) - int64(addr)) })
	s := span{b.Addr, end}
	from, to := i, i
	if i > 0 && a.free[i-1].end == s.start {
		from, s.start = i-1, a.free[i-1].start
	}
	if i < len(a.free) && a.free[i].start == s.end {
		to, s.end = i+1, a.free[i].end
	}
	a.free = slices.Replace(a.free, from, to, s)
	return nil
}

// Usage gives the number of buffers, and the used and free memory in bytes: for
// whoever watches for leaks.
func (a *Arena) Usage() (buffers int, used, free uint32) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, s := range a.free {
		free += s.end - s.start
	}
	return len(a.used), uint32(len(a.mem)) - free, free
}
