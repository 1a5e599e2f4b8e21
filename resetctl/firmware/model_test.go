package firmware

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"nitro/boot/image"
	"nitro/boot/image/imagetest"
	"nitro/boot/medium"
	"nitro/boot/medium/mediumtest"
	"nitro/boot/store"
)

// A world is a card with the store, the TPM's counter and a flash, which lose their power
// together. A sector written to the card, a step of the counter, an erase block and a
// page of the flash are an event each.
type world struct {
	card   *mediumtest.Card
	value  uint64 // of the counter
	random *rand.ChaCha8
	chip   *chip

	left   int // events until the power goes; negative: never
	tear   mediumtest.Tear
	off    bool
	events int

	writes []write // to the card
}

// A write is where one was.
type write struct {
	first uint64
	n     int // bytes
}

const (
	sectorSize = 512
	storeSize  = 1 << 20 // the smallest store
)

var errPower = errors.New("the power is off")

// newWorld is a board with an empty store and a blank flash.
func newWorld(t testing.TB, place int64, flash *chip) *world {
	w := &world{card: mediumtest.New(uint64(place / sectorSize)), value: 41, random: rand.NewChaCha8([32]byte{7}), chip: flash, left: -1}
	flash.w = w
	if err := store.Format(w.config(place)); err != nil {
		t.Fatal(err)
	}
	return w
}

// copy is another board in the same state.
func (w *world) copy() *world {
	c := *w
	w.card.Settle()
	for _, s := range w.card.States() {
		c.card = s
		break
	}
	c.random = rand.NewChaCha8([32]byte{8, byte(w.events), byte(w.events >> 8)})
	c.writes = slices.Clone(w.writes)
	chip := *w.chip
	chip.mem, chip.guarded = bytes.Clone(chip.mem), append([][2]int64(nil), chip.guarded...)
	c.chip = &chip
	chip.w = &c
	return &c
}

func (w *world) config(size int64) store.Config {
	return store.Config{Device: w, Place: medium.Place{Size: size}, Key: bytes.Repeat([]byte{0x5a}, store.KeySize), Counter: w, Rand: w.random}
}

// golden mounts the store and opens the golden copy for the test's part.
func (w *world) golden(t testing.TB, p Part) *Golden {
	t.Helper()
	s, err := store.Open(w.config(int64(w.card.Blocks() * sectorSize)))
	if err != nil {
		t.Fatal(err)
	}
	return New(w.accepts(p, s))
}

func (w *world) accepts(p Part, s *store.Store) Config {
	return Config{Part: p, Host: hostName, Product: imagetest.Product, Store: s, Rand: rand.NewChaCha8([32]byte{9}),
		Authorities: []image.Authority{imagetest.Authority(image.Release, "one")}}
}

// event is one more; it tells whether the power goes in it.
func (w *world) event() (cut bool) {
	w.events++
	if w.left == 0 {
		w.off = true
	}
	if w.left > 0 {
		w.left--
	}
	return w.off
}

func (w *world) powerOn() {
	w.card.PowerOn()
	w.off, w.left = false, -1
}

func (w *world) BlockSize() int { return sectorSize }
func (w *world) Blocks() uint64 { return w.card.Blocks() }

func (w *world) ReadBlocks(first uint64, p []byte) error {
	if w.off {
		return errPower
	}
	return w.card.ReadBlocks(first, p)
}

func (w *world) WriteBlocks(first uint64, p []byte) error {
	if w.off {
		return errPower
	}
	for i := range len(p) / sectorSize {
		if w.event() {
			w.card.CutAfter(i, w.tear)
			break
		}
	}
	w.writes = append(w.writes, write{first, len(p)})
	return w.card.WriteBlocks(first, p)
}

func (w *world) Read() (uint64, error) {
	if w.off {
		return 0, errPower
	}
	return w.value, nil
}

func (w *world) Increment() (uint64, error) {
	if w.off || w.event() {
		return 0, errPower
	}
	w.value++
	return w.value, nil
}

