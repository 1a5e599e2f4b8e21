package main

import (
	"strings"
	"testing"
)

// TestLines: lines come whole, behind the prefix, however they are cut, and nothing that
// moves a terminal's cursor comes through.
func TestLines(t *testing.T) {
	const said = "\x1b[2J\x1b[01;01HBdsDxe: loading\r\n\r\n\x1b[1m\x1b[33mShell> \x1b[0mls\a\r\nhalf"
	const want = "host: BdsDxe: loading\nhost: Shell> ls\n"
	for n := 1; n <= len(said); n++ {
		var out strings.Builder
		l := &lines{to: &out, prefix: "host: "}
		for rest := said; rest != ""; {
			piece := rest[:min(n, len(rest))]
			if k, err := l.Write([]byte(piece)); k != len(piece) || err != nil {
				t.Fatal(k, err)
			}
			rest = rest[len(piece):]
		}
		if out.String() != want {
			t.Fatalf("in pieces of %d: %q", n, out.String())
		}
	}
	var out strings.Builder
	l := &lines{to: &out}
	l.Write([]byte(strings.Repeat("x", 3*maxLine)))
	if n := strings.Count(out.String(), "\n"); n != 3 {
		t.Errorf("a line without an end makes %d lines", n)
	}
}
