package storage_test

import (
	"bytes"
	"errors"
	"net"
	"testing"

	"nitro/internal/pipes"
	"nitro/nvme/dhchap"
	"nitro/nvme/key"
	"nitro/nvme/storage"
	"nitro/nvme/target"
	"nitro/nvme/volume"
)

const (
	boardNQN  = "nqn.2026-01.test:initiator"
	serverNQN = "nqn.2026-01.test:server"
)

// A storageServer is one that a board may use.
type storageServer struct {
	*volume.RAM      // namespace 5
	secret, opposite dhchap.Secret
}

func (b *board) storageServer(name string) *storageServer {
	b.t.Helper()
	ram, err := volume.NewRAM(4096, 64)
	s := &storageServer{RAM: ram}
	k, e := target.New(target.Config{SubsystemNQN: serverNQN})
	if err := errors.Join(err, e, s.secret.Generate(dhchap.SHA256), s.opposite.Generate(dhchap.SHA256), k.AddHost(boardNQN, &s.secret, &s.opposite),
		k.Attach(boardNQN, target.Namespace{ID: 5, Volume: ram, UUID: [16]byte{5}})); err != nil {
		b.t.Fatal(err)
	}
	wires := pipes.New()
	served := make(chan struct{})
	go func() { defer close(served); k.Serve(wires) }()
	b.t.Cleanup(func() { k.Close(); <-served })
	b.servers = map[string]storage.Server{name: {Dial: wires.Dial, SubsystemNQN: serverNQN}}
	return s
}

// remoteSpec is that of a volume on the server.
func (b *board) remoteSpec(s *storageServer) storage.Spec {
	id := [16]byte{7, 15: 1}
	b.keys[id] = bytes.Repeat([]byte("0123456789abcdefghijklmnopqrstuv"), 2)
	b.keys[id][0]++ // halves differ
	return storage.Spec{ID: id, Name: "far", Kind: storage.Remote, Commitment: key.Commitment(b.keys[id]),
		Place: storage.Place{Server: "west", Namespace: 5, Secret: s.secret.Reveal(), Opposite: s.opposite.Reveal()}}
}

