// Package verify checks what a board's audit log has exported, with nothing but the
// export, the log's key and, if there are any, the witnesses' (docs/audit.md). It needs
// no board and keeps no state: an auditor keeps the last checkpoint, and gives it to the
// board the next time.
//
// What it proves: each record is one of a tree that the TPM's key has signed; that tree
// is the continuation of the older one; the records tell one story (indices without
// holes, outcomes of intents that there are, boots in order). What it cannot prove: that
// the board has recorded all that it did, which is what the board's own evidence is for;
// and that nobody was shown another tree, which is what witnesses are for.
package verify

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"golang.org/x/mod/sumdb/note"

	"nitro/attest/ijson"
	"nitro/net/audit"
)

// Errors, to be found with errors.Is.
var (
	ErrRecords = errors.New("the records are not those that were signed: some were changed, left out or added")
	ErrForked  = errors.New("the log does not continue the older checkpoint: it was cut off or written anew")
	ErrStory   = errors.New("the records do not fit together")
)

// Keys are what a verifier trusts.
type Keys struct {
	Log       string   // audit.VerifierKey
	Witnesses []string // of type 0x04
	Quorum    int      // how many of them must have cosigned
}

// A Report is what was found in an export that is good.
type Report struct {
	Head     audit.Head
	Cosigned int // by known witnesses
	First    uint64
	Records  []audit.Record
	// Continues says that an older checkpoint was given, and that this one continues it.
	Continues bool
	// Cut are intents without an outcome that a later boot has cut off: what came of them
	// is not known.
	Cut []uint64
	// Open are intents without an outcome so far.
	Open []uint64
	// Missing is how many records the log itself says are missing.
	Missing uint64
	// Counted is how many denials are recorded in sums only.
	Counted uint64
	// Uncounted are denials behind which others of the same principal may have been counted,
	// when a reset came before the sum was recorded: how many is not known, or whether any.
	Uncounted []uint64
}

// Export checks an export. What it reports has been checked; after an error nothing may
// be believed.
func Export(b []byte, k Keys) (*Report, error) {
	var x audit.Export
	if err := ijson.Decode(b, ijson.Limit{Size: audit.MaxExport, Depth: 2}, &x); err != nil {
		return nil, fmt.Errorf("verify: %w", err)
	}
	if x.Format != audit.ExportFormat || len(x.Records) > audit.MaxExportRecords || len(x.Left) > 64 || len(x.Consistency) > 128 {
		return nil, fmt.Errorf("verify: format %d, %d records: this tool knows format %d, %d records", x.Format, len(x.Records), audit.ExportFormat, audit.MaxExportRecords)
	}
	log, witnesses, err := k.verifiers()
	if err != nil {
		return nil, err
	}
	r := &Report{First: x.First}
	if r.Head, r.Cosigned, err = audit.OpenCheckpoint([]byte(x.Checkpoint), log, witnesses...); err != nil {
		return nil, fmt.Errorf("verify: %w", err)
	}
	if r.Cosigned < k.Quorum {
		return nil, fmt.Errorf("verify: the checkpoint over %d records has %d cosignatures of %d that are wanted", r.Head.Size, r.Cosigned, k.Quorum)
	}
	if x.Origin != r.Head.Origin {
		return nil, fmt.Errorf("verify: the export is of %.100q, its checkpoint of %.100q", x.Origin, r.Head.Origin)
	}
	if err := Records(r.Head, x.First, x.Left, x.Records); err != nil {
		return nil, err
	}
	if x.Older != "" {
		older, _, err := audit.OpenCheckpoint([]byte(x.Older), log, witnesses...)
		if err != nil {
			return nil, fmt.Errorf("verify: the older one: %w", err)
		}
		if err := Continues(older, r.Head, x.Consistency); err != nil {
			return nil, err
		}
		r.Continues = true
	}
	return r, r.story(x.Records)
}

func (k Keys) verifiers() (note.Verifier, []note.Verifier, error) {
	log, err := audit.NewLogVerifier(k.Log)
	if err != nil {
		return nil, nil, fmt.Errorf("verify: %w", err)
	}
	var witnesses []note.Verifier
	for _, w := range k.Witnesses {
		v, err := audit.NewWitnessVerifier(w)
		if err != nil {
			return nil, nil, fmt.Errorf("verify: %w", err)
		}
		witnesses = append(witnesses, v)
	}
	return log, witnesses, nil
}

// Records checks that records, from an index on, with the perfect subtrees of what is
// before them, are the tree of a head.
func Records(h audit.Head, first uint64, left [][]byte, records [][]byte) error {
	if first > h.Size || h.Size-first != uint64(len(records)) || len(left) != compact.RangeSize(0, first) {
		return fmt.Errorf("verify: records %d to %d of %d, %d subtrees before them: %w", first, first+uint64(len(records)), h.Size, len(left), ErrRecords)
	}
	for _, l := range left {
		if len(l) != len(h.Root) {
			return fmt.Errorf("verify: a subtree's hash has %d bytes: %w", len(l), ErrRecords)
		}
	}
	factory := compact.RangeFactory{Hash: rfc6962.DefaultHasher.HashChildren}
	tree, err := factory.NewRange(0, first, left)
	if err != nil {
		return fmt.Errorf("verify: %w", err)
	}
	for _, r := range records {
		if err := tree.Append(rfc6962.DefaultHasher.HashLeaf(r), nil); err != nil {
			return fmt.Errorf("verify: %w", err)
		}
	}
	root, err := tree.GetRootHash(nil)
	if err != nil {
		return fmt.Errorf("verify: %w", err)
	}
	if h.Size == 0 {
		root = rfc6962.DefaultHasher.EmptyRoot()
	}
	if string(root) != string(h.Root[:]) {
		return fmt.Errorf("verify: records %d to %d: %w", first, h.Size, ErrRecords)
	}
	return nil
}

