package kernel

// frames hands out pages of physical memory. Pages that were never used come
// from up to three ranges; pages given back stand in a list that is threaded
// through their first words.
type frames struct {
	free     uint32 // physical address of the first free page; 0 is none
	fresh    [3]frameRange
	total    uint32 // pages there are
	used     uint32
	peakUsed uint32
}

// A frameRange has handed out its pages from start to next at least once. All are
// physical addresses.
type frameRange struct{ start, next, end uint32 }

func (f *frames) addRange(i int, start, end uint32) {
	f.fresh[i] = frameRange{start, start, end}
	f.total += (end - start) >> pageShift
}

// take returns a page of physical memory with whatever contents; false if there
// is none left.
func (f *frames) take() (pa uint32, ok bool) {
	if pa = f.free; pa != 0 {
		f.free = load(pa + directOffset)
	} else {
		for i := range f.fresh {
			if r := &f.fresh[i]; r.next < r.end {
				pa = r.next
				r.next += pageSize
				break
			}
		}
		if pa == 0 {
			return 0, false
		}
	}
	f.used++
	f.peakUsed = max(f.peakUsed, f.used)
	return pa, true
}

func (f *frames) give(pa uint32) {
	store(pa+directOffset, f.free)
	f.free = pa
	f.used--
}
