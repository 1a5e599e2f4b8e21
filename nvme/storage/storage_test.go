package storage_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"nitro/nvme/key"
	"nitro/nvme/storage"
	"nitro/nvme/volume"
)

// plain is what nobody but the host may read: two blocks.
var plain = bytes.Repeat([]byte("what nobody shall read "), 400)[:8192]

// TestAttach is the whole way of a volume, of both kinds: created, attached, used by the
// host, detached, attached again, erased, deleted.
func TestAttach(t *testing.T) {
	for _, kind := range []storage.Kind{storage.Pool, storage.RAM} {
		t.Run(string(kind), func(t *testing.T) {
			x := newBoard(t).start()
			ctx := t.Context()
			v := x.volume(1, kind, 64)
			if err := x.BeginCycle(7, false); err != nil {
				t.Fatal(err)
			}
			x.attach(v, nil)
			if s := x.state(v); !s.Attached || s.Namespace != 1 || s.Left <= 0 || s.Left > time.Minute || s.Standing {
				t.Errorf("attached: %+v", s)
			}
			host := x.connect()
			x.sees(host, 1)
			n, err := host.Namespace(ctx, 1)
			if err != nil {
				t.Fatal(err)
			}
			if n.BlockSize() != 4096 || n.Blocks() != 64 {
				t.Errorf("%d blocks of %d", n.Blocks(), n.BlockSize())
			}
			got := make([]byte, len(plain))
			if err := n.WriteAt(ctx, 3, plain); err != nil {
				t.Fatal(err)
			}
			if err := n.ReadAt(ctx, 3, got); err != nil || !bytes.Equal(got, plain) {
				t.Fatalf("read: %v, right %v", err, bytes.Equal(got, plain))
			}
			for _, w := range x.card.Writes() {
				if bytes.Contains(w.Data, []byte("nobody")) {
					t.Fatal("plaintext on the card")
				}
			}
			if err := x.Delete(ctx, v); !errors.Is(err, storage.ErrInUse) {
				t.Errorf("deleting what is attached: %v", err)
			}
			if err := x.Detach(ctx, v); err != nil || !x.empty() {
				t.Fatalf("detach: %v; no key in memory %v", err, x.empty())
			}
			x.sees(host)
			if err := n.ReadAt(ctx, 3, got); err == nil {
				t.Error("the host reads what is detached")
			}
			x.attach(v, nil)
			x.sees(host, 1)
			if err := n.ReadAt(ctx, 3, got); err != nil || !bytes.Equal(got, plain) {
				t.Errorf("after a detach: %v, right %v", err, bytes.Equal(got, plain))
			}
			if x.attach(v, nil); x.happened(storage.EventRenewed) != 1 {
				t.Error("a second grant renews no lease")
			}
			done, err := x.Erase(ctx, v)
			if err != nil || !x.empty() || done.ID != v || done.Technique != map[storage.Kind]string{storage.Pool: "Purge", storage.RAM: "Clear"}[kind] {
				t.Fatalf("erase: %+v, %v", done, err)
			}
			x.sees(host)
			x.attach(v, nil)
			if err := n.ReadAt(ctx, 3, got); err != nil || bytes.Contains(got, []byte("nobody")) {
				t.Errorf("after an erase: %v", err)
			}
			if err := errors.Join(x.Detach(ctx, v), x.Delete(ctx, v)); err != nil || len(x.Volumes()) != 0 || x.settled != 3 {
				t.Errorf("in the end: %v, %v; settled %d times", err, x.Volumes(), x.settled)
			}
		})
	}
}

