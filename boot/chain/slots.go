package chain

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strconv"

	"nitro/attest/eventlog"
	"nitro/attest/golden"
	"nitro/attest/seal"
	"nitro/boot/code"
	"nitro/boot/decide"
	"nitro/boot/image"
	"nitro/boot/journal"
	"nitro/boot/medium"
)

// Slots are the two slots while a controller runs: it says that it is healthy, and asks
// for updates and rollbacks. What may be done decide.Step says. It is for one goroutine.
type Slots struct {
	c       *Controller
	journal *journal.Journal
	state   decide.State
}

// Slots opens the journal. The controller is one that Unlock has been through.
func (c *Controller) Slots() (*Slots, error) {
	j, err := journal.Open(c.Card)
	if err != nil {
		return nil, coded(fmt.Errorf("slots: %w", err), nil, code.JournalUnwritable)
	}
	s := &Slots{c: c, journal: j, state: decide.State{Phase: decide.Running, Journal: j.State(), Slot: c.Handover.Slot, Floor: c.Floor}}
	return s, nil
}

// State is what the journal says.
func (s *Slots) State() journal.State { return s.state.Journal }

// Floor is the rollback floor.
func (s *Slots) Floor() uint32 { return s.state.Floor }

// step decides, and does what is decided up to what is the caller's to do.
func (s *Slots) step(e decide.Event) (decide.Action, error) {
	var a decide.Action
	for {
		s.state, a = decide.Step(s.state, e)
		switch a.Do {
		case decide.Write:
			e = decide.Written{}
			if err := s.journal.Write(a.Record); err != nil {
				s.c.report("%v", err)
				e = decide.WriteFailed{}
			}
		case decide.Raise:
			e = decide.Raised{Floor: s.raise(a.Floor)}
		case decide.Refuse:
			return a, a.Code.Errorf("slots: refused in %v", s.state.Slot)
		default:
			return a, nil
		}
	}
}

// raise raises the TPM's floor, and gives what it is then.
func (s *Slots) raise(floor uint32) uint32 {
	s.c.Bus.Lock()
	defer s.c.Bus.Unlock()
	if err := s.c.NV.RaiseFloor(floor); err != nil {
		s.c.report("the rollback floor stays at %d: %v", s.state.Floor, err)
		return s.state.Floor
	}
	s.c.report("the rollback floor is %d now", floor)
	return floor
}

// Healthy reports that the controller has opened its store and serves: its slot is proven
// and preferred, and the floor rises as far as both slots satisfy. Both are verified for
// that, which takes as long as a boot does. The card may answer otherwise than when it was
// booted from: if its slot does not hold what runs the floor stays, or a newer image that
// is shown in both slots would raise it above all that this board has approvals for.
func (s *Slots) Healthy() error {
	var e decide.Healthy
	for slot := range e.Slots {
		e.Slots[slot] = s.verdict(journal.Slot(slot))
	}
	own := &e.Slots[s.state.Slot]
	if _, digest := s.c.running(); own.Code == code.None && hex.EncodeToString(own.Digest[:]) != digest {
		own.Code = code.ImageDigest
	}
	_, err := s.step(e)
	return err
}

// Held reports that the controller is in quarantine: if the other slot would be too, the
// attempt is given back.
func (s *Slots) Held(k code.Code) error {
	_, err := s.step(decide.Held{Code: k})
	return err
}

// Again tells whether another boot by itself may do better than this one, which is in
// quarantine for a transient reason: this slot has an attempt left, or the other one has.
func (s *Slots) Again() bool {
	for _, slot := range s.state.Journal.Slots {
		if (slot.Status == journal.Proven || slot.Status == journal.Unproven) && slot.Attempts > 0 {
			return true
		}
	}
	return false
}

// SlotImage is what is in a slot: its header has been verified as a bootloader does it, its
// payload has not been read. It is for boards with a configuration.
func (c *Controller) SlotImage(slot journal.Slot) (*image.Image, error) {
	s := &Slots{c: c}
	want := s.want()
	want.Floor = c.Floor
	return openSlot(c.Card, slot, want)
}

