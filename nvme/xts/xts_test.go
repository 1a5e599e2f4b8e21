package xts

import (
	"bufio"
	"bytes"
	"crypto/aes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	reference "golang.org/x/crypto/xts"
)

// cases is the number of random cases of TestRandom. The short form runs
// with every change; the long form is -xts.cases=1000000.
var cases = flag.Int("xts.cases", 20000, "random cases to compare with golang.org/x/crypto/xts")

// newKey expands a key or fails the test.
func newKey(t testing.TB, key []byte) *Key {
	t.Helper()
	k := new(Key)
	if err := k.Init(key); err != nil {
		t.Fatal(err)
	}
	return k
}

// vector is one case of a NIST response file.
type vector map[string]string

// vectors reads a response file of NIST's CAVP.
func vectors(t *testing.T, name string) (encrypt, decrypt []vector) {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	into := &encrypt
	for s := bufio.NewScanner(f); s.Scan(); {
		line := s.Text()
		if line == "[DECRYPT]" {
			into = &decrypt
		}
		name, value, ok := strings.Cut(line, " = ")
		if !ok || strings.HasPrefix(line, "#") {
			continue
		}
		if name == "COUNT" {
			*into = append(*into, vector{})
		}
		(*into)[len(*into)-1][name] = value
	}
	return encrypt, decrypt
}

// bytes decodes a hexadecimal field.
func (v vector) bytes(t *testing.T, name string) []byte {
	t.Helper()
	b, err := hex.DecodeString(v[name])
	if err != nil || len(b) == 0 {
		t.Fatalf("field %s of %v: %v", name, v, err)
	}
	return b
}

// TestNIST runs every vector of NIST's XTSGenAES256 and XTSGenAES128, with
// tweaks of 128 bits and with sector numbers. Data units that are whole bytes
// but not whole blocks must be refused. Those that are not whole bytes (250
// bits, say) cannot even be asked for: there is no length that says them.
func TestNIST(t *testing.T) {
	for _, c := range []struct {
		file                  string
		run, refused, unasked int
	}{
		{"tweak-128hexstr/XTSGenAES256.rsp", 600, 0, 400},
		{"tweak-dataunitseqno/XTSGenAES256.rsp", 600, 0, 400},
		{"tweak-128hexstr/XTSGenAES128.rsp", 600, 200, 200},
		{"tweak-dataunitseqno/XTSGenAES128.rsp", 600, 200, 200},
	} {
		enc, dec := vectors(t, filepath.Join("testdata", c.file))
		run, refused, unasked := 0, 0, 0
		for i, v := range append(enc, dec...) {
			from, to, dir := "PT", "CT", encrypt
			if i >= len(enc) {
				from, to, dir = "CT", "PT", decrypt
			}
			bits, err := strconv.Atoi(v["DataUnitLen"])
			if err != nil {
				t.Fatal(err)
			}
			if bits%8 != 0 {
				unasked++
				continue
			}
			in := v.bytes(t, from)
			out := make([]byte, len(in))
			err = v.crypt(t, out, in, dir)
			if bits%128 != 0 {
				refused++
				if err != ErrUnit {
					t.Fatalf("%s: %d bits: error %v", c.file, bits, err)
				}
				continue
			}
			run++
			if err != nil || !bytes.Equal(out, v.bytes(t, to)) {
				t.Fatalf("%s: vector %d: error %v, got %x, want %s", c.file, i, err, out, v[to])
			}
		}
		if run != c.run || refused != c.refused || unasked != c.unasked {
			t.Errorf("%s: %d vectors run, %d refused, %d not whole bytes; want %d, %d, %d",
				c.file, run, refused, unasked, c.run, c.refused, c.unasked)
		}
	}
}

