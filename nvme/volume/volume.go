// Package volume is what lies beneath a namespace: blocks that can be read and written.
// It has the interface, a volume in RAM, and Encrypted, which keeps any other volume's
// blocks secret from whoever holds the medium.
package volume

import (
	"context"
	"errors"
	"fmt"
)

// The errors that volumes give, alone or wrapped; the target makes NVMe statuses of them,
// and of any other error "internal error", which hosts try again.
var (
	ErrRange       = errors.New("volume: blocks outside the volume, or data that is not whole blocks")
	ErrFull        = errors.New("volume: no space left in the pool")
	ErrMedium      = errors.New("volume: the medium failed")
	ErrReadOnly    = errors.New("volume: read only")
	ErrUnavailable = errors.New("volume: not reachable now")
	ErrClosed      = errors.New("volume: closed")
)

// A Volume is a row of blocks, numbered from 0. Its methods may run at the same time;
// blocks that are written by two at once, or written while they are read, hold either
// one's data or the other's, block by block.
//
// A context that ends makes a method give up, as soon as it can; what it had to write may
// then be written in part. lba counts blocks, and data is a whole number of them.
type Volume interface {
	BlockSize() int // in bytes: 512 or 4096
	Blocks() uint64 // how many; constant while the volume is open

	ReadAt(ctx context.Context, lba uint64, p []byte) error
	// WriteAt writes p, which it neither keeps nor changes. The data may lie in a cache
	// until Flush, but never as plaintext where the volume is encrypted.
	WriteAt(ctx context.Context, lba uint64, p []byte) error
	// Flush returns when all that was written before is on the medium.
	Flush(ctx context.Context) error
	// Zero makes blocks read as zeros.
	Zero(ctx context.Context, lba, blocks uint64) error
	// Deallocate says that the blocks' contents are not needed any more. What they read
	// as afterwards stays the same until they are written, and never was another
	// volume's data.
	Deallocate(ctx context.Context, lba, blocks uint64) error
	// ReadsZero reports whether deallocated blocks read as zeros.
	ReadsZero() bool

	// Close gives up the volume; calls that come later fail with ErrClosed. A second
	// Close does nothing.
	Close() error
}

// A Prompter is a Volume that says whether its ReadAt, WriteAt and Flush wait for nothing
// but the processor: no medium, no peer.
type Prompter interface{ Prompt() bool }

// Prompt reports whether a volume says so.
func Prompt(v Volume) bool {
	p, ok := v.(Prompter)
	return ok && p.Prompt()
}

// Check holds a range of blocks to a volume's size.
func Check(v Volume, lba, blocks uint64) error {
	if total := v.Blocks(); lba > total || blocks > total-lba {
		return fmt.Errorf("%w: blocks %d to %d of %d", ErrRange, lba, lba+blocks, total)
	}
	return nil
}

// CheckData holds data for, or from, a volume to its size.
func CheckData(v Volume, lba uint64, p []byte) error {
	size := v.BlockSize()
	if len(p)%size != 0 {
		return fmt.Errorf("%w: %d bytes, blocks are %d", ErrRange, len(p), size)
	}
	return Check(v, lba, uint64(len(p)/size))
}

// CheckBlockSize holds a block size to what NVMe hosts can use.
func CheckBlockSize(size int) error {
	if size != 512 && size != 4096 {
		return fmt.Errorf("volume: blocks of %d bytes: use 512 or 4096", size)
	}
	return nil
}