// want is what the next bootloader will accept in a slot.
func (s *Slots) want() image.Want {
	return image.Want{
		Component: image.Controller, Product: s.c.Product, Development: s.c.Anchors.Development,
		Floor: s.state.Floor, Authorities: s.c.Configuration().Authorities(s.c.Anchors),
	}
}

// verdict verifies a slot as a bootloader does.
func (s *Slots) verdict(slot journal.Slot) decide.Verdict {
	i, err := openSlot(s.c.Card, slot, s.want())
	if err == nil {
		err = i.Check()
	}
	if err != nil {
		return decide.Verdict{Code: code.Of(err)}
	}
	return decide.Verdict{SecurityVersion: i.SecurityVersion, Digest: i.Digest}
}

// candidate is what is known of the other slot: its verdict, and whether the store will
// open under it.
func (s *Slots) candidate() decide.Candidate {
	other := s.state.Slot.Other()
	c := decide.Candidate{Verdict: s.verdict(other)}
	if c.Code != code.None {
		return c
	}
	if err := s.unseals(other); err != nil {
		s.c.report("%v: the store would not open under it: %v", other, err)
		return c
	}
	c.Unseals = true
	return c
}

// unseals predicts whether a slot's boot will unseal: its measurements follow from its
// release's known-good set and from what this boot measured, and each authority has to
// have approved them. It answers the update that locks the owner out.
func (s *Slots) unseals(slot journal.Slot) error {
	i, err := openSlot(s.c.Card, slot, s.want())
	if err != nil {
		return err
	}
	r, err := readRelease(s.c.Card, slot, s.want())
	if err != nil {
		return err
	}
	if r.Controller.Digest != i.Digest {
		return errors.New("its known-good set is another release's")
	}
	predicted, err := s.predict(r, i)
	if err != nil {
		return err
	}
	set, err := readSet(s.c.Card) // with the approvals that came with the update
	if err != nil {
		return err
	}
	return set.Covers(s.c.Configuration().Sealing(), predicted, s.c.Board.PCR1)
}

// predict computes what a release will measure under this board's anchors and bootloader;
// i is its controller.
func (s *Slots) predict(r *golden.Release, i *image.Image) (seal.Release, error) {
	var anchors golden.Anchors
	var bootloader golden.Component
	for _, e := range s.c.events() {
		switch e.Name() {
		case "anchors":
			anchors = golden.AnchorsOf(e)
		case "bootloader":
			bootloader = golden.ComponentOf(e)
		}
	}
	v, err := r.Predict(anchors, bootloader, golden.Authority{Ed25519: i.Ed25519Key, MLDSA65: i.MLDSA65Key})
	if err != nil {
		return seal.Release{}, err
	}
	return seal.Release{PCR0: v[0], PCR2: v[1], PCR7: v[2], SecurityVersion: r.Controller.SecurityVersion}, nil
}

// Clear lets the other slot be overwritten, if this one is sure to be there. The caller
// then writes slot, known-good set and approvals, and calls Activate.
func (s *Slots) Clear() (journal.Slot, error) {
	a, err := s.step(decide.ClearAsked{})
	return a.Slot, err
}

// Activate makes the other slot, which was cleared and written, the one that boots next.
func (s *Slots) Activate() error {
	_, err := s.step(decide.Updated{Candidate: s.candidate()})
	return err
}

// Rollback makes the other slot the one that boots next, as it is.
func (s *Slots) Rollback() error {
	_, err := s.step(decide.RollbackAsked{Candidate: s.candidate()})
	return err
}

// LowestSecurityVersion is that of what runs, or of an image on the card which may run and
// has a lower one: what the rollback floor of a new board can be. A floor never falls, so
// it must not be what a card that cannot be read leaves open.
func (c *Controller) LowestSecurityVersion() uint32 {
	s := &Slots{c: c}
	lowest, _ := c.running()
	for slot := range medium.Slots {
		if v := s.verdict(journal.Slot(slot)); v.Code == code.None {
			lowest = min(lowest, v.SecurityVersion)
		}
	}
	return lowest
}

