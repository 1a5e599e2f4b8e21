package main

import "nitro/internal/neon"

// values names bits of a row as circuits do.
func values(prefix string) (names [8]string) {
	for i := range names {
		names[i] = prefix + string(rune('0'+i))
	}
	return names
}

// spills are the addresses of what the S-box keeps aside.
func spills() []neon.Mem {
	var m []neon.Mem
	for i := range neon.R(slots) {
		m = append(m, neon.At(rSpill+i).Aligned(128))
	}
	return m
}

// box applies a circuit to the eight bits in x and returns where they are then:
// below q8, all of them, if low is set.
func (k *kernel) box(circuit []neon.Line, x [8]neon.Q, low bool) (out [8]neon.Q) {
	in := map[string]neon.Q{}
	for i, v := range values("x") {
		in[v] = x[i]
	}
	names := values("s")
	s := neon.Straight{Lines: circuit, In: in, Out: names[:], Slots: spills()}
	if low {
		s.OutBelow = 8
	}
	regs := s.Emit(&k.Asm)
	for i, v := range names {
		out[i] = regs[v]
	}
	return out
}

// eight are the eight registers from first on.
func eight(first neon.Q) (q [8]neon.Q) {
	for i := range q {
		q[i] = first + neon.Q(i)
	}
	return q
}

// pointers sets the core registers that the rounds use.
func (k *kernel) pointers() {
	k.Go("MOVW $64, R%d", rStep)
	for i := range neon.R(slots) {
		k.add(rSpill+i, rBase, slotsAt+16*int(i))
	}
}

// store stores one bit of a row at rBits and goes on to the next bit.
func (k *kernel) store(q neon.Q) {
	k.VST1(64, q.Lo(), 2, neon.At(rBits).Then(neon.By(rStep)).Aligned(128))
}

// keyThenShift adds the next round key to a row in q0 to q7 and then applies
// ShiftRows to it (FIPS 197, 5.1.2): row n turns to the left by n columns. The
// two halves of row 2 change places as they are added.
func (k *kernel) keyThenShift(row int) (x [8]neon.Q) {
	x = eight(0)
	if row != 2 {
		load(k, rPlanes, true, 8, 8)
		for i, q := range x {
			k.VEOR(q, q, neon.Q(8+i))
		}
		for _, q := range x {
			if row != 0 {
				k.VEXT(q, q, q, 4*row)
			}
		}
		return x
	}
	// Each sum goes where an operand of the one before it was.
	to := neon.Q(12)
	for i := range neon.Q(8) {
		if i%4 == 0 {
			load(k, rPlanes, true, 8, 4)
		}
		key := 8 + i%4
		k.VEOR(to.Lo(), i.Hi(), key.Hi())
		k.VEOR(to.Hi(), i.Lo(), key.Lo())
		x[i], to = to, i
	}
	return x
}

// shiftThenKey applies the inverse of ShiftRows (FIPS 197, 5.3.1) to a row in
// x, which are below q8, and then adds the next round key. It returns where the
// sums are: the same place or, for row 2, q8 to q15.
func (k *kernel) shiftThenKey(row int, x [8]neon.Q) [8]neon.Q {
	load(k, rPlanes, true, 8, 8)
	if row == 2 {
		for i, key := range eight(8) {
			k.VEOR(key.Lo(), key.Lo(), x[i].Hi())
			k.VEOR(key.Hi(), key.Hi(), x[i].Lo())
		}
		return eight(8)
	}
	for _, q := range x {
		if row != 0 {
			k.VEXT(q, q, q, 16-4*row)
		}
	}
	for i, q := range x {
		k.VEOR(q, q, neon.Q(8+i))
	}
	return x
}

// place tells which round a row is in: the first begins with blocks and the
// last ends with them.
type place int

const (
	first place = iota
	middle
	last
)

// toBits stores a row by bits and goes on to the next slot.
func (k *kernel) toBits(x [8]neon.Q) {
	for _, q := range x {
		k.store(q)
	}
	k.add(rBits, rBits, 16-8*64)
}

// toBlocks transposes a row back to blocks and stores it in its place, from
// where it has been read.
func (k *kernel) toBlocks(x [8]neon.Q) {
	k.transpose(x)
	k.add(rRows, rRows, -128)
	for _, q := range x {
		k.VST1(64, q.Lo(), 2, neon.At(rRows).Then(neon.Advance).Aligned(128))
	}
}

