package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"nitro/qemu-test/rack"
)

// occurrences counts how often a pattern is in what a reader gives.
func occurrences(r io.Reader, pattern []byte) (n int, err error) {
	const piece = 1 << 20
	b := make([]byte, 0, piece+len(pattern))
	for {
		k, err := io.ReadFull(r, b[len(b):len(b)+piece])
		b = b[:len(b)+k]
		n += bytes.Count(b, pattern)
		if err != nil {
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				return n, nil
			}
			return n, err
		}
		// What may begin here and end in the next piece; less than a pattern, so that nothing counts twice.
		b = b[:copy(b[:cap(b)], b[len(b)-(len(pattern)-1):])]
	}
}

// noPlaintext sees that a card has changed in at least so many bytes since an earlier copy of it, and
// holds the pattern nowhere. That the search finds it where it is, is tried on the changed
// sectors themselves, with one pattern among them across a sector's border.
func noPlaintext(before, card string, pattern []byte, least int64) (string, error) {
	runs, err := rack.CompareCards(before, card)
	if err != nil {
		return "", err
	}
	f, err := os.Open(card)
	if err != nil {
		return "", err
	}
	defer f.Close()
	var changed []byte
	for _, r := range runs {
		b := make([]byte, r.Count*rack.SectorSize)
		if _, err := f.ReadAt(b, r.First*rack.SectorSize); err != nil {
			return "", err
		}
		changed = append(changed, b...)
	}
	if int64(len(changed)) < least {
		return "", fmt.Errorf("only %d bytes of the card have changed; the host has written %d", len(changed), least)
	}
	n, err := occurrences(f, pattern)
	if err != nil {
		return "", err
	}
	if n != 0 {
		return "", fmt.Errorf("the card holds the plaintext %d times", n)
	}
	copy(changed[len(changed)/2/rack.SectorSize*rack.SectorSize-len(pattern)/2:], pattern)
	if n, err = occurrences(bytes.NewReader(changed), pattern); err != nil || n != 1 {
		return "", fmt.Errorf("the search is blind: it found one pattern %d times, %v", n, err)
	}
	return fmt.Sprintf("%.1f MiB of the card changed, the pattern is nowhere; planted into them it is found", float64(len(changed))/(1<<20)), nil
}
