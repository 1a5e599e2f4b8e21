// Package golden is the known-good set: what the PCRs must have become when a board runs
// what it should (docs/medium.md, "Known-good set"), and the comparison with an event
// log, event by event, so that a refusal names the component, what was expected and what
// was measured.
//
// # Two parts
//
// The release part says what PCR 0, 2 and 7 must become. It is signed with the release
// (package image, component 4; this package sees the verified payload), and is computed
// from manifests: with reproducible builds anybody can compute it again. It is never
// captured from a running board, since what runs could then approve itself.
//
// The board part says what PCR 1 must become, and which keys the board's TPM has. It is
// captured at provisioning and signed by a key in the TPM, whose use the owner must
// approve each time (PolicySigned over nonce and cpHash): firmware that runs can sign
// nothing with it, neither for itself nor for a successor.
//
// # The host
//
// PCR 4 to 6 have the cycles of the host that the controller holds and releases. They only
// grow, so [CompareHost] goes through all of them and judges the last, by the firmware that
// the configuration's manifests allow.
//
// # Alternatives
//
// A release may run under more than one bootloader, anchor block or authority. Events of
// one name that follow each other in the set are alternatives: one of them has to be in
// the log.
package golden

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"nitro/attest/eventlog"
	"nitro/attest/ijson"
)

// Format is the version of both parts' format.
const Format = 1

// MaxSize is the longest payload of either part in bytes.
const MaxSize = 60 << 10

// maxAlternatives bounds the alternatives of one event.
const maxAlternatives = 8

// ReleasePCRs are those that the release part speaks of, and that secrets are sealed to.
var ReleasePCRs = [3]int{0, 2, 7}

// Values are those of ReleasePCRs, in their order.
type Values [3]eventlog.Digest

// A Component is code, as its manifest and its image's header have it.
type Component struct {
	Digest          eventlog.Digest // SHA-256 of the payload
	Version         string
	SecurityVersion uint32
}

// Anchors is an anchor block.
type Anchors struct {
	Digest      eventlog.Digest // SHA-256 of the block
	Development bool
}

// An Authority is a pair of keys, by their SHA-256.
type Authority struct{ Ed25519, MLDSA65 eventlog.Digest }

// A Manifest is what a release is made of: all that its known-good set is computed from.
type Manifest struct {
	Anchors     []Anchors   // that boards have
	Bootloaders []Component // under which the release may run
	Controller  Component
	Authorities []Authority // that sign the controller
}

// A Release is the release part.
type Release struct {
	Manifest
	events []eventlog.Event
}

// Build computes the release part.
func Build(m Manifest) (*Release, error) {
	r := &Release{Manifest: m}
	for _, n := range []int{len(m.Anchors), len(m.Bootloaders), len(m.Authorities)} {
		if n < 1 || n > maxAlternatives {
			return nil, fmt.Errorf("golden: %d anchor blocks, bootloaders or authorities, not 1 to %d", n, maxAlternatives)
		}
	}
	for _, a := range m.Anchors {
		r.events = append(r.events, eventlog.Anchors(a.Digest, a.Development))
	}
	for _, b := range m.Bootloaders {
		r.events = append(r.events, eventlog.Bootloader(b.Digest, b.Version, b.SecurityVersion))
	}
	c := m.Controller
	r.events = append(r.events, eventlog.Controller(c.Digest, c.Version, c.SecurityVersion))
	for _, a := range m.Authorities {
		r.events = append(r.events, eventlog.Authority(a.Ed25519, a.MLDSA65))
	}
	r.events = append(r.events, eventlog.SecurityVersion(c.SecurityVersion))
	log := eventlog.New()
	for i, e := range r.events {
		if err := log.Append(e); err != nil { // it checks what a version may be
			return nil, fmt.Errorf("golden: %w", err)
		}
		if slices.Contains(r.events[:i], e) {
			return nil, fmt.Errorf("golden: %q comes twice", e.Text)
		}
	}
	return r, nil
}

// Events are those of the set, in the order in which a boot measures. Alternatives follow
// each other.
func (r *Release) Events() []eventlog.Event { return slices.Clone(r.events) }

// Predict computes what ReleasePCRs will be, before the cap, if the boot measures these
// of the alternatives. The board does so for a slot that it is about to make active: if
// the store does not unseal under these values, it stays with what it has.
func (r *Release) Predict(a Anchors, bootloader Component, by Authority) (v Values, err error) {
	if !slices.Contains(r.Anchors, a) || !slices.Contains(r.Bootloaders, bootloader) || !slices.Contains(r.Authorities, by) {
		return v, errors.New("golden: the release is not meant to run under this anchor block, bootloader and authority")
	}
	one, err := Build(Manifest{[]Anchors{a}, []Component{bootloader}, r.Controller, []Authority{by}})
	if err != nil {
		return v, err
	}
	for _, e := range one.events {
		i := slices.Index(ReleasePCRs[:], e.PCR)
		v[i] = eventlog.Extend(v[i], e.Digest())
	}
	return v, nil
}

// releaseWire is the payload of docs/medium.md.
type releaseWire struct {
	Format          int         `json:"format"`
	Version         string      `json:"version"`
	SecurityVersion uint32      `json:"security_version"`
	Bootloader      []string    `json:"bootloader"`
	Controller      string      `json:"controller"`
	Authorities     []keysWire  `json:"authorities"`
	Events          []eventWire `json:"events"`
}

