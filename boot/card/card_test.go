//go:build !arm

package card_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"nitro/attest/seal"
	"nitro/boot/card"
	"nitro/boot/code"
	"nitro/boot/image"
	"nitro/boot/journal"
	"nitro/boot/medium"
	"nitro/boot/medium/mediumtest"
	"nitro/boot/release"
	"nitro/boot/release/releasetest"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func build(t *testing.T, k *release.Keys, version string, also ...*release.Release) *release.Release {
	t.Helper()
	o := releasetest.Options(version, 3)
	o.Also = also
	r, err := release.Build(k, o)
	must(t, err)
	return r
}

func configuration(t *testing.T, k *release.Keys, product string, epoch uint64) []byte {
	t.Helper()
	c, err := k.Config(product, epoch)
	must(t, err)
	b, err := k.SignConfig(c, releasetest.Built)
	must(t, err)
	return b
}

// content is that of a card with releases in both slots.
func content(t *testing.T) card.Content {
	t.Helper()
	k := releasetest.Keys()
	a := build(t, k, "1.0")
	return card.Content{Slots: [2]*release.Release{a, build(t, k, "1.1", a)}, Configuration: configuration(t, k, releasetest.Product, 2), Policy: policySet(t, k, "3")}
}

// policySet signs what stands for a policy set: what is in one is not this package's to know.
func policySet(t *testing.T, k *release.Keys, epoch string) []byte {
	t.Helper()
	s, err := k.ImageSigner(image.Configure)
	must(t, err)
	i, err := release.Sign(image.Header{Component: image.PolicySet, Version: epoch, Product: releasetest.Product, Development: true}, []byte("{}"), s)
	must(t, err)
	return i.Bytes
}

func newCard() *mediumtest.Card { return mediumtest.New(medium.MinSize / mediumtest.SectorSize) }

// states lists the parts that are in a state.
func states(r *card.Report, s card.State) (names []string) {
	for _, p := range r.Parts {
		if p.State == s {
			names = append(names, p.Name)
		}
	}
	return names
}

func TestWriteInspect(t *testing.T) {
	c := content(t)
	d := newCard()
	var done, total int64
	must(t, card.Write(d, c, func(d, n int64) {
		if d < done || d > n {
			t.Errorf("progress goes from %d to %d of %d", done, d, n)
		}
		done, total = d, n
	}))
	if done != total {
		t.Errorf("progress ends at %d of %d", done, total)
	}
	r := card.Inspect(d, card.Want{Anchors: c.Slots[0].Anchors, Product: releasetest.Product, Floor: 3, Epoch: 2}, nil)
	must(t, r.Err())
	if got := strings.Join(states(r, card.OK), "; "); got != "MBR; anchor block; bootloader; slot journal; configuration, copy 1; configuration, copy 2; "+
		"known-good set of slot A; known-good set of slot B; sealed objects, copy 1; sealed objects, copy 2; policy set, copy 1; policy set, copy 2; slot A; slot B" {
		t.Errorf("good are %s", got)
	}
	if got := strings.Join(states(r, card.Empty), "; "); got != "boot ROM header; known-good set, board part, copy 1; known-good set, board part, copy 2; quarantine's anchor block; store" {
		t.Errorf("empty are %s", got)
	}
	want := journal.State{Preferred: journal.A, Trying: journal.None}
	for i, x := range c.Slots {
		want.Slots[i] = journal.SlotState{Status: journal.Unproven, Attempts: 1, SecurityVersion: 3, Digest: x.Controller.Digest}
	}
	if r.Journal != want {
		t.Errorf("the journal says %+v", r.Journal)
	}
	if len(r.Set.Objects) != 0 || len(r.Set.Approvals) != 3+6 {
		t.Errorf("%d objects and %d approvals", len(r.Set.Objects), len(r.Set.Approvals))
	}
	for n, x := range c.Slots {
		v, err := r.Values(journal.Slot(n))
		must(t, err)
		if w, err := x.Predict(c.Slots[0]); err != nil || v != w {
			t.Errorf("%v: values %x, want %x, %v", journal.Slot(n), v, w, err)
		}
	}
}

