package journal

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"testing"

	"nitro/boot/code"
	"nitro/boot/medium"
	"nitro/boot/medium/mediumtest"
)

const blocks = medium.MinSize / mediumtest.SectorSize

// state is one that differs with n.
func state(n int) State {
	s := Fresh()
	s.Slots[A] = SlotState{Proven, MaxAttempts, code.NotHealthy, uint32(n), sha256.Sum256([]byte{byte(n)})}
	s.Trying, s.Pending = B, n%2 == 0
	return s
}

func open(t *testing.T, d medium.Device) *Journal {
	t.Helper()
	j, err := Open(d)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func TestWrite(t *testing.T) {
	c := mediumtest.New(blocks)
	j := open(t, c)
	if j.State() != Fresh() || j.Revision() != 0 {
		t.Errorf("an empty medium: %+v", j.State())
	}
	for n := 1; n <= 30; n++ {
		if err := j.Write(state(n)); err != nil {
			t.Fatal(err)
		}
		if again := open(t, c); again.State() != state(n) || again.Revision() != uint64(n) || j.State() != state(n) {
			t.Fatalf("after %d: revision %d, %+v", n, again.Revision(), again.State())
		}
	}
}

// TestLayout checks offsets by hand against docs/medium.md.
func TestLayout(t *testing.T) {
	c := mediumtest.New(blocks)
	j := open(t, c)
	if err := errors.Join(j.Write(state(1)), j.Write(state(2))); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 512)
	if err := c.ReadBlocks((8<<20+2*4096)/512, b); err != nil {
		t.Fatal(err)
	}
	le := binary.LittleEndian
	sum, digest := sha256.Sum256(b[:480]), sha256.Sum256([]byte{2})
	if string(b[:8]) != "NCSLOTS1" || le.Uint64(b[8:]) != 2 || b[16] != 0 || b[17] != 1 || b[18] != 1 ||
		b[32] != 2 || b[33] != 3 || le.Uint16(b[34:]) != 211 || le.Uint32(b[36:]) != 2 || !bytes.Equal(b[48:80], digest[:]) ||
		b[80] != 1 || b[81] != 1 || !bytes.Equal(b[480:], sum[:]) {
		t.Errorf("not as docs/medium.md has it: %x", b)
	}
}

// TestPowerCut: at every moment of 20 writes the journal is at the record before or the
// one being written, and goes on from there.
func TestPowerCut(t *testing.T) {
	for n := 1; n <= 20; n++ {
		c := mediumtest.New(blocks)
		j := open(t, c)
		for i := 1; i < n; i++ {
			if err := j.Write(state(i)); err != nil {
				t.Fatal(err)
			}
		}
		before := j.State()
		c.Settle()
		if err := j.Write(state(n)); err != nil {
			t.Fatal(err)
		}
		var last State
		for when, s := range c.States() {
			j := open(t, s)
			if last = j.State(); last != before && last != state(n) {
				t.Fatalf("%d, %s: %+v", n, when, last)
			}
			if err := j.Write(state(99)); err != nil {
				t.Fatal(err)
			}
			if got := open(t, s).State(); got != state(99) {
				t.Fatalf("%d, %s: the next record does not count", n, when)
			}
		}
		if last != state(n) {
			t.Errorf("%d: a write that has returned is lost", n)
		}
	}
}

// TestPowerCutTwice cuts a write that follows a cut one.
func TestPowerCutTwice(t *testing.T) {
	c := mediumtest.New(blocks)
	j := open(t, c)
	for i := 1; i <= 9; i++ {
		if err := j.Write(state(i)); err != nil {
			t.Fatal(err)
		}
	}
	c.Settle()
	if err := j.Write(state(10)); err != nil {
		t.Fatal(err)
	}
	for first, s := range c.States() {
		j := open(t, s)
		before := j.State()
		s.Settle()
		if err := j.Write(state(11)); err != nil {
			t.Fatal(err)
		}
		for second, s := range s.States() {
			if got := open(t, s).State(); got != before && got != state(11) {
				t.Fatalf("%s, then %s: %+v", first, second, got)
			}
		}
	}
}

// put writes a record where it is told, digest and all.
func put(t *testing.T, c *mediumtest.Card, at uint64, revision uint64, s State, change func(b []byte)) {
	t.Helper()
	b := encode(revision, s)
	if change != nil {
		change(b[:])
		sum := sha256.Sum256(b[:offDigest])
		copy(b[offDigest:], sum[:])
	}
	if err := medium.WritePlace(c, place(at), b[:]); err != nil {
		t.Fatal(err)
	}
}

// TestPlanted: records that Write never makes do not count.
func TestPlanted(t *testing.T) {
	for _, p := range []struct {
		name     string
		at       uint64
		revision uint64
		change   func(b []byte)
	}{
		{"magic", 2, 2, func(b []byte) { b[7] = '2' }},
		{"other place", 3, 2, nil},
		{"revision without a successor", 0, 1 << 63, nil},
		{"last revision", 7, 1<<64 - 1, nil},
		{"preferred", 2, 2, func(b []byte) { b[16] = 2 }},
		{"trying", 2, 2, func(b []byte) { b[17] = 7 }},
		{"pending", 2, 2, func(b []byte) { b[18] = 2 }},
		{"pending of nothing", 2, 2, func(b []byte) { b[17], b[18] = 0xff, 1 }},
		{"reserved", 2, 2, func(b []byte) { b[19] = 1 }},
		{"reserved of a slot", 2, 2, func(b []byte) { b[32+8] = 1 }},
		{"reserved at the end", 2, 2, func(b []byte) { b[479] = 1 }},
		{"status", 2, 2, func(b []byte) { b[80] = 4 }},
		{"attempts", 2, 2, func(b []byte) { b[33] = 4 }},
	} {
		c := mediumtest.New(blocks)
		put(t, c, 1, 1, state(1), nil)
		put(t, c, p.at, p.revision, state(2), p.change)
		if j := open(t, c); j.Revision() != 1 || j.State() != state(1) {
			t.Errorf("%s: revision %d counts", p.name, j.Revision())
		}
	}
	c := mediumtest.New(blocks)
	put(t, c, maxRevision, maxRevision, state(1), nil)
	if err := open(t, c).Write(state(2)); code.Of(err) != code.JournalUnwritable {
		t.Errorf("behind the last revision: %v", err)
	}
}

func TestBrokenCard(t *testing.T) {
	c := mediumtest.New(blocks)
	j := open(t, c)
	c.Fail(errors.New("no answer"))
	if _, err := Open(c); code.Of(err) != code.ImageUnreadable {
		t.Error(err)
	}
	if err := j.Write(state(1)); code.Of(err) != code.JournalUnwritable || j.State() != Fresh() {
		t.Error(err)
	}
	bad := state(1)
	bad.Slots[0].Attempts = 9
	if j.Write(bad) == nil {
		t.Error("what no record says can be written")
	}
}

func FuzzRecord(f *testing.F) {
	for n := range 3 {
		b := encode(uint64(n), state(n))
		f.Add(b[:])
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		var b [recordSize]byte
		copy(b[:], p)
		sum := sha256.Sum256(b[:offDigest])
		copy(b[offDigest:], sum[:])
		r, s, err := decode(&b)
		if err != nil {
			return
		}
		if again := encode(r, s); again != b {
			t.Error("two encodings of one record")
		}
	})
}
