// Package release is what a release of the firmware is made of, from the programs that
// the linker wrote to a folder that the factory writes cards of: docs/nitroctl.md has the
// folder's files, docs/medium.md and docs/attestation.md the formats in them.
//
//	keys, err := release.DevelopmentKeys() // or Load
//	bootloader, err := release.ReadPayload("build/bootloader.elf")
//	controller, err := release.ReadPayload("build/controller.elf")
//	r, err := release.Build(keys, release.Options{Product: "imx6ul-evk", Version: "1.0", ...})
//	err = r.Write("release-1.0")
//
// A release has the anchor block, the images of bootloader and controller, the known-good
// set that is computed from them, and for each value that a board's PCRs can have under it
// the approvals that its secrets unseal with. Nothing is captured from a board: who has
// the sources and the public keys computes the same.
//
// # Custody
//
// Three kinds of key sign a release: the release authority's two, and the two that approve
// sealing policies. They need not be in one place. [Build] signs the images and approves
// with what keys it has; [Release.Approve] adds the approvals of the others, later and
// elsewhere. [Release.Missing] says what lacks.
//
// # Reproducible
//
// The same programs, keys and options make the same bytes: the build time is an option,
// and the keys sign deterministically (see [Keys.Signer]).
//
// # What is left out
//
// The boot ROM's header and signature, which are the business of flash/; firmware of the
// host; encryption of keys at rest: a folder of keys is as safe as its disk.
package release

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"

	"nitro/attest/eventlog"
	"nitro/attest/golden"
	"nitro/attest/seal"
	"nitro/boot/bundle"
	"nitro/boot/image"
	"nitro/boot/medium"
)

// Options say what to build.
type Options struct {
	Product         string
	Version         string
	SecurityVersion uint32 // 0 to 64
	Built           uint64 // seconds since 1970: SOURCE_DATE_EPOCH

	Bootloader, Controller Payload

	// Anchors are those of the boards; nil means those that trust the keys alone.
	Anchors *medium.Anchors

	// Also are earlier releases whose anchor blocks and bootloaders boards may still have
	// when the controller of this one runs.
	Also []*Release
}

// An Image is one that is signed.
type Image struct {
	image.Header
	Bytes []byte // header and payload
}

// Payload is what is behind the header.
func (i *Image) Payload() []byte { return i.Bytes[image.HeaderSize:] }

// A Release is a whole release. All in it has been verified by the anchor block.
type Release struct {
	Anchors     *medium.Anchors
	AnchorBlock [medium.AnchorSize]byte // as it lies on the medium

	Bootloader, Controller, KnownGood Image

	Golden    *golden.Release // what KnownGood says
	Approvals []seal.Approval
}

// Build makes a release. Approvals are made by the sealing keys that are at hand.
func Build(k *Keys, o Options) (*Release, error) {
	r := &Release{Anchors: o.Anchors}
	if err := r.anchor(k); err != nil {
		return nil, err
	}
	s, err := k.ImageSigner(image.Release)
	if err != nil {
		return nil, err
	}
	head := image.Header{Version: o.Version, SecurityVersion: o.SecurityVersion, Product: o.Product, Built: o.Built, Development: k.development}
	if r.Bootloader, err = SignCode(head, image.Bootloader, o.Bootloader, s); err != nil {
		return nil, err
	}
	if r.Controller, err = SignCode(head, image.Controller, o.Controller, s); err != nil {
		return nil, err
	}
	if r.Golden, err = golden.Build(r.manifest(o.Also)); err != nil {
		return nil, err
	}
	payload, err := r.Golden.Encode()
	if err != nil {
		return nil, err
	}
	head.Component = image.KnownGood
	if r.KnownGood, err = Sign(head, payload, s); err != nil {
		return nil, err
	}
	if err := r.verify(); err != nil { // by the anchor block: it may be another's
		return nil, err
	}
	for _, kind := range kinds {
		if err := r.Approve(k, kind); err != nil && !errors.Is(err, ErrKeyMissing) {
			return nil, err
		}
	}
	return r, nil
}

// anchor makes the anchor block.
func (r *Release) anchor(k *Keys) (err error) {
	if r.Anchors == nil {
		if r.Anchors, err = k.Anchors(); err != nil {
			return err
		}
	}
	if k.development && !r.Anchors.Development {
		return errors.New("release: the keys are development keys, and the anchor block is one of production: no board would run what they sign: use its own keys")
	}
	b, err := r.Anchors.Encode()
	if err != nil {
		return fmt.Errorf("release: anchor block: %w", err)
	}
	r.AnchorBlock = *b
	return nil
}

