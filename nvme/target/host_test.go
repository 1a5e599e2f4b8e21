package target_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"nitro/nvme/dhchap"
	"nitro/nvme/initiator"
	"nitro/nvme/target"
	"nitro/nvme/volume"
	"nitro/nvme/wire"
)

// TestMasking: a host sees its own namespaces, and can do nothing with others.
func TestMasking(t *testing.T) {
	r := newRig(t, target.Config{})
	r.attach(bob, 2, ramVolume(t, 512, 8192))
	if err := r.volumes[bob].WriteAt(t.Context(), 0, pattern(4096, 66)); err != nil {
		t.Fatal(err)
	}
	a, b := r.connect(r.config(alice)), r.connect(r.config(bob))
	for c, want := range map[*initiator.Controller][]uint32{a: {1}, b: {1, 2}} {
		if got, err := c.Namespaces(t.Context()); err != nil || !slices.Equal(got, want) {
			t.Errorf("namespaces %v, %v, want %v", got, err, want)
		}
	}
	got := make([]byte, 4096)
	if err := r.namespace(a, 1).ReadAt(t.Context(), 0, got); err != nil || bytes.Equal(got, pattern(4096, 66)) {
		t.Errorf("alice reads what is bob's: %v", err)
	}
	for _, id := range []uint32{0, 2, 65, 0xfffffffe, 0xffffffff} {
		for name, cmd := range map[string]wire.Command{
			"read": {Opcode: wire.IORead, NSID: id}, "write": {Opcode: wire.IOWrite, NSID: id},
			"zero": {Opcode: wire.IOWriteZeroes, NSID: id}, "flush": {Opcode: wire.IOFlush, NSID: id},
		} {
			var in, out []byte
			switch name {
			case "read":
				in = make([]byte, 512)
			case "write":
				out = make([]byte, 512)
			}
			if name == "flush" && id == 0xffffffff {
				continue // means all
			}
			_, err := a.IO(t.Context(), &cmd, out, in)
			wantStatus(t, fmt.Sprintf("%s of namespace %d", name, id), err, wire.InvalidNamespace)
		}
		for _, cns := range []uint32{wire.CNSDescriptors, wire.CNSIndependentNamespace, wire.CNSCommandSetNamespace} {
			_, err := a.Admin(t.Context(), &wire.Command{Opcode: wire.AdminIdentify, NSID: id, CDW10: cns}, nil, make([]byte, 4096))
			wantStatus(t, fmt.Sprintf("identify %d of namespace %d", cns, id), err, wire.InvalidNamespace)
		}
	}
	if _, err := a.Namespace(t.Context(), 2); err == nil {
		t.Error("alice opens bob's namespace")
	}
}

// TestDiscovery reads the log, as a host that is known.
func TestDiscovery(t *testing.T) {
	r := newRig(t, target.Config{})
	cfg := r.config(alice)
	cfg.SubsystemNQN, cfg.Secret, cfg.Opposite = wire.DiscoveryNQN, nil, nil
	told := make(chan uint32, 4)
	cfg.Notify = func(result uint32) { told <- result }
	c := r.connect(cfg)
	entries, err := c.Discover(t.Context())
	if err != nil || len(entries) != 1 {
		t.Fatalf("%+v, %v", entries, err)
	}
	want := wire.Entry{Family: wire.FamilyIPv4, Subtype: wire.SubtypeNVM, PortID: 1, CNTLID: wire.DynamicController, AdminSize: 32,
		Service: "4420", Address: "192.0.2.1", SubsystemNQN: subsystem}
	if entries[0] != want {
		t.Errorf("%+v, want %+v", entries[0], want)
	}
	r.Advertise(netip.MustParseAddrPort("[2001:db8::1]:4420"))
	if got := <-told; got != wire.EventDiscovery {
		t.Errorf("event %#x", got)
	}
	entries, err = c.Discover(t.Context())
	if err != nil || entries[0].Address != "2001:db8::1" || entries[0].Family != wire.FamilyIPv6 {
		t.Errorf("%+v, %v", entries, err)
	}
	for _, cmd := range []wire.Command{
		{Opcode: wire.AdminIdentify, CDW10: wire.CNSActiveNamespaces}, {Opcode: wire.AdminIdentify, NSID: 1},
		{Opcode: wire.AdminGetLogPage, CDW10: wire.LogSMART | 1023<<16}, {Opcode: wire.AdminFormatNVM, NSID: 1}, {Opcode: wire.AdminSanitize, CDW10: 4},
	} {
		in := make([]byte, 4096)
		if cmd.Opcode >= wire.AdminFormatNVM {
			in = nil
		}
		if _, err := c.Admin(t.Context(), &cmd, nil, in); err == nil {
			t.Errorf("a discovery controller does %+v", cmd)
		}
	}
}

