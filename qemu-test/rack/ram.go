package rack

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
)

// The board's memories.
const (
	ramBase   = 0x80000000
	ramSize   = 512 << 20
	ocramBase = 0x00900000
	ocramSize = 128 << 10 // IMX6ULLRM 2.1
)

// PageSize is the unit in which dumps are compared.
const PageSize = 4096

// newRAM makes the file that is the board's RAM: in memory, and without a name, so that
// it is gone with those who have it open.
func newRAM() (*os.File, error) {
	dir := "/dev/shm"
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		dir = "" // the temporary folder does, and is slower
	}
	f, err := os.CreateTemp(dir, "nitro-ram-")
	if err != nil {
		return nil, fmt.Errorf("ram: %w", err)
	}
	if err := errors.Join(os.Remove(f.Name()), f.Truncate(ramSize)); err != nil {
		f.Close()
		return nil, fmt.Errorf("ram: %w", err)
	}
	return f, nil
}

// A Space is one of the places in which a dump finds things.
type Space string

// The spaces of a dump.
const (
	RAM       Space = "ram"
	OCRAM     Space = "ocram"
	Registers Space = "registers" // R0 to R15, PSR, D0 to D31, as emulator.QMP.Registers gives them
)

// A part is memory that a dump holds.
type part struct {
	space Space
	addr  uint32
	data  []byte
}

// A Dump is what the board's RAM, OCRAM and registers held at one moment. RAM that
// nobody has ever written is zero, and takes no room.
type Dump struct {
	parts []part // in order of addresses within a space
	Text  string // the registers, to read
}

// A Hit is where something was found. Addr is physical; in registers, the offset.
type Hit struct {
	Space Space
	Addr  uint32
}

func (h Hit) String() string { return fmt.Sprintf("%s %#08x", h.Space, h.Addr) }

// Dump takes a dump. A board that runs stands still meanwhile.
func (r *Rack) Dump() (*Dump, error) {
	running, _, err := r.QMP.Running()
	if err != nil {
		return nil, err
	}
	if running {
		if err := r.QMP.Stop(); err != nil {
			return nil, err
		}
	}
	d, err := r.dump()
	if running {
		err = errors.Join(err, r.QMP.Continue())
	}
	if err != nil {
		return nil, fmt.Errorf("rack: dump: %w", err)
	}
	return d, nil
}

func (r *Rack) dump() (*Dump, error) {
	d := &Dump{}
	err := eachData(r.ram, func(offset, length int64) error {
		p := make([]byte, length)
		_, err := r.ram.ReadAt(p, offset)
		d.parts = append(d.parts, part{RAM, ramBase + uint32(offset), p})
		return err
	})
	if err != nil {
		return nil, err
	}
	file := r.folder.Join("ocram")
	if err := r.QMP.SaveMemory(ocramBase, ocramSize, file); err != nil {
		return nil, err
	}
	ocram, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	values, text, err := r.QMP.Registers()
	if err != nil {
		return nil, err
	}
	d.Text = text
	d.parts = append(d.parts, part{OCRAM, ocramBase, ocram}, part{Registers, 0, values})
	return d, nil
}

// Find gives all places that hold the needle's bytes. A needle of zeros alone is not
// looked for in memory that was never written.
func (d *Dump) Find(needle []byte) (hits []Hit) {
	if len(needle) == 0 {
		return nil
	}
	for _, p := range d.parts {
		for at := 0; ; at++ {
			i := bytes.Index(p.data[at:], needle)
			if i < 0 {
				break
			}
			at += i
			hits = append(hits, Hit{p.space, p.addr + uint32(at)})
		}
	}
	return hits
}

// page gives a page of RAM, nil for one that was never written.
func (d *Dump) page(addr uint32) []byte {
	for _, p := range d.parts {
		if p.space == RAM && addr >= p.addr && addr-p.addr < uint32(len(p.data)) {
			return p.data[addr-p.addr:][:PageSize]
		}
	}
	return nil
}

// Changed gives the addresses of all pages of RAM that are not as they were in an
// earlier dump.
func (d *Dump) Changed(since *Dump) (pages []uint32) {
	for _, dump := range []*Dump{d, since} {
		for _, p := range dump.parts {
			for i := 0; p.space == RAM && i < len(p.data); i += PageSize {
				addr := p.addr + uint32(i)
				if !same(d.page(addr), since.page(addr)) {
					pages = append(pages, addr)
				}
			}
		}
	}
	slices.Sort(pages)
	return slices.Compact(pages)
}

var zeroPage [PageSize]byte

// same compares two pages, of which nil is zero.
func same(a, b []byte) bool {
	if a == nil {
		a = zeroPage[:]
	}
	if b == nil {
		b = zeroPage[:]
	}
	return bytes.Equal(a, b)
}

// Each gives all memory that the dump holds, run by run.
func (d *Dump) Each(f func(at Hit, memory []byte)) {
	for _, p := range d.parts {
		f(Hit{p.space, p.addr}, p.data)
	}
}
