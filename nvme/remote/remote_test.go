package remote_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"nitro/nvme/dhchap"
	"nitro/nvme/initiator"
	"nitro/nvme/remote"
	"nitro/nvme/target"
	"nitro/nvme/volume"
)

const (
	subsystem = "nqn.2026-01.test:server"
	board     = "nqn.2026-01.test:board"
	blockSize = 512
	blocks    = 4096
	limit     = 2 * time.Minute
)

// A cached is a volume whose writes are lost at a power cut, but for those that were
// flushed.
type cached struct {
	volume.Volume // what is durable
	mu            sync.Mutex
	cache         map[uint64][]byte
}

func (c *cached) WriteAt(_ context.Context, lba uint64, p []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for n := 0; n < len(p); n += blockSize {
		c.cache[lba+uint64(n/blockSize)] = bytes.Clone(p[n : n+blockSize])
	}
	return nil
}

func (c *cached) Flush(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for lba, p := range c.cache {
		if err := c.Volume.WriteAt(ctx, lba, p); err != nil {
			return err
		}
	}
	clear(c.cache)
	return nil
}

func (c *cached) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.cache)
}

// A server is a storage server that can be switched off and on.
type server struct {
	t             *testing.T
	medium        *cached
	secret, proof dhchap.Secret
	mu            sync.Mutex
	target        *target.Target // nil: off
	accept        chan net.Conn
	conns         []net.Conn
	refused       int
}

func newServer(t *testing.T) *server {
	t.Helper()
	ram, err := volume.NewRAM(blockSize, blocks)
	must(t, err)
	s := &server{t: t, medium: &cached{Volume: ram, cache: map[uint64][]byte{}}}
	must(t, s.secret.Generate(dhchap.SHA256))
	must(t, s.proof.Generate(dhchap.SHA256))
	s.on()
	t.Cleanup(s.off)
	return s
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A listener has the connections that were dialled.
type listener struct{ accept chan net.Conn }

func (l listener) Accept() (net.Conn, error) {
	c, ok := <-l.accept
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}
func (l listener) Close() error   { return nil }
func (l listener) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "pipe"} }

func (s *server) on() {
	k, err := target.New(target.Config{SubsystemNQN: subsystem})
	must(s.t, err)
	must(s.t, k.AddHost(board, &s.secret, &s.proof))
	must(s.t, k.Attach(board, target.Namespace{ID: 7, Volume: s.medium, UUID: [16]byte{1}}))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.target, s.accept = k, make(chan net.Conn, 8)
	go k.Serve(listener{s.accept})
}

// off is a power cut.
func (s *server) off() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.target == nil {
		return
	}
	s.medium.cut()
	for _, c := range s.conns {
		c.Close()
	}
	s.conns = nil
	close(s.accept)
	s.target.Close()
	s.target = nil
}

// dial connects to the server, if it is on.
func (s *server) dial(context.Context) (net.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.target == nil {
		s.refused++
		return nil, errors.New("test: the server is off")
	}
	here, there := net.Pipe()
	near, far := net.Pipe() // so that a cut is seen on both sides at once
	go func() { io.Copy(far, there); far.Close() }()
	go func() { io.Copy(there, far); there.Close() }()
	s.conns = append(s.conns, here, there, near, far)
	s.accept <- near
	return here, nil
}

func (s *server) config() remote.Config {
	return remote.Config{
		Server: initiator.Config{Dial: s.dial, SubsystemNQN: subsystem, HostNQN: board, HostID: [16]byte{1},
			Secret: &s.secret, Opposite: &s.proof},
		Namespace: 7, BlockSize: blockSize, Blocks: blocks,
	}
}

func open(t *testing.T, c remote.Config) *remote.Volume {
	t.Helper()
	v, err := remote.Open(c)
	must(t, err)
	t.Cleanup(func() { v.Close() })
	return v
}

func pattern(n byte) []byte { return bytes.Repeat([]byte{n}, 4*blockSize) }

