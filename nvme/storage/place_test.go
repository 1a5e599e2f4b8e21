package storage

import (
	"bytes"
	"testing"
)

// FuzzPlace: what is read is what is written again, and nothing else is read.
func FuzzPlace(f *testing.F) {
	whole := Place{Server: "west", Namespace: 5, Secret: "DHHC-1:01:...:", Opposite: "DHHC-1:02:...:"}.encode()
	f.Add(whole)
	f.Add(whole[:len(whole)-1])
	f.Add(append(whole, 0))
	f.Add(Place{}.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		p, texts, err := parsePlace(b)
		p.Secret, p.Opposite = string(texts[0]), string(texts[1])
		if err == nil && !bytes.Equal(p.encode(), b) {
			t.Errorf("%x is read as %+v", b, p)
		}
	})
}
