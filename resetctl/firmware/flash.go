package firmware

// A Flash is a flash chip that the controller owns for the time being. Offsets and
// lengths are bytes; a range is a pair of offset and length. board/spinor has one.
type Flash interface {
	Size() int64      // of the chip
	EraseSize() int64 // of its smallest erase block

	// ReadAt and WriteAt are those of package io. Bytes are erased before they are
	// written: bits only go from 1 to 0.
	ReadAt(p []byte, offset int64) (int, error)
	WriteAt(p []byte, offset int64) (int, error)

	// Erase makes whole erase blocks FFh.
	Erase(offset, length int64) error

	// Protect protects, of these ranges, as much as the chip can against being written
	// and erased, and nothing outside of them. Without ranges nothing is protected.
	Protect(ranges [][2]int64) error

	// Protected reads from the chip which ranges are protected, by rising offset and
	// none touching the next.
	Protected() ([][2]int64, error)
}

// uncovered is what of the ranges others do not cover. Both rise and do not overlap.
func uncovered(ranges, by [][2]int64) (rest [][2]int64) {
	for _, r := range ranges {
		at, end := r[0], r[0]+r[1]
		for _, b := range by {
			from, to := max(b[0], at), min(b[0]+b[1], end)
			if from >= to {
				continue
			}
			if from > at {
				rest = append(rest, [2]int64{at, from - at})
			}
			at = to
		}
		if at < end {
			rest = append(rest, [2]int64{at, end - at})
		}
	}
	return rest
}
