package chain

import (
	"bytes"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"io"

	"nitro/attest/golden"
	"nitro/attest/seal"
	"nitro/attest/sha256"
	"nitro/boot/bundle"
	"nitro/boot/code"
	"nitro/boot/image"
	"nitro/boot/journal"
	"nitro/boot/medium"
)

// Install takes a release's bundle, front to back, into the slot that does not run:
// docs/update.md, "How each kind is taken". When it returns without an error the slot is
// whole, and Activate makes it the one that boots next. All but the payload is judged
// before anything changes; after that the journal says that the slot is empty until
// Activate, so a cut, or an error, leaves what runs and boots next as it was.
//
// The payload goes straight to the card: this takes 64 KiB of memory and the small parts.
// progress is told how many bytes of how many are there; it may be nil.
func (s *Slots) Install(r io.Reader, progress func(done, total int64)) (*image.Image, error) {
	b, err := s.openBundle(r)
	if err != nil {
		return nil, err
	}
	slot, err := s.Clear()
	if err != nil {
		return nil, err
	}
	if err := s.take(slot, b, r, progress); err != nil {
		return nil, err
	}
	return b.controller, nil
}

// A bundled is a bundle up to its payload, which this board can run if the payload is as
// its header says.
type bundled struct {
	knownGood  []byte
	head       [image.HeaderSize]byte // of the controller
	controller *image.Image
	set        []byte // sealed objects with the approvals that came
}

// openBundle reads and verifies all but the payload. Nothing has changed when it fails.
func (s *Slots) openBundle(r io.Reader) (*bundled, error) {
	h, err := bundle.Read(r)
	if err != nil {
		return nil, err
	}
	b := &bundled{knownGood: make([]byte, h.KnownGood)}
	approvals := make([]byte, h.Approvals)
	for _, part := range [][]byte{b.knownGood, approvals, b.head[:]} {
		if _, err := io.ReadFull(r, part); err != nil {
			return nil, code.ImageUnreadable.Errorf("update: the bundle ends early: %w", err)
		}
	}
	want := s.want()
	want.Where = "update"
	if b.controller, err = image.Verify(&b.head, want); err != nil {
		return nil, err
	}
	if length := image.HeaderSize + int64(b.controller.Length); length != h.Controller || length > medium.Slots[0].Size {
		return nil, code.ImageMalformed.Errorf("update: a controller of %d bytes, and the bundle has %d: pack it again", length, h.Controller)
	}
	release, err := s.openKnownGood(b)
	if err != nil {
		return nil, err
	}
	if b.set, err = s.approve(release, b.controller, approvals); err != nil {
		return nil, err
	}
	return b, nil
}

// openKnownGood verifies a bundle's known-good set.
func (s *Slots) openKnownGood(b *bundled) (*golden.Release, error) {
	want := s.want()
	want.Where, want.Floor = "update: known-good set", 0 // the controller has satisfied it
	release, length, err := openRelease(bytes.NewReader(b.knownGood), want)
	switch {
	case err != nil:
		return nil, code.KnownGoodBad.Errorf("%w", err)
	case length != int64(len(b.knownGood)):
		return nil, code.KnownGoodBad.Errorf("update: a known-good set of %d bytes, and the bundle has %d: pack it again", length, len(b.knownGood))
	case release.Controller.Digest != b.controller.Digest:
		return nil, code.KnownGoodBad.Errorf("update: the known-good set is another release's: pack controller and known-good set of one folder")
	}
	return release, nil
}

