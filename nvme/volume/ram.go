package volume

import (
	"context"
	"fmt"
	"sync"
)

// RAM is a volume in memory, all of which is taken at once.
type RAM struct {
	size int
	mu   sync.RWMutex
	data []byte // nil when closed
	n    uint64
}

// MaxRAM is the largest volume in RAM in bytes: what a board could hold at most.
const MaxRAM = 1 << 30

// NewRAM makes a volume of zeros.
func NewRAM(blockSize int, blocks uint64) (*RAM, error) {
	if err := CheckBlockSize(blockSize); err != nil {
		return nil, err
	}
	if blocks == 0 || blocks > MaxRAM/uint64(blockSize) {
		return nil, fmt.Errorf("volume: %d blocks of %d bytes in RAM: at least one block and at most %d bytes", blocks, blockSize, MaxRAM)
	}
	return &RAM{size: blockSize, n: blocks, data: make([]byte, blocks*uint64(blockSize))}, nil
}

// BlockSize implements Volume.
func (r *RAM) BlockSize() int { return r.size }

// Blocks implements Volume.
func (r *RAM) Blocks() uint64 { return r.n }

// Prompt implements Prompter.
func (r *RAM) Prompt() bool { return true }

// ReadsZero implements Volume.
func (r *RAM) ReadsZero() bool { return true }

// ReadAt implements Volume.
func (r *RAM) ReadAt(_ context.Context, lba uint64, p []byte) error {
	if err := CheckData(r, lba, p); err != nil {
		return err
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.data == nil {
		return ErrClosed
	}
	copy(p, r.data[lba*uint64(r.size):])
	return nil
}

// WriteAt implements Volume.
func (r *RAM) WriteAt(_ context.Context, lba uint64, p []byte) error {
	if err := CheckData(r, lba, p); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.data == nil {
		return ErrClosed
	}
	copy(r.data[lba*uint64(r.size):], p)
	return nil
}

// Flush implements Volume.
func (r *RAM) Flush(context.Context) error {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.data == nil {
		return ErrClosed
	}
	return nil
}

// Zero implements Volume.
func (r *RAM) Zero(_ context.Context, lba, blocks uint64) error {
	if err := Check(r, lba, blocks); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.data == nil {
		return ErrClosed
	}
	clear(r.data[lba*uint64(r.size):][:blocks*uint64(r.size)])
	return nil
}

// Deallocate implements Volume.
func (r *RAM) Deallocate(ctx context.Context, lba, blocks uint64) error {
	return r.Zero(ctx, lba, blocks)
}

// Close implements Volume. The memory is overwritten.
func (r *RAM) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.data)
	r.data = nil
	return nil
}