// TestRefusals: each thing that cannot be done says which it is.
func TestRefusals(t *testing.T) {
	x := newBoard(t).start()
	ctx := t.Context()
	v, other := x.volume(1, storage.Pool, 64), x.volume(2, storage.RAM, 64)
	if err := x.try(v, nil); !errors.Is(err, storage.ErrNoHost) {
		t.Errorf("a key without a host: %v", err)
	}
	if err := x.BeginCycle(7, false); err != nil {
		t.Fatal(err)
	}
	spec := func(change func(*storage.Spec)) error {
		s := storage.Spec{ID: [16]byte{9}, Name: "new", Kind: storage.Pool, BlockSize: 512, Blocks: 8, Commitment: [32]byte{1}}
		change(&s)
		_, err := x.Create(ctx, s)
		return err
	}
	_, unknown := x.Volume([16]byte{77})
	_, unknownRequest := x.Request(ctx, [16]byte{77})
	_, unknownErase := x.Erase(ctx, [16]byte{77})
	request, err := x.Request(ctx, v)
	if err != nil {
		t.Fatal(err)
	}
	grant, wrapped := x.grant(request, nil)
	wrongVolume := func() error { _, err := x.Attach(ctx, other, grant, wrapped); return err }()
	again := func() error { _, err := x.Attach(ctx, v, grant, wrapped); return err }()
	for _, c := range []struct {
		name string
		err  error
		want []error
	}{
		{"unknown volume", unknown, []error{storage.ErrNotFound}},
		{"request for it", unknownRequest, []error{storage.ErrNotFound}},
		{"its erasure", unknownErase, []error{storage.ErrNotFound}},
		{"its deletion", x.Delete(ctx, [16]byte{77}), []error{storage.ErrNotFound}},
		{"its detachment", x.Detach(ctx, [16]byte{77}), []error{storage.ErrNotFound}},
		{"detached already", x.Detach(ctx, v), []error{storage.ErrDetached}},
		{"same identity", spec(func(s *storage.Spec) { s.ID = v }), []error{storage.ErrExists}},
		{"same name, of another kind", spec(func(s *storage.Spec) { s.Name, s.Kind = x.state(v).Name, storage.RAM }), []error{storage.ErrExists}},
		{"no identity", spec(func(s *storage.Spec) { s.ID = [16]byte{} }), []error{storage.ErrSpec}},
		{"no commitment", spec(func(s *storage.Spec) { s.Commitment = [32]byte{} }), []error{storage.ErrSpec}},
		{"unknown kind", spec(func(s *storage.Spec) { s.Kind = "Tape" }), []error{storage.ErrSpec}},
		{"a name with a space", spec(func(s *storage.Spec) { s.Name = "a b" }), []error{storage.ErrSpec}},
		{"no blocks", spec(func(s *storage.Spec) { s.Blocks, s.Kind = 0, storage.RAM }), []error{storage.ErrSpec}},
		{"blocks of 1024", spec(func(s *storage.Spec) { s.BlockSize = 1024 }), []error{storage.ErrSpec}},
		{"more than the memory", spec(func(s *storage.Spec) { s.Kind, s.Blocks = storage.RAM, 1<<11 }), []error{storage.ErrFull}},
		{"grant for another volume", wrongVolume, []error{storage.ErrRefused, key.ErrVolume}},
		{"its nonce again", again, []error{storage.ErrRefused, key.ErrNonce}},
		{"another board's", x.try(v, func(g *key.Grant) { g.AK[0]++ }), []error{storage.ErrRefused, key.ErrBoard}},
		{"another cycle's", x.try(v, func(g *key.Grant) { g.Cycle++ }), []error{storage.ErrRefused, key.ErrCycle}},
		{"expired", x.try(v, func(g *key.Grant) { g.Expires = x.clock }), []error{storage.ErrRefused, key.ErrExpired}},
		{"too long", x.try(v, func(g *key.Grant) { g.Expires = x.clock + 3_600_001 }), []error{storage.ErrRefused, key.ErrExpired}},
		{"another key's commitment", x.try(v, func(g *key.Grant) { g.Commitment[0]++ }), []error{storage.ErrRefused, key.ErrCommitment}},
	} {
		for _, want := range c.want {
			if !errors.Is(c.err, want) {
				t.Errorf("%s: %v; want %v", c.name, c.err, want)
			}
		}
	}
	if !x.empty() || x.state(v).Attached || x.happened(storage.EventRefused) != 7 {
		t.Errorf("a refused key is kept, or %d refusals were told", x.happened(storage.EventRefused))
	}
}

