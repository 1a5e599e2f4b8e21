package xts

// maxRounds is the number of rounds of AES-256 (FIPS 197, 5).
const maxRounds = 14

// roundKeys are the round keys of FIPS 197, 5.2, as bytes: each in the order
// of the state, column by column.
type roundKeys [maxRounds + 1][BlockSize]byte

// expandKey expands key, of 32 or 16 bytes, and returns the number of rounds.
// The S-box is the bit-sliced one, so that no address depends on the key.
func (rk *roundKeys) expandKey(key []byte) (rounds int) {
	words := len(key) / 4
	rounds = words + 6
	at := func(i int) []byte { return rk[i/4][i%4*4 : i%4*4+4] }
	for i := range words {
		copy(at(i), key[4*i:4*i+4])
	}
	rcon := byte(1)
	for i := words; i < 4*(rounds+1); i++ {
		t := [4]byte(at(i - 1))
		switch {
		case i%words == 0:
			t = subWord([4]byte{t[1], t[2], t[3], t[0]})
			t[0] ^= rcon
			// xtime of FIPS 197, 4.2.1.
			rcon = rcon<<1 ^ rcon>>7*0x1b
		case words == 8 && i%words == 4:
			t = subWord(t)
		}
		for j, b := range at(i - words) {
			at(i)[j] = b ^ t[j]
		}
	}
	return rounds
}

// subWord applies the S-box to four bytes.
func subWord(w [4]byte) [4]byte {
	var blocks [4 * BlockSize]byte
	for i := range w {
		blocks[i] = w[i] ^ subIn
	}
	var x state
	x.pack(&blocks)
	x.subBytes()
	x.unpack(&blocks)
	for i := range w {
		w[i] = blocks[i] ^ subOut
	}
	return w
}

// maskKey returns what to add to each byte of round key r, for the bit-sliced
// S-boxes: MixColumns and its inverse leave four equal bytes as they are.
func maskKey(r, rounds int) byte {
	switch r {
	case 0:
		return subIn
	case rounds:
		return subOut
	}
	return subIn ^ subOut
}
