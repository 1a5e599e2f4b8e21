package main

import (
	"fmt"
	"math/bits"

	"nitro/internal/neon"
)

// evaluate applies a circuit to one byte.
func evaluate(lines []neon.Line, x byte) (y byte) {
	v := map[string]byte{}
	for i, name := range values("x") {
		v[name] = x >> i & 1
	}
	for _, l := range lines {
		in := make([]byte, len(l.In))
		for i, name := range l.In {
			in[i] = v[name]
		}
		switch l.Op {
		case "^", "again":
			v[l.Out] = in[0] ^ in[1]
		case "&":
			v[l.Out] = in[0] & in[1]
		case "|":
			v[l.Out] = in[0] | in[1]
		case "&~":
			v[l.Out] = in[0] &^ in[1]
		case "|~":
			v[l.Out] = in[0] | (1 ^ in[1])
		case "~":
			v[l.Out] = 1 ^ in[0]
		case "?":
			v[l.Out] = in[0]&in[1] | in[2]&^in[0]
		}
	}
	for i, name := range values("s") {
		y |= v[name] << i
	}
	return y
}

// times multiplies in GF(2^8) (FIPS 197, 4.2).
func times(a, b byte) (p byte) {
	for ; b != 0; b >>= 1 {
		p ^= a & -(b & 1)
		a = a<<1 ^ a>>7*0x1b
	}
	return p
}

// subByte is the S-box by its definition (FIPS 197, 5.1.1).
func subByte(x byte) byte {
	inverse := byte(1)
	for range 254 {
		inverse = times(inverse, x)
	}
	y := byte(0x63)
	for _, turn := range [...]int{0, 1, 2, 3, 4} {
		y ^= bits.RotateLeft8(inverse, turn)
	}
	return y
}

// constants finds what the circuits leave to the round keys, and checks them
// for every byte: forward takes x + in to S(x) + out, and inverse takes S(x) +
// out back to x + in.
func constants(forward, inverse []neon.Line) (in, out byte, err error) {
	for n := range 256 {
		in := byte(n)
		out := evaluate(forward, in) ^ subByte(0)
		if fits(forward, inverse, in, out) {
			return in, out, nil
		}
	}
	return 0, 0, fmt.Errorf("gen: the circuits are not the S-box and its inverse up to constants")
}

// fits checks two constants for every byte.
func fits(forward, inverse []neon.Line, in, out byte) bool {
	for n := range 256 {
		x := byte(n)
		y := subByte(x) ^ out
		if evaluate(forward, x^in) != y || evaluate(inverse, y) != x^in {
			return false
		}
	}
	return true
}