// TestRemote: the host reads what it wrote, over a restart of the board too; the server
// has ciphertext; and a volume that was erased stays unreadable though the server keeps it.
func TestRemote(t *testing.T) {
	b := newBoard(t)
	server := b.storageServer("west")
	x := b.start()
	sp := b.remoteSpec(server)
	st, err := x.Create(t.Context(), sp)
	if err != nil {
		t.Fatal(err)
	}
	if st.Blocks != 64 || st.BlockSize != 4096 || st.Place != (storage.Place{Server: "west", Namespace: 5}) {
		t.Errorf("created: %+v", st)
	}
	plain := bytes.Repeat([]byte("plain text of the host's "), 4096)[:8192]
	round := func(x *boot, cycle uint64, write bool) []byte {
		t.Helper()
		if err := x.BeginCycle(cycle, false); err != nil {
			t.Fatal(err)
		}
		x.attach(sp.ID, nil)
		n, err := x.connect().Namespace(t.Context(), x.state(sp.ID).Namespace)
		if err == nil && write {
			err = n.WriteAt(t.Context(), 3, plain)
		}
		got := make([]byte, len(plain))
		if err == nil {
			err = n.ReadAt(t.Context(), 3, got)
		}
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	if got := round(x, 1, true); !bytes.Equal(got, plain) {
		t.Error("the host does not read what it wrote")
	}
	kept := make([]byte, len(plain))
	if err := server.ReadAt(t.Context(), 3, kept); err != nil || bytes.Contains(kept, plain[:16]) || bytes.Equal(kept, make([]byte, len(kept))) {
		t.Errorf("the server has plaintext, or nothing: %v", err)
	}
	x.Close()
	x = b.start()
	if st := x.state(sp.ID); st.Kind != storage.Remote || st.Used != 0 || st.Place != (storage.Place{Server: "west", Namespace: 5}) {
		t.Errorf("after a restart: %+v", st)
	}
	if got := round(x, 2, false); !bytes.Equal(got, plain) {
		t.Error("after a restart the host does not read what it wrote")
	}
	if _, err := x.Erase(t.Context(), sp.ID); err != nil {
		t.Fatal(err)
	}
	if got := round(x, 3, false); bytes.Contains(got, plain[:16]) {
		t.Error("erased, and still readable")
	}
	if b.happened(storage.EventServer) != 3 {
		t.Errorf("told %d times that the server was reached", b.happened(storage.EventServer))
	}
	if err := x.Detach(t.Context(), sp.ID); err != nil {
		t.Fatal(err)
	}
	if err := x.Delete(t.Context(), sp.ID); err != nil || len(b.places) != 0 {
		t.Errorf("deleted: %v, %d places are kept", err, len(b.places))
	}
}

// TestRemoteRefused: servers that the owner does not allow, secrets and namespaces that the
// server does not know, and sizes that it does not have make no volume.
func TestRemoteRefused(t *testing.T) {
	b := newBoard(t)
	server := b.storageServer("west")
	x := b.start()
	var other dhchap.Secret
	if err := other.Generate(dhchap.SHA256); err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]struct {
		change func(*storage.Spec)
		want   error
	}{
		"no server":              {func(s *storage.Spec) { s.Place.Server = "" }, storage.ErrSpec},
		"no namespace":           {func(s *storage.Spec) { s.Place.Namespace = 0 }, storage.ErrSpec},
		"a long secret":          {func(s *storage.Spec) { s.Place.Secret = string(make([]byte, 300)) }, storage.ErrSpec},
		"a malformed secret":     {func(s *storage.Spec) { s.Place.Secret = "secret" }, storage.ErrSpec},
		"another server":         {func(s *storage.Spec) { s.Place.Server = "east" }, storage.ErrNoServer},
		"another secret":         {func(s *storage.Spec) { s.Place.Secret = other.Reveal() }, storage.ErrServer},
		"a server that lies":     {func(s *storage.Spec) { s.Place.Opposite = other.Reveal() }, storage.ErrServer},
		"another namespace":      {func(s *storage.Spec) { s.Place.Namespace = 6 }, storage.ErrServer},
		"another size":           {func(s *storage.Spec) { s.BlockSize, s.Blocks = 4096, 63 }, storage.ErrSpec},
		"a commitment to naught": {func(s *storage.Spec) { s.Commitment = [32]byte{} }, storage.ErrSpec},
	} {
		sp := b.remoteSpec(server)
		c.change(&sp)
		if _, err := x.Create(t.Context(), sp); !errors.Is(err, c.want) {
			t.Errorf("%s: %v; want %v", what, err, c.want)
		}
	}
	if len(x.Volumes()) != 0 || len(b.places) != 0 {
		t.Errorf("there are %d volumes and %d places", len(x.Volumes()), len(b.places))
	}
	b.servers["dead"] = storage.Server{Dial: closedPipes().Dial, SubsystemNQN: serverNQN}
	sp := b.remoteSpec(server)
	sp.Place.Server = "dead"
	if _, err := x.Create(t.Context(), sp); !errors.Is(err, storage.ErrServer) || !errors.Is(err, net.ErrClosed) {
		t.Errorf("a server that is gone: %v", err)
	}
}

func closedPipes() *pipes.Listener {
	p := pipes.New()
	p.Close()
	return p
}

// TestRemotePlaces: a place that cannot be read puts its own volume out of service, and says
// so; what a creation that was cut off has left is removed.
func TestRemotePlaces(t *testing.T) {
	b := newBoard(t)
	server := b.storageServer("west")
	x := b.start()
	sp := b.remoteSpec(server)
	if _, err := x.Create(t.Context(), sp); err != nil {
		t.Fatal(err)
	}
	other := x.volume(1, storage.Pool, 64)
	x.Close()
	b.places[sp.ID] = b.places[sp.ID][:20]
	b.places[[16]byte{8}] = []byte("of a creation that was cut off")
	x = b.start()
	if err := x.BeginCycle(1, false); err != nil {
		t.Fatal(err)
	}
	x.attach(other, nil)
	if st := x.state(sp.ID); !errors.Is(st.Fault, storage.ErrPlace) || st.Kind != storage.Remote || x.state(other).Fault != nil {
		t.Errorf("the volume without a place: %+v", st)
	}
	if _, err := x.Request(t.Context(), sp.ID); !errors.Is(err, storage.ErrPlace) || b.happened(storage.EventPlace) != 1 {
		t.Errorf("its key: %v; told %d times", err, b.happened(storage.EventPlace))
	}
	if len(b.places) != 1 {
		t.Errorf("%d places are noted", len(b.places))
	}
	if err := x.Delete(t.Context(), sp.ID); err != nil || len(b.places) != 0 {
		t.Errorf("deleted: %v, %d places are noted", err, len(b.places))
	}
	if _, err := x.Create(t.Context(), sp); err != nil || x.state(sp.ID).Fault != nil {
		t.Errorf("created again: %v", err)
	}
}
