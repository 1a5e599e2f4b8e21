package release

import (
	"bytes"
	"debug/elf"
	"fmt"
	"io"
	"os"

	"nitro/boot/image"
)

// A Payload is the memory image of a program, from its first page on: ELF headers, text,
// constants and initialised data without gaps, as the boot chain loads it
// (docs/medium.md, "Image"). What the program wants zeroed is not in it.
type Payload struct {
	Load, Entry uint32 // physical addresses
	Bytes       []byte
}

// maxPayload is the longest payload of any code, in bytes. Which component an ELF file is
// for it does not say; [image.Sign] applies the component's own limit.
var maxPayload = int64(image.Controller.MaxLength())

// ReadPayload takes the payload out of an image's ELF file.
func ReadPayload(file string) (Payload, error) {
	f, err := os.Open(file)
	if err != nil {
		return Payload{}, fmt.Errorf("release: %w", err)
	}
	defer f.Close()
	p, err := ParsePayload(f)
	if err != nil {
		return Payload{}, fmt.Errorf("release: %s: %w", file, err)
	}
	return p, nil
}

// ParsePayload takes the payload out of an ELF file for the board: 32 bits, little endian,
// ARM, of segments that rise (ELF specification 1.2, 2-3).
func ParsePayload(r io.ReaderAt) (Payload, error) {
	f, err := elf.NewFile(r)
	if err != nil {
		return Payload{}, fmt.Errorf("no ELF file (%w): give what the linker wrote, such as build/controller.elf", err)
	}
	defer f.Close()
	if f.Class != elf.ELFCLASS32 || f.Data != elf.ELFDATA2LSB || f.Machine != elf.EM_ARM {
		return Payload{}, fmt.Errorf("an ELF file for %v, %v, %v: the board runs 32-bit little endian ARM: build with GOOS=linux GOARCH=arm", f.Machine, f.Class, f.Data)
	}
	p := Payload{Entry: uint32(f.Entry)}
	var b bytes.Buffer
	for _, s := range f.Progs {
		if s.Type != elf.PT_LOAD {
			continue
		}
		if b.Len() == 0 {
			p.Load = uint32(s.Vaddr)
		}
		if err := p.append(&b, s); err != nil {
			return Payload{}, err
		}
	}
	if b.Len() == 0 {
		return Payload{}, fmt.Errorf("an ELF file without a segment to load: give a linked program")
	}
	p.Bytes = b.Bytes()
	return p, nil
}

// append adds a segment, behind the gap before it. Both are bounded before anything is
// read or made.
func (p *Payload) append(b *bytes.Buffer, s *elf.Prog) error {
	end := int64(p.Load) + int64(b.Len())
	gap := int64(s.Vaddr) - end
	if gap < 0 || s.Filesz > uint64(maxPayload) || gap+int64(b.Len())+int64(s.Filesz) > maxPayload {
		return fmt.Errorf("a segment of %#x bytes at %#x, in a payload from %#x on that has %#x: segments must rise, and %#x bytes hold all",
			s.Filesz, s.Vaddr, p.Load, b.Len(), maxPayload)
	}
	b.Write(make([]byte, gap))
	n, err := b.ReadFrom(io.NewSectionReader(s, 0, int64(s.Filesz)))
	if err == nil && n != int64(s.Filesz) {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return fmt.Errorf("segment at %#x: %d of %d bytes: %w", s.Vaddr, n, s.Filesz, err)
	}
	return nil
}
