package tamper

import (
	"errors"
	"fmt"

	"nitro/boot/medium"
	"nitro/internal/chained"
)

// A Target is what a case does something to, while the power is off. On the emulated board
// the cards are files, and makers are nil.
type Target struct {
	Card medium.Device
	Past medium.Device // the same card earlier: its store is older, and what else has changed
	// Twin is the card of another board, whose SoC has the same secret; Other that of one
	// that has a secret of its own.
	Twin, Other medium.Device
	TPM         string // folder of the TPM's state
	// Chips are folders with the states of other TPMs: of Twin, and of one as its maker
	// delivers it.
	TwinTPM, NewTPM string

	Maker, Stranger *chained.Maker

	err     error
	swapped bool // the TPM
}

// Err is what has gone wrong with the tampering itself.
func (t *Target) Err() error { return t.err }

func (t *Target) do(what string, err error) {
	if err != nil {
		t.err = errors.Join(t.err, fmt.Errorf("tamper: %s: %w", what, err))
	}
}

// read reads a whole place.
func (t *Target) read(d medium.Device, p medium.Place) []byte {
	b := make([]byte, p.Size)
	t.do("reading", medium.ReadPlace(d, p, b))
	return b
}

// write writes to the beginning of a place.
func (t *Target) write(p medium.Place, b []byte) { t.do("writing", medium.WritePlace(t.Card, p, b)) }

// change changes a place's bytes.
func (t *Target) change(p medium.Place, change func([]byte)) {
	b := t.read(t.Card, p)
	change(b)
	t.write(p, b)
}

// part is the block of a place that has an offset, as a place.
func part(p medium.Place, at int64) medium.Place {
	const block = 512
	return medium.Place{Offset: p.Offset + at/block*block, Size: block}
}

// flip flips a bit of each byte at the offsets.
func (t *Target) flip(p medium.Place, offsets ...int64) {
	for _, at := range offsets {
		t.change(part(p, at), func(b []byte) { b[at%int64(len(b))] ^= 1 << (at % 7) })
	}
}

// zero writes zeros from an offset on.
func (t *Target) zero(p medium.Place, from int64) {
	t.change(p, func(b []byte) { clear(b[from:]) })
}

// from copies a place of another card.
func (t *Target) from(d medium.Device, places ...medium.Place) {
	for _, p := range places {
		t.write(p, t.read(d, p))
	}
}

// swap swaps two places of one size.
func (t *Target) swap(a, b medium.Place) {
	x, y := t.read(t.Card, a), t.read(t.Card, b)
	t.write(a, y)
	t.write(b, x)
}
