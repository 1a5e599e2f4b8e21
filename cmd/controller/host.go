package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log"
	"time"

	"nitro/attest/eventlog"
	"nitro/attest/golden"
	"nitro/board"
	"nitro/boot/code"
	"nitro/boot/image"
	"nitro/boot/store"
	"nitro/net/audit"
	"nitro/net/policy"
	"nitro/net/redfish"
	"nitro/net/standing"
	"nitro/nvme/storage"
	"nitro/resetctl"
	"nitro/resetctl/cycle"
	hostfw "nitro/resetctl/firmware"
	"nitro/resetctl/firmware/cardflash"
	"nitro/resetctl/firmware/delivery"
	"nitro/resetctl/parts"
	"nitro/resetctl/ticket"
)

// linesOf are a board's lines as the host's control wants them: each is driven and seen by
// the expander, high is held.
func linesOf(b *board.HostLines) *resetctl.Lines {
	chip := resetctl.NewSnapshot(b.Expander)
	line := func(l *board.HostLine) *resetctl.Line {
		if l == nil {
			return nil
		}
		return &resetctl.Line{
			Name: l.Name, HeldHigh: true, Kept: b.Kept, Port: resetctl.Expander(chip, l.Line), Sense: resetctl.ExpanderInput(chip, l.Line),
		}
	}
	lines := &resetctl.Lines{
		Platform: line(b.Platform), BMC: line(b.BMC), Host: line(b.Host), Mux: line(b.Mux), Protect: line(b.Protect),
		PowerGood: line(b.PowerGood), Button: line(b.Button), Nonce: b.Expander, Fresh: chip.Fresh,
	}
	if lines.PowerGood != nil {
		lines.PowerGood.Port = nil // an input
	}
	return lines
}

// lookAtLines looks at the host's lines before anything is unlocked, and drives none. Lines
// that somebody else drives are quarantine, whether or not there is a host to guard.
func (f *firmware) lookAtLines() error {
	b := f.board.HostLines()
	if b == nil {
		log.Print("this board has no lines to a host: it cannot guard one")
		return nil
	}
	lines := linesOf(b)
	var v cycle.View
	for range resetctl.Samples {
		var err error
		if v, err = lines.Look(); err != nil {
			log.Printf("host: %v", err)
			return nil
		}
		if v.Commanded&^v.Nets == 0 {
			log.Printf("host: held are %v, commanded %v, power %v", v.Nets, v.Commanded, v.Power)
			return nil
		}
		time.Sleep(resetctl.Sample)
	}
	f.setReason(code.HostLinesFighting.Errorf("host: commanded to hold, and not held: %v: look for a short, a cut wire or a second driver, and keep the host out of service", v.Commanded&^v.Nets))
	return nil
}

// controlHost begins to guard the host, if the board is there for that. Else it holds it:
// in quarantine, before the board is provisioned, and where the configuration names no
// host. Until here no line was driven: a host that ran on while the controller restarted
// still runs.
func (f *firmware) controlHost() error {
	lines := f.board.HostLines()
	guarded := f.reason() == nil && f.chain.Provisioned && f.chain.Config.Host != nil
	switch {
	case lines == nil && guarded:
		f.enterQuarantine(code.HostLinesMissing.Errorf("the configuration has the board guard host %s, and %s has no lines to one", f.chain.Config.Host.Product, f.board.Name()))
	case guarded:
		return f.guardHost(linesOf(lines))
	case lines != nil:
		holdHost(linesOf(lines))
	}
	return nil
}

// holdHost holds a host that is not guarded.
func holdHost(lines *resetctl.Lines) {
	err := lines.Hold()
	if err == nil {
		err = seeHeld(lines)
	}
	if err != nil {
		log.Printf("host: is not sure to be held: %v", err)
		return
	}
	log.Print("host: is held")
}

