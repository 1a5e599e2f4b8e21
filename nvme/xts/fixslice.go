package xts

import (
	"encoding/binary"
	"math/bits"
)

// state is four blocks, fixsliced after Adomnicai and Peyrin, "Fixslicing
// AES-like Ciphers" (2020): word i holds bit i of every byte, at position
//
//	16*row + 4*column + block.
//
// ShiftRows is never computed. The bytes stay where they are, and after round
// r column c of row n is found at column c + n*r; each MixColumns looks for
// its neighbours there. Every fourth round all is in place again.
type state [8]uint64

// swapMove exchanges the bits of b at mask with those of a at mask<<n.
func swapMove(a, b *uint64, n int, mask uint64) {
	t := (*a>>n ^ *b) & mask
	*b ^= t
	*a ^= t << n
}

// interleave moves byte r of the low half of x to byte 2r, and byte r of the
// high half to byte 2r+1.
func interleave(x uint64) uint64 {
	t := (x>>16 ^ x) & 0xffff0000
	x ^= t ^ t<<16
	t = (x>>8 ^ x) & 0x0000ff000000ff00
	return x ^ t ^ t<<8
}

// deinterleave undoes interleave.
func deinterleave(x uint64) uint64 {
	t := (x>>8 ^ x) & 0x0000ff000000ff00
	x ^= t ^ t<<8
	t = (x>>16 ^ x) & 0xffff0000
	return x ^ t ^ t<<16
}

// transpose exchanges the three lowest bits of a position in a word with the
// number of the word. It is its own inverse.
func (x *state) transpose() {
	for i := range 4 {
		swapMove(&x[i], &x[i+4], 4, 0x0f0f0f0f0f0f0f0f)
	}
	for _, i := range [...]int{0, 1, 4, 5} {
		swapMove(&x[i], &x[i+2], 2, 0x3333333333333333)
	}
	for i := 0; i < 8; i += 2 {
		swapMove(&x[i], &x[i+1], 1, 0x5555555555555555)
	}
}

// pack fills the state from four blocks.
func (x *state) pack(p *[4 * BlockSize]byte) {
	for b := range 4 {
		w := p[BlockSize*b:]
		lo, hi := binary.LittleEndian.Uint64(w), binary.LittleEndian.Uint64(w[8:])
		x[b] = interleave(lo&0xffffffff | hi<<32)
		x[b+4] = interleave(lo>>32 | hi&^0xffffffff)
	}
	x.transpose()
}

// unpack is the inverse of pack; it leaves the state in disorder.
func (x *state) unpack(p *[4 * BlockSize]byte) {
	x.transpose()
	for b := range 4 {
		even, odd := deinterleave(x[b]), deinterleave(x[b+4])
		w := p[BlockSize*b:]
		binary.LittleEndian.PutUint64(w, even&0xffffffff|odd<<32)
		binary.LittleEndian.PutUint64(w[8:], even>>32|odd&^0xffffffff)
	}
}

// rotateColumns moves, within each row, column c+n to column c.
func rotateColumns(x uint64, n int) uint64 {
	switch n & 3 {
	case 1:
		return x>>4&0x0fff0fff0fff0fff | x<<12&0xf000f000f000f000
	case 2:
		return x>>8&0x00ff00ff00ff00ff | x<<8&0xff00ff00ff00ff00
	case 3:
		return x>>12&0x000f000f000f000f | x<<4&0xfff0fff0fff0fff0
	}
	return x
}

// nextRow brings to each byte the one a row below, in the order of round r.
func nextRow(x uint64, r int) uint64 {
	return rotateColumns(bits.RotateLeft64(x, -16), r)
}

// mixColumns is MixColumns (FIPS 197, 5.1.3) in the order of round r: with a
// the byte, t = a + a', and a', a”, a”' the rows below,
// 2a + 3a' + a” + a”' = 2t + a' + t”.
func (x *state) mixColumns(r int) {
	var t, s state
	for i, a := range x {
		b := nextRow(a, r)
		t[i] = a ^ b
		s[i] = b ^ rotateColumns(bits.RotateLeft64(t[i], -32), 2*r)
	}
	// t[7] comes back at the bits of x^8 = x^4 + x^3 + x + 1.
	x[0] = s[0] ^ t[7]
	x[1] = s[1] ^ t[0] ^ t[7]
	x[2] = s[2] ^ t[1]
	x[3] = s[3] ^ t[2] ^ t[7]
	x[4] = s[4] ^ t[3] ^ t[7]
	x[5] = s[5] ^ t[4]
	x[6] = s[6] ^ t[5]
	x[7] = s[7] ^ t[6]
}

