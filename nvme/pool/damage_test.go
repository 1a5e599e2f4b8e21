package pool_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"nitro/boot/medium/mediumtest"
	. "nitro/nvme/pool"
	"nitro/nvme/volume"
)

// read and write are one sector of the pool.
func (r *rig) sector(n uint64) []byte {
	b := make([]byte, 512)
	if err := r.card.ReadBlocks(testOffset/512+n, b); err != nil {
		r.t.Fatal(err)
	}
	return b
}

func (r *rig) put(n uint64, b []byte) {
	if err := r.card.WriteBlocks(testOffset/512+n, b); err != nil {
		r.t.Fatal(err)
	}
}

const (
	poolSectors = testSize / 512
	metaSectors = 1 + 8 + 64 + 2*6*32 // of the tests' pools, one copy
)

// metadata lists the sectors of one copy.
func metadata(copy int) (all []uint64) {
	for n := range uint64(metaSectors) {
		if copy == 1 {
			n += poolSectors - metaSectors
		}
		all = append(all, n)
	}
	return all
}

// used is a pool whose log has gone around, and a second look at what it holds.
func used(t *testing.T) (*rig, string) {
	r := prepared(t)
	if err := script(r); err != nil {
		t.Fatal(err)
	}
	for _, m := range r.model {
		if err := m.v.Close(); err != nil {
			t.Fatal(err)
		}
	}
	r.model = nil
	return r, look(t, r.pool)
}

// TestDamage: any one sector of the metadata may be lost, or one whole copy.
func TestDamage(t *testing.T) {
	r, want := used(t)
	check := func(what string, n int) {
		t.Helper()
		r.open()
		if got := look(t, r.pool); got != want {
			t.Fatalf("%s %d: %s", what, n, got)
		}
	}
	for c := range 2 {
		for i, n := range metadata(c) {
			if few() && i%29 != 0 {
				continue
			}
			good := r.sector(n)
			bad := bytes.Clone(good)
			bad[i%512] ^= 0x40
			r.put(n, bad)
			check("flipped bit in sector", int(n))
			if got := r.sector(n); bytes.Equal(got, bad) {
				r.put(n, good)
			}
		}
		for _, n := range metadata(c) {
			r.put(n, make([]byte, 512))
		}
		r.open() // the last record and root are written again, all else is in the other copy
		if got := look(t, r.pool); got != want {
			t.Fatalf("copy %d gone: %s", c, got)
		}
		r, want = used(t)
	}
}

// TestTamper: who holds the card changes what is authentic in both copies, by bits, by
// swapping, by putting back, and never gets another table past the mount than one that
// was there.
func TestTamper(t *testing.T) {
	r, want := used(t)
	for i, n := range metadata(0) {
		if few() && i%13 != 0 {
			continue
		}
		twin := metadata(1)[i]
		if n == 0 {
			twin = poolSectors - 1
		} else {
			twin--
		}
		for range 2 {
			good, other := r.sector(n), r.sector(twin)
			if bytes.Count(good, []byte{0}) == 512 {
				continue
			}
			bad := bytes.Clone(good)
			bad[rand.IntN(512)] ^= 1 << rand.IntN(8)
			r.put(n, bad)
			r.put(twin, bad)
			p, err := Open(r.conf)
			if err == nil && look(t, p) != want {
				t.Errorf("sector %d: opens, and is another pool", n)
			}
			// Roots were written: only what was spoilt is put back.
			if bytes.Equal(r.sector(n), bad) {
				r.put(n, good)
			}
			if bytes.Equal(r.sector(twin), bad) {
				r.put(twin, other)
			}
		}
	}
	r.open()
	if got := look(t, r.pool); got != want {
		t.Errorf("in the end: %s", got)
	}
}