// seeHeld waits until the nets are seen to hold.
func seeHeld(lines *resetctl.Lines) (err error) {
	var v cycle.View
	for end := time.Now().Add(resetctl.Settle); time.Now().Before(end); time.Sleep(resetctl.Poll) {
		if v, err = lines.Look(); err == nil && v.Nets.Has(lines.Has()) {
			return nil
		}
	}
	if err == nil {
		err = fmt.Errorf("commanded to hold %v, and held are %v", v.Commanded, v.Nets)
	}
	return err
}

// guardHost makes the host's control: adoption, verification and release, watch.
func (f *firmware) guardHost(lines *resetctl.Lines) error {
	copies := f.goldenCopies()
	f.golden = copies
	c, err := resetctl.New(resetctl.Config{
		Lines: lines, Firmware: f.hostFirmware(copies), Measurer: &f.chain, Store: hostStore{f.chain.Store},
		Clock: monotonic{time.Now()}, Random: rand.Reader, Key: f.ticketKey, Boot: f.bootName(),
		Observe: f.observeHost,
		Quarantine: func(c code.Code) {
			f.enterQuarantine(c.Errorf("host: the lines are not in the board's hand"))
		},
		Restart: func(c code.Code) {
			f.restartAfter(restartDelay, fmt.Sprintf("host: %v", c))
		},
	})
	clear(f.ticketKey[:])
	if err != nil {
		return err
	}
	f.host.Store(c)
	f.takeDelivery(copies) // before the pool takes its place
	return nil
}

// runHost begins to control the host, once its volumes can follow.
func (f *firmware) runHost() error {
	if c := f.host.Load(); c != nil {
		go func() {
			if err := c.Run(context.Background()); err != nil {
				log.Printf("host: %v", err)
			}
		}()
	}
	return nil
}

// goldenCopies are those of the host's parts.
func (f *firmware) goldenCopies() map[hostfw.Part]*hostfw.Golden {
	c := &f.chain
	of := func(p hostfw.Part) *hostfw.Golden {
		return hostfw.New(hostfw.Config{
			Part: p, Host: c.Config.Host.Product, Product: c.Product, Development: c.Anchors.Development,
			Authorities: c.Config.HostAuthorities(c.Anchors), Store: c.Store,
		})
	}
	all := map[hostfw.Part]*hostfw.Golden{hostfw.Host: of(hostfw.Host)}
	if c.Config.Host.BMC {
		all[hostfw.BMC] = of(hostfw.BMC)
	}
	return all
}

// flashSlot is the card slot whose card stands in for the host's flash chips.
const flashSlot = 1

// hostFirmware is the host's flash: chips on the second card, since no board has an SPI
// flash wired yet. The card is opened when the flash is the controller's for the first time.
func (f *firmware) hostFirmware(golden map[hostfw.Part]*hostfw.Golden) *parts.Firmware {
	var card board.Card
	part := func(p hostfw.Part) parts.Part {
		return parts.Part{Golden: golden[p], Open: func() (hostfw.Flash, error) {
			if card == nil {
				c, err := f.board.Card(flashSlot)
				if err != nil {
					return nil, code.HostFlash.Errorf("host: the card that stands in for its flash: %w", err)
				}
				card = c
			}
			chip, err := cardflash.Open(card, p)
			if err != nil {
				return nil, code.HostFlash.Errorf("host: %w", err)
			}
			return chip, nil
		}}
	}
	if golden[hostfw.BMC] == nil {
		return parts.New(part(hostfw.Host), nil)
	}
	bmc := part(hostfw.BMC)
	return parts.New(part(hostfw.Host), &bmc)
}

// takeDelivery installs what packages the card has brought, once.
func (f *firmware) takeDelivery(golden map[hostfw.Part]*hostfw.Golden) {
	packages, err := delivery.Read(f.card)
	if err == nil && packages == nil {
		return
	}
	for _, r := range packages {
		if err := installPackage(golden, r); err != nil {
			log.Printf("host: %v", err)
		}
	}
	if err = errors.Join(err, delivery.Clear(f.card)); err != nil {
		log.Printf("host: %v", err)
	}
}

