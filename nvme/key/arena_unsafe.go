package key

import (
	"errors"
	"fmt"
	"unsafe"

	"nitro/nvme/xts"
)

// This file uses unsafe to lay slots over memory that the board chooses. That is sound:
// the memory is page aligned and as long as checked, a slot holds no pointers (a test sees
// to it), and the Arena keeps the slice, so that the collector keeps the memory.

// PageSize is what arenas are aligned to, and whole multiples of, in bytes.
const PageSize = 4096

// ErrFull: no slot is free.
var ErrFull = errors.New("the arena has no room: detach a volume first")

// slot is one lease's memory: the schedule, and the key as it was delivered, of which an
// erase makes another schedule (docs/grant.md, "Memory").
type slot struct {
	key       xts.Key
	delivered [Size]byte
}

// work is what is there while a grant is taken, once an arena.
type work struct {
	delivered, effective [Size]byte
	salt, prk, inner     [32]byte
	message              [192]byte
}

const (
	slotSize = int(unsafe.Sizeof(slot{}))
	workSize = int(unsafe.Sizeof(work{}))
)

// An Arena is where all key material lies. It is not safe for concurrent use, but for
// Zero.
type Arena struct {
	memory []byte
	work   *work
	slots  []*slot
	used   []bool
}

// ArenaSize is how many bytes an arena for a number of keys takes: whole pages.
func ArenaSize(keys int) int {
	return (workSize + keys*slotSize + PageSize - 1) / PageSize * PageSize
}

// NewArena zeroes memory and keeps keys in it. The memory begins at a page and is whole
// pages; nobody else uses it.
func NewArena(memory []byte) (*Arena, error) {
	n := (len(memory) - workSize) / slotSize
	if n < 1 || len(memory)%PageSize != 0 || uintptr(unsafe.Pointer(unsafe.SliceData(memory)))%PageSize != 0 {
		return nil, fmt.Errorf("key: an arena of %d bytes: whole pages of %d that begin at one, at least %d", len(memory), PageSize, ArenaSize(1))
	}
	a := &Arena{memory: memory, work: (*work)(unsafe.Pointer(&memory[0])), slots: make([]*slot, n), used: make([]bool, n)}
	for i := range a.slots {
		a.slots[i] = (*slot)(unsafe.Pointer(&memory[workSize+i*slotSize]))
	}
	a.Zero()
	return a, nil
}

// Zero overwrites all keys. It takes no lock and no memory, so that an interrupt may call
// it when the board is about to stop. Nothing may encrypt afterwards with a key that was
// in use meanwhile: a schedule half zeroed hides little. [Ring.Quarantine] ends users
// first.
func (a *Arena) Zero() { clear(a.memory) }

// take gives a slot, which is zero.
func (a *Arena) take() (*slot, error) {
	for i, used := range a.used {
		if !used {
			a.used[i] = true
			return a.slots[i], nil
		}
	}
	return nil, fmt.Errorf("%w (%d keys)", ErrFull, len(a.slots))
}

// give zeroes a slot and takes it back.
func (a *Arena) give(s *slot) {
	*s = slot{}
	for i := range a.slots {
		if a.slots[i] == s {
			a.used[i] = false
		}
	}
}
