package main

import (
	"crypto/hpke"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"log"
	"os"
	"time"

	"nitro/attest/eventlog"
	"nitro/attest/evidence"
	"nitro/attest/identity"
	"nitro/attest/tis"
	"nitro/board/next"
	"nitro/boot/code"
	"nitro/boot/handover"
	"nitro/boot/securitykey"
	"nitro/boot/ticket"
	"nitro/net/provisioning"
	"nitro/net/standing"
	"nitro/nvme/key"
)

// takeHandover takes what the bootloader has left, and seeds the random generator with
// it. Without a bootloader there is none: the board will be in quarantine.
func (f *firmware) takeHandover() error {
	block, err := next.Handover()
	if err != nil {
		return err
	}
	h, err := handover.Take(block)
	if err != nil {
		log.Printf("%v", err)
		return nil
	}
	f.chain.Handover = h
	f.strength = h.Strength
	defer clear(h.Seed[:])
	return os.WriteFile("/dev/seed", h.Seed[:], 0)
}

// unlock goes on with the boot chain: to an open store, to a board that waits to be
// provisioned, or to quarantine. It never fails: in quarantine the firmware serves what
// it can.
func (f *firmware) unlock() error {
	c := &f.chain
	c.Product, c.Report = f.board.Product(), log.Printf
	c.WithStoreKey = f.deriveKeys
	c.SecurityKey = func() ([]byte, error) { return securitykey.Read(f.board.ReadSecurityKey) }
	if f.card != nil {
		c.Card = f.card
	}
	if bus := f.board.TPMBus(); bus != nil {
		t, err := tis.Open(bus, tis.DefaultAddress)
		if err != nil {
			log.Printf("TPM: %v", err)
		} else {
			c.TPM = t
		}
	}
	why := f.reason() // that of the host's lines
	if why != nil {
		why = c.Hold(why)
	} else {
		why = c.Unlock()
		f.setReason(why)
	}
	f.version = versionOf(c.Log)
	switch {
	case why != nil:
		clear(f.ticketKey[:])
		clear(f.hostSecrets[:])
		f.announceQuarantine(why)
	case !c.Provisioned:
		log.Print("this board is not provisioned: it serves provisioning, and nothing else")
	default:
		log.Printf("the store is open: %d records, configuration of epoch %d", c.Store.Stats().Records, c.Config.Epoch)
		var err error
		if f.akCertificate, err = c.Store.Get(provisioning.AKCertRecord); err != nil {
			log.Printf("evidence goes without a certificate of the attestation key: %v", err)
		}
	}
	return nil
}

// versionOf is the controller's, as measured. Status does not look into the log itself:
// provisioning appends to it while anybody may ask.
func versionOf(l *eventlog.Log) (version string) {
	if l == nil {
		return ""
	}
	for _, e := range l.Events() {
		if e.Name() == "controller" {
			version = e.Value("version")
		}
	}
	return version
}

// enterQuarantine puts a board that is in service into quarantine: its secrets are zeroed,
// and what is to be latched is.
func (f *firmware) enterQuarantine(why error) {
	if !f.setReason(why) {
		return
	}
	if s := f.volumes.Load(); s != nil {
		s.Close() // the keys of volumes go first: whatever else takes its time
	}
	f.sumDenials(true)
	f.announceQuarantine(f.chain.Rest(why))
}

func (f *firmware) announceQuarantine(why error) {
	k := code.Of(why)
	log.Printf("quarantine: %v", why)
	log.Printf("quarantine: code %v", k)
	if e, ok := code.Lookup(k); ok {
		log.Printf("%s", e.Next)
	}
	if q := f.chain.Latched; q.Code != 0 {
		log.Printf("code %v, incident %d, is latched: leaving it takes the owner's ticket", code.Code(q.Code), q.Incident)
	}
}

// bindIdentity makes this boot's key for wrapped secrets, and measures it and the TLS key
// into PCR 8, so that a quote binds both.
func (f *firmware) bindIdentity() error {
	if f.chain.T == nil || f.chain.T.Lost() != nil || f.chain.Log == nil {
		return nil
	}
	var err error
	if f.wrapping, err = hpke.MLKEM768X25519().GenerateKey(); err != nil {
		return err
	}
	leaf, err := x509.ParseCertificate(f.certificate.Certificate[0])
	if err != nil {
		return err
	}
	f.tlsKey = sha256.Sum256(leaf.RawSubjectPublicKeyInfo)
	if err := f.chain.BindIdentity(f.tlsKey, sha256.Sum256(f.wrapping.PublicKey().Bytes())); err != nil {
		f.enterQuarantine(err)
		return nil
	}
	f.recipient = key.NewRecipient(func(hash [32]byte) error { return f.chain.Measure(eventlog.Recipient(hash)) })
	f.readEKCertificate()
	return nil
}

