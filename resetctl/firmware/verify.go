package firmware

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"io"
	"slices"

	"nitro/attest/sha256"
	"nitro/boot/code"
)

// Bounds of one cycle (docs/firmware.md).
const (
	window        = 64 << 10 // bytes read and hashed, or compared and written, at a time
	maxRecoveries = 2        // rounds of recovery
	looks         = 16       // places of the second look
	lookSize      = 4 << 10  // bytes of each
)

// Options are the caller's wishes for one cycle.
type Options struct {
	// Erase has erasable regions erased.
	Erase bool

	// Gated says that the wiring keeps the host from writing static regions also where
	// the chip does not protect them. Without it such a chip is refused.
	Gated bool
}

// A Result is what a cycle found on the flash, and did.
type Result struct {
	Manifest       Manifest
	ManifestDigest [sha256.Size]byte // of its JSON: the payload's, in the image's header

	// Measured are the static regions with the digests that were read from the flash,
	// after all that was done to it; Measurement is one digest of them all.
	Measured    []Region
	Measurement [sha256.Size]byte

	// Ed25519Key and MLDSA65Key name who signed the manifest: SHA-256 of the two keys.
	Ed25519Key, MLDSA65Key [sha256.Size]byte

	// Found are the static regions as they were first read, before anything was put right.
	Found []Region

	// Recovered names the static regions that were put right since they had changed, and
	// Updated those that were, since the golden copy had.
	Recovered, Updated []string

	Erased      []string   // erasable regions that were made blank
	Rewritten   int        // erase blocks (the manifest's) that were erased and written
	Unprotected [][2]int64 // static ranges that the chip does not protect (Options.Gated)
}

// A cycle is [Golden.Verify] under way.
type cycle struct {
	g       *Golden
	c       *copyOf
	f       Flash
	o       Options
	r       *Result
	places  []look // of the second look
	guarded [][2]int64
	update  bool // differences are to be expected
}

// Verify does one cycle's work on the flash: docs/firmware.md, "A cycle". The caller
// holds whoever reads the flash, owns it, and lets neither go before Verify has returned
// without error. The error has a code, but where the store has been closed; a result that
// comes with it tells what was put right before.
func (g *Golden) Verify(f Flash, o Options) (*Result, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.cycle(f, o, (*cycle).run)
}

// Measure reads the flash a last time, where the caller has made sure since Verify that
// nobody can change its protection any more: steps 3 to 8 of docs/firmware.md, "A cycle",
// but it protects nothing, and what is not as it should be is an error, not put right.
func (g *Golden) Measure(f Flash, o Options) (*Result, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.cycle(f, o, (*cycle).measure)
}

// Protect protects the static regions, and nothing else. CheckProtected judges what the
// flash says to that.
func (g *Golden) Protect(f Flash) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	y, err := g.begin(f, Options{})
	if err != nil {
		return err
	}
	if err := f.Protect(y.c.ranges()); err != nil {
		return y.flashError("protection", err)
	}
	return nil
}

// CheckProtected reads from the flash what it protects: all static regions and nothing
// else, unless the wiring gates them.
func (g *Golden) CheckProtected(f Flash, o Options) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	y, err := g.begin(f, o)
	if err != nil {
		return err
	}
	return y.judgeProtection()
}

// cycle has a flash worked on.
func (g *Golden) cycle(f Flash, o Options, work func(*cycle) error) (*Result, error) {
	y, err := g.begin(f, o)
	if err != nil {
		return nil, err
	}
	if err = work(y); err == nil {
		err = g.settle(y.c)
	}
	if err != nil && y.r.Rewritten == 0 {
		return nil, err
	}
	return y.r, err
}

// begin looks at golden copy and flash.
func (g *Golden) begin(f Flash, o Options) (*cycle, error) {
	c, err := g.current()
	if err != nil {
		return nil, err
	}
	if err := c.fits(f); err != nil {
		return nil, code.HostFlash.Errorf("firmware: %s: %w", g.c.Part, err)
	}
	s, err := g.state()
	if err != nil {
		return nil, err
	}
	return &cycle{g: g, c: c, f: f, o: o, update: s.applied != c.digest, r: &Result{
		Manifest: c.Manifest, ManifestDigest: c.digest, Ed25519Key: c.ed25519Key, MLDSA65Key: c.mldsa65Key,
	}}, nil
}

// run is steps 2 to 7.
func (y *cycle) run() error {
	if y.o.Erase {
		if err := y.unprotect(); err != nil {
			return err
		}
		if err := y.erase(); err != nil {
			return err
		}
	}
	for round := 0; ; round++ {
		if err := y.protect(); err != nil {
			return err
		}
		bad, err := y.hashAll()
		if err != nil {
			return err
		}
		if len(bad) == 0 {
			return y.confirm()
		}
		if round == maxRecoveries {
			return code.HostFirmware.Errorf("firmware: %s: region %q does not hold its content after %d recoveries: check the flash", y.g.c.Part, bad[0].Name, round)
		}
		if err := y.recover(bad); err != nil {
			return err
		}
	}
}

// measure reads what is protected already.
func (y *cycle) measure() error {
	if err := y.judgeProtection(); err != nil {
		return err
	}
	bad, err := y.hashAll()
	if err != nil {
		return err
	}
	if len(bad) > 0 {
		return code.HostFirmware.Errorf("firmware: %s: region %q has changed since it was verified: something else writes the flash, or it is not one", y.g.c.Part, bad[0].Name)
	}
	return y.confirm()
}