// installPackage installs one. Its header says whose it is, which the part's golden copy
// verifies.
func installPackage(golden map[hostfw.Part]*hostfw.Golden, r io.Reader) error {
	const componentAt = 12 // docs/medium.md, "Image"
	b := bufio.NewReaderSize(r, image.HeaderSize)
	head, err := b.Peek(componentAt + 4)
	if err != nil {
		return fmt.Errorf("firmware: package: %w", err)
	}
	part := hostfw.Host
	if image.Component(binary.LittleEndian.Uint32(head[componentAt:])) == image.BMCFirmware {
		part = hostfw.BMC
	}
	g := golden[part]
	if g == nil {
		return fmt.Errorf("firmware: package for a %s, which this host does not have", part)
	}
	m, err := g.Install(b)
	if m != nil {
		log.Printf("host: golden copy of %s firmware %s, security version %d, installed", part, m.Version, m.SecurityVersion)
	}
	return err
}

// bootName names this boot: the digest of its identity event.
func (f *firmware) bootName() (name [32]byte) {
	for _, e := range f.chain.Log.Events() {
		if e.Name() == "identity" {
			name = e.Digest()
		}
	}
	return name
}

// deriveKeys derives the key of the host's tickets, and what the secrets of its cycles come
// from, while the store's key is there.
func (f *firmware) deriveKeys(storeKey []byte) (err error) {
	if f.ticketKey, err = ticket.DeriveKey(storeKey); err != nil {
		return err
	}
	f.hostSecrets, err = storage.SecretsKey(storeKey)
	return err
}

// tellTPMLost has the host's control release nothing any more in this boot. A host that
// runs goes on.
func (f *firmware) tellTPMLost() {
	if c := f.host.Load(); c != nil {
		go func() {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			if err := c.TPMLost(ctx, code.TPMSessionLost); err != nil {
				log.Printf("host: %v", err)
			}
		}()
	}
}

// A hostFacts is what the API tells of the host beside its state. It does not change:
// another one takes its place.
type hostFacts struct {
	cause cycle.Cause
	parts []redfish.HostPart
}

// knowHost keeps why the host was held last, and what of its firmware this cycle has
// verified: of one that runs what is measured, of one that is held nothing.
func (f *firmware) knowHost(e cycle.Event, s cycle.State, a cycle.Action) {
	var facts hostFacts
	if old := f.hostFacts.Load(); old != nil {
		facts = *old
	}
	if c := cycle.CauseOf(f.hostPhase, e, a); c != cycle.Unchanged {
		facts.cause = c
	}
	switch {
	case s.Phase != cycle.Running && s.Phase != cycle.Stopping:
		facts.parts = f.hostParts(nil)
	case f.hostPhase != cycle.Running && f.hostPhase != cycle.Stopping:
		facts.parts = f.hostParts(f.measuredHost(s.Cycle))
	}
	if s.Phase == cycle.Held && f.hostPhase != cycle.Held {
		f.hostRenewed.Store(false)
	}
	f.hostPhase = s.Phase
	f.hostFacts.Store(&facts)
}

// measuredHost is what the log has of a cycle; nil if that is not the last one that it has.
func (f *firmware) measuredHost(number uint64) *golden.HostCycle {
	f.chain.Bus.Lock()
	defer f.chain.Bus.Unlock()
	c, err := golden.LastHostCycle(f.chain.Log)
	if err != nil || c == nil || c.Number != number {
		return nil
	}
	return c
}

// hostParts are the parts of the host's firmware.
func (f *firmware) hostParts(c *golden.HostCycle) (all []redfish.HostPart) {
	if c == nil {
		c = new(golden.HostCycle)
	}
	for _, p := range []struct {
		part     hostfw.Part
		measured *eventlog.Event
	}{{hostfw.Host, c.Firmware}, {hostfw.BMC, c.BMC}} {
		if f.golden[p.part] == nil {
			continue
		}
		h := redfish.HostPart{Part: string(p.part), Verified: p.measured != nil}
		if h.Verified {
			h.Version = p.measured.Value("version")
			hex.Decode(h.SHA256[:], []byte(p.measured.Value("sha256"))) // the log has made sure of its form
		}
		all = append(all, h)
	}
	return all
}

