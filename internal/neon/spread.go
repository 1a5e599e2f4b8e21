package neon

import (
	"math"
	"slices"
	"strings"
)

// effect is what an instruction reads and writes: D registers from bit 0 on,
// core registers from bit 32 on.
type effect struct {
	reads, writes uint64
	memory        bool
}

// overwrites lists the operations that read their destination as well, and
// both the ones that write their second register.
var (
	overwrites = []string{"vbsl", "vbit", "vbif", "vsli", "vsri"}
	both       = []string{"vswp", "vtrn", "vuzp", "vzip"}
)

// coreNames are the core registers as binutils prints them.
var coreNames = func() map[string]R {
	m := map[string]R{}
	for r := R0; r <= R15; r++ {
		m[r.String()] = r
	}
	return m
}()

// mask is the registers in an operand: a register, or a list in braces.
func mask(operand string) (m uint64) {
	if first, last, ok := strings.Cut(strings.Trim(operand, "{}"), "-"); ok {
		for d := dNumber(first); d <= dNumber(last); d++ {
			m |= 1 << d
		}
		return m
	}
	operand = strings.Trim(operand, "{}")
	if r, ok := coreNames[operand]; ok {
		return 1 << 32 << r
	}
	switch operand[0] {
	case 'd':
		return 1 << dNumber(operand)
	case 'q':
		return 3 << (2 * dNumber(operand))
	}
	return 0
}

// dNumber is the number in the name of a register.
func dNumber(name string) (n int) {
	for _, c := range name[1:] {
		n = 10*n + int(c-'0')
	}
	return n
}

// effect tells what i reads and writes, from its text.
func (i Inst) effect() (e effect) {
	if i.Class == ClassScalar {
		// Nothing moves across one: what it does with flags is not told here.
		return effect{reads: math.MaxUint64, writes: math.MaxUint64, memory: true}
	}
	text, _, _ := strings.Cut(i.Text, "\t@")
	name, rest, _ := strings.Cut(text, "\t")
	name, _, _ = strings.Cut(name, ".")
	operands := strings.Split(rest, ", ")
	if i.Class == ClassLoad || i.Class == ClassStore {
		e.memory = true
		for _, o := range operands {
			core := strings.Trim(o, "[]!")
			core, _, _ = strings.Cut(core, " ")
			if r, ok := coreNames[core]; ok {
				// The base may move; an index is taken for one.
				e.reads |= 1 << 32 << r
				e.writes |= 1 << 32 << r
			} else if i.Class == ClassLoad {
				e.writes |= mask(o)
			} else {
				e.reads |= mask(o)
			}
		}
		return e
	}
	for n, o := range operands {
		m := mask(o)
		if n == 0 || n == 1 && slices.Contains(both, name) {
			e.writes |= m
		}
		if n > 0 || slices.Contains(both, name) || slices.Contains(overwrites, name) {
			e.reads |= m
		}
	}
	return e
}

// independent tells whether two instructions may change places. Loads and
// stores keep their order.
func (e effect) independent(f effect) bool {
	return e.writes&(f.reads|f.writes) == 0 && e.reads&f.writes == 0 && !(e.memory && f.memory)
}

// waits tells whether f uses what e makes.
func (e effect) waits(f effect) bool { return e.writes&f.reads&(1<<32-1) != 0 }

// Spread moves instructions apart from those whose results they use: an
// in-order core waits where a result is used at once. Where one instruction
// uses the result of the one before it, the next independent instruction of
// the reach instructions that follow is moved between them. Labels, lines
// for Go's assembler and scalar instructions stay where they are and nothing moves
// across them.
func (a *Asm) Spread(reach int) {
	for n := 1; n < len(a.items); n++ {
		if a.items[n-1].inst == nil || a.items[n].inst == nil {
			continue
		}
		before := a.items[n-1].inst.effect()
		if !before.waits(a.items[n].inst.effect()) {
			continue
		}
		if from := a.filler(n, reach, before); from > 0 {
			i := a.items[from]
			a.items = slices.Insert(slices.Delete(a.items, from, from+1), n, i)
		}
	}
}

// filler finds an instruction after n that can move to n, behind before,
// without having to wait there.
func (a *Asm) filler(n, reach int, before effect) int {
	for from := n + 1; from < len(a.items) && from <= n+reach && a.items[from].inst != nil; from++ {
		e := a.items[from].inst.effect()
		ok := !before.waits(e)
		for _, over := range a.items[n:from] {
			ok = ok && e.independent(over.inst.effect())
		}
		// What is left behind must not have to wait instead.
		if ok && from+1 < len(a.items) && a.items[from+1].inst != nil {
			ok = !a.items[from-1].inst.effect().waits(a.items[from+1].inst.effect())
		}
		if ok {
			return from
		}
	}
	return 0
}
