package store

import (
	"bytes"
	"crypto/cipher"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"golang.org/x/crypto/chacha20poly1305"

	"nitro/boot/medium"
	"nitro/boot/medium/mediumtest"
)

// small is the extent of most tests: 32 segments from the third sector on.
var small = medium.Place{Offset: 3 * sectorSize, Size: minSegments * segmentSize}

// A board is a card and a counter that lose their power together. Each sector that is
// written is an event, and so are the moments before and after a step of the counter.
type board struct {
	card  *mediumtest.Card
	value uint64 // of the counter
	left  int    // events until the power goes; negative: never
	tear  mediumtest.Tear
	off   bool

	events int
	random *rand.ChaCha8
	broken map[uint64]bool // blocks that refuse to be written
	dumb   error           // what the counter answers
	window int             // of the stores
	watch  func()          // told before each write of the card, and around each step; or nil
	late   []func()        // steps of the counter that are to be done in the background
	delay  int             // writes of the card until they are done
	reads  int             // sectors
	writes int
}

func newBoard(blocks uint64) *board {
	return &board{card: mediumtest.New(blocks), value: 41, left: -1, random: rand.NewChaCha8([32]byte{7}), broken: map[uint64]bool{}}
}

func smallBoard() *board { return newBoard(uint64(small.Offset+small.Size)/sectorSize + 5) }

// copies seeds the random generators of copies, which are never in the same state.
var copies int

// copy is another board in the same state.
func (b *board) copy() *board {
	c := *b
	b.card.Settle()
	for _, s := range b.card.States() {
		c.card = s
		break
	}
	copies++
	c.random = rand.NewChaCha8([32]byte{8, byte(copies), byte(copies >> 8), byte(copies >> 16)})
	c.broken = maps.Clone(b.broken)
	c.late, c.watch = nil, nil
	return &c
}

// background has a step come at once, after some writes of the card, or when a writer needs
// it: that follows from the counter's value, so that a script comes out the same each time.
func (b *board) background(step func()) {
	b.late, b.delay = append(b.late, step), int(b.value%6)
	if b.delay == 5 {
		b.delay = 1 << 30
	}
	b.work()
}

// work does what is due in the background.
func (b *board) work() {
	if len(b.late) == 0 {
		return
	}
	if b.delay > 0 {
		b.delay--
		return
	}
	due := b.late
	b.late = nil
	for _, step := range due {
		step()
	}
}

func (b *board) BlockSize() int { return b.card.BlockSize() }
func (b *board) Blocks() uint64 { return b.card.Blocks() }

func (b *board) ReadBlocks(first uint64, p []byte) error {
	b.reads += len(p) / sectorSize
	return b.card.ReadBlocks(first, p)
}

var errBroken = errors.New("the block is broken")

func (b *board) WriteBlocks(first uint64, p []byte) error {
	b.work()
	b.look()
	n := len(p) / sectorSize
	if b.left >= 0 && b.left < n {
		b.card.CutAfter(b.left, b.tear)
		b.off = true
	} else if b.left >= 0 {
		b.left -= n
	}
	for i := range n {
		if b.broken[first+uint64(i)] {
			return errBroken
		}
	}
	b.events += n
	b.writes += n
	return b.card.WriteBlocks(first, p)
}

func (b *board) Read() (uint64, error) {
	if b.off {
		return 0, mediumtest.ErrPowerCut
	}
	return b.value, b.dumb
}

func (b *board) Increment() (uint64, error) {
	if b.dumb != nil {
		return 0, b.dumb
	}
	b.events += 2
	for i := range 2 {
		if b.off || b.left == 0 {
			b.off = true
			b.card.CutAfter(0, b.tear)
			return 0, mediumtest.ErrPowerCut
		}
		if b.left > 0 {
			b.left--
		}
		b.look()
		if i == 0 {
			b.value++
		}
	}
	return b.value, nil
}

func (b *board) look() {
	if b.watch != nil {
		b.watch()
	}
}

func (b *board) powerOn() {
	b.card.PowerOn()
	b.off, b.left = false, -1
}

// config is that of a store to be opened; of one that was there nothing goes on.
func (b *board) config() Config {
	b.late = nil
	return Config{Device: b, Place: small, Key: bytes.Repeat([]byte{0x5a}, KeySize), Counter: b, Rand: b.random, Window: b.window, background: b.background}
}

// sector reads and changes a sector of the small extent.
func (b *board) sector(n int) []byte {
	p := make([]byte, sectorSize)
	if err := b.card.ReadBlocks(uint64(small.Offset/sectorSize)+uint64(n), p); err != nil {
		panic(err)
	}
	return p
}

func (b *board) setSector(n int, p []byte) {
	if err := b.card.WriteBlocks(uint64(small.Offset/sectorSize)+uint64(n), p); err != nil {
		panic(err)
	}
}