type keysWire struct {
	Ed25519 string `json:"ed25519"`
	MLDSA65 string `json:"mldsa65"`
}

type eventWire struct {
	PCR         int    `json:"pcr"`
	Type        uint32 `json:"type"`
	Digest      string `json:"digest"`
	Description string `json:"description"` // the event's text
}

var limit = ijson.Limit{Size: MaxSize, Depth: 3}

// Encode makes the payload. Of one release there is one encoding only.
func (r *Release) Encode() ([]byte, error) {
	w := releaseWire{Format: Format, Version: r.Controller.Version, SecurityVersion: r.Controller.SecurityVersion,
		Controller: hex.EncodeToString(r.Controller.Digest[:]), Events: toWire(r.events)}
	for _, b := range r.Bootloaders {
		w.Bootloader = append(w.Bootloader, hex.EncodeToString(b.Digest[:]))
	}
	for _, a := range r.Authorities {
		w.Authorities = append(w.Authorities, keysWire{hex.EncodeToString(a.Ed25519[:]), hex.EncodeToString(a.MLDSA65[:])})
	}
	return encode(w)
}

func encode(w any) ([]byte, error) {
	b, err := json.Marshal(w)
	if err != nil {
		return nil, fmt.Errorf("golden: %w", err)
	}
	if len(b) > MaxSize {
		return nil, fmt.Errorf("golden: %d bytes, at most %d", len(b), MaxSize)
	}
	return b, nil
}

func toWire(events []eventlog.Event) (w []eventWire) {
	for _, e := range events {
		digest := e.Digest()
		w = append(w, eventWire{e.PCR, uint32(e.Type), hex.EncodeToString(digest[:]), e.Text})
	}
	return w
}

// fromWire reads events. Each one must be what a constructor of package eventlog makes,
// and have the digest of its own text.
func fromWire(w []eventWire) (events []eventlog.Event, err error) {
	log := eventlog.New()
	for _, x := range w {
		e := eventlog.Event{PCR: x.PCR, Type: eventlog.Type(x.Type), Text: x.Description}
		if err := log.Append(e); err != nil {
			return nil, err
		}
		if digest := e.Digest(); hex.EncodeToString(digest[:]) != x.Digest {
			return nil, fmt.Errorf("%q has digest %x, the set says %q", e.Text, digest, x.Digest)
		}
	}
	return log.Events(), nil
}

// DecodeRelease reads a payload that was verified (package image). What it says twice
// must agree: it must be what [Build] and [Release.Encode] make of its events.
func DecodeRelease(payload []byte) (*Release, error) {
	var w releaseWire
	if err := ijson.Decode(payload, limit, &w); err != nil {
		return nil, fmt.Errorf("golden: release part: %w", err)
	}
	if w.Format != Format {
		return nil, fmt.Errorf("golden: release part: format %d, not %d", w.Format, Format)
	}
	events, err := fromWire(w.Events)
	if err != nil {
		return nil, fmt.Errorf("golden: release part: %w", err)
	}
	r, err := Build(manifest(events))
	if err != nil {
		return nil, err
	}
	again, err := r.Encode()
	if err != nil {
		return nil, err
	}
	var same releaseWire
	if err := json.Unmarshal(again, &same); err != nil {
		return nil, fmt.Errorf("golden: release part: %w", err)
	}
	if !slices.Equal(same.Events, w.Events) {
		return nil, errors.New("golden: release part: its events are not those of a boot, in order")
	}
	if same.Version != w.Version || same.SecurityVersion != w.SecurityVersion || same.Controller != w.Controller ||
		!slices.Equal(same.Bootloader, w.Bootloader) || !slices.Equal(same.Authorities, w.Authorities) {
		return nil, errors.New("golden: release part: version, digests or authorities do not agree with its events")
	}
	return r, nil
}

// manifest reads from events what they measure.
func manifest(events []eventlog.Event) (m Manifest) {
	for _, e := range events {
		switch e.Name() {
		case "anchors":
			m.Anchors = append(m.Anchors, AnchorsOf(e))
		case "bootloader":
			m.Bootloaders = append(m.Bootloaders, ComponentOf(e))
		case "controller":
			m.Controller = ComponentOf(e)
		case "authority":
			m.Authorities = append(m.Authorities, AuthorityOf(e))
		}
	}
	return m
}

// AnchorsOf reads what an event "anchors" measures.
func AnchorsOf(e eventlog.Event) Anchors {
	return Anchors{digest(e, "sha256"), e.Value("development") == "1"}
}

// AuthorityOf reads what an event "authority" measures.
func AuthorityOf(e eventlog.Event) Authority {
	return Authority{digest(e, "ed25519"), digest(e, "mldsa65")}
}

// ComponentOf reads what an event "bootloader" or "controller" measures.
func ComponentOf(e eventlog.Event) Component {
	var v uint32
	fmt.Sscan(e.Value("security-version"), &v) // the event's own check had it a number
	return Component{digest(e, "sha256"), e.Value("version"), v}
}

// digest is a value of an event; its own check had it 64 hexadecimal digits.
func digest(e eventlog.Event, key string) (d eventlog.Digest) {
	b, err := hex.DecodeString(e.Value(key))
	if err == nil {
		copy(d[:], b)
	}
	return d
}
