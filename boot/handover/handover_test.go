package handover

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"reflect"
	"strings"
	"testing"

	"nitro/boot/code"
	"nitro/boot/journal"
)

func sample() *Handover {
	h := &Handover{Slot: journal.B, Attempt: 3, Other: code.ImageDigest, Strength: OwnSecret, Executed: 12345, Elapsed: 1 << 40, Log: []byte("what was measured")}
	for i := range h.Secret {
		h.Secret[i] = byte(i + 1)
	}
	for i := range h.Seed {
		h.Seed[i] = byte(i + 101)
	}
	return h
}

func put(t *testing.T, h *Handover) []byte {
	t.Helper()
	mem := bytes.Repeat([]byte{0xaa}, Size)
	if err := Put(mem, h); err != nil {
		t.Fatal(err)
	}
	return mem
}

func zeroed(b []byte) bool { return bytes.Equal(b, make([]byte, len(b))) }

func TestTake(t *testing.T) {
	for _, log := range []int{1, 17, MaxLog} {
		h := sample()
		h.Log = bytes.Repeat([]byte{7}, log)
		mem := put(t, h)
		if !zeroed(mem[256+log:]) {
			t.Error("what was there before is left behind the log")
		}
		got, err := Take(mem)
		if err != nil || !reflect.DeepEqual(got, h) {
			t.Fatalf("%v: %+v", err, got)
		}
		if !zeroed(mem) {
			t.Error("the block is not zeroed")
		}
		if _, err := Take(mem); code.Of(err) != code.HandoverDamaged {
			t.Errorf("taken twice: %v", err)
		}
		got.Zero()
		if !zeroed(got.Secret[:]) || !zeroed(got.Seed[:]) {
			t.Error("the secrets are still there")
		}
	}
}

// TestLayout checks offsets by hand against docs/medium.md.
func TestLayout(t *testing.T) {
	h := sample()
	b := put(t, h)
	le := binary.LittleEndian
	sum := sha256.Sum256(append(bytes.Clone(b[:224]), h.Log...))
	if string(b[:8]) != "NCHANDO1" || le.Uint32(b[8:]) != 17 || le.Uint32(b[12:]) != 1 || le.Uint32(b[16:]) != 3 || le.Uint32(b[20:]) != 206 ||
		le.Uint32(b[24:]) != 2 || le.Uint32(b[28:]) != 12345 || !bytes.Equal(b[32:64], h.Secret[:]) || !bytes.Equal(b[64:128], h.Seed[:]) ||
		le.Uint64(b[128:]) != 1<<40 || !bytes.Equal(b[224:256], sum[:]) || !bytes.Equal(b[256:273], h.Log) {
		t.Errorf("not as docs/medium.md has it: %x", b[:280])
	}
}

// TestDamage flips each bit of what is used.
func TestDamage(t *testing.T) {
	good := put(t, sample())
	for n := range (offLog + 17) * 8 {
		mem := bytes.Clone(good)
		mem[n/8] ^= 1 << (n % 8)
		if h, err := Take(mem); code.Of(err) != code.HandoverDamaged || h != nil {
			t.Errorf("byte %d, bit %d: %v", n/8, n%8, err)
		}
		if !zeroed(mem) {
			t.Fatalf("byte %d, bit %d: not zeroed", n/8, n%8)
		}
	}
}

// TestBounds changes a block and computes its digest again.
func TestBounds(t *testing.T) {
	for _, c := range []struct {
		name string
		at   int
		v    uint32
		say  string
	}{
		{"no log", 8, 0, "event log of 0 bytes"},
		{"long log", 8, MaxLog + 1, "event log of 49153"},
		{"longest log", 8, 1<<32 - 1, "event log of 4294967295"},
		{"slot", 12, 2, "slot 2"},
		{"slot that a byte cannot hold", 12, 256, "slot 256"},
		{"attempt", 16, 4, "attempt 4"},
		{"code", 20, 1 << 16, "code 65536"},
		{"strength", 24, 3, "strength 3"},
		{"reserved", 136, 1, "reserved byte 136"},
		{"reserved at the end", 220, 1 << 24, "reserved byte 223"},
	} {
		mem := put(t, sample())
		binary.LittleEndian.PutUint32(mem[c.at:], c.v)
		sum := digest(mem, 17)
		copy(mem[offDigest:], sum[:])
		if _, err := Take(mem); err == nil || !strings.Contains(err.Error(), c.say) {
			t.Errorf("%s: %v", c.name, err)
		}
		if !zeroed(mem) {
			t.Errorf("%s: not zeroed", c.name)
		}
	}
	for _, change := range []func(*Handover){
		func(h *Handover) { h.Log = nil },
		func(h *Handover) { h.Log = make([]byte, MaxLog+1) },
		func(h *Handover) { h.Slot = journal.None },
		func(h *Handover) { h.Attempt = 4 },
		func(h *Handover) { h.Strength = 3 },
	} {
		h := sample()
		change(h)
		if Put(make([]byte, Size), h) == nil {
			t.Errorf("%+v can be put", h)
		}
	}
	if Put(make([]byte, Size-1), sample()) == nil {
		t.Error("a smaller place")
	}
	short := put(t, sample())[:Size-1]
	if _, err := Take(short); err == nil || !zeroed(short) {
		t.Errorf("a smaller place: %v", err)
	}
}

func FuzzTake(f *testing.F) {
	mem := make([]byte, Size)
	if err := Put(mem, sample()); err != nil {
		f.Fatal(err)
	}
	f.Add(mem[:300])
	f.Add([]byte("NCHANDO1\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, p []byte) {
		mem := make([]byte, Size)
		copy(mem, p)
		if n := binary.LittleEndian.Uint32(mem[8:]); n <= MaxLog {
			sum := digest(mem, int(n))
			copy(mem[offDigest:], sum[:])
		}
		was := bytes.Clone(mem)
		h, err := Take(mem)
		if !zeroed(mem) {
			t.Fatal("not zeroed")
		}
		if err != nil {
			return
		}
		again := make([]byte, Size)
		if err := Put(again, h); err != nil || !bytes.Equal(again[:offLog+len(h.Log)], was[:offLog+len(h.Log)]) {
			t.Errorf("two encodings of one hand-over: %v", err)
		}
	})
}
