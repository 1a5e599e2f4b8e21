package storage_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hpke"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"nitro/boot/medium/mediumtest"
	"nitro/internal/pipes"
	"nitro/nvme/dhchap"
	"nitro/nvme/initiator"
	"nitro/nvme/key"
	"nitro/nvme/pool"
	"nitro/nvme/storage"
	"nitro/nvme/target"
)

const patience = 2 * time.Minute

// keys are made once: they are slow on the board.
var keys = sync.OnceValue(func() (k struct {
	service, tpm *ecdsa.PrivateKey
	wrapping     hpke.PrivateKey
}) {
	k.service, _ = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	k.tpm, _ = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	k.wrapping, _ = hpke.MLKEM768X25519().GenerateKey()
	return k
})

// A board is what outlasts a restart: card, store, TPM.
type board struct {
	t    testing.TB
	card *mediumtest.Card
	slow chan struct{} // if there is one, writes of whole extents are told here, and wait until it is closed

	mu       sync.Mutex
	era      uint64
	erase    [32]byte
	erasures int                  // of the TPM's secret
	erasing  func([32]byte) error // nil, or what EraseAll does instead
	noTPM    error
	mayErase func() bool
	standing []byte
	places   map[[16]byte][]byte
	noStore  error
	servers  map[string]storage.Server
	settled  int
	settling chan chan struct{} // nil, or each Settle waits for what is sent here to be closed
	clock    uint64
	ticking  time.Time // if it is not zero: since when the clock has gone on
	noClock  error
	events   []storage.Event

	keys map[[16]byte][]byte // that the key service has
}

func newBoard(t testing.TB) *board {
	b := &board{t: t, card: mediumtest.New(16 << 20 / 512), clock: 1_000_000, keys: map[[16]byte][]byte{}, places: map[[16]byte][]byte{}}
	if err := pool.Format(b.poolConfig()); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *board) poolConfig() pool.Config {
	return pool.Config{Device: medium{b.card, b}, Size: 16 << 20, Key: make([]byte, pool.KeySize), Witness: b, Erase: b, Records: 64}
}

// A medium is the card, which can be slow.
type medium struct {
	*mediumtest.Card
	b *board
}

func (m medium) WriteBlocks(first uint64, p []byte) error {
	if len(p) == pool.ExtentSize && m.b.slow != nil {
		m.b.slow <- struct{}{} // it is on its way
		<-m.b.slow
	}
	return m.Card.WriteBlocks(first, p)
}

func (b *board) Era() (uint64, error) { return b.era, nil }

func (b *board) SetEra(e uint64) error {
	if b.card.Off() {
		return mediumtest.ErrPowerCut
	}
	b.era = e
	return nil
}

func (b *board) EraseSecret() ([]byte, error) { return bytes.Clone(b.erase[:]), b.noTPM }

func (b *board) EraseAll(secret [32]byte) error {
	if b.card.Off() {
		return mediumtest.ErrPowerCut
	}
	if b.erasing != nil {
		return b.erasing(secret)
	}
	b.erase = secret
	b.erasures++
	return nil
}

// A keeper is the board's store.
type keeper struct{ *board }

func (b keeper) Standing() ([]byte, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return bytes.Clone(b.standing), b.noStore
}

func (b keeper) SetStanding(s []byte) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.noStore == nil {
		b.standing = bytes.Clone(s)
	}
	return b.noStore
}

func (b keeper) Place(id [16]byte) ([]byte, error) { return bytes.Clone(b.places[id]), b.noStore }

func (b keeper) Places() (ids [][16]byte, err error) {
	for id := range b.places {
		ids = append(ids, id)
	}
	return ids, b.noStore
}

func (b keeper) SetPlace(id [16]byte, place []byte) error {
	if b.noStore != nil {
		return b.noStore
	}
	if b.places[id] = bytes.Clone(place); place == nil {
		delete(b.places, id)
	}
	return nil
}