// TestOtherCards: keys, sizes, and cards that are not this board's.
func TestOtherCards(t *testing.T) {
	r, _ := used(t)
	blank := r.conf
	blank.Device = mediumtest.New(cardBlocks)
	other := r.conf
	other.Key = bytes.Repeat([]byte{8}, KeySize)
	smaller := r.conf
	smaller.Size -= ExtentSize
	for _, c := range []struct {
		what string
		conf Config
		want error
	}{{"blank", blank, ErrNotFormatted}, {"another key", other, ErrKey}} {
		if _, err := Open(c.conf); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", c.what, err)
		}
	}
	if _, err := Open(smaller); err == nil {
		t.Error("a smaller place is taken")
	}
	for i, change := range []func(c *Config){
		func(c *Config) { c.Key = nil }, func(c *Config) { c.Device = nil }, func(c *Config) { c.Offset = 512 },
		func(c *Config) { c.Size = 1 << 40 }, func(c *Config) { c.Size = 512 << 10 }, func(c *Config) { c.Records = 63 },
		func(c *Config) { c.Records = -1 }, func(c *Config) { c.Records = 1 << 20 }, func(c *Config) { c.Witness = nil },
	} {
		c := r.conf
		change(&c)
		if Format(c) == nil {
			t.Errorf("configuration %d is taken", i)
		}
	}
	r.open()
}

// copyCard keeps what a thief of the card has.
func (r *rig) copyCard() (all [][]byte) {
	for n := range uint64(poolSectors) {
		all = append(all, r.sector(n))
	}
	return all
}

func (r *rig) restore(all [][]byte) {
	for n, b := range all {
		r.put(uint64(n), b)
	}
}

// TestRolledBack: older copies of the card do not open, whole or in part.
func TestRolledBack(t *testing.T) {
	r, _ := used(t)
	old := r.copyCard()
	for _, o := range operations {
		before := r.copyCard()
		if err := o.do(r.pool); err != nil {
			t.Fatal(err)
		}
		now := r.copyCard()
		r.restore(before)
		if _, err := Open(r.conf); !errors.Is(err, ErrRolledBack) {
			t.Errorf("the card before %s: %v", o.what, err)
		}
		// The newest root with the log that was there before: the operation cut out.
		r.restore(now)
		for c := range 2 {
			for _, n := range logSectors(c) {
				r.put(n, before[n])
			}
		}
		if _, err := Open(r.conf); !errors.Is(err, ErrDamaged) {
			t.Errorf("the log before %s: %v", o.what, err)
		}
		r.restore(now)
		r.open()
	}
	r.restore(old)
	if _, err := Open(r.conf); !errors.Is(err, ErrRolledBack) {
		t.Errorf("an old card: %v", err)
	}
	r.store.era += 5
	if _, err := Open(r.conf); !errors.Is(err, ErrRolledBack) {
		t.Errorf("a card from before the store: %v", err)
	}
}

// TestErase: the salt of before does not come back, not even with the card of before and
// a store that was set back as well; other volumes keep theirs.
func TestErase(t *testing.T) {
	r := filled(t)
	old, era := r.copyCard(), r.store.era
	a, _ := r.pool.Salt("a")
	b, _ := r.pool.Salt("b")
	if err := r.pool.Erase("a"); err != nil {
		t.Fatal(err)
	}
	a2, err := r.pool.Salt("a")
	if err != nil || bytes.Equal(a, a2) || len(a) != SaltSize {
		t.Errorf("the salt after erasing: %v, same %v", err, bytes.Equal(a, a2))
	}
	if b2, err := r.pool.Salt("b"); err != nil || !bytes.Equal(b, b2) {
		t.Errorf("the other volume's salt: %v, same %v", err, bytes.Equal(b, b2))
	}
	r.restore(old)
	r.store.era = era
	r.open()
	for _, name := range []string{"a", "b"} {
		if _, err := r.pool.Salt(name); !errors.Is(err, ErrErased) {
			t.Errorf("an old card's salt of %s opens: %v", name, err)
		}
		if err := r.pool.Erase(name); err != nil {
			t.Errorf("%s cannot be used again: %v", name, err)
		}
		if _, err := r.pool.Salt(name); err != nil {
			t.Error(err)
		}
	}
	// Each moment between the wraps and the TPM, and what a TPM that fails leaves.
	before, _ := r.pool.Salt("a")
	r.store.fail = errors.New("no TPM")
	if err := r.pool.Erase("a"); err == nil {
		t.Error("erased without a TPM")
	}
	r.store.fail = nil
	if after, err := r.pool.Salt("a"); err != nil || !bytes.Equal(before, after) {
		t.Errorf("the salt after an erase that failed: %v", err)
	}
}

