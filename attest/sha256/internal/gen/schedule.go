package main

import "nitro/internal/neon"

// NEON registers by their use. A register of the window holds two consecutive words
// of both blocks, A[t], B[t], A[t+1], B[t+1], the even ones lower: a D register is one
// word of the schedule, for both blocks. W[t-7] and W[t-15] lie across two of them;
// what is made of those is added by halves.
var window = [8]neon.Q{0, 4, 1, 5, 2, 6, 3, 7}

// x is where words 2j and 2j+1 are.
func x(j int) neon.Q { return window[j%8] }

const (
	qKeys  = neon.Q(8)  // and the next: K of the next row
	qSums  = neon.Q(10) // and the next: W + K of a row
	qLater = neon.Q(12) // sigma0(W[t]) + W[t+8], which is for W[t+15]+1
	qTurn  = neon.Q(13) // scratch of sigma0
	qSigma = neon.Q(14) // sigma1
	qTurn1 = neon.Q(15) // scratch of sigma1
)

// schedule is the instructions of the message schedule that wait for their place
// among the rounds.
type schedule struct {
	queue []entry
	taken int // of queue
	beats int // scalar instructions of rounds so far
	full  int // row whose sums are in qSums, to be stored; 0 is none
	rows  int // rows stored
}

// entry is one instruction. Those that write qSums say so, and the last of them which
// row is in it then.
type entry struct {
	emit func()
	sums bool
	row  int
}

// spread is the number of rounds over which the schedule goes: as many as leave the
// last row, 15, in memory before round 60.
const spread = 57

// input loads two blocks and makes the first four rows. Of an odd number of blocks
// the last stands for both.
func (k *kernel) input() {
	k.Comment("Two blocks.")
	const p, left, row = rWord, rWord + 1, rDiff
	k.LDRD(p, neon.R13, inputAt)
	k.SUB(row, rSums, neon.Imm(ahead))
	k.VLD1(8, 0, 4, neon.At(p).Then(neon.Advance))
	k.VLD1(8, 4, 4, neon.At(p).Then(neon.Advance))
	k.CMP(left, neon.Imm(1))
	k.SUBEQ(p, p, neon.Imm(blockSize))
	k.VLD1(8, 8, 4, neon.At(p).Then(neon.Advance))
	k.VLD1(8, 12, 4, neon.At(p).Then(neon.Advance))
	k.STR(p, neon.R13, inputAt)
	k.VLD1(64, qKeys.Lo(), 4, neon.At(row).Then(neon.Advance).Aligned(256))
	for q := range neon.Q(8) {
		k.VREV(32, 8, q, q)
	}
	for q := range neon.Q(4) {
		k.VZIP(32, q, q+4)
	}
	for n := range 4 {
		for _, e := range k.sums(n) {
			e.emit()
		}
		k.VST1(64, qSums.Lo(), 4, neon.At(row).Then(neon.Advance).Aligned(256))
		k.VLD1(64, qKeys.Lo(), 4, neon.At(row).Then(neon.Advance).Aligned(256))
	}
	for _, e := range k.later(0) {
		e.emit()
	}
}

// prepare queues what makes rows 4 to 15.
func (k *kernel) prepare() {
	k.schedule = schedule{rows: 4}
	for j := 8; j < 32; j++ {
		k.queue = append(k.queue, k.words(j)...)
		if j%2 == 1 {
			k.queue = append(k.queue, k.sums(j/2)...)
		}
	}
}

// sigma is sigma0 or sigma1 (FIPS 180-4, 4.1.2) of words 2j and 2j+1: two turns and a
// shift.
func (k *kernel) sigma(d, scratch neon.Q, j, turn, turn2, shift int) []entry {
	w := x(j)
	return []entry{
		{emit: func() { k.VSHRU(32, d, w, turn) }},
		{emit: func() { k.VSHRU(32, scratch, w, turn2) }},
		{emit: func() { k.VSLI(32, d, w, 32-turn) }},
		{emit: func() { k.VSLI(32, scratch, w, 32-turn2) }},
		{emit: func() { k.VEOR(d, d, scratch) }},
		{emit: func() { k.VSHRU(32, scratch, w, shift) }},
		{emit: func() { k.VEOR(d, d, scratch) }},
	}
}

// later is what words 2j and 2j+1, and those eight on, bring to the words 15 after
// the former.
func (k *kernel) later(j int) []entry {
	return append(k.sigma(qLater, qTurn, j, 7, 18, 3),
		entry{emit: func() { k.VADD(32, qLater, qLater, x(j+4)) }})
}

// words makes words 2j and 2j+1 in place of those 16 before:
//
//	W[t] = sigma1(W[t-2]) + W[t-7] + sigma0(W[t-15]) + W[t-16]
//
// The two sigmas take turns, so that neither waits for the result before it.
func (k *kernel) words(j int) (all []entry) {
	all = append(all, entry{emit: func() { k.VADD(32, x(j).Lo(), x(j).Lo(), qLater.Hi()) }})
	sigma1 := append(k.sigma(qSigma, qTurn1, j-1, 17, 19, 10),
		entry{emit: func() { k.VADD(32, x(j), x(j), qSigma) }})
	for n, e := range k.later(j - 7) {
		all = append(all, e, sigma1[n])
	}
	return append(all, entry{emit: func() { k.VADD(32, x(j).Hi(), x(j).Hi(), qLater.Lo()) }})
}

// sums adds K to the four words of a row, and parts the blocks.
func (k *kernel) sums(row int) []entry {
	return []entry{
		{emit: func() { k.VADD(32, qSums, x(2*row), qKeys) }, sums: true},
		{emit: func() { k.VADD(32, qSums+1, x(2*row+1), qKeys+1) }, sums: true},
		{emit: func() { k.VUZP(32, qSums, qSums+1) }, sums: true, row: row},
	}
}

// beat counts an instruction of the rounds, and lets as many of the schedule follow as
// spread them evenly.
func (s *schedule) beat(k *kernel) {
	s.beats++
	for s.taken < len(s.queue) && s.taken*16*spread < s.beats*len(s.queue) {
		e := s.queue[s.taken]
		if s.full != 0 && e.sums {
			k.Fail("the row after %d is made before %d is stored", s.full, s.full)
		}
		e.emit()
		s.full = max(s.full, e.row)
		s.taken++
	}
}

// between stores a row that is full and loads K of the next, before an even round,
// where rWord is free to be their address.
func (k *kernel) between(round int) {
	if k.full != 0 {
		at := k.full*rowSize + sumsAt - ahead - round/8*step
		if at < 0 {
			k.SUB(rWord, rSums, neon.Imm(-at))
		} else {
			k.ADD(rWord, rSums, neon.Imm(at))
		}
		k.VST1(64, qSums.Lo(), 4, neon.At(rWord).Then(neon.Advance).Aligned(256))
		if k.full+1 < rows {
			k.VLD1(64, qKeys.Lo(), 4, neon.At(rWord).Aligned(256))
		}
		k.rows, k.full = k.full+1, 0
	}
	if round/4 >= k.rows {
		k.Fail("row %d is not stored before round %d", round/4, round)
	}
}
