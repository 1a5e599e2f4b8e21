//go:build !arm

package chain_test

import (
	"bytes"
	"crypto/ecdsa"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"nitro/attest/eventlog"
	"nitro/attest/nv"
	"nitro/attest/provision"
	"nitro/attest/tpm"
	"nitro/boot/card"
	"nitro/boot/chain"
	"nitro/boot/code"
	"nitro/boot/handover"
	"nitro/boot/image"
	"nitro/boot/medium"
	"nitro/boot/medium/mediumtest"
	"nitro/boot/pin"
	"nitro/boot/release"
	"nitro/boot/release/releasetest"
	"nitro/internal/swtpm"
)

// A target is a board as an attacker has it: card and TPM are his to change between two
// boots, and the TPM's bus while one runs.
type target struct {
	*testing.T
	chip  *swtpm.TPM
	card  *mediumtest.Card
	self  []byte // bootloader's payload, as it lies in memory
	soc   [32]byte
	roots provision.Config // what its TPM is provisioned with
}

// program is a bootloader with ELF headers in its first page, as the linker writes it.
func program(text string) release.Payload {
	load := image.Bootloader.Load()
	file := releasetest.ELF(load+4096, releasetest.Segment{Addr: load, Data: make([]byte, 8192)})
	b := make([]byte, 8192)
	copy(b, file[:52+32])
	copy(b[4096:], text)
	return release.Payload{Load: load, Entry: load + 4096, Bytes: b}
}

// newTarget makes a board with a release in slot A, of which nobody has been provisioned.
func newTarget(t *testing.T, securityVersion uint32) *target {
	t.Helper()
	k := releasetest.Keys()
	o := releasetest.Options("1.0", securityVersion)
	o.Bootloader = program("bootloader")
	r, err := release.Build(k, o)
	must(t, err)
	c, err := k.Config(releasetest.Product, 2)
	must(t, err)
	configuration, err := k.SignConfig(c, releasetest.Built)
	must(t, err)
	b := &target{T: t, card: mediumtest.New(medium.MinSize / mediumtest.SectorSize), self: o.Bootloader.Bytes, soc: [32]byte{9}}
	must(t, card.Write(b.card, card.Content{Slots: [2]*release.Release{r}, Configuration: configuration}, nil))
	chip, roots := swtpm.Made(t)
	b.chip = chip
	owner := k.PublicKey(release.Owner).(*ecdsa.PublicKey)
	fill := func(v byte) []byte { return bytes.Repeat([]byte{v}, tpm.AuthSize) }
	b.roots = provision.Config{SoC: b.soc[:], Strength: provision.Own, Owner: fill(2), Endorsement: fill(3), Lockout: fill(4), OwnerKey: owner, Roots: roots}
	return b
}

