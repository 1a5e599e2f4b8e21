package audit

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"nitro/attest/ijson"
)

// Bounds of a ring.
const (
	RingRecords = 512
	RingBlock   = 16 // records between two extends
)

// An Extender is the TPM's NV extend index: its value becomes SHA-256 of itself and the
// digest.
type Extender interface {
	AuditDigest() (Hash, error)
	ExtendAudit(Hash) error
}

// A Ring is quarantine's log: records in RAM, with their digest in the TPM. It implements
// Recorder.
type Ring struct {
	now     func() (time.Time, bool)
	up      func() time.Duration
	running string
	tpm     Extender

	mu       sync.Mutex
	n        uint64 // of the next record
	begin    RingState
	end      RingState
	records  [][]byte
	extended map[uint64]bool // behind which of the records
	since    int             // records since the last extend
	lost     uint64
	denials  denials
	counts   Counters
	counted  Counters
}

// A RingState is where the digests are between two records.
type RingState struct {
	Chain Hash // of this boot's records
	Index Hash // the TPM's
}

// NewRing begins a ring with the boot's record.
func NewRing(tpm Extender, running string, now func() (time.Time, bool), up func() time.Duration) (*Ring, error) {
	index, err := tpm.AuditDigest()
	if err != nil {
		return nil, fmt.Errorf("audit: ring: %w", err)
	}
	r := &Ring{now: now, up: up, running: running, tpm: tpm, extended: map[uint64]bool{},
		begin: RingState{Index: index}, end: RingState{Index: index}}
	return r, r.append(&Record{Kind: KindBoot, Detail: running})
}

// append writes a record: it takes the oldest one's place when the ring is full.
func (r *Ring) append(rec *Record) error {
	stamp(rec, r.n, 0, &Config{Now: r.now, Up: r.up})
	b, err := rec.encode()
	if err != nil {
		return err
	}
	if r.since >= RingBlock { // the last extend failed: nothing more may rest on RAM alone
		if err := r.extend(); err != nil {
			return err
		}
	}
	if len(r.records) == RingRecords {
		r.begin = r.step(r.begin, r.records[0], r.n-RingRecords)
		delete(r.extended, r.n-RingRecords)
		r.records = r.records[1:]
	}
	r.records = append(r.records, b)
	r.end.Chain = chain(r.end.Chain, leafHash(b))
	r.n++
	if r.since++; r.since >= RingBlock {
		_ = r.extend() // the next record tries again, and is refused if that fails
	}
	return nil
}

func chain(a, b Hash) Hash { return sha256.Sum256(append(a[:], b[:]...)) }

// step takes a state behind one record.
func (r *Ring) step(s RingState, record []byte, n uint64) RingState {
	s.Chain = chain(s.Chain, leafHash(record))
	if r.extended[n] {
		s.Index = chain(s.Index, s.Chain)
	}
	return s
}

// extend tells the TPM.
func (r *Ring) extend() error {
	if r.since == 0 {
		return nil
	}
	if err := r.tpm.ExtendAudit(r.end.Chain); err != nil {
		return fmt.Errorf("audit: ring: %w", err)
	}
	r.end.Index = chain(r.end.Index, r.end.Chain)
	r.extended[r.n-1] = true
	r.since = 0
	return nil
}

// Flush extends the TPM's index by what is new.
func (r *Ring) Flush() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.counts != r.counted {
		c := r.counts
		if err := r.append(&Record{Kind: KindCounters, Counters: &c}); err != nil {
			return err
		}
		r.counted = c
	}
	r.summarise(true)
	return r.extend()
}

// Begin records an intent. See Recorder.
func (r *Ring) Begin(e Entry, safe bool) (*Token, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	rec := e.record(KindIntent)
	err := r.gapThen(&rec)
	switch {
	case err == nil:
		return &Token{Recorded: true, N: rec.N, end: func(o Outcome) error { return r.finish(e, rec.N, o) }}, nil
	case safe || e.Relief:
		r.lost++
		return &Token{end: func(Outcome) error { return nil }}, nil
	}
	return nil, unrecorded(err)
}

func (r *Ring) finish(e Entry, of uint64, o Outcome) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	err := r.gapThen(&Record{Kind: KindOutcome, Of: of, Who: e.Who, Action: e.Action, Status: o.Status, Detail: o.Detail})
	if err != nil {
		r.lost++
	}
	return err
}

// gapThen records what is missing, then a record.
func (r *Ring) gapThen(rec *Record) error {
	if r.lost > 0 {
		if err := r.append(&Record{Kind: KindGap, Count: r.lost}); err != nil {
			return err
		}
		r.lost = 0
	}
	return r.append(rec)
}

