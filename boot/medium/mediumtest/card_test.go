package mediumtest_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"

	"nitro/boot/medium"
	"nitro/boot/medium/mediumtest"
)

var _ medium.Device = (*mediumtest.Card)(nil)

// fill is n sectors of one byte.
func fill(n int, v byte) []byte { return bytes.Repeat([]byte{v}, n*mediumtest.SectorSize) }

// show tells the first bytes of sectors 0 to 3: '?' is garbage, '!' unreadable.
func show(c *mediumtest.Card) (s string) {
	var b [mediumtest.SectorSize]byte
	for n := range uint64(4) {
		switch err := c.ReadBlocks(n, b[:]); {
		case err != nil:
			s += "!"
		case bytes.Count(b[:], b[:1]) != len(b):
			s += "?"
		default:
			s += fmt.Sprint(b[0])
		}
	}
	return s
}

func TestStates(t *testing.T) {
	c := mediumtest.New(4)
	write := func(first uint64, p []byte) {
		t.Helper()
		if err := c.WriteBlocks(first, p); err != nil {
			t.Fatal(err)
		}
	}
	write(0, fill(4, 1))
	c.Settle()
	write(1, fill(3, 2))
	write(0, fill(1, 3))
	var got []string
	for _, s := range c.States() {
		got = append(got, show(s))
	}
	want := []string{
		"1111",         // before
		"1?11", "1!11", // the first sector under way
		"1211", "1112", "12?1", "12!1", // one there
		"1221", "1122", "122?", "122!", // two there
		"1222",         // the first write
		"?222", "!222", // the second one under way
		"3222", // all
	}
	if !slices.Equal(got, want) {
		t.Errorf("%q\nwant\n%q", got, want)
	}
	if show(c) != "3222" || len(c.Writes()) != 2 {
		t.Errorf("the card itself is %s with %d writes", show(c), len(c.Writes()))
	}
}

// TestCutLive finds the same states as TestStates does, one run each.
func TestCutLive(t *testing.T) {
	got := map[string]bool{}
	for _, tear := range mediumtest.Tears {
		for n := range 5 {
			c := mediumtest.New(4)
			if err := c.WriteBlocks(0, fill(4, 1)); err != nil {
				t.Fatal(err)
			}
			c.CutAfter(n, tear)
			err := errors.Join(c.WriteBlocks(1, fill(3, 2)), c.WriteBlocks(0, fill(1, 3)))
			if off := n < 4; c.Off() != off || errors.Is(err, mediumtest.ErrPowerCut) != off {
				t.Errorf("%d sectors: off %v, %v", n, c.Off(), err)
			}
			if c.Off() && !errors.Is(c.ReadBlocks(0, fill(1, 0)), mediumtest.ErrPowerCut) {
				t.Error("a card without power can be read")
			}
			c.PowerOn()
			got[show(c)] = true
		}
	}
	want := []string{"!222", "1!11", "1111", "1112", "1122", "12!1", "1211", "122!", "1221", "1222", "12?1", "122?", "1?11", "3222", "?222"}
	slices.Sort(want)
	if s := slices.Sorted(maps.Keys(got)); !slices.Equal(s, want) {
		t.Errorf("%q\nwant\n%q", s, want)
	}
}

func TestBounds(t *testing.T) {
	c := mediumtest.New(4)
	for _, a := range []struct {
		first uint64
		bytes int
	}{{0, 0}, {0, 100}, {4, 512}, {3, 1024}, {1<<64 - 1, 512}} {
		if c.ReadBlocks(a.first, make([]byte, a.bytes)) == nil || c.WriteBlocks(a.first, make([]byte, a.bytes)) == nil {
			t.Errorf("%d bytes at block %d are allowed", a.bytes, a.first)
		}
	}
	broken := errors.New("broken")
	c.Fail(broken)
	if err := c.ReadBlocks(0, make([]byte, 512)); err != broken {
		t.Error(err)
	}
}