// crypt runs one vector, whichever way it numbers its data unit.
func (v vector) crypt(t *testing.T, out, in []byte, dir direction) error {
	k := newKey(t, v.bytes(t, "Key"))
	if number, ok := v["DataUnitSeqNumber"]; ok {
		n, err := strconv.ParseUint(number, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return k.sectors(out, in, len(in), n, dir)
	}
	return k.unit(out, in, (*[BlockSize]byte)(v.bytes(t, "i")), dir)
}

// source makes repeatable random bytes.
type source struct{ *rand.Rand }

func newSource(seed uint64) source { return source{rand.New(rand.NewPCG(seed, 0x787473))} }

func (s source) bytes(n int) []byte {
	b := make([]byte, n)
	for i := 0; i < n; i += 8 {
		var w [8]byte
		binary.LittleEndian.PutUint64(w[:], s.Uint64())
		copy(b[i:], w[:])
	}
	return b
}

// want is what golang.org/x/crypto/xts makes of the same sectors.
func want(t testing.TB, key, src []byte, size int, first uint64, dir direction) []byte {
	t.Helper()
	c, err := reference.NewCipher(aes.NewCipher, key)
	if err != nil {
		t.Fatal(err)
	}
	out := make([]byte, len(src))
	for at := 0; at < len(src); at += size {
		if dir == encrypt {
			c.Encrypt(out[at:at+size], src[at:at+size], first)
		} else {
			c.Decrypt(out[at:at+size], src[at:at+size], first)
		}
		first++
	}
	return out
}

// compare runs one case in both directions, in place or not, dst and src
// misaligned by the given numbers of bytes, and looks for writes outside.
func compare(t testing.TB, key, data []byte, size int, first uint64, offDst, offSrc int, inPlace bool) {
	t.Helper()
	k := newKey(t, key)
	for _, dir := range []direction{encrypt, decrypt} {
		src := append(make([]byte, offSrc, offSrc+len(data)), data...)[offSrc:]
		frame := bytes.Repeat([]byte{0xa5}, offDst+len(data)+64)
		dst := frame[offDst : offDst+len(data)]
		if inPlace {
			copy(dst, data)
			src = dst
		}
		if err := k.sectors(dst, src, size, first, dir); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(dst, want(t, key, data, size, first, dir)) {
			t.Fatalf("wrong: key %x, %d bytes in sectors of %d, first %d, encrypt %v, offsets %d %d, in place %v",
				key, len(data), size, first, dir, offDst, offSrc, inPlace)
		}
		if !inPlace && !bytes.Equal(src, data) {
			t.Fatal("the input was changed")
		}
		for i, b := range frame {
			if b != 0xa5 && (i < offDst || i >= offDst+len(data)) {
				t.Fatalf("byte %d outside the output was written", i-offDst)
			}
		}
	}
}

// TestRandom compares random cases with golang.org/x/crypto/xts.
func TestRandom(t *testing.T) {
	s := newSource(1)
	for range *cases {
		key := s.bytes([]int{KeySize256, KeySize256, KeySize128}[s.IntN(3)])
		blocks := 1 + s.IntN(8)
		if s.IntN(8) == 0 {
			blocks = 1 + s.IntN(70)
		}
		sectors := 1
		if s.IntN(4) == 0 {
			sectors = 1 + s.IntN(5)
		}
		data := s.bytes(blocks * sectors * BlockSize)
		first := s.Uint64() >> s.IntN(64)
		first = min(first, math.MaxUint64-uint64(sectors))
		compare(t, key, data, blocks*BlockSize, first, s.IntN(17), s.IntN(17), s.IntN(2) == 0)
	}
}

// TestLengths runs every whole number of blocks up to 8 KiB.
func TestLengths(t *testing.T) {
	s := newSource(2)
	for n := BlockSize; n <= 8<<10; n += BlockSize {
		key := s.bytes(KeySize256)
		compare(t, key, s.bytes(n), n, s.Uint64()/2, 0, 0, false)
		compare(t, key, s.bytes(n), n, s.Uint64()/2, n%7+1, n%5, true)
	}
}

// TestManySectors passes the number of tweaks that are encrypted together.
func TestManySectors(t *testing.T) {
	s := newSource(3)
	for _, size := range []int{16, 512, 520 - 8, 4096} {
		for _, count := range []int{1, 2, 31, 32, 33, 64, 65, 100} {
			compare(t, s.bytes(KeySize256), s.bytes(size*count), size, s.Uint64()/2, count%3, 1, false)
		}
	}
}

// TestPortable holds the portable cipher against the machine's own.
func TestPortable(t *testing.T) {
	s := newSource(4)
	for _, size := range []int{16, 32} {
		key := s.bytes(size)
		var own schedule
		var portable fixsliced
		own.expand(key)
		portable.expand(key)
		for n := BlockSize; n <= 2048; n += BlockSize {
			for _, dir := range []direction{encrypt, decrypt} {
				data, tweak := s.bytes(n), [BlockSize]byte(s.bytes(BlockSize))
				tweak2 := tweak
				got, want := make([]byte, n), make([]byte, n)
				own.crypt(got, data, &tweak, dir)
				portable.crypt(want, data, &tweak2, dir)
				// The tweak that is left counts after whole batches only.
				if !bytes.Equal(got, want) || n%512 == 0 && tweak != tweak2 {
					t.Fatalf("AES-%d, %d bytes, encrypt %v: the two differ", 8*size, n, dir)
				}
			}
		}
	}
}

// TestRefusals gives each check what it must refuse, and looks whether
// anything was written.
func TestRefusals(t *testing.T) {
	s := newSource(5)
	good := newKey(t, s.bytes(KeySize256))
	zeroed := newKey(t, s.bytes(KeySize256))
	zeroed.Zero()
	buf := bytes.Repeat([]byte{0x5a}, 4096)
	tweak := new([BlockSize]byte)
	for _, c := range []struct {
		name string
		want error
		do   func(k *Key) error
		key  *Key
	}{
		{"no key", ErrNoKey, func(k *Key) error { return k.Encrypt(buf, buf, 512, 0) }, new(Key)},
		{"zeroed key", ErrNoKey, func(k *Key) error { return k.Decrypt(buf, buf, 512, 0) }, zeroed},
		{"sectors of nothing", ErrUnit, func(k *Key) error { return k.Encrypt(buf, buf, 0, 0) }, good},
		{"sectors of less", ErrUnit, func(k *Key) error { return k.Encrypt(buf, buf, -512, 0) }, good},
		{"sectors of 520 bytes", ErrUnit, func(k *Key) error { return k.Decrypt(buf[:1040], buf[:1040], 520, 0) }, good},
		{"sectors too long", ErrUnit, func(k *Key) error { return k.Encrypt(buf, buf, MaxUnit+BlockSize, 0) }, good},
		{"half a sector", ErrLength, func(k *Key) error { return k.Encrypt(buf[:768], buf[:768], 512, 0) }, good},
		{"a byte more", ErrLength, func(k *Key) error { return k.Encrypt(buf[:513], buf[:513], 512, 0) }, good},
		{"short output", ErrShort, func(k *Key) error { return k.Encrypt(buf[:512], buf[1024:2048], 512, 0) }, good},
		{"overlap forwards", ErrOverlap, func(k *Key) error { return k.Encrypt(buf[16:528], buf[:512], 512, 0) }, good},
		{"overlap backwards", ErrOverlap, func(k *Key) error { return k.Decrypt(buf[:512], buf[511:1023], 512, 0) }, good},
		{"past the last sector", ErrRange, func(k *Key) error { return k.Encrypt(buf[:1024], buf[:1024], 512, math.MaxUint64) }, good},
		{"empty unit", ErrUnit, func(k *Key) error { return k.EncryptUnit(nil, nil, tweak) }, good},
		{"unit of 17 bytes", ErrUnit, func(k *Key) error { return k.DecryptUnit(buf[:17], buf[:17], tweak) }, good},
		{"unit with short output", ErrShort, func(k *Key) error { return k.EncryptUnit(buf[:16], buf[32:64], tweak) }, good},
		{"overlapping unit", ErrOverlap, func(k *Key) error { return k.EncryptUnit(buf[1:33], buf[:32], tweak) }, good},
	} {
		if err := c.do(c.key); !errors.Is(err, c.want) {
			t.Errorf("%s: error %v, want %v", c.name, err, c.want)
		}
		if !bytes.Equal(buf, bytes.Repeat([]byte{0x5a}, len(buf))) {
			t.Fatalf("%s: something was written", c.name)
		}
	}
	if err := good.Encrypt(nil, nil, 512, 0); err != nil {
		t.Errorf("no sectors at all: %v", err)
	}
	if err := good.Encrypt(buf[:512], buf[512:1024], 512, math.MaxUint64); err != nil {
		t.Errorf("the last sector of all: %v", err)
	}
}

// TestKeys gives Init keys that it must refuse.
func TestKeys(t *testing.T) {
	s := newSource(6)
	for n := range 130 {
		err := new(Key).Init(s.bytes(n))
		if ok := n == KeySize128 || n == KeySize256; ok != (err == nil) || !ok && err != ErrKeySize {
			t.Errorf("key of %d bytes: error %v", n, err)
		}
	}
	for _, n := range []int{KeySize128, KeySize256} {
		half := s.bytes(n / 2)
		key := append(append([]byte(nil), half...), half...)
		k := newKey(t, s.bytes(n))
		if err := k.Init(key); err != ErrWeakKey {
			t.Errorf("equal halves of %d bytes: error %v", n/2, err)
		}
		if err := k.Encrypt(half[:16], half[:16], 16, 0); err != ErrNoKey {
			t.Errorf("a key is left after a refusal: error %v", err)
		}
		key[n-1] ^= 1
		if err := k.Init(key); err != nil {
			t.Errorf("halves that differ in one bit: %v", err)
		}
	}
}

// TestZero looks for what Zero leaves.
func TestZero(t *testing.T) {
	k := newKey(t, newSource(7).bytes(KeySize256))
	k.Zero()
	if *k != (Key{}) {
		t.Error("Zero leaves something")
	}
}

// TestNoAllocation holds that neither a key nor a call allocates: keys stay
// where their owner put them.
func TestNoAllocation(t *testing.T) {
	key, buf := newSource(8).bytes(KeySize256), make([]byte, 4096)
	k := new(Key)
	for _, c := range []struct {
		name string
		do   func() error
	}{
		{"Init", func() error { return k.Init(key) }},
		{"Encrypt", func() error { return k.Encrypt(buf, buf, 512, 1) }},
		{"Decrypt", func() error { return k.Decrypt(buf[:16], buf[:16], 16, 1) }},
	} {
		var err error
		if n := testing.AllocsPerRun(10, func() { err = errors.Join(err, c.do()) }); n != 0 || err != nil {
			t.Errorf("%s: %v allocations, error %v", c.name, n, err)
		}
	}
}

func ExampleKey_Encrypt() {
	key := make([]byte, KeySize256)
	for i := range key {
		key[i] = byte(i)
	}
	var k Key
	if err := k.Init(key); err != nil {
		fmt.Println(err)
		return
	}
	defer k.Zero()
	sectors := make([]byte, 8*512)
	if err := k.Encrypt(sectors, sectors, 512, 40); err != nil {
		fmt.Println(err)
		return
	}
	if err := k.Decrypt(sectors, sectors, 512, 40); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(bytes.Count(sectors, []byte{0}))
	// Output: 4096
}
