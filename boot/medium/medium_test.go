package medium_test

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"nitro/boot/code"
	"nitro/boot/image"
	"nitro/boot/image/imagetest"
	"nitro/boot/medium"
	"nitro/boot/medium/mediumtest"
	"nitro/internal/corpus"
)

const blocks = medium.MinSize / 512

// TestLayout: places lie behind each other, in whole pages of 4 KiB but for the first two.
func TestLayout(t *testing.T) {
	all := []medium.Place{medium.MBR, medium.BootROMHeader, medium.BootloaderHeader, medium.AnchorBlock, medium.Bootloader, medium.Journal}
	for _, pair := range [][2]medium.Place{medium.Configurations, medium.KnownGoodOf, medium.BoardParts, medium.SealedObjects} {
		all = append(all, pair[:]...)
	}
	all = append(all, medium.QuarantineAnchor, medium.Ticket, medium.PolicySets[0], medium.PolicySets[1], medium.Slots[0], medium.Slots[1], medium.Store, medium.Pool(medium.MinSize))
	end := int64(0)
	for i, p := range all {
		if p.Offset < end || p.Size <= 0 || i > 1 && p.Offset%4096 != 0 || p.Size%512 != 0 {
			t.Errorf("place %d at %#x, %d bytes: the one before ends at %#x", i, p.Offset, p.Size, end)
		}
		end = p.Offset + p.Size
	}
	if end != medium.MinSize {
		t.Errorf("the last place ends at %#x", end)
	}
	for _, c := range []struct {
		c image.Component
		p medium.Place
		n int64 // bytes before the payload
	}{
		{image.Controller, medium.Slots[0], image.HeaderSize},
		{image.Bootloader, medium.Bootloader, 0},
		{image.Configuration, medium.Configurations[0], image.HeaderSize},
		{image.KnownGood, medium.KnownGoodOf[0], image.HeaderSize},
		{image.PolicySet, medium.PolicySets[0], image.HeaderSize},
	} {
		if int64(c.c.MaxLength())+c.n > c.p.Size {
			t.Errorf("the longest %v does not fit into its place", c.c)
		}
	}
}

// TestReader reads a place in pieces of all kinds, and nothing around it.
func TestReader(t *testing.T) {
	c := mediumtest.New(16)
	all := make([]byte, 16*512)
	for i := range all {
		all[i] = byte(i / 7)
	}
	if err := c.WriteBlocks(0, all); err != nil {
		t.Fatal(err)
	}
	place := medium.Place{Offset: 1024, Size: 3072}
	for _, piece := range []int{1, 100, 511, 512, 513, 1000, 1024, 4000} {
		r, err := medium.NewReader(c, place)
		if err != nil {
			t.Fatal(err)
		}
		var got []byte
		for {
			b := make([]byte, piece, piece+512)
			n, err := r.Read(b)
			got = append(got, b[:n]...)
			if rest := b[n:cap(b)]; !bytes.Equal(rest, make([]byte, len(rest))) {
				t.Fatalf("pieces of %d: wrote behind what it read", piece)
			}
			if err == io.EOF {
				break
			}
			if err != nil || n == 0 {
				t.Fatal(n, err)
			}
		}
		if !bytes.Equal(got, all[1024:1024+3072]) {
			t.Errorf("pieces of %d: reads something else", piece)
		}
	}
	for _, p := range []medium.Place{{100, 512}, {512, 100}, {0, 0}, {-512, 512}, {0, 17 * 512}, {16 * 512, 512}, {1 << 60, 512}, {0, 1<<63 - 512}} {
		if _, err := medium.NewReader(c, p); err == nil {
			t.Errorf("%+v is a place", p)
		}
		if medium.WritePlace(c, p, all[:1]) == nil {
			t.Errorf("%+v can be written", p)
		}
	}
	if medium.WritePlace(c, place, make([]byte, 3073)) == nil || medium.ReadPlace(c, place, make([]byte, 3073)) == nil {
		t.Error("more than the place")
	}
	if medium.WritePlace(c, place, nil) == nil {
		t.Error("nothing can be written")
	}
}

