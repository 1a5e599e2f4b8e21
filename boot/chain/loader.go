package chain

import (
	"bytes"
	"crypto/hkdf"
	"crypto/sha256"
	"fmt"
	"io"
	"slices"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"nitro/attest/eventlog"
	"nitro/attest/identity"
	"nitro/attest/nv"
	"nitro/attest/tpm"
	"nitro/boot/code"
	"nitro/boot/config"
	"nitro/boot/decide"
	"nitro/boot/handover"
	"nitro/boot/image"
	"nitro/boot/journal"
	"nitro/boot/medium"
	"nitro/boot/pin"
)

// A Loader is the bootloader's work. Its fields are what the board gives; Phases are the
// work itself.
type Loader struct {
	Product   string
	UniqueID  uint64
	LifeCycle eventlog.LifeCycle
	Secret    [32]byte // derived from the SoC's
	Strength  handover.Strength

	OpenCard func() (medium.Device, error)
	OpenTPM  func() (transport.TPM, error)
	// Constants gives what of the running bootloader's payload lies in memory and never
	// changes: one run of bytes, in whole blocks of the card, and the address of its first.
	Constants func() (addr uint32, memory []byte)
	// Place gives the memory where a controller's payload is loaded and run.
	Place func(h image.Header) ([]byte, error)
	// Random is the SoC's own source of random numbers; nil where there is none.
	Random io.Reader
	// Stir seeds the generator that crypto/rand draws from.
	Stir func(entropy []byte) error
	// Report is told what is decided and what fails on the way; it may be nil.
	Report func(format string, args ...any)

	card    medium.Device
	anchors *medium.Anchors
	block   *[medium.AnchorSize]byte
	self    image.Header

	log     *eventlog.Log
	tpm     *tpm.TPM
	session *tpm.Session // bound to the attestation key; nil where the TPM has none

	floor       uint32
	epoch       uint64
	authorities []image.Authority

	state  decide.State
	header image.Header // of the controller that was loaded
	by     image.Authority
	failed code.Code // of the slot that was tried first and does not run
}

// A Phase is a part of the bootloader's work, with a limited amount of it.
type Phase struct {
	Name string
	Do   func() error
}

// Phases are the bootloader's work in order. An error has a code: the board then rests in
// quarantine, holding all, until its power is switched off. After the last one Result
// says what to start.
func (l *Loader) Phases() []Phase {
	return []Phase{
		{"anchors", l.readAnchors},
		{"own image", l.identifyOwn},
		{"tpm", l.startTPM},
		{"measure", l.measureBoot},
		{"random numbers", l.stir},
		{"session", l.openSession},
		{"configuration", l.readConfiguration},
		{"slot", l.chooseSlot},
		{"measure slot", l.measureSlot},
	}
}

// Result is what the bootloader starts, and what it hands over. Executed and Elapsed are
// the caller's to fill in.
func (l *Loader) Result() (image.Header, *handover.Handover, error) {
	seed, err := l.entropy(l.session, "nitro controller seed v1")
	if err != nil {
		return image.Header{}, nil, err
	}
	defer clear(seed)
	if l.session != nil {
		if err := l.session.Close(); err != nil {
			return image.Header{}, nil, tpmCoded(err)
		}
	}
	h := &handover.Handover{
		Slot: l.state.Slot, Attempt: uint32(l.attempts()), Other: l.failed,
		Strength: l.Strength, Secret: l.Secret, Seed: [seedSize]byte(seed), Resets: l.tpm.Resets(), Log: l.log.Bytes(),
	}
	clear(l.Secret[:])
	return l.header, h, nil
}

func (l *Loader) report(format string, args ...any) {
	if l.Report != nil {
		l.Report(format, args...)
	}
}

// readAnchors reads the root of trust.
func (l *Loader) readAnchors() (err error) {
	if l.card, err = l.OpenCard(); err != nil {
		return code.ImageUnreadable.Errorf("boot: card: %w", err)
	}
	if l.anchors, l.block, err = medium.ReadAnchors(l.card); err != nil {
		return coded(fmt.Errorf("boot: anchor block: %w", err), nil, code.AnchorBlock)
	}
	if l.anchors.Development {
		l.report("this is a development board: its keys are known to developers")
	}
	return nil
}

