package firmware

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"nitro/attest/sha256"
	"nitro/boot/code"
	"nitro/boot/image"
	"nitro/boot/store"
)

// Install takes an update package and makes it the golden copy: docs/firmware.md,
// "Update package". The flash changes in the next cycle. After an error the golden copy
// is the one from before, unless the error is only that it could not be made sure that
// no older one comes back (then there is a manifest too); after a power cut it is the old
// or the new one.
//
// Nothing authenticates who sends a package but its signatures; whether they may, and how
// long they may take over it, is the caller's to know. Packages are taken one at a time. A
// cycle does not wait for one, it has the golden copy as it was.
func (g *Golden) Install(r io.Reader) (*Manifest, error) {
	g.installing.Lock()
	defer g.installing.Unlock()
	c, head, err := g.openPackage(r)
	if err != nil {
		return nil, fmt.Errorf("firmware: package not taken: %w", err)
	}
	old, err := g.sequence()
	if err == nil {
		err = g.sweep(old)
	}
	if err != nil {
		return nil, err
	}
	c.sequence = old + 1
	err = g.take(c, r)
	if err == nil {
		err = g.replace(c, head)
	}
	if err != nil {
		// What cannot be deleted now is deleted before the next package.
		return nil, errors.Join(fmt.Errorf("firmware: package not taken: %w", err), g.sweep(old))
	}
	return &c.Manifest, errors.Join(fromStore(g.c.Store.Checkpoint()), g.sweep(c.sequence))
}

// openPackage verifies header and manifest, and gives their bytes too.
func (g *Golden) openPackage(r io.Reader) (*copyOf, []byte, error) {
	s, err := g.state()
	if err != nil {
		return nil, nil, err
	}
	var head bytes.Buffer
	c, err := g.open(io.TeeReader(r, &head), "package", s.floor)
	return c, head.Bytes(), err
}

// sequence is the number of the golden copy that is there, whatever it is worth: a copy
// that does not verify any more must not stand in the way of a good one.
func (g *Golden) sequence() (uint64, error) {
	n, _, err := g.record()
	if c := code.Of(err); c == code.HostFirmware || c == code.StoreDamaged {
		return 0, nil
	}
	return n, err
}

// take streams the contents into the store, where nothing names them yet, and accepts them
// when all of them are what the manifest says.
func (g *Golden) take(c *copyOf, r io.Reader) error {
	w := &writer{g: g, sequence: c.sequence}
	defer w.abort()
	for _, region := range c.of(Static) {
		if err := w.region(region, r); err != nil {
			return err
		}
	}
	if n, err := io.ReadFull(r, make([]byte, 1)); n != 0 || err != io.EOF {
		return code.ImageMalformed.Errorf("firmware: something is behind the last region's content (%v)", err)
	}
	return fromStore(w.commit())
}

// replace makes what was taken the golden copy. A cycle may have raised the floor
// meanwhile.
func (g *Golden) replace(c *copyOf, head []byte) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	s, err := g.state()
	if err != nil {
		return err
	}
	if c.SecurityVersion < s.floor {
		return code.BelowFloor.Errorf("firmware: security version %d, below the floor of %d", c.SecurityVersion, s.floor)
	}
	record := append(le.AppendUint64(nil, c.sequence), head...)
	if err := g.c.Store.Put(g.goldenName(), record); err != nil {
		return fromStore(err)
	}
	g.now = c
	return nil
}

// A writer writes contents to records of partSize.
type writer struct {
	g        *Golden
	sequence uint64
	n        int64         // the next record
	open     *store.Writer // nil between records
	left     int64         // that the open record takes
}

// region takes a region's content from a package.
func (w *writer) region(region Region, r io.Reader) error {
	buffer, h := make([]byte, window), sha256.New()
	for at := int64(0); at < region.Length; at += window {
		p := buffer[:min(window, region.Length-at)]
		if _, err := io.ReadFull(r, p); err != nil {
			return code.ImageUnreadable.Errorf("firmware: content of region %q: byte %d of %d: %w", region.Name, at, region.Length, err)
		}
		h.Write(p)
		if err := w.write(p); err != nil {
			return fromStore(err)
		}
	}
	if sum := h.Sum(nil); !bytes.Equal(sum, region.Digest[:]) {
		return code.ImageDigest.Errorf("firmware: content of region %q: SHA-256 is %x, the manifest has %x", region.Name, sum, region.Digest)
	}
	return nil
}

func (w *writer) write(p []byte) error {
	for len(p) > 0 {
		if w.open == nil {
			open, err := w.g.c.Store.Create(w.g.contentsName(w.sequence, w.n))
			if err != nil {
				return err
			}
			w.open, w.left = open, partSize
			w.n++
		}
		k, err := w.open.Write(p[:min(int64(len(p)), w.left)])
		if err != nil {
			return err
		}
		p, w.left = p[k:], w.left-int64(k)
		if w.left == 0 {
			if err := w.commit(); err != nil {
				return err
			}
		}
	}
	return nil
}

// commit ends the open record.
func (w *writer) commit() error {
	if w.open == nil {
		return nil
	}
	err := w.open.Commit()
	if err == nil {
		w.open = nil
	}
	return err
}

// abort forgets the open record, if there is one.
func (w *writer) abort() {
	if w.open != nil {
		w.open.Abort()
	}
}

// Package writes an update package of what a flash is to hold: it fills in the digests of
// the manifest's static regions, and of the header what the manifest says. It is for
// tools, which have the whole flash in memory.
func Package(w io.Writer, m *Manifest, h image.Header, flash []byte, s image.Signer) error {
	if int64(len(flash)) != m.Size {
		return fmt.Errorf("firmware: %d bytes for a flash of %d", len(flash), m.Size)
	}
	if err := m.check(); err != nil {
		return fmt.Errorf("firmware: manifest: %w", err)
	}
	for i, r := range m.Regions {
		if r.Kind == Static {
			m.Regions[i].Digest = sha256.Sum256(flash[r.Offset : r.Offset+r.Length])
		}
	}
	payload, err := m.Encode()
	if err != nil {
		return err
	}
	h.Component, h.Version, h.SecurityVersion = m.Part.component(), m.Version, m.SecurityVersion
	header, err := image.Sign(h, payload, s)
	if err != nil {
		return err
	}
	parts := [][]byte{header[:], payload}
	for _, r := range m.of(Static) {
		parts = append(parts, flash[r.Offset:r.Offset+r.Length])
	}
	for _, p := range parts {
		if _, err := w.Write(p); err != nil {
			return fmt.Errorf("firmware: package: %w", err)
		}
	}
	return nil
}