// readEKCertificate reads what the TPM's maker says of it, for evidence.
func (f *firmware) readEKCertificate() {
	c := &f.chain
	if c.Session == nil {
		return
	}
	c.Bus.Lock()
	defer c.Bus.Unlock()
	der, err := identity.EKCertificate(c.T, c.Session)
	if err != nil {
		log.Printf("evidence goes without the TPM maker's certificate: %v", err)
		return
	}
	f.ekCertificate = der
}

// Status implements standing.Board.
func (f *firmware) Status() standing.Status {
	s := standing.Status{
		State: standing.InService, Board: f.board.Name(), Version: f.version, Emulated: f.board.Emulated(),
		Seconds: int64(time.Since(f.ready) / time.Second), Host: f.hostStatus(),
	}
	c := &f.chain
	s.Waits = c.Waiting()
	if c.Handover != nil {
		s.Slot = c.Handover.Slot.String()
	}
	s.Development = c.Anchors != nil && c.Anchors.Development
	why := f.reason()
	switch {
	case why != nil:
		s.State, s.Quarantine = standing.InQuarantine, &standing.Quarantine{Reason: standing.ReasonOf(why)}
		// A ticket names the code that is latched, which need not be what is wrong now.
		if q := c.Latched.Code; q != 0 && q == uint32(s.Quarantine.Code) && c.Pin != nil {
			s.Quarantine.Incident = c.Latched.Incident
			s.Quarantine.Board = fmt.Sprintf("%x", ticket.BoardOf(c.Pin.AK))
		}
	case !c.Provisioned:
		s.State = standing.Unprovisioned
	}
	return s
}

// Evidence implements standing.Board.
func (f *firmware) Evidence(nonce []byte) ([]byte, error) {
	return f.prove(func(s *evidence.Source) ([]byte, error) { return s.Make(nonce) })
}

// prove has the TPM prove what runs, in its turn on the bus.
func (f *firmware) prove(how func(s *evidence.Source) ([]byte, error)) ([]byte, error) {
	c := &f.chain
	if !c.Provisioned {
		return nil, standing.ErrUnavailable
	}
	c.Bus.Lock()
	defer c.Bus.Unlock()
	if c.Session == nil || c.T.Lost() != nil {
		return nil, standing.ErrUnavailable
	}
	public, err := c.T.ReadPublic(c.AK.Handle)
	if err != nil {
		return nil, err
	}
	s := evidence.Source{TPM: c.T, Session: c.Session, AK: c.AK, AKPublic: public, AKCertificate: f.akCertificate, Log: c.Log}
	if f.ekCertificate != nil {
		s.EKCertificates = [][]byte{f.ekCertificate}
	}
	if why := f.reason(); why != nil {
		s.NotChecked = []string{fmt.Sprintf("the board is in quarantine, code %v", code.Of(why))}
	}
	text, err := how(&s)
	if err != nil && c.T.Lost() != nil {
		f.tellTPMLost()
	}
	return text, err
}

// CheckSeal implements standing.Board.
func (f *firmware) CheckSeal() error { return f.chain.CheckSeal() }

// Ticket implements standing.Board.
func (f *firmware) Ticket(b []byte) error {
	c := &f.chain
	if c.Config == nil || c.Pin == nil || c.Latched.Code == 0 {
		return errors.New("no code is latched: another way out is needed, see the code's next step")
	}
	t, err := ticket.Open(b, c.Configuration().Owner)
	if err != nil {
		return err
	}
	if err := t.For(c.Pin.AK, c.Latched.Code, c.Latched.Incident); err != nil {
		return err
	}
	if err := ticket.Write(c.Card, b); err != nil {
		return err
	}
	f.restartAfter(restartDelay, "the owner lets the board out of quarantine")
	return nil
}

// Times until the firmware restarts the board by itself: so that an answer reaches its
// client, and so that there is time to fetch evidence before another attempt.
const (
	restartDelay = 2 * time.Second
	retryDelay   = 2 * time.Minute
)

// restartAfter restarts the board.
func (f *firmware) restartAfter(d time.Duration, why string) {
	log.Printf("restart in %v: %s", d, why)
	time.AfterFunc(d, func() {
		c := &f.chain
		if f.reason() == nil {
			f.sumDenials(true)
		}
		c.Bus.Lock() // for good
		if c.T != nil && c.T.Lost() == nil {
			if err := c.T.Shutdown(); err != nil {
				log.Printf("TPM: %v", err)
			}
		}
		log.Print("restarting")
		os.Exit(0)
	})
}

// reportStanding tells the slot journal how this boot went, once the firmware serves.
func (f *firmware) reportStanding() {
	why := f.reason()
	s, again, err := f.chain.Stand(why)
	var floor uint32
	if s != nil {
		if floor = s.Floor(); f.updates != nil { // which has the slots from now on
			f.updates.Open(s)
		}
	}
	switch {
	case err != nil:
		log.Printf("%v", err)
	case why == nil && f.chain.Provisioned:
		log.Printf("%v is proven; the rollback floor is %d", f.chain.Handover.Slot, floor)
	}
	if again {
		f.restartAfter(retryDelay, "another attempt may do better")
	}
}