func (b keeper) Settle() error {
	if b.card.Off() {
		return mediumtest.ErrPowerCut
	}
	b.settled++
	if b.settling != nil {
		<-(<-b.settling)
	}
	return b.noStore
}

func (b *board) Clock() (uint64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.ticking.IsZero() {
		return b.clock + uint64(time.Since(b.ticking).Milliseconds()), b.noClock
	}
	return b.clock, b.noClock
}

// setTPM sets the TPM's clock, or its failure.
func (b *board) setTPM(clock uint64, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.clock, b.noClock = clock, err
}

func (b *board) Sign(text []byte) ([]byte, error) {
	d := sha256.Sum256(text)
	return ecdsa.SignASN1(rand.Reader, keys().tpm, d[:])
}

// happened counts events of a kind.
func (b *board) happened(kind string) (n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range b.events {
		if e.Kind == kind {
			n++
		}
	}
	return n
}

// A boot is one of the board.
type boot struct {
	*board
	*storage.Service
	memory []byte // the arena's
	wires  *pipes.Listener
}

// aligned is memory that begins at a page.
func aligned(n int) []byte {
	b := make([]byte, n+key.PageSize)
	for i := range key.PageSize {
		if _, err := key.NewArena(b[i : i+n]); err == nil {
			return b[i : i+n]
		}
	}
	panic("no page begins in a page")
}

// config is that of a boot.
func (b *board) config(memory []byte) storage.Config {
	b.t.Helper()
	arena, err := key.NewArena(memory)
	if err != nil {
		b.t.Fatal(err)
	}
	p, err := pool.Open(b.poolConfig())
	if err != nil {
		b.t.Fatal(err)
	}
	return storage.Config{
		MayErase: b.mayErase, Pool: p, Memory: 1 << 20, HostNQN: "nqn.2026-01.test:host", Servers: func() map[string]storage.Server { return b.servers }, BoardNQN: boardNQN, BoardID: [16]byte{2}, Secrets: [32]byte{3}, Store: keeper{b},
		Keys: &key.Config{Arena: arena, Service: &keys().service.PublicKey, AK: bytes.Repeat([]byte{0xa}, key.NameSize),
			Wrapping: keys().wrapping, Clock: b, Signer: b, MaxLease: time.Hour},
		Target: target.Config{SubsystemNQN: "nqn.2026-01.test:board", Advertise: netip.MustParseAddrPort("169.254.169.254:4420")},
		Notify: func(e storage.Event) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.events = append(b.events, e)
		},
	}
}