// A chip is a NOR flash: erase blocks become FFh, writing only clears bits, protected
// ranges ignore both, as chips do.
type chip struct {
	w       *world
	mem     []byte
	block   int64
	unit    int64 // protection is of whole units
	guarded [][2]int64

	// Faults.
	stuck   map[int64]byte                  // bits that stay 0
	read    func(n int, at int64, p []byte) // changes what the nth read gives
	protect func(*chip, [][2]int64) [][2]int64
	status  func(n int, is [][2]int64) [][2]int64 // changes what the nth read of the protection gives
	fault   error

	reads, statuses, bytesRead int
	erasures, pages, ignored   int
}

const pageSize = 256

func newChip(size, block int64) *chip {
	return &chip{mem: bytes.Repeat([]byte{0xff}, int(size)), block: block, unit: block}
}

func (c *chip) Size() int64      { return int64(len(c.mem)) }
func (c *chip) EraseSize() int64 { return c.block }

func (c *chip) access(p int64, at int64) error {
	switch {
	case c.w.off:
		return errPower
	case c.fault != nil:
		return c.fault
	case at < 0 || p > c.Size() || at > c.Size()-p:
		return fmt.Errorf("%d bytes at %d", p, at)
	}
	return nil
}

func (c *chip) ReadAt(p []byte, at int64) (int, error) {
	if err := c.access(int64(len(p)), at); err != nil {
		return 0, err
	}
	c.reads++
	c.bytesRead += len(p)
	copy(p, c.mem[at:])
	if c.read != nil {
		c.read(c.reads, at, p)
	}
	return len(p), nil
}

func (c *chip) isGuarded(at int64) bool {
	for _, r := range c.guarded {
		if at >= r[0] && at < r[0]+r[1] {
			return true
		}
	}
	return false
}

func (c *chip) set(at int64, v byte) { c.mem[at] = v &^ c.stuck[at] }

func (c *chip) Erase(at, n int64) error {
	if err := c.access(n, at); err != nil {
		return err
	}
	if at%c.block != 0 || n%c.block != 0 || n == 0 {
		return fmt.Errorf("erase of %d bytes at %d", n, at)
	}
	for ; n > 0; at, n = at+c.block, n-c.block {
		if c.isGuarded(at) {
			c.ignored++
			continue
		}
		c.erasures++
		cut := c.w.event()
		for i := range c.block {
			if cut && rand.IntN(2) == 0 {
				c.set(at+i, byte(rand.Uint32())) // neither old nor new
				continue
			}
			c.set(at+i, 0xff)
		}
		if cut {
			return errPower
		}
	}
	return nil
}

func (c *chip) WriteAt(p []byte, at int64) (n int, err error) {
	if err := c.access(int64(len(p)), at); err != nil {
		return 0, err
	}
	for ; n < len(p); n += pageSize {
		if c.isGuarded(at + int64(n)) {
			c.ignored++
			continue
		}
		c.pages++
		cut := c.w.event()
		for i, v := range p[n:min(n+pageSize, len(p))] {
			if cut {
				v |= byte(rand.Uint32()) // some bits are not programmed yet
			}
			c.set(at+int64(n+i), c.mem[at+int64(n+i)]&v)
		}
		if cut {
			return n, errPower
		}
	}
	return len(p), nil
}

// Protect protects the whole units within the ranges.
func (c *chip) Protect(ranges [][2]int64) error {
	if err := c.access(0, 0); err != nil {
		return err
	}
	var is [][2]int64
	for _, r := range ranges {
		from := (r[0] + c.unit - 1) / c.unit * c.unit
		if to := (r[0] + r[1]) / c.unit * c.unit; to > from {
			is = append(is, [2]int64{from, to - from})
		}
	}
	if c.protect != nil {
		is = c.protect(c, is)
	}
	c.guarded = is
	return nil
}

func (c *chip) Protected() ([][2]int64, error) {
	if err := c.access(0, 0); err != nil {
		return nil, err
	}
	c.statuses++
	if c.status != nil {
		return c.status(c.statuses, c.guarded), nil
	}
	return c.guarded, nil
}
