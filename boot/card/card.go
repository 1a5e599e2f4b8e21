// Package card writes a whole card, as the factory gives it to a board, and reads one back
// to say what is in each place of it: docs/medium.md, "Layout".
//
//	f, err := card.Create("card.img", 256<<20)
//	err = card.Write(f, card.Content{Slots: [2]*release.Release{r, nil}, Configuration: c}, nil)
//	report := card.Inspect(f, card.Want{}, nil)
//
// # What Write leaves to others
//
//   - The boot ROM's header (IVT, boot data, DCD) is written as zeros: it belongs to the
//     images of real boards. The emulator does not look at it.
//   - The board part of the known-good set, the sealed objects and the store come to be
//     when the board is provisioned. The place of the sealed objects holds what does not
//     depend on the board: a set of approvals without objects. Provisioning adds to it.
//   - The public anchor block of quarantine is empty.
//   - The volume pool is not touched: what was there stays, and nobody can read it.
package card

import (
	"bytes"
	"errors"
	"fmt"

	"nitro/attest/seal"
	"nitro/boot/config"
	"nitro/boot/decide"
	"nitro/boot/image"
	"nitro/boot/journal"
	"nitro/boot/medium"
	"nitro/boot/release"
)

// Content is what a new card holds.
type Content struct {
	// Slots are the releases of slot A and B. A is needed: anchor block and bootloader
	// are its own. B may be nil, and else must have been built to run under them.
	Slots [2]*release.Release

	Configuration []byte // a signed image
	Policy        []byte // a signed policy set; nil for none: the API then shows evidence alone
}

// A Progress is told how many bytes of how many have been done; nil is told nothing.
type Progress func(done, total int64)

