package chain

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"nitro/attest/eventlog"
	"nitro/attest/golden"
	"nitro/attest/identity"
	"nitro/attest/nv"
	"nitro/attest/seal"
	"nitro/attest/tpm"
	"nitro/boot/code"
	"nitro/boot/config"
	"nitro/boot/handover"
	"nitro/boot/image"
	"nitro/boot/medium"
	"nitro/boot/pin"
	"nitro/boot/store"
	"nitro/boot/ticket"
)

// A Controller is what the controller unlocks the board with, and then what it has
// learnt: fields are set as far as Unlock came. Parts of the board that are missing are
// nil.
type Controller struct {
	Machine
	Handover *handover.Handover
	// SecurityKey reads what the removable security key gives. It is asked if the
	// configuration says that the board has one.
	SecurityKey func() ([]byte, error)
	// WithStoreKey is lent the store's key before the store takes it, to derive others from
	// it. It must not keep it; nil derives nothing.
	WithStoreKey func(key []byte) error
	// Report is told what happens on the way; it may be nil.
	Report func(format string, args ...any)

	// Provisioned is false on a board that never was: it has no secrets and no pin.
	Provisioned bool
	// Log is the boot's event log. It is the TPM's if Unlock found it so.
	Log     *eventlog.Log
	Anchors *medium.Anchors
	Config  *config.Signed // of the boot: [Controller.Configuration] is the one in force
	Pin     *pin.Pin
	Board   *golden.Board
	Release *golden.Release

	// Bus is held by who speaks to the TPM once Unlock is through: the store does, for
	// its counter, whenever it likes.
	Bus     sync.Mutex
	T       *tpm.TPM
	Session *tpm.Session // bound to the attestation key
	AK      tpm.Entity
	NV      *nv.NV
	Store   *store.Store

	// Floor is the rollback floor, and Latched the quarantine that the TPM keeps, with the
	// number of the incident.
	Floor   uint32
	Latched nv.Quarantine

	reconfigured atomic.Pointer[config.Signed] // in this boot; nil if it was not

	set      *seal.Set
	uncapped tpm.Digest // PCR 7 before the cap
	capped   bool
	loss     bool // the owner accepts that the store is older than the TPM's counter
}

// Unlock goes from the hand-over to an open store. On a board that is not provisioned it
// gives no error, no store, and Provisioned is false. An error has a code, and then the
// board is to go into quarantine: its host stays held, and what the fields have is for
// evidence and status. Unlock has zeroed all secrets by then, and latched the code in the
// TPM if it is of that class.
func (c *Controller) Unlock() error {
	if err := c.unlock(); err != nil {
		return c.Rest(err)
	}
	return nil
}

// Hold goes as far as evidence needs, and no further, where something else has put the
// board into quarantine already. It gives that reason back.
func (c *Controller) Hold(why error) error {
	if err := c.begin(); err != nil {
		c.report("%v", err)
	}
	return c.Rest(why)
}

// Rest puts a board into quarantine that Unlock has let through, and gives the reason back:
// it latches what is to be latched, makes sure that nothing of this boot unseals, measures
// that the board is in quarantine, closes the store and zeroes the secrets, the SoC's among
// them. NV reaches the audit index alone from then on.
func (c *Controller) Rest(why error) error {
	c.Bus.Lock()
	c.latch(code.Of(why))
	c.capUnsealing()
	c.measureQuarantine(code.Of(why))
	c.Bus.Unlock()
	if c.Store != nil {
		if err := c.Store.Close(); err != nil { // it steps the counter, by way of the bus
			c.report("the store: %v", err)
		}
		c.Store = nil
	}
	c.Bus.Lock()
	defer c.Bus.Unlock()
	if c.NV != nil {
		if only, err := c.NV.AuditOnly(); err != nil { // what is asked of a board in quarantine is still recorded
			c.report("%v", err)
		} else {
			c.NV = only
		}
	}
	if c.Handover != nil {
		c.Handover.Zero()
	}
	return why
}

// Check asks the TPM of a board in service whether it still is the one of this boot. If it
// was reset meanwhile, or its answer is forged, the code is latched at once: what is live
// goes on, and the next boot is in quarantine however this one ends. Nothing that asks the
// TPM succeeds any more.
func (c *Controller) Check() error {
	c.Bus.Lock()
	defer c.Bus.Unlock()
	err := c.T.CheckReset(c.Session)
	if err != nil {
		err = tpmCoded(fmt.Errorf("in service: %w", err))
		c.latch(code.Of(err))
	}
	return err
}

// measureQuarantine answers who hands the evidence of a board in quarantine to somebody who
// takes it for one in service. Where there is no session there is no evidence either.
func (c *Controller) measureQuarantine(k code.Code) {
	if c.Session == nil || c.Log == nil || c.T.Lost() != nil {
		return
	}
	if err := c.Log.Measure(extender{c.T, c.Session}, eventlog.Quarantine(uint32(k))); err != nil {
		c.report("measuring the quarantine: %v", err)
	}
}