// hashAll is step 4. It gives the regions that are not as they should be. What it measures
// is read after the protection was seen to hold.
func (y *cycle) hashAll() (bad []Region, err error) {
	if y.places, err = chooseLooks(y.c.ranges(), y.g.c.Rand); err != nil {
		return nil, err
	}
	y.r.Measured = nil
	buffer := make([]byte, window)
	for _, region := range y.c.of(Static) {
		found, err := y.hash(region, buffer)
		if err != nil {
			return nil, err
		}
		if found.Digest != region.Digest {
			bad = append(bad, region)
		}
		y.r.Measured = append(y.r.Measured, found)
	}
	y.r.Measurement = measurement(y.r.Measured)
	if y.r.Found == nil {
		y.r.Found = y.r.Measured
	}
	return bad, nil
}

// hash reads each byte of a region once.
func (y *cycle) hash(region Region, buffer []byte) (Region, error) {
	h := sha256.New()
	for at := int64(0); at < region.Length; at += window {
		p := buffer[:min(window, region.Length-at)]
		if _, err := y.f.ReadAt(p, region.Offset+at); err != nil {
			return region, y.flashError(region.Name, err)
		}
		h.Write(p)
		for i := range y.places {
			y.places[i].keep(p, region.Offset+at)
		}
	}
	h.Sum(region.Digest[:0])
	return region, nil
}

// protect is step 3: it protects the static regions, and judges what the chip says to it.
func (y *cycle) protect() error {
	if err := y.f.Protect(y.c.ranges()); err != nil {
		return y.flashError("protection", err)
	}
	return y.judgeProtection()
}

// judgeProtection reads back what is protected.
func (y *cycle) judgeProtection() error {
	static := y.c.ranges()
	guarded, err := y.f.Protected()
	if err != nil {
		return y.flashError("protection", err)
	}
	if over := uncovered(guarded, static); len(over) > 0 {
		return code.HostFlashUnprotected.Errorf("firmware: %s: the flash protects %#x bytes at %#x, which are the host's to write", y.g.c.Part, over[0][1], over[0][0])
	}
	open := uncovered(static, guarded)
	if len(open) > 0 && !y.o.Gated {
		return code.HostFlashUnprotected.Errorf("firmware: %s: the flash does not protect %#x bytes at %#x (protected are %#x): the wiring has to gate them, or the regions have to lie otherwise",
			y.g.c.Part, open[0][1], open[0][0], guarded)
	}
	y.guarded, y.r.Unprotected = guarded, open
	return nil
}

func (y *cycle) unprotect() error {
	if err := y.f.Protect(nil); err != nil {
		return y.flashError("protection", err)
	}
	guarded, err := y.f.Protected()
	if err != nil {
		return y.flashError("protection", err)
	}
	if len(guarded) > 0 {
		return code.HostFlashUnprotected.Errorf("firmware: %s: the flash keeps %#x bytes at %#x protected: check its write-protect pin", y.g.c.Part, guarded[0][1], guarded[0][0])
	}
	return nil
}

// confirm is steps 6 and 7: the flash still says what was hashed, and protects what it
// protected.
func (y *cycle) confirm() error {
	again := make([]byte, lookSize)
	for _, l := range y.places {
		p := again[:len(l.seen)]
		if _, err := y.f.ReadAt(p, l.at); err != nil {
			return y.flashError("second look", err)
		}
		if !bytes.Equal(p, l.seen) {
			return code.HostFlash.Errorf("firmware: %s: %#x bytes at %#x read otherwise than before: something else writes the flash, or it is not one", y.g.c.Part, len(p), l.at)
		}
	}
	guarded, err := y.f.Protected()
	if err != nil {
		return y.flashError("protection", err)
	}
	if !slices.Equal(guarded, y.guarded) {
		return code.HostFlashUnprotected.Errorf("firmware: %s: the flash's protection changed while it was read: %#x, and was %#x", y.g.c.Part, guarded, y.guarded)
	}
	return nil
}

func (y *cycle) flashError(what string, err error) error {
	if code.Of(err) != code.None {
		return err
	}
	return code.HostFlash.Errorf("firmware: %s: %s: %w", y.g.c.Part, what, err)
}

// A look is a place of the second look, with what the first one saw.
type look struct {
	at   int64
	seen []byte
}

// chooseLooks takes places by chance: a flash that could foresee them would answer well
// there. Ranges are whole erase blocks, so each place lies within one window.
func chooseLooks(ranges [][2]int64, r io.Reader) ([]look, error) {
	if r == nil {
		r = rand.Reader
	}
	total := int64(0)
	for _, x := range ranges {
		total += x[1] / lookSize
	}
	var all []look
	for range min(looks, total) {
		var b [8]byte
		if _, err := io.ReadFull(r, b[:]); err != nil {
			return nil, code.TPMEntropyAbsent.Errorf("firmware: random places: %w", err)
		}
		n := int64(binary.LittleEndian.Uint64(b[:]) % uint64(total)) // total is below 2^14: no bias to speak of
		for _, x := range ranges {
			if blocks := x[1] / lookSize; n >= blocks {
				n -= blocks
				continue
			}
			all = append(all, look{x[0] + n*lookSize, make([]byte, lookSize)})
			break
		}
	}
	return all, nil
}

// keep takes what a look is to remember from a piece of the flash.
func (l *look) keep(p []byte, from int64) {
	if i := l.at - from; i >= 0 && i < int64(len(p)) {
		copy(l.seen, p[i:])
	}
}
