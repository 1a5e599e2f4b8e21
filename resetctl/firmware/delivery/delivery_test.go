package delivery

import (
	"bytes"
	_ "embed"
	"io"
	"testing"

	"nitro/boot/medium"
	"nitro/boot/medium/mediumtest"
	"nitro/internal/corpus"
)

// What the fuzzer found: see package corpus.
//
//go:embed testdata/deliveries.hex
var kept string

func card() *mediumtest.Card { return mediumtest.New((medium.PoolOffset + 1<<20) / sector) }

// TestDelivery: what was written is read, in order, until it is cleared or replaced.
func TestDelivery(t *testing.T) {
	d := card()
	if got, err := Read(d); got != nil || err != nil {
		t.Errorf("a new card delivers %v, %v", got, err)
	}
	long, short := bytes.Repeat([]byte("package "), 5000), []byte("x")
	for _, packages := range [][][]byte{{long, short}, {short}, {short, long, short, long}} {
		if err := Write(d, packages...); err != nil {
			t.Fatal(err)
		}
		got, err := Read(d)
		if err != nil || len(got) != len(packages) {
			t.Fatalf("%d packages, %v", len(got), err)
		}
		for i, r := range got {
			if b, err := io.ReadAll(r); err != nil || !bytes.Equal(b, packages[i]) {
				t.Errorf("package %d: %d bytes, %v", i, len(b), err)
			}
		}
	}
	if err := Clear(d); err != nil {
		t.Fatal(err)
	}
	if got, err := Read(d); got != nil || err != nil {
		t.Errorf("a cleared delivery has %d packages, %v", len(got), err)
	}
}

// TestNoDelivery: lengths and numbers that cannot be are refused.
func TestNoDelivery(t *testing.T) {
	if Write(card()) == nil || Write(card(), []byte{}) == nil || Write(card(), make([]byte, 1<<20)) == nil {
		t.Error("something that is no delivery was written")
	}
	for name, change := range map[string]func(b []byte){
		"none": func(b []byte) { b[8] = 0 }, "many": func(b []byte) { b[8] = 5 }, "very many": func(b []byte) { b[15] = 1 },
		"empty": func(b []byte) { b[16] = 0 }, "long": func(b []byte) { b[18] = 0x10 }, "endless": func(b []byte) { b[23] = 0xff },
	} {
		d := card()
		if err := Write(d, []byte("x")); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, sector)
		p := medium.Place{Offset: medium.PoolOffset, Size: sector}
		if err := medium.ReadPlace(d, p, b); err != nil {
			t.Fatal(err)
		}
		change(b)
		if err := medium.WritePlace(d, p, b); err != nil {
			t.Fatal(err)
		}
		if got, err := Read(d); err == nil {
			t.Errorf("%s: %d packages", name, len(got))
		}
	}
}

// FuzzRead: whatever a delivery's first sector says, its packages lie within the pool.
func FuzzRead(f *testing.F) {
	table := le.AppendUint64([]byte(magic), 2)
	f.Add(le.AppendUint64(le.AppendUint64(table, 5000), 1))
	corpus.Add(f, kept)
	f.Fuzz(func(t *testing.T, b []byte) {
		d := card()
		if err := d.WriteBlocks(medium.PoolOffset/sector, append(b, make([]byte, sector)...)[:sector]); err != nil {
			t.Fatal(err)
		}
		packages, err := Read(d)
		if err != nil && packages != nil || len(packages) > Max {
			t.Fatalf("%d packages, %v", len(packages), err)
		}
		total := int64(0)
		for _, p := range packages {
			n, err := io.Copy(io.Discard, p)
			if total += n; err != nil || n < 1 || total > 1<<20 {
				t.Fatalf("%d bytes in all, %v", total, err)
			}
		}
	})
}