// approve makes the sealed objects that the board will have: with the approvals of what
// runs, and of what came. It answers the update that locks the owner out, before anything
// was written.
func (s *Slots) approve(r *golden.Release, i *image.Image, approvals []byte) ([]byte, error) {
	came, err := seal.Decode(approvals)
	if err != nil || len(came.Objects) > 0 {
		return nil, code.ImageMalformed.Errorf("update: approvals: they are no set of approvals alone: take the approvals.bin of the release (%v)", err)
	}
	next, err := s.predict(r, i)
	if err != nil {
		return nil, code.UnsealNotPredicted.Errorf("update: %w: build the release with -also for the release that this board came with", err)
	}
	own, err := s.own()
	if err != nil {
		return nil, err
	}
	running, err := s.predict(s.c.Release, own)
	if err != nil {
		return nil, code.UnsealNotPredicted.Errorf("update: what runs: %w", err)
	}
	set, err := readSet(s.c.Card)
	if err != nil {
		return nil, err
	}
	keys := s.c.Configuration().Sealing()
	set = set.With(came.Approvals, keys, running, next)
	for _, release := range []seal.Release{next, running} {
		if err := set.Covers(keys, release, s.c.Board.PCR1); err != nil {
			return nil, code.UnsealNotPredicted.Errorf("update: the store would not open under version %s: %w", i.Version, err)
		}
	}
	return set.Encode()
}

// own is what is in the slot that runs, which has to be what runs.
func (s *Slots) own() (*image.Image, error) {
	i, err := openSlot(s.c.Card, s.state.Slot, s.want())
	if err != nil {
		return nil, err
	}
	if _, digest := s.c.running(); digest != hex.EncodeToString(i.Digest[:]) {
		return nil, code.UpdateUnsafe.Errorf("update: %v does not hold what runs: restart the board before it is updated", s.state.Slot)
	}
	return i, nil
}

// piece is how much of a payload is read and written at a time.
const piece = 64 << 10

// take writes a release. The slot's header is there only when all that it speaks for is.
func (s *Slots) take(slot journal.Slot, b *bundled, r io.Reader, progress func(done, total int64)) error {
	place := medium.Slots[slot]
	write := func(p medium.Place, data []byte) error {
		if err := medium.WritePlace(s.c.Card, p, data); err != nil {
			return code.ImageUnreadable.Errorf("update: %v cannot be written: %w", slot, err)
		}
		return nil
	}
	if err := write(place, make([]byte, image.HeaderSize)); err != nil {
		return err
	}
	buffer, hash, length := make([]byte, piece), sha256.New(), int64(b.controller.Length)
	for at := int64(0); at < length; at += piece {
		part := buffer[:min(piece, length-at)]
		if _, err := io.ReadFull(r, part); err != nil {
			return code.ImageUnreadable.Errorf("update: byte %d of %d of the controller: %w", at, length, err)
		}
		hash.Write(part)
		if err := write(medium.Place{Offset: place.Offset + image.HeaderSize + at, Size: piece}, part); err != nil {
			return err
		}
		if progress != nil {
			progress(at+int64(len(part)), length)
		}
	}
	if sum := hash.Sum(nil); subtle.ConstantTimeCompare(sum, b.controller.Digest[:]) != 1 {
		return code.ImageDigest.Errorf("update: controller: SHA-256 is %x, signed was %x", sum, b.controller.Digest)
	}
	if n, err := io.ReadFull(r, make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
		return code.ImageMalformed.Errorf("update: something follows the bundle (%v)", err)
	}
	if err := write(medium.KnownGoodOf[slot], b.knownGood); err != nil {
		return err
	}
	if err := write(place, b.head[:]); err != nil {
		return err
	}
	if err := medium.Pair(medium.SealedObjects).Write(s.c.Card, b.set, seal.Rank); err != nil {
		return code.ImageUnreadable.Errorf("update: approvals: %w", err)
	}
	return nil
}

// Staged is what Install has put into the slot that does not run, and Activate would make
// active; nil if there is none. A restart does not change that.
func (s *Slots) Staged() *image.Image {
	other := s.state.Slot.Other()
	if s.state.Journal.Slots[other].Status != journal.Empty {
		return nil
	}
	i, err := openSlot(s.c.Card, other, s.want())
	if err != nil {
		return nil
	}
	return i
}

// Slot is the one that runs.
func (s *Slots) Slot() journal.Slot { return s.state.Slot }