// TestEvents: a connected host learns of namespaces that come and go.
func TestEvents(t *testing.T) {
	r := newRig(t, target.Config{})
	told := make(chan uint32, 4)
	cfg := r.config(alice)
	cfg.Notify = func(result uint32) { told <- result }
	c := r.connect(cfg)
	changed := func(want ...uint32) {
		t.Helper()
		if got := <-told; got != wire.EventNamespaces {
			t.Errorf("event %#x", got)
		}
		got, err := c.ChangedNamespaces(t.Context())
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("changed %v, %v, want %v", got, err, want)
		}
	}
	r.attach(alice, 3, ramVolume(t, 512, 4096))
	changed(3)
	n := r.namespace(c, 3)
	if err := n.WriteAt(t.Context(), 0, make([]byte, 512)); err != nil {
		t.Error(err)
	}
	// What happens before the host has read the log page makes no second event, and is in
	// the page.
	if err := r.Detach(t.Context(), alice, 3); err != nil {
		t.Fatal(err)
	}
	<-told
	r.attach(alice, 5, ramVolume(t, 512, 4096))
	r.attach(alice, 4, ramVolume(t, 512, 4096))
	r.attach(bob, 6, ramVolume(t, 512, 4096))
	got, err := c.ChangedNamespaces(t.Context())
	if err != nil || !slices.Equal(got, []uint32{3, 4, 5}) {
		t.Errorf("changed %v, %v", got, err)
	}
	wantStatus(t, "a write after the detachment", n.WriteAt(t.Context(), 0, make([]byte, 512)), wire.InvalidNamespace)
	if err := r.Detach(t.Context(), alice, 5); err != nil {
		t.Fatal(err)
	}
	changed(5)
	select {
	case result := <-told:
		t.Errorf("one event too many: %#x", result)
	case <-time.After(50 * time.Millisecond):
	}
}

// slow is a volume whose reads wait.
type slow struct {
	*volume.RAM
	began, release chan struct{}
}

func newSlow(t *testing.T) *slow {
	return &slow{ramVolume(t, 512, 65536), make(chan struct{}, 64), make(chan struct{})}
}

func (s *slow) ReadAt(ctx context.Context, lba uint64, p []byte) error {
	s.began <- struct{}{}
	select {
	case <-s.release:
		return s.RAM.ReadAt(ctx, lba, p)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// TestDetachWaits: a volume is not given back while it is read; who cannot wait is told.
func TestDetachWaits(t *testing.T) {
	r := newRig(t, target.Config{})
	s := newSlow(t)
	r.attach(alice, 2, s)
	n := r.namespace(r.connect(r.config(alice)), 2)
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := n.ReadAt(t.Context(), 0, make([]byte, 512)); err != nil {
			t.Errorf("a read that a detachment met: %v", err)
		}
	})
	<-s.began
	detached := make(chan error, 1)
	go func() { detached <- r.Detach(context.Background(), alice, 2) }()
	select {
	case err := <-detached:
		t.Fatalf("detached under a read: %v", err)
	case <-time.After(30 * time.Millisecond):
	}
	close(s.release)
	if err := <-detached; err != nil {
		t.Error(err)
	}
	wg.Wait()

	stuck := newSlow(t)
	r.attach(alice, 3, stuck)
	n = r.namespace(r.connect(r.config(alice)), 3)
	wg.Go(func() {
		wantStatus(t, "a read that was given up", n.ReadAt(context.Background(), 0, make([]byte, 512)), wire.InternalError)
	})
	<-stuck.began
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	if err := r.Detach(ctx, alice, 3); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("detach: %v", err)
	}
	wg.Wait()
	for name, err := range map[string]error{"unknown host": r.Detach(ctx, alice+"x", 1), "unknown namespace": r.Detach(ctx, alice, 9)} {
		if !errors.Is(err, target.ErrHost) && !errors.Is(err, target.ErrNamespace) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestLanes: with several lanes, a volume that makes one wait holds nobody else up.
func TestLanes(t *testing.T) {
	r := newRig(t, target.Config{Lanes: 2})
	s := newSlow(t)
	r.attach(alice, 2, s)
	c := r.connect(r.config(alice))
	slow, quick := r.namespace(c, 2), r.namespace(c, 1)
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := slow.ReadAt(t.Context(), 0, make([]byte, 512)); err != nil {
			t.Error(err)
		}
	})
	<-s.began
	for range 20 {
		if err := quick.WriteAt(t.Context(), 0, make([]byte, 4096)); err != nil {
			t.Error(err)
		}
	}
	close(s.release)
	wg.Wait()
}

// TestHostGoes: a host that gets new secrets, or is removed, loses its connections.
func TestHostGoes(t *testing.T) {
	r := newRig(t, target.Config{})
	c := r.connect(r.config(alice))
	n := r.namespace(c, 1)
	other := r.namespace(r.connect(r.config(bob)), 1)
	r.secrets[alice] = [2]*dhchap.Secret{secret(t), secret(t)}
	if err := r.AddHost(alice, r.secrets[alice][0], r.secrets[alice][1]); err != nil {
		t.Fatal(err)
	}
	<-c.Gone()
	if err := n.ReadAt(t.Context(), 0, make([]byte, 512)); !errors.Is(err, volume.ErrUnavailable) {
		t.Errorf("read: %v", err)
	}
	c = r.connect(r.config(alice))
	r.namespace(c, 1)
	if err := r.RemoveHost(t.Context(), alice); err != nil {
		t.Fatal(err)
	}
	<-c.Gone()
	_, err := initiator.Connect(t.Context(), r.config(alice))
	wantStatus(t, "connect", err, wire.ConnectHost)
	if err := r.RemoveHost(t.Context(), alice); !errors.Is(err, target.ErrHost) {
		t.Error(err)
	}
	if err := other.ReadAt(t.Context(), 0, make([]byte, 4096)); err != nil {
		t.Errorf("bob: %v", err)
	}
}
