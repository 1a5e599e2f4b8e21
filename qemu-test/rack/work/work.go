// Package work is what the rack's x86 host writes to a volume, so that who looks at the
// medium knows what must not be there, and what the host says is compared with what it
// should say.
package work

import (
	"bytes"
	"crypto/sha256"
	"fmt"
)

// Prefix begins each line that the host says of its steps.
const Prefix = "host: "

// What is written.
const (
	Files = 4
	Size  = 256 << 10 // bytes of a file
)

// Pattern is in all that is written to a volume, over and over.
func Pattern(volume string) []byte { return []byte("what volume " + volume + " keeps secret, ") }

// Name names a file.
func Name(n int) string { return fmt.Sprintf("letter-%d", n) }

// Content is that of a file.
func Content(volume string, n int) []byte {
	line := append(Pattern(volume), fmt.Sprintf("file %d\n", n)...)
	return bytes.Repeat(line, Size/len(line)+1)[:Size]
}

// Sum is a digest of files.
func Sum(files [][]byte) [sha256.Size]byte {
	h := sha256.New()
	for _, f := range files {
		h.Write(f)
	}
	return [sha256.Size]byte(h.Sum(nil))
}

// Expected is the digest of the files that belong on a volume.
func Expected(volume string) [sha256.Size]byte {
	var all [][]byte
	for n := range Files {
		all = append(all, Content(volume, n))
	}
	return Sum(all)
}