// TestOneSlot: slot B may be empty, and the journal says so.
func TestOneSlot(t *testing.T) {
	c := content(t)
	c.Slots[1] = nil
	d := newCard()
	must(t, card.Write(d, c, nil))
	r := card.Inspect(d, card.Want{}, nil)
	must(t, r.Err())
	if r.Journal.Slots[journal.B] != (journal.SlotState{}) || r.Part("slot B").State != card.Empty || r.Part("known-good set of slot B").State != card.Empty {
		t.Errorf("slot B is %+v, %+v", r.Journal.Slots[journal.B], r.Part("slot B"))
	}
}

// TestSameTwice: one release in both slots needs its approvals once.
func TestSameTwice(t *testing.T) {
	c := content(t)
	c.Slots[1] = c.Slots[0]
	d := newCard()
	must(t, card.Write(d, c, nil))
	if r := card.Inspect(d, card.Want{}, nil); r.Err() != nil || len(r.Set.Approvals) != 3 {
		t.Errorf("%d approvals, %v", len(r.Set.Approvals), r.Err())
	}
}

// TestErase: nothing of what was on a card is left, but for the pool.
func TestErase(t *testing.T) {
	c := content(t)
	clean, used := newCard(), newCard()
	must(t, card.Write(clean, c, nil))
	old := bytes.Repeat([]byte{0xa5}, 1<<20)
	for at := uint64(0); at <= medium.PoolOffset; at += 4 << 20 {
		must(t, used.WriteBlocks(at/mediumtest.SectorSize, old))
	}
	must(t, card.Write(used, c, nil))
	a, b := make([]byte, 1<<20), make([]byte, 1<<20)
	for at := uint64(0); at <= medium.PoolOffset; at += uint64(len(a)) {
		must(t, clean.ReadBlocks(at/mediumtest.SectorSize, a))
		must(t, used.ReadBlocks(at/mediumtest.SectorSize, b))
		if bytes.Equal(a, b) != (at < medium.PoolOffset) {
			t.Errorf("at %#x: equal to a new card's: %v", at, bytes.Equal(a, b))
		}
	}
}

// TestCut: a card whose writing was cut off has no MBR and no bootloader's header, or both.
func TestCut(t *testing.T) {
	c := content(t)
	first := newCard() // an older card, which boots
	must(t, card.Write(first, c, nil))
	used := func() *mediumtest.Card {
		d := newCard()
		for _, w := range first.Writes() {
			must(t, d.WriteBlocks(w.First, w.Data))
		}
		return d
	}
	whole := used()
	before := len(whole.Writes())
	must(t, card.Write(whole, c, nil))
	sectors := 0
	for _, w := range whole.Writes()[before:] {
		d := used()
		d.CutAfter(sectors, mediumtest.Prefix)
		if err := card.Write(d, c, nil); err == nil {
			t.Fatalf("a cut after %d sectors went unnoticed", sectors)
		}
		d.PowerOn()
		r := card.Inspect(d, card.Want{}, nil)
		if boots := sectors > 0 && r.Part("bootloader").State == card.OK; boots && (r.Err() == nil || r.Part("MBR").State == card.OK || r.Part("slot A").State != card.OK) {
			t.Errorf("after %d sectors the card boots, and is not whole: %v", sectors, r.Err())
		}
		sectors += len(w.Data) / mediumtest.SectorSize
	}
}

// flip changes a bit of a card.
func flip(t *testing.T, d *mediumtest.Card, at int64) {
	t.Helper()
	var b [mediumtest.SectorSize]byte
	must(t, d.ReadBlocks(uint64(at/mediumtest.SectorSize), b[:]))
	b[at%mediumtest.SectorSize] ^= 0x10
	must(t, d.WriteBlocks(uint64(at/mediumtest.SectorSize), b[:]))
}