// Write writes a card whole. It first verifies everything as the board will, so that no
// card is written that could not boot or never unseal.
//
// The order makes a card that is half written one that does not boot: first the MBR and
// the header of the bootloader go, and they come back last.
func Write(d medium.Device, c Content, progress Progress) error {
	w := writer{d: d, c: c, progress: progress}
	if err := w.prepare(); err != nil {
		return err
	}
	for _, step := range []func() error{w.erase, w.control, w.policy, w.slots, w.journal, w.bootArea} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// Check verifies, without a card, what [Write] would refuse to write.
func (c Content) Check() error {
	w := writer{c: c}
	return w.check()
}

type writer struct {
	d        medium.Device
	c        Content
	progress Progress

	mbr [sector]byte
	set []byte // the approvals

	config.Want
	done, total int64
}

// prepare checks all and makes what is to be written.
func (w *writer) prepare() (err error) {
	size := int64(w.d.Blocks()) * int64(w.d.BlockSize())
	if w.mbr, err = medium.EncodeMBR(size); err != nil {
		return err
	}
	if err := w.check(); err != nil {
		return err
	}
	set := seal.Set{Revision: 1}
	for _, r := range w.c.Slots {
		if r == nil {
			continue
		}
		for _, a := range r.Approvals {
			if !has(set.Approvals, a) {
				set.Approvals = append(set.Approvals, a)
			}
		}
	}
	w.set, err = set.Encode()
	w.total = medium.PoolOffset
	return err
}

func has(all []seal.Approval, a seal.Approval) bool {
	for _, b := range all {
		if a.Kind == b.Kind && a.Policy == b.Policy && bytes.Equal(a.Signature, b.Signature) {
			return true
		}
	}
	return false
}

// check has configuration and releases fit each other.
func (w *writer) check() error {
	a := w.c.Slots[journal.A]
	if a == nil {
		return errors.New("card: there is nothing for slot A: give a release")
	}
	w.Want = config.Want{Product: a.Controller.Product, Anchors: a.Anchors}
	c, err := config.Verify(w.c.Configuration, w.Want)
	if err != nil {
		return fmt.Errorf("card: %w", err)
	}
	if n := image.HeaderSize + int(c.Header.Length); len(w.c.Configuration) != n {
		return fmt.Errorf("card: configuration: %d bytes, and the image has %d: give the whole file", len(w.c.Configuration), n)
	}
	if err := w.checkPolicy(); err != nil {
		return err
	}
	for slot, r := range w.c.Slots {
		if r == nil {
			continue
		}
		if err := fits(r, a, c.Config); err != nil {
			return fmt.Errorf("card: %v: %w", journal.Slot(slot), err)
		}
	}
	return nil
}

// fits tells whether a release will run, and unseal, under anchor block and bootloader of
// another one.
func fits(r, under *release.Release, c *config.Config) error {
	_, err := image.Verify((*[image.HeaderSize]byte)(r.Controller.Bytes), image.Want{Where: "controller", Component: image.Controller,
		Product: under.Controller.Product, Development: under.Anchors.Development, Authorities: c.Authorities(under.Anchors)})
	if err != nil {
		return err
	}
	values, err := r.Predict(under)
	if err != nil {
		return fmt.Errorf("%w: build it with the other release given by -also", err)
	}
	for _, kind := range release.Kinds() {
		if err := release.Approved(r.Approvals, c.Sealing(), kind, values); err != nil {
			return fmt.Errorf("the board would never unseal: %w (nitroctl seal approve)", err)
		}
	}
	return nil
}

// chunk is how much is erased at a time, in bytes.
const chunk = 1 << 20

// erase zeroes the card up to the volume pool, but writes only what is not zero: an image
// in a file stays sparse, and a new card is not worn.
func (w *writer) erase() error {
	buf := make([]byte, chunk)
	bs := int64(w.d.BlockSize())
	for at := int64(0); at < medium.PoolOffset; at += chunk {
		if err := w.d.ReadBlocks(uint64(at/bs), buf); err != nil {
			return fmt.Errorf("card: erasing: %w", err)
		}
		if !blank(buf) {
			clear(buf)
			if err := w.d.WriteBlocks(uint64(at/bs), buf); err != nil {
				return fmt.Errorf("card: erasing: %w", err)
			}
		}
		w.advance(chunk)
	}
	return nil
}

// blank tells whether all is zero: whether the first byte is, and each is like the next.
func blank(b []byte) bool { return len(b) == 0 || b[0] == 0 && bytes.Equal(b[1:], b[:len(b)-1]) }

// advance reports progress: erasing is taken for all of it, what is written comes on top.
func (w *writer) advance(n int64) {
	w.done += n
	if w.progress != nil {
		w.progress(min(w.done, w.total), w.total)
	}
}

// put writes to the beginning of a place.
func (w *writer) put(p medium.Place, what string, data []byte) error {
	if err := medium.WritePlace(w.d, p, data); err != nil {
		return fmt.Errorf("card: %s: %w", what, err)
	}
	return nil
}

// control writes what the control area holds but for the journal.
func (w *writer) control() error {
	for slot, r := range w.c.Slots {
		if r != nil {
			if err := w.put(medium.KnownGoodOf[slot], "known-good set", r.KnownGood.Bytes); err != nil {
				return err
			}
		}
	}
	if err := config.Write(w.d, w.c.Configuration, w.Want); err != nil {
		return fmt.Errorf("card: configuration: %w", err)
	}
	if err := medium.Pair(medium.SealedObjects).Write(w.d, w.set, rankSet); err != nil {
		return fmt.Errorf("card: approvals: %w", err)
	}
	return nil
}

// rankSet ranks copies of the set of sealed objects.
func rankSet(b []byte) (uint64, error) {
	s, err := seal.Decode(b)
	if err != nil {
		return 0, err
	}
	return s.Revision, nil
}

func (w *writer) slots() error {
	for slot, r := range w.c.Slots {
		if r != nil {
			if err := w.put(medium.Slots[slot], journal.Slot(slot).String(), r.Controller.Bytes); err != nil {
				return err
			}
		}
	}
	return nil
}

// journal writes the first record: slot A is to be tried, and nothing is proven yet.
func (w *writer) journal() error {
	s := journal.State{Preferred: journal.A, Trying: journal.None}
	for slot, r := range w.c.Slots {
		if r != nil {
			s.Slots[slot] = journal.SlotState{Status: journal.Unproven, Attempts: decide.UnprovenAttempts,
				SecurityVersion: r.Controller.SecurityVersion, Digest: r.Controller.Digest}
		}
	}
	j, err := journal.Open(w.d)
	if err == nil {
		err = j.Write(s)
	}
	if err != nil {
		return fmt.Errorf("card: slot journal: %w", err)
	}
	return nil
}

// bootArea writes anchor block and bootloader, its header behind its payload, and the MBR
// last.
func (w *writer) bootArea() error {
	a := w.c.Slots[journal.A]
	for _, part := range []struct {
		place medium.Place
		what  string
		data  []byte
	}{
		{medium.AnchorBlock, "anchor block", a.AnchorBlock[:]},
		{medium.Bootloader, "bootloader", a.Bootloader.Payload()},
		{medium.BootloaderHeader, "bootloader's header", a.Bootloader.Bytes[:image.HeaderSize]},
		{medium.MBR, "MBR", w.mbr[:]},
	} {
		if err := w.put(part.place, part.what, part.data); err != nil {
			return err
		}
	}
	return nil
}
