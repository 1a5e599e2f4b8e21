package card

import (
	"bytes"
	"cmp"
	"crypto/ecdsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"

	"nitro/attest/golden"
	"nitro/attest/seal"
	"nitro/boot/code"
	"nitro/boot/config"
	"nitro/boot/image"
	"nitro/boot/journal"
	"nitro/boot/medium"
	"nitro/boot/release"
)

// A State says what has become of the check of one place.
type State string

const (
	// OK: it is there, and verified.
	OK State = "ok"
	// Empty: nothing is there, and nothing has to be.
	Empty State = "empty"
	// Bad: it is damaged, forged, or missing.
	Bad State = "bad"
	// Unverified: something is there that cannot be verified away from its board.
	Unverified State = "unverified"
)

// A Part is one place of the card.
type Part struct {
	Name  string
	Place medium.Place
	State State
	Text  string // what is there
	Err   error  // why it is bad
}

// A Want is what a card is compared with.
type Want struct {
	// Anchors is what the anchor block must be; nil means that the card's own counts, so
	// that the report says of what is verified only that it fits together.
	Anchors *medium.Anchors
	// Product is what the card is for; "" means what its bootloader says.
	Product string
	// Floor and Epoch are the board's, from its TPM.
	Floor uint32
	Epoch uint64
	// BoardKey signs the board part of the known-good set; nil leaves that unverified.
	BoardKey *ecdsa.PublicKey
}

// A Report is what is on a card. What could not be verified is nil.
type Report struct {
	Size  int64  // bytes
	Parts []Part // in the order of their places

	Anchors       *medium.Anchors
	AnchorsDigest [32]byte
	Bootloader    *image.Image
	Configuration *config.Signed // the copy that counts
	Slots         [2]*image.Image
	KnownGood     [2]*golden.Release
	Set           *seal.Set // the copy that counts
	Board         *golden.Board
	Journal       journal.State
}

// Err joins what is bad; it is nil if nothing is.
func (r *Report) Err() error {
	var all []error
	for _, p := range r.Parts {
		if p.State == Bad {
			all = append(all, fmt.Errorf("card: %s: %w", p.Name, p.Err))
		}
	}
	return errors.Join(all...)
}

// Part gives the part of a name.
func (r *Report) Part(name string) Part {
	for _, p := range r.Parts {
		if p.Name == name {
			return p
		}
	}
	return Part{}
}

// Values are what PCR 0, 2 and 7 become when a slot runs.
func (r *Report) Values(slot journal.Slot) (seal.Release, error) {
	g, i := r.KnownGood[slot], r.Slots[slot]
	if g == nil || i == nil || r.Anchors == nil || r.Bootloader == nil {
		return seal.Release{}, errors.New("anchor block, bootloader, controller and known-good set are not all there and good")
	}
	if (golden.Component{Digest: i.Digest, Version: i.Version, SecurityVersion: i.SecurityVersion}) != g.Controller {
		return seal.Release{}, fmt.Errorf("the known-good set is for another controller (version %s): write the one of the slot's release", g.Controller.Version)
	}
	b := r.Bootloader
	v, err := g.Predict(golden.Anchors{Digest: r.AnchorsDigest, Development: r.Anchors.Development},
		golden.Component{Digest: b.Digest, Version: b.Version, SecurityVersion: b.SecurityVersion},
		golden.Authority{Ed25519: i.Ed25519Key, MLDSA65: i.MLDSA65Key})
	return seal.Release{PCR0: v[0], PCR2: v[1], PCR7: v[2], SecurityVersion: i.SecurityVersion}, err
}

// Inspect reads a card and verifies what it can. It changes nothing.
func Inspect(d medium.Device, w Want, progress Progress) *Report {
	i := &inspector{d: d, want: w, Report: &Report{Size: int64(d.Blocks()) * int64(d.BlockSize())}}
	steps := []func(){i.mbr, i.rom, i.anchors, i.bootloader, i.journal, i.configurations, i.policies, i.slotsAndSets, i.boardParts, i.sealed, i.quarantine, i.store}
	for n, step := range steps {
		step()
		if progress != nil {
			progress(int64(n+1), int64(len(steps)))
		}
	}
	slices.SortFunc(i.Parts, func(a, b Part) int { return cmp.Compare(a.Place.Offset, b.Place.Offset) })
	return i.Report
}

