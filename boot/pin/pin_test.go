package pin

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"errors"
	"testing"

	"nitro/boot/code"
	"nitro/boot/medium"
	"nitro/boot/medium/mediumtest"
	"nitro/internal/corpus"
)

var soc = bytes.Repeat([]byte{7}, SoCSize)

func name(v byte) []byte { return append([]byte{0, 0x0b}, bytes.Repeat([]byte{v}, 32)...) }

func names() Pin { return Pin{Storage: name(1), AK: name(2), EK: name(3), BoardKey: name(4)} }

// envelope stands for a board part: its signature is none of this package's business.
func envelope(revision uint32, n int) []byte {
	b := append([]byte("NCBOARD1"), make([]byte, n-8)...)
	le.PutUint32(b[12:], revision)
	for i := boardHeader; i < n; i++ {
		b[i] = byte(i)
	}
	return b
}

func card() *mediumtest.Card { return mediumtest.New(medium.MinSize / mediumtest.SectorSize) }

func TestRecord(t *testing.T) {
	p := names()
	p.Revision, p.Length, p.BoardPart = 3, 100, sha256.Sum256([]byte("x"))
	b, err := p.Encode(soc)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Open(b, soc)
	if err != nil {
		t.Fatal(err)
	}
	if got.Revision != 3 || got.Length != 100 || got.BoardPart != p.BoardPart || !bytes.Equal(got.EK, p.EK) || !bytes.Equal(got.BoardKey, p.BoardKey) {
		t.Errorf("%+v", got)
	}
	if len(b) != Size || string(b[:8]) != "NCPINNED" || b[12] != 3 || b[16] != 34 || b[16+4+1] != 0x0b || b[288] != p.BoardPart[0] || b[320] != 100 {
		t.Errorf("not as docs/medium.md has it: %x", b[:330])
	}
	for i := range b {
		c := bytes.Clone(b)
		c[i] ^= 1
		if _, err := Open(c, soc); err == nil {
			t.Fatalf("byte %d changed, and accepted", i)
		}
	}
}

// remade gives a changed record a right MAC: what the board itself would have to have
// written wrongly.
func remade(t *testing.T, change func(b []byte)) []byte {
	t.Helper()
	p := names()
	p.Length = 100
	b, err := p.Encode(soc)
	if err != nil {
		t.Fatal(err)
	}
	change(b)
	sum, err := mac(b, soc)
	if err != nil {
		t.Fatal(err)
	}
	copy(b[macAt:], sum)
	return b
}