// TestProbe: the namespace's size is told, and a wrong one is refused when it is used.
func TestProbe(t *testing.T) {
	s := newServer(t)
	size, n, err := remote.Probe(t.Context(), s.config().Server, 7)
	if err != nil || size != blockSize || n != blocks {
		t.Fatalf("%d blocks of %d bytes, %v", n, size, err)
	}
	if _, _, err := remote.Probe(t.Context(), s.config().Server, 8); err == nil {
		t.Error("a namespace that is not there")
	}
	for what, change := range map[string]func(*remote.Config){
		"blocks":     func(c *remote.Config) { c.Blocks-- },
		"block size": func(c *remote.Config) { c.BlockSize, c.Blocks = 4096, blocks/8 },
	} {
		c := s.config()
		change(&c)
		told := make(chan error, 8)
		c.Notify = func(err error) { told <- err }
		v := open(t, c)
		if err := <-told; !errors.Is(err, remote.ErrShape) {
			t.Errorf("another %s: %v", what, err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		if err := v.ReadAt(ctx, 0, make([]byte, c.BlockSize)); !errors.Is(err, volume.ErrUnavailable) {
			t.Errorf("another %s: read: %v", what, err)
		}
		cancel()
	}
}

// TestRestart: a server that restarts is a pause, and nothing that was acknowledged is
// lost, though its cache is.
func TestRestart(t *testing.T) {
	s := newServer(t)
	c := s.config()
	told := make(chan error, 64)
	c.Notify = func(err error) { told <- err }
	v := open(t, c)
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	for n := byte(1); n <= 4; n++ {
		must(t, v.WriteAt(ctx, uint64(n)*4, pattern(n)))
		if n == 2 {
			must(t, v.Zero(ctx, 8, 2))
		}
		s.off()
		done := make(chan error)
		go func() { done <- v.WriteAt(ctx, 100, pattern(n)) }()
		select {
		case err := <-done:
			t.Fatalf("a write while the server is off: %v", err)
		case <-time.After(100 * time.Millisecond):
		}
		s.on()
		must(t, <-done)
	}
	s.off()
	s.on()
	for n := byte(1); n <= 4; n++ {
		got, want := make([]byte, 4*blockSize), pattern(n)
		if n == 2 {
			clear(want[:2*blockSize])
		}
		must(t, v.ReadAt(ctx, uint64(n)*4, got))
		if !bytes.Equal(got, want) {
			t.Errorf("write %d was acknowledged, and is lost", n)
		}
	}
	must(t, v.Flush(ctx))
	must(t, v.Deallocate(ctx, 0, blocks))
	if err := v.ReadAt(ctx, blocks, make([]byte, blockSize)); !errors.Is(err, volume.ErrRange) {
		t.Errorf("behind the end: %v", err)
	}
	if len(told) < 8 {
		t.Errorf("told %d times that associations came and went", len(told))
	}
}

// TestGone: a server that stays away is ErrUnavailable, in the caller's time, and a volume
// that is closed lets its callers go.
func TestGone(t *testing.T) {
	s := newServer(t)
	s.off()
	v := open(t, s.config())
	ctx, cancel := context.WithTimeout(t.Context(), 600*time.Millisecond)
	defer cancel()
	if err := v.WriteAt(ctx, 0, pattern(1)); !errors.Is(err, volume.ErrUnavailable) {
		t.Errorf("write: %v", err)
	}
	done := make(chan error)
	go func() { done <- v.Flush(context.Background()) }()
	time.Sleep(50 * time.Millisecond)
	v.Close()
	if err := <-done; !errors.Is(err, volume.ErrClosed) {
		t.Errorf("flush: %v", err)
	}
	if err := v.ReadAt(t.Context(), 0, make([]byte, blockSize)); !errors.Is(err, volume.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refused == 0 || s.refused > 6 {
		t.Errorf("dialled %d times in less than a second", s.refused)
	}
}

// TestMisconfigured: what cannot be a volume is none.
func TestMisconfigured(t *testing.T) {
	s := newServer(t)
	for what, change := range map[string]func(*remote.Config){
		"no blocks":     func(c *remote.Config) { c.Blocks = 0 },
		"block size":    func(c *remote.Config) { c.BlockSize = 1024 },
		"no namespace":  func(c *remote.Config) { c.Namespace = 0 },
		"no connection": func(c *remote.Config) { c.Server.Dial = nil },
	} {
		c := s.config()
		change(&c)
		if v, err := remote.Open(c); err == nil {
			v.Close()
			t.Errorf("%s: opened", what)
		}
	}
}

// TestPatience: calls wait for a server as long as it may need for a restart, and after
// that for nothing, until it is back.
func TestPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		v := open(t, s.config())
		must(t, v.WriteAt(t.Context(), 0, pattern(1)))
		s.off()
		for _, want := range []time.Duration{remote.Patience, 0, 0} {
			start := time.Now()
			err := v.WriteAt(t.Context(), 0, pattern(2))
			if took := time.Since(start); !errors.Is(err, volume.ErrUnavailable) || took > want || took < want-time.Second {
				t.Errorf("after %v: %v; want %v", took, err, want)
			}
		}
		s.on()
		time.Sleep(10 * time.Second)
		must(t, v.WriteAt(t.Context(), 0, pattern(3)))
		v.Close()
		s.off()
	})
}