func must(t testing.TB, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// provision provisions the TPM, and writes a pin for it beside a board part that nobody
// has signed: enough for what comes before the known-good set.
func (b *target) provision() {
	b.Helper()
	t, err := tpm.Start(b.chip)
	must(b.T, err)
	made, err := provision.Run(t, b.roots)
	must(b.T, err)
	envelope := binary.LittleEndian.AppendUint32([]byte("NCBOARD1\x00\x00\x00\x00"), 1)
	must(b.T, pin.Write(b.card, b.soc[:], pin.Pin{Storage: made.StorageName, AK: made.AKName, EK: made.EKName, BoardKey: made.BoardKeyName}, envelope))
	b.chip.Cycle()
}

// load runs the bootloader.
func (b *target) load() (*handover.Handover, error) {
	b.Helper()
	// The journal is nobody's secret: without one both slots have an attempt again.
	must(b.T, medium.WritePlace(b.card, medium.Journal, make([]byte, medium.Journal.Size)))
	memory := make([]byte, image.Controller.MaxLength())
	l := &chain.Loader{
		Product: releasetest.Product, UniqueID: 1, LifeCycle: eventlog.Closed, Secret: b.soc, Strength: handover.OwnSecret,
		OpenCard: func() (medium.Device, error) { return b.card, nil },
		OpenTPM:  func() (transport.TPM, error) { return b.chip, nil },
		Constants: func() (uint32, []byte) { // all but the first block and what does not fill one
			return image.Bootloader.Load() + 512, b.self[512 : len(b.self)&^511]
		},
		Place:  func(h image.Header) ([]byte, error) { return memory[:h.Length], nil },
		Stir:   func([]byte) error { return nil },
		Report: b.Logf,
	}
	for _, p := range l.Phases() {
		if err := p.Do(); err != nil {
			l.Rest(err)
			return nil, err
		}
	}
	_, h, err := l.Result()
	return h, err
}

// controller is what the bootloader's hand-over begins.
func (b *target) controller(h *handover.Handover) *chain.Controller {
	return &chain.Controller{Handover: h, Report: b.Logf,
		Machine: chain.Machine{Product: releasetest.Product, Card: b.card, TPM: b.chip}}
}

// boot goes from the power switch to what the controller says, with something done on the
// bus between its two halves.
func (b *target) boot(between func()) (*chain.Controller, error) {
	b.Helper()
	h, err := b.load()
	if err != nil {
		return nil, err
	}
	if between != nil {
		between()
	}
	c := b.controller(h)
	return c, c.Unlock()
}

// extend measures something that no log has, as anybody on the bus can.
func (b *target) extend() {
	b.Helper()
	_, err := tpm2.PCRExtend{
		PCRHandle: tpm2.AuthHandle{Handle: 6, Name: tpm2.HandleName(6), Auth: tpm2.PasswordAuth(nil)},
		Digests:   tpm2.TPMLDigestValues{Digests: []tpm2.TPMTHA{{HashAlg: tpm2.TPMAlgSHA256, Digest: make([]byte, 32)}}},
	}.Execute(b.chip)
	must(b.T, err)
}

// TestIncidents: what is latched outlasts the power, and each incident has a number that no
// earlier one had, however early in the boot it is found. Else an owner's ticket, which
// names board, code and number, would be good again: who has kept one brings the same
// incident about once more, and leaves.
func TestIncidents(t *testing.T) {
	b := newTarget(t, 3)
	b.provision()
	for i, c := range []struct {
		name           string
		before, within func() // the bootloader, between it and the controller
		code           code.Code
	}{
		{"measured behind the log", nil, b.extend, code.LogDoesNotReplay},
		{"again", nil, b.extend, code.LogDoesNotReplay},
		{"the TPM was reset alone", nil, b.chip.Reset, code.TPMSessionLost},
		{"and started again", nil, func() { b.chip.Reset(); b.startup() }, code.TPMSessionLost},
		{"started before the board", b.startup, nil, code.TPMNotFresh},
		{"another bootloader", func() { b.self[4096]++ }, nil, code.BootloaderDiffers},
	} {
		if c.before != nil {
			c.before()
		}
		if _, err := b.boot(c.within); code.Of(err) != c.code {
			t.Fatalf("%s: %v", c.name, err)
		}
		if c.code == code.BootloaderDiffers {
			b.self[4096]--
		}
		kept := b.attached().NV
		want := nv.Quarantine{Code: uint32(c.code), Incident: uint32(i + 1)}
		if got, err := kept.Latched(); err != nil || got != want {
			t.Fatalf("%s: latched %+v, not %+v: %v", c.name, got, want, err)
		}
		// The owner's ticket lets it out: what accept does.
		must(t, kept.SetLatch(nv.Quarantine{Incident: want.Incident}))
		b.chip.Cycle()
	}
}

// startup starts the TPM before the board does.
func (b *target) startup() {
	b.Helper()
	_, err := tpm2.Startup{StartupType: tpm2.TPMSUClear}.Execute(b.chip)
	must(b.T, err)
}

// attached is a controller in a boot of its own, in which nothing is wrong, with a session
// that is the test's.
func (b *target) attached() *chain.Controller {
	b.Helper()
	b.chip.Cycle()
	c, _ := b.boot(nil) // it ends at the board part, which is none
	if c == nil || c.NV == nil {
		b.Fatal("the board does not come to its session")
	}
	return &chain.Controller{NV: nv.New(c.T, c.Session, b.soc[:])}
}

// TestCutProvisioning: the power goes while a board is provisioned, when its TPM has keys and
// its card has no pin. The board boots, with the TPM's floor, and provisioning goes on.
func TestCutProvisioning(t *testing.T) {
	b := newTarget(t, 3)
	first, err := tpm.Start(b.chip)
	must(t, err)
	_, err = provision.Make(first, b.roots)
	must(t, err)
	b.chip.Cycle()
	c, err := b.boot(nil)
	must(t, err)
	if c.Provisioned {
		t.Fatal("a board without a pin counts as provisioned")
	}
	_, err = provision.Run(c.T, b.roots)
	must(t, err)
	b.chip.Cycle()
	// The floor rises above the card's controller; wiping the pin does not lower it.
	b.provision()
	must(t, b.attached().NV.RaiseFloor(4))
	b.chip.Cycle()
	b.wipePin()
	if _, err := b.load(); code.Of(err) != code.BelowFloor {
		t.Errorf("a wiped pin: %v", err)
	}
}

// TestForeign: a TPM of another board is told from a silent one.
func TestForeign(t *testing.T) {
	b := newTarget(t, 3)
	b.provision()
	b.soc[0]++
	b.wipePin()
	if _, err := b.load(); code.Of(err) != code.TPMForeign {
		t.Error(err)
	}
}

// TestHidden: somebody who wipes the pin and hides the TPM's keys has no older controller
// run, which he could break to learn the SoC's derived secret.
func TestHidden(t *testing.T) {
	b := newTarget(t, 3)
	b.provision()
	b.wipePin()
	old, err := release.Build(releasetest.Keys(), releasetest.Options("0.9", 2))
	must(t, err)
	must(t, medium.WritePlace(b.card, medium.Slots[0], old.Controller.Bytes))
	b.chip.Tap.Answer = func(command, answer []byte) []byte {
		if binary.BigEndian.Uint32(command[6:]) != uint32(tpm2.TPMCCReadPublic) {
			return answer
		}
		return binary.BigEndian.AppendUint32([]byte{0x80, 1, 0, 0, 0, 10}, uint32(tpm2.TPMRCHandle)+0x100)
	}
	if _, err := b.load(); code.Of(err) != code.BelowFloor {
		t.Error(err)
	}
}

func (b *target) wipePin() {
	b.Helper()
	for _, place := range medium.BoardParts {
		must(b.T, medium.WritePlace(b.card, place, make([]byte, place.Size)))
	}
}

// TestFloorOfNewBoard: a card that shows no image while a board is provisioned does not set
// the floor, which never falls again, to the highest there is.
func TestFloorOfNewBoard(t *testing.T) {
	b := newTarget(t, 3)
	c, err := b.boot(nil)
	must(t, err)
	must(t, medium.WritePlace(b.card, medium.Slots[0], make([]byte, image.HeaderSize)))
	if v := c.LowestSecurityVersion(); v != 3 {
		t.Errorf("the floor would be %d", v)
	}
}

// TestFloorOfShownImages: a card that shows a newer image in both slots once the board has
// booted does not raise the floor above what runs.
func TestFloorOfShownImages(t *testing.T) {
	b := newTarget(t, 3)
	b.provision()
	c, _ := b.boot(nil) // it ends at the board part
	newer, err := release.Build(releasetest.Keys(), releasetest.Options("2.0", 9))
	must(t, err)
	for _, slot := range medium.Slots {
		must(t, medium.WritePlace(b.card, slot, newer.Controller.Bytes))
	}
	s, err := c.Slots()
	must(t, err)
	must(t, s.Healthy())
	if s.Floor() != 0 {
		t.Errorf("the floor rises to %d", s.Floor())
	}
}

// TestRests: whatever ends a boot, and however early, PCR 7 is capped behind it and the SoC's
// secret is gone: the good measurements are in the TPM all the same.
func TestRests(t *testing.T) {
	other := errors.New("a reason of its own")
	for _, c := range []struct {
		name string
		do   func(b *target, c *chain.Controller) error
		code code.Code
	}{
		{"no hand-over", func(_ *target, c *chain.Controller) error { c.Handover = nil; return c.Unlock() }, code.HandoverDamaged},
		{"another count of resets", func(_ *target, c *chain.Controller) error { c.Handover.Resets++; return c.Unlock() }, code.TPMSessionLost},
		{"another board's pin", func(b *target, c *chain.Controller) error { c.Handover.Secret[0]++; return c.Unlock() }, code.BoardMismatch},
		{"a forged answer", func(b *target, c *chain.Controller) error {
			b.chip.Tap.Answer = func(command, answer []byte) []byte {
				if binary.BigEndian.Uint32(command[6:]) == uint32(tpm2.TPMCCNVRead) {
					answer[len(answer)-1] ^= 1
				}
				return answer
			}
			defer func() { b.chip.Tap.Answer = nil }()
			return c.Unlock()
		}, code.TPMSessionLost},
		{"a swallowed cap", func(b *target, c *chain.Controller) error {
			swallowed := false
			b.chip.Tap.Command = func(command []byte) []byte {
				if binary.BigEndian.Uint32(command[6:]) == uint32(tpm2.TPMCCPCRExtend) && !swallowed {
					swallowed = true
					return []byte{0x80, 1, 0, 0, 0, 10, 0, 0, 0, 0} // what no TPM knows
				}
				return command
			}
			defer func() { b.chip.Tap.Command = nil }()
			return c.Hold(other)
		}, code.None},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newTarget(t, 3)
			b.provision()
			h, err := b.load()
			must(t, err)
			log, err := eventlog.Parse(h.Log)
			must(t, err)
			board := b.controller(h)
			if err := c.do(b, board); code.Of(err) != c.code {
				t.Fatal(err)
			}
			r, err := tpm2.PCRRead{PCRSelectionIn: tpm.PCRSelection(7)}.Execute(b.chip)
			must(t, err)
			want := eventlog.Extend(log.Replay()[7], eventlog.Cap().Digest())
			if !bytes.Equal(r.PCRValues.Digests[0].Buffer, want[:]) {
				t.Error("PCR 7 is not capped")
			}
			if board.Handover != nil && board.Handover.Secret != [32]byte{} {
				t.Error("the SoC's secret is still there")
			}
		})
	}
}
