package cardflash

import (
	"bytes"
	_ "embed"
	"errors"
	"reflect"
	"testing"

	"nitro/boot/medium/mediumtest"
	"nitro/internal/corpus"
	"nitro/resetctl/firmware"
)

var _ firmware.Flash = (*Chip)(nil)

// What the fuzzer found: see package corpus.
//
//go:embed testdata/cards.hex
var kept string

func made(t *testing.T) (*mediumtest.Card, *Chip, *Chip) {
	t.Helper()
	card := mediumtest.New(4 << 20 / sector)
	host, bmc := bytes.Repeat([]byte{0xa5}, 64<<10), bytes.Repeat([]byte{0x5a}, 1<<20)
	if err := Write(card, Content{firmware.Host, 4 << 10, host}, Content{firmware.BMC, 64 << 10, bmc}); err != nil {
		t.Fatal(err)
	}
	h, err := Open(card, firmware.Host)
	if err != nil {
		t.Fatal(err)
	}
	b, err := Open(card, firmware.BMC)
	if err != nil {
		t.Fatal(err)
	}
	return card, h, b
}

// TestChips: each part's chip has its size, its erase blocks and its content, at any
// offset and length.
func TestChips(t *testing.T) {
	_, h, b := made(t)
	if h.Size() != 64<<10 || h.EraseSize() != 4<<10 || b.Size() != 1<<20 || b.EraseSize() != 64<<10 {
		t.Errorf("chips are %+v, %+v", h, b)
	}
	for _, c := range []struct{ at, n int64 }{{0, 1}, {511, 2}, {512, 512}, {100, 1500}, {0, 64 << 10}, {65535, 1}, {1024, 700}} {
		for chip, is := range map[*Chip]byte{h: 0xa5, b: 0x5a} {
			p := make([]byte, c.n)
			if n, err := chip.ReadAt(p, c.at); n != len(p) || err != nil || !bytes.Equal(p, bytes.Repeat([]byte{is}, len(p))) {
				t.Errorf("%d bytes at %d: %d, %v", c.n, c.at, n, err)
			}
		}
	}
	if _, err := h.ReadAt(make([]byte, 2), h.Size()-1); err == nil {
		t.Error("a chip can be read past its end")
	}
	if _, err := h.ReadAt(make([]byte, 2), -1); err == nil {
		t.Error("a chip can be read before its beginning")
	}
}

// TestHabits: bits only go from 1 to 0, and whole blocks go back.
func TestHabits(t *testing.T) {
	_, h, _ := made(t)
	if err := h.Erase(4<<10, 100); err == nil {
		t.Error("a part of a block was erased")
	}
	if err := h.Erase(4<<10, 4<<10); err != nil {
		t.Fatal(err)
	}
	for _, x := range []byte{0xf0, 0x3c} {
		if _, err := h.WriteAt(bytes.Repeat([]byte{x}, 1000), 5000); err != nil {
			t.Fatal(err)
		}
	}
	p := make([]byte, 6<<10)
	if _, err := h.ReadAt(p, 3<<10); err != nil {
		t.Fatal(err)
	}
	want := append(bytes.Repeat([]byte{0xa5}, 1<<10), bytes.Repeat([]byte{0xff}, 4<<10)...)
	want = append(want, bytes.Repeat([]byte{0xa5}, 1<<10)...)
	copy(want[5000-3<<10:], bytes.Repeat([]byte{0x30}, 1000))
	if !bytes.Equal(p, want) {
		t.Error("the chip is not as a NOR flash would be")
	}
}

// TestProtection: what is protected cannot be written or erased, what lies beside it can,
// and the other chip has a status of its own. It outlives the Chip.
func TestProtection(t *testing.T) {
	card, h, b := made(t)
	guarded := [][2]int64{{0, 4 << 10}, {8 << 10, 4 << 10}}
	if err := h.Protect(guarded); err != nil {
		t.Fatal(err)
	}
	h, err := Open(card, firmware.Host)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := h.Protected(); !reflect.DeepEqual(got, guarded) || err != nil {
		t.Errorf("protected are %v, %v", got, err)
	}
	for _, at := range []int64{0, 4095, 8 << 10, 12<<10 - 1} {
		if _, err := h.WriteAt([]byte{0}, at); !errors.Is(err, ErrProtected) {
			t.Errorf("writing at %d: %v", at, err)
		}
	}
	if err := h.Erase(4<<10, 8<<10); !errors.Is(err, ErrProtected) {
		t.Errorf("erasing: %v", err)
	}
	if err := h.Erase(4<<10, 4<<10); err != nil {
		t.Error(err)
	}
	if _, err := h.WriteAt(make([]byte, 4<<10), 4<<10); err != nil {
		t.Error(err)
	}
	if got, err := b.Protected(); got != nil || err != nil {
		t.Errorf("the other chip protects %v, %v", got, err)
	}
	if err := h.Protect(nil); err != nil {
		t.Error(err)
	}
	if got, err := h.Protected(); len(got) != 0 || err != nil {
		t.Errorf("protected are %v, %v", got, err)
	}
}