type inspector struct {
	d    medium.Device
	want Want
	*Report
}

func (i *inspector) add(name string, p medium.Place, s State, format string, args ...any) {
	i.Parts = append(i.Parts, Part{Name: name, Place: p, State: s, Text: fmt.Sprintf(format, args...)})
}

func (i *inspector) bad(name string, p medium.Place, err error) {
	i.Parts = append(i.Parts, Part{Name: name, Place: p, State: Bad, Text: err.Error(), Err: err})
}

// read reads the beginning of a place, and adds the part if that fails.
func (i *inspector) read(name string, p medium.Place, n int64) ([]byte, bool) {
	b := make([]byte, n)
	if err := medium.ReadPlace(i.d, p, b); err != nil {
		i.bad(name, p, code.ImageUnreadable.Errorf("%w", err))
		return nil, false
	}
	return b, true
}

func (i *inspector) mbr() {
	b, ok := i.read("MBR", medium.MBR, medium.MBR.Size)
	if !ok {
		return
	}
	want, err := medium.EncodeMBR(i.Size)
	if err == nil && [sector]byte(b) != want {
		err = errors.New("is not that of a card of this size: write the card again, with its whole size")
	}
	if err != nil {
		i.bad("MBR", medium.MBR, err)
		return
	}
	i.add("MBR", medium.MBR, OK, "four partitions")
}

// rom looks at the boot ROM's header, which this package does not write.
func (i *inspector) rom() {
	i.opaque("boot ROM header", medium.BootROMHeader, "none: for the emulator", "the boot ROM verifies it, this tool does not")
}

// opaque tells only whether a place is zero.
func (i *inspector) opaque(name string, p medium.Place, none, some string) {
	r, err := medium.NewReader(i.d, p)
	if err != nil {
		i.bad(name, p, err)
		return
	}
	buf := make([]byte, min(p.Size, chunk))
	for left := p.Size; left > 0; left -= int64(len(buf)) {
		buf = buf[:min(left, int64(len(buf)))]
		if _, err := io.ReadFull(r, buf); err != nil {
			i.bad(name, p, err)
			return
		}
		if !blank(buf) {
			i.add(name, p, Unverified, "%s", some)
			return
		}
	}
	i.add(name, p, Empty, "%s", none)
}

func (i *inspector) anchors() {
	const name = "anchor block"
	a, block, err := medium.ReadAnchors(i.d)
	if err != nil {
		i.bad(name, medium.AnchorBlock, err)
		i.Anchors = i.want.Anchors
		return
	}
	i.AnchorsDigest = sha256.Sum256(block[:])
	i.Anchors = a
	whose := "nothing to compare it with"
	if i.want.Anchors != nil {
		i.Anchors, whose = i.want.Anchors, "the given one"
		want, err := i.want.Anchors.Encode()
		if err == nil && *want != *block {
			err = code.AnchorBlock.Errorf("is another than the given one: sha256 %x, not %x", i.AnchorsDigest, sha256.Sum256(want[:]))
		}
		if err != nil {
			i.bad(name, medium.AnchorBlock, err)
			return
		}
	}
	i.add(name, medium.AnchorBlock, OK, "sha256 %x, %d authorities%s; %s", i.AnchorsDigest, len(a.Authorities), development(a.Development), whose)
}

func development(yes bool) string {
	if yes {
		return ", development"
	}
	return ""
}

// verified reads an image, which may lie in more than one place, and verifies it.
func (i *inspector) verified(name string, c image.Component, authorities []image.Authority, places ...medium.Place) (*image.Image, []byte, error) {
	var all []io.Reader
	for _, p := range places {
		r, err := medium.NewReader(i.d, p)
		if err != nil {
			return nil, nil, err
		}
		all = append(all, r)
	}
	r := io.MultiReader(all...)
	var b [image.HeaderSize]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return nil, nil, code.ImageUnreadable.Errorf("header: %w", err)
	}
	if blank(b[:]) {
		return nil, nil, code.SlotEmpty.Errorf("there is no image")
	}
	if i.want.Product == "" { // of the bootloader, which comes first
		if h, err := image.Parse(&b); err == nil {
			i.want.Product = h.Product
		}
	}
	v, err := image.Open(io.MultiReader(bytes.NewReader(b[:]), r), image.Want{Where: name, Component: c, Product: i.want.Product, Floor: i.floor(c),
		Development: i.Anchors != nil && i.Anchors.Development, Authorities: authorities})
	if err != nil {
		return nil, nil, err
	}
	data := make([]byte, v.Length)
	return v, data, v.Load(data)
}

