package neon

import (
	"fmt"
	"slices"
	"strings"
)

// Line is one line of a straight-line program over Q registers with names for
// values. The forms of its text, which ParseLines reads, are
//
//	z = x ^ y     z = x & y     z = x | y     exclusive or, and, or
//	z = x &~ y    z = x |~ y                  and not, or not
//	z = ~ x                                   not
//	z = s ? x : y                             x where s is 1, y where it is 0
//	store x                                   x to memory; it stays in its register
//	load x                                    x back from memory, once for each store
//	again z = x ^ y                           z once more, rather than loading it
//
// A name may be given a new value; the old one is gone then.
type Line struct {
	Op  string
	Out string
	In  []string
}

// ParseLines reads a program, one line of text for one Line.
func ParseLines(text string) ([]Line, error) {
	var lines []Line
	for n, s := range strings.Split(strings.TrimSpace(text), "\n") {
		l, ok := parseLine(strings.Fields(s))
		if !ok {
			return nil, fmt.Errorf("neon: line %d: %q", n+1, s)
		}
		lines = append(lines, l)
	}
	return lines, nil
}

// parseLine reads the words of one line.
func parseLine(w []string) (Line, bool) {
	if len(w) == 2 && w[0] == "store" {
		return Line{Op: "store", In: w[1:]}, true
	}
	if len(w) == 2 && w[0] == "load" {
		return Line{Op: "load", Out: w[1]}, true
	}
	if len(w) == 6 && w[0] == "again" && w[4] == "^" {
		return Line{Op: "again", Out: w[1], In: []string{w[3], w[5]}}, w[2] == "="
	}
	if len(w) < 4 || w[1] != "=" {
		return Line{}, false
	}
	switch {
	case len(w) == 4 && w[2] == "~":
		return Line{Op: "~", Out: w[0], In: w[3:]}, true
	case len(w) == 5 && strings.Contains(" ^ & | &~ |~ ", " "+w[3]+" "):
		return Line{Op: w[3], Out: w[0], In: []string{w[2], w[4]}}, true
	case len(w) == 7 && w[3] == "?" && w[5] == ":":
		return Line{Op: "?", Out: w[0], In: []string{w[2], w[4], w[6]}}, true
	}
	return Line{}, false
}

// Straight gives registers to a straight-line program and emits it. Values
// are where the program says: it stores and loads itself what does not fit,
// and Straight refuses it where it needs more than the sixteen registers.
type Straight struct {
	// Lines is the program.
	Lines []Line
	// In are the values that exist at the start, in their registers.
	In map[string]Q
	// Out are the values that are wanted at the end, in registers below
	// OutBelow if that is not zero.
	Out      []string
	OutBelow Q
	// Slots are addresses of 16 bytes each for stored values; a load frees
	// the slot that it reads.
	Slots []Mem
}

// placement is where the values of a Straight are.
type placement struct {
	a      *Asm
	reg    map[string]Q
	used   [NumQ]bool
	slot   map[string]int
	taken  []bool
	lives  map[string][]mention
	wanted map[string]bool
	below  Q
}

// mention is a line that uses a value, or else makes it anew.
type mention struct {
	line int
	uses bool
}

// Emit emits p and returns the registers of its Out.
func (p Straight) Emit(a *Asm) map[string]Q {
	s := &placement{a: a, reg: map[string]Q{}, slot: map[string]int{}, taken: make([]bool, len(p.Slots)),
		lives: map[string][]mention{}, wanted: map[string]bool{}, below: p.OutBelow}
	for v, q := range p.In {
		s.reg[v], s.used[q] = q, true
	}
	for n, l := range p.Lines {
		for _, v := range l.In {
			s.lives[v] = append(s.lives[v], mention{n, true})
		}
		if l.Out != "" && !slices.Contains(l.In, l.Out) {
			s.lives[l.Out] = append(s.lives[l.Out], mention{n, false})
		}
	}
	for _, v := range p.Out {
		s.wanted[v] = true
		s.lives[v] = append(s.lives[v], mention{len(p.Lines), true})
	}
	for n, l := range p.Lines {
		s.line(n, l, p.Slots)
		s.release(n, l)
	}
	for _, v := range p.Out {
		q, ok := s.reg[v]
		if !ok {
			a.fail("%s is not in a register at the end", v)
		}
		if s.below != 0 && q >= s.below {
			// Everything else is dead now.
			s.place(v, s.fresh(v))
			a.VMOV(s.reg[v], q)
		}
	}
	return s.reg
}

