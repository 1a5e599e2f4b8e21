package pool_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"

	"nitro/boot/medium/mediumtest"
	. "nitro/nvme/pool"
	"nitro/nvme/volume"
)

// The pool of the tests lies behind some blocks that are not its own.
const (
	testOffset  = 2 * ExtentSize
	testExtents = 24
	testSize    = 512<<10 + testExtents*ExtentSize // what a log of 64 records leaves 24 of
	cardBlocks  = (testOffset+testSize)/512 + 100
)

// few asks for fewer cases, in short tests on an emulated machine.
func few() bool { return testing.Short() && runtime.GOARCH == "arm" }

// store is what the pool rests on: witness and erase secret, in memory, cut by the power
// as the card is.
type store struct {
	card   *mediumtest.Card
	era    uint64
	secret [32]byte
	fail   error
	erases int
}

func (s *store) Era() (uint64, error) { return s.era, s.fail }

func (s *store) SetEra(e uint64) error {
	if s.card.Off() {
		return mediumtest.ErrPowerCut
	}
	if s.fail == nil {
		s.era = e
	}
	return s.fail
}

func (s *store) EraseSecret() ([]byte, error) { return bytes.Clone(s.secret[:]), s.fail }

func (s *store) EraseAll(secret [32]byte) error {
	if s.card.Off() {
		return mediumtest.ErrPowerCut
	}
	if s.fail == nil {
		s.secret = secret
		s.erases++
	}
	return s.fail
}

// rig is a card with a pool, and the model of what must be on it.
type rig struct {
	t     testing.TB
	card  *mediumtest.Card
	store *store
	conf  Config
	pool  *Pool
	model map[string]*model
	seed  uint64
}

// model is a volume: what each block holds, 0 is zeros, otherwise repeated.
type model struct {
	spec  Spec
	v     *Volume
	block []uint64
	may   map[uint64][]uint64 // what a cut may leave instead
	noise map[uint64]bool     // being overwritten when the power went: anything
}

func newRig(t testing.TB) *rig {
	t.Helper()
	r := &rig{t: t, card: mediumtest.New(cardBlocks), model: map[string]*model{}}
	r.store = &store{card: r.card, era: 41}
	r.conf = Config{Device: r.card, Offset: testOffset, Size: testSize, Key: bytes.Repeat([]byte{7}, KeySize),
		Witness: r.store, Erase: r.store, Records: 64}
	if err := Format(r.conf); err != nil {
		t.Fatal(err)
	}
	r.open()
	return r
}

func (r *rig) open() {
	r.t.Helper()
	var err error
	if r.pool, err = Open(r.conf); err != nil {
		r.t.Fatalf("open: %v", err)
	}
	for name, m := range r.model {
		if m.v, err = r.pool.Volume(name); err != nil {
			r.t.Fatal(err)
		}
	}
}

func (r *rig) create(name string, size int, blocks uint64) *Volume {
	r.t.Helper()
	s := Spec{Name: name, BlockSize: size, Blocks: blocks, Commitment: [32]byte{byte(blocks)}}
	if _, err := r.pool.Create(s); err != nil {
		r.t.Fatal(err)
	}
	v, err := r.pool.Volume(name)
	if err != nil {
		r.t.Fatal(err)
	}
	r.model[name] = &model{spec: s, v: v, block: make([]uint64, blocks)}
	return v
}

// content is blocks that hold a number each.
func content(size int, ids ...uint64) []byte {
	b := make([]byte, 0, size*len(ids))
	for _, id := range ids {
		for range size / 8 {
			b = binary.LittleEndian.AppendUint64(b, id)
		}
	}
	return b
}

