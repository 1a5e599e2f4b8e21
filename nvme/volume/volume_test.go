package volume

import (
	"bytes"
	"context"
	"errors"
	"math"
	"sync"
	"testing"
	"time"

	"nitro/nvme/xts"
)

// testKey gives an expanded key and what it was made of.
func testKey(t *testing.T) (*xts.Key, []byte) {
	t.Helper()
	raw := make([]byte, xts.KeySize256)
	for i := range raw {
		raw[i] = byte(i)
	}
	k := new(xts.Key)
	if err := k.Init(raw); err != nil {
		t.Fatal(err)
	}
	return k, raw
}

func ram(t *testing.T, size int, blocks uint64) *RAM {
	t.Helper()
	r, err := NewRAM(size, blocks)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// encrypted gives a volume in RAM and an encrypted one on it, with small buffers so that
// writes need several.
func encrypted(t *testing.T, size int, blocks uint64) (*Encrypted, *RAM, *xts.Key) {
	t.Helper()
	k, _ := testKey(t)
	r := ram(t, size, blocks)
	e, err := NewEncrypted(r, k, 1, 2*size)
	if err != nil {
		t.Fatal(err)
	}
	return e, r, k
}

func pattern(n int, seed byte) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(i>>8)*31 + byte(i) ^ seed
	}
	return p
}

// TestVolumes holds each kind of volume to the interface.
func TestVolumes(t *testing.T) {
	ctx := t.Context()
	for _, size := range []int{512, 4096} {
		e, _, _ := encrypted(t, size, 16)
		for name, v := range map[string]Volume{"RAM": ram(t, size, 16), "encrypted": e} {
			data, got := pattern(5*size, 7), make([]byte, 5*size)
			if err := v.WriteAt(ctx, 11, data); err != nil {
				t.Errorf("%s: write: %v", name, err)
			}
			if err := v.Flush(ctx); err != nil {
				t.Errorf("%s: flush: %v", name, err)
			}
			if err := v.ReadAt(ctx, 11, got); err != nil || !bytes.Equal(got, data) {
				t.Errorf("%s: read: %v, right %v", name, err, bytes.Equal(got, data))
			}
			if err := v.Zero(ctx, 12, 3); err != nil {
				t.Errorf("%s: zero: %v", name, err)
			}
			clear(data[size : 4*size])
			if err := v.ReadAt(ctx, 11, got); err != nil || !bytes.Equal(got, data) {
				t.Errorf("%s: read after zero: %v, right %v", name, err, bytes.Equal(got, data))
			}
			if err := v.Deallocate(ctx, 11, 1); err != nil {
				t.Errorf("%s: deallocate: %v", name, err)
			}
			if err := v.ReadAt(ctx, 11, got); err != nil || v.ReadsZero() && !bytes.Equal(got[:size], make([]byte, size)) {
				t.Errorf("%s: read after deallocate: %v", name, err)
			}
			for _, lba := range []uint64{12, 16, 17, math.MaxUint64} {
				if err := v.ReadAt(ctx, lba, got); !errors.Is(err, ErrRange) {
					t.Errorf("%s: read at %d: %v", name, lba, err)
				}
				if err := v.WriteAt(ctx, lba, data); !errors.Is(err, ErrRange) {
					t.Errorf("%s: write at %d: %v", name, lba, err)
				}
				if err := v.Zero(ctx, lba, 5); !errors.Is(err, ErrRange) {
					t.Errorf("%s: zero at %d: %v", name, lba, err)
				}
				if err := v.Deallocate(ctx, lba, math.MaxUint64); !errors.Is(err, ErrRange) {
					t.Errorf("%s: deallocate at %d: %v", name, lba, err)
				}
			}
			if err := v.WriteAt(ctx, 0, data[:size+1]); !errors.Is(err, ErrRange) {
				t.Errorf("%s: write of part of a block: %v", name, err)
			}
			if v.Close() != nil || v.Close() != nil {
				t.Errorf("%s: close fails", name)
			}
			for what, err := range map[string]error{"read": v.ReadAt(ctx, 0, got), "write": v.WriteAt(ctx, 0, data),
				"zero": v.Zero(ctx, 0, 1), "flush": v.Flush(ctx), "deallocate": v.Deallocate(ctx, 0, 1)} {
				if !errors.Is(err, ErrClosed) {
					t.Errorf("%s: %s after close: %v", name, what, err)
				}
			}
		}
	}
}