// TestMissingParts: a board without a pool has volumes in RAM, one without a key service
// attaches none, and a service that rests on nothing is refused.
func TestMissingParts(t *testing.T) {
	b := newBoard(t)
	c := b.config(aligned(key.ArenaSize(1)))
	fault := errors.New("no place")
	c.Pool, c.PoolFault, c.Keys = nil, fault, nil
	s, err := storage.New(c)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	spec := storage.Spec{ID: [16]byte{1}, Name: "a", Kind: storage.Pool, BlockSize: 512, Blocks: 8, Commitment: [32]byte{1}}
	if _, err := s.Create(t.Context(), spec); !errors.Is(err, storage.ErrNoPool) || !errors.Is(err, fault) {
		t.Errorf("without a pool: %v", err)
	}
	spec.Kind = storage.RAM
	if _, err := s.Create(t.Context(), spec); err != nil {
		t.Error(err)
	}
	if err := s.BeginCycle(1, true); err != nil {
		t.Error(err)
	}
	if _, err := s.Request(t.Context(), spec.ID); !errors.Is(err, storage.ErrNoService) {
		t.Errorf("without a key service: %v", err)
	}
	if sp := s.Spaces(); len(sp) != 1 || sp[storage.RAM] != (storage.Space{Total: 1 << 20, Free: 1<<20 - 4096}) {
		t.Errorf("%v", sp)
	}
	c.PoolFault = nil
	if _, err := storage.New(c); err == nil {
		t.Error("neither pool nor reason")
	}
	c = b.config(aligned(key.ArenaSize(1)))
	c.Secrets = [32]byte{}
	if _, err := storage.New(c); err == nil {
		t.Error("no secret")
	}
	if _, err := storage.SecretsKey(make([]byte, 31)); err == nil {
		t.Error("a short store key")
	}
}

// TestCycles: each host cycle has secrets of its own, which are the same after a restart;
// an ended cycle's keys and connections are gone, and its secrets are worth nothing.
func TestCycles(t *testing.T) {
	x := newBoard(t).start()
	v := x.volume(1, storage.Pool, 64)
	if _, there := x.Host(); there {
		t.Error("a host before the first cycle")
	}
	if err := x.BeginCycle(7, false); err != nil {
		t.Fatal(err)
	}
	first, _ := x.Host()
	if first.Cycle != 7 || first.Secret == first.ControllerSecret || !strings.HasPrefix(first.Secret, "DHHC-1:01:") || first.Address.Port() != storage.PortIO {
		t.Errorf("access of the first cycle: %d, %v", first.Cycle, first.Address)
	}
	x.attach(v, standing)
	host := x.connect()
	x.sees(host, 1)
	if err := x.BeginCycle(7, false); err != nil || !x.state(v).Attached {
		t.Errorf("the same cycle again: %v", err)
	}
	x.EndCycle()
	if _, there := x.Host(); there || !x.empty() || x.state(v).Attached || len(x.standing) != 0 {
		t.Error("something of the host is left")
	}
	select {
	case <-host.Gone():
	case <-time.After(patience):
		t.Fatal("the old host is still connected")
	}
	if _, err := x.dial(first); err == nil {
		t.Error("a host connects between cycles")
	}
	if err := x.BeginCycle(8, false); err != nil {
		t.Fatal(err)
	}
	second, _ := x.Host()
	if second.Secret == first.Secret || second.ControllerSecret == first.ControllerSecret || second.Secret == first.ControllerSecret {
		t.Error("a secret serves twice")
	}
	if _, err := x.dial(first); err == nil {
		t.Error("the old secrets let a host in")
	}
	x.sees(x.connect())
	x.Close()
	y := x.board.start()
	if err := y.BeginCycle(8, true); err != nil {
		t.Fatal(err)
	}
	if after, _ := y.Host(); after != second {
		t.Error("after a restart the cycle has other secrets")
	}
}