// begin is what a board in quarantine can do as well.
func (c *Controller) begin() error {
	return inOrder(c.attach, c.readAnchors, c.openSession, c.compareLog, c.readKept, c.readConfiguration)
}

func (c *Controller) unlock() error {
	if err := c.begin(); err != nil || !c.Provisioned {
		return err
	}
	return inOrder(c.leaveQuarantine, c.compareKnownGood, c.openStore, c.accept)
}

// inOrder does steps up to the first that fails.
func inOrder(steps ...func() error) error {
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func (c *Controller) report(format string, args ...any) {
	if c.Report != nil {
		c.Report(format, args...)
	}
}

// attach takes over log and TPM.
func (c *Controller) attach() (err error) {
	switch {
	case c.Handover == nil:
		return code.HandoverDamaged.Errorf("unlock: there is no hand-over: this image was not started by the bootloader")
	case c.TPM == nil:
		return code.TPMAbsent.Errorf("unlock: there is no TPM")
	case c.Card == nil:
		return code.ImageUnreadable.Errorf("unlock: there is no card")
	}
	if c.Log, err = eventlog.Parse(c.Handover.Log); err != nil {
		return code.HandoverDamaged.Errorf("unlock: event log of the bootloader: %w", err)
	}
	if c.T, err = tpm.Attach(c.TPM, c.Handover.Resets); err != nil {
		return tpmCoded(fmt.Errorf("unlock: %w", err))
	}
	return nil
}

// readAnchors reads the root of trust again: the card may answer differently this time,
// so it has to be the block that the bootloader has measured.
func (c *Controller) readAnchors() error {
	a, block, err := medium.ReadAnchors(c.Card)
	if err != nil {
		return coded(fmt.Errorf("unlock: anchor block: %w", err), nil, code.AnchorBlock)
	}
	if measured := eventlog.Anchors(sha256.Sum256(block[:]), a.Development); !c.measured(measured) {
		return code.AnchorBlock.Errorf("unlock: anchor block: it is not the one that the bootloader measured")
	}
	c.Anchors = a
	return nil
}

// measured tells whether the log has an event.
func (c *Controller) measured(e eventlog.Event) bool {
	for _, m := range c.Log.Events() {
		if m == e {
			return true
		}
	}
	return false
}

func (c *Controller) openSession() error {
	p, err := readPin(c.Card, c.Handover.Secret[:])
	if err != nil {
		return err
	}
	if p == nil {
		return nil
	}
	if c.Session, c.AK, err = openSession(c.T, p, c.Handover.Secret[:]); err != nil {
		return err
	}
	c.NV = nv.New(c.T, c.Session, c.Handover.Secret[:])
	c.Pin, c.Provisioned = p, true
	return nil
}

// compareLog compares what the log replays to with the TPM. It answers who measures
// something that is not in the log, or changes the log on its way.
func (c *Controller) compareLog() error {
	if c.Provisioned {
		if err := c.T.CheckReset(c.Session); err != nil {
			return tpmCoded(fmt.Errorf("unlock: %w", err))
		}
	}
	pcrs := make([]uint, measuredPCRs)
	for i := range pcrs {
		pcrs[i] = uint(i)
	}
	values, err := c.T.ReadPCRs(pcrs...)
	if err != nil {
		return tpmCoded(fmt.Errorf("unlock: %w", err))
	}
	replayed := c.Log.Replay()
	for i, v := range values {
		if v != replayed[i] {
			return code.LogDoesNotReplay.Errorf("unlock: PCR %d is %x; the event log gives %x", i, v, replayed[i])
		}
	}
	c.uncapped = values[capPCR]
	return nil
}

const (
	measuredPCRs = 9 // PCR 0 to 8
	capPCR       = 7
)

// readKept reads the floor, and whether the TPM keeps the board in quarantine.
func (c *Controller) readKept() (err error) {
	if !c.Provisioned {
		return nil
	}
	c.Floor, err = c.NV.SecurityVersion()
	if err == nil {
		c.Latched, err = c.NV.Latched()
	}
	if err != nil {
		return tpmCoded(fmt.Errorf("unlock: %w", err))
	}
	return nil
}

func (c *Controller) readConfiguration() (err error) {
	want := config.Want{Product: c.Product, Anchors: c.Anchors}
	if c.Provisioned {
		if want.Epoch, err = c.NV.Epoch(); err != nil {
			return tpmCoded(fmt.Errorf("unlock: %w", err))
		}
	}
	s, err := config.Read(c.Card, want)
	if err != nil {
		return coded(fmt.Errorf("unlock: %w", err), nil, code.ConfigurationBad)
	}
	if !c.measured(eventlog.Configuration(s.Header.Digest, s.Epoch)) {
		return code.ConfigurationBad.Errorf("unlock: configuration of epoch %d: the bootloader measured another one, or none", s.Epoch)
	}
	c.Config = s
	return nil
}

// leaveQuarantine goes on from a latched quarantine only if the card has the owner's
// ticket for it.
func (c *Controller) leaveQuarantine() error {
	if c.Latched.Code == 0 {
		return nil
	}
	latched := code.Code(c.Latched.Code)
	t, err := ticket.Read(c.Card, c.Config.Owner)
	if err == nil {
		err = t.For(c.Pin.AK, c.Latched.Code, c.Latched.Incident)
	}
	if err != nil {
		return latched.Errorf("unlock: the board was put into quarantine, incident %d: %w", c.Latched.Incident, err)
	}
	c.loss = t.AcceptLoss
	c.report("quarantine %v, incident %d: the owner lets the board out", latched, c.Latched.Incident)
	return nil
}

// compareKnownGood compares the boot with both parts of the known-good set.
func (c *Controller) compareKnownGood() error {
	if err := c.readBoardPart(); err != nil {
		return err
	}
	var err error
	c.Release, err = readRelease(c.Card, c.Handover.Slot, image.Want{
		Product: c.Product, Development: c.Anchors.Development, Authorities: c.Config.Authorities(c.Anchors),
	})
	if err != nil {
		return err
	}
	if err = golden.Compare(c.Log, c.Release, c.Board); err == nil {
		return nil
	}
	otherwise := code.PCRMismatch
	if m := (*golden.Mismatch)(nil); errors.As(err, &m) && m.PCR == 1 {
		otherwise = code.BoardMismatch
	}
	return otherwise.Errorf("unlock: %w", err)
}

// readBoardPart verifies the board part by the board key, whose name is pinned.
func (c *Controller) readBoardPart() error {
	p, envelope, err := pin.Read(c.Card, c.Handover.Secret[:])
	if err != nil {
		return coded(fmt.Errorf("unlock: %w", err), nil, code.BoardMismatch)
	}
	if p.BoardPart != c.Pin.BoardPart {
		return code.BoardMismatch.Errorf("unlock: board part: the card has shown another one a moment ago")
	}
	key, err := c.boardKey(p.BoardKey)
	if err != nil {
		return err
	}
	b, revision, err := golden.OpenBoard(envelope, key)
	if err != nil {
		return code.KnownGoodBad.Errorf("unlock: board part: %w", err)
	}
	if revision != p.Revision || !bytes.Equal(b.AKName, p.AK) || !bytes.Equal(b.StorageName, p.Storage) || b.Board != c.Product {
		return code.BoardMismatch.Errorf("unlock: board part: revision %d for %s is not what is pinned, revision %d", revision, b.Board, p.Revision)
	}
	c.Board = b
	return nil
}

// boardKey is the TPM's key of a name, which signs board parts.
func (c *Controller) boardKey(name []byte) (*ecdsa.PublicKey, error) {
	public, err := c.T.ReadPublic(tpm.BoardKeyHandle)
	if err == nil {
		var key *ecdsa.PublicKey
		if key, err = identity.PublicKey(public, name); err == nil {
			return key, nil
		}
	}
	if code.Of(tpmCoded(err)) == code.TPMSessionLost {
		return nil, tpmCoded(err)
	}
	return nil, code.TPMKeyMissing.Errorf("unlock: board key: %w", err)
}

// Door is the way to the sealed secrets.
func (c *Controller) Door() *seal.Door {
	return &seal.Door{T: c.T, S: c.Session, AK: c.AK, NV: c.NV, SoC: c.Handover.Secret[:]}
}

// openStore unseals, caps, and opens the store.
func (c *Controller) openStore() error {
	var err error
	if c.set, err = readSet(c.Card); err != nil {
		return err
	}
	key, err := c.storeKey()
	if err != nil {
		return err
	}
	if c.WithStoreKey != nil {
		if err := c.WithStoreKey(key); err != nil {
			clear(key)
			return code.UnsealRefused.Errorf("unlock: %w", err)
		}
	}
	c.Store, err = store.Open(store.Config{
		Device: c.Card, Place: medium.Store, Key: key, Counter: Freshness{c.NV, &c.Bus}, AcceptLoss: c.loss,
	})
	if err != nil {
		return coded(fmt.Errorf("unlock: %w", err), storeCodes, code.StoreDamaged)
	}
	return nil
}

// readSet reads the sealed objects and their approvals.
func readSet(d medium.Device) (*seal.Set, error) {
	content, _, err := medium.Pair(medium.SealedObjects).Read(d, seal.Rank)
	if err != nil {
		return nil, code.SealedObjectMissing.Errorf("unlock: sealed objects: %w", err)
	}
	set, err := seal.Decode(content)
	if err != nil {
		return nil, code.SealedObjectMissing.Errorf("unlock: sealed objects: %w", err)
	}
	return set, nil
}

// storeKey is the store's key, out of the sealed secrets. The cap is there whatever comes
// of it.
func (c *Controller) storeKey() ([]byte, error) {
	removable, err := c.removable()
	if err != nil {
		return nil, err
	}
	defer clear(removable)
	first, second, err := c.Door().Unseal(c.set, c.Config.Sealing())
	defer clear(first)
	defer clear(second)
	if !errors.Is(err, seal.ErrUncapped) {
		c.capped = true
		if logErr := c.Log.Append(eventlog.Cap()); err == nil && logErr != nil {
			err = code.LogFull.Errorf("%w", logErr)
		}
	}
	if err != nil {
		return nil, coded(fmt.Errorf("unlock: %w", err), sealCodes, code.UnsealRefused)
	}
	key, err := seal.StoreKey(first, second, c.Handover.Secret[:], removable)
	if err != nil {
		return nil, code.UnsealRefused.Errorf("unlock: %w", err)
	}
	return key, nil
}

// removable is what the security key gives, nil where the board has none.
func (c *Controller) removable() ([]byte, error) {
	if !c.Config.SecurityKey {
		return nil, nil
	}
	if c.SecurityKey == nil {
		return nil, code.SecurityKeyMissing.Errorf("unlock: this board has no socket for a security key")
	}
	secret, err := c.SecurityKey()
	if err != nil {
		return nil, code.SecurityKeyMissing.Errorf("unlock: %w", err)
	}
	return secret, nil
}

// Freshness is the TPM's counter as the store wants it.
type Freshness struct {
	NV  *nv.NV
	Bus sync.Locker // to the TPM
}

// Read implements store.Counter.
func (f Freshness) Read() (uint64, error) {
	f.Bus.Lock()
	defer f.Bus.Unlock()
	return f.NV.Freshness()
}

// Increment implements store.Counter.
func (f Freshness) Increment() (uint64, error) {
	f.Bus.Lock()
	defer f.Bus.Unlock()
	return f.NV.Step()
}

// accept notes that the configuration is accepted, and that the quarantine is left: last,
// when nothing can go wrong any more.
func (c *Controller) accept() error {
	if err := c.NV.RaiseEpoch(c.Config.Epoch); err != nil {
		return tpmCoded(fmt.Errorf("unlock: %w", err))
	}
	if c.Latched.Code != 0 {
		c.Latched.Code = 0
		if err := c.NV.SetLatch(c.Latched); err != nil {
			return tpmCoded(fmt.Errorf("unlock: %w", err))
		}
	}
	return nil
}

// Fits tells whether the log has room for events. It is for who measures, as Measure is.
func (c *Controller) Fits(events ...eventlog.Event) bool {
	c.Bus.Lock()
	defer c.Bus.Unlock()
	return c.Log.Fits(events...)
}

// Measure extends an event into the TPM and appends it to the log. After an error other
// than eventlog.ErrFull nothing more is measured in this boot.
func (c *Controller) Measure(e eventlog.Event) error {
	c.Bus.Lock()
	defer c.Bus.Unlock()
	err := c.Log.Measure(extender{c.T, c.Session}, e)
	if err != nil && !errors.Is(err, eventlog.ErrFull) {
		return tpmCoded(err)
	}
	return err
}

// capUnsealing extends the cap if that has not been done, so that a board in quarantine
// unseals nothing. Where no session says that it is done, a TPM that is lost among them,
// it is extended in the open as well: once too often does no harm.
func (c *Controller) capUnsealing() {
	if c.capped || c.TPM == nil {
		return
	}
	c.capped = true
	if c.T != nil && c.T.Lost() == nil {
		err := c.Log.Measure(extender{c.T, c.Session}, eventlog.Cap())
		if err == nil {
			return
		}
		c.report("the cap: %v", err)
	}
	if err := capInTheOpen(c.TPM); err != nil {
		c.report("the cap: %v", err)
	}
}

// capInTheOpen extends the cap without a session.
func capInTheOpen(bus transport.TPM) error {
	digest := eventlog.Cap().Digest()
	_, err := tpm2.PCRExtend{
		PCRHandle: tpm2.AuthHandle{Handle: capPCR, Name: tpm2.HandleName(capPCR), Auth: tpm2.PasswordAuth(nil)},
		Digests:   tpm2.TPMLDigestValues{Digests: []tpm2.TPMTHA{{HashAlg: tpm2.TPMAlgSHA256, Digest: digest[:]}}},
	}.Execute(bus)
	return err
}
