package firmware

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"nitro/attest/sha256"
	"nitro/boot/code"
	"nitro/boot/image"
	"nitro/boot/image/imagetest"
	"nitro/boot/medium/mediumtest"
	"nitro/boot/store"
)

const (
	hostName = "acme-x1"
	block    = 4 << 10
	flashLen = 96 << 10
)

// layout is a small flash of all kinds of regions: two static ones that touch, and one
// that lies alone.
func layout(version string, securityVersion uint32) *Manifest {
	return &Manifest{Part: Host, Host: hostName, Version: version, SecurityVersion: securityVersion, Size: flashLen, Erase: block, Regions: []Region{
		{Name: "boot", Offset: 0, Length: 8 << 10, Kind: Static},
		{Name: "settings", Offset: 8 << 10, Length: 8 << 10, Kind: Mutable},
		{Name: "cache", Offset: 16 << 10, Length: 8 << 10, Kind: Erasable},
		{Name: "main", Offset: 24 << 10, Length: 68 << 10, Kind: Static},
		{Name: "top", Offset: 92 << 10, Length: 4 << 10, Kind: Static},
	}}
}

// content is what a version's flash is to hold.
func content(seed byte, size int) []byte {
	b := make([]byte, size)
	rand.NewChaCha8([32]byte{seed}).Read(b)
	return b
}