// Sign signs a payload that is no code. Of the header it takes what image.Sign does.
func Sign(h image.Header, payload []byte, s image.Signer) (Image, error) {
	b, err := image.Sign(h, payload, s)
	if err != nil {
		return Image{}, fmt.Errorf("release: %v: %w", h.Component, err)
	}
	signed, err := image.Parse(b)
	if err != nil {
		return Image{}, fmt.Errorf("release: %v: %w", h.Component, err)
	}
	return Image{signed, append(b[:], payload...)}, nil
}

// SignCode signs a program for a component.
func SignCode(h image.Header, c image.Component, p Payload, s image.Signer) (Image, error) {
	h.Component, h.Load, h.Entry = c, p.Load, p.Entry
	if p.Load != c.Load() {
		return Image{}, fmt.Errorf("release: %v: the program is linked to begin at %#x, and must at %#x: link it as make all does", c, p.Load, c.Load())
	}
	return Sign(h, p.Bytes, s)
}

// component is what the known-good set says of an image.
func (i *Image) component() golden.Component {
	return golden.Component{Digest: i.Digest, Version: i.Version, SecurityVersion: i.SecurityVersion}
}

// authority is which keys signed an image.
func (i *Image) authority() golden.Authority {
	return golden.Authority{Ed25519: i.Ed25519Key, MLDSA65: i.MLDSA65Key}
}

// anchors are this release's, for the known-good set.
func (r *Release) anchors() golden.Anchors {
	return golden.Anchors{Digest: sha256.Sum256(r.AnchorBlock[:]), Development: r.Anchors.Development}
}

// manifest lists what the known-good set is computed from.
func (r *Release) manifest(also []*Release) golden.Manifest {
	m := golden.Manifest{Controller: r.Controller.component(), Authorities: []golden.Authority{r.Controller.authority()}}
	for _, from := range append([]*Release{r}, also...) {
		if a := from.anchors(); !slices.Contains(m.Anchors, a) {
			m.Anchors = append(m.Anchors, a)
		}
		if b := from.Bootloader.component(); !slices.Contains(m.Bootloaders, b) {
			m.Bootloaders = append(m.Bootloaders, b)
		}
	}
	return m
}

// verify verifies all images by the anchor block, and that the known-good set is theirs.
func (r *Release) verify() error {
	for _, i := range []struct {
		image     *Image
		component image.Component
	}{{&r.Bootloader, image.Bootloader}, {&r.Controller, image.Controller}, {&r.KnownGood, image.KnownGood}} {
		v, err := image.Open(bytes.NewReader(i.image.Bytes), image.Want{
			Where: i.component.String(), Component: i.component, Product: r.Controller.Product,
			Development: r.Anchors.Development, Authorities: r.Anchors.Authorities})
		if err != nil {
			return err
		}
		if n := uint64(len(i.image.Bytes)) - image.HeaderSize; n != v.Length {
			return fmt.Errorf("release: %v: %d bytes behind the header, which says %d: take the whole file", i.component, n, v.Length)
		}
		if err := v.Load(make([]byte, v.Length)); err != nil {
			return err
		}
	}
	if c, k := &r.Controller.Header, &r.KnownGood.Header; c.Version != k.Version || c.SecurityVersion != k.SecurityVersion || c.Development != k.Development {
		return fmt.Errorf("release: the known-good set is of version %s, the controller of %s: do not mix releases", k.Version, c.Version)
	}
	var err error
	if r.Golden, err = golden.DecodeRelease(r.KnownGood.Payload()); err != nil {
		return err
	}
	if _, err = r.Predict(r); err != nil {
		return fmt.Errorf("release: the known-good set is not that of these images: %w", err)
	}
	return nil
}

// Predict computes what PCR 0, 2 and 7 will be on a board that has anchor block and
// bootloader of another release (or of this one) and runs this one's controller. An error
// means that this release was not built for that.
func (r *Release) Predict(under *Release) (seal.Release, error) {
	if r.Controller.component() != r.Golden.Controller {
		return seal.Release{}, errors.New("release: the known-good set is for another controller: use the one of the same release")
	}
	v, err := r.Golden.Predict(under.anchors(), under.Bootloader.component(), r.Controller.authority())
	return sealed(v, r.Golden), err
}

func sealed(v golden.Values, g *golden.Release) seal.Release {
	return seal.Release{PCR0: v[0], PCR2: v[1], PCR7: v[2], SecurityVersion: g.Controller.SecurityVersion}
}

// A Prediction is one way in which a board may run the release.
type Prediction struct {
	Anchors    golden.Anchors
	Bootloader golden.Component
	Authority  golden.Authority
	Values     seal.Release // what its PCRs become
}