// TestTampered: a bit changed in any place is told, in the part that it belongs to.
func TestTampered(t *testing.T) {
	c := content(t)
	d := newCard()
	must(t, card.Write(d, c, nil))
	last := func(p medium.Place, b []byte) int64 { return p.Offset + int64(len(b)) - 1 }
	loader := c.Slots[0].Bootloader
	for _, x := range []struct {
		part  string
		at    int64
		state card.State
	}{
		{"MBR", 446, card.Bad},
		{"MBR", 0, card.Bad},
		{"boot ROM header", medium.BootROMHeader.Offset + 5, card.Unverified},
		{"bootloader", medium.BootloaderHeader.Offset, card.Bad},
		{"bootloader", medium.BootloaderHeader.Offset + 60, card.Bad},
		{"bootloader", medium.BootloaderHeader.Offset + 600, card.Bad},
		{"bootloader", medium.Bootloader.Offset, card.Bad},
		{"bootloader", last(medium.Bootloader, loader.Payload()), card.Bad},
		{"anchor block", medium.AnchorBlock.Offset + 8, card.Bad},
		{"anchor block", medium.AnchorBlock.Offset + 100, card.Bad},
		{"anchor block", medium.AnchorBlock.Offset + 8191, card.Bad},
		{"slot journal", medium.Journal.Offset + 4096 + 33, card.Bad},
		{"configuration, copy 1", medium.Configurations[0].Offset + 4096 + 20, card.Bad},
		{"configuration, copy 2", medium.Configurations[1].Offset + 513, card.Bad},
		{"known-good set of slot A", medium.KnownGoodOf[0].Offset + 4096 + 30, card.Bad},
		{"known-good set of slot B", medium.KnownGoodOf[1].Offset + 30, card.Bad},
		{"known-good set, board part, copy 1", medium.BoardParts[0].Offset, card.Unverified},
		{"known-good set, board part, copy 2", medium.BoardParts[1].Offset + 700, card.Unverified},
		{"sealed objects, copy 1", medium.SealedObjects[0].Offset + 100, card.Bad},
		{"sealed objects, copy 2", medium.SealedObjects[1].Offset + 8, card.Bad},
		{"quarantine's anchor block", medium.QuarantineAnchor.Offset + 60000, card.Unverified},
		{"policy set, copy 1", medium.PolicySets[0].Offset + 4096, card.Bad},
		{"policy set, copy 2", medium.PolicySets[1].Offset + 70, card.Bad},
		{"slot A", medium.Slots[0].Offset + 16, card.Bad},
		{"slot A", last(medium.Slots[0], c.Slots[0].Controller.Bytes), card.Bad},
		{"slot B", medium.Slots[1].Offset + 5000, card.Bad},
		{"store", medium.Store.Offset + 40<<20, card.Unverified},
	} {
		flip(t, d, x.at)
		r := card.Inspect(d, card.Want{}, nil)
		if p := r.Part(x.part); p.State != x.state || (r.Err() != nil) != (x.state == card.Bad) {
			t.Errorf("a bit at %#x: %s is %s: %s; %v", x.at, x.part, p.State, p.Text, r.Err())
		}
		flip(t, d, x.at) // back
	}
	must(t, card.Inspect(d, card.Want{}, nil).Err())
}

// TestForged: a card that is good in itself is not the one that was wanted.
func TestForged(t *testing.T) {
	c := content(t)
	thief, err := release.DevelopmentKeys()
	must(t, err)
	d := newCard()
	must(t, card.Write(d, card.Content{Slots: [2]*release.Release{build(t, thief, "1.0")}, Configuration: configuration(t, thief, releasetest.Product, 2)}, nil))
	must(t, card.Inspect(d, card.Want{}, nil).Err())
	r := card.Inspect(d, card.Want{Anchors: c.Slots[0].Anchors}, nil)
	for _, name := range []string{"anchor block", "bootloader", "configuration, copy 1", "configuration, copy 2", "slot A", "known-good set of slot A"} {
		if r.Part(name).State != card.Bad {
			t.Errorf("%s of other authorities is %s", name, r.Part(name).State)
		}
	}

	// What is properly signed may be too old, or for another product.
	must(t, card.Write(d, c, nil))
	for _, x := range []struct {
		want card.Want
		part string
		code code.Code
	}{
		{card.Want{Floor: 4}, "slot A", code.BelowFloor},
		{card.Want{Epoch: 3}, "configuration, copy 2", code.ConfigurationOld},
		{card.Want{Product: "imx6ul-armory"}, "bootloader", code.WrongProduct},
	} {
		if p := card.Inspect(d, x.want, nil).Part(x.part); p.State != card.Bad || code.Of(p.Err) != x.code {
			t.Errorf("%+v: %s is %s: %v", x.want, x.part, p.State, p.Err)
		}
	}

	// Approvals of the thief, in a set that is whole.
	set := seal.Set{Revision: 7, Approvals: build(t, thief, "1.0").Approvals}
	b, err := set.Encode()
	must(t, err)
	for _, p := range medium.SealedObjects {
		must(t, medium.WritePlace(d, p, b))
	}
	if p := card.Inspect(d, card.Want{}, nil).Part("sealed objects, copy 1"); code.Of(p.Err) != code.ApprovalMissing {
		t.Errorf("approvals of others: %s, %v", p.State, p.Err)
	}

	// The known-good set of another release of the same authority.
	must(t, medium.WritePlace(d, medium.KnownGoodOf[0], c.Slots[1].KnownGood.Bytes))
	if p := card.Inspect(d, card.Want{}, nil).Part("known-good set of slot A"); code.Of(p.Err) != code.KnownGoodBad {
		t.Errorf("another release's known-good set: %s, %v", p.State, p.Err)
	}
}