// pack makes a package, signed by the test's authority.
func pack(t testing.TB, m *Manifest, flash []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := Package(&b, m, imagetest.Header(m.Part.component(), m.Version, m.SecurityVersion), flash, imagetest.Signer(image.Release, "one")); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// holds compares the static regions of a flash with a content.
func holds(t testing.TB, c *chip, m *Manifest, want []byte) {
	t.Helper()
	for _, r := range m.of(Static) {
		if !bytes.Equal(c.mem[r.Offset:r.Offset+r.Length], want[r.Offset:r.Offset+r.Length]) {
			t.Errorf("region %q is not what it should be", r.Name)
		}
	}
}

// first is a world whose flash holds version 1. Signing takes its time, so it is made once
// and copied.
var first = sync.OnceValue(func() *world {
	w := newWorld(panics{}, storeSize, newChip(flashLen, block))
	g := w.golden(panics{}, Host)
	flash := content(1, flashLen)
	if _, err := g.Install(bytes.NewReader(pack(panics{}, layout("1.0", 1), flash))); err != nil {
		panic(err)
	}
	if _, err := g.Verify(w.chip, Options{}); err != nil {
		panic(err)
	}
	copy(w.chip.mem[8<<10:], flash[8<<10:24<<10]) // the host writes its settings and cache
	return w
})

// panics stands for a test where there is none.
type panics struct{ testing.TB }

func (panics) Helper()           {}
func (panics) Fatal(args ...any) { panic(fmt.Sprint(args...)) }

// installed is a copy of first.
func installed(t testing.TB) (*world, *Golden, *Manifest, []byte) {
	t.Helper()
	w := first().copy()
	m, flash := layout("1.0", 1), content(1, flashLen)
	for i, r := range m.Regions {
		if r.Kind == Static {
			m.Regions[i].Digest = sha256.Sum256(flash[r.Offset : r.Offset+r.Length])
		}
	}
	return w, w.golden(t, Host), m, flash
}

// TestCycle: a blank flash gets its content as an update, the next cycle reads each
// static byte once and the second look, and writes nothing.
func TestCycle(t *testing.T) {
	w := newWorld(t, storeSize, newChip(flashLen, block))
	g := w.golden(t, Host)
	if _, err := g.Verify(w.chip, Options{}); !errors.Is(err, ErrNoGolden) || code.Of(err) != code.HostFirmware {
		t.Errorf("no golden copy: %v", err)
	}
	m, flash := layout("1.0", 3), content(1, flashLen)
	got, err := g.Install(bytes.NewReader(pack(t, m, flash)))
	if err != nil || got.Version != "1.0" {
		t.Fatal(got, err)
	}
	if floor, err := g.Floor(); floor != 0 || err != nil {
		t.Errorf("floor %d before the flash was verified, %v", floor, err)
	}
	steps := w.value
	r, err := g.Verify(w.chip, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if w.value != steps+1 {
		t.Errorf("%d steps of the counter: an older copy of the card could take the floor back", w.value-steps)
	}
	if !slices.Equal(r.Updated, []string{"boot", "main", "top"}) || r.Recovered != nil || r.Erased != nil || r.Rewritten != 20 || r.Unprotected != nil {
		t.Errorf("%+v", r)
	}
	holds(t, w.chip, m, flash)
	if floor, err := g.Floor(); floor != 3 || err != nil {
		t.Errorf("floor %d after the flash was verified, %v", floor, err)
	}
	if m, floor, err := g.Glance(); m == nil || m.Version != "1.0" || floor != 3 || err != nil {
		t.Errorf("at a glance: %+v, floor %d, %v", m, floor, err)
	}
	g.mu.Lock() // as a cycle does
	if m, _, err := g.Glance(); m != nil || !errors.Is(err, ErrBusy) {
		t.Errorf("at a glance, in a cycle: %+v, %v", m, err)
	}
	g.mu.Unlock()
	events := w.events
	w.chip.bytesRead = 0
	if r, err = g.Verify(w.chip, Options{}); err != nil {
		t.Fatal(err)
	}
	if r.Updated != nil || r.Recovered != nil || w.events != events {
		t.Errorf("a good flash: %+v, %d writes", r, w.events-events)
	}
	if want := 80<<10 + looks*lookSize; w.chip.bytesRead != want {
		t.Errorf("%d bytes read, not %d", w.chip.bytesRead, want)
	}
	if r.Measurement != m.Measurement() || !slices.Equal(r.Measured, m.of(Static)) {
		t.Error("what was measured is not what the manifest has")
	}
	if !slices.Equal(w.chip.guarded, [][2]int64{{0, 8 << 10}, {24 << 10, 72 << 10}}) {
		t.Errorf("protected: %#x", w.chip.guarded)
	}
	if w.chip.ignored != 0 {
		t.Errorf("%d writes into what is protected", w.chip.ignored)
	}
}

// TestMeasurement computes the measurement by hand.
func TestMeasurement(t *testing.T) {
	m := layout("1.0", 1)
	flash := content(1, flashLen)
	pack(t, m, flash)
	var b []byte
	for _, r := range []struct {
		name       string
		from, size int
	}{{"boot", 0, 8 << 10}, {"main", 24 << 10, 68 << 10}, {"top", 92 << 10, 4 << 10}} {
		sum := sha256.Sum256(flash[r.from : r.from+r.size])
		b = append(append(b, byte(len(r.name))), r.name...)
		b = append(le.AppendUint64(le.AppendUint64(b, uint64(r.from)), uint64(r.size)), sum[:]...)
	}
	if m.Measurement() != sha256.Sum256(b) {
		t.Error("the measurement is not that of docs/firmware.md")
	}
}

// TestRecovery corrupts each region in several ways: static ones come back with as many
// erasures as blocks were hit, mutable ones stay, erasable ones are erased with the rest.
func TestRecovery(t *testing.T) {
	w, _, m, flash := installed(t)
	for _, r := range m.Regions {
		for _, c := range []struct {
			name   string
			blocks int
			change func([]byte)
		}{
			{"first bit", 1, func(b []byte) { b[0] ^= 1 }},
			{"last bit", 1, func(b []byte) { b[len(b)-1] ^= 0x80 }},
			{"blank", int(r.Length / block), func(b []byte) { copy(b, bytes.Repeat([]byte{0xff}, len(b))) }},
			{"zero", int(r.Length / block), func(b []byte) { clear(b) }},
		} {
			w := w.copy()
			g := w.golden(t, Host)
			part := w.chip.mem[r.Offset : r.Offset+r.Length]
			c.change(part)
			hostile := bytes.Clone(part)
			w.chip.erasures = 0
			got, err := g.Verify(w.chip, Options{})
			if err != nil {
				t.Errorf("%s, %s: %v", r.Name, c.name, err)
				continue
			}
			holds(t, w.chip, m, flash)
			if r.Kind != Static {
				if got.Recovered != nil || got.Erased != nil || w.chip.erasures != 0 || !bytes.Equal(part, hostile) {
					t.Errorf("%s, %s: %+v, %d erasures", r.Name, c.name, got, w.chip.erasures)
				}
				continue
			}
			if !slices.Equal(got.Recovered, []string{r.Name}) || got.Updated != nil || !slices.Equal(got.Erased, []string{"cache"}) {
				t.Errorf("%s, %s: recovered %v, updated %v, erased %v", r.Name, c.name, got.Recovered, got.Updated, got.Erased)
			}
			if want := c.blocks + 2; got.Rewritten != want || w.chip.erasures != want {
				t.Errorf("%s, %s: %d blocks, %d erasures, not %d", r.Name, c.name, got.Rewritten, w.chip.erasures, want)
			}
			if !bytes.Equal(w.chip.mem[8<<10:16<<10], flash[8<<10:16<<10]) || !blank(w.chip.mem[16<<10:24<<10]) {
				t.Errorf("%s, %s: the mutable region was touched, or the erasable one was not", r.Name, c.name)
			}
		}
	}
}

// TestErase: on request, and only what is not blank.
func TestErase(t *testing.T) {
	w, g, m, flash := installed(t)
	for _, want := range [][]string{{"cache"}, nil} {
		r, err := g.Verify(w.chip, Options{Erase: true})
		if err != nil || !slices.Equal(r.Erased, want) || r.Recovered != nil {
			t.Errorf("%+v, %v", r, err)
		}
	}
	holds(t, w.chip, m, flash)
	if !blank(w.chip.mem[16<<10:24<<10]) || !bytes.Equal(w.chip.mem[8<<10:16<<10], flash[8<<10:16<<10]) {
		t.Error("something else was erased, or nothing")
	}
}

// damage changes a byte in each write to the card of at least so many bytes, behind the
// store's back.
func (w *world) damage(least int) {
	seen := map[uint64]bool{}
	for _, x := range w.writes {
		if x.n < least || seen[x.first] {
			continue
		}
		seen[x.first] = true
		p := make([]byte, x.n)
		err := w.card.ReadBlocks(x.first, p)
		if p[100] ^= 1; err == nil {
			err = w.card.WriteBlocks(x.first, p)
		}
		if err != nil {
			panic(err)
		}
	}
}

// TestGoldenDamaged: the copy is damaged on the card, missing, or wrong though authentic.
// A good flash passes; a bad one is held, and is not touched.
func TestGoldenDamaged(t *testing.T) {
	for name, spoil := range map[string]func(*world, *Golden) error{
		"on the card": func(w *world, _ *Golden) error { w.damage(16 << 10); return nil },
		"missing":     func(_ *world, g *Golden) error { return g.c.Store.Delete(g.contentsName(1, 0)) },
		"wrong":       func(_ *world, g *Golden) error { return g.c.Store.Put(g.contentsName(1, 0), content(5, 80<<10)) },
		"short":       func(_ *world, g *Golden) error { return g.c.Store.Put(g.contentsName(1, 0), content(1, 5000)) },
	} {
		w, g, _, flash := installed(t)
		if err := g.Scrub(); err != nil {
			t.Fatal(err)
		}
		if err := spoil(w, g); err != nil {
			t.Fatal(err)
		}
		if err := g.Scrub(); code.Of(err) != code.HostFirmware {
			t.Errorf("%s: scrubbing says %v", name, err)
		}
		if _, err := g.Verify(w.chip, Options{}); err != nil {
			t.Errorf("%s: a good flash: %v", name, err)
		}
		w.chip.mem[30<<10] ^= 4
		before := bytes.Clone(w.chip.mem)
		if r, err := g.Verify(w.chip, Options{}); code.Of(err) != code.HostFirmware || r != nil || !strings.Contains(err.Error(), "golden copy") {
			t.Errorf("%s: a bad flash: %v", name, err)
		}
		if !bytes.Equal(before, w.chip.mem) {
			t.Errorf("%s: the flash was touched", name)
		}
		// A new package puts that right.
		if _, err := g.Install(bytes.NewReader(pack(t, layout("1.0", 1), flash))); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if r, err := g.Verify(w.chip, Options{}); err != nil || !slices.Equal(r.Recovered, []string{"main"}) {
			t.Errorf("%s: after a new package: %+v, %v", name, r, err)
		}
	}
}

// TestGoldenRecordDamaged: on the card. Until the next package the part is held.
func TestGoldenRecordDamaged(t *testing.T) {
	w, g, _, flash := installed(t)
	w.damage(len(pack(t, layout("1.0", 1), flash)) - 80<<10)
	again := New(g.c)
	if _, err := again.Verify(w.chip, Options{}); code.Of(err) != code.StoreDamaged {
		t.Errorf("%v", err)
	}
	if _, err := again.Install(bytes.NewReader(pack(t, layout("1.0", 1), flash))); err != nil {
		t.Error(err)
	}
	if _, err := again.Verify(w.chip, Options{}); err != nil {
		t.Error(err)
	}
}

// TestGoldenRecord: what is stored as header and manifest is verified like a package.
func TestGoldenRecord(t *testing.T) {
	w, g, _, _ := installed(t)
	good, err := g.c.Store.Get(g.goldenName())
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{
		"empty": {}, "short": good[:7], "no manifest": good[:8+4096], "cut": good[:len(good)-1],
		"behind": append(bytes.Clone(good), 0), "header": flip(good, 8+30), "signature": flip(good, 8+600), "manifest": flip(good, len(good)-3),
	} {
		if err := g.c.Store.Put(g.goldenName(), b); err != nil {
			t.Fatal(err)
		}
		again := New(g.c)
		if _, err := again.Verify(w.chip, Options{}); code.Of(err) != code.HostFirmware {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := again.Manifest(); err == nil {
			t.Errorf("%s: gives a manifest", name)
		}
	}
	other := g.c
	other.Authorities = []image.Authority{imagetest.Authority(image.Release, "two")}
	if err := g.c.Store.Put(g.goldenName(), good); err != nil {
		t.Fatal(err)
	}
	if _, err := New(other).Verify(w.chip, Options{}); code.Of(err) != code.HostFirmware {
		t.Errorf("an authority that is not one any more: %v", err)
	}
	if err := g.c.Store.Put(g.stateName(), []byte{1}); err != nil {
		t.Fatal(err)
	}
	if _, err := New(g.c).Verify(w.chip, Options{}); code.Of(err) != code.StoreDamaged {
		t.Errorf("a state of one byte: %v", err)
	}
}

func flip(b []byte, at int) []byte {
	b = bytes.Clone(b)
	b[at] ^= 1
	return b
}

// TestFlashFaults: flashes that are another, lie, change, wear or do not answer.
func TestFlashFaults(t *testing.T) {
	over := func(_ *chip, is [][2]int64) [][2]int64 {
		if is == nil {
			return nil
		}
		return [][2]int64{{0, flashLen}}
	}
	garble := func(p []byte) { p[0] ^= 1 }
	for _, c := range []struct {
		name  string
		bad   bool // the flash needs recovery
		fault func(*chip)
		code  code.Code
		say   string
	}{
		{"larger", false, func(c *chip) { c.mem = append(c.mem, c.mem...) }, code.HostFlash, "bytes, the manifest is for"},
		{"smaller", false, func(c *chip) { c.mem = c.mem[:flashLen/2] }, code.HostFlash, "bytes, the manifest is for"},
		{"larger erase blocks", false, func(c *chip) { c.block *= 2 }, code.HostFlash, "erase blocks of 8192"},
		{"no erase blocks", false, func(c *chip) { c.block = 0 }, code.HostFlash, "erase blocks of 0"},
		{"does not answer", false, func(c *chip) { c.fault = errors.New("bus") }, code.HostFlash, "bus"},
		{"protects nothing", false, func(c *chip) { c.protect = func(*chip, [][2]int64) [][2]int64 { return nil } }, code.HostFlashUnprotected, "does not protect 0x2000 bytes at 0x0"},
		{"protects in large units", false, func(c *chip) { c.unit = 16 << 10 }, code.HostFlashUnprotected, "does not protect"},
		{"protects too much", false, func(c *chip) { c.protect = over }, code.HostFlashUnprotected, "protects 0x4000 bytes at 0x2000, which are the host's"},
		{"stays protected", true, func(c *chip) {
			c.protect = func(c *chip, is [][2]int64) [][2]int64 { return [][2]int64{{0, 8 << 10}, {24 << 10, 72 << 10}} }
		}, code.HostFlashUnprotected, "keeps 0x2000 bytes at 0x0 protected"},
		{"protection goes away", false, func(c *chip) {
			c.status = func(n int, is [][2]int64) [][2]int64 {
				if n > 1 {
					return nil
				}
				return is
			}
		}, code.HostFlashUnprotected, "changed while it was read"},
		{"second reading differs everywhere", false, func(c *chip) {
			seen := map[int64]bool{}
			c.read = func(_ int, at int64, p []byte) {
				for i := range p {
					if at += 1; seen[at] {
						p[i] ^= 0x10
					}
					seen[at] = true
				}
			}
		}, code.HostFlash, "read otherwise than before"},
		{"half of it changes when it was hashed", false, func(c *chip) {
			c.read = func(n int, at int64, p []byte) {
				if n > 4 && at >= flashLen/2 {
					garble(p)
				}
			}
		}, code.HostFlash, "read otherwise than before"},
		{"first reading is bad", false, func(c *chip) {
			c.read = func(n int, _ int64, p []byte) {
				if n == 1 {
					garble(p)
				}
			}
		}, code.HostFlash, "has the same content"},
		{"goes bad behind every recovery", true, func(c *chip) {
			bad := c.mem[25<<10]
			c.protect = func(c *chip, is [][2]int64) [][2]int64 {
				if is != nil {
					c.mem[25<<10] = bad
				}
				return is
			}
		}, code.HostFirmware, "after 2 recoveries"},
		{"stuck bit", true, func(c *chip) { c.stuck = map[int64]byte{40 << 10: c.mem[40<<10]}; c.mem[40<<10] = 0 }, code.HostFlashWorn, "do not read as written after 3 tries"},
		{"stuck bit in an erasable region", true, func(c *chip) { c.stuck = map[int64]byte{17 << 10: 8}; c.mem[17<<10] = 0 }, code.HostFlashWorn, "do not read as written"},
	} {
		w, g, _, _ := installed(t)
		if c.bad {
			w.chip.mem[25<<10] ^= 1
		}
		w.chip.reads, w.chip.statuses, w.chip.erasures = 0, 0, 0
		c.fault(w.chip)
		r, err := g.Verify(w.chip, Options{})
		if code.Of(err) != c.code || !strings.Contains(err.Error(), c.say) {
			t.Errorf("%s: %v; want %v and %q", c.name, err, c.code, c.say)
		}
		if touched := w.chip.erasures > 0; touched != (r != nil && r.Rewritten > 0) {
			t.Errorf("%s: %d erasures, and the result is %+v", c.name, w.chip.erasures, r)
		}
		if w.chip.erasures > 5 {
			t.Errorf("%s: %d erasures", c.name, w.chip.erasures)
		}
	}
}

// TestMeasure: the last reading protects and recovers nothing. What differs from the
// manifest, and what is not protected as it was, is refused; a good flash is measured from
// what it holds now.
func TestMeasure(t *testing.T) {
	for _, c := range []struct {
		name  string
		fault func(w *world)
		code  code.Code
	}{
		{"good", func(*world) {}, code.None},
		{"changed", func(w *world) { w.chip.mem[25<<10] ^= 1 }, code.HostFirmware},
		{"not protected", func(w *world) { w.chip.guarded = nil }, code.HostFlashUnprotected},
		{"protects more", func(w *world) { w.chip.guarded = [][2]int64{{0, flashLen}} }, code.HostFlashUnprotected},
	} {
		w, g, m, _ := installed(t)
		if _, err := g.Verify(w.chip, Options{}); err != nil {
			t.Fatal(err)
		}
		c.fault(w)
		mem := bytes.Clone(w.chip.mem)
		r, err := g.Measure(w.chip, Options{})
		if code.Of(err) != c.code || (r != nil) != (c.code == code.None) || !bytes.Equal(mem, w.chip.mem) {
			t.Errorf("%s: %+v, %v", c.name, r, err)
		}
		if r != nil && (r.Measurement != m.Measurement() || r.Ed25519Key == r.MLDSA65Key || r.Found == nil) {
			t.Errorf("%s: %+v", c.name, r)
		}
		if err := g.CheckProtected(w.chip, Options{}); (code.Of(err) == code.HostFlashUnprotected) != (c.code == code.HostFlashUnprotected) {
			t.Errorf("%s: the protection is %v", c.name, err)
		}
		if err := g.Protect(w.chip); err != nil || g.CheckProtected(w.chip, Options{}) != nil {
			t.Errorf("%s: protecting it: %v", c.name, err)
		}
	}
}

// TestGated: where the wiring gates the host's writes, what the chip does not protect is
// told, and passes.
func TestGated(t *testing.T) {
	w, g, _, _ := installed(t)
	w.chip.unit = 16 << 10
	r, err := g.Verify(w.chip, Options{Gated: true})
	if err != nil || !slices.Equal(r.Unprotected, [][2]int64{{0, 8 << 10}, {24 << 10, 8 << 10}}) {
		t.Errorf("%+v, %v", r, err)
	}
}

// TestChangesUntilProtected: whoever else can write the flash does so at the last moment
// before it is protected. What is measured is what is there after.
func TestChangesUntilProtected(t *testing.T) {
	w, g, m, flash := installed(t)
	n := 0
	w.chip.protect = func(c *chip, is [][2]int64) [][2]int64 {
		if n++; is != nil && n == 1 {
			c.mem[50<<10] ^= 1
		}
		return is
	}
	r, err := g.Verify(w.chip, Options{})
	if err != nil || !slices.Equal(r.Recovered, []string{"main"}) || r.Measurement != m.Measurement() {
		t.Errorf("%+v, %v", r, err)
	}
	holds(t, w.chip, m, flash)
}

// TestStray: a bit that fails once is written again.
func TestStray(t *testing.T) {
	w, g, m, flash := installed(t)
	w.chip.mem[25<<10] ^= 1
	reads := 0
	w.chip.read = func(_ int, at int64, p []byte) {
		if reads++; len(p) > lookSize && at == 24<<10 && reads == 5 { // the first reading back
			p[0] ^= 1
		}
	}
	w.chip.reads = 0
	r, err := g.Verify(w.chip, Options{})
	if err != nil || !slices.Equal(r.Recovered, []string{"main"}) {
		t.Errorf("%+v, %v", r, err)
	}
	holds(t, w.chip, m, flash)
}

// TestUpdate: the golden copy changes at once, the flash in the next cycle; the erasable
// region stays, and the floor keeps older firmware out.
func TestUpdate(t *testing.T) {
	w, g, _, flash := installed(t)
	old := pack(t, layout("1.0", 1), flash)
	next, m := content(2, flashLen), layout("2.0", 2)
	if err := g.c.Store.Put(g.contentsName(2, 1), []byte("what a cut has left")); err != nil {
		t.Fatal(err)
	}
	steps := w.value
	if _, err := g.Install(bytes.NewReader(pack(t, m, next))); err != nil {
		t.Fatal(err)
	}
	if w.value != steps+1 {
		t.Errorf("%d steps of the counter: an older copy of the card could take the update back", w.value-steps)
	}
	holds(t, w.chip, m, flash) // not yet
	if names, err := g.c.Store.List("firmware/host/"); err != nil || !slices.Equal(names, []string{"firmware/host/contents/0000000000000002/0", "firmware/host/golden", "firmware/host/state"}) {
		t.Errorf("%q, %v", names, err)
	}
	// Until the flash holds it, there is a way back.
	if _, err := g.Install(bytes.NewReader(old)); err != nil {
		t.Errorf("back: %v", err)
	}
	if _, err := g.Install(bytes.NewReader(pack(t, m, next))); err != nil {
		t.Fatal(err)
	}
	r, err := g.Verify(w.chip, Options{})
	if err != nil || r.Recovered != nil || !slices.Equal(r.Updated, []string{"boot", "main", "top"}) || r.Erased != nil {
		t.Errorf("%+v, %v", r, err)
	}
	holds(t, w.chip, m, next)
	if !bytes.Equal(w.chip.mem[16<<10:24<<10], flash[16<<10:24<<10]) {
		t.Error("an update erased the erasable region")
	}
	if _, err := g.Install(bytes.NewReader(old)); code.Of(err) != code.BelowFloor {
		t.Errorf("below the floor: %v", err)
	}
	if got, err := w.golden(t, Host).Manifest(); err != nil || got.Version != "2.0" {
		t.Errorf("after a restart: %+v, %v", got, err)
	}
}

// TestCycleDuringUpdate: a package that comes slowly does not keep a cycle waiting, and
// does not get below a floor that the cycle has raised.
func TestCycleDuringUpdate(t *testing.T) {
	w, g, _, _ := installed(t)
	three := content(3, flashLen)
	for _, c := range []struct {
		securityVersion uint32
		code            code.Code
		version         string
	}{{2, code.BelowFloor, "3.0"}, {3, code.None, "next"}} {
		if _, err := g.Install(bytes.NewReader(pack(t, layout("3.0", 3), three))); err != nil {
			t.Fatal(err)
		}
		r, from := io.Pipe()
		done := make(chan error, 1)
		go func() {
			_, err := g.Install(r)
			r.Close() // so that no write waits for ever
			done <- err
		}()
		next := pack(t, layout("next", c.securityVersion), content(4, flashLen))
		from.Write(next[:len(next)/2])
		if r, err := g.Verify(w.chip, Options{}); err != nil || r.Manifest.Version != "3.0" {
			t.Errorf("%+v, %v", r, err)
		}
		holds(t, w.chip, layout("3.0", 3), three)
		from.Write(next[len(next)/2:])
		from.Close()
		if err := <-done; code.Of(err) != c.code {
			t.Errorf("%v, not %v", err, c.code)
		}
		if m, err := g.Manifest(); err != nil || m.Version != c.version {
			t.Errorf("%+v, %v", m, err)
		}
		g = w.golden(t, Host)
	}
}

// TestTwoUpdates: they come one after the other.
func TestTwoUpdates(t *testing.T) {
	w, g, _, _ := installed(t)
	install := func(r io.ReadCloser) <-chan error {
		done := make(chan error, 1)
		go func() {
			_, err := g.Install(r)
			r.Close()
			done <- err
		}()
		return done
	}
	r, from := io.Pipe()
	one := pack(t, layout("one", 2), content(5, flashLen))
	two := pack(t, layout("two", 2), content(6, flashLen))
	first := install(r)
	from.Write(one[:len(one)/2])
	second := install(io.NopCloser(bytes.NewReader(two)))
	select {
	case err := <-second:
		t.Fatalf("the second did not wait for the first: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	from.Write(one[len(one)/2:])
	from.Close()
	for _, done := range []<-chan error{first, second} {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if m, err := g.Manifest(); err != nil || m.Version != "two" {
		t.Errorf("%+v, %v", m, err)
	}
	if _, err := g.Verify(w.chip, Options{}); err != nil {
		t.Error(err)
	}
	holds(t, w.chip, layout("two", 2), content(6, flashLen))
}

// TestParts: host and BMC do not mix.
func TestParts(t *testing.T) {
	w, g, _, flash := installed(t)
	bmc := New(w.accepts(BMC, g.c.Store))
	if _, err := bmc.Verify(w.chip, Options{}); !errors.Is(err, ErrNoGolden) {
		t.Errorf("the host's golden copy is the BMC's: %v", err)
	}
	if _, err := bmc.Install(bytes.NewReader(pack(t, layout("1.0", 1), flash))); code.Of(err) != code.WrongComponent {
		t.Errorf("the host's package is the BMC's: %v", err)
	}
	m := layout("7", 9)
	m.Part = BMC
	if _, err := bmc.Install(bytes.NewReader(pack(t, m, flash))); err != nil {
		t.Error(err)
	}
	if got, err := g.Manifest(); err != nil || got.Version != "1.0" {
		t.Errorf("%+v, %v", got, err)
	}
}

// TestPackages: what is wrong with a package leaves the golden copy as it was, and
// nothing else behind.
func TestPackages(t *testing.T) {
	w, g, _, flash := installed(t)
	m, next := layout("2.0", 2), content(2, flashLen)
	good := pack(t, m, next)
	payload, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	contents := 4096 + len(payload)
	signed := func(payload string, c image.Component, version string) []byte {
		h := imagetest.Header(c, version, 2)
		return append(imagetest.Image(h, []byte(payload), imagetest.Signer(image.Release, "one")), good[contents:]...)
	}
	edit := func(from, to string) []byte {
		if !strings.Contains(string(payload), from) {
			t.Fatalf("%q is not in %s", from, payload)
		}
		return signed(strings.Replace(string(payload), from, to, 1), image.HostFirmware, "2.0")
	}
	elsewhere := layout("2.0", 2)
	elsewhere.Host = "acme-x2"
	for _, c := range []struct {
		name string
		b    []byte
		code code.Code
		say  string
	}{
		{"empty", nil, code.ImageUnreadable, "EOF"},
		{"cut in the header", good[:4000], code.ImageUnreadable, "EOF"},
		{"cut in the manifest", good[:4100], code.ImageUnreadable, "EOF"},
		{"no contents", good[:contents], code.ImageUnreadable, `content of region "boot": byte 0`},
		{"cut in the last region", good[:len(good)-1], code.ImageUnreadable, `content of region "top": byte 0 of 4096`},
		{"something behind", append(bytes.Clone(good), 0), code.ImageMalformed, "behind the last region"},
		{"header", flip(good, 64), code.ImageSignature, "signature"},
		{"Ed25519", flip(good, 520), code.ImageSignature, "signature 1 of 2"},
		{"ML-DSA-65", flip(good, 700), code.ImageSignature, "signature 2 of 2"},
		{"manifest", flip(good, 4200), code.ImageDigest, "SHA-256"},
		{"first content", flip(good, contents), code.ImageDigest, `region "boot"`},
		{"last content", flip(good, len(good)-1), code.ImageDigest, `region "top"`},
		{"another host", pack(t, elsewhere, next), code.WrongProduct, `for host "acme-x2"; this is "acme-x1"`},
		{"another version in the header", signed(string(payload), image.HostFirmware, "2.1"), code.ImageMalformed, "the header has"},
		{"the BMC's", signed(string(payload), image.BMCFirmware, "2.0"), code.WrongComponent, "BMC"},
		{"another part", edit(`"part":"host"`, `"part":"bmc"`), code.ImageMalformed, "part bmc"},
		{"another security version", edit(`"security_version":2`, `"security_version":3`), code.ImageMalformed, "security version 3"},
		{"overlap", edit(`"offset":8192`, `"offset":4096`), code.ImageMalformed, "they overlap"},
		{"past the chip", edit(`"size":98304`, `"size":94208`), code.ImageMalformed, "run past"},
		{"unknown member", edit(`"format":1`, `"format":1,"more":1`), code.ImageMalformed, "more"},
		{"no JSON", signed("firmware", image.HostFirmware, "2.0"), code.ImageMalformed, "json"},
		{"a manifest too long", signed(strings.Repeat(" ", MaxManifest+1), image.HostFirmware, "2.0"), code.ImageMalformed, "manifest of 16385 bytes"},
	} {
		got, err := g.Install(bytes.NewReader(c.b))
		if got != nil || code.Of(err) != c.code || !strings.Contains(err.Error(), c.say) {
			t.Errorf("%s: %v; want %v and %q", c.name, err, c.code, c.say)
		}
		if names, err := g.c.Store.List("firmware/host/contents/"); err != nil || len(names) != 1 {
			t.Errorf("%s: it left %q, %v", c.name, names, err)
		}
	}
	if m, err := w.golden(t, Host).Manifest(); err != nil || m.Version != "1.0" {
		t.Errorf("%+v, %v", m, err)
	}
	w.chip.mem[0] ^= 1
	if r, err := g.Verify(w.chip, Options{}); err != nil || !slices.Equal(r.Recovered, []string{"boot"}) {
		t.Errorf("%+v, %v", r, err)
	}
	holds(t, w.chip, m, flash)
}

// TestNoRoom: a package that does not fit changes nothing.
func TestNoRoom(t *testing.T) {
	w, g, m, flash := installed(t)
	for i := 0; ; i++ {
		if err := g.c.Store.Put(strings.Repeat("x", i+1), make([]byte, 30<<10)); err != nil {
			break // there is room for the state, but not for another 80 KiB
		}
	}
	if _, err := g.Install(bytes.NewReader(pack(t, layout("2.0", 2), content(2, flashLen)))); code.Of(err) != code.StoreFull || !errors.Is(err, store.ErrFull) {
		t.Errorf("%v", err)
	}
	w.chip.mem[0] ^= 1
	if r, err := g.Verify(w.chip, Options{}); err != nil || !slices.Equal(r.Recovered, []string{"boot"}) {
		t.Errorf("%+v, %v", r, err)
	}
	holds(t, w.chip, m, flash)
}

// TestLargeContents: contents of more than one record.
func TestLargeContents(t *testing.T) {
	if testing.Short() {
		t.Skip("17 MiB through the store")
	}
	const size = 17 << 20
	w := newWorld(t, 48<<20, newChip(size, 64<<10))
	g := w.golden(t, BMC)
	flash := content(3, size)
	m := &Manifest{Part: BMC, Host: hostName, Version: "1", Size: size, Erase: 64 << 10, Regions: []Region{
		{Name: "a", Offset: 0, Length: size - 1<<20, Kind: Static}, {Name: "b", Offset: size - 1<<20, Length: 1 << 20, Kind: Static}}}
	if _, err := g.Install(bytes.NewReader(pack(t, m, flash))); err != nil {
		t.Fatal(err)
	}
	if names, err := g.c.Store.List("firmware/bmc/contents/"); err != nil || len(names) != 2 {
		t.Errorf("%q, %v", names, err)
	}
	if _, err := g.Verify(w.chip, Options{}); err != nil {
		t.Fatal(err)
	}
	holds(t, w.chip, m, flash)
	bad := pack(t, m, flash)
	bad[len(bad)-1] ^= 1
	if _, err := g.Install(bytes.NewReader(bad)); code.Of(err) != code.ImageDigest {
		t.Error(err)
	}
	if names, err := g.c.Store.List("firmware/bmc/contents/"); err != nil || len(names) != 2 {
		t.Errorf("a refused package left %q, %v", names, err)
	}
}

// TestPowerCuts cuts the power at every write of an update, and of the cycle that follows
// it, and of a recovery; then goes on as the board would, and has either version whole.
func TestPowerCuts(t *testing.T) {
	base, _, m1, one := installed(t)
	m2, two := layout("2.0", 2), content(2, flashLen)
	update := pack(t, m2, two)
	pending := base.copy()
	if _, err := pending.golden(t, Host).Install(bytes.NewReader(update)); err != nil {
		t.Fatal(err)
	}
	corrupt := base.copy()
	clear(corrupt.chip.mem[26<<10 : 60<<10])
	corrupt.chip.mem[0] ^= 1
	for _, c := range []struct {
		name string
		from *world
		do   func(*world, *Golden) error
		want []string // versions that may be there in the end
	}{
		{"update", base, func(_ *world, g *Golden) error { _, err := g.Install(bytes.NewReader(update)); return err }, []string{"1.0", "2.0"}},
		{"cycle of an update", pending, verify, []string{"2.0"}},
		{"recovery", corrupt, verify, []string{"1.0"}},
	} {
		cuts, seen := 0, map[string]int{}
		step := 1
		if testing.Short() {
			step = 7
		}
		if testing.Short() && runtime.GOARCH == "arm" {
			step = 37 // emulated
		}
		for left := 0; ; left += step {
			w := c.from.copy()
			g := w.golden(t, Host)
			w.left, w.tear = left, mediumtest.Tears[left/step%len(mediumtest.Tears)]
			err := c.do(w, g)
			if err == nil && !w.off {
				break
			}
			cuts++
			w.powerOn()
			g = w.golden(t, Host)
			if _, err := g.Verify(w.chip, Options{}); err != nil {
				t.Fatalf("%s, cut after %d: %v", c.name, left, err)
			}
			m, err := g.Manifest()
			if err != nil || !slices.Contains(c.want, m.Version) {
				t.Fatalf("%s, cut after %d: %+v, %v", c.name, left, m, err)
			}
			seen[m.Version]++
			if m.Version == "2.0" {
				holds(t, w.chip, m2, two)
			} else {
				holds(t, w.chip, m1, one)
			}
			if _, err := g.Install(bytes.NewReader(update)); err != nil { // and another update goes through
				t.Fatalf("%s, cut after %d: %v", c.name, left, err)
			}
			if names, err := g.c.Store.List("firmware/host/contents/"); err != nil || len(names) != 1 {
				t.Fatalf("%s, cut after %d: %q, %v", c.name, left, names, err)
			}
		}
		if cuts < 100/step || step == 1 && len(seen) != len(c.want) {
			t.Errorf("%s: %d cuts, ended in %v", c.name, cuts, seen)
		}
		t.Logf("%s: %d cuts, ended in %v", c.name, cuts, seen)
	}
}

func verify(w *world, g *Golden) error {
	_, err := g.Verify(w.chip, Options{})
	return err
}

// TestUncovered: ranges less ranges.
func TestUncovered(t *testing.T) {
	for _, c := range []struct{ ranges, by, want [][2]int64 }{
		{nil, nil, nil},
		{[][2]int64{{0, 10}}, nil, [][2]int64{{0, 10}}},
		{[][2]int64{{0, 10}}, [][2]int64{{0, 10}}, nil},
		{[][2]int64{{0, 10}}, [][2]int64{{2, 3}, {7, 9}}, [][2]int64{{0, 2}, {5, 2}}},
		{[][2]int64{{5, 5}, {20, 5}}, [][2]int64{{0, 22}}, [][2]int64{{22, 3}}},
		{[][2]int64{{5, 5}}, [][2]int64{{0, 5}, {10, 5}}, [][2]int64{{5, 5}}},
	} {
		if got := uncovered(c.ranges, c.by); !slices.Equal(got, c.want) {
			t.Errorf("%v less %v is %v, not %v", c.ranges, c.by, got, c.want)
		}
	}
}

// TestLooks: within the static regions, and over all of them.
func TestLooks(t *testing.T) {
	ranges := layout("1", 1).ranges()
	seen := map[int64]bool{}
	for i := range 50 {
		looks, err := chooseLooks(ranges, rand.NewChaCha8([32]byte{byte(i)}))
		if err != nil || len(looks) != 16 {
			t.Fatal(looks, err)
		}
		for _, l := range looks {
			seen[l.at] = true
			if rest := uncovered([][2]int64{{l.at, lookSize}}, ranges); rest != nil || l.at%lookSize != 0 {
				t.Errorf("%#x", l.at)
			}
		}
	}
	if len(seen) != 20 {
		t.Errorf("%d places of 20", len(seen))
	}
	if _, err := chooseLooks(ranges, io.LimitReader(rand.NewChaCha8([32]byte{}), 20)); err == nil {
		t.Error("no random numbers, and no error")
	}
}
