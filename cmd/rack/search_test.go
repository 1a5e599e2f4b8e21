package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"nitro/qemu-test/rack"
)

// TestSearch: a text is found wherever it lies, across the pieces too, and nothing else is.
func TestSearch(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	text := []byte("secret")
	for _, at := range []int64{0, 1, 1<<20 - 5, 1<<20 - 1, 1 << 20, 3<<20 - 6, -1} {
		b := bytes.Repeat([]byte("secre"), 3<<20/5+1)[:3<<20]
		if at >= 0 {
			copy(b[at:], text)
		}
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := search(file, [][]byte{[]byte("another"), text}); err != nil || got != at {
			t.Errorf("at %d: found at %d, %v", at, got, err)
		}
	}
	if _, err := search(file, [][]byte{nil}); err == nil {
		t.Error("nothing is found")
	}
}

// TestPlant: what is planted on a copy is there, and the card stays as it was.
func TestPlant(t *testing.T) {
	folder := t.TempDir()
	card, planted := filepath.Join(folder, "card"), filepath.Join(folder, "planted")
	if err := rack.NewCard(card, cardSize); err != nil {
		t.Fatal(err)
	}
	text := []byte("planted")
	for range 2 { // over an old copy as well
		if err := plant(planted, card, text); err != nil {
			t.Fatal(err)
		}
	}
	for file, want := range map[string]bool{card: false, planted: true} {
		if at, err := search(file, [][]byte{text}); err != nil || at >= 0 != want {
			t.Errorf("%s: found at %d, %v", file, at, err)
		}
	}
}