// source is the key service, as the board asks it.
type source struct {
	*board
	fail      int // calls that fail first
	confirmed int
}

func (s *source) Key(_ context.Context, id [16]byte, request []byte) (grant, wrapped []byte, err error) {
	if s.fail--; s.fail >= 0 {
		return nil, nil, errors.New("it does not answer")
	}
	grant, wrapped = s.grant(request, standing)
	return grant, wrapped, nil
}

func (s *source) Confirm(context.Context, []byte, []byte) error { s.confirmed++; return nil }

// TestRestart: the host that runs on gets its volumes of standing leases back, under the
// same identifiers, before it is let in. What did not stand, or is of another cycle, is
// not asked for.
func TestRestart(t *testing.T) {
	x := newBoard(t).start()
	ctx := t.Context()
	a, b, c, r := x.volume(1, storage.Pool, 64), x.volume(2, storage.Pool, 64), x.volume(3, storage.Pool, 64), x.volume(4, storage.RAM, 64)
	if err := x.BeginCycle(7, false); err != nil {
		t.Fatal(err)
	}
	x.attach(a, nil)
	x.attach(b, standing)
	x.attach(c, standing)
	x.attach(r, standing)
	if len(x.standing) != 3*52 {
		t.Errorf("%d bytes of standing leases", len(x.standing))
	}
	n, err := x.connect().Namespace(ctx, 3)
	if err == nil {
		err = n.WriteAt(ctx, 0, plain)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := x.Detach(ctx, b); err != nil {
		t.Fatal(err)
	}
	x.attach(b, standing)
	if s := x.state(b); s.Namespace != 2 {
		t.Errorf("namespace %d", s.Namespace)
	}
	x.Close()

	w := x.board.start() // a host cycle that this board has not seen
	kept := bytes.Clone(x.standing)
	if err := w.BeginCycle(9, true); err != nil {
		t.Fatal(err)
	}
	if len(w.Standing()) != 0 {
		t.Errorf("leases of another cycle stand: %x", w.Standing())
	}
	w.Close()
	x.standing = kept

	y := x.board.start()
	if err := y.Delete(ctx, y.volume(5, storage.RAM, 1)); err != nil || !bytes.Equal(x.standing, kept) {
		t.Errorf("before the host is known the leases are forgotten: %v", err)
	}
	if err := y.BeginCycle(7, true); err != nil {
		t.Fatal(err)
	}
	waiting := y.Standing()
	slices.SortFunc(waiting, func(a, b [16]byte) int { return bytes.Compare(a[:], b[:]) })
	if !slices.Equal(waiting, [][16]byte{b, c}) {
		t.Errorf("standing: %x", waiting)
	}
	early, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	if _, err := y.wires.Dial(early); err == nil {
		t.Error("the host is let in without its volumes")
	}
	cancel()
	y.attach(a, nil)
	d := y.volume(6, storage.RAM, 1)
	if y.attach(d, nil); y.state(d).Namespace != 4 {
		t.Errorf("namespace %d waits for another volume", y.state(d).Namespace)
	}
	s := &source{board: x.board, fail: 1}
	y.Reattach(ctx, s)
	if s.confirmed != 2 || y.happened(storage.EventReattach) != 1 || y.state(a).Namespace != 1 || y.state(b).Namespace != 2 || y.state(c).Namespace != 3 {
		t.Errorf("%d confirmed; %+v", s.confirmed, y.Volumes())
	}
	host := y.connect()
	y.sees(host, 1, 2, 3, 4)
	got := make([]byte, len(plain))
	if n, err = host.Namespace(ctx, 3); err == nil {
		err = n.ReadAt(ctx, 0, got)
	}
	if err != nil || !bytes.Equal(got, plain) {
		t.Errorf("after the restart: %v, right %v", err, bytes.Equal(got, plain))
	}
	y.Close()

	z := x.board.start() // and now the host is another one
	if err := z.BeginCycle(8, false); err != nil {
		t.Fatal(err)
	}
	if len(z.Standing()) != 0 || len(x.standing) != 0 {
		t.Errorf("leases of an old cycle stand: %x", z.Standing())
	}
	z.sees(z.connect())
}

// TestGivenUp: what cannot be had again keeps the host waiting no longer than the limit,
// or until somebody detaches it, or its lease is over.
func TestGivenUp(t *testing.T) {
	for name, end := range map[string]func(y *boot, v [16]byte){
		"limit": func(y *boot, _ [16]byte) { time.Sleep(storage.ReattachLimit + time.Second) },
		"context": func(y *boot, _ [16]byte) {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			y.Reattach(ctx, &source{board: y.board, fail: 1e6})
		},
		"detached": func(y *boot, v [16]byte) {
			if err := y.Detach(context.Background(), v); err != nil {
				y.t.Error(err)
			}
		},
		"expired": func(y *boot, _ [16]byte) {
			y.setTPM(5_000_000, nil)
			y.Reattach(context.Background(), &source{board: y.board, fail: 1e6})
		},
		"attached": func(y *boot, v [16]byte) { y.attach(v, standing) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				x := newBoard(t).start()
				v := x.volume(1, storage.Pool, 64)
				if err := x.BeginCycle(7, false); err != nil {
					t.Fatal(err)
				}
				x.attach(v, standing)
				x.Close()
				y := x.board.start()
				if err := y.BeginCycle(7, true); err != nil {
					t.Fatal(err)
				}
				early, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				if _, err := y.wires.Dial(early); err == nil {
					t.Error("the host is let in without its volumes")
				}
				end(y, v)
				synctest.Wait()
				late, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				c, err := y.wires.Dial(late)
				if err != nil {
					t.Fatal("the host is not let in")
				}
				c.Close()
			})
		})
	}
}