// live tells whether a line after n uses the value that v has at line n.
func (s *placement) live(v string, n int) bool {
	for _, m := range s.lives[v] {
		if m.line > n {
			return m.uses
		}
	}
	return false
}

// release frees the registers of values that no line after n uses, and the
// slot that line n loaded from.
func (s *placement) release(n int, l Line) {
	for v, q := range s.reg {
		if !s.live(v, n) {
			s.used[q] = false
			delete(s.reg, v)
		}
	}
	if k, ok := s.slot[l.Out]; ok && l.Op == "load" {
		s.taken[k] = false
		delete(s.slot, l.Out)
	}
}

// fresh finds a free register for value v: below the bound for one that is
// wanted at the end, above it for any other, if there is a choice.
func (s *placement) fresh(v string) Q {
	low, high := -1, -1
	for q := NumQ - 1; q >= 0; q-- {
		if s.used[q] {
			continue
		}
		if Q(q) < s.below {
			low = q
		} else {
			high = q
		}
	}
	pick := high
	if low >= 0 && (s.wanted[v] || high < 0) {
		pick = low
	}
	if pick < 0 {
		s.a.fail("more than %d values at once, at %s", NumQ, v)
		return 0
	}
	return Q(pick)
}

// place records that v is now in q.
func (s *placement) place(v string, q Q) {
	if old, ok := s.reg[v]; ok && old != q {
		s.used[old] = false
	}
	s.reg[v], s.used[q] = q, true
}

// operands are the registers of the values that l reads.
func (s *placement) operands(l Line) []Q {
	var qs []Q
	for _, v := range l.In {
		q, ok := s.reg[v]
		if !ok {
			s.a.fail("%s is not in a register for %s", v, l.Out)
		}
		qs = append(qs, q)
	}
	return qs
}

// line emits line n of the program.
func (s *placement) line(n int, l Line, slots []Mem) {
	in := s.operands(l)
	switch l.Op {
	case "store":
		for k := range s.taken {
			if !s.taken[k] {
				s.taken[k], s.slot[l.In[0]] = true, k
				s.a.VST1(64, in[0].Lo(), 2, slots[k])
				return
			}
		}
		s.a.fail("more than %d values stored at once", len(slots))
	case "load":
		k, ok := s.slot[l.Out]
		if !ok {
			s.a.fail("%s was not stored", l.Out)
			return
		}
		q := s.fresh(l.Out)
		s.place(l.Out, q)
		s.a.VLD1(64, q.Lo(), 2, slots[k])
	case "?":
		s.choose(n, l, in)
	default:
		s.gate(n, l, in)
	}
}

// dies tells whether the value of operand v is not needed after line n, which
// makes out.
func (s *placement) dies(v, out string, n int) bool { return v == out || !s.live(v, n) }

// gate emits an operation with a destination of its own.
func (s *placement) gate(n int, l Line, in []Q) {
	for i, v := range l.In {
		if s.dies(v, l.Out, n) {
			s.used[in[i]] = false
		}
	}
	q := s.fresh(l.Out)
	for i, v := range l.In {
		s.used[in[i]] = true
		if s.dies(v, l.Out, n) {
			s.used[in[i]] = false
			delete(s.reg, v)
		}
	}
	s.place(l.Out, q)
	switch l.Op {
	case "^", "again":
		s.a.VEOR(q, in[0], in[1])
	case "&":
		s.a.VAND(q, in[0], in[1])
	case "|":
		s.a.VORR(q, in[0], in[1])
	case "&~":
		s.a.VBIC(q, in[0], in[1])
	case "|~":
		s.a.VORN(q, in[0], in[1])
	case "~":
		s.a.VMVN(q, in[0])
	default:
		s.a.fail("operation %q", l.Op)
	}
}

// choose emits a selection, which overwrites one of its operands: the
// selector with VBSL, the second choice with VBIT, the first with VBIF. Where
// all three live on, the second choice is copied.
func (s *placement) choose(n int, l Line, in []Q) {
	sel, x, y := in[0], in[1], in[2]
	q := y
	switch {
	case s.dies(l.In[0], l.Out, n):
		q = sel
		s.a.VBSL(sel, x, y)
	case s.dies(l.In[2], l.Out, n):
		s.a.VBIT(y, x, sel)
	case s.dies(l.In[1], l.Out, n):
		q = x
		s.a.VBIF(x, y, sel)
	default:
		q = s.fresh(l.Out)
		s.a.VMOV(q, y)
		s.a.VBIT(q, x, sel)
	}
	for i, v := range l.In {
		if in[i] == q {
			delete(s.reg, v)
		}
	}
	s.place(l.Out, q)
}
