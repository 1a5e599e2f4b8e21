package main

import "nitro/internal/neon"

// The kernel takes blocks in pairs, A and B. The rounds (FIPS 180-4, 6.2.2, step 3)
// are scalar, first those of A and then those of B. The message schedule (step 1) of
// both is NEON, done once for the two, among the rounds of A.
//
// The sums W + K go from NEON to the rounds through memory, in groups of eight rounds:
//
//	0    K, each word twice, for both blocks
//	64   W + K of block A, four words
//	80   W + K of block B, four words
//	96   W + K of block A, the other four
//	112  W + K of block B, the other four
//
// The groups lie on the stack, from a base aligned to 64. Before them are three words.
const (
	groups    = 8 // of 8 rounds
	groupSize = 128
	keysSize  = 64
	sumsAt    = 64 // of block A, in a group
	rowSize   = 32 // and from there to its other four
	blockGap  = 16 // and from those of block A to those of block B
	memory    = groups * groupSize

	stateAt = 4  // the address of the state
	inputAt = 8  // the address of the next block
	leftAt  = 12 // the number of blocks to come
	slots   = 16 // what these take, with the return address

	frame    = slots - 4 + 63 + memory + 1 // with room to align the groups, in whole words
	argBytes = 16

	blockSize = 64 // in bytes
)

// Core registers by their use. R10 is g.
const (
	rState = neon.R0  // and the seven after it: the working variables
	rWord  = neon.R8  // and the one after it: W + K of two rounds, scratch once they are used
	rSums  = neon.R11 // a place in the groups
	rDiff  = neon.R12 // a XOR b, of one round and the next by turns with rDiff2
	rDiff2 = neon.R14
)

// ahead is the place of rSums in a group: that of the last two words of block A. LDRD
// moves it on with them; what it reads before has offsets from there.
const ahead = sumsAt + rowSize + 8

// kernel emits the function of kernel_arm.s.
type kernel struct {
	neon.Asm
	schedule
}

// compression is the text of kernel_arm.s.
func compression() ([]byte, error) {
	k := &kernel{}
	k.Constrain(constraint)
	k.Func("compress", "func compress(state *uint32, p *byte, blocks int, k *uint32)", frame, argBytes)
	k.prologue()
	k.Label("pair")
	k.input()
	k.prepare(spread)
	k.rounds()
	k.add()
	k.CMP(rWord, neon.Imm(1))
	k.Branch("BEQ", "done")
	k.SUB(rSums, rSums, neon.Imm(memory-blockGap))
	k.rounds()
	k.add()
	k.SUB(rSums, rSums, neon.Imm(memory+blockGap))
	k.SUBS(rWord, rWord, neon.Imm(2))
	k.STR(rWord, neon.R13, leftAt)
	k.Branch("BNE", "pair")
	k.Label("done")
	k.Go("RET")
	return k.File(generator)
}

// prologue keeps the arguments where LDRD reaches them, copies K into the groups, and
// loads the state.
func (k *kernel) prologue() {
	const r1, r2 = neon.R1, neon.R2
	k.Go("MOVW state+0(FP), R12")
	k.Go("MOVW p+4(FP), R1")
	k.Go("MOVW blocks+8(FP), R2")
	k.Go("MOVW k+12(FP), R0")
	k.Go("MOVW R12, %d(R13)", stateAt)
	k.Go("MOVW R1, %d(R13)", inputAt)
	k.Go("MOVW R2, %d(R13)", leftAt)
	k.Go("ADD $(%d+63), R13, R1", slots)
	k.Go("BIC $63, R1")
	k.Go("MOVW $%d, R2", groupSize-keysSize/2)
	for group := range groups {
		first := neon.D(group % 2 * 8)
		if group%2 == 0 {
			k.VLDM(neon.R0, true, 0, 16)
		}
		k.VST1(64, first, 4, neon.At(r1).Then(neon.Advance).Aligned(256))
		k.VST1(64, first+4, 4, neon.At(r1).Then(neon.By(r2)).Aligned(256))
	}
	k.SUB(rSums, r1, neon.Imm(memory-ahead))
	for i := neon.R(0); i < 8; i += 2 {
		k.LDRD(rState+i, neon.R12, 4*int(i))
	}
}

// add ends a block: the state becomes the sum of itself and the working variables
// (step 4). The number of blocks to come, this one too, is in rWord then.
func (k *kernel) add() {
	k.Comment("Add to the state.")
	k.LDR(rDiff, neon.R13, stateAt)
	for i := neon.R(0); i < 8; i += 2 {
		k.LDRD(rWord, rDiff, 4*int(i))
		k.ADD(rState+i, rState+i, rWord)
		k.ADD(rState+i+1, rState+i+1, rWord+1)
		k.STRD(rState+i, rDiff, 4*int(i))
	}
	k.LDR(rWord, neon.R13, leftAt)
}
