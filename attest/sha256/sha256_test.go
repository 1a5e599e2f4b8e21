package sha256

import (
	"bufio"
	"bytes"
	standard "crypto/sha256"
	"encoding"
	"encoding/hex"
	"fmt"
	"hash"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// vectors reads a response file of NIST's CAVP: a map from name to value for each
// block of lines.
func vectors(t *testing.T, name string) (all []map[string]string) {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	s := bufio.NewScanner(f)
	s.Buffer(nil, 1<<20)
	v := map[string]string{}
	for s.Scan() {
		if name, value, ok := strings.Cut(s.Text(), " = "); ok && !strings.HasPrefix(name, "[") {
			v[name] = value
		} else if len(v) > 0 {
			all, v = append(all, v), map[string]string{}
		}
	}
	if err := s.Err(); err != nil {
		t.Fatal(err)
	}
	if len(v) > 0 {
		all = append(all, v)
	}
	return all
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestNIST runs NIST's messages, SHA256ShortMsg and SHA256LongMsg.
func TestNIST(t *testing.T) {
	for _, c := range []struct {
		file string
		run  int
	}{{"SHA256ShortMsg.rsp", 65}, {"SHA256LongMsg.rsp", 13}} {
		run := 0
		for _, v := range vectors(t, c.file) {
			bits, err := strconv.Atoi(v["Len"])
			if err != nil {
				t.Fatalf("%s: length of %v: %v", c.file, v, err)
			}
			run++
			if got := Sum256(unhex(t, v["Msg"])[:bits/8]); hex.EncodeToString(got[:]) != v["MD"] {
				t.Errorf("%s: %d bits: %x, want %s", c.file, bits, got, v["MD"])
			}
		}
		if run != c.run {
			t.Errorf("%s: %d vectors, want %d", c.file, run, c.run)
		}
	}
}

// TestMonte runs NIST's pseudorandom messages (The Secure Hash Algorithm Validation
// System, 6.4): a chain of a thousand digests for each vector.
func TestMonte(t *testing.T) {
	all := vectors(t, "SHA256Monte.rsp")
	if len(all) != 101 {
		t.Fatalf("%d vectors, want a seed and 100", len(all))
	}
	seed := unhex(t, all[0]["Seed"])
	all = all[1:]
	if testing.Short() {
		all = all[:10]
	}
	for _, v := range all {
		m := bytes.Repeat(seed, 3)
		for range 1000 {
			digest := Sum256(m)
			m = append(m[Size:], digest[:]...)
		}
		seed = m[2*Size:]
		if hex.EncodeToString(seed) != v["MD"] {
			t.Fatalf("count %s: %x, want %s", v["COUNT"], seed, v["MD"])
		}
	}
}

// message makes repeatable random bytes.
func message(seed uint64, n int) []byte {
	rng := rand.New(rand.NewPCG(seed, 0x736861))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

// TestSplits gives every message of up to 300 bytes whole and in all pairs of parts.
func TestSplits(t *testing.T) {
	m := message(1, 300)
	h := New()
	for n := range len(m) + 1 {
		want := standard.Sum256(m[:n])
		if got := Sum256(m[:n]); got != want {
			t.Fatalf("%d bytes: %x, want %x", n, got, want)
		}
		for cut := range n + 1 {
			h.Reset()
			h.Write(m[:cut])
			h.Write(m[cut:n])
			if got := h.Sum(nil); !bytes.Equal(got, want[:]) {
				t.Fatalf("%d bytes after %d: %x, want %x", n-cut, cut, got, want)
			}
		}
	}
}

// TestRandom gives a million bytes in parts of random lengths, and asks for the digest
// after each.
func TestRandom(t *testing.T) {
	rng := rand.New(rand.NewPCG(2, 0))
	m := message(3, 1<<20)
	h, want := New(), standard.New()
	for rest := m; len(rest) > 0; {
		n := min(len(rest), []int{rng.IntN(200), rng.IntN(3000), rng.IntN(30000)}[rng.IntN(3)])
		if got, err := h.Write(rest[:n]); got != n || err != nil {
			t.Fatalf("writing %d bytes: %d, error %v", n, got, err)
		}
		want.Write(rest[:n])
		rest = rest[n:]
		if !bytes.Equal(h.Sum(nil), want.Sum(nil)) {
			t.Fatalf("wrong after %d bytes", len(m)-len(rest))
		}
	}
	if Sum256(m) != standard.Sum256(m) {
		t.Error("wrong in one piece")
	}
}

// TestAlignment gives messages that begin at each offset in memory, of lengths around
// whole batches and odd numbers of blocks, and holds that they stay as they are.
func TestAlignment(t *testing.T) {
	for _, n := range []int{1, 64, 65, 128, 192, 1023, 1024, 1025, 1087, 1088, 2048 + 64, 4096} {
		m := message(uint64(n), n)
		want := standard.Sum256(m)
		for offset := range 65 {
			b := append(make([]byte, offset, offset+n), m...)[offset:]
			if got := Sum256(b); got != want {
				t.Fatalf("%d bytes at offset %d: %x, want %x", n, offset, got, want)
			}
			if !bytes.Equal(b, m) {
				t.Fatalf("%d bytes at offset %d were changed", n, offset)
			}
		}
	}
}

// TestSum holds that Sum appends, and leaves the hash to go on; and what the other
// methods say.
func TestSum(t *testing.T) {
	m := message(4, 200)
	h := New()
	for n := range m {
		want := standard.Sum256(m[:n])
		if got := h.Sum([]byte("x")); !bytes.Equal(got, append([]byte("x"), want[:]...)) {
			t.Fatalf("%d bytes: %x, want x and %x", n, got, want)
		}
		h.Write(m[n : n+1])
	}
	if h.Size() != Size || h.BlockSize() != BlockSize {
		t.Errorf("size %d, block %d", h.Size(), h.BlockSize())
	}
}

// saved is what marshals and unmarshals.
type saved interface {
	hash.Hash
	hash.Cloner
	encoding.BinaryMarshaler
	encoding.BinaryAppender
	encoding.BinaryUnmarshaler
}

// TestSaved stops after each number of bytes, and goes on from the saved state: here,
// in crypto/sha256, and from its state here; and in a clone.
func TestSaved(t *testing.T) {
	m := message(5, 200)
	want := standard.Sum256(m)
	for n := range m {
		own, other := New().(saved), standard.New().(saved)
		own.Write(m[:n/2]) // in two parts, which leaves something behind in its buffer
		own.Write(m[n/2 : n])
		other.Write(m[:n])
		clone, err := own.Clone()
		if err != nil {
			t.Fatal(err)
		}
		state, err := own.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		if same, err := other.AppendBinary(nil); err != nil || !bytes.Equal(state, same) {
			t.Fatalf("%d bytes: state %x, crypto/sha256's %x, error %v", n, state, same, err)
		}
		next := New().(saved)
		next.Write(m[:77]) // which must be forgotten
		if err := next.UnmarshalBinary(state); err != nil {
			t.Fatal(err)
		}
		for _, h := range []hash.Hash{clone, next} {
			h.Write(m[n:])
			if got := h.Sum(nil); !bytes.Equal(got, want[:]) {
				t.Fatalf("going on after %d bytes: %x, want %x", n, got, want)
			}
		}
		if again, _ := own.MarshalBinary(); !bytes.Equal(again, state) {
			t.Fatalf("the original went on with its clone, after %d bytes", n)
		}
	}
}

// TestBadState gives UnmarshalBinary what it must refuse, and looks whether it
// changed anything.
func TestBadState(t *testing.T) {
	h := New().(saved)
	h.Write(message(6, 100))
	good, _ := h.MarshalBinary()
	other := bytes.Clone(good)
	other[3] = 2 // SHA-224
	for _, bad := range [][]byte{nil, good[:3], good[:4], good[:len(good)-1], append(bytes.Clone(good), 0), other} {
		if err := h.UnmarshalBinary(bad); err == nil {
			t.Errorf("%x was taken", bad)
		}
		if now, _ := h.MarshalBinary(); !bytes.Equal(now, good) {
			t.Fatalf("%x changed the hash", bad)
		}
	}
}

// TestNoAllocation holds that only New allocates.
func TestNoAllocation(t *testing.T) {
	m, out := message(7, 1000), make([]byte, 0, Size)
	h := New()
	for _, c := range []struct {
		name string
		do   func()
	}{
		{"Sum256", func() { Sum256(m) }},
		{"Write and Sum", func() { h.Reset(); h.Write(m); h.Sum(out) }},
	} {
		if n := testing.AllocsPerRun(10, c.do); n != 0 {
			t.Errorf("%s: %v allocations", c.name, n)
		}
	}
}

func ExampleSum256() {
	fmt.Printf("%x\n", Sum256([]byte("abc")))
	// Output: ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad
}
