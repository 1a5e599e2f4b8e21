package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hpke"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"nitro/attest/sanitisation"
	"nitro/net/redfish"
	"nitro/nvme/key"
	"nitro/nvme/pool"
	"nitro/nvme/storage"
	"nitro/nvme/target"
	"nitro/nvme/volume"
)

// A witness is an attester without a TPM.
type witness struct {
	key   *ecdsa.PrivateKey
	nonce []byte
	said  *sanitisation.Statement
	fail  error

	erased []byte
}

func (w *witness) Evidence(nonce []byte) ([]byte, error) {
	w.nonce = nonce
	return []byte("{}"), w.fail
}
func (w *witness) certify(s sanitisation.Statement) ([]byte, error) {
	w.said = &s
	return []byte("{}"), w.fail
}
func (w *witness) hostErased([16]byte) []byte  { return w.erased }
func (w *witness) forgetErased([16]byte)       { w.erased = nil }
func (w *witness) cardNames() (string, string) { return "SU08G", "126a2f3d" }
func (w *witness) Clock() (uint64, error)      { return 1_000_000, nil }
func (w *witness) Sign(text []byte) ([]byte, error) {
	d := sha256.Sum256(text)
	return ecdsa.SignASN1(rand.Reader, w.key, d[:])
}

// A memo is a store in memory.
type memo struct{ b []byte }

func (m *memo) Standing() ([]byte, error)  { return m.b, nil }
func (m *memo) SetStanding(b []byte) error { m.b = b; return nil }
func (m *memo) Settle() error              { return nil }

func (m *memo) Places() ([][16]byte, error)     { return nil, nil }
func (m *memo) Place([16]byte) ([]byte, error)  { return nil, nil }
func (m *memo) SetPlace([16]byte, []byte) error { return nil }

// engine is a board's volumes in memory, and the key service that they trust.
func engine(t *testing.T, keys bool) (volumesAPI, *witness, *ecdsa.PrivateKey) {
	t.Helper()
	service, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	wrapping, err := hpke.MLKEM768X25519().GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	w := &witness{key: service}
	c := storage.Config{PoolFault: pool.ErrNotFormatted, Memory: 1 << 20, HostNQN: "nqn.2026-01.example:host", Secrets: [32]byte{1}, Store: &memo{},
		Target: target.Config{SubsystemNQN: "nqn.2026-01.example:pool", Advertise: netip.MustParseAddrPort("192.0.2.1:4420"), Serial: "1", Model: "m", Firmware: "1"}}
	if keys {
		memory := make([]byte, key.ArenaSize(2)+key.PageSize)
		var arena *key.Arena
		for i := 0; i < key.PageSize && arena == nil; i++ {
			arena, _ = key.NewArena(memory[i : i+key.ArenaSize(2)])
		}
		c.Keys = &key.Config{Arena: arena, Service: &service.PublicKey, AK: make([]byte, key.NameSize), Wrapping: wrapping, Clock: w, Signer: w, MaxLease: time.Hour}
	}
	s, err := storage.New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return volumesAPI{s, w}, w, service
}

// wants checks that an error is a Redfish error of a status, with a next step.
func wants(t *testing.T, what string, err error, status int, next string) {
	t.Helper()
	var e *redfish.Error
	if !errors.As(err, &e) || e.Status != status || !strings.Contains(e.Next, next) {
		t.Errorf("%s: %v, not %d with %q", what, err, status, next)
		if e != nil {
			t.Logf("next: %s", e.Next)
		}
	}
}