// invMixColumns is InvMixColumns (FIPS 197, 5.3.3) in the order of round r. It
// is MixColumns after adding 4(a + a”) to each byte.
func (x *state) invMixColumns(r int) {
	var p state
	for i, a := range x {
		p[i] = a ^ rotateColumns(bits.RotateLeft64(a, -32), 2*r)
	}
	x[0] ^= p[6]
	x[1] ^= p[6] ^ p[7]
	x[2] ^= p[0] ^ p[7]
	x[3] ^= p[1] ^ p[6]
	x[4] ^= p[2] ^ p[6] ^ p[7]
	x[5] ^= p[3] ^ p[7]
	x[6] ^= p[4]
	x[7] ^= p[5]
	x.mixColumns(r)
}

// halfTurn applies ShiftRows twice: rows 1 and 3 turn by two columns. The
// numbers of rounds of AES-256 and AES-128, 14 and 10, both leave this much
// to do at the end.
func (x *state) halfTurn() {
	const odd = 0xffff0000ffff0000
	for i, a := range x {
		x[i] = a&^odd | rotateColumns(a, 2)&odd
	}
}

// add adds a round key, or any other state.
func (x *state) add(k *state) {
	for i := range x {
		x[i] ^= k[i]
	}
}

// fixsliced is a key schedule of the portable cipher.
type fixsliced struct {
	keys   [maxRounds + 1]state
	rounds int
}

// expand fills the schedule from an AES key of 32 or 16 bytes.
func (s *fixsliced) expand(key []byte) {
	var rk roundKeys
	s.rounds = rk.expandKey(key)
	var blocks [4 * BlockSize]byte
	for r := range s.rounds + 1 {
		for i := range blocks {
			// ShiftRows as often as it has been left out, backwards.
			row, col := i%4, i/4%4
			blocks[i] = rk[r][row+4*((col+(4-row)*r)%4)] ^ maskKey(r, s.rounds)
		}
		s.keys[r].pack(&blocks)
	}
	clear(rk[:])
	clear(blocks[:])
}

// encrypt encrypts four blocks.
func (s *fixsliced) encrypt(p *[4 * BlockSize]byte) {
	var x state
	x.pack(p)
	x.add(&s.keys[0])
	for r := 1; r < s.rounds; r++ {
		x.subBytes()
		x.mixColumns(r)
		x.add(&s.keys[r])
	}
	x.subBytes()
	x.add(&s.keys[s.rounds])
	x.halfTurn()
	x.unpack(p)
}

// decrypt decrypts four blocks.
func (s *fixsliced) decrypt(p *[4 * BlockSize]byte) {
	var x state
	x.pack(p)
	x.halfTurn()
	x.add(&s.keys[s.rounds])
	for r := s.rounds - 1; r > 0; r-- {
		x.invSubBytes()
		x.add(&s.keys[r])
		x.invMixColumns(r)
	}
	x.invSubBytes()
	x.add(&s.keys[0])
	x.unpack(p)
}

// encryptTweaks encrypts the first n of t, and perhaps more.
func (s *fixsliced) encryptTweaks(t *tweaks, n int) {
	for i := 0; i < n; i += 4 {
		s.encrypt((*[4 * BlockSize]byte)(t.bytes[BlockSize*i : BlockSize*(i+4)]))
	}
}

// double multiplies a tweak by x in GF(2^128), bytes in little-endian order
// (IEEE 1619, 5.2).
func double(lo, hi uint64) (uint64, uint64) {
	carry := -(hi >> 63)
	return lo<<1 ^ carry&0x87, hi<<1 | lo>>63
}

// crypt runs XTS over src, whole blocks, and leaves in tweak what the next
// block would use.
func (s *fixsliced) crypt(dst, src []byte, tweak *[BlockSize]byte, dir direction) {
	lo, hi := binary.LittleEndian.Uint64(tweak[:]), binary.LittleEndian.Uint64(tweak[8:])
	var p, t [4 * BlockSize]byte
	for len(src) > 0 {
		n := min(len(src), len(p))
		for i := 0; i < n; i += BlockSize {
			binary.LittleEndian.PutUint64(t[i:], lo)
			binary.LittleEndian.PutUint64(t[i+8:], hi)
			lo, hi = double(lo, hi)
		}
		xor(p[:n], src[:n], t[:n])
		if dir == encrypt {
			s.encrypt(&p)
		} else {
			s.decrypt(&p)
		}
		xor(dst[:n], p[:n], t[:n])
		dst, src = dst[n:], src[n:]
	}
	binary.LittleEndian.PutUint64(tweak[:], lo)
	binary.LittleEndian.PutUint64(tweak[8:], hi)
	clear(p[:])
	clear(t[:])
}

// xor sets d to a XOR b, all of the same length, a multiple of 8.
func xor(d, a, b []byte) {
	for i := 0; i < len(d); i += 8 {
		v := binary.LittleEndian.Uint64(a[i:]) ^ binary.LittleEndian.Uint64(b[i:])
		binary.LittleEndian.PutUint64(d[i:], v)
	}
}