// floor is what applies to a component: the rollback floor is the controller's.
func (i *inspector) floor(c image.Component) uint32 {
	if c == image.Controller {
		return i.want.Floor
	}
	return 0
}

func describe(v *image.Image) string {
	return fmt.Sprintf("version %s, security version %d, %d bytes, sha256 %x, for %s%s", v.Version, v.SecurityVersion, v.Length, v.Digest, v.Product, development(v.Development))
}

func (i *inspector) bootloader() {
	const name = "bootloader"
	v, _, err := i.verified(name, image.Bootloader, i.anchored(), medium.BootloaderHeader, medium.Bootloader)
	if err != nil {
		i.bad(name, medium.Bootloader, err)
		return
	}
	i.Bootloader = v
	i.add(name, medium.Bootloader, OK, "%s", describe(v))
}

// anchored are the authorities of the anchor block.
func (i *inspector) anchored() []image.Authority {
	if i.Anchors == nil {
		return nil
	}
	return i.Anchors.Authorities
}

// known are those that may sign what runs.
func (i *inspector) known() []image.Authority {
	if i.Anchors != nil && i.Configuration != nil {
		return i.Configuration.Authorities(i.Anchors)
	}
	return i.anchored()
}

func (i *inspector) journal() {
	const name = "slot journal"
	j, err := journal.Open(i.d)
	if err != nil {
		i.bad(name, medium.Journal, err)
		return
	}
	i.Journal = j.State()
	if j.Revision() > 0 {
		s := i.Journal
		i.add(name, medium.Journal, OK, "revision %d, %v preferred; A: %s; B: %s", j.Revision(), s.Preferred, slot(s.Slots[0]), slot(s.Slots[1]))
		return
	}
	b, ok := i.read(name, medium.Journal, medium.Journal.Size)
	switch {
	case ok && blank(b):
		i.add(name, medium.Journal, Empty, "both slots count as unproven")
	case ok:
		i.bad(name, medium.Journal, errors.New("no record is valid: the board takes both slots as unproven; write the card again if it is new"))
	}
}

func slot(s journal.SlotState) string {
	if s.Status == journal.Empty {
		return s.Status.String()
	}
	text := fmt.Sprintf("%v, %d attempts", s.Status, s.Attempts)
	if s.Failure != code.None {
		text += fmt.Sprintf(", failed with %v", s.Failure)
	}
	return text
}

// configurations verifies each copy, and finds the one that counts.
func (i *inspector) configurations() {
	if i.Anchors != nil {
		if c, err := config.Read(i.d, config.Want{Product: i.want.Product, Anchors: i.Anchors, Epoch: i.want.Epoch}); err == nil {
			i.Configuration = c
		}
	}
	for n, p := range medium.Configurations {
		name := copyName("configuration", n)
		b, ok := i.read(name, p, p.Size)
		if !ok {
			continue
		}
		if i.Anchors == nil {
			i.bad(name, p, code.ReleaseKeyMissing.Errorf("there is no anchor block to verify it with"))
			continue
		}
		c, err := config.Verify(b, config.Want{Product: i.want.Product, Anchors: i.Anchors})
		if err == nil && c.Epoch < i.want.Epoch {
			err = code.ConfigurationOld.Errorf("epoch %d, and the board has had %d", c.Epoch, i.want.Epoch)
		}
		if err != nil {
			i.bad(name, p, err)
			continue
		}
		i.add(name, p, OK, "epoch %d, %d release authorities, %d CAs of operators, factory %v%s",
			c.Epoch, len(c.Release), len(c.Operators), c.Factory != nil, development(c.Development))
	}
}

func copyName(what string, n int) string { return fmt.Sprintf("%s, copy %d", what, n+1) }