// identifyOwn finds out what the bootloader is that runs: its code and constants are
// hashed where they lie in memory, what else its image has (file headers, and variables as
// they were at first) on the card, and all must be what the release authority has signed.
// It answers who has something else loaded, by a debugger or by the boot ROM's serial
// download, and wants the card's measured; and it reads little of the card, which is slow.
func (l *Loader) identifyOwn() error {
	r, err := l.ownImage()
	if err != nil {
		return code.ImageUnreadable.Errorf("boot: bootloader: %w", err)
	}
	i, err := image.Open(r, image.Want{
		Where: "bootloader", Component: image.Bootloader, Product: l.Product,
		Development: l.anchors.Development, Authorities: l.anchors.Authorities,
	})
	if err != nil {
		return err
	}
	l.self = i.Header
	if err := i.Check(); code.Of(err) == code.ImageDigest {
		return code.BootloaderDiffers.Errorf("boot: what runs is not the bootloader of version %s: %w", i.Version, err)
	} else if err != nil {
		return err
	}
	return nil
}

// ownImage reads header and payload of the bootloader's image: of the payload from memory
// what does not change, and the rest from the card.
func (l *Loader) ownImage() (io.Reader, error) {
	addr, memory := l.Constants()
	load := image.Bootloader.Load()
	before := int64(addr) - int64(load)
	behind := medium.Place{Offset: medium.Bootloader.Offset + before + int64(len(memory)), Size: medium.Bootloader.Size - before - int64(len(memory))}
	if before < 0 || behind.Size < 0 {
		return nil, fmt.Errorf("%d bytes at %#x are not in an image at %#x", len(memory), addr, load)
	}
	var parts []io.Reader
	for _, p := range []medium.Place{medium.BootloaderHeader, {Offset: medium.Bootloader.Offset, Size: before}, behind} {
		r, err := medium.NewReader(l.card, p)
		if err != nil {
			return nil, err
		}
		parts = append(parts, r)
	}
	return io.MultiReader(parts[0], parts[1], bytes.NewReader(memory), parts[2]), nil
}

// startTPM begins the boot with the TPM.
func (l *Loader) startTPM() error {
	bus, err := l.OpenTPM()
	if err != nil {
		return coded(fmt.Errorf("boot: TPM: %w", err), tpmCodes, code.TPMAbsent)
	}
	l.log = eventlog.New()
	if l.tpm, err = tpm.Start(bus); err != nil {
		return tpmCoded(fmt.Errorf("boot: %w", err))
	}
	return nil
}

// measureBoot measures what the boot stands on. No session protects it: the key that
// would salt one has not been authenticated. Who swallows an extend here leaves the PCR
// without it, and nothing unseals.
func (l *Loader) measureBoot() error {
	secret, err := socSecret(l.Strength)
	if err != nil {
		return code.SecretUnavailable.Errorf("boot: %w", err)
	}
	return l.measure(
		eventlog.Anchors(sha256.Sum256(l.block[:]), l.anchors.Development),
		eventlog.Bootloader(l.self.Digest, l.self.Version, l.self.SecurityVersion),
		eventlog.Board(l.Product, l.UniqueID, l.LifeCycle, secret),
	)
}

// measure measures events, in the session once there is one.
func (l *Loader) measure(events ...eventlog.Event) error {
	for _, e := range events {
		if err := l.log.Measure(extender{l.tpm, l.session}, e); err != nil {
			return tpmCoded(fmt.Errorf("boot: measuring %s: %w", e.Name(), err))
		}
	}
	return nil
}

// An extender extends PCRs in a session, which may be nil.
type extender struct {
	t *tpm.TPM
	s *tpm.Session
}

func (x extender) Extend(pcr int, d eventlog.Digest) error { return x.t.Extend(x.s, uint(pcr), d) }

