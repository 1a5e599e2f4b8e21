// Package releasetest makes what tests need of a release: programs of a few bytes, as a
// linker writes them, and development keys that are made once.
package releasetest

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"sync"

	"nitro/boot/image"
	"nitro/boot/release"
)

// Product and Built are those of [Options].
const (
	Product = "imx6ul-evk"
	Built   = 1767225600
)

// A Segment is one of a program.
type Segment struct {
	Addr uint32
	Data []byte
}

// ELF makes a file as the linker writes it, for 32-bit little endian ARM.
func ELF(entry uint32, segments ...Segment) []byte {
	h := elf.Header32{Type: uint16(elf.ET_EXEC), Machine: uint16(elf.EM_ARM), Version: 1, Entry: entry,
		Phoff: headerSize, Ehsize: headerSize, Phentsize: progSize, Phnum: uint16(len(segments)), Shentsize: 40}
	copy(h.Ident[:], elf.ELFMAG)
	h.Ident[elf.EI_CLASS], h.Ident[elf.EI_DATA], h.Ident[elf.EI_VERSION] = byte(elf.ELFCLASS32), byte(elf.ELFDATA2LSB), 1
	var b bytes.Buffer
	write := func(v any) {
		if err := binary.Write(&b, binary.LittleEndian, v); err != nil {
			panic(err) // the types have a fixed size
		}
	}
	write(h)
	at := uint32(headerSize + progSize*len(segments))
	for _, s := range segments {
		write(elf.Prog32{Type: uint32(elf.PT_LOAD), Off: at, Vaddr: s.Addr, Paddr: s.Addr, Filesz: uint32(len(s.Data)), Memsz: uint32(len(s.Data)) + 64, Flags: 5, Align: 4})
		at += uint32(len(s.Data))
	}
	for _, s := range segments {
		b.Write(s.Data)
	}
	return b.Bytes()
}

// Sizes of an ELF file's header and program header, in bytes (ELF specification 1.2).
const (
	headerSize = 52
	progSize   = 32
)

// Program makes the ELF file of a program for a component, of two segments with a gap,
// that holds a text.
func Program(c image.Component, text string) []byte {
	load := c.Load()
	return ELF(load+0x10, Segment{load, append(make([]byte, 0x100), text...)}, Segment{load + 0x1000, bytes.Repeat([]byte(text), 300)})
}

// Payload is that of [Program].
func Payload(c image.Component, text string) release.Payload {
	p, err := release.ParsePayload(bytes.NewReader(Program(c, text)))
	if err != nil {
		panic(err) // Program makes what ParsePayload takes
	}
	return p
}

// Keys are development keys, the same ones in one run.
var Keys = sync.OnceValue(func() *release.Keys {
	k, err := release.DevelopmentKeys()
	if err != nil {
		panic(err) // there is no input that could be wrong
	}
	return k
})

// Options are those of a small release.
func Options(version string, securityVersion uint32) release.Options {
	return release.Options{Product: Product, Version: version, SecurityVersion: securityVersion, Built: Built,
		Bootloader: Payload(image.Bootloader, "bootloader "+version), Controller: Payload(image.Controller, "controller "+version)}
}
