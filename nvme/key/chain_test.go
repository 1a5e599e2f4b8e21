package key

import (
	"bytes"
	"testing"

	"nitro/boot/medium/mediumtest"
	"nitro/nvme/pool"
	"nitro/nvme/volume"
	"nitro/nvme/xts"
)

// store is the pool's witness and erase secret, in memory.
type store struct {
	era    uint64
	secret [32]byte
}

func (s *store) Era() (uint64, error)           { return s.era, nil }
func (s *store) SetEra(e uint64) error          { s.era = e; return nil }
func (s *store) EraseSecret() ([]byte, error)   { return bytes.Clone(s.secret[:]), nil }
func (s *store) EraseAll(secret [32]byte) error { s.secret = secret; return nil }

// attachPool takes the key of a volume of the pool, and opens it encrypted.
func (r *rig) attachPool(p *pool.Pool, name string) *volume.Encrypted {
	r.t.Helper()
	info, err := p.Find(name)
	if err != nil {
		r.t.Fatal(err)
	}
	salt, err := p.Salt(name)
	if err != nil {
		r.t.Fatal(err)
	}
	r.volume = Volume{ID: info.ID, Commitment: info.Commitment, Salt: salt}
	v, err := p.Volume(name)
	if err != nil {
		r.t.Fatal(err)
	}
	var e *volume.Encrypted
	err = r.attach().Use(func(k *xts.Key) (User, error) {
		e, err = volume.NewEncrypted(v, k, 1, 4096)
		return e, err
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return e
}

// TestPool is the whole way: a volume of the pool, its key by grant, data that outlasts a
// detach, a card without plaintext, and an erase after which the same key opens nothing.
func TestPool(t *testing.T) {
	r := newRig(t, 1)
	card := mediumtest.New(4 << 20 / 512)
	s := new(store)
	c := pool.Config{Device: card, Size: 4 << 20, Key: make([]byte, pool.KeySize), Witness: s, Erase: s, Records: 64}
	if err := pool.Format(c); err != nil {
		t.Fatal(err)
	}
	p, err := pool.Open(c)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Create(pool.Spec{Name: "data", BlockSize: 4096, Blocks: 100, Commitment: Commitment(r.key)}); err != nil {
		t.Fatal(err)
	}
	plain := bytes.Repeat([]byte("what nobody shall read "), 400)[:8192]
	e := r.attachPool(p, "data")
	if err := e.WriteAt(t.Context(), 40, plain); err != nil {
		t.Fatal(err)
	}
	for _, w := range card.Writes() {
		if bytes.Contains(w.Data, []byte("nobody")) {
			t.Fatal("plaintext on the card")
		}
	}
	detach := func() {
		t.Helper()
		if err := r.Detach(r.volume.ID); err != nil || !r.empty() {
			t.Fatalf("%v, arena empty %v", err, r.empty())
		}
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
	}
	detach()
	got := make([]byte, len(plain))
	e = r.attachPool(p, "data")
	if err := e.ReadAt(t.Context(), 40, got); err != nil || !bytes.Equal(got, plain) {
		t.Fatalf("after a detach: %v, right %v", err, bytes.Equal(got, plain))
	}
	detach()
	if err := p.Erase("data"); err != nil {
		t.Fatal(err)
	}
	e = r.attachPool(p, "data")
	old := extent(t, card)
	card.Settle()
	if err := e.WriteAt(t.Context(), 32, plain[:4096]); err != nil {
		t.Fatal(err)
	}
	// Whoever kept the ciphertext puts it where the volume's extent is now.
	if err := card.WriteBlocks(extent(t, card).First, old.Data); err != nil {
		t.Fatal(err)
	}
	if err := e.ReadAt(t.Context(), 40, got); err != nil || bytes.Contains(got, []byte("nobody")) {
		t.Errorf("after an erase the key opens the old ciphertext: %v", err)
	}
}

// extent is the first write of a whole extent.
func extent(t *testing.T, c *mediumtest.Card) mediumtest.Write {
	t.Helper()
	for _, w := range c.Writes() {
		if len(w.Data) == pool.ExtentSize {
			return w
		}
	}
	t.Fatal("no extent was written")
	return mediumtest.Write{}
}