// openSession finds out whose TPM it is, and reads what it keeps.
func (l *Loader) openSession() error {
	p, err := readPin(l.card, l.Secret[:])
	if err != nil {
		return err
	}
	otherwise := code.TPMUnanswered
	if p == nil {
		if p, err = unpinned(l.tpm); err != nil {
			return err
		}
		if p == nil {
			// A new board, or one whose TPM somebody hides. An old controller would be
			// handed the SoC's secret all the same, so none is older than this image.
			l.floor = l.self.SecurityVersion
			return nil
		}
		otherwise = code.TPMForeign // it does not take what the SoC's secret makes
	}
	s, _, err := openSession(l.tpm, p, l.Secret[:])
	if err != nil {
		return err
	}
	n := nv.New(l.tpm, s, l.Secret[:])
	floor, err := n.SecurityVersion()
	if err == nil {
		l.epoch, err = n.Epoch()
	}
	if err == nil {
		err = l.tpm.ForgetPlatform(s)
	}
	if err != nil {
		return coded(fmt.Errorf("boot: %w", err), tpmCodes, otherwise)
	}
	l.session, l.floor = s, floor
	return nil
}

// readPin reads the pin. It is nil, without an error, on a board that is not provisioned.
func readPin(d medium.Device, soc []byte) (*pin.Pin, error) {
	p, _, err := pin.Read(d, soc)
	switch code.Of(err) {
	case code.None:
		return &p, nil
	case code.NotProvisioned:
		return nil, nil
	}
	return nil, err
}

// unpinned are the keys of a TPM that provisioning has begun with, or had done with when
// the card was still another: the card has no pin. It is nil if there are none. Nobody
// vouches for the storage primary then, so who offers his own knows the session's salt;
// the AK's authorisation, which comes from the SoC's secret, he does not, and without that
// he neither feigns floor and epoch nor reads along.
func unpinned(t *tpm.TPM) (*pin.Pin, error) {
	p := &pin.Pin{}
	for _, k := range []struct {
		handle tpm2.TPMHandle
		name   *[]byte
	}{{tpm.AKHandle, &p.AK}, {tpm.StorageHandle, &p.Storage}} {
		public, err := t.ReadPublic(k.handle)
		if tpm.IsAbsent(err) && k.handle == tpm.AKHandle {
			return nil, nil
		}
		var name *tpm2.TPM2BName
		if err == nil {
			name, err = tpm2.ObjectName(public)
		}
		if err != nil {
			return nil, coded(fmt.Errorf("boot: %w", err), tpmCodes, code.TPMForeign)
		}
		*k.name = name.Buffer
	}
	return p, nil
}

// openSession pins the storage primary and starts a session that is bound to the
// attestation key.
func openSession(t *tpm.TPM, p *pin.Pin, soc []byte) (*tpm.Session, tpm.Entity, error) {
	fail := func(err error, otherwise code.Code) (*tpm.Session, tpm.Entity, error) {
		if tpm.IsAbsent(err) {
			otherwise = code.TPMKeyMissing
		}
		return nil, tpm.Entity{}, coded(fmt.Errorf("boot: %w", err), tpmCodes, otherwise)
	}
	if err := t.Pin(p.Storage); err != nil {
		return fail(err, code.TPMSaltKey)
	}
	ak, _, err := identity.AK(t, soc)
	if err != nil {
		return fail(err, code.TPMKeyMissing)
	}
	if !bytes.Equal(ak.Name.Buffer, p.AK) {
		return nil, tpm.Entity{}, code.TPMKeyMissing.Errorf("boot: the attestation key is %x, not %x as at provisioning", ak.Name.Buffer, p.AK)
	}
	s, err := t.NewSession(ak)
	if err != nil {
		return fail(err, code.TPMKeyMissing)
	}
	return s, ak, nil
}

// readConfiguration reads who may sign what runs, and measures it. Without a valid
// configuration the anchor block's authorities alone count, and the controller goes into
// quarantine when it comes to read it.
func (l *Loader) readConfiguration() error {
	l.authorities = l.anchors.Authorities
	c, err := config.Read(l.card, config.Want{Product: l.Product, Anchors: l.anchors, Epoch: l.epoch})
	if err != nil {
		l.report("%v", err)
		return nil
	}
	l.authorities = c.Authorities(l.anchors)
	return l.measure(eventlog.Configuration(c.Header.Digest, c.Epoch))
}