// TestBusy: what is open is not changed, and closed is closed.
func TestBusy(t *testing.T) {
	r := prepared(t)
	v := r.model["a"].v
	for what, err := range map[string]error{"open": second(r.pool.Volume("a")), "delete": r.pool.Delete("a"),
		"resize": r.pool.Resize("a", 1)} {
		if !errors.Is(err, ErrBusy) {
			t.Errorf("%s: %v", what, err)
		}
	}
	v.Close()
	b := make([]byte, 4096)
	for what, err := range map[string]error{"read": v.ReadAt(t.Context(), 0, b), "write": v.WriteAt(t.Context(), 0, b),
		"zero": v.Zero(t.Context(), 0, 1), "trim": v.Deallocate(t.Context(), 0, 1), "flush": v.Flush(t.Context())} {
		if !errors.Is(err, volume.ErrClosed) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := r.pool.Delete("a"); err != nil {
		t.Error(err)
	}
	if _, err := r.pool.Find("a"); !errors.Is(err, ErrNoVolume) {
		t.Error(err)
	}
	r.pool.Close()
	if err := r.model["b"].v.WriteAt(t.Context(), 0, b); !errors.Is(err, volume.ErrClosed) {
		t.Error(err)
	}
}

func second[T any](_ T, err error) error { return err }

// TestMany: as many volumes as there may be, and one more; then half of them.
func TestMany(t *testing.T) {
	r := newRig(t)
	for i := range 254 {
		if _, err := r.pool.Create(Spec{Name: string([]byte{'a' + byte(i%26), 'a' + byte(i/26)}), BlockSize: 512, Blocks: 1}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := r.pool.Create(Spec{Name: "more", BlockSize: 512, Blocks: 1}); !errors.Is(err, ErrTooMany) {
		t.Error(err)
	}
	if _, err := r.pool.Create(Spec{Name: "aa", BlockSize: 512, Blocks: 1}); !errors.Is(err, ErrExists) {
		t.Error(err)
	}
	for i := 0; i < 254; i += 2 {
		if err := r.pool.Delete(string([]byte{'a' + byte(i%26), 'a' + byte(i/26)})); err != nil {
			t.Fatal(err)
		}
	}
	before := r.pool.List()
	r.open()
	if after := r.pool.List(); len(after) != 127 || !slices.Equal(before, after) {
		t.Errorf("%d volumes after a mount", len(after))
	}
}

// TestFull: a full pool refuses what is new before it writes it, takes what is there, and
// has room again at once when something is trimmed.
func TestFull(t *testing.T) {
	r := newRig(t)
	per := uint64(ExtentSize / 4096)
	v := r.create("a", 4096, 30*per)
	data := make([]byte, ExtentSize)
	for i := range uint64(testExtents) {
		if err := v.WriteAt(t.Context(), i*per, data); err != nil {
			t.Fatal(err)
		}
	}
	n := len(r.card.Writes())
	if err := v.WriteAt(t.Context(), testExtents*per-1, data); !errors.Is(err, volume.ErrFull) || len(r.card.Writes()) != n {
		t.Errorf("%v after %d writes", err, len(r.card.Writes())-n)
	}
	if err := v.WriteAt(t.Context(), 5, data[:4096]); err != nil {
		t.Error(err)
	}
	if err := v.Zero(t.Context(), 29*per, per); err != nil {
		t.Error(err)
	}
	if err := v.Deallocate(t.Context(), 3*per, 2*per); err != nil {
		t.Error(err)
	}
	if err := v.WriteAt(t.Context(), 25*per, append(data, data...)); err != nil {
		t.Error(err)
	}
	if s := r.pool.Space(); s.Free != 0 {
		t.Errorf("%+v", s)
	}
}

// TestDeviceFails: a failed write of data is the caller's; one of the table stops the
// table until the next mount, and reads go on.
func TestDeviceFails(t *testing.T) {
	r := prepared(t)
	v := r.model["a"].v
	b := make([]byte, ExtentSize)
	if err := v.WriteAt(t.Context(), 0, b); err != nil {
		t.Fatal(err)
	}
	r.card.Fail(errors.New("card"))
	if err := v.WriteAt(t.Context(), 0, b); !errors.Is(err, volume.ErrMedium) {
		t.Error(err)
	}
	if err := v.WriteAt(t.Context(), 32, b); !errors.Is(err, volume.ErrMedium) || errors.Is(err, ErrFailed) {
		t.Error(err)
	}
	r.card.Fail(nil)
	if err := v.WriteAt(t.Context(), 32, b); err != nil {
		t.Error(err)
	}
	if err := v.Deallocate(t.Context(), 0, 32); err != nil {
		t.Error(err)
	}
	r.card.Fail(errors.New("card"))
	if err := v.Flush(t.Context()); !errors.Is(err, ErrFailed) || !errors.Is(err, volume.ErrMedium) {
		t.Error(err)
	}
	r.card.Fail(nil)
	if err := v.WriteAt(t.Context(), 64, b); !errors.Is(err, ErrFailed) {
		t.Error(err)
	}
	if err := v.WriteAt(t.Context(), 32, b); err != nil {
		t.Error(err)
	}
	if err := v.ReadAt(t.Context(), 0, b); err != nil {
		t.Error(err)
	}
	free := r.pool.Space().Free
	r.model = nil
	r.open()
	if s := r.pool.Space(); s.Free != free-1 {
		t.Errorf("%+v, %d free before: the deallocation was not durable", s, free)
	}
}

// TestWitnessFails: the era is one ahead, never two.
func TestWitnessFails(t *testing.T) {
	r := filled(t)
	r.store.fail = errors.New("store")
	if err := r.pool.Resize("a", 3); err == nil {
		t.Fatal("no error")
	}
	r.store.fail = nil
	if err := r.pool.Resize("a", 4); err == nil {
		t.Fatal("a second era without the first one's witness")
	}
	r.open()
	if i, _ := r.pool.Find("a"); i.Blocks != 3 {
		t.Errorf("%+v", i)
	}
}

// TestFormatCut: a cut leaves no pool, the old one, or a whole and empty one; the old one does
// not shine through.
func TestFormatCut(t *testing.T) {
	r := filled(t)
	r.card.Settle()
	if err := Format(r.conf); err != nil {
		t.Fatal(err)
	}
	opened := 0
	points := append(cutPoints(r.card), sectors(r.card))
	for i, n := range points {
		if few() && i%4 != 0 && i < len(points)-3 {
			continue
		}
		r := filled(t)
		r.card.CutAfter(n, mediumtest.Tears[i%4])
		err := Format(r.conf)
		r.card.PowerOn()
		p, openErr := Open(r.conf)
		switch {
		case openErr == nil && n <= 1: // the old pool has a superblock yet
		case openErr == nil:
			opened++
			if len(p.List()) != 0 || p.Space().Free != testExtents {
				t.Errorf("cut after %d: %+v", n, p.List())
			}
		case err == nil || !errors.Is(openErr, ErrNotFormatted) && !errors.Is(openErr, ErrKey) && !errors.Is(openErr, volume.ErrMedium):
			t.Errorf("cut after %d: %v", n, openErr)
		}
	}
	if opened < 2 {
		t.Errorf("%d opened", opened)
	}
}

// plain is a card that needs no lock, for what runs at the same time.
type plain struct {
	mu sync.Mutex
	*mediumtest.Card
}

func (p *plain) ReadBlocks(first uint64, b []byte) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.Card.ReadBlocks(first, b)
}

func (p *plain) WriteBlocks(first uint64, b []byte) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.Card.WriteBlocks(first, b)
}

// TestTogether: several volumes, several writers, trims and new volumes at once. What a
// writer wrote it reads.
func TestTogether(t *testing.T) {
	r := newRig(t)
	r.conf.Device = &plain{Card: r.card}
	r.open()
	var wg sync.WaitGroup
	for w := range 4 {
		name := string(rune('a' + w))
		if _, err := r.pool.Create(Spec{Name: name, BlockSize: 4096, Blocks: 5 * 32}); err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			v, err := r.pool.Volume(name)
			if err != nil {
				t.Error(err)
				return
			}
			got := make([]byte, 3*4096)
			for i := range uint64(60) {
				want := content(4096, i+1, uint64(w), i)
				err := errors.Join(v.WriteAt(t.Context(), i*7%157, want), v.ReadAt(t.Context(), i*7%157, got))
				if err != nil || !bytes.Equal(got, want) {
					t.Errorf("%s: %v", name, err)
					return
				}
				if i%9 == 0 {
					err = errors.Join(v.Deallocate(t.Context(), 0, 160), v.Flush(t.Context()))
				}
				if err != nil {
					t.Error(err)
				}
				r.pool.List()
				r.pool.Space()
			}
		})
	}
	wg.Wait()
	r.open()
}