// slotsAndSets verifies what is in the slots, and that each known-good set is its slot's.
func (i *inspector) slotsAndSets() {
	for n := range medium.Slots {
		s := journal.Slot(n)
		name := s.String()
		v, _, err := i.verified(name, image.Controller, i.known(), medium.Slots[n])
		if err == nil {
			i.Slots[n] = v
		}
		i.slotPart(name, medium.Slots[n], s, v, err)

		name = fmt.Sprintf("known-good set of %v", s)
		g, payload, err := i.verified(name, image.KnownGood, i.known(), medium.KnownGoodOf[n])
		if err == nil {
			if i.KnownGood[n], err = golden.DecodeRelease(payload); err != nil {
				err = code.KnownGoodBad.Errorf("%w", err)
			}
		}
		if err == nil && i.Slots[n] != nil && i.Bootloader != nil {
			if _, err = i.Values(s); err != nil {
				err = code.KnownGoodBad.Errorf("%w", err)
			}
		}
		i.slotPart(name, medium.KnownGoodOf[n], s, g, err)
	}
}

// slotPart adds a part that may be empty if the journal has the slot so.
func (i *inspector) slotPart(name string, p medium.Place, s journal.Slot, v *image.Image, err error) {
	switch {
	case code.Of(err) == code.SlotEmpty && i.Journal.Slots[s].Status == journal.Empty:
		i.add(name, p, Empty, "nothing")
	case err != nil:
		i.bad(name, p, err)
	default:
		i.add(name, p, OK, "%s", describe(v))
	}
}

func (i *inspector) boardParts() {
	for n, p := range medium.BoardParts {
		name := copyName("known-good set, board part", n)
		b, ok := i.read(name, p, p.Size)
		switch {
		case !ok:
		case blank(b):
			i.add(name, p, Empty, "not provisioned")
		case i.want.BoardKey == nil:
			i.add(name, p, Unverified, "its key is in the board's TPM: give its public half")
		default:
			board, revision, err := golden.OpenBoard(b, i.want.BoardKey)
			if err != nil {
				i.bad(name, p, code.KnownGoodBad.Errorf("%w", err))
				continue
			}
			i.Board = board
			i.add(name, p, OK, "revision %d, board %s %016x%s", revision, board.Board, board.UniqueID, development(board.Development))
		}
	}
}

// sealed reads both copies, and verifies the approvals of the one that counts for what is
// in the slots.
func (i *inspector) sealed() {
	var sets [medium.Copies]*seal.Set
	var bad [medium.Copies]error
	for n, p := range medium.SealedObjects {
		b := make([]byte, p.Size)
		if bad[n] = medium.ReadPlace(i.d, p, b); bad[n] != nil {
			continue
		}
		if sets[n], bad[n] = seal.Decode(b); bad[n] != nil {
			bad[n] = code.SealedObjectMissing.Errorf("%w", bad[n])
		} else if i.Set == nil || sets[n].Revision > i.Set.Revision {
			i.Set = sets[n]
		}
	}
	for n, p := range medium.SealedObjects {
		name, s, err := copyName("sealed objects", n), sets[n], bad[n]
		if err == nil && s.Revision == i.Set.Revision { // an older copy does not count
			err = i.approved(s)
		}
		if err != nil {
			i.bad(name, p, err)
			continue
		}
		objects := fmt.Sprintf("%d objects", len(s.Objects))
		if len(s.Objects) == 0 {
			objects = "no objects: not provisioned"
		}
		i.add(name, p, OK, "revision %d, %d approvals, %s", s.Revision, len(s.Approvals), objects)
	}
}

// approved tells whether a set has all approvals of what the slots will measure.
func (i *inspector) approved(set *seal.Set) error {
	if i.Configuration == nil {
		return code.ConfigurationMissing.Errorf("there is no configuration to verify the approvals with")
	}
	for n, s := range i.Slots {
		if s == nil {
			continue
		}
		values, err := i.Values(journal.Slot(n))
		if err != nil {
			return code.ApprovalMissing.Errorf("%v: %w", journal.Slot(n), err)
		}
		for _, k := range release.Kinds() {
			if err := release.Approved(set.Approvals, i.Configuration.Sealing(), k, values); err != nil {
				return code.ApprovalMissing.Errorf("%v: %w", journal.Slot(n), err)
			}
		}
	}
	return nil
}

func (i *inspector) quarantine() {
	i.opaque("quarantine's anchor block", medium.QuarantineAnchor, "nothing", "this tool does not know what it is")
}

func (i *inspector) store() {
	i.opaque("store", medium.Store, "not formatted", "encrypted: only its board reads it")
	i.add("volume pool", medium.Pool(i.Size), Unverified, "not looked at")
}