// observeHost tells the log, the API, and the audit, what happens to the host.
func (f *firmware) observeHost(e cycle.Event, s cycle.State, a cycle.Action, cause error) {
	f.knowHost(e, s, a)
	text := fmt.Sprintf("host: cycle %d: %v", s.Cycle, s.Phase)
	if s.Phase == cycle.Running && s.Adopted {
		text += ", adopted"
	}
	if failed, ok := e.(cycle.Failed); ok {
		text += fmt.Sprintf(", after code %v", failed.Code)
	}
	if s.Why != code.None {
		text += fmt.Sprintf(", code %v", s.Why)
	}
	if cause != nil {
		text += fmt.Sprintf(": %v", cause)
	}
	log.Print(text)
	f.noteHost(s, text)
	f.tellVolumes(s)
	if s.Phase == cycle.Running {
		announceRuns()
	}
}

// noteHost records where the host has come to: that it runs, and that it is held.
func (f *firmware) noteHost(s cycle.State, text string) {
	action := map[cycle.Phase]string{cycle.Running: "hostRunning", cycle.Held: "hostHeld"}[s.Phase]
	if action != "" {
		f.note(audit.Event{Action: action, Type: string(policy.Host), Resource: redfish.Root + "Systems/host", Detail: text})
	}
}

// announceRuns is called when the host runs. Measurements end at its first instruction, so
// it stays a function.
//
//go:noinline
func announceRuns() {}

// hostStatus is how the host stands; nil where none is guarded.
func (f *firmware) hostStatus() *standing.Host {
	c := f.host.Load()
	if c == nil {
		return nil
	}
	s := c.Status()
	h := &standing.Host{State: s.State.Phase.String(), Cycle: s.State.Cycle, Adopted: s.State.Adopted, Power: s.View.Power, Running: s.View.Running()}
	for _, k := range []code.Code{s.State.TPM, s.State.Why} {
		if e, ok := code.Lookup(k); ok {
			h.Code, h.Why = uint16(k), e.Sentence
		}
	}
	return h
}

// hostStore keeps what the host's control keeps in the store.
type hostStore struct{ s *store.Store }

// The records of the host.
const (
	recordName = "host/record" // its last cycle (8 bytes, little endian), and whether it is to run (1)
	ticketName = "host/ticket"
	recordSize = 9
)

// Record implements resetctl.Store. A host of which there is no record yet is to run, once
// its firmware verifies.
func (h hostStore) Record() (resetctl.Record, error) {
	b, err := h.s.Get(recordName)
	if errors.Is(err, store.ErrNotFound) {
		return resetctl.Record{Run: true}, nil
	}
	if err != nil {
		return resetctl.Record{}, err
	}
	if len(b) != recordSize || b[8] > 1 {
		return resetctl.Record{}, code.StoreDamaged.Errorf("record of the host: %x", b)
	}
	return resetctl.Record{Cycle: binary.LittleEndian.Uint64(b), Run: b[8] == 1}, nil
}

// SetRecord implements resetctl.Store.
func (h hostStore) SetRecord(r resetctl.Record) error {
	b := binary.LittleEndian.AppendUint64(make([]byte, 0, recordSize), r.Cycle)
	run := byte(0)
	if r.Run {
		run = 1
	}
	return h.s.Put(recordName, append(b, run))
}

// Ticket implements resetctl.Store.
func (h hostStore) Ticket() ([]byte, error) { return h.s.Get(ticketName) }

// SetTicket implements resetctl.Store.
func (h hostStore) SetTicket(b []byte) error { return h.s.Put(ticketName, b) }

// monotonic is the time since this boot began to control the host.
type monotonic struct{ start time.Time }

// Now implements resetctl.Clock.
func (m monotonic) Now() time.Duration { return time.Since(m.start) }

// Sleep implements resetctl.Clock.
func (m monotonic) Sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
