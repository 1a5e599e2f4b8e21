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
	for range 10 {
		quarterRound(out, 0, 4, 8, 12)
		quarterRound(out, 1, 5, 9, 13)
		quarterRound(out, 2, 6, 10, 14)
		quarterRound(out, 3, 7, 11, 15)
		quarterRound(out, 0, 5, 10, 15)
		quarterRound(out, 1, 6, 11, 12)
		quarterRound(out, 2, 7, 8, 13)
		quarterRound(out, 3, 4, 9, 14)
	}
	for i := range out {
		out[i] += s[i]
	}
	clear(s[:])
}

func quarterRound(x *[16]uint32, a, b, c, d uint) {
	x[a] += x[b]
	x[d] = rotl(x[d]^x[a], 16)
	x[c] += x[d]
	x[b] = rotl(x[b]^x[c], 12)
	x[a] += x[b]
	x[d] = rotl(x[d]^x[a], 8)
	x[c] += x[d]
	x[b] = rotl(x[b]^x[c], 7)
}

func rotl(v uint32, n uint) uint32 { return v<<n | v>>(32-n) }
