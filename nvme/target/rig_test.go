package target_test

import (
	"bytes"
	"errors"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"nitro/internal/pipes"
	"nitro/nvme/dhchap"
	"nitro/nvme/initiator"
	"nitro/nvme/target"
	"nitro/nvme/volume"
	"nitro/nvme/wire"
)

// Names and limits of the tests. Nothing here needs a socket: connections are pipes.
const (
	subsystem = "nqn.2026-01.test:ctl"
	alice     = "nqn.2014-08.org.nvmexpress:uuid:alice"
	bob       = "nqn.2014-08.org.nvmexpress:uuid:bob"
	patience  = 2 * time.Minute // for what must happen at some time
)

// A rig is a target with two hosts, each of which has a namespace 1 in RAM.
type rig struct {
	*target.Target
	t       *testing.T
	pipes   *pipes.Listener
	secrets map[string][2]*dhchap.Secret
	volumes map[string]volume.Volume
	turns   atomic.Int64 // see promptConn

	mu     sync.Mutex
	events []target.Event
}

// second is how long a target's second lasts in tests of its patience.
const second = 20 * time.Millisecond

func newRig(t *testing.T, cfg target.Config) *rig { return newRigPaced(t, cfg, time.Second) }

func newRigPaced(t *testing.T, cfg target.Config, pace time.Duration) *rig {
	t.Helper()
	r := &rig{t: t, pipes: pipes.New(), secrets: map[string][2]*dhchap.Secret{}, volumes: map[string]volume.Volume{}}
	cfg.SubsystemNQN, cfg.Serial, cfg.Model, cfg.Firmware = subsystem, "0001", "Nitro", "1.0"
	cfg.Advertise = netip.MustParseAddrPort("192.0.2.1:4420")
	cfg.Notify = func(e target.Event) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.events = append(r.events, e)
	}
	var err error
	if r.Target, err = target.NewFast(cfg, pace); err != nil {
		t.Fatal(err)
	}
	for i, nqn := range []string{alice, bob} {
		r.secrets[nqn] = [2]*dhchap.Secret{secret(t), secret(t)}
		if err := r.AddHost(nqn, r.secrets[nqn][0], r.secrets[nqn][1]); err != nil {
			t.Fatal(err)
		}
		r.volumes[nqn] = ramVolume(t, []int{512, 4096}[i], 1<<20)
		r.attach(nqn, 1, r.volumes[nqn])
	}
	served := make(chan error, 1)
	go func() { served <- r.Serve(promptListener{r.pipes, &r.turns}) }()
	t.Cleanup(func() {
		r.Close()
		if err := <-served; err != target.ErrTargetClosed {
			t.Errorf("serve: %v", err)
		}
	})
	return r
}

func secret(t *testing.T) *dhchap.Secret {
	t.Helper()
	s := new(dhchap.Secret)
	if err := s.Generate(dhchap.SHA256); err != nil {
		t.Fatal(err)
	}
	return s
}