// events are those of the log so far: others measure meanwhile.
func (c *Controller) events() []eventlog.Event {
	c.Bus.Lock()
	defer c.Bus.Unlock()
	return c.Log.Events()
}

// running is what runs, as the bootloader has measured it.
func (c *Controller) running() (securityVersion uint32, digest string) {
	for _, e := range c.events() {
		if e.Name() == "controller" {
			v, _ := strconv.ParseUint(e.Value("security-version"), 10, 32) // the log has made sure of it
			securityVersion, digest = uint32(v), e.Value("sha256")
		}
	}
	return securityVersion, digest
}

// CheckSeal proves that the next boot of what runs will unseal: the canary opens, and the
// TPM takes both secrets' objects and approvals.
func (c *Controller) CheckSeal() error {
	c.Bus.Lock()
	defer c.Bus.Unlock()
	err := c.Door().Check(c.set, c.Configuration().Sealing(), c.uncapped)
	return coded(err, sealCodes, code.UnsealRefused)
}

// BindIdentity measures the hashes of this boot's TLS and key-wrapping public keys, so
// that any quote of this boot binds them.
func (c *Controller) BindIdentity(tls, wrap [sha256.Size]byte) error {
	c.Bus.Lock()
	defer c.Bus.Unlock()
	if err := c.Log.Measure(extender{c.T, c.Session}, eventlog.Identity(tls, wrap)); err != nil {
		return tpmCoded(fmt.Errorf("identity: %w", err))
	}
	return nil
}

// readRelease verifies the release part of a slot's known-good set.
func readRelease(d medium.Device, slot journal.Slot, want image.Want) (*golden.Release, error) {
	want.Where, want.Floor = "known-good set of "+slot.String(), 0 // the controller's own header has to satisfy it
	r, err := medium.NewReader(d, medium.KnownGoodOf[slot])
	if err != nil {
		return nil, code.KnownGoodMissing.Errorf("unlock: %s: %w", want.Where, err)
	}
	release, _, err := openRelease(r, want)
	return release, err
}

// openRelease verifies a release part, and gives its length with the header too.
func openRelease(r io.Reader, want image.Want) (*golden.Release, int64, error) {
	want.Component = image.KnownGood
	i, err := image.Open(r, want)
	switch code.Of(err) {
	case code.None:
	case code.ImageMalformed: // nothing was ever written there
		return nil, 0, code.KnownGoodMissing.Errorf("unlock: %w", err)
	default:
		return nil, 0, code.KnownGoodBad.Errorf("unlock: %w", err)
	}
	payload := make([]byte, i.Length)
	if err := i.Load(payload); err != nil {
		return nil, 0, code.KnownGoodBad.Errorf("unlock: %w", err)
	}
	release, err := golden.DecodeRelease(payload)
	if err != nil {
		return nil, 0, code.KnownGoodBad.Errorf("unlock: %s: %w", want.Where, err)
	}
	return release, image.HeaderSize + int64(i.Length), nil
}

// Stand has the journal know how this boot went, once the controller serves: why is what
// Unlock said, or what has put the board into quarantine since. It tells whether the
// controller is to restart by itself, since another attempt may do better. The slots come
// back for what is asked later; they are nil where nobody knows what slots may hold.
func (c *Controller) Stand(why error) (s *Slots, again bool, err error) {
	if c.Card == nil || c.Handover == nil || c.Anchors == nil || c.Config == nil {
		return nil, false, nil
	}
	if s, err = c.Slots(); err != nil {
		return nil, false, err
	}
	k := code.Of(why)
	switch {
	case why != nil:
	case !c.Provisioned:
		k = code.NotProvisioned
	default:
		return s, false, s.Healthy()
	}
	err = s.Held(k)
	return s, k.Class() == code.Transient && s.Again(), err
}