// content is a copy that says how new it is: rank, length, bytes, digest.
func content(rank uint64, n int) []byte {
	b := binary.LittleEndian.AppendUint64(nil, rank)
	b = binary.LittleEndian.AppendUint64(b, uint64(n))
	b = append(b, bytes.Repeat([]byte{byte(rank)}, n)...)
	sum := sha256.Sum256(b)
	return append(b, sum[:]...)
}

func rank(b []byte) (uint64, error) {
	n := binary.LittleEndian.Uint64(b[8:])
	if n > uint64(len(b)-48) {
		return 0, errors.New("length")
	}
	if sum := sha256.Sum256(b[:16+n]); !bytes.Equal(sum[:], b[16+n:48+n]) {
		return 0, errors.New("digest")
	}
	return binary.LittleEndian.Uint64(b), nil
}

// TestPairPowerCut: at each moment of a write the old or the new content counts, and from
// the end of the first copy's write on the new one does. The next write comes through
// from there.
func TestPairPowerCut(t *testing.T) {
	pair := medium.Pair{{0, 4096}, {8192, 4096}}
	for _, lengths := range [][2]int{{100, 3000}, {3000, 100}, {2000, 2000}} {
		c := mediumtest.New(32)
		old, next, last := content(1, lengths[0]), content(2, lengths[1]), content(3, 1000)
		if err := pair.Write(c, old, rank); err != nil {
			t.Fatal(err)
		}
		for which := range 2 { // with either copy to be written first
			if which == 1 {
				if err := medium.WritePlace(c, pair[1], make([]byte, 4096)); err != nil {
					t.Fatal(err)
				}
			}
			run := onlyState(t, c)
			if err := pair.Write(run, next, rank); err != nil {
				t.Fatal(err)
			}
			done := false // with the first copy
			for when, s := range run.States() {
				got, _, err := pair.Read(s, rank)
				if err != nil {
					t.Fatalf("%s: %v", when, err)
				}
				done = done || strings.HasPrefix(when, "after write 1")
				if !bytes.HasPrefix(got, next) && (done || !bytes.HasPrefix(got, old)) {
					t.Fatalf("%s: neither old nor new, or old after new", when)
				}
				if err := pair.Write(s, last, rank); err != nil {
					t.Fatalf("%s: %v", when, err)
				}
				for i, p := range pair {
					b := make([]byte, 4096)
					if err := medium.ReadPlace(s, p, b); err != nil || !bytes.HasPrefix(b, last) {
						t.Fatalf("%s: copy %d after the next write: %v", when, i, err)
					}
				}
			}
			if !done {
				t.Error("there was no first write")
			}
		}
	}
}

// onlyState copies a card.
func onlyState(t *testing.T, c *mediumtest.Card) *mediumtest.Card {
	c.Settle()
	for _, s := range c.States() {
		return s
	}
	t.Fatal("no state")
	return nil
}

func TestPairRefusals(t *testing.T) {
	pair := medium.Pair{{0, 4096}, {8192, 4096}}
	c := mediumtest.New(32)
	if _, _, err := pair.Read(c, rank); err == nil || !strings.Contains(err.Error(), "copy 0") || !strings.Contains(err.Error(), "copy 1") {
		t.Errorf("nothing there: %v", err)
	}
	if err := pair.Write(c, content(5, 100), rank); err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct {
		name string
		b    []byte
	}{
		{"older", content(4, 100)},
		{"same rank, other content", content(5, 101)},
		{"not valid", make([]byte, 100)},
		{"too long", content(6, 5000)},
	} {
		if err := pair.Write(c, x.b, rank); err == nil {
			t.Errorf("%s: written", x.name)
		}
	}
	if err := medium.WritePlace(c, pair[0], make([]byte, 512)); err != nil {
		t.Fatal(err)
	}
	if _, which, err := pair.Read(c, rank); which != 1 || err != nil {
		t.Errorf("copy %d: %v", which, err)
	}
	if err := pair.Write(c, content(5, 100), rank); err != nil {
		t.Errorf("repair: %v", err)
	}
	if _, which, err := pair.Read(c, rank); which != 0 || err != nil {
		t.Errorf("repaired, copy %d: %v", which, err)
	}
}

