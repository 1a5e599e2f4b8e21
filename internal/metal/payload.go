package metal

import (
	"bytes"
	"debug/elf"
	"fmt"
)

// A Payload is the memory image of a program, from its first page on: ELF headers, text,
// constants and initialised data without gaps, as the boot chain loads it
// (docs/medium.md, Image). What the program wants zeroed is not in it.
type Payload struct {
	Load, Entry uint32
	Bytes       []byte
}

// maxPayload is what the medium has room for.
const maxPayload = 31 << 20

// ReadPayload takes the payload out of an image's ELF file.
func ReadPayload(image string) (Payload, error) {
	f, err := elf.Open(image)
	if err != nil {
		return Payload{}, fmt.Errorf("metal: %s: %w", image, err)
	}
	defer f.Close()
	p := Payload{Entry: uint32(f.Entry)}
	var b bytes.Buffer
	for _, s := range f.Progs { // in rising order of addresses (ELF specification 1.2, 2-3)
		if s.Type != elf.PT_LOAD {
			continue
		}
		if b.Len() == 0 {
			p.Load = uint32(s.Vaddr)
		}
		gap := int64(s.Vaddr) - int64(p.Load) - int64(b.Len())
		if gap < 0 || gap+int64(b.Len())+int64(s.Filesz) > maxPayload {
			return Payload{}, fmt.Errorf("metal: %s: a segment of %#x bytes at %#x, in a payload from %#x on that has %#x: segments must rise, and %#x bytes hold all",
				image, s.Filesz, s.Vaddr, p.Load, b.Len(), maxPayload)
		}
		b.Write(make([]byte, gap))
		if _, err := b.ReadFrom(s.Open()); err != nil {
			return Payload{}, fmt.Errorf("metal: %s: %w", image, err)
		}
	}
	p.Bytes = b.Bytes()
	return p, nil
}