// TestNoChips: a card without a table, or with one that is none, has no chips.
func TestNoChips(t *testing.T) {
	if _, err := Open(mediumtest.New(8), firmware.Host); err == nil {
		t.Error("an empty card has a chip")
	}
	for name, change := range map[string]func(b []byte){
		"magic":       func(b []byte) { b[0] ^= 1 },
		"count":       func(b []byte) { b[8] = 3 },
		"none":        func(b []byte) { b[8] = 0 },
		"erase":       func(b []byte) { b[21]++ },
		"small":       func(b []byte) { le.PutUint32(b[20:], 512) },
		"offset":      func(b []byte) { b[24] = 1 },
		"past":        func(b []byte) { b[27] = 0x80 },
		"far":         func(b []byte) { b[31] = 0x80 },
		"size":        func(b []byte) { le.PutUint64(b[32:], 1<<40) },
		"no size":     func(b []byte) { le.PutUint64(b[32:], 0) },
		"other parts": func(b []byte) { b[16], b[48] = 9, 9 },
	} {
		card, _, _ := made(t)
		var b [sector]byte
		if err := card.ReadBlocks(0, b[:]); err != nil {
			t.Fatal(err)
		}
		change(b[:])
		if err := card.WriteBlocks(0, b[:]); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(card, firmware.Host); err == nil {
			t.Errorf("%s: is taken for a chip", name)
		}
	}
	card, h, _ := made(t)
	for name, change := range map[string]func(b []byte){
		"magic": func(b []byte) { b[0] ^= 1 }, "count": func(b []byte) { b[8] = 31 }, "past": func(b []byte) { b[26] = 2 },
		"empty": func(b []byte) { clear(b[24:32]) },
	} {
		if err := h.Protect([][2]int64{{0, 64 << 10}}); err != nil {
			t.Fatal(err)
		}
		var b [sector]byte
		card.ReadBlocks(1, b[:])
		change(b[:])
		card.WriteBlocks(1, b[:])
		if got, err := h.Protected(); err == nil {
			t.Errorf("%s: protects %v", name, got)
		}
	}
}

// FuzzOpen: whatever the first sectors of a card hold, a chip lies within the card, and what
// it protects within the chip.
func FuzzOpen(f *testing.F) {
	table := le.AppendUint64([]byte(magic), 1)
	table = le.AppendUint32(le.AppendUint32(table, 5), 4<<10)
	table = le.AppendUint64(le.AppendUint64(table, Align), 64<<10)
	status := le.AppendUint64([]byte(statusMagic), 1)
	status = le.AppendUint64(le.AppendUint64(status, 4<<10), 4<<10)
	f.Add(append(append(table, make([]byte, sector-len(table))...), status...))
	corpus.Add(f, kept)
	f.Fuzz(func(t *testing.T, b []byte) {
		const cardSize = 4 << 20
		card := mediumtest.New(cardSize / sector)
		if err := card.WriteBlocks(0, append(b, make([]byte, 3*sector)...)[:3*sector]); err != nil {
			t.Fatal(err)
		}
		c, err := Open(card, firmware.Host)
		if err != nil {
			return
		}
		if c.offset < Align || c.size <= 0 || c.offset+c.size > cardSize || c.size%c.erase != 0 {
			t.Fatalf("a chip %+v on a card of %d bytes", c, cardSize)
		}
		guarded, err := c.Protected()
		end := int64(0)
		for _, r := range guarded {
			if err != nil || r[0] < end || r[1] <= 0 || r[0]+r[1] > c.size {
				t.Fatalf("protected are %v of %d bytes, %v", guarded, c.size, err)
			}
			end = r[0] + r[1]
		}
	})
}
