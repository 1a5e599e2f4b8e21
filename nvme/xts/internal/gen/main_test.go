package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestCurrent holds that the generated files in the tree are what the
// generator makes.
func TestCurrent(t *testing.T) {
	files, err := generate(forwardText, inverseText)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range files {
		got, err := os.ReadFile(filepath.Join("..", "..", name))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s is not what go generate makes", name)
		}
	}
}

// TestWrongCircuit changes each gate of the forward circuit that has a twin of
// the same form, and expects the generator to notice.
func TestWrongCircuit(t *testing.T) {
	lines := strings.Split(strings.TrimSpace(forwardText), "\n")
	tried := 0
	for i, l := range lines {
		wrong := strings.Replace(l, " ^ ", " | ", 1)
		if wrong == l || strings.HasPrefix(l, "again") {
			continue
		}
		tried++
		text := append([]string(nil), lines...)
		text[i] = wrong
		if _, err := generate(strings.Join(text, "\n"), inverseText); err == nil {
			t.Errorf("line %d, %q in place of %q, was taken", i+1, wrong, l)
		}
	}
	if tried < 50 {
		t.Errorf("only %d gates were changed", tried)
	}
}