// TestVolumesAPI goes a volume's way over the real engine, with what goes wrong on it.
func TestVolumesAPI(t *testing.T) {
	a, w, service := engine(t, true)
	ctx, id := t.Context(), redfish.VolumeID{7}
	secret := make([]byte, key.Size)
	rand.Read(secret)
	spec := redfish.VolumeSpec{ID: id, Name: "data", Kind: "RAM", Capacity: 1 << 16, BlockSize: 4096, Commitment: key.Commitment(secret)}
	onCard := spec
	onCard.Kind = "Pool"
	wants(t, "no pool", a.Create(ctx, onCard), 409, "format it")
	large := spec
	large.Capacity = 2 << 20
	wants(t, "too large", a.Create(ctx, large), 507, "left for volumes")
	odd := spec
	odd.Name = "a b"
	wants(t, "a bad name", a.Create(ctx, odd), 400, "name")
	if err := a.Create(ctx, spec); err != nil {
		t.Fatal(err)
	}
	wants(t, "twice", a.Create(ctx, spec), 409, "another name")
	if all := a.Volumes(); len(all) != 1 || all[0].VolumeSpec != spec || all[0].Attached {
		t.Errorf("%+v", all)
	}
	if st := a.Storage(); st.Fault == "" || st.Serial != "126a2f3d" {
		t.Errorf("%+v", st)
	}
	challenge := [redfish.ChallengeSize]byte{9}
	_, _, err := a.Request(ctx, id, challenge)
	wants(t, "before there is a host", err, 409, "Release the host")
	if err := a.s.BeginCycle(3, false); err != nil {
		t.Fatal(err)
	}
	attach := func(change func(*key.Grant)) error {
		request, evidence, err := a.Request(ctx, id, challenge)
		if err != nil {
			t.Fatal(err)
		}
		q, err := key.ParseRequest(request)
		if err != nil {
			t.Fatal(err)
		}
		if nonce := key.EvidenceNonce(challenge, request); string(w.nonce) != string(nonce[:]) || string(evidence) != "{}" {
			t.Errorf("evidence was asked for with %x", w.nonce)
		}
		board, err := hpke.MLKEM768X25519().NewPublicKey(q.Wrapping)
		if err != nil {
			t.Fatal(err)
		}
		g := key.Grant{Volume: id, Commitment: key.Commitment(secret), Wrapping: key.WrappingHash(board), Nonce: q.Nonce, Cycle: q.Cycle, Expires: q.Clock + 60_000}
		change(&g)
		signed, err := g.Sign(service)
		if err != nil {
			t.Fatal(err)
		}
		wrapped, err := key.Wrap(board, signed, secret)
		if err != nil {
			t.Fatal(err)
		}
		_, err = a.Attach(ctx, id, "HPKE", signed, wrapped)
		return err
	}
	for next, change := range map[string]func(*key.Grant){
		"for another board":                     func(g *key.Grant) { g.AK[0] = 1 },
		"for another boot":                      func(g *key.Grant) { g.Wrapping[0] ^= 1 },
		"ask again":                             func(g *key.Grant) { g.Nonce[0] ^= 1 },
		"another host cycle":                    func(g *key.Grant) { g.Cycle++ },
		"time is over":                          func(g *key.Grant) { g.Expires = 1 },
		"longer than allowed":                   func(g *key.Grant) { g.Expires += 1 << 40 },
		"the one that the volume was made with": func(g *key.Grant) { g.Commitment[0] ^= 1 },
	} {
		wants(t, next, attach(change), 403, next)
	}
	if err := attach(func(*key.Grant) {}); err != nil {
		t.Fatal(err)
	}
	if v := a.Volumes()[0]; !v.Attached || v.Namespace != 1 || v.Left <= 0 {
		t.Errorf("%+v", v)
	}
	wants(t, "delete while attached", a.Delete(ctx, id), 409, "Detach the volume first")
	for range 2 { // the second time it is detached already
		if err := a.Detach(ctx, id); err != nil {
			t.Fatal(err)
		}
	}
	if b, err := a.Erase(ctx, id, "spiffe://x/y/z"); err != nil || string(b) != "{}" || w.said.Volume != id.String() || w.said.RequestedBy != "spiffe://x/y/z" || w.said.Bytes != 1<<16 {
		t.Errorf("%v, %+v", err, w.said)
	}
	w.fail = errors.New("no TPM")
	_, err = a.Erase(ctx, id, "x")
	wants(t, "no certificate", err, 503, "erase it again")
	w.fail = nil
	if all, err := a.ErasePool(ctx, "x"); err != nil || len(all) != 0 { // it is not the pool's
		t.Errorf("%v, %v", all, err)
	}
	w.erased = []byte("{1}")
	if c := a.ErasedByHost(id); string(c) != "{1}" {
		t.Errorf("the certificate of the host's erase: %q", c)
	}
	if err := a.Delete(ctx, id); err != nil {
		t.Fatal(err)
	}
	if w.erased != nil {
		t.Error("the certificate outlasts the volume")
	}
	wants(t, "gone", a.Delete(ctx, id), 404, "List the volumes")
	a.s.Close()
	wants(t, "closed", a.Delete(ctx, id), 503, "the board's status")
}

// TestNoKeyService: a board that knows none says so, and how to change that.
func TestNoKeyService(t *testing.T) {
	a, _, _ := engine(t, false)
	id := redfish.VolumeID{7}
	if err := a.Create(t.Context(), redfish.VolumeSpec{ID: id, Name: "data", Kind: "RAM", Capacity: 4096, BlockSize: 4096, Commitment: [32]byte{1}}); err != nil {
		t.Fatal(err)
	}
	_, _, err := a.Request(t.Context(), id, [redfish.ChallengeSize]byte{})
	wants(t, "no key service", err, 409, "names no key service")
}

// TestVolumeRefusals: each error of the engine has a status and a next step, and what
// nobody knows tells strangers nothing.
func TestVolumeRefusals(t *testing.T) {
	for err, status := range map[error]int{
		fmt.Errorf("pool: %w: 3 extents", volume.ErrFull): 507, pool.ErrFailed: 503, pool.ErrErased: 409, pool.ErrBusy: 409, key.ErrMaking: 503, storage.ErrStore: 503,
		fmt.Errorf("%w: %w", storage.ErrClock, errors.New("xyzzy")): 503,
		fmt.Errorf("%w: %w", storage.ErrFull, key.ErrFull):          507,
	} {
		got := refuseVolume(redfish.VolumeID{}, err)
		wants(t, err.Error(), got, status, ".")
		if strings.Contains(got.(*redfish.Error).Next, "xyzzy") {
			t.Errorf("%v: tells %s", err, got.(*redfish.Error).Next)
		}
	}
	unknown := errors.New("unknown")
	if err := refuseVolume(redfish.VolumeID{}, unknown); err != unknown {
		t.Errorf("%v", err)
	}
}
