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
	qSums  = neon.Q(8)  // and the next three: K of a group, then W + K
	qLater = neon.Q(12) // sigma0(W[t]) + W[t+8], which W[t+15] takes
	qTurn  = neon.Q(13) // scratch of sigma0
	qSigma = neon.Q(14) // sigma1
	qTurn1 = neon.Q(15) // scratch of sigma1
)

// schedule is the instructions of the message schedule that wait for their place
// among the rounds.
type schedule struct {
	queue []entry
	taken int  // of queue
	beats int  // scalar instructions of rounds so far
	over  int  // beats over which the queue is to be taken
	next  int  // group to be stored next
	full  bool // its sums are in qSums
}

// entry is one instruction. Those that write qSums say so, and the last of them for
// a group.
type entry struct {
	emit func()
	sums bool
	full bool
}

// spread is the number of rounds over which the schedule goes: as many as leave the
// last group in memory before round 56 comes, which needs it.
const spread = 53

// input loads two blocks and makes the first two groups. Of an odd number of blocks
// the last stands for both.
func (k *kernel) input() {
	k.Comment("Two blocks.")
	const p, left, group = rWord, rWord + 1, rDiff
	k.LDRD(p, neon.R13, inputAt)
	k.SUB(group, rSums, neon.Imm(ahead))
	k.VLD1(8, 0, 4, neon.At(p).Then(neon.Advance))
	k.VLD1(8, 4, 4, neon.At(p).Then(neon.Advance))
	k.CMP(left, neon.Imm(1))
	k.SUBEQ(p, p, neon.Imm(blockSize))
	k.VLD1(8, 8, 4, neon.At(p).Then(neon.Advance))
	k.VLD1(8, 12, 4, neon.At(p).Then(neon.Advance))
	k.STR(p, neon.R13, inputAt)
	k.VLDM(group, true, qSums.Lo(), 8)
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
		if n%2 == 1 {
			k.VSTM(group, true, qSums.Lo(), 8)
			k.VLDM(group, true, qSums.Lo(), 8)
		}
	}
	for _, e := range k.later(0) {
		e.emit()
	}
}

// prepare queues what makes the other groups, to go over so many rounds.
func (k *kernel) prepare(spread int) {
	k.schedule = schedule{next: 2, over: 16 * spread}
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

// sums adds K to words 4n to 4n+3, and parts the blocks.
func (k *kernel) sums(n int) []entry {
	q := qSums + neon.Q(n%2*2)
	return []entry{
		{emit: func() { k.VADD(32, q, x(2*n), q) }, sums: true},
		{emit: func() { k.VADD(32, q+1, x(2*n+1), q+1) }, sums: true},
		{emit: func() { k.VUZP(32, q, q+1) }, sums: true, full: n%2 == 1},
	}
}

// beat counts an instruction of the rounds, and lets as many of the schedule follow as
// spread them evenly.
func (s *schedule) beat(k *kernel) {
	s.beats++
	for s.taken < len(s.queue) && s.taken*s.over < s.beats*len(s.queue) {
		e := s.queue[s.taken]
		if s.full && e.sums {
			k.Fail("the group after %d is made before %d is stored", s.next, s.next)
		}
		e.emit()
		s.full = s.full || e.full
		s.taken++
	}
}

// between stores a group that is full and loads K of the next, before an even round,
// where rWord is free to be their address.
func (k *kernel) between(round int) {
	if round/8 >= k.next {
		k.Fail("group %d is not stored before round %d", round/8, round)
	}
	if k.full {
		at := k.next*groupSize + sumsAt - ahead - round/8*groupSize
		k.ADD(rWord, rSums, neon.Imm(at))
		k.VSTM(rWord, k.next+1 < groups, qSums.Lo(), 8)
		if k.next+1 < groups {
			k.VLDM(rWord, false, qSums.Lo(), 8)
		}
		k.next, k.full = k.next+1, false
	}
}
