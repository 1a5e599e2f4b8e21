package main

import (
	"crypto/ecdsa"
	"crypto/rand"
	"errors"
	"fmt"
	"log"
	"net/http"
	"sync"
	"time"

	"nitro/attest/tpm"
	"nitro/boot/chain"
	"nitro/boot/code"
	"nitro/net/audit"
	"nitro/net/audit/tpmkey"
	"nitro/net/redfish"
)

// Times of the log's signatures. What is signed steps the TPM's freshness counter, which
// has some 100,000 steps in it (docs/audit.md): 13 a day, and one for each 64 records.
const (
	signLook  = 30 * time.Second
	signAfter = 2 * time.Hour
)

// openAudit opens the log of what is asked of the board, in the store. In quarantine the
// ring takes its place.
func (f *firmware) openAudit() error {
	f.records.f = f
	c := &f.chain
	if f.reason() != nil || !c.Provisioned {
		return nil
	}
	l, err := f.openLog()
	if err != nil { // nothing may happen that is not recorded
		f.enterQuarantine(code.StoreDamaged.Errorf("%w", err))
		return nil
	}
	f.log = l
	log.Printf("audit log %s: %d records", l.Origin(), l.Stats().Size)
	return nil
}

func (f *firmware) openLog() (*audit.Log, error) {
	c := &f.chain
	name, err := f.logName()
	if err != nil {
		return nil, err
	}
	signer, err := newLogSigner(c)
	if err != nil {
		return nil, err
	}
	return audit.Open(audit.Config{
		Store: c.Store, Signer: signer, Name: name, Witnesses: c.Config.Witnesses,
		Now: f.now, Up: f.up, Random: rand.Read, Running: "controller " + f.version,
	})
}

// logName is the board's, for its log: product and unique number.
func (f *firmware) logName() (string, error) {
	id, err := f.board.UniqueID()
	return fmt.Sprintf("%s/%016x", f.chain.Product, id), err
}

// now is the time, for records; false while it is not known.
func (f *firmware) now() (time.Time, bool) { return time.Now(), f.clock.Known() }

// up is the time since the boot, for records.
func (f *firmware) up() time.Duration { return time.Since(f.began) }

// A logSigner is the attestation key, in its turn on the bus.
type logSigner struct {
	bus sync.Locker
	key *tpmkey.Key
}

func newLogSigner(c *chain.Controller) (logSigner, error) {
	c.Bus.Lock()
	defer c.Bus.Unlock()
	public, err := c.T.ReadPublic(c.AK.Handle)
	if err != nil {
		return logSigner{}, err
	}
	key, err := tpmkey.New(c.T, c.Session, c.AK, public)
	return logSigner{&c.Bus, key}, err
}

// Public implements audit.Signer.
func (s logSigner) Public() *ecdsa.PublicKey { return s.key.Public() }

// Sign implements audit.Signer.
func (s logSigner) Sign(text []byte) ([]byte, error) {
	s.bus.Lock()
	defer s.bus.Unlock()
	return s.key.Sign(text)
}

// signLog signs the log at once, and then when a segment more is there, or something has
// waited for long.
func (f *firmware) signLog() {
	for last := (time.Time{}); f.reason() == nil; time.Sleep(signLook) {
		f.sumDenials(false)
		s := f.log.Stats()
		if s.Size == s.Signed || s.Size-s.Signed < audit.SegmentRecords && time.Since(last) < signAfter {
			continue
		}
		if _, err := f.log.Sign(); err != nil {
			log.Printf("%v", err)
			continue
		}
		last = time.Now()
	}
}

// sumDenials records what was counted of denials: of the hour that is over, or all of it
// before the log comes to its end.
func (f *firmware) sumDenials(all bool) {
	if f.log == nil {
		return
	}
	if err := f.log.Summarise(all); err != nil {
		log.Printf("%v", err)
	}
}

// A recorder is where requests are recorded: the log, or in quarantine the ring. It
// implements audit.Recorder.
type recorder struct {
	f    *firmware
	once sync.Once
	ring *audit.Ring // nil where there is no TPM to keep its digest
}

var errNoRing = errors.New("the board is in quarantine, and its TPM keeps no digest")

// now is the recorder of the moment.
func (r *recorder) now() audit.Recorder {
	if r.f.reason() == nil && r.f.log != nil {
		return r.f.log
	}
	r.once.Do(r.openRing)
	if r.ring == nil {
		return nil
	}
	return r.ring
}

// openRing begins the ring.
func (r *recorder) openRing() {
	c := &r.f.chain
	c.Bus.Lock()
	there := c.NV != nil && c.T.Lost() == nil
	c.Bus.Unlock()
	if !there {
		return
	}
	ring, err := audit.NewRing(ringIndex{c}, "controller "+r.f.version, r.f.now, r.f.up)
	if err != nil {
		log.Printf("%v", err)
		return
	}
	r.ring = ring
}

// Begin implements audit.Recorder.
func (r *recorder) Begin(e audit.Entry, safe bool) (*audit.Token, error) {
	if to := r.now(); to != nil {
		return to.Begin(e, safe)
	}
	return nil, code.AuditUnwritable.Errorf("audit: %w: %w", audit.ErrUnrecorded, errNoRing)
}

// Deny implements audit.Recorder.
func (r *recorder) Deny(e audit.Entry) error {
	if to := r.now(); to != nil {
		return to.Deny(e)
	}
	return code.AuditUnwritable.Errorf("audit: %w: %w", audit.ErrUnrecorded, errNoRing)
}

// note records what the board does by itself: of the host, of updates, of volumes. What
// cannot be recorded is counted, and has happened all the same.
func (f *firmware) note(e audit.Event) {
	to, ok := f.records.now().(interface{ Note(audit.Event) error })
	if !ok {
		return // in quarantine, and without a TPM
	}
	if err := to.Note(e); err != nil {
		log.Printf("%v", err)
	}
}

// Ring implements redfish.Ring.
func (r *recorder) Ring() ([]byte, error) {
	ring, ok := r.now().(*audit.Ring)
	if !ok {
		e := redfish.Refuse(http.StatusConflict, "ResourceInStandby")
		e.Next = "The ring is quarantine's, of a board with a TPM: in service read the audit log."
		return nil, e
	}
	if err := ring.Flush(); err != nil {
		return nil, err
	}
	x := ring.Export()
	index, err := (ringIndex{&r.f.chain}).AuditDigest()
	if err != nil {
		return nil, err
	}
	if err := x.Verify(index); err != nil {
		return nil, err
	}
	return x.Encode()
}

// Count implements audit.Recorder.
func (r *recorder) Count(add func(*audit.Counters)) {
	r.f.count(add)
	if to := r.now(); to != nil {
		to.Count(add)
	}
}

// A ringIndex is the TPM's extend index, in its turn on the bus.
type ringIndex struct{ c *chain.Controller }

// AuditDigest implements audit.Extender.
func (r ringIndex) AuditDigest() (audit.Hash, error) {
	r.c.Bus.Lock()
	defer r.c.Bus.Unlock()
	return r.c.NV.AuditDigest()
}

// ExtendAudit implements audit.Extender.
func (r ringIndex) ExtendAudit(h audit.Hash) error {
	r.c.Bus.Lock()
	defer r.c.Bus.Unlock()
	return r.c.NV.ExtendAudit(tpm.Digest(h))
}
