package kernel

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"testing"

	"golang.org/x/crypto/chacha20"
)

// TestChaChaVectors: RFC 8439, appendix A.1, test vectors 1 to 4 (those with a
// nonce of zeros).
func TestChaChaVectors(t *testing.T) {
	for _, v := range []struct {
		keyByte int // which byte of the key is not zero
		value   byte
		block   uint32
		want    string
	}{
		{0, 0, 0, "76b8e0ada0f13d90405d6ae55386bd28bdd219b8a08ded1aa836efcc8b770dc7da41597c5157488d7724e03fb8d84a376a43b8f41518a11cc387b669b2ee6586"},
		{0, 0, 1, "9f07e7be5551387a98ba977c732d080dcb0f29a048e3656912c6533e32ee7aed29b721769ce64e43d57133b074d839d531ed1f28510afb45ace10a1f4b794d6f"},
		{31, 1, 1, "3aeb5224ecf849929b9d828db1ced4dd832025e8018b8160b82284f3c949aa5a8eca00bbb4a73bdad192b5c42f73f2fd4e273644c8b36125a64addeb006c13a0"},
		{1, 0xff, 2, "72d54dfbf12ec44b362692df94137f328fea8da73990265ec1bbbea1ae9af0ca13b25aa26cb4a648cb9b9d1be65b2c0924a66c54d545ec1b7374f4872e99f096"},
	} {
		var key [8]uint32
		key[v.keyByte/4] = uint32(v.value) << (v.keyByte % 4 * 8)
		var out [16]uint32
		chachaBlock(&out, &key, v.block)
		if got := hex.EncodeToString(wordBytes(out[:])); got != v.want {
			t.Errorf("key byte %d, block %d: %s", v.keyByte, v.block, got)
		}
	}
}

func wordBytes(words []uint32) (b []byte) {
	for _, w := range words {
		b = binary.LittleEndian.AppendUint32(b, w)
	}
	return b
}

// TestFill: what is given out is the key stream from block 1 on, and the next key
// is block 0, so that the old one is gone.
func TestFill(t *testing.T) {
	var g generator
	g.add(&[8]uint32{1, 2, 3, 4, 5, 6, 7, 8})
	for n := 0; n <= maxRandom; n++ {
		c, err := chacha20.NewUnauthenticatedCipher(wordBytes(g.key[:]), make([]byte, chacha20.NonceSize))
		if err != nil {
			t.Fatal(err)
		}
		stream := make([]byte, 64+maxRandom)
		c.XORKeyStream(stream, stream)
		out := make([]byte, n)
		g.fill(out)
		if !bytes.Equal(out, stream[64:64+n]) {
			t.Fatalf("%d bytes: not the key stream", n)
		}
		if !bytes.Equal(wordBytes(g.key[:]), stream[:32]) {
			t.Fatalf("%d bytes: the key was not replaced", n)
		}
	}
}

// TestSeeding: every bit of entropy changes what follows, also of a second seed,
// and a seed of zeros does not undo one.
func TestSeeding(t *testing.T) {
	seen := map[string]string{}
	try := func(name string, g generator) {
		var out [32]byte
		g.fill(out[:])
		if other, has := seen[string(out[:])]; has {
			t.Errorf("%s and %s give the same", name, other)
		}
		seen[string(out[:])] = name
	}
	var fresh, seeded generator
	try("no seed", fresh)
	seeded.add(&[8]uint32{42})
	try("a seed", seeded)
	again := seeded
	again.add(&[8]uint32{42})
	try("the same seed twice", again)
	zeros := seeded
	zeros.add(&[8]uint32{})
	try("a seed, then zeros", zeros)
	for i := range 256 {
		g := seeded
		var e [8]uint32
		e[i/32] = 1 << (i % 32)
		g.add(&e)
		try("bit", g)
	}
}
