package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"nitro/qemu-test/rack"
)

// TestOccurrences: a pattern is counted once wherever it lies, across pieces too, and what
// only begins like it is not.
func TestOccurrences(t *testing.T) {
	const piece = 1 << 20
	pattern := []byte("secret")
	for _, at := range [][]int{nil, {0}, {1}, {piece - 5}, {piece - 1}, {piece}, {2*piece - 3, 2*piece + 3}, {3*piece - 6}} {
		b := bytes.Repeat([]byte("secre"), 3*piece/5+1)[:3*piece]
		for _, i := range at {
			copy(b[i:], pattern)
		}
		if n, err := occurrences(bytes.NewReader(b), pattern); err != nil || n != len(at) {
			t.Errorf("at %v: found %d times, %v", at, n, err)
		}
	}
}

// TestNoPlaintext: a card with the pattern is refused, and so is one that hardly changed: its
// silence would prove nothing.
func TestNoPlaintext(t *testing.T) {
	const size, written = 4 << 20, 1 << 20
	pattern := []byte("what nobody may read")
	noise := make([]byte, written)
	for i := range noise {
		noise[i] = byte(i*i>>8) | 1
	}
	for _, c := range []struct {
		name, want string // what the error says; "" wants none
		text       []byte
	}{
		{"ciphertext", "", noise},
		{"plaintext", "plaintext 1 times", append(append([]byte(nil), noise[:written-1000]...), pattern...)},
		{"too little", "have changed", noise[:written/2]},
	} {
		folder := t.TempDir()
		before, card := filepath.Join(folder, "before"), filepath.Join(folder, "card")
		for _, file := range []string{before, card} {
			if err := rack.NewCard(file, size); err != nil {
				t.Fatal(err)
			}
		}
		f, err := os.OpenFile(card, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err = f.WriteAt(c.text, 2<<20); err != nil {
			t.Fatal(err)
		}
		f.Close()
		_, err = noPlaintext(before, card, pattern, written-1000)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}