// subRows adds the round key to the rows and applies ShiftRows, which may as
// well come first, and the S-box, from rows to bits.
func (k *kernel) subRows(p place) {
	k.Comment("Round key, ShiftRows and S-box, row by row.")
	k.add(rRows, rBase, rowsAt)
	k.add(rBits, rBase, bitsAt)
	if p == last {
		k.add(rKey, rPlanes, 512)
	}
	for _, row := range rowAt {
		load(k, rRows, true, 0, 8)
		if p == first {
			k.transpose(eight(0))
		}
		x := k.box(k.forward, k.keyThenShift(row), p == last)
		if p != last {
			k.toBits(x)
			continue
		}
		load(k, rKey, true, 8, 8)
		for i, q := range x {
			k.VEOR(q, q, neon.Q(8+i))
		}
		k.toBlocks(x)
	}
}

// column is a bit of the four rows, row by row.
type column [4]neon.Q

// consecutive is the column that load leaves from first on: slots are not in
// the order of rows.
func consecutive(first neon.Q) (c column) {
	for row := range c {
		c[row] = first + neon.Q(slotOf[row])
	}
	return c
}

// at is row n, counted on from the last to the first.
func (c column) at(n int) neon.Q { return c[n%4] }

// sum sets each row of d to the sum of a and, some rows on, b.
func (k *kernel) sum(d, a, b column, on int) {
	for row := range d {
		k.VEOR(d[row], a[row], b.at(row+on))
	}
}

// neighbours sets t to a + a', the sums of rows and the next. In place the
// last of the four comes from the other three, with an operation more.
func (k *kernel) neighbours(t, a column) {
	if t != a {
		k.sum(t, a, a, 1)
		return
	}
	for row := range 3 {
		k.VEOR(t[row], a[row], a[row+1])
	}
	k.VEOR(t[3], t[0], t[1])
	k.VEOR(t[3], t[3], t[2])
}

// step is what MixColumns does with one bit: it adds the bit of the rows,
// which load puts at a, to x in y, and leaves the bit of t at next.
type step struct {
	x, y, next column
	a          neon.Q
	feedback   bool // bit 7 of t comes back here
}

// The registers of mixColumns, bit by bit. Bit 7 of t stays in q4 to q7 until
// it is not needed any more. The results of an even bit and of the odd one
// after it are in neighbouring registers, which share a store.
var (
	top   = column{4, 5, 6, 7}
	even  = column{12, 14, 0, 2}
	odd   = column{13, 15, 1, 3}
	above = column{8, 9, 10, 11}
	steps = [7]step{
		{top, column{8, 10, 12, 14}, column{9, 11, 13, 15}, 0, false},
		{column{9, 11, 13, 15}, column{9, 11, 13, 15}, consecutive(0), 0, true},
		{consecutive(0), even, odd, 8, false},
		{odd, odd, consecutive(8), 8, true},
		{consecutive(8), even, odd, 4, true},
		{odd, odd, above, 4, false},
		{above, even, odd, 4, false},
	}
)

// mixColumns is MixColumns, from bits to rows. With a, a', a”, a”' the four
// rows from one on, and t = a + a', each row becomes
//
//	2t + a' + t”
//
// (FIPS 197, 5.1.3). Doubling takes bit i of t to bit i+1, and bit 7 to bits
// 0, 1, 3 and 4. Bit 7 is read first, therefore; its a' + t” waits in memory.
func (k *kernel) mixColumns() {
	k.Comment("MixColumns.")
	k.add(rBits, rBase, bitsAt+7*64)
	k.add(rRows, rBase, rowsAt)
	load(k, rBits, false, 0, 4)
	k.add(rBits, rBits, -7*64)
	k.neighbours(top, consecutive(0))
	k.sum(above, top, consecutive(0), 3)
	k.VSTM(rBase, false, above[0].Lo(), 8)
	for bit, s := range steps {
		if s.feedback {
			k.sum(s.x, s.x, top, 0)
		}
		load(k, rBits, true, s.a, 4)
		a := consecutive(s.a)
		k.sum(s.y, s.x, a, 1)
		k.neighbours(s.next, a)
		k.sum(s.y, s.y, s.next, 2)
		if bit%2 == 1 {
			k.pairs(steps[bit-1].y)
			k.add(rRows, rRows, 32-4*128)
		}
	}
	load(k, rBase, false, 4, 4)
	k.sum(odd, odd, column{6, 7, 4, 5}, 0)
	k.pairs(even)
}