func TestWriteRefuses(t *testing.T) {
	good, k := content(t), releasetest.Keys()
	thief, err := release.DevelopmentKeys()
	must(t, err)
	for _, x := range []struct {
		what   string
		change func(c *card.Content)
	}{
		{"nothing for slot A", func(c *card.Content) { c.Slots[0] = nil }},
		{"no configuration", func(c *card.Content) { c.Configuration = nil }},
		{"a configuration and more", func(c *card.Content) { c.Configuration = append(bytes.Clone(c.Configuration), 0) }},
		{"a configuration for another product", func(c *card.Content) { c.Configuration = configuration(t, k, "imx6ul-armory", 1) }},
		{"another authority's configuration", func(c *card.Content) { c.Configuration = configuration(t, thief, releasetest.Product, 1) }},
		{"a release without approvals", func(c *card.Content) {
			r := *c.Slots[0]
			r.Approvals = r.Approvals[:2]
			c.Slots[0] = &r
		}},
		{"a second release that does not know the bootloader", func(c *card.Content) { c.Slots[1] = build(t, k, "1.1") }},
		{"a second release of another authority", func(c *card.Content) { c.Slots[1] = build(t, thief, "1.1", c.Slots[0]) }},
	} {
		c, d := good, newCard()
		x.change(&c)
		if err := card.Write(d, c, nil); err == nil || len(d.Writes()) > 0 {
			t.Errorf("%s: %d writes, %v", x.what, len(d.Writes()), err)
		}
		if c.Check() == nil {
			t.Errorf("%s passes the check", x.what)
		}
	}
	if err := card.Write(mediumtest.New(1<<18), good, nil); err == nil {
		t.Error("a card of 128 MiB was written")
	}
}

// TestFile: a card in a file is sparse, is made once, and is like one in memory.
func TestFile(t *testing.T) {
	c := content(t)
	path := filepath.Join(t.TempDir(), "card.img")
	for _, size := range []int64{medium.MinSize - 512, medium.MinSize + 1} {
		if _, err := card.Create(path, size); err == nil {
			t.Errorf("a card of %d bytes was made", size)
		}
	}
	f, err := card.Create(path, medium.MinSize)
	must(t, err)
	must(t, errors.Join(card.Write(f, c, nil), f.Close()))
	if _, err := card.Create(path, medium.MinSize); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a card was overwritten: %v", err)
	}
	info, err := os.Stat(path)
	must(t, err)
	if used := info.Sys().(*syscall.Stat_t).Blocks * 512; info.Size() != medium.MinSize || used > 8<<20 {
		t.Errorf("the file has %d bytes and takes %d", info.Size(), used)
	}
	if f, err = card.Open(path, false); err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	must(t, card.Inspect(f, card.Want{Anchors: c.Slots[0].Anchors}, nil).Err())
	if err := f.WriteBlocks(0, make([]byte, 512)); err == nil {
		t.Error("a card that was opened to be read was written")
	}
	for _, x := range []struct{ first, n uint64 }{{f.Blocks(), 512}, {f.Blocks() - 1, 1024}, {1 << 60, 512}, {0, 100}} {
		if err := f.ReadBlocks(x.first, make([]byte, x.n)); err == nil {
			t.Errorf("%d bytes from sector %d on were read", x.n, x.first)
		}
	}
	must(t, os.Truncate(path, 1<<20))
	if _, err := card.Open(path, false); err == nil {
		t.Error("a file of 1 MiB is taken for a card")
	}
}