// step does one random operation to the volumes and the model.
func (r *rig) step(x *rand.Rand) error {
	names := slices.Sorted(func(yield func(string) bool) {
		for n := range r.model {
			if !yield(n) {
				return
			}
		}
	})
	m := r.model[names[x.IntN(len(names))]]
	total := uint64(len(m.block))
	per := uint64(ExtentSize / m.spec.BlockSize)
	lba := x.Uint64N(total)
	most := []uint64{1, per / 4, per, 3 * per}[x.IntN(4)]
	if x.IntN(3) == 0 {
		lba = lba / per * per
	}
	n := min(1+x.Uint64N(most), total-lba)
	if x.IntN(3) == 0 {
		n = min(per, total-lba)
	}
	switch x.IntN(10) {
	case 0, 1:
		return m.deallocate(r.t, lba, n)
	case 2:
		return m.zero(r.t, lba, n)
	case 3:
		return m.flush(r.t)
	}
	r.seed++
	return m.write(r.t, lba, n, r.seed<<16)
}

func (m *model) maybe(lba, value uint64) {
	if m.may == nil {
		m.may = map[uint64][]uint64{}
	}
	m.may[lba] = append(m.may[lba], value)
}

// write writes blocks that hold id, id + 1, and so on.
func (m *model) write(t testing.TB, lba, n, id uint64) error {
	ids := make([]uint64, n)
	for i := range ids {
		ids[i] = id + uint64(i) + 1
	}
	err := m.v.WriteAt(t.Context(), lba, content(m.spec.BlockSize, ids...))
	for i, id := range ids {
		at := lba + uint64(i)
		m.change(at, id, err)
	}
	return err
}

// change notes what an operation did, or may have done.
func (m *model) change(at, id uint64, err error) {
	switch {
	case err == nil:
		m.block[at] = id
		delete(m.may, at)
	case errors.Is(err, mediumtest.ErrPowerCut):
		m.maybe(at, id)
		if m.noise == nil {
			m.noise = map[uint64]bool{}
		}
		m.noise[at] = true
	}
}

func (m *model) zero(t testing.TB, lba, n uint64) error {
	err := m.v.Zero(t.Context(), lba, n)
	for at := lba; at < lba+n; at++ {
		m.change(at, 0, err)
	}
	return err
}

func (m *model) deallocate(t testing.TB, lba, n uint64) error {
	err := m.v.Deallocate(t.Context(), lba, n)
	per := uint64(ExtentSize / m.spec.BlockSize)
	first, end := (lba+per-1)/per*per, (lba+n)/per*per
	if lba+n == uint64(len(m.block)) {
		end = lba + n
	}
	for at := first; at < end; at++ {
		old := m.block[at]
		if err == nil {
			m.block[at] = 0
			m.maybe(at, old)
		} else {
			m.maybe(at, 0)
		}
	}
	return err
}

func (m *model) flush(t testing.TB) error {
	err := m.v.Flush(t.Context())
	if err == nil {
		m.may = nil
	}
	return err
}

// verify compares all volumes with the model. After a cut the model takes over what it
// finds, if that is allowed.
func (r *rig) verify(after bool) {
	r.t.Helper()
	for name, m := range r.model {
		size := m.spec.BlockSize
		b := make([]byte, size)
		all := make([]byte, size*len(m.block))
		whole := m.v.ReadAt(r.t.Context(), 0, all) == nil
		for i, want := range m.block {
			at := uint64(i)
			if whole {
				b = all[i*size:][:size]
			} else if err := m.v.ReadAt(r.t.Context(), at, b); err != nil {
				if !after || !m.noise[at] || !errors.Is(err, volume.ErrMedium) {
					r.t.Fatalf("%s: block %d: %v", name, at, err)
				}
				if err := m.write(r.t, at, 1, 1); err != nil { // so that it can be read again
					r.t.Fatal(err)
				}
				continue
			}
			got := binary.LittleEndian.Uint64(b)
			uniform := bytes.Equal(b, content(size, got))
			switch {
			case uniform && got == want:
			case after && uniform && slices.Contains(m.may[at], got):
				m.block[at] = got
			case after && m.noise[at]:
				if err := m.write(r.t, at, 1, 1); err != nil {
					r.t.Fatal(err)
				}
			default:
				r.t.Fatalf("%s: block %d holds %#x, want %#x or %#x", name, at, got, want, m.may[at])
			}
		}
		if after {
			m.may, m.noise = nil, nil
		}
	}
}

// reopen mounts the card again, as after a cut.
func (r *rig) reopen() {
	r.t.Helper()
	r.card.PowerOn()
	r.open()
	r.verify(true)
}