// copySegment takes a segment over from another board.
func (b *board) copySegment(from *board, segment, to int) {
	for i := range segmentSectors {
		b.setSector(to*segmentSectors+i, from.sector(segment*segmentSectors+i))
	}
}

func format(t testing.TB, b *board) {
	t.Helper()
	if err := Format(b.config()); err != nil {
		t.Fatal(err)
	}
}

func mount(t testing.TB, b *board) *Store {
	t.Helper()
	s, err := Open(b.config())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func want(t testing.TB, err, is error) {
	t.Helper()
	if !errors.Is(err, is) {
		t.Fatalf("%v, not: %v", err, is)
	}
}

// A model is what a store should hold.
type model map[string][]byte

// differs says what a store holds otherwise.
func (m model) differs(s *Store) error {
	names, err := s.List("")
	if err != nil {
		return err
	}
	if is := slices.Sorted(maps.Keys(m)); !slices.Equal(names, is) {
		return fmt.Errorf("records %.300q, not %.300q", names, is)
	}
	for name, v := range m {
		got, err := s.Get(name)
		if err != nil {
			return err
		}
		if !bytes.Equal(got, v) {
			return fmt.Errorf("record %q: %d bytes, not %d, or others", name, len(got), len(v))
		}
	}
	return s.consistent()
}

// consistent checks what the store counts against what is there.
func (s *Store) consistent() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var kinds [refused + 1]int
	live := map[int]int{}
	used := map[int]string{}
	sum := 0
	for n := range s.table {
		kinds[s.table[n].kind]++
	}
	claim := func(n int, what string, k kind) error {
		if was, double := used[n]; double || s.table[n].kind != k {
			return fmt.Errorf("segment %d is %s, %s and of kind %d", n, was, what, s.table[n].kind)
		}
		used[n] = what
		return nil
	}
	var problems []error
	for _, e := range s.index {
		live[int(e.segment)] += int(e.length)
		sum += int(e.length)
		if e.large != nil {
			for _, n := range e.large.segments {
				problems = append(problems, claim(n, "of a value", valued))
			}
		}
	}
	for _, t := range s.root.tail {
		if !s.table[t.segment].tail {
			problems = append(problems, fmt.Errorf("segment %d is of the tail", t.segment))
		}
	}
	for n := range s.table {
		t := &s.table[n]
		if t.live != live[n] || t.live > 0 && t.kind != logged || t.kind == logged && t.live == 0 && !t.tail {
			problems = append(problems, fmt.Errorf("segment %d: kind %d, %d bytes live, not %d", n, t.kind, t.live, live[n]))
		}
	}
	for _, n := range s.root.body {
		problems = append(problems, claim(n, "of the body", bodied))
	}
	if sum != s.live || kinds[free] != s.free || kinds[logged] != s.log || kinds[valued] != s.data || kinds[refused] != s.bad || kinds[waiting] != len(s.waiting) || kinds[bodied] != len(s.root.body) {
		problems = append(problems, fmt.Errorf("live %d, not %d; kinds %v, counted free %d log %d data %d bad %d waiting %d", s.live, sum, kinds, s.free, s.log, s.data, s.bad, len(s.waiting)))
	}
	return errors.Join(problems...)
}

// nonces watches that no nonce comes twice under a key, but for the same message (a root
// is written twice).
type nonces struct {
	mu    sync.Mutex
	seen  map[[44]byte]bool
	seals int
	twice int
}

// watched is a cipher that tells of its nonces.
type watched struct {
	cipher.AEAD
	key [32]byte
	n   *nonces
}

func (w *watched) Seal(dst, nonce, plain, ad []byte) []byte {
	w.n.mu.Lock()
	defer w.n.mu.Unlock()
	id := [44]byte(append(w.key[:], nonce...))
	w.n.seals++
	if w.n.seen[id] {
		w.n.twice++
	}
	w.n.seen[id] = true
	return w.AEAD.Seal(dst, nonce, plain, ad)
}

// watch has all stores of a test be watched.
func watch(t *testing.T) *nonces {
	n := &nonces{seen: map[[44]byte]bool{}}
	newAEAD = func(key []byte) (cipher.AEAD, error) {
		a, err := chacha20poly1305.New(key)
		return &watched{a, sha256.Sum256(key), n}, err
	}
	t.Cleanup(func() {
		newAEAD = chacha20poly1305.New
		if n.twice > 0 {
			t.Errorf("%d of %d nonces came twice", n.twice, n.seals)
		}
	})
	return n
}

func (n *nonces) forget() {
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.seen)
}

// value makes bytes that can be told from others.
func value(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	x := r.Uint64()
	for i := range b {
		b[i] = byte(x >> (i % 57))
		if i%57 == 0 {
			x = x*6364136223846793005 + 1442695040888963407
		}
	}
	return b
}
