package kernelcheck

import (
	"fmt"
	"math/bits"
	"slices"
	"strings"
)

// Rules say what kernel code may do.
type Rules struct {
	Own    string                     // prefix of the kernel's own functions; they may call each other
	Static map[string]bool            // its functions that are local to an assembly file
	Leaves map[string]bool            // functions of others that may be called; true: it does not return
	Float  map[string]bool            // may use VFP and NEON
	Jumps  map[string]map[uint32]bool // other returns
	Calls  map[string]string          // may call through a register; the table of targets, or "" for function values
	Data   map[string][]string        // may refer to these writable variables
}

// A Walk is what was found.
type Walk struct {
	image    *Image
	rules    Rules
	Reached  map[string]map[uint32]bool // functions, and their instructions
	calls    map[string]map[string]bool
	frame    map[string]uint32 // bytes of stack
	values   map[string]bool   // functions whose value the kernel takes
	Problems []string
	pending  []uint32
}

// From walks from the named functions.
func (m *Image) From(rules Rules, roots ...string) *Walk {
	w := &Walk{image: m, rules: rules, Reached: map[string]map[uint32]bool{}, calls: map[string]map[string]bool{},
		frame: map[string]uint32{}, values: map[string]bool{}}
	for _, name := range roots {
		if s, ok := m.Lookup(name); ok {
			w.pending = append(w.pending, s.Start)
		} else {
			w.problem("there is no function %s", name)
		}
	}
	for len(w.pending) > 0 {
		addr := w.pending[len(w.pending)-1]
		w.pending = w.pending[:len(w.pending)-1]
		w.run(addr)
	}
	slices.Sort(w.Problems)
	w.Problems = slices.Compact(w.Problems)
	return w
}

func (w *Walk) problem(format string, args ...any) {
	w.Problems = append(w.Problems, fmt.Sprintf(format, args...))
}

// run follows the instructions from addr to where control does not go on.
func (w *Walk) run(addr uint32) {
	f, ok := w.image.at(addr)
	if !ok {
		w.problem("%#x is in no function", addr)
		return
	}
	if w.Reached[f.Name] == nil {
		w.Reached[f.Name], w.calls[f.Name] = map[uint32]bool{}, map[string]bool{}
		if _, leaf := w.rules.Leaves[f.Name]; !leaf && !w.own(f.Name) {
			w.problem("%s is reached, and is not the kernel's", f.Name)
		}
	}
	var half [16]uint32 // what MOVW has put into each register
	for ; !w.Reached[f.Name][addr]; addr += 4 {
		if addr >= f.End {
			w.problem("%s runs on beyond its end", f.Name)
			return
		}
		insn, ok := w.image.word(addr)
		if !ok {
			w.problem("%s: no code at %#x", f.Name, addr)
			return
		}
		w.Reached[f.Name][addr] = true
		w.frame[f.Name] += stackUse(insn)
		w.constants(f, addr, insn, &half)
		if isFloat(insn) && !w.rules.Float[f.Name] {
			w.problem("%s+%#x uses a floating-point register: %#08x", f.Name, addr-f.Start, insn)
		}
		if !w.flow(f, addr, insn) {
			return
		}
	}
}

func (w *Walk) own(name string) bool {
	return strings.HasPrefix(name, w.rules.Own) || w.rules.Static[name]
}

const always = 0xe

// flow follows jumps and calls and reports whether the next instruction is
// reached too.
func (w *Walk) flow(f Symbol, addr, insn uint32) bool {
	cond := insn >> 28
	switch {
	case cond == 0xf && insn>>25&7 == 5:
		w.problem("%s+%#x changes to Thumb state", f.Name, addr-f.Start)
		return true
	case cond == 0xf:
		return insn&0xfe500000 != 0xf8100000 // RFE
	case insn>>25&7 == 5:
		return w.branch(f, addr, insn, cond)
	case insn&0x0ffffff0 == 0x012fff30, insn&0x0fffffff == 0x01a0e00f: // BLX; MOV LR, PC
		w.callRegister(f, addr)
		return true
	case insn&0xfff000f0 == 0xe7f000f0: // UDF
		return false
	case writesPC(insn):
		if !isReturn(insn) && !w.rules.Jumps[f.Name][insn] {
			w.problem("%s+%#x jumps where a register says: %#08x", f.Name, addr-f.Start, insn)
		}
		return cond != always
	}
	return true
}

func (w *Walk) branch(f Symbol, addr, insn, cond uint32) bool {
	target := addr + 8 + uint32(int32(insn<<8)>>6)
	link := insn>>24&1 == 1
	to, ok := w.image.at(target)
	if !ok {
		w.problem("%s+%#x branches to %#x, which is in no function", f.Name, addr-f.Start, target)
		return false
	}
	if !link && to == f {
		w.pending = append(w.pending, target)
		return cond != always
	}
	w.calls[f.Name][to.Name] = true
	stops, leaf := w.rules.Leaves[to.Name]
	switch {
	case !leaf && !w.own(to.Name):
		w.problem("%s calls %s", f.Name, to.Name)
	case !stops:
		w.pending = append(w.pending, target)
	}
	return cond != always || link && !stops
}

// callRegister follows a call through a register to all that it may reach.
func (w *Walk) callRegister(f Symbol, addr uint32) {
	table, ok := w.rules.Calls[f.Name]
	if !ok {
		w.problem("%s+%#x calls what a register says", f.Name, addr-f.Start)
		return
	}
	if table == "" {
		return // function values are followed where they are taken
	}
	t, ok := w.image.Lookup(table)
	if !ok {
		w.problem("there is no table %s", table)
		return
	}
	for a := t.Start; a < t.End; a += 4 {
		target, ok := w.image.word(a)
		if !ok {
			w.problem("table %s is writable", table)
			return
		}
		if target != 0 {
			w.take(f, target)
		}
	}
}

