package mmiotest

import (
	"fmt"
	"strings"
	"testing"
)

// A judge is a test that notes how it fails.
type judge struct {
	testing.TB
	said string
}

func (j *judge) Helper()        {}
func (j *judge) Cleanup(func()) {}
func (j *judge) Failed() bool   { return j.said != "" }
func (j *judge) Errorf(format string, args ...any) {
	j.said = fmt.Sprintf(format, args...)
}
func (j *judge) Fatalf(format string, args ...any) {
	j.Errorf(format, args...)
	panic(j)
}

// verdict plays accesses against a script of one read, polls and writes.
func verdict(accesses func(a, b *Block)) string {
	j := &judge{}
	s := New(j)
	a, b := s.Block("a"), s.Block("b")
	s.Expect(a.Reads(0x8, 5), b.Writes(0x4, 7), a.Polls(0x0, 1), a.Reads(0x0, 2), a.Writes16(0x2, 9), b.Reads16(0x6, 3))
	func() {
		defer func() {
			if p := recover(); p != nil && p != any(j) {
				panic(p)
			}
		}()
		accesses(a, b)
	}()
	s.Finish()
	return j.said
}

func TestDeviations(t *testing.T) {
	start := func(a, b *Block) {
		a.Read32(8)
		b.Write32(4, 7)
	}
	good := func(a, b *Block) {
		start(a, b)
		if a.Read32(0) != 1 || a.Read32(0) != 1 {
			t.Error("polls do not give their value")
		}
	}
	for _, c := range []struct {
		name     string
		accesses func(a, b *Block)
		want     string
	}{
		{"nothing", func(a, b *Block) {}, "step 1 of 6 did not come: a.Reads(0x08, 0x5)"},
		{"another offset", func(a, b *Block) { a.Read32(4) }, "step 1 of 6: came a.Reads(0x04, 0x0), expected a.Reads(0x08, 0x5)"},
		{"another block", func(a, b *Block) { b.Read32(8) }, "step 1 of 6: came b.Reads(0x08, 0x0), expected a.Reads(0x08, 0x5)"},
		{"another width", func(a, b *Block) { a.Read16(8) }, "step 1 of 6: came a.Reads16(0x08, 0x0), expected a.Reads(0x08, 0x5)"},
		{"another direction", func(a, b *Block) { a.Write32(8, 5) }, "step 1 of 6: came a.Writes(0x08, 0x5), expected a.Reads(0x08, 0x5)"},
		{"another value", func(a, b *Block) { a.Read32(8); b.Write32(4, 8) }, "step 2 of 6: came b.Writes(0x04, 0x8), expected b.Writes(0x04, 0x7)"},
		{"no poll", func(a, b *Block) { start(a, b); a.Write16(2, 9) }, "step 3 of 6: came a.Writes16(0x02, 0x9), expected a.Polls(0x00, 0x1)"},
		{"end within polls", good, "step 4 of 6 did not come: a.Reads(0x00, 0x2)"},
	} {
		if got := verdict(c.accesses); got != c.want {
			t.Errorf("%s: %q, not %q", c.name, got, c.want)
		}
	}
}

// TestWhole plays a script to its end and one access further.
func TestWhole(t *testing.T) {
	j := &judge{}
	s := New(j)
	a := s.Block("a")
	s.Expect(a.Polls16(0x2, 4), a.Writes(0x4, 7))
	for range 3 {
		if a.Read16(2) != 4 {
			t.Error("a poll does not give its value")
		}
	}
	a.Write32(4, 7)
	if s.Finish(); j.said != "" {
		t.Error(j.said)
	}
	defer func() {
		if recover() != any(j) || j.said != "after the script's 2 steps came a.Reads(0x08, 0x0)" {
			t.Errorf("%q", j.said)
		}
	}()
	a.Read32(8)
}

func TestRecorder(t *testing.T) {
	s := New(t)
	a := s.Block("a")
	s.Expect(a.Reads(0x8, 5), a.Writes(0x4, 7), a.Writes16(0x2, 9), a.Reads16(0x6, 3))
	r := Record("real", a)
	if r.Read32(8) != 5 {
		t.Error("a read gives another value")
	}
	r.Write32(4, 7)
	r.Write16(2, 9)
	if r.Read16(6) != 3 {
		t.Error("a 16-bit read gives another value")
	}
	want := []string{"real.Reads(0x08, 0x5),", "real.Writes(0x04, 0x7),", "real.Writes16(0x02, 0x9),", "real.Reads16(0x06, 0x3),", ""}
	if got := r.String(); got != strings.Join(want, "\n") {
		t.Errorf("recorded\n%s", got)
	}
}
