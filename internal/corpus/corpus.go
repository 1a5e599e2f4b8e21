// Package corpus hands the inputs that a fuzzer once found interesting to a fuzz test.
// They are kept one a line, in hexadecimal, in a file that the test embeds, and not where
// go test looks for them by itself: the emulated board cannot list a folder.
package corpus

import (
	"encoding/hex"
	"strings"
	"testing"
)

// Add adds each line of a file.
func Add(f *testing.F, lines string) {
	f.Helper()
	for line := range strings.Lines(lines) {
		b, err := hex.DecodeString(strings.TrimSpace(line))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
}
