package medium

import (
	"bytes"
	"errors"
	"fmt"
)

// A Rank judges one copy of a [Pair], given from its beginning to the end of its place:
// an error where it is not valid, else what tells how new it is.
type Rank func(copy []byte) (rank uint64, err error)

// A Pair is a place that is kept in two copies.
//
// Why one whole copy is there whenever the power goes: [Pair.Write] writes the copy that
// counts less first. Until that write is durable the other copy, which counts, is not
// touched. From then on the new copy counts, as it ranks higher, and the second write
// destroys only what has been replaced. A torn copy does not pass Rank, which has to
// check a signature or a digest over all of it, so it counts less than any whole one and
// is the first to be written next time.
type Pair [Copies]Place

// Read gives the copy that counts, the valid one of the higher rank (of equal ones the
// first), and which one it is. The error, where none is valid, has what is wrong with
// each.
func (p Pair) Read(d Device, rank Rank) (content []byte, which int, err error) {
	found, err := p.best(d, rank)
	if err != nil {
		return nil, 0, err
	}
	return found.content, found.which, nil
}

// best is the copy that counts.
func (p Pair) best(d Device, rank Rank) (best copyOf, err error) {
	var problems []error
	for i, place := range p {
		c := copyOf{which: i, content: make([]byte, place.Size)}
		err := ReadPlace(d, place, c.content)
		if err == nil {
			c.rank, err = rank(c.content)
		}
		if err != nil {
			problems = append(problems, fmt.Errorf("copy %d: %w", i, err))
			continue
		}
		if best.content == nil || c.rank > best.rank {
			best = c
		}
	}
	if best.content == nil {
		return best, errors.Join(problems...)
	}
	return best, nil
}

// copyOf is a valid copy.
type copyOf struct {
	which   int
	rank    uint64
	content []byte
}

// Write writes both copies, filled up with zeros to their whole places: a sector that a
// torn write has left unreadable behind the content would spoil the copy for ever. It
// refuses content that is not valid or that would not count in the end: of a lower rank
// than what is there, or of the same rank and not the same. Writing what is there already
// again repairs the other copy.
func (p Pair) Write(d Device, content []byte, rank Rank) error {
	padded := make([]byte, p[0].Size)
	if copy(padded, content) != len(content) {
		return fmt.Errorf("medium: %d bytes for a place of %d", len(content), p[0].Size)
	}
	r, err := rank(padded)
	if err != nil {
		return fmt.Errorf("medium: not written: %w", err)
	}
	first := 0
	if best, err := p.best(d, rank); err == nil {
		same := bytes.Equal(best.content, padded)
		if r < best.rank || r == best.rank && !same {
			return fmt.Errorf("medium: not written: rank %d, and copy %d has %d", r, best.which, best.rank)
		}
		first = 1 - best.which
	}
	for _, i := range []int{first, 1 - first} {
		if err := WritePlace(d, p[i], padded); err != nil {
			return fmt.Errorf("copy %d: %w", i, err)
		}
	}
	return nil
}