// Included checks a proof that a record is in the tree of a head (RFC 6962, 2.1.1).
func Included(h audit.Head, n uint64, record []byte, hashes []audit.Hash) error {
	if n >= h.Size {
		return fmt.Errorf("verify: record %d of %d: %w", n, h.Size, ErrRecords)
	}
	if err := proof.VerifyInclusion(rfc6962.DefaultHasher, n, h.Size, rfc6962.DefaultHasher.HashLeaf(record), lists(hashes), h.Root[:]); err != nil {
		return fmt.Errorf("verify: record %d: %w", n, ErrRecords)
	}
	return nil
}

func lists(hashes []audit.Hash) (all [][]byte) {
	for i := range hashes {
		all = append(all, hashes[i][:])
	}
	return all
}

// Continues checks a proof that a newer tree continues an older one (RFC 6962, 2.1.2).
func Continues(older, newer audit.Head, hashes [][]byte) error {
	if older.Origin != newer.Origin {
		return fmt.Errorf("verify: the older checkpoint is of %.100q, the newer of %.100q: %w", older.Origin, newer.Origin, ErrForked)
	}
	if err := proof.VerifyConsistency(rfc6962.DefaultHasher, older.Size, newer.Size, hashes, older.Root[:], newer.Root[:]); err != nil {
		return fmt.Errorf("verify: %d records, after %d: %w", newer.Size, older.Size, ErrForked)
	}
	return nil
}

// story checks that the records fit together, and notes what stands out.
func (r *Report) story(records [][]byte) error {
	open, rationed := map[uint64]bool{}, map[string]uint64{}
	var boot *audit.Record
	for i, b := range records {
		rec, err := audit.DecodeRecord(b)
		if err != nil {
			return fmt.Errorf("verify: %w", err)
		}
		n := r.First + uint64(i)
		refuse := func(what string) error { return fmt.Errorf("verify: record %d: %s: %w", n, what, ErrStory) }
		if rec.N != n {
			return refuse(fmt.Sprintf("it says that it is %d", rec.N))
		}
		switch rec.Kind {
		case audit.KindBoot:
			if rec.Boot != n {
				return refuse("a boot that is not its own")
			}
			for of := range open {
				r.Cut = append(r.Cut, of)
			}
			clear(open)
			r.Uncounted = slices.AppendSeq(r.Uncounted, maps.Values(rationed))
			clear(rationed)
			boot = rec
		case audit.KindIntent:
			open[n] = true
		case audit.KindOutcome:
			if !open[rec.Of] && rec.Of >= r.First {
				return refuse(fmt.Sprintf("the outcome of %d, which is no intent without one", rec.Of))
			}
			delete(open, rec.Of)
		case audit.KindDenied:
			delete(rationed, rec.Who) // another period has begun
			if rec.Rationed {
				rationed[rec.Who] = n
			}
		case audit.KindDenials:
			if rec.Count == 0 || rec.From > rec.To || rec.To > rec.Up {
				return refuse(fmt.Sprintf("%d denials from %d to %d", rec.Count, rec.From, rec.To))
			}
			r.Counted += rec.Count
			delete(rationed, rec.Who)
		case audit.KindGap:
			r.Missing += rec.Count
		}
		if n == 0 && rec.Kind != audit.KindBoot || boot != nil && rec.Boot != boot.N || rec.Boot > n {
			return refuse("it is not of the boot before it")
		}
		if len(r.Records) > 0 && !follows(&r.Records[len(r.Records)-1], rec) {
			return refuse("it is older than the one before it")
		}
		r.Records = append(r.Records, *rec)
	}
	for of := range open {
		r.Open = append(r.Open, of)
	}
	slices.Sort(r.Cut)
	slices.Sort(r.Open)
	slices.Sort(r.Uncounted)
	return nil
}

// slack is how far the time may go back between two records of a boot: SNTP moves it.
const slack = 10 * time.Minute

// follows reports whether a record's clocks fit behind another's: the time since the boot
// never goes back within one, and the time of day little.
func follows(a, b *audit.Record) bool {
	if b.Kind == audit.KindBoot {
		return true
	}
	if b.Up < a.Up || a.T != "" && b.T == "" {
		return false
	}
	before, err1 := time.Parse(time.RFC3339, a.T)
	after, err2 := time.Parse(time.RFC3339, b.T)
	return err1 != nil || err2 != nil || after.After(before.Add(-slack))
}
