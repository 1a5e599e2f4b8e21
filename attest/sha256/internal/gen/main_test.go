package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestCurrent holds that the generated files in the tree are what the generator
// makes.
func TestCurrent(t *testing.T) {
	files, err := generate()
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

// TestConstants compares roots of the first and the last prime with FIPS 180-4, 4.2.2
// and 5.3.3.
func TestConstants(t *testing.T) {
	first, last := primes(64)[0], primes(64)[63]
	if last != 311 {
		t.Errorf("the 64th prime is %d, not 311", last)
	}
	for _, c := range []struct {
		p      int64
		degree int
		want   uint32
	}{{first, 2, 0x6a09e667}, {primes(8)[7], 2, 0x5be0cd19}, {first, 3, 0x428a2f98}, {last, 3, 0xc67178f2}} {
		if got := fraction(c.p, c.degree); got != c.want {
			t.Errorf("root %d of %d: %#08x, want %#08x", c.degree, c.p, got, c.want)
		}
	}
}

// TestLate makes the schedule slower than the rounds that need it, and faster than its
// sums are stored: both must be noticed.
func TestLate(t *testing.T) {
	for _, spread := range []int{58, 8} {
		k := &kernel{}
		k.prologue()
		k.input()
		k.prepare(spread)
		k.rounds()
		if err := k.Err(); err == nil || !strings.Contains(err.Error(), "stored") {
			t.Errorf("a schedule over %d rounds: error %v", spread, err)
		}
	}
}