// Predictions are all ways in which boards may run a release.
func Predictions(g *golden.Release) (all []Prediction, err error) {
	for _, a := range g.Anchors {
		for _, b := range g.Bootloaders {
			for _, by := range g.Authorities {
				v, err := g.Predict(a, b, by)
				if err != nil {
					return nil, err
				}
				all = append(all, Prediction{a, b, by, sealed(v, g)})
			}
		}
	}
	return all, nil
}

// kinds are those of approvals, in the order of the medium's numbers.
var kinds = []seal.Kind{seal.P384, seal.RSA3072, seal.Canary}

// Kinds are the kinds of approvals that each prediction needs.
func Kinds() []seal.Kind { return slices.Clone(kinds) }

// keyOf is the key that makes the approvals of a kind.
func keyOf(k seal.Kind) Name {
	if k == seal.RSA3072 {
		return SealingRSA3072
	}
	return SealingP384
}

// maxPredictions bounds the ways in which a release may run: a card's set of sealed objects
// holds 48 approvals (docs/medium.md), three of each prediction, and must hold those of the
// releases in both slots.
const maxPredictions = 48 / 3 / 2

// Approve makes the approvals of a kind, one for each prediction. Earlier ones of the kind
// are replaced.
func (r *Release) Approve(k *Keys, kind seal.Kind) error {
	s, err := k.Signer(keyOf(kind))
	if err != nil {
		return err
	}
	if k.development && !r.Anchors.Development {
		return errors.New("release: development keys do not approve a production release: use the sealing authority's own")
	}
	all, err := Predictions(r.Golden)
	if err != nil {
		return err
	}
	if len(all) > maxPredictions {
		return fmt.Errorf("release: boards could run it in %d ways, and a card has room for the approvals of %d: leave out earlier releases", len(all), maxPredictions)
	}
	var approvals []seal.Approval
	for _, p := range all {
		a, err := seal.Approve(s, kind, p.Values)
		if err != nil {
			return err
		}
		if err := seal.VerifyApproval(s.Public(), a, p.Values); err != nil { // what a device signed
			return err
		}
		approvals = append(approvals, a)
	}
	r.Approvals = append(slices.DeleteFunc(r.Approvals, func(a seal.Approval) bool { return a.Kind == kind }), approvals...)
	slices.SortStableFunc(r.Approvals, func(a, b seal.Approval) int { return int(a.Kind) - int(b.Kind) })
	return nil
}

// Missing lists the kinds of which a prediction lacks an approval. Who signed those that
// are there it does not say: [Approved] does.
func (r *Release) Missing() (missing []seal.Kind, err error) {
	all, err := Predictions(r.Golden)
	if err != nil {
		return nil, err
	}
	for _, kind := range kinds {
		for _, p := range all {
			policy, err := p.Values.Policy(kind)
			if err != nil {
				return nil, err
			}
			if !slices.ContainsFunc(r.Approvals, func(a seal.Approval) bool { return a.Kind == kind && a.Policy == policy }) {
				missing = append(missing, kind)
				break
			}
		}
	}
	return missing, nil
}

// Bundle packs the release for boards that run: docs/update.md, "Bundle". All approvals
// have to be there.
func (r *Release) Bundle() ([]byte, error) {
	missing, err := r.Missing()
	if err != nil {
		return nil, err
	}
	if len(missing) > 0 {
		return nil, fmt.Errorf("release: approvals are missing: %v: have each sealing authority run nitroctl seal approve first", missing)
	}
	approvals, err := (&seal.Set{Revision: 1, Approvals: r.Approvals}).Encode()
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	err = bundle.Write(&b, r.KnownGood.Bytes, approvals, r.Controller.Bytes)
	return b.Bytes(), err
}

// Approved verifies that one of the approvals of a kind is by one of the authorities and
// for what a board's PCRs will be.
func Approved(approvals []seal.Approval, keys seal.Authorities, kind seal.Kind, values seal.Release) error {
	authorities := keys.P384
	if kind == seal.RSA3072 {
		authorities = keys.RSA3072
	}
	policy, err := values.Policy(kind)
	if err != nil {
		return err
	}
	var problems []error
	for _, a := range approvals {
		if a.Kind != kind || a.Policy != policy {
			continue
		}
		for _, key := range authorities {
			err := seal.VerifyApproval(key, a, values)
			if err == nil {
				return nil
			}
			problems = append(problems, err)
		}
	}
	if len(problems) == 0 {
		return fmt.Errorf("release: approval %v: %w", kind, seal.ErrNotApproved)
	}
	return errors.Join(problems...)
}

// digestOf is SHA-256.
func digestOf(b []byte) eventlog.Digest { return sha256.Sum256(b) }
