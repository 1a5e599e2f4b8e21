package audit

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"nitro/boot/store"
)

// Names of the store's records: docs/audit.md, "In the store".
const (
	prefix        = "audit/"
	logName       = prefix + "log"
	noteName      = prefix + "note"
	witnessedName = prefix + "witnessed"
	tails         = prefix + "t/"
	segments      = prefix + "s/"
	pages         = prefix + "h/"
)

// pageHashes is how many segments' hashes a record has: 4,096 bytes, which the store
// keeps in its log.
const pageHashes = 128

func tailName(n uint64) string    { return fmt.Sprintf("%s%08x", tails, n) }
func segmentName(k uint64) string { return fmt.Sprintf("%s%08x", segments, k) }
func pageName(j uint64) string    { return fmt.Sprintf("%s%08x", pages, j) }

// hashPage is page j of the hashes.
func hashPage(all []Hash, j uint64) []byte {
	var b []byte
	for _, h := range all[j*pageHashes : min(uint64(len(all)), (j+1)*pageHashes)] {
		b = append(b, h[:]...)
	}
	return b
}

// Open opens the store's log, or begins one, and records the boot.
func Open(c Config) (*Log, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	l := &Log{config: c}
	l.turn.L = &l.mu
	l.tree.leaves = l.leaves
	for _, step := range []func() error{l.openOrigin, l.openPages, l.openSegments, l.openTail, l.openNotes} {
		if err := step(); err != nil {
			return nil, fmt.Errorf("audit: open: %w", err)
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sealAll()
	if err := l.write(nil, true); err != nil && !errors.Is(err, errFull) {
		return nil, fmt.Errorf("audit: open: %w", err)
	}
	return l, nil
}

// openOrigin reads the log's name, or draws one.
func (l *Log) openOrigin() error {
	b, err := l.config.Store.Get(logName)
	if errors.Is(err, store.ErrNotFound) {
		var id [8]byte
		if _, err := l.config.Random(id[:]); err != nil {
			return err
		}
		l.origin = l.config.Name + "/" + hex.EncodeToString(id[:])
		batch := store.Batch{Reserved: true}
		batch.Put(logName, []byte("1 "+l.origin))
		return l.config.Store.Commit(&batch)
	}
	if err != nil {
		return err
	}
	origin, ok := strings.CutPrefix(string(b), "1 ")
	if !ok || !strings.HasPrefix(origin, l.config.Name+"/") {
		return fmt.Errorf("the log %.200q is not of version 1 and of the board %s: format the store anew", b, l.config.Name)
	}
	l.origin = origin
	return nil
}

// list gives the numbers behind a prefix, which must be one stretch.
func (l *Log) list(prefix string) (from, count uint64, err error) {
	names, err := l.config.Store.List(prefix)
	if err != nil {
		return 0, 0, err
	}
	for i, name := range names {
		n, err := strconv.ParseUint(strings.TrimPrefix(name, prefix), 16, 32)
		if i == 0 {
			from = n
		}
		if err != nil || n != from+uint64(i) || fmt.Sprintf("%s%08x", prefix, n) != name {
			return 0, 0, fmt.Errorf("%q does not follow what is before it: %w", name, store.ErrDamaged)
		}
	}
	return from, uint64(len(names)), nil
}

// openPages reads the hashes of all segments that ever were.
func (l *Log) openPages() error {
	from, count, err := l.list(pages)
	if err != nil {
		return err
	}
	for j := from; j < from+count; j++ {
		b, err := l.config.Store.Get(pageName(j))
		if err != nil {
			return err
		}
		whole := len(b) > 0 && len(b)%len(Hash{}) == 0 && len(b) <= pageHashes*len(Hash{})
		if from != 0 || !whole || j+1 < count && len(b) != pageHashes*len(Hash{}) {
			return fmt.Errorf("page %d of the hashes: %w", j, store.ErrDamaged)
		}
		for ; len(b) > 0; b = b[len(Hash{}):] {
			l.tree.segments = append(l.tree.segments, Hash(b[:len(Hash{})]))
		}
	}
	return nil
}

// openSegments finds out which segments are kept.
func (l *Log) openSegments() error {
	from, count, err := l.list(segments)
	if err != nil {
		return err
	}
	if l.first = from; count == 0 {
		l.first = uint64(len(l.tree.segments))
	}
	if l.first+count != uint64(len(l.tree.segments)) {
		return fmt.Errorf("segments %d to %d of %d: %w", from, from+count, len(l.tree.segments), store.ErrDamaged)
	}
	return nil
}

// openTail reads the tail.
func (l *Log) openTail() error {
	from, count, err := l.list(tails)
	if err != nil {
		return err
	}
	for n := from; n < from+count; n++ {
		b, err := l.config.Store.Get(tailName(n))
		if err != nil {
			return err
		}
		if n != l.tree.size() || len(b) > MaxRecord || len(l.tail) >= MaxTail {
			return fmt.Errorf("record %d of %d: %w", n, l.tree.size(), store.ErrDamaged)
		}
		l.tail = append(l.tail, b)
		l.tree.tail = append(l.tree.tail, leafHash(b))
	}
	return nil
}

// openNotes reads the checkpoints, and holds the log to them.
func (l *Log) openNotes() error {
	var err error
	if l.note, l.noteTo, err = l.openNote(noteName); err != nil {
		return err
	}
	l.seen, l.seenTo, err = l.openNote(witnessedName)
	return err
}

// openNote reads a checkpoint, if there is one. Its signature need not be verified: the
// store has authenticated it.
func (l *Log) openNote(name string) ([]byte, uint64, error) {
	b, err := l.config.Store.Get(name)
	if errors.Is(err, store.ErrNotFound) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, err
	}
	h, err := parseHead(noteText(b))
	if err != nil {
		return nil, 0, err
	}
	root, err := l.tree.root(h.Size)
	switch {
	case errors.Is(err, ErrGone): // the size lies within a segment that was cleared
		return b, h.Size, nil
	case err != nil || root != h.Root || h.Origin != l.origin:
		return nil, 0, fmt.Errorf("the checkpoint over %d records: %w", h.Size, ErrForked)
	}
	return b, h.Size, nil
}