// take notes that f may call a function through a register.
func (w *Walk) take(f Symbol, target uint32) {
	to, ok := w.image.at(target)
	if !ok || to.Start != target {
		w.problem("%s takes %#x for a function", f.Name, target)
		return
	}
	w.calls[f.Name][to.Name] = true
	w.pending = append(w.pending, target)
}

// constants looks at the addresses that an instruction makes: of variables, and
// of function values.
func (w *Walk) constants(f Symbol, addr, insn uint32, half *[16]uint32) {
	reg := insn >> 12 & 15
	value := uint32(0)
	switch {
	case insn&0x0f7f0000 == 0x051f0000: // LDR from the literal pool
		at := addr + 8 + insn&0xfff
		if insn>>23&1 == 0 {
			at = addr + 8 - insn&0xfff
		}
		value, _ = w.image.word(at)
	case insn&0x0ff00000 == 0x03000000: // MOVW
		half[reg] = insn>>4&0xf000 | insn&0xfff
		return
	case insn&0x0ff00000 == 0x03400000: // MOVT
		value = half[reg] | (insn>>4&0xf000|insn&0xfff)<<16
	default:
		return
	}
	if section, is := w.image.writable(value); is {
		name := section
		if s, ok := w.image.at(value); ok {
			name = s.Name
		}
		if !slices.Contains(w.rules.Data[f.Name], name) {
			w.problem("%s+%#x refers to %s in %s", f.Name, addr-f.Start, name, section)
		}
	}
	// A function value is the address of a word that holds the function's.
	if target, ok := w.image.word(value); ok {
		if to, ok := w.image.at(target); ok && to.Start == target && w.own(to.Name) {
			w.values[to.Name] = true
			w.take(f, target)
		}
	}
}

// stackUse is by how much an instruction moves the stack pointer down, in the
// stackUse is by how much an instruction moves the stack pointer down, in the forms
// that Go's assembler uses for frames below 4 KiB. Larger ones return in a form that
// isReturn does not know, and so are found too.
func stackUse(insn uint32) uint32 {
	switch insn & 0xfffff000 {
	case 0xe52de000: // STR LR, [SP, #-n]!
		return insn & 0xfff
	case 0xe24dd000: // SUB SP, SP, #n
		return bits.RotateLeft32(insn&0xff, -2*int(insn>>8&15))
	}
	return 0
}

// isFloat reports whether an instruction is one of VFP or NEON.
func isFloat(insn uint32) bool {
	coprocessor := insn >> 8 & 14
	if insn>>28 == 0xf {
		return insn>>25 == 0x79 || insn&0xff100000 == 0xf4000000 || coprocessor == 10 && insn>>26&3 == 3 && insn>>24&15 != 15
	}
	return coprocessor == 10 && (insn>>25&7 == 6 || insn>>24&15 == 14)
}

// writesPC reports whether an instruction other than a branch changes the program
// counter.
func writesPC(insn uint32) bool {
	switch insn >> 25 & 7 {
	case 0, 1:
		if insn&0x0ffffff0 == 0x012fff10 { // BX
			return true
		}
		compares := insn>>23&3 == 2 && insn>>20&1 == 1
		misc := insn>>23&3 == 2 && insn>>20&1 == 0 // MSR, MOVW and the like
		multiply := insn>>25&7 == 0 && insn&0x90 == 0x90
		return !compares && !misc && !multiply && insn>>12&15 == 15
	case 2, 3:
		media := insn>>25&7 == 3 && insn>>4&1 == 1
		return !media && insn>>20&1 == 1 && insn>>12&15 == 15
	case 4:
		return insn>>20&1 == 1 && insn>>15&1 == 1
	}
	return false
}

// isReturn reports whether an instruction that writes PC is a return.
func isReturn(insn uint32) bool {
	return insn&0x0ffff000 == 0x049df000 || // LDR PC, [SP], #n
		insn&0x0fffffff == 0x012fff1e || // BX LR
		insn&0x0fffffff == 0x01a0f00e || // MOV PC, LR
		insn&0x0e1d8000 == 0x081d8000 || // LDM SP, {... PC}
		insn&0x0fffffff == 0x028ef000 // ADD PC, LR, #0
}

// Depth is how much stack a function needs at most, with all that it calls, and
// the calls that need it.
func (w *Walk) Depth(name string) (uint32, []string) {
	return w.depth(name, map[string]bool{})
}

func (w *Walk) depth(name string, above map[string]bool) (uint32, []string) {
	if above[name] {
		w.problem("%s calls itself", name)
		return 0, nil
	}
	above[name] = true
	defer delete(above, name)
	most, path := uint32(0), []string(nil)
	for to := range w.calls[name] {
		if stops, leaf := w.rules.Leaves[to]; leaf && stops {
			continue
		}
		if n, p := w.depth(to, above); n > most || path == nil {
			most, path = n, p
		}
	}
	return most + w.frame[name], append([]string{fmt.Sprintf("%s %d", name, w.frame[name])}, path...)
}

// Values are the functions that are called through function values.
func (w *Walk) Values() (names []string) {
	for name := range w.values {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// A Line is a line of a source file, as the line table names it.
type Line struct {
	File string
	Line int
}

// Lines are the source lines of what was reached.
func (w *Walk) Lines() map[Line]bool {
	lines := map[Line]bool{}
	for _, insns := range w.Reached {
		for addr := range insns {
			if file, line, fn := w.image.lines.PCToLine(uint64(addr)); fn != nil {
				lines[Line{file, line}] = true
			}
		}
	}
	return lines
}
