// Package kernelcheck holds the kernel's machine code to what its design promises
// (board/kernel): it decodes a linked image and walks every instruction that can
// run in the kernel, from the entry symbol and the exception vectors on.
//
// Instructions are decoded as the ARM Architecture Reference Manual, ARMv7-A (DDI
// 0406C) has them, as far as control flow, constants and floating point are
// concerned; A5.1 and A7 there. Go's code and the kernel's assembly are ARM state
// only.
package kernelcheck

import (
	"context"
	"debug/elf"
	"debug/gosym"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"sort"
	"strings"
	"time"

	"nitro/internal/metal"
)

// buildLimit bounds a build of an image.
const buildLimit = 5 * time.Minute

// Build links the program at path, relative to the module's root, as the Makefile
// links images. Tags are build tags; bootloader among them links it as that is.
func Build(root, path, tags, out string) error {
	ctx, cancel := context.WithTimeout(context.Background(), buildLimit)
	defer cancel()
	link := metal.LinkFlags
	if slices.Contains(strings.Split(tags, ","), "bootloader") {
		link = metal.BootloaderLinkFlags
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-tags", tags, "-ldflags", link, "-o", out, "./"+path)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "GOOS=linux", "GOARCH=arm", "GOARM=7", "CGO_ENABLED=0")
	if said, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("kernelcheck: building %s: %w\n%s", path, err, said)
	}
	return nil
}

// An Image is a linked program.
type Image struct {
	text    section
	code    []section // what is loaded and not writable
	data    []span    // what is writable, BSS included
	symbols []Symbol  // by address
	byName  map[string]Symbol
	lines   *gosym.Table
}

// A Symbol is a function or a variable.
type Symbol struct {
	Name       string
	Start, End uint32
}

type section struct {
	start uint32
	bytes []byte
}

type span struct {
	name       string
	start, end uint32
}

// Open reads an image.
func Open(path string) (*Image, error) {
	f, err := elf.Open(path)
	if err != nil {
		return nil, fmt.Errorf("kernelcheck: %w", err)
	}
	defer f.Close()
	m := &Image{byName: map[string]Symbol{}}
	for _, s := range f.Sections {
		if err := m.addSection(s); err != nil {
			return nil, fmt.Errorf("kernelcheck: %s: %w", s.Name, err)
		}
	}
	symbols, err := f.Symbols()
	if err != nil {
		return nil, fmt.Errorf("kernelcheck: %w", err)
	}
	for _, s := range symbols {
		if t := elf.ST_TYPE(s.Info); t != elf.STT_FUNC && t != elf.STT_OBJECT {
			continue
		}
		sym := Symbol{s.Name, uint32(s.Value), uint32(s.Value + s.Size)}
		m.symbols = append(m.symbols, sym)
		m.byName[s.Name] = sym
	}
	sort.SliceStable(m.symbols, func(i, j int) bool { return m.symbols[i].Start < m.symbols[j].Start })
	return m, m.readLines(f)
}

func (m *Image) addSection(s *elf.Section) error {
	if s.Flags&elf.SHF_ALLOC == 0 {
		return nil
	}
	if s.Flags&elf.SHF_WRITE != 0 {
		m.data = append(m.data, span{s.Name, uint32(s.Addr), uint32(s.Addr + s.Size)})
		return nil
	}
	b, err := s.Data()
	if err != nil {
		return err
	}
	m.code = append(m.code, section{uint32(s.Addr), b})
	if s.Name == ".text" {
		m.text = m.code[len(m.code)-1]
	}
	return nil
}

func (m *Image) readLines(f *elf.File) error {
	s := f.Section(".gopclntab")
	if s == nil {
		return fmt.Errorf("kernelcheck: no line table")
	}
	b, err := s.Data()
	if err != nil {
		return fmt.Errorf("kernelcheck: %w", err)
	}
	m.lines, err = gosym.NewTable(nil, gosym.NewLineTable(b, uint64(m.text.start)))
	return err
}

// at returns the symbol that holds an address.
func (m *Image) at(addr uint32) (Symbol, bool) {
	i := sort.Search(len(m.symbols), func(i int) bool { return m.symbols[i].Start > addr })
	for i--; i >= 0; i-- {
		if s := m.symbols[i]; addr < s.End {
			return s, true
		} else if s.Start < addr && s.End > s.Start {
			break
		}
	}
	return Symbol{}, false
}

// word reads from what is loaded and not writable.
func (m *Image) word(addr uint32) (uint32, bool) {
	for _, s := range m.code {
		if addr >= s.start && uint64(addr)+4 <= uint64(s.start)+uint64(len(s.bytes)) {
			return binary.LittleEndian.Uint32(s.bytes[addr-s.start:]), true
		}
	}
	return 0, false
}

// writable names the section of variables that holds an address.
func (m *Image) writable(addr uint32) (string, bool) {
	for _, s := range m.data {
		if addr >= s.start && addr < s.end {
			return s.name, true
		}
	}
	return "", false
}

// HasWord reports whether a word, aligned as an instruction, lies in the text.
func (m *Image) HasWord(w uint32) bool {
	for i := 0; i+4 <= len(m.text.bytes); i += 4 {
		if binary.LittleEndian.Uint32(m.text.bytes[i:]) == w {
			return true
		}
	}
	return false
}

// Lookup finds a symbol by its name.
func (m *Image) Lookup(name string) (Symbol, bool) {
	s, ok := m.byName[name]
	return s, ok
}