// Deny records a refusal, or counts it. See Log: else who may do nothing would push
// everything else out of the ring.
func (r *Ring) Deny(e Entry) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.summarise(false)
	alone, last := r.denials.take(e, r.up())
	if !alone {
		return nil
	}
	rec := e.record(KindDenied)
	rec.Rationed = last
	if err := r.gapThen(&rec); err != nil {
		r.lost++
		return unrecorded(err)
	}
	return nil
}

// summarise records what was counted of denials. See Log.
func (r *Ring) summarise(all bool) {
	for _, c := range r.denials.due(r.up(), all) {
		if r.gapThen(c.record()) != nil {
			r.denials.back(c)
		}
	}
}

// Note records an event. See Log.
func (r *Ring) Note(e Event) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.gapThen(e.record()); err != nil {
		r.lost++
		return unrecorded(err)
	}
	return nil
}

// Count counts. See Recorder.
func (r *Ring) Count(add func(*Counters)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	add(&r.counts)
}

// A RingExport is what a verifier is given of a ring.
type RingExport struct {
	Begin    RingState // before the first of the records
	First    uint64
	Records  [][]byte
	Extended []uint64 // indices of the records behind which the TPM's index was extended
	End      RingState
}

// Export gives the ring as it is. The TPM's index, read or certified by it, must be
// End.Index.
func (r *Ring) Export() RingExport {
	r.mu.Lock()
	defer r.mu.Unlock()
	x := RingExport{Begin: r.begin, First: r.n - uint64(len(r.records)), Records: append([][]byte(nil), r.records...), End: r.end}
	for n := x.First; n < r.n; n++ {
		if r.extended[n] {
			x.Extended = append(x.Extended, n)
		}
	}
	return x
}

// RingFormat is the version of a ring's export.
const RingFormat = 1

// ringWire is a ring's export in JSON: docs/audit.md, "Quarantine".
type ringWire struct {
	Format   int       `json:"format"`
	Begin    stateWire `json:"begin"`
	First    uint64    `json:"first"`
	Records  [][]byte  `json:"records"`
	Extended []uint64  `json:"extended"`
	End      stateWire `json:"end"`
}

type stateWire struct {
	Chain []byte `json:"chain"`
	Index []byte `json:"index"`
}

func (s RingState) wire() stateWire { return stateWire{s.Chain[:], s.Index[:]} }

func (w stateWire) state() (s RingState, err error) {
	if len(w.Chain) != len(s.Chain) || len(w.Index) != len(s.Index) {
		return s, fmt.Errorf("audit: ring: digests of %d and %d bytes", len(w.Chain), len(w.Index))
	}
	return RingState{Hash(w.Chain), Hash(w.Index)}, nil
}

// Encode makes JSON.
func (x RingExport) Encode() ([]byte, error) {
	w := ringWire{RingFormat, x.Begin.wire(), x.First, x.Records, x.Extended, x.End.wire()}
	if w.Extended == nil {
		w.Extended = []uint64{}
	}
	return json.Marshal(w)
}

// MaxRingExport is the longest encoded export in bytes: records in base64, and an index
// for each.
const MaxRingExport = RingRecords*(MaxRecord*4/3+32) + 1024

// DecodeRing reads an export. Verify judges it.
func DecodeRing(b []byte) (x RingExport, err error) {
	var w ringWire
	if err := ijson.Decode(b, ijson.Limit{Size: MaxRingExport, Depth: 2}, &w); err != nil {
		return x, fmt.Errorf("audit: ring: %w", err)
	}
	if w.Format != RingFormat {
		return x, fmt.Errorf("audit: ring: format %d: use a tool that knows it", w.Format)
	}
	x = RingExport{First: w.First, Records: w.Records, Extended: w.Extended}
	if x.Begin, err = w.Begin.state(); err == nil {
		x.End, err = w.End.state()
	}
	return x, err
}

// Verify computes the digests of an export anew, and compares the TPM's index with one
// that the caller has from the TPM.
func (x RingExport) Verify(index Hash) error {
	if len(x.Records) > RingRecords || len(x.Extended) > len(x.Records) {
		return fmt.Errorf("audit: ring: %d records, %d extends: at most %d", len(x.Records), len(x.Extended), RingRecords)
	}
	r := Ring{extended: map[uint64]bool{}}
	for _, n := range x.Extended {
		r.extended[n] = true
	}
	s := x.Begin
	for i, b := range x.Records {
		n := x.First + uint64(i)
		rec, err := DecodeRecord(b)
		if err != nil {
			return err
		}
		if rec.N != n {
			return fmt.Errorf("audit: ring: record %d says that it is %d", n, rec.N)
		}
		s = r.step(s, b, n)
	}
	if s != x.End || s.Index != index {
		return errors.New("audit: ring: the records do not give the TPM's digest: some were changed, left out or added")
	}
	return nil
}