// anchors are two authorities of different purposes.
func anchors() *medium.Anchors {
	return &medium.Anchors{Development: true, Authorities: []image.Authority{imagetest.Authority(image.Release, "one"), imagetest.Authority(image.Configure, "one")}}
}

func TestAnchors(t *testing.T) {
	a := anchors()
	b, err := a.Encode()
	if err != nil {
		t.Fatal(err)
	}
	le := binary.LittleEndian
	if string(b[:8]) != "NCANCHR1" || le.Uint32(b[8:]) != 1 || le.Uint32(b[12:]) != 2 || le.Uint32(b[16:]) != 1 || le.Uint32(b[16+2016:]) != 2 ||
		!bytes.Equal(b[16+32:16+64], a.Authorities[0].Ed25519[:]) || !bytes.Equal(b[16+64:16+2016], a.Authorities[0].MLDSA65[:]) {
		t.Error("not as docs/medium.md has it")
	}
	c := mediumtest.New(blocks)
	if err := medium.WritePlace(c, medium.AnchorBlock, b[:]); err != nil {
		t.Fatal(err)
	}
	got, block, err := medium.ReadAnchors(c)
	if err != nil || !got.Development || !slices.Equal(got.Authorities, a.Authorities) || *block != *b {
		t.Fatal(err)
	}
	for n := range medium.AnchorSize * 8 {
		if testing.Short() && n%(8*5) != n/8%8 {
			continue // a bit of each fifth byte
		}
		b[n/8] ^= 1 << (n % 8)
		if _, err := medium.DecodeAnchors(b); code.Of(err) != code.AnchorBlock {
			t.Fatalf("byte %d, bit %d flipped: %v", n/8, n%8, err)
		}
		b[n/8] ^= 1 << (n % 8)
	}
}

// TestAnchorRefusals changes a block and computes its digest again.
func TestAnchorRefusals(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func([]byte)
		say    string
	}{
		{"none", func(b []byte) { b[12] = 0 }, "0 authorities"},
		{"five", func(b []byte) { b[12] = 5 }, "5 authorities"},
		{"2^32-1", func(b []byte) { copy(b[12:], "\xff\xff\xff\xff") }, "4294967295 authorities"},
		{"purpose", func(b []byte) { b[16] = 3 }, "purpose 3"},
		{"reserved of an authority", func(b []byte) { b[16+10] = 1 }, "reserved"},
		{"between authorities and digest", func(b []byte) { b[8159] = 1 }, "reserved"},
		{"flag", func(b []byte) { b[8] = 3 }, "flags 0x3"},
		{"Ed25519 key", func(b []byte) { clear(b[16+32 : 16+64]) }, "all zero"},
		{"ML-DSA-65 key", func(b []byte) { clear(b[16+64 : 16+2016]) }, "all zero"},
	} {
		b, err := anchors().Encode()
		if err != nil {
			t.Fatal(err)
		}
		c.change(b[:])
		sum := sha256.Sum256(b[:8160])
		copy(b[8160:], sum[:])
		if _, err := medium.DecodeAnchors(b); err == nil || !strings.Contains(err.Error(), c.say) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if _, err := (&medium.Anchors{}).Encode(); err == nil {
		t.Error("an anchor block without authorities can be made")
	}
}

// What the fuzzer found: see package corpus.
//
//go:embed testdata/anchors.hex
var keptAnchors string

func FuzzAnchors(f *testing.F) {
	corpus.Add(f, keptAnchors)
	b, err := anchors().Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b[:])
	f.Add(b[:20])
	f.Add(fmt.Appendf(nil, "NCANCHR1%s", "\x00\x00\x00\x00\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, p []byte) {
		var b [medium.AnchorSize]byte
		copy(b[:], p)
		sum := sha256.Sum256(b[:8160])
		copy(b[8160:], sum[:])
		a, err := medium.DecodeAnchors(&b)
		if err != nil {
			return
		}
		if again, err := a.Encode(); err != nil || *again != b {
			t.Errorf("two encodings of the same anchors: %v", err)
		}
	})
}
