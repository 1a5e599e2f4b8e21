// Package bundle is the package in which a release reaches a board over the network:
// docs/update.md, "Bundle". It holds the controller's image together with what the image
// is of no use without, its known-good set and its sealing approvals, the small parts
// first, so that a board knows whether it can run the release before it changes anything.
//
// The header is signed by nobody. It says how long the parts are, within stated limits,
// and each part is verified by its own signature (package chain does it). Nothing else of a
// bundle is believed.
package bundle

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"

	"nitro/boot/code"
)

// Magic is what a bundle begins with.
const Magic = "NCBUNDL1"

// Sizes in bytes.
const (
	HeaderSize    = 512
	MaxKnownGood  = 64 << 10 // its place on the medium
	MaxApprovals  = 60 << 10 // docs/medium.md, "Sealed objects"
	MaxController = 32 << 20 // a slot
	MaxSize       = HeaderSize + MaxKnownGood + MaxApprovals + MaxController
)

// Offsets of the header's fields.
const (
	offSize     = 8
	offParts    = 12
	offPart     = 16
	partSize    = 16
	offReserved = offPart + parts*partSize
	offDigest   = HeaderSize - sha256.Size
)

// parts is how many parts there are; the kind of the n-th is n.
const parts = 3

// limits are those of the parts, in order.
var limits = [parts]int64{MaxKnownGood, MaxApprovals, MaxController}

var le = binary.LittleEndian

// A Header says how long the parts are, in bytes.
type Header struct{ KnownGood, Approvals, Controller int64 }

func (h *Header) lengths() [parts]*int64 {
	return [parts]*int64{&h.KnownGood, &h.Approvals, &h.Controller}
}

// check holds the lengths to their limits.
func (h *Header) check() error {
	for n, length := range h.lengths() {
		if *length < 1 || *length > limits[n] {
			return fmt.Errorf("bundle: part %d of %d bytes: it has 1 to %d", n+1, *length, limits[n])
		}
	}
	return nil
}

// Encode makes the header's bytes.
func (h Header) Encode() ([HeaderSize]byte, error) {
	var b [HeaderSize]byte
	if err := h.check(); err != nil {
		return b, err
	}
	copy(b[:], Magic)
	le.PutUint32(b[offSize:], HeaderSize)
	le.PutUint32(b[offParts:], parts)
	for n, length := range h.lengths() {
		at := b[offPart+n*partSize:]
		le.PutUint32(at, uint32(n+1))
		le.PutUint64(at[8:], uint64(*length))
	}
	sum := sha256.Sum256(b[:offDigest])
	copy(b[offDigest:], sum[:])
	return b, nil
}

// Parse reads a header. An error has the code of a malformed image.
func Parse(b *[HeaderSize]byte) (h Header, err error) {
	refuse := func(format string, args ...any) (Header, error) {
		return Header{}, code.ImageMalformed.Errorf("bundle: "+format, args...)
	}
	switch sum := sha256.Sum256(b[:offDigest]); {
	case string(b[:len(Magic)]) != Magic:
		return refuse("magic %x, not %q: make one by nitroctl release pack", b[:len(Magic)], Magic)
	case le.Uint32(b[offSize:]) != HeaderSize || le.Uint32(b[offParts:]) != parts:
		return refuse("a header of %d bytes for %d parts, not %d for %d: a format that this firmware does not know", le.Uint32(b[offSize:]), le.Uint32(b[offParts:]), HeaderSize, parts)
	case !bytes.Equal(b[offReserved:offDigest], make([]byte, offDigest-offReserved)):
		return refuse("reserved bytes are not zero")
	case !bytes.Equal(sum[:], b[offDigest:]):
		return refuse("the header is damaged: send the file again")
	}
	for n, length := range h.lengths() {
		at := b[offPart+n*partSize:]
		if le.Uint32(at) != uint32(n+1) || le.Uint32(at[4:]) != 0 {
			return refuse("part %d has kind %d", n+1, le.Uint32(at))
		}
		*length = int64(le.Uint64(at[8:]))
	}
	if err := h.check(); err != nil {
		return Header{}, code.ImageMalformed.Errorf("%w", err)
	}
	return h, nil
}

// Read reads a header from a bundle's beginning.
func Read(r io.Reader) (Header, error) {
	var b [HeaderSize]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return Header{}, code.ImageUnreadable.Errorf("bundle: header: %w", err)
	}
	return Parse(&b)
}

// Write writes a bundle of known-good set, approvals and controller, each as the files of
// a release have it.
func Write(w io.Writer, knownGood, approvals, controller []byte) error {
	head, err := Header{int64(len(knownGood)), int64(len(approvals)), int64(len(controller))}.Encode()
	if err != nil {
		return err
	}
	for _, part := range [][]byte{head[:], knownGood, approvals, controller} {
		if _, err := w.Write(part); err != nil {
			return fmt.Errorf("bundle: %w", err)
		}
	}
	return nil
}