func ramVolume(t testing.TB, block, size int) *volume.RAM {
	t.Helper()
	v, err := volume.NewRAM(block, uint64(size/block))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func (r *rig) attach(nqn string, id uint32, v volume.Volume) {
	r.t.Helper()
	if err := r.Attach(nqn, target.Namespace{ID: id, Volume: v, UUID: [16]byte{byte(id), 1}}); err != nil {
		r.t.Fatal(err)
	}
}

// happened reports whether there was an event of a kind.
func (r *rig) happened(kind string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.events {
		if e.Kind == kind {
			return true
		}
	}
	return false
}

// eventually waits for something.
func (r *rig) eventually(what string, so func() bool) {
	r.t.Helper()
	for start := time.Now(); !so(); time.Sleep(time.Millisecond) {
		if time.Since(start) > patience {
			r.t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// config is a host's.
func (r *rig) config(nqn string) initiator.Config {
	s := r.secrets[nqn]
	return initiator.Config{Dial: r.pipes.Dial, SubsystemNQN: subsystem, HostNQN: nqn, HostID: [16]byte{1, byte(len(nqn))},
		Secret: s[0], Opposite: s[1], Limit: patience}
}

// connect connects a host.
func (r *rig) connect(cfg initiator.Config) *initiator.Controller {
	r.t.Helper()
	c, err := initiator.Connect(r.t.Context(), cfg)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { c.Close() })
	return c
}

func (r *rig) namespace(c *initiator.Controller, id uint32) *initiator.Namespace {
	r.t.Helper()
	n, err := c.Namespace(r.t.Context(), id)
	if err != nil {
		r.t.Fatal(err)
	}
	return n
}

// pattern is data that differs from block to block.
func pattern(n int, seed byte) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(i>>9)*37 ^ byte(i) ^ seed
	}
	return p
}

// wantStatus expects a command to fail with a status.
func wantStatus(t *testing.T, what string, err error, want wire.Status) {
	t.Helper()
	var got wire.Status
	if !errors.As(err, &got) || got.Code() != want {
		t.Errorf("%s: %v, want status %#x", what, err, uint16(want))
	}
}

// TestReadWrite moves data in all ways that the transport has.
func TestReadWrite(t *testing.T) {
	for _, c := range []struct {
		name   string
		target target.Config
		host   func(*initiator.Config)
	}{
		{"plain", target.Config{}, func(*initiator.Config) {}},
		{"digests", target.Config{}, func(c *initiator.Config) { c.HeaderDigest, c.DataDigest = true, true }},
		{"header digest", target.Config{}, func(c *initiator.Config) { c.HeaderDigest = true }},
		{"data digest", target.Config{}, func(c *initiator.Config) { c.DataDigest = true }},
		{"R2T", target.Config{InCapsule: 8192}, func(*initiator.Config) {}},
		{"R2T for all", target.Config{MaxTransfer: 16 << 10, Transfers: 1}, func(c *initiator.Config) { c.InCapsule = 1; c.DataDigest = true }},
		{"no flow control", target.Config{}, func(c *initiator.Config) { c.NoFlowControl = true; c.DataDigest = true }},
		{"lanes", target.Config{Lanes: 3, InCapsule: 8192}, func(c *initiator.Config) { c.Queues = 2 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, c.target)
			cfg := r.config(alice)
			c.host(&cfg)
			n := r.namespace(r.connect(cfg), 1)
			ctx := t.Context()
			var wg sync.WaitGroup
			for w := range 8 { // each has its own part of the volume
				wg.Go(func() {
					for i, size := range []int{512, 4096, 8192, 8704, 65536, 65536 + 512} {
						data, got := pattern(size, byte(w+i)), make([]byte, size)
						lba := uint64(w * 256)
						if err := n.WriteAt(ctx, lba, data); err != nil {
							t.Errorf("write of %d: %v", size, err)
							return
						}
						if err := n.ReadAt(ctx, lba, got); err != nil || !bytes.Equal(got, data) {
							t.Errorf("read of %d: %v, right %v", size, err, bytes.Equal(got, data))
							return
						}
					}
				})
			}
			wg.Wait()
			if err := n.Flush(ctx); err != nil {
				t.Error(err)
			}
			same, err := n.Compare(ctx, 0, pattern(65536+512, 5))
			if !same || err != nil {
				t.Errorf("compare: %v, %v", same, err)
			}
			other := pattern(65536+512, 5)
			other[65536]++
			if same, err := n.Compare(ctx, 0, other); same || err != nil {
				t.Errorf("compare of other data: %v, %v", same, err)
			}
			if err := n.Zero(ctx, 1, 2); err != nil {
				t.Error(err)
			}
			if err := n.Deallocate(ctx, 3, 2); err != nil {
				t.Error(err)
			}
			clear(other[512 : 5*512])
			other[65536]--
			got := make([]byte, len(other))
			if err := n.ReadAt(ctx, 0, got); err != nil || !bytes.Equal(got, other) {
				t.Errorf("after zero and deallocate: %v, right %v", err, bytes.Equal(got, other))
			}
		})
	}
}