// start boots the board. Its service is served, as soon as it lets the host in.
func (b *board) start() *boot {
	b.t.Helper()
	x := &boot{board: b, memory: aligned(key.ArenaSize(8)), wires: pipes.New()}
	var err error
	if x.Service, err = storage.New(b.config(x.memory)); err != nil {
		b.t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() {
		served <- x.Serve(func(port uint16) (net.Listener, error) {
			if port == storage.PortIO {
				return x.wires, nil
			}
			return pipes.New(), nil
		})
	}()
	b.t.Cleanup(func() {
		x.Close()
		if err := <-served; !errors.Is(err, target.ErrTargetClosed) && !errors.Is(err, storage.ErrClosed) {
			b.t.Errorf("serve: %v", err)
		}
	})
	return x
}

// empty reports whether no key is in memory.
func (x *boot) empty() bool { return bytes.Equal(x.memory, make([]byte, len(x.memory))) }

// volume is a new one, whose key the key service has made.
func (x *boot) volume(id byte, kind storage.Kind, blocks uint64) [16]byte {
	x.t.Helper()
	v := [16]byte{id, 15: 1}
	x.keys[v] = make([]byte, key.Size)
	rand.Read(x.keys[v])
	_, err := x.Create(x.t.Context(), storage.Spec{ID: v, Name: string([]byte{'v', 'a' + id}), Kind: kind, BlockSize: 4096, Blocks: blocks,
		Commitment: key.Commitment(x.keys[v])})
	if err != nil {
		x.t.Fatal(err)
	}
	return v
}

// grant is the key service's answer to a request, but for what change does.
func (b *board) grant(request []byte, change func(*key.Grant)) (grant, wrapped []byte) {
	b.t.Helper()
	q, err := key.ParseRequest(request)
	if err != nil {
		b.t.Fatal(err)
	}
	g := key.Grant{Volume: q.Volume, Commitment: key.Commitment(b.keys[q.Volume]), AK: [key.NameSize]byte(bytes.Repeat([]byte{0xa}, key.NameSize)),
		Wrapping: key.WrappingHash(keys().wrapping.PublicKey()), Nonce: q.Nonce, Cycle: q.Cycle, Expires: q.Clock + 60_000, ID: [16]byte{9}}
	if change != nil {
		change(&g)
	}
	if grant, err = g.Sign(keys().service); err != nil {
		b.t.Fatal(err)
	}
	if wrapped, err = key.Wrap(keys().wrapping.PublicKey(), grant, b.keys[q.Volume]); err != nil {
		b.t.Fatal(err)
	}
	return grant, wrapped
}

func standing(g *key.Grant) { g.Standing = true }

// try asks for a key and brings it.
func (x *boot) try(id [16]byte, change func(*key.Grant)) error {
	x.t.Helper()
	q, err := x.Request(x.t.Context(), id)
	if err != nil {
		return err
	}
	grant, wrapped := x.grant(q, change)
	confirmation, err := x.Attach(x.t.Context(), id, grant, wrapped)
	if err != nil {
		return err
	}
	_, err = key.OpenConfirmation(confirmation, grant, func(d [32]byte, sig []byte) error {
		if !ecdsa.VerifyASN1(&keys().tpm.PublicKey, d[:], sig) {
			return errors.New("not the board's")
		}
		return nil
	})
	return err
}

func (x *boot) attach(id [16]byte, change func(*key.Grant)) {
	x.t.Helper()
	if err := x.try(id, change); err != nil {
		x.t.Fatalf("attach %x: %v", id, err)
	}
}

// serving begins a host cycle, and attaches a new volume of the pool, which is namespace 1.
func (x *boot) serving(change func(*key.Grant)) [16]byte {
	x.t.Helper()
	v := x.volume(1, storage.Pool, 64)
	if err := x.BeginCycle(7, false); err != nil {
		x.t.Fatal(err)
	}
	x.attach(v, change)
	return v
}

func (x *boot) state(id [16]byte) storage.State {
	x.t.Helper()
	s, err := x.Volume(id)
	if err != nil {
		x.t.Fatal(err)
	}
	return s
}

// connect is the host, with what the board gives it.
func (x *boot) connect() *initiator.Controller {
	x.t.Helper()
	a, ok := x.Host()
	if !ok {
		x.t.Fatal("there is no host")
	}
	c, err := x.dial(a)
	if err != nil {
		x.t.Fatal(err)
	}
	return c
}

func (x *boot) dial(a storage.HostAccess) (*initiator.Controller, error) {
	x.t.Helper()
	var secret, opposite dhchap.Secret
	if err := errors.Join(secret.Set([]byte(a.Secret)), opposite.Set([]byte(a.ControllerSecret))); err != nil {
		x.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(x.t.Context(), patience)
	defer cancel()
	c, err := initiator.Connect(ctx, initiator.Config{Dial: x.wires.Dial, SubsystemNQN: a.SubsystemNQN, HostNQN: a.HostNQN,
		HostID: [16]byte{1}, Secret: &secret, Opposite: &opposite, Limit: patience})
	if err == nil {
		x.t.Cleanup(func() { c.Close() })
	}
	return c, err
}

// sees lists the namespaces that the host has.
func (x *boot) sees(c *initiator.Controller, want ...uint32) {
	x.t.Helper()
	got, err := c.Namespaces(x.t.Context())
	if err != nil || !slices.Equal(got, want) {
		x.t.Errorf("the host sees namespaces %v, %v; want %v", got, err, want)
	}
}