// pairs stores two bits of every row, in the registers of c and the ones
// after them.
func (k *kernel) pairs(c column) {
	for _, row := range rowAt {
		k.VST1(64, c[row].Lo(), 4, neon.At(rRows).Then(neon.By(rStride)).Aligned(128))
	}
}

// invSubRows applies the inverse S-box and the inverse of ShiftRows to the
// rows and adds the round key, from rows to bits. Unless it is the last round
// it makes of MixColumns, which comes next, its inverse: the inverse is
// MixColumns after adding to each row four times the sum of that row and the
// one two rows on.
func (k *kernel) invSubRows(p place) {
	k.Comment("Inverse S-box, inverse ShiftRows and round key, row by row.")
	k.add(rRows, rBase, rowsAt)
	k.add(rBits, rBase, bitsAt)
	if p == first {
		k.add(rKey, rPlanes, 512)
	}
	for slot, row := range rowAt {
		load(k, rRows, true, 0, 8)
		if p == first {
			k.transpose(eight(0))
			load(k, rKey, true, 8, 8)
			for i := range neon.Q(8) {
				k.VEOR(i, i, 8+i)
			}
		}
		x := k.shiftThenKey(row, k.box(k.inverse, eight(0), true))
		switch {
		case p == last:
			k.toBlocks(x)
		case slot%2 == 0:
			// Aside, to where the row came from.
			k.add(rRows, rRows, -128)
			for _, q := range x {
				k.VST1(64, q.Lo(), 2, neon.At(rRows).Then(neon.Advance).Aligned(128))
			}
		default:
			k.addFourfold(x)
		}
	}
	k.add(rPlanes, rPlanes, -2*512)
}

// addFourfold adds to the row in p and to the row before it in memory four
// times their sum, and stores both by bits. Four times a byte is its bits two
// places on; what leaves comes back as x^8 = x^4 + x^3 + x + 1 and x^9 =
// x^5 + x^4 + x^2 + x.
func (k *kernel) addFourfold(p [8]neon.Q) {
	a := eight(8)
	if p == a {
		a = eight(0)
	}
	k.add(rRows, rRows, -256)
	load(k, rRows, true, a[0], 8)
	k.add(rRows, rRows, 128)
	for i := range 8 {
		k.VEOR(p[i], p[i], a[i])
	}
	for i := range 6 {
		k.VEOR(a[i+2], a[i+2], p[i])
	}
	for _, back := range [][2]int{{0, 6}, {1, 6}, {2, 7}, {3, 6}, {4, 6}, {5, 7}, {1, 7}, {4, 7}} {
		k.VEOR(a[back[0]], a[back[0]], p[back[1]])
	}
	for i := range 8 {
		k.VEOR(p[i], p[i], a[i])
	}
	k.toBits(a)
	k.toBits(p)
}

// encrypt emits encrypt32.
func (k *kernel) encrypt() {
	k.prologue("encrypt32")
	k.blocksIn()
	k.pointers()
	k.Go("MOVW planes+0(FP), R%d", rPlanes)
	k.Go("MOVW rounds+4(FP), R%d", rRounds)
	k.Go("SUB $2, R%d", rRounds)
	k.subRows(first)
	k.Label("round")
	k.mixColumns()
	k.subRows(middle)
	k.Go("SUB.S $1, R%d", rRounds)
	k.Go("BNE round")
	k.mixColumns()
	k.subRows(last)
	k.blocksOut()
	k.wipe()
}

// decrypt emits decrypt32.
func (k *kernel) decrypt() {
	k.prologue("decrypt32")
	k.blocksIn()
	k.pointers()
	k.Go("MOVW planes+0(FP), R%d", rPlanes)
	k.Go("MOVW rounds+4(FP), R%d", rRounds)
	k.Go("SUB $1, R%d", rRounds)
	k.Go("ADD R%d<<9, R%d", rRounds, rPlanes)
	k.invSubRows(first)
	k.Go("MOVW rounds+4(FP), R%d", rRounds)
	k.Go("SUB $1, R%d", rRounds)
	k.Label("round")
	k.mixColumns()
	k.Go("SUB.S $1, R%d", rRounds)
	k.Go("BEQ last")
	k.invSubRows(middle)
	k.Go("B round")
	k.Label("last")
	k.invSubRows(last)
	k.blocksOut()
	k.wipe()
}