// logSectors are the places of both rings.
func logSectors(copy int) []uint64 { return metadata(copy)[9-copy:][:64] }

// TestTail: a record that a cut has left in one copy is in both after a mount.
func TestTail(t *testing.T) {
	r := prepared(t)
	data := make([]byte, ExtentSize)
	r.card.CutAfter(len(data)/512+1, mediumtest.Prefix) // data and the record's first copy
	if err := r.model["a"].v.WriteAt(t.Context(), 0, data); !errors.Is(err, mediumtest.ErrPowerCut) {
		t.Fatal(err)
	}
	r.card.PowerOn()
	r.model = nil
	r.open()
	if s := r.pool.Space(); s.Free != testExtents-1 {
		t.Fatalf("%+v", s)
	}
	for _, n := range logSectors(0) {
		r.put(n, make([]byte, 512))
	}
	r.open()
	if s := r.pool.Space(); s.Free != testExtents-1 {
		t.Errorf("%+v: the record had one copy", s)
	}
}

// logs keeps both rings.
func (r *rig) logs() (all [2][][]byte) {
	for c := range 2 {
		for _, n := range logSectors(c) {
			all[c] = append(all[c], r.sector(n))
		}
	}
	return all
}

// TestLog: a log that is damaged before its end, or continued by another time's records,
// is not cut short.
func TestLog(t *testing.T) {
	r := prepared(t)
	r.reopen()
	card, era := r.copyCard(), r.store.era
	write := func(at uint64) [2][][]byte {
		t.Helper()
		if err := r.model["a"].v.WriteAt(t.Context(), at*32, make([]byte, ExtentSize)); err != nil {
			t.Fatal(err)
		}
		return r.logs()
	}
	before := r.logs()
	one, two := write(1), write(2)
	changed := func(a, b [2][][]byte) int {
		return slices.IndexFunc(a[0], func(s []byte) bool {
			return !slices.ContainsFunc(b[0], func(o []byte) bool { return bytes.Equal(s, o) })
		})
	}
	first, second := changed(one, before), changed(two, one)
	for c := range 2 {
		r.put(logSectors(c)[first], make([]byte, 512))
	}
	if _, err := Open(r.conf); !errors.Is(err, ErrDamaged) {
		t.Errorf("a record is gone: %v", err)
	}
	r.restore(card)
	r.store.era = era
	r.reopen()
	write(3)
	for c := range 2 {
		r.put(logSectors(c)[second], two[c][second])
	}
	if _, err := Open(r.conf); !errors.Is(err, ErrDamaged) {
		t.Errorf("another time's record: %v", err)
	}
}

