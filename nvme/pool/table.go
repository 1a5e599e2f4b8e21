package pool

import "bytes"

// table says, for each extent of the pool, whose it is: 5 bytes each, and 5.3 of an index
// that finds the extent of a volume's. So the RAM depends on the pool's size, and not on
// what hosts write where.
type table struct {
	slot  []uint8  // free, held, or a volume's
	at    []uint32 // which extent of that volume
	index []uint32 // open addressing, linear probing: extent + 1, or 0; nil while replaying
	seed  uint64   // random and odd: hosts choose what is looked up
	free  int      // extents of slot free
	next  int      // where to look for the next free one
}

// Values of slot that are no volume's.
const (
	free = 0
	held = 255 // taken and not mapped yet, or freed and not recorded yet
)

func newTable(extents int) *table {
	return &table{slot: make([]uint8, extents), at: make([]uint32, extents)}
}

// home is where the index has a volume's extent, or from where on.
func (t *table) home(slot uint8, at uint32) int {
	h := (uint64(slot)<<32 | uint64(at)) * t.seed
	h = (h ^ h>>29) * 0xbf58476d1ce4e5b9 // a round of SplitMix64
	return int(h >> 32 * uint64(len(t.index)) >> 32)
}

// find gives the extent that holds a volume's.
func (t *table) find(slot uint8, at uint32) (extent uint32, ok bool) {
	for i := t.home(slot, at); t.index[i] != 0; i = t.after(i) {
		if e := t.index[i] - 1; t.slot[e] == slot && t.at[e] == at {
			return e, true
		}
	}
	return 0, false
}

func (t *table) after(i int) int {
	if i++; i == len(t.index) {
		return 0
	}
	return i
}

// set maps an extent.
func (t *table) set(e uint32, slot uint8, at uint32) {
	t.slot[e], t.at[e] = slot, at
	if t.index == nil {
		return
	}
	i := t.home(slot, at)
	for t.index[i] != 0 {
		i = t.after(i)
	}
	t.index[i] = e + 1
}

// drop takes a mapped extent out of the index and holds it.
func (t *table) drop(e uint32) {
	i := t.home(t.slot[e], t.at[e])
	for t.index[i] != e+1 {
		i = t.after(i)
	}
	t.slot[e], t.at[e] = held, 0
	// What follows moves up, where its home allows, so that no search ends at the hole.
	for j := t.after(i); t.index[j] != 0; j = t.after(j) {
		f := t.index[j] - 1
		if h := t.home(t.slot[f], t.at[f]); (j-h+len(t.index))%len(t.index) >= (j-i+len(t.index))%len(t.index) {
			t.index[i] = t.index[j]
			i = j
		}
	}
	t.index[i] = 0
}

// release makes a held extent free.
func (t *table) release(e uint32) {
	t.slot[e] = free
	t.free++
}

// take holds a free extent: the next in ascending order. There must be one.
func (t *table) take() uint32 {
	i := bytes.IndexByte(t.slot[t.next:], free)
	if i < 0 {
		t.next = 0
		i = bytes.IndexByte(t.slot, free)
	}
	e := t.next + i
	t.slot[e] = held
	t.free--
	t.next = (e + 1) % len(t.slot)
	return uint32(e)
}

// build makes the index, when all is replayed, and counts. It reports whether no two
// extents are one volume's same.
func (t *table) build(seed uint64) bool {
	t.index = make([]uint32, len(t.slot)+len(t.slot)/3+1)
	t.seed = seed | 1
	for e, s := range t.slot {
		if s == free {
			t.free++
			continue
		}
		if _, twice := t.find(s, t.at[e]); twice {
			return false
		}
		t.set(uint32(e), s, t.at[e])
	}
	return true
}
