package insncount

import (
	"cmp"
	"debug/elf"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Symbols are the functions of a program, by address.
type Symbols struct {
	file  string
	funcs []elf.Symbol // of code, in the order of their addresses
}

// ReadSymbols reads the symbols of an ELF file for ARM: a Go image or any other. It
// fails when the file was stripped.
func ReadSymbols(file string) (*Symbols, error) {
	f, err := elf.Open(file)
	if err != nil {
		return nil, fmt.Errorf("insncount: %w", err)
	}
	defer f.Close()
	all, err := f.Symbols()
	if err != nil {
		if errors.Is(err, elf.ErrNoSymbols) {
			err = errors.New("it has no symbols: link it without -s")
		}
		return nil, fmt.Errorf("insncount: %s: %w", file, err)
	}
	s := &Symbols{file: file}
	for _, y := range all {
		if isCode(f, y) {
			s.funcs = append(s.funcs, y)
		}
	}
	// Of symbols at one address the one with the greatest size comes last, and is
	// found: beside functions there are marks such as runtime.text.
	slices.SortStableFunc(s.funcs, func(a, b elf.Symbol) int {
		return cmp.Or(cmp.Compare(a.Value, b.Value), cmp.Compare(a.Size, b.Size))
	})
	return s, nil
}

// isCode tells whether a symbol stands for code. Assembly need not say that its
// symbols are functions; "$a", "$t" and "$d" tell ARM, Thumb and data apart.
func isCode(f *elf.File, y elf.Symbol) bool {
	if strings.HasPrefix(y.Name, "$") || int(y.Section) >= len(f.Sections) {
		return false
	}
	kind := elf.ST_TYPE(y.Info)
	return (kind == elf.STT_FUNC || kind == elf.STT_NOTYPE) && f.Sections[y.Section].Flags&elf.SHF_EXECINSTR != 0
}

// Name gives the name of the function that the instruction at pc belongs to. A
// symbol without a size goes up to the next one. Where there is none, the name is
// the page, as "[0x12345000]".
func (s *Symbols) Name(pc uint32) string {
	i, found := slices.BinarySearchFunc(s.funcs, uint64(pc), func(y elf.Symbol, pc uint64) int {
		return cmp.Compare(y.Value, pc)
	})
	if !found {
		i--
	}
	for i >= 0 && i+1 < len(s.funcs) && s.funcs[i+1].Value <= uint64(pc) {
		i++
	}
	if i < 0 || s.funcs[i].Size > 0 && uint64(pc) >= s.funcs[i].Value+s.funcs[i].Size {
		return fmt.Sprintf("[%#08x]", pc&^0xfff)
	}
	return s.funcs[i].Name
}

// Address gives the address of the first instruction of the function with this name.
func (s *Symbols) Address(name string) (uint32, error) {
	for _, y := range s.funcs {
		if y.Name == name {
			return uint32(y.Value) &^ 1, nil // bit 0 marks Thumb code
		}
	}
	return 0, fmt.Errorf("insncount: %s: no function %s", s.file, name)
}

// packageOf gives the package of a symbol as Go's linker spells it: what stands
// before the first dot after the path's last slash, type arguments apart. A symbol
// without a package stands for itself.
func packageOf(name string) string {
	head, _, _ := strings.Cut(name, "[")
	if strings.HasPrefix(name, "[") {
		return name
	}
	slash := strings.LastIndexByte(head, '/') + 1
	element, _, _ := strings.Cut(head[slash:], ".")
	return strings.ReplaceAll(head[:slash]+element, "%2e", ".")
}