// TestExpiry: a lease ends on the TPM's clock; if that fails, on the processor's, and no
// key is taken meanwhile.
func TestExpiry(t *testing.T) {
	for _, works := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			x := newBoard(t).start()
			v, other := x.volume(1, storage.Pool, 64), x.volume(2, storage.RAM, 64)
			if err := x.BeginCycle(7, false); err != nil {
				t.Fatal(err)
			}
			x.attach(v, standing)
			if works {
				x.setTPM(1_059_999, nil)
			} else {
				x.setTPM(0, errors.New("it does not answer"))
			}
			time.Sleep(3 * storage.ExpireEvery)
			synctest.Wait()
			if !x.state(v).Attached {
				t.Error("ended too early")
			}
			if works {
				x.setTPM(1_060_000, nil)
			} else if err := x.try(other, nil); !errors.Is(err, storage.ErrClock) || x.happened(storage.EventClock) != 1 {
				t.Errorf("without the TPM's clock: %v, told %d times", err, x.happened(storage.EventClock))
			}
			time.Sleep(time.Minute)
			synctest.Wait()
			if x.state(v).Attached || !x.empty() || x.happened(storage.EventExpired) != 1 || len(x.standing) != 0 {
				t.Errorf("the lease goes on: %+v", x.state(v))
			}
		})
	}
}

