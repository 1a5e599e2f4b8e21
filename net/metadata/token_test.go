package metadata

import (
	"testing"
	"time"
)

// TestToken: a token is good until its end and in its cycle alone, and no bit of it may
// change.
func TestToken(t *testing.T) {
	var all tokens
	start := time.Now()
	all.init(start)
	text := all.give(start, time.Minute, 7)
	for _, c := range []struct {
		at    time.Duration
		cycle uint64
		want  bool
	}{{0, 7, true}, {time.Minute - 1, 7, true}, {time.Minute, 7, false}, {0, 6, false}, {0, 0, false}} {
		if got := all.good(start.Add(c.at), text, c.cycle); got != c.want {
			t.Errorf("after %v in cycle %d: %v", c.at, c.cycle, got)
		}
	}
	for i := range text {
		b := []byte(text)
		if b[i] ^= 2; all.good(start, string(b), 7) {
			t.Errorf("character %d may change", i)
		}
	}
}

// FuzzToken: nothing but what was given is a token.
func FuzzToken(f *testing.F) {
	var all tokens
	start := time.Now()
	all.init(start)
	given := all.give(start, time.Minute, 7)
	for _, s := range []string{"", given, given[:63], given + "A", given[:60] + "====", "\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if all.good(start, s, 7) != (s == given) {
			t.Errorf("%q", s)
		}
	})
}
