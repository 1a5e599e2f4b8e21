package sha256

import (
	"crypto/sha256"
	"testing"
)

func TestX(t *testing.T) {
	b := make([]byte, 5000)
	for i := range b {
		b[i] = byte(i*7 + i>>8)
	}
	for n := range b {
		if Sum256(b[:n]) != sha256.Sum256(b[:n]) {
			t.Fatal(n)
		}
	}
}