// chooseSlot does what decide.Step says until a controller is loaded.
func (l *Loader) chooseSlot() error {
	j, err := journal.Open(l.card)
	if err != nil {
		return coded(fmt.Errorf("boot: %w", err), nil, code.JournalUnwritable)
	}
	s, a := decide.Step(decide.State{}, decide.PowerOn{Journal: j.State(), Floor: l.floor})
	for a.Do != decide.Run {
		var e decide.Event
		switch a.Do {
		case decide.Write:
			e = decide.Written{}
			if err := j.Write(a.Record); err != nil {
				l.report("%v", err)
				e = decide.WriteFailed{}
			}
		case decide.Load:
			e = decide.Loaded{Verdict: l.load(a.Slot)}
		default:
			return a.Code.Errorf("boot: no slot holds a controller that may run")
		}
		s, a = decide.Step(s, e)
	}
	l.state = s
	return nil
}

// load loads a slot's controller to where it runs, verified.
func (l *Loader) load(slot journal.Slot) decide.Verdict {
	i, err := openSlot(l.card, slot, l.want())
	if err == nil {
		err = l.loadPayload(i)
	}
	if err != nil {
		l.report("%v", err)
		l.failed = code.Of(err)
		return decide.Verdict{Code: l.failed}
	}
	l.report("%v: version %s, %d bytes", slot, i.Version, i.Length)
	l.header, l.by = i.Header, l.authorities[i.Authority]
	return decide.Verdict{SecurityVersion: i.SecurityVersion, Digest: i.Digest}
}

func (l *Loader) loadPayload(i *image.Image) error {
	memory, err := l.Place(i.Header)
	if err != nil {
		return code.WrongProduct.Errorf("boot: %w", err)
	}
	return i.Load(memory)
}

func (l *Loader) want() image.Want {
	return image.Want{
		Component: image.Controller, Product: l.Product, Development: l.anchors.Development,
		Floor: l.floor, Authorities: l.authorities,
	}
}

// openSlot verifies the header of a slot's image. An empty slot is told from a damaged
// one: nobody has written to it.
func openSlot(d medium.Device, slot journal.Slot, want image.Want) (*image.Image, error) {
	want.Where = slot.String()
	r, err := medium.NewReader(d, medium.Slots[slot])
	if err != nil {
		return nil, code.ImageUnreadable.Errorf("boot: %s: %w", want.Where, err)
	}
	return image.Open(r, want)
}

// measureSlot measures what is about to run, and what vouches for it.
func (l *Loader) measureSlot() error {
	ed25519Key, mldsa65Key := l.by.Keys()
	return l.measure(
		eventlog.Controller(l.header.Digest, l.header.Version, l.header.SecurityVersion),
		eventlog.Authority(ed25519Key, mldsa65Key),
		eventlog.SecurityVersion(l.header.SecurityVersion),
		eventlog.Slot(int(l.state.Slot), uint32(l.attempts())),
	)
}

// attempts is how many the slot had left before this one.
func (l *Loader) attempts() uint8 { return l.state.Journal.Slots[l.state.Slot].Attempts + 1 }

// stir seeds the generator, before the first session draws its salt from it. What the
// TPM gives goes over the bus in the open here; the secret of the SoC is what makes the
// seed unknown to who hears it, and differs from boot to boot by what the TPM gives.
func (l *Loader) stir() error {
	entropy, err := l.entropy(nil, "nitro bootloader seed v1")
	if err != nil {
		return err
	}
	defer clear(entropy)
	if err := l.Stir(entropy); err != nil {
		return code.TPMEntropyAbsent.Errorf("boot: %w", err)
	}
	return nil
}

const seedSize = len(handover.Handover{}.Seed)

// entropy mixes what nobody has all of: random numbers of the TPM and of the SoC, and the
// SoC's secret.
func (l *Loader) entropy(s *tpm.Session, what string) ([]byte, error) {
	given, err := l.tpm.Random(s, 32)
	if err != nil {
		return nil, tpmCoded(fmt.Errorf("boot: %w", err))
	}
	defer clear(given)
	own := make([]byte, 32)
	defer clear(own)
	if l.Random != nil {
		if _, err := io.ReadFull(l.Random, own); err != nil {
			return nil, code.TPMEntropyAbsent.Errorf("boot: the SoC's random numbers: %w", err)
		}
	}
	mixed, err := hkdf.Key(sha256.New, slices.Concat(given, own, l.Secret[:]), nil, what, seedSize)
	if err != nil {
		return nil, code.TPMEntropyAbsent.Errorf("boot: %w", err)
	}
	return mixed, nil
}