// TestClose: quarantine leaves no key, no host and nothing to be done.
func TestClose(t *testing.T) {
	x := newBoard(t).start()
	ctx := t.Context()
	v := x.volume(1, storage.Pool, 64)
	if err := x.BeginCycle(7, false); err != nil {
		t.Fatal(err)
	}
	x.attach(v, standing)
	host := x.connect()
	x.Close()
	x.Close()
	if _, there := x.Host(); there || !x.empty() {
		t.Error("keys or secrets are left")
	}
	select {
	case <-host.Gone():
	case <-time.After(patience):
		t.Error("the host is still connected")
	}
	_, create := x.Create(ctx, storage.Spec{})
	_, request := x.Request(ctx, v)
	_, attach := x.Attach(ctx, v, nil, nil)
	_, erase := x.Erase(ctx, v)
	for name, err := range map[string]error{"create": create, "request": request, "attach": attach, "erase": erase,
		"detach": x.Detach(ctx, v), "delete": x.Delete(ctx, v), "begin": x.BeginCycle(9, false)} {
		if !errors.Is(err, storage.ErrClosed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	x.EndCycle()
	if len(x.Volumes()) != 0 {
		t.Error("volumes are listed")
	}
}

// TestSlowMedium: a write that is under way does not keep the key in memory, neither when
// the host's cycle ends nor in quarantine.
func TestSlowMedium(t *testing.T) {
	for name, end := range map[string]func(x *boot){
		"cycle":      func(x *boot) { x.EndCycle() },
		"quarantine": func(x *boot) { x.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			x := newBoard(t).start()
			v := x.volume(1, storage.Pool, 64)
			if err := x.BeginCycle(7, false); err != nil {
				t.Fatal(err)
			}
			x.attach(v, nil)
			n, err := x.connect().Namespace(t.Context(), 1)
			if err != nil {
				t.Fatal(err)
			}
			x.slow = make(chan struct{})
			go n.WriteAt(t.Context(), 3, plain)
			<-x.slow
			ended := make(chan struct{})
			go func() { end(x); close(ended) }()
			for begun := time.Now(); !x.empty(); time.Sleep(time.Millisecond) {
				if time.Since(begun) > storage.DetachLimit-time.Second {
					t.Error("the key stays while a write is under way")
					break
				}
			}
			close(x.slow)
			<-ended
		})
	}
}

// TestStoreFails: what is done is done, and told of.
func TestStoreFails(t *testing.T) {
	x := newBoard(t).start()
	v := x.volume(1, storage.Pool, 64)
	if err := x.BeginCycle(7, false); err != nil {
		t.Fatal(err)
	}
	x.mu.Lock()
	x.noStore = errors.New("worn")
	x.mu.Unlock()
	x.attach(v, standing)
	if x.happened(storage.EventStore) == 0 {
		t.Error("nobody was told that the lease does not stand")
	}
	if _, err := x.Erase(t.Context(), v); !errors.Is(err, storage.ErrStore) || !x.empty() {
		t.Errorf("erase: %v", err)
	}
	if err := x.Delete(t.Context(), v); !errors.Is(err, storage.ErrStore) || len(x.Volumes()) != 0 {
		t.Errorf("delete: %v", err)
	}
}

// TestFull: a pool without room is an error of the host's write alone, and one more volume
// than a host can see is not attached.
func TestFull(t *testing.T) {
	x := newBoard(t).start()
	ctx := t.Context()
	v := x.volume(1, storage.Pool, 1<<20)
	if err := x.BeginCycle(7, false); err != nil {
		t.Fatal(err)
	}
	x.attach(v, nil)
	n, err := x.connect().Namespace(ctx, 1)
	if err != nil {
		t.Fatal(err)
	}
	for i := uint64(0); err == nil && i < 1000; i++ {
		err = n.WriteAt(ctx, 32*i, plain)
	}
	if !errors.Is(err, volume.ErrFull) || x.Spaces()[storage.Pool].Free != 0 {
		t.Errorf("%v; %v", err, x.Spaces())
	}
	if err := n.WriteAt(ctx, 0, plain); err != nil {
		t.Errorf("what is mapped: %v", err)
	}
	for i := byte(2); err == nil || i < 12; i++ {
		if err = x.try(x.volume(i, storage.RAM, 1), nil); err != nil {
			break
		}
	}
	if !errors.Is(err, storage.ErrFull) || !errors.Is(err, key.ErrFull) {
		t.Errorf("one key too many: %v", err)
	}
}

// TestVoid: who takes a volume's key away is not overtaken by a grant that was under way.
func TestVoid(t *testing.T) {
	attached := func(x *boot) *boot { return x }
	pending := func(x *boot) *boot {
		x.Close()
		y := x.board.start()
		if err := y.BeginCycle(7, true); err != nil {
			x.t.Fatal(err)
		}
		return y
	}
	detach := func(y *boot, v [16]byte) error { return y.Detach(context.Background(), v) }
	erase := func(y *boot, v [16]byte) error { _, err := y.Erase(context.Background(), v); return err }
	for _, c := range []struct {
		name   string
		before func(*boot) *boot
		end    func(*boot, [16]byte) error
	}{
		{"detached", attached, detach},
		{"erased", attached, erase},
		{"not there again, detached", pending, detach},
		{"not there again, erased", pending, erase},
		{"detached before", func(x *boot) *boot {
			x.Detach(context.Background(), [16]byte{1, 15: 1})
			return x
		}, func(y *boot, v [16]byte) error {
			if err := detach(y, v); !errors.Is(err, storage.ErrDetached) {
				return fmt.Errorf("detached twice: %w", err)
			}
			return nil
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			x := newBoard(t).start()
			v := x.volume(1, storage.Pool, 64)
			if err := x.BeginCycle(7, false); err != nil {
				t.Fatal(err)
			}
			x.attach(v, standing)
			y := c.before(x)
			q, err := y.Request(t.Context(), v)
			if err != nil {
				t.Fatal(err)
			}
			grant, wrapped := y.grant(q, standing)
			if err := c.end(y, v); err != nil {
				t.Fatal(err)
			}
			_, err = y.Attach(t.Context(), v, grant, wrapped)
			if !errors.Is(err, key.ErrNonce) || y.state(v).Attached || !y.empty() || len(y.Standing()) != 0 {
				t.Errorf("attached again by a grant from before: %v, %+v, standing %x", err, y.state(v), y.Standing())
			}
		})
	}
}

// TestCycleEndsAtOnce: a cycle's end takes the host's keys while another operation is under
// way and does not come to its end.
func TestCycleEndsAtOnce(t *testing.T) {
	for name, end := range map[string]func(*boot){
		"end":      (*boot).EndCycle,
		"next one": func(x *boot) { x.BeginCycle(8, false) },
	} {
		t.Run(name, func(t *testing.T) {
			x := newBoard(t).start()
			v, other := x.volume(1, storage.RAM, 64), x.volume(2, storage.RAM, 64)
			if err := x.BeginCycle(7, false); err != nil {
				t.Fatal(err)
			}
			x.attach(v, nil)
			n, err := x.connect().Namespace(t.Context(), 1)
			if err != nil {
				t.Fatal(err)
			}
			if err := n.WriteAt(t.Context(), 0, plain); err != nil {
				t.Fatal(err)
			}
			x.settling = make(chan chan struct{})
			deleted, ended, going := make(chan error, 1), make(chan struct{}), make(chan struct{})
			go func() { deleted <- x.Delete(context.Background(), other) }()
			x.settling <- going
			go func() { defer close(ended); end(x) }()
			limit, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			for err = nil; err == nil && limit.Err() == nil; time.Sleep(time.Millisecond) {
				err = n.ReadAt(limit, 0, make([]byte, len(plain)))
			}
			if limit.Err() != nil {
				t.Error("the host reads on though its cycle has ended")
			}
			close(going)
			if err := <-deleted; err != nil {
				t.Error(err)
			}
			<-ended
			if !x.empty() {
				t.Error("a key is left")
			}
		})
	}
}
