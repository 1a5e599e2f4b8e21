package audit

import (
	"fmt"

	"github.com/transparency-dev/merkle/proof"
	"golang.org/x/mod/sumdb/note"

	"nitro/boot/store"
)

// Checkpoint is the last one that was signed, and its size; nil and 0 if none was.
func (l *Log) Checkpoint() ([]byte, uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.note, l.noteTo
}

// Sign signs the tree as it is, if it has grown since the last time, and gives the
// checkpoint. It has the store step the TPM's freshness counter: docs/audit.md,
// "Tree and checkpoints", says how often that may be.
func (l *Log) Sign() ([]byte, error) {
	head, err := l.head()
	if err != nil {
		return nil, err
	}
	if last, size := l.Checkpoint(); last != nil && size >= head.Size {
		return last, nil
	}
	// Before the world sees a size, nobody must be able to take the log back below it.
	if err := l.config.Store.Checkpoint(); err != nil {
		return nil, fmt.Errorf("audit: sign: %w", err)
	}
	signer, err := newNoteSigner(l.origin, l.config.Signer)
	if err != nil {
		return nil, err
	}
	b, err := note.Sign(&note.Note{Text: head.text()}, signer)
	if err != nil {
		return nil, fmt.Errorf("audit: sign: %w", err)
	}
	return b, l.keepNote(head, b)
}

// head records the counters, if they have changed, and gives the tree's head.
func (l *Log) head() (Head, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c := l.counts; c != l.counted && l.room() >= 1+l.pending+Reserve {
		if err := l.append(&Record{Kind: KindCounters, Counters: &c}, false); err != nil {
			return Head{}, err
		}
		l.counted = c
	}
	root, err := l.tree.root(l.tree.size())
	return Head{l.origin, l.tree.size(), root}, err
}

// keepNote makes a checkpoint the last one, unless a later one overtook it.
func (l *Log) keepNote(h Head, b []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.noteTo > h.Size {
		return nil
	}
	batch := store.Batch{Reserved: true}
	batch.Put(noteName, b)
	if err := l.config.Store.Commit(&batch); err != nil {
		return fmt.Errorf("audit: sign: %w", err)
	}
	l.note, l.noteTo = b, h.Size
	return nil
}

// Witness takes a checkpoint of this log back that a witness has cosigned. What lies
// below its size may be cleared from then on.
func (l *Log) Witness(b []byte) error {
	var known []note.Verifier
	for _, key := range l.witnesses() {
		v, err := NewWitnessVerifier(key)
		if err != nil {
			return err
		}
		known = append(known, v)
	}
	key, err := VerifierKey(l.origin, l.config.Signer.Public())
	if err != nil {
		return err
	}
	own, err := NewLogVerifier(key)
	if err != nil {
		return err
	}
	h, cosigned, err := OpenCheckpoint(b, own, known...)
	if err != nil || cosigned == 0 {
		return fmt.Errorf("audit: witness: %w (%d cosignatures; %v)", ErrWitness, cosigned, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	root, err := l.tree.root(min(h.Size, l.tree.size()))
	if err != nil || h.Size > l.tree.size() || root != h.Root {
		return fmt.Errorf("audit: witness of %d records: %w", h.Size, ErrForked)
	}
	if h.Size <= l.seenTo {
		return nil
	}
	batch := store.Batch{Reserved: true}
	batch.Put(witnessedName, b)
	if err := l.config.Store.Commit(&batch); err != nil {
		return fmt.Errorf("audit: witness: %w", err)
	}
	l.seen, l.seenTo = b, h.Size
	return nil
}

// SetWitnesses has other keys count from now on: those of a configuration that has come
// into force.
func (l *Log) SetWitnesses(keys []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.config.Witnesses = keys
}

func (l *Log) witnesses() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.config.Witnesses
}

// Witnessed is the last checkpoint that came back with a witness's cosignature, and its
// size; nil and 0 if none did.
func (l *Log) Witnessed() ([]byte, uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.seen, l.seenTo
}

// Compact deletes the segments that are witnessed as a whole, the oldest first, and tells
// how many records went.
func (l *Log) Compact() (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	before := l.first
	for to := min(l.seenTo/SegmentRecords, uint64(len(l.tree.segments))); l.first < to; {
		var batch store.Batch
		batch.Delete(segmentName(l.first))
		if err := l.config.Store.Commit(&batch); err != nil {
			return int(l.first-before) * SegmentRecords, err
		}
		l.first++
	}
	l.sealAll()
	return int(l.first-before) * SegmentRecords, nil
}

// Inclusion proves that a record is in the tree of a size (RFC 6962, 2.1.1).
func (l *Log) Inclusion(n, size uint64) ([]Hash, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n >= size || size > l.tree.size() {
		return nil, fmt.Errorf("audit: record %d in a tree of %d: %w", n, size, ErrRange)
	}
	nodes, err := proof.Inclusion(n, size)
	if err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	return l.tree.prove(nodes)
}

// Consistency proves that the tree of a size is the beginning of a later one's (RFC 6962,
// 2.1.2).
func (l *Log) Consistency(older, newer uint64) ([]Hash, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if older > newer || newer > l.tree.size() {
		return nil, fmt.Errorf("audit: trees of %d and %d: %w", older, newer, ErrRange)
	}
	nodes, err := proof.Consistency(older, newer)
	if err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	return l.tree.prove(nodes)
}
