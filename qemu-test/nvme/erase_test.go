package nvme

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hpke"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"nitro/nvme/dhchap"
	"nitro/nvme/key"
	"nitro/nvme/pool"
	"nitro/nvme/storage"
	"nitro/nvme/target"
)

// A small board: what the volumes rest on, in memory.
type small struct {
	mu    sync.Mutex
	card  []byte
	era   uint64
	erase [32]byte
	store []byte
	key   *ecdsa.PrivateKey // the board's, and the key service's

	erased int
	begun  time.Time
}

func (b *small) BlockSize() int { return 512 }
func (b *small) Blocks() uint64 { return uint64(len(b.card) / 512) }

func (b *small) ReadBlocks(first uint64, p []byte) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	copy(p, b.card[first*512:])
	return nil
}

func (b *small) WriteBlocks(first uint64, p []byte) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	copy(b.card[first*512:], p)
	return nil
}

func (b *small) Era() (uint64, error)                { return b.era, nil }
func (b *small) SetEra(e uint64) error               { b.era = e; return nil }
func (b *small) EraseSecret() ([]byte, error)        { return bytes.Clone(b.erase[:]), nil }
func (b *small) EraseAll(secret [32]byte) error      { b.erase = secret; b.erased++; return nil }
func (b *small) Standing() ([]byte, error)           { return b.store, nil }
func (b *small) SetStanding(s []byte) error          { b.store = s; return nil }
func (b *small) Place([16]byte) ([]byte, error)      { return nil, nil }
func (b *small) SetPlace(_ [16]byte, _ []byte) error { return nil }
func (b *small) Places() ([][16]byte, error)         { return nil, nil }
func (b *small) Settle() error                       { return nil }
func (b *small) Clock() (uint64, error)              { return uint64(time.Since(b.begun).Milliseconds()), nil }

func (b *small) Sign(text []byte) ([]byte, error) {
	d := sha256.Sum256(text)
	return ecdsa.SignASN1(rand.Reader, b.key, d[:])
}

// arena is memory that begins at a page.
func arena() (*key.Arena, error) {
	n := key.ArenaSize(1)
	b := make([]byte, n+key.PageSize)
	for i := range key.PageSize {
		if a, err := key.NewArena(b[i : i+n]); err == nil {
			return a, nil
		}
	}
	return nil, errors.New("no page begins in a page")
}

// volumes makes the engine of the board's volumes as the firmware does, with one volume of
// 32 MiB in a pool of 64 MiB, attached.
func (b *small) volumes(cfg target.Config) (*storage.Service, error) {
	b.card, b.begun = make([]byte, 64<<20), time.Now()
	poolConfig := pool.Config{Device: b, Size: int64(len(b.card)), Key: make([]byte, pool.KeySize), Witness: b, Erase: b}
	if err := pool.Format(poolConfig); err != nil {
		return nil, err
	}
	p, perr := pool.Open(poolConfig)
	a, aerr := arena()
	wrapping, werr := hpke.MLKEM768X25519().GenerateKey()
	k, kerr := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err := errors.Join(perr, aerr, werr, kerr); err != nil {
		return nil, err
	}
	b.key = k
	s, err := storage.New(storage.Config{
		Pool: p, HostNQN: host, Secrets: [32]byte{1}, Store: b, Target: cfg,
		Keys: &key.Config{Arena: a, Service: &k.PublicKey, AK: make([]byte, key.NameSize), Wrapping: wrapping, Clock: b, Signer: b, MaxLease: time.Hour},
	})
	if err != nil {
		return nil, err
	}
	return s, errors.Join(s.BeginCycle(1, false), b.attach(s, wrapping))
}

// attach creates the volume, and delivers its key.
func (b *small) attach(s *storage.Service, wrapping hpke.PrivateKey) error {
	secret, id := make([]byte, key.Size), [16]byte{1}
	rand.Read(secret)
	if _, err := s.Create(context.Background(), storage.Spec{ID: id, Name: "data", Kind: storage.Pool, BlockSize: 4096, Blocks: 32 << 20 / 4096, Commitment: key.Commitment(secret)}); err != nil {
		return err
	}
	request, err := s.Request(context.Background(), id)
	if err != nil {
		return err
	}
	q, err := key.ParseRequest(request)
	if err != nil {
		return err
	}
	g := key.Grant{Volume: id, Commitment: key.Commitment(secret), Wrapping: key.WrappingHash(wrapping.PublicKey()), Nonce: q.Nonce, Cycle: q.Cycle, Expires: q.Clock + 3_000_000}
	grant, err := g.Sign(b.key)
	if err != nil {
		return err
	}
	wrapped, err := key.Wrap(wrapping.PublicKey(), grant, secret)
	if err != nil {
		return err
	}
	_, err = s.Attach(context.Background(), id, grant, wrapped)
	return err
}

// TestLinuxErases has Linux erase a volume of the firmware's, in each way that nvme-cli has:
// the engine, the pool and the keys are the firmware's, in memory. It also has Linux send
// data only when it is asked for, without digests.
func TestLinuxErases(t *testing.T) {
	t.Parallel()
	port := freePort(t)
	b := new(small)
	s, err := b.volumes(target.Config{
		SubsystemNQN: subsystem, Advertise: netip.AddrPortFrom(netip.MustParseAddr("10.0.2.2"), uint16(port)), Serial: "0001", Model: "Nitro", Firmware: "1.0",
		InCapsule: 8192, Groups: []dhchap.Group{dhchap.FFDHE3072}, Hashes: []dhchap.Hash{dhchap.SHA512},
	})
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() {
		served <- s.Serve(func(want uint16) (net.Listener, error) {
			if want != storage.PortIO {
				return net.Listen("tcp", "127.0.0.1:0")
			}
			return net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		})
	}()
	t.Cleanup(func() {
		s.Close()
		<-served
	})
	access, _ := s.Host()
	nobody := func(said string) error { return fmt.Errorf("the guest says %q", said) }
	guest(t, nobody, "-port", fmt.Sprint(port), "-host", host, "-secret", access.Secret, "-opposite", access.ControllerSecret, "-erase")
	if b.erased != 4 || bytes.Contains(b.card, []byte("what the host erases")) {
		t.Errorf("the TPM's secret was overwritten %d times; plaintext on the card: %v", b.erased, bytes.Contains(b.card, []byte("what the host erases")))
	}
}
