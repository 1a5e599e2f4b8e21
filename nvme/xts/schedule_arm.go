//go:build !xts_portable

package xts

// batch is what one call of the assembly takes, in bytes.
const batch = 32 * BlockSize

// rowAt is the order in which the assembly keeps the rows of the state.
var rowAt = [4]int{0, 2, 1, 3}

// schedule is a key schedule in the form of the assembly: for each bit of a
// round key, 32 zeros or ones, for as many blocks. A plane is one bit of one
// row: 4 bytes for each of its columns.
type schedule struct {
	planes [(maxRounds + 1) * 32 * 16]byte
	rounds int
}

// expand fills the schedule from an AES key of 32 or 16 bytes.
func (s *schedule) expand(key []byte) {
	var rk roundKeys
	s.rounds = rk.expandKey(key)
	for r := range s.rounds + 1 {
		for slot, row := range rowAt {
			for bit := range 8 {
				n := r*32 + slot*8 + bit
				for col := range 4 {
					b := rk[r][row+4*col] ^ maskKey(r, s.rounds)
					ones := -(b >> bit & 1)
					for i := range 4 {
						s.planes[n*16+col*4+i] = ones
					}
				}
			}
		}
	}
	clear(rk[:])
}

// crypt runs XTS over src, whole blocks. What tweak is afterwards has no
// meaning unless src is whole batches.
func (s *schedule) crypt(dst, src []byte, tweak *[BlockSize]byte, dir direction) {
	for len(src) >= batch {
		s.batch(&dst[0], &src[0], tweak, dir)
		dst, src = dst[batch:], src[batch:]
	}
	if len(src) > 0 {
		var buf [batch]byte
		copy(buf[:], src)
		s.batch(&buf[0], &buf[0], tweak, dir)
		copy(dst, buf[:len(src)])
		clear(buf[:])
	}
}

// batch runs XTS over 32 blocks.
func (s *schedule) batch(dst, src *byte, tweak *[BlockSize]byte, dir direction) {
	if dir == encrypt {
		encrypt32(&s.planes[0], s.rounds, dst, src, &tweak[0])
	} else {
		decrypt32(&s.planes[0], s.rounds, dst, src, &tweak[0])
	}
}

// tweakSchedule is a key schedule for tweaks. It can encrypt eight at a time
// as well, and has the round keys in a second form for that: a plane is one
// bit of all sixteen bytes, and before them are the indices of ShiftRows.
type tweakSchedule struct {
	schedule
	planes8 [16 + (maxRounds+1)*8*16]byte
}

// expand fills the schedule from an AES key of 32 or 16 bytes.
func (s *tweakSchedule) expand(key []byte) {
	s.schedule.expand(key)
	var rk roundKeys
	rk.expandKey(key)
	for i := range 16 {
		// Row n of column m is byte n+4m and comes from column m+n.
		s.planes8[i] = byte((i + 4*(i%4)) % 16)
	}
	for r := range s.rounds + 1 {
		for bit := range 8 {
			for i, b := range rk[r] {
				s.planes8[16+(r*8+bit)*16+i] = -((b ^ maskKey(r, s.rounds)) >> bit & 1)
			}
		}
	}
	clear(rk[:])
}

// encryptTweaks encrypts the first n of t, and perhaps more: eight at a time
// or, if there are many, all 32, which is XTS whose tweaks are zero.
func (s *tweakSchedule) encryptTweaks(t *tweaks, n int) {
	if n > 24 {
		var zero [BlockSize]byte
		s.batch(&t.bytes[0], &t.bytes[0], &zero, encrypt)
		return
	}
	for i := 0; i < n; i += 8 {
		encrypt8(&s.planes8[0], s.rounds, &t.bytes[BlockSize*i])
	}
}
