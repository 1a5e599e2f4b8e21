//go:build !arm

package rack

import (
	"bytes"
	"crypto/sha256"
	"slices"
	"testing"
)

// TestDump: a dump finds what the image has left in RAM, and not what it has not.
func TestDump(t *testing.T) {
	r := start(t, Config{Image: build(t, "tpm"), NoTPM: true})
	r.expect(t, `tpm: none: .*`)
	d, err := r.Dump()
	must(t, err)
	secret, none := sha256.Sum256([]byte("left in RAM")), sha256.Sum256([]byte("not left in RAM"))
	hits := d.Find(secret[:])
	if len(hits) == 0 {
		t.Error("the secret is not found")
	}
	if hits := d.Find(none[:]); len(hits) != 0 {
		t.Errorf("what was never there is found at %v", hits)
	}

	// What is changed from outside shows in the next dump, and nothing else does, as the
	// board stands still.
	must(t, r.QMP.Stop())
	before, err := r.Dump()
	must(t, err)
	const addr = 0x9e000004
	_, err = r.ram.WriteAt([]byte("changed"), addr-ramBase)
	must(t, err)
	after, err := r.Dump()
	must(t, err)
	if got, want := after.Changed(before), []uint32{addr &^ (PageSize - 1)}; !slices.Equal(got, want) {
		t.Errorf("changed pages: %#x, want %#x", got, want)
	}
	if got := before.Changed(after); len(got) != 1 {
		t.Errorf("changed pages the other way round: %#x", got)
	}
	if got := after.Find([]byte("changed")); !slices.Contains(got, Hit{RAM, addr}) {
		t.Errorf("found %v", got)
	}
	must(t, r.QMP.Continue())
}

// TestFindRegisters: a needle in the vector registers is found.
func TestFindRegisters(t *testing.T) {
	d := &Dump{parts: []part{{RAM, ramBase, make([]byte, PageSize)}, {OCRAM, ocramBase, []byte("xxxxneedle")}, {Registers, 0, []byte("needle, needle")}}}
	want := []Hit{{OCRAM, ocramBase + 4}, {Registers, 0}, {Registers, 8}}
	if got := d.Find([]byte("needle")); !slices.Equal(got, want) {
		t.Errorf("found %v, want %v", got, want)
	}
	if got := d.Find(nil); got != nil {
		t.Errorf("nothing is found at %v", got)
	}
}

// TestRegisters: the registers of a board before its first instruction.
func TestRegisters(t *testing.T) {
	r := start(t, Config{Image: build(t, "hello"), NoTPM: true, Hold: true})
	values, text, err := r.QMP.Registers()
	must(t, err)
	if len(values) != 17*4+32*8 || !bytes.Equal(values[16*4:17*4], []byte{0xd3, 1, 0, 0x40}) {
		t.Errorf("%d bytes, PSR % x, of\n%s", len(values), values[64:68], text)
	}
}