func TestRefused(t *testing.T) {
	other := bytes.Repeat([]byte{8}, SoCSize)
	for what, c := range map[string]struct {
		b    []byte
		soc  []byte
		want error
	}{
		"zero":            {make([]byte, Size), soc, ErrNone},
		"another SoC":     {remade(t, func([]byte) {}), other, ErrMAC},
		"magic":           {remade(t, func(b []byte) { b[0]++ }), soc, ErrFormat},
		"version":         {remade(t, func(b []byte) { b[8]++ }), soc, ErrFormat},
		"empty name":      {remade(t, func(b []byte) { clear(b[16 : 16+68]) }), soc, ErrFormat},
		"name too long":   {remade(t, func(b []byte) { b[16] = 65 }), soc, ErrFormat},
		"length of 2^31":  {remade(t, func(b []byte) { b[19] = 0x80 }), soc, ErrFormat},
		"behind a name":   {remade(t, func(b []byte) { b[16+67] = 1 }), soc, ErrFormat},
		"no board part":   {remade(t, func(b []byte) { clear(b[320:324]) }), soc, ErrFormat},
		"long board part": {remade(t, func(b []byte) { b[323] = 1 }), soc, ErrFormat},
		"reserved":        {remade(t, func(b []byte) { b[324] = 1 }), soc, ErrFormat},
		"reserved, last":  {remade(t, func(b []byte) { b[macAt-1] = 1 }), soc, ErrFormat},
		"short":           {make([]byte, Size-1), soc, ErrFormat},
	} {
		if _, err := Open(c.b, c.soc); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := Open(remade(t, func([]byte) {}), soc[:31]); err == nil {
		t.Error("a short secret is accepted")
	}
	p := names()
	p.AK = nil
	if err := Write(card(), soc, p, envelope(1, 100)); err == nil {
		t.Error("a pin without an AK is written")
	}
	for _, n := range []int{boardHeader - 1, MaxEnvelope + 1} {
		if err := Write(card(), soc, names(), envelope(1, MaxEnvelope+1)[:n]); err == nil {
			t.Errorf("a board part of %d bytes is written", n)
		}
	}
}

// TestPlace: what is one card's and one board's, and goes together.
func TestPlace(t *testing.T) {
	c := card()
	if _, _, err := Read(c, soc); !errors.Is(err, ErrNone) || code.Of(err) != code.NotProvisioned {
		t.Error("a new card:", err)
	}
	for i, n := range []int{boardHeader, 1000, MaxEnvelope} {
		e := envelope(uint32(i)+1, n)
		if err := Write(c, soc, names(), e); err != nil {
			t.Fatal(err)
		}
		p, got, err := Read(c, soc)
		if err != nil || !bytes.Equal(got, e) || p.Revision != uint32(i)+1 || !bytes.Equal(p.Storage, name(1)) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	if err := Write(c, soc, names(), envelope(1, 100)); err == nil {
		t.Error("an older revision is written")
	}
	if _, _, err := Read(c, bytes.Repeat([]byte{8}, SoCSize)); !errors.Is(err, ErrMAC) || code.Of(err) != code.BoardMismatch {
		t.Error("another board:", err)
	}
	for what, at := range map[string]int{"payload": 20, "revision": 12, "last": MaxEnvelope - 1} {
		damaged := card()
		place := make([]byte, placeSize)
		if err := medium.ReadPlace(c, medium.BoardParts[0], place); err != nil {
			t.Fatal(err)
		}
		place[at] ^= 1
		for _, p := range medium.BoardParts {
			if err := medium.WritePlace(damaged, p, place); err != nil {
				t.Fatal(err)
			}
		}
		if _, _, err := Read(damaged, soc); !errors.Is(err, ErrFormat) || code.Of(err) != code.KnownGoodBad {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestCut cuts the power in both writes of the first pin, and of a later one.
func TestCut(t *testing.T) {
	c := card()
	if err := Write(c, soc, names(), envelope(1, 2000)); err != nil {
		t.Fatal(err)
	}
	states, provisioned := 0, 0
	for what, s := range c.States() {
		states++
		if _, _, err := Read(s, soc); err == nil {
			provisioned++
		} else if !errors.Is(err, ErrNone) {
			t.Fatalf("%s: %v", what, err)
		}
		if err := Write(s, soc, names(), envelope(1, 2000)); err != nil {
			t.Fatalf("%s: writing again: %v", what, err)
		}
	}
	if provisioned == 0 || provisioned == states {
		t.Errorf("%d of %d states are provisioned", provisioned, states)
	}
	c.Settle()
	if err := Write(c, soc, names(), envelope(2, 1000)); err != nil {
		t.Fatal(err)
	}
	for what, s := range c.States() {
		if _, _, err := Read(s, soc); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
}

// used is how much of a record is not reserved.
const used = 324

// What the fuzzer found: see package corpus.
//
//go:embed testdata/pins.hex
var keptPins string

func FuzzOpen(f *testing.F) {
	p := names()
	p.Length = 100
	b, err := p.Encode(soc)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b[:used])
	corpus.Add(f, keptPins)
	f.Fuzz(func(t *testing.T, begin []byte) {
		b := make([]byte, Size)
		copy(b[:macAt], begin)
		sum, err := mac(b, soc) // or no input would come past it
		if err != nil {
			t.Fatal(err)
		}
		copy(b[macAt:], sum)
		p, err := Open(b, soc)
		if err != nil {
			return
		}
		if again, err := p.Encode(soc); err != nil || !bytes.Equal(again, b) {
			t.Errorf("encodes as something else: %v", err)
		}
	})
}
