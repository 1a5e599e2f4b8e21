package kernel

// A generator is a deterministic random bit generator: ChaCha20 (RFC 8439 2.3)
// with fast key erasure. Every call's first 32 bytes of key stream become the
// next key, so what was given out cannot be computed from a later state.
type generator struct {
	key    [8]uint32
	seeded bool
}

// add mixes 32 bytes of entropy into the key. It never makes the key weaker,
// whatever the bytes are.
func (g *generator) add(entropy *[8]uint32) {
	for i := range g.key {
		g.key[i] ^= entropy[i]
	}
	var b [16]uint32
	chachaBlock(&b, &g.key, 0)
	copy(g.key[:], b[:8])
	clear(b[:])
}

// maxRandom is how many bytes one call of fill may ask for.
const maxRandom = 192

// fill writes len(p) random bytes, at most maxRandom.
func (g *generator) fill(p []byte) {
	var b, next [16]uint32
	chachaBlock(&next, &g.key, 0)
	for i := range p {
		if i%64 == 0 {
			chachaBlock(&b, &g.key, uint32(i/64)+1)
		}
		p[i] = byte(b[i%64/4] >> (i % 4 * 8))
	}
	copy(g.key[:], next[:8])
	clear(b[:])
	clear(next[:])
}

// chachaBlock computes block number n of the key stream, with a nonce of zeros.
func chachaBlock(out *[16]uint32, key *[8]uint32, n uint32) {
	var s [16]uint32
	s[0], s[1], s[2], s[3] = 0x61707865, 0x3320646e, 0x79622d32, 0x6b206574
	copy(s[4:12], key[:])
	s[12] = n
	*out = s
	x := out
	for range 10 {
		x[0], x[4], x[8], x[12] = quarterRound(x[0], x[4], x[8], x[12])
		x[1], x[5], x[9], x[13] = quarterRound(x[1], x[5], x[9], x[13])
		x[2], x[6], x[10], x[14] = quarterRound(x[2], x[6], x[10], x[14])
		x[3], x[7], x[11], x[15] = quarterRound(x[3], x[7], x[11], x[15])
		x[0], x[5], x[10], x[15] = quarterRound(x[0], x[5], x[10], x[15])
		x[1], x[6], x[11], x[12] = quarterRound(x[1], x[6], x[11], x[12])
		x[2], x[7], x[8], x[13] = quarterRound(x[2], x[7], x[8], x[13])
		x[3], x[4], x[9], x[14] = quarterRound(x[3], x[4], x[9], x[14])
	}
	for i := range out {
		out[i] += s[i]
	}
	clear(s[:])
}

func quarterRound(a, b, c, d uint32) (uint32, uint32, uint32, uint32) {
	a += b
	d ^= a
	d = d<<16 | d>>16
	c += d
	b ^= c
	b = b<<12 | b>>20
	a += b
	d ^= a
	d = d<<8 | d>>24
	c += d
	b ^= c
	b = b<<7 | b>>25
	return a, b, c, d
}
