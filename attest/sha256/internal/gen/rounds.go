package main

import "nitro/internal/neon"

// working are the registers of the working variables a to h in a round. They do not
// move: their names do, by one in each round.
func working(round int) (v [8]neon.R) {
	for i := range v {
		v[i] = rState + neon.R((i-round)&7)
	}
	return v
}

// rounds emits the 64 rounds of a block and, as long as there are any, the
// instructions of the schedule among them.
func (k *kernel) rounds() {
	k.Comment("Rounds.")
	v := working(0)
	k.EOR(rDiff, v[1], v[2])
	for round := 0; round < 64; round += 2 {
		k.between(round)
		if round%8 == 6 {
			k.LDRDPost(rWord, rSums, groupSize)
		} else {
			k.LDRD(rWord, rSums, sumsAt+round%8/4*rowSize+round%4*4-ahead)
		}
		k.round(round, rWord, rDiff, rDiff2)
		k.round(round+1, rWord+1, rDiff2, rDiff)
	}
}

// round emits one round. w is W + K, and then the only scratch there is; old is b XOR
// c, which was a XOR b in the round before, and new becomes a XOR b.
//
//	Ch(e, f, g)  = ((f XOR g) AND e) XOR g
//	Maj(a, b, c) = ((a XOR b) AND (b XOR c)) XOR b
//
// The sums turn by their smallest turn when they are added, where a turn costs nothing:
//
//	Sigma1(e) = (e XOR e>>>5 XOR e>>>19) >>> 6
//	Sigma0(a) = (a XOR a>>>11 XOR a>>>20) >>> 2
//
// An instruction of Maj stands where one of the others would wait for the one before it.
func (k *kernel) round(round int, w, old, new neon.R) {
	v := working(round)
	a, b, d, e, f, g, h := v[0], v[1], v[3], v[4], v[5], v[6], v[7]
	for _, instruction := range []func(){
		func() { k.EOR(new, a, b) },
		func() { k.ADD(h, h, w) },
		func() { k.EOR(w, e, neon.Ror{Reg: e, By: 11 - 6}) },
		func() { k.AND(old, old, new) },
		func() { k.EOR(w, w, neon.Ror{Reg: e, By: 25 - 6}) },
		func() { k.EOR(old, old, b) },
		func() { k.ADD(h, h, neon.Ror{Reg: w, By: 6}) },
		func() { k.EOR(w, f, g) },
		func() { k.AND(w, w, e) },
		func() { k.EOR(w, w, g) },
		func() { k.ADD(h, h, w) },
		func() { k.EOR(w, a, neon.Ror{Reg: a, By: 13 - 2}) },
		func() { k.ADD(d, d, h) },
		func() { k.EOR(w, w, neon.Ror{Reg: a, By: 22 - 2}) },
		func() { k.ADD(h, h, old) },
		func() { k.ADD(h, h, neon.Ror{Reg: w, By: 2}) },
	} {
		instruction()
		k.beat(k)
	}
}