// churn writes and frees an extent, in two records each time.
func (r *rig) churn(name string, times int) {
	r.t.Helper()
	m := r.model[name]
	for i := range times {
		if err := errors.Join(m.write(r.t, 0, 1, uint64(i)), m.deallocate(r.t, 0, uint64(len(m.block))), m.flush(r.t)); err != nil {
			r.t.Fatal(err)
		}
	}
}

// TestOldChunks: chunks of an earlier checkpoint do not pass for the newest's, which would
// bring back what was freed.
func TestOldChunks(t *testing.T) {
	r := prepared(t)
	a := r.model["a"]
	if err := a.write(t, 0, 1, 1); err != nil {
		t.Fatal(err)
	}
	r.churn("b", 100)
	old := r.copyCard()
	if err := a.deallocate(t, 0, 32); err != nil {
		t.Fatal(err)
	}
	r.churn("b", 100)
	for c := range 2 {
		for _, n := range metadata(c)[9+64-c : metaSectors-c] {
			r.put(n, old[n])
		}
	}
	if _, err := Open(r.conf); !errors.Is(err, ErrDamaged) {
		t.Error(err)
	}
}

// TestCheckpointBegins: wherever a checkpoint begins, the record before it is in it.
func TestCheckpointBegins(t *testing.T) {
	for n := range 40 {
		if few() && (n < 26 || n > 34) {
			continue
		}
		r := prepared(t)
		r.churn("b", n/2)
		a := r.model["a"]
		if n%2 == 1 {
			if err := a.write(t, 0, 1, 1); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := r.pool.Create(Spec{Name: "c", BlockSize: 512, Blocks: 1}); err != nil {
			t.Fatal(err)
		}
		r.churn("b", 10)
		r.open()
		if _, err := r.pool.Find("c"); err != nil {
			t.Errorf("behind %d records: %v", n, err)
		}
	}
}

// TestMounts: restarts that are more frequent than checkpoints take long do not fill the
// log; and each makes an older card useless.
func TestMounts(t *testing.T) {
	r := prepared(t)
	before := r.copyCard()
	for i := range 36 {
		r.reopen()
		m := r.model["a"]
		if err := m.write(t, uint64(i%6)*32, 32, uint64(i+1)<<16); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(m.deallocate(t, uint64(i%6)*32, 32), m.flush(t), m.write(t, 192, 1, uint64(i))); err != nil {
			t.Fatal(err)
		}
	}
	r.reopen()
	now := r.copyCard()
	r.open()
	for _, old := range [][][]byte{before, now} {
		r.restore(old)
		if _, err := Open(r.conf); !errors.Is(err, ErrRolledBack) {
			t.Error(err)
		}
	}
}

// TestGrow: what was behind a smaller end does not come back.
func TestGrow(t *testing.T) {
	r := filled(t)
	if err := errors.Join(r.pool.Resize("a", 40), r.pool.Resize("a", 70)); err != nil {
		t.Fatal(err)
	}
	v, err := r.pool.Volume("a")
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 70*4096)
	if err := v.ReadAt(t.Context(), 0, b); err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(b[:40*4096], []byte{0}); n == 40*4096 {
		t.Error("what is before the end is gone")
	}
	if n := bytes.Count(b[40*4096:], []byte{0}); n != 30*4096 {
		t.Error("what was behind the end is there")
	}
}
