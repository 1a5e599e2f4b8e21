package volume

import (
	"context"
	"fmt"
	"sync"

	"nitro/nvme/xts"
)

// Encrypted is a volume whose blocks lie on another one under AES-XTS. A block is a data
// unit, and its number the tweak.
//
// What is written is encrypted before the volume beneath sees it, so no plaintext is ever
// in a cache, and the memory in between holds ciphertext only. What is read is decrypted
// where it was read to.
//
// XTS keeps data secret, not whole: see package xts. Deallocated blocks read as what the
// decryption of the medium's content gives, the same each time.
type Encrypted struct {
	under   Volume
	buffers chan []byte // free ones; whoever finds none waits

	mu     sync.RWMutex // held while the key is used, and no longer
	key    *xts.Key     // nil when it is forgotten
	closed bool
}

// NewEncrypted puts a volume on another one. The key lies where its owner keeps keys; from
// here on it is the volume's, and Close overwrites it.
//
// Writes go through as many buffers as are given, of as many bytes: they bound the memory
// that the volume takes, and more writes at a time than buffers wait for one. One is
// enough where one write is served at a time.
func NewEncrypted(under Volume, key *xts.Key, buffers, size int) (*Encrypted, error) {
	if buffers < 1 || size < under.BlockSize() || size%under.BlockSize() != 0 {
		return nil, fmt.Errorf("volume: %d buffers of %d bytes: at least one, of whole blocks of %d", buffers, size, under.BlockSize())
	}
	e := &Encrypted{under: under, key: key, buffers: make(chan []byte, buffers)}
	for range buffers {
		e.buffers <- make([]byte, size)
	}
	return e, nil
}

// BlockSize implements Volume.
func (e *Encrypted) BlockSize() int { return e.under.BlockSize() }

// Blocks implements Volume.
func (e *Encrypted) Blocks() uint64 { return e.under.Blocks() }

// Prompt implements Prompter: as the volume beneath. Who waits for a buffer waits for another
// call that has one.
func (e *Encrypted) Prompt() bool { return Prompt(e.under) }

// ReadsZero implements Volume: no, since zeros on the medium decrypt to something else.
func (e *Encrypted) ReadsZero() bool { return false }

// ReadAt implements Volume. After an error p holds neither plaintext nor ciphertext.
func (e *Encrypted) ReadAt(ctx context.Context, lba uint64, p []byte) error {
	err := e.under.ReadAt(ctx, lba, p)
	if err == nil {
		err = e.crypt((*xts.Key).Decrypt, p, p, lba)
	}
	if err != nil {
		clear(p)
	}
	return err
}

// crypt uses the key, if it is there.
func (e *Encrypted) crypt(do func(k *xts.Key, dst, src []byte, size int, first uint64) error, dst, src []byte, lba uint64) error {
	e.mu.RLock()
	defer e.mu.RUnlock()
	if e.key == nil {
		return ErrClosed
	}
	return do(e.key, dst, src, e.under.BlockSize(), lba)
}

// WriteAt implements Volume.
func (e *Encrypted) WriteAt(ctx context.Context, lba uint64, p []byte) error {
	if err := CheckData(e, lba, p); err != nil {
		return err
	}
	b, err := e.take(ctx)
	if err != nil {
		return err
	}
	defer e.give(b)
	for len(p) > 0 {
		n := min(len(p), len(b))
		if err := e.crypt((*xts.Key).Encrypt, b[:n], p[:n], lba); err != nil {
			return err
		}
		if err := e.under.WriteAt(ctx, lba, b[:n]); err != nil {
			return err
		}
		p, lba = p[n:], lba+uint64(n/e.BlockSize())
	}
	return nil
}

// take waits for a buffer.
func (e *Encrypted) take(ctx context.Context) ([]byte, error) {
	select {
	case b := <-e.buffers:
		return b, nil
	default:
	}
	select {
	case b := <-e.buffers:
		return b, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (e *Encrypted) give(b []byte) { e.buffers <- b }

// Flush implements Volume.
func (e *Encrypted) Flush(ctx context.Context) error { return e.under.Flush(ctx) }

// Zero implements Volume: it writes encrypted zeros.
func (e *Encrypted) Zero(ctx context.Context, lba, blocks uint64) error {
	if err := Check(e, lba, blocks); err != nil {
		return err
	}
	b, err := e.take(ctx)
	if err != nil {
		return err
	}
	defer e.give(b)
	for size := uint64(e.BlockSize()); blocks > 0; {
		n := min(blocks, uint64(len(b))/size)
		part := b[:n*size]
		clear(part)
		if err := e.crypt((*xts.Key).Encrypt, part, part, lba); err != nil {
			return err
		}
		if err := e.under.WriteAt(ctx, lba, part); err != nil {
			return err
		}
		lba, blocks = lba+n, blocks-n
	}
	return nil
}

// Deallocate implements Volume.
func (e *Encrypted) Deallocate(ctx context.Context, lba, blocks uint64) error {
	return e.under.Deallocate(ctx, lba, blocks)
}

// Forget overwrites the key, as soon as encryptions under way are done, each of at most a
// buffer; what they were for does not hold it up. From then on reads and writes fail with
// ErrClosed. The volume beneath stays open until Close.
func (e *Encrypted) Forget() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.key != nil {
		e.key.Zero()
		e.key = nil
	}
}

// Pause calls a function that may change the key, while it is not used. It waits as Forget
// does.
func (e *Encrypted) Pause(change func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	change()
}

// Close implements Volume. The key is overwritten first, then the volume beneath is
// closed.
func (e *Encrypted) Close() error {
	e.Forget()
	e.mu.Lock()
	closed := e.closed
	e.closed = true
	e.mu.Unlock()
	if closed {
		return nil
	}
	return e.under.Close()
}