// TestEncryptedMedium compares the medium with what package xts makes of the plaintext,
// sector by sector.
func TestEncryptedMedium(t *testing.T) {
	e, r, _ := encrypted(t, 512, 16)
	data := pattern(7*512, 1)
	if err := e.WriteAt(t.Context(), 3, data); err != nil {
		t.Fatal(err)
	}
	other, _ := testKey(t)
	for i := range 7 {
		want := make([]byte, 512)
		if err := other.Encrypt(want, data[i*512:][:512], 512, uint64(3+i)); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(r.data[(3+i)*512:][:512], want) {
			t.Errorf("block %d is not as encrypted", 3+i)
		}
	}
	if !bytes.Equal(data, pattern(7*512, 1)) {
		t.Error("writing changed the data")
	}
}

// TestEncryptedClose: the key is gone, and a read that fails leaves nothing.
func TestEncryptedClose(t *testing.T) {
	e, _, k := encrypted(t, 512, 4)
	p := pattern(512, 0)
	if err := e.WriteAt(t.Context(), 0, p); err != nil {
		t.Fatal(err)
	}
	e.Close()
	if *k != (xts.Key{}) {
		t.Error("the key is still in memory")
	}
	if err := e.ReadAt(t.Context(), 0, p); err == nil || !bytes.Equal(p, make([]byte, 512)) {
		t.Errorf("read after close: %v, % x...", err, p[:8])
	}
}

// stuck is a volume whose writes wait until they are let go.
type stuck struct {
	*RAM
	began, release chan struct{}
}

func (s *stuck) WriteAt(ctx context.Context, lba uint64, p []byte) error {
	s.began <- struct{}{}
	<-s.release
	return s.RAM.WriteAt(ctx, lba, p)
}

// TestEncryptedCloseNow: a write that hangs keeps the key no longer, and a second one
// waits for the only buffer until its context ends.
func TestEncryptedCloseNow(t *testing.T) {
	k, _ := testKey(t)
	s := &stuck{ram(t, 512, 4), make(chan struct{}, 1), make(chan struct{})}
	e, err := NewEncrypted(s, k, 1, 512)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := e.WriteAt(context.Background(), 0, make([]byte, 1024)); !errors.Is(err, ErrClosed) {
			t.Errorf("a write that a close met: %v", err)
		}
	})
	<-s.began
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := e.WriteAt(ctx, 0, make([]byte, 512)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a write without a buffer: %v", err)
	}
	e.Close()
	if *k != (xts.Key{}) {
		t.Error("the key is still in memory")
	}
	close(s.release)
	wg.Wait()
}

func TestRefused(t *testing.T) {
	for _, c := range []struct {
		size   int
		blocks uint64
	}{{0, 1}, {513, 1}, {1024, 1}, {512, 0}, {512, MaxRAM/512 + 1}, {4096, math.MaxUint64}} {
		if _, err := NewRAM(c.size, c.blocks); err == nil {
			t.Errorf("%d blocks of %d bytes accepted", c.blocks, c.size)
		}
	}
	k, _ := testKey(t)
	for _, c := range [][2]int{{0, 512}, {1, 0}, {1, 513}, {1, 511}} {
		if _, err := NewEncrypted(ram(t, 512, 1), k, c[0], c[1]); err == nil {
			t.Errorf("%d buffers of %d bytes accepted", c[0], c[1])
		}
	}
}

// TestEncryptedForget: the key goes at once, the volume beneath stays until Close.
func TestEncryptedForget(t *testing.T) {
	e, r, k := encrypted(t, 512, 4)
	p := pattern(512, 0)
	e.Forget()
	if *k != (xts.Key{}) {
		t.Error("the key is still in memory")
	}
	if err := e.WriteAt(t.Context(), 0, p); !errors.Is(err, ErrClosed) {
		t.Errorf("write: %v", err)
	}
	if err := e.Zero(t.Context(), 0, 1); !errors.Is(err, ErrClosed) {
		t.Errorf("zero: %v", err)
	}
	if err := r.Flush(t.Context()); err != nil {
		t.Errorf("the volume beneath: %v", err)
	}
	if e.Close() != nil || e.Close() != nil {
		t.Error("close fails")
	}
	if err := r.Flush(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("the volume beneath after Close: %v", err)
	}
}

// TestEncryptedPause: the key may be changed while it is not used, and reads and writes wait
// for that.
func TestEncryptedPause(t *testing.T) {
	e, _, k := encrypted(t, 512, 16)
	if err := e.WriteAt(t.Context(), 0, pattern(512, 1)); err != nil {
		t.Fatal(err)
	}
	read := make(chan []byte)
	e.Pause(func() {
		go func() {
			b := make([]byte, 512)
			if err := e.ReadAt(t.Context(), 0, b); err != nil {
				t.Error(err)
			}
			read <- b
		}()
		select {
		case <-read:
			t.Error("read while the key is changed")
		case <-time.After(10 * time.Millisecond):
		}
		if err := k.Init(pattern(xts.KeySize256, 9)); err != nil {
			t.Error(err)
		}
	})
	if bytes.Equal(<-read, pattern(512, 1)) {
		t.Error("the old key is still there")
	}
}
