package counter

func ticks() uint64     // CNTVCT, the virtual counter (ARM DDI 0406C, B8.1.3)
func frequency() uint32 // CNTFRQ, Hz
func spin(n uint32)     // 2n instructions in a loop, n at least 1

// InstructionTime tells how many nanoseconds an instruction takes where that is one
// and the same number for all, and 0 where it is not: under an emulator that counts
// instructions (QEMU's -icount shift=n: 2^n ns), so that time is a count of
// instructions. It must be asked of an emulator only: a loop of real silicon takes the
// same time each time too, and proves nothing. It takes some 200,000
// instructions.
func InstructionTime() (ns uint64) {
	const tries, enough = 12, 3 // in a row; what an interrupt falls into does not count
	for same, try := 0, 0; try < tries; try++ {
		switch got := loopTime(); {
		case got == 0:
			same = 0
		case got == ns:
			same++
		default:
			ns, same = got, 1
		}
		if same == enough {
			return ns
		}
	}
	return 0
}

// loopTime measures a loop, and gives the power of two that an instruction of it took
// in nanoseconds, 0 if it was none.
func loopTime() uint64 {
	const n = 10000
	measure := func(n uint32) uint64 {
		start := ticks()
		spin(n)
		return ticks() - start
	}
	took := int64(measure(2*n)) - int64(measure(n)) // the calls' own cost cancels out
	for shift := range 9 {
		want := int64(2 * n << shift * uint64(frequency()) / 1e9)
		if took >= want-1 && took <= want+1 {
			return 1 << shift
		}
	}
	return 0
}
