package audit

import (
	"errors"
	"fmt"
	"runtime"
	"slices"

	"nitro/boot/store"
)

// maxGroup is how many records one batch of the store takes, and reservedGroup how many of
// those are for the boot's record and a gap's: docs/audit.md, "Groups".
const (
	maxGroup      = 16
	reservedGroup = 2
)

// A batch has room for as many of the longest records, each with its name of 16 bytes and 4
// bytes more.
const _ = uint(store.MaxBatchBytes - maxGroup*(MaxRecord+20))

// A waiting is a record that is to be written, and what came of it.
type waiting struct {
	record   *Record
	reserved bool // it may use the store's reserve
	done     bool
	err      error
}

// append has a record written, with those of others who come meanwhile, and returns when it
// is durable, or cannot be. The log's lock is let go in between. What the record may take of
// the store's own reserve is the caller's to say.
func (l *Log) append(r *Record, reserved bool) error {
	w := &waiting{record: r, reserved: reserved}
	l.queue = append(l.queue, w)
	l.queued++
	for !w.done {
		if l.writing {
			l.turn.Wait()
		} else {
			l.writeGroup()
		}
	}
	return w.err
}

// writeGroup writes those who wait, the first ones first. Before it takes them it lets who
// is ready to run go on: they may come to the same point, and one batch is then enough for
// all. Where nobody is, that costs nothing.
func (l *Log) writeGroup() {
	l.writing = true
	l.mu.Unlock()
	runtime.Gosched()
	l.mu.Lock()
	group := slices.Clone(l.queue[:min(len(l.queue), maxGroup-reservedGroup)])
	l.queue = slices.Delete(l.queue, 0, len(group))
	l.commit(group)
	l.queued -= len(group)
	for _, w := range group {
		w.done = true
	}
	l.sealAll()
	l.writing = false
	l.turn.Broadcast()
}

// commit writes a group. Where the store has nothing left but its reserve, those who may use
// it are written without the others.
func (l *Log) commit(group []*waiting) {
	may := slices.DeleteFunc(slices.Clone(group), func(w *waiting) bool { return !w.reserved })
	err := l.write(group, len(may) == len(group))
	if errors.Is(err, store.ErrFull) && 0 < len(may) && len(may) < len(group) {
		for _, w := range group {
			if !w.reserved {
				w.err = err
			}
		}
		group, err = may, l.write(may, true)
	}
	for _, w := range group {
		w.err = err
	}
}

// write makes records durable in one batch, and then the log's. An error means that none of
// them is the log's.
func (l *Log) write(group []*waiting, reserved bool) error {
	records, err := l.leading()
	if err != nil {
		return err
	}
	for _, w := range group {
		records = append(records, w.record)
	}
	n := l.tree.size()
	if len(l.tail)+len(records) > MaxTail || n+uint64(len(records)) > MaxRecords {
		return errFull
	}
	batch, leaves := store.Batch{Reserved: reserved}, make([][]byte, len(records))
	for i, r := range records {
		if r.Kind == KindBoot {
			l.boot = n
		}
		stamp(r, n+uint64(i), l.boot, &l.config)
		if leaves[i], err = r.encode(); err != nil {
			return err
		}
		batch.Put(tailName(r.N), leaves[i])
	}
	l.mu.Unlock()
	err = l.config.Store.Commit(&batch)
	l.mu.Lock()
	if err != nil {
		return fmt.Errorf("audit: records %d to %d: %w", n, n+uint64(len(records))-1, err)
	}
	for i, r := range records {
		l.tail = append(l.tail, leaves[i])
		l.tree.tail = append(l.tree.tail, leafHash(leaves[i]))
		switch r.Kind {
		case KindBoot:
			l.begun = true
		case KindGap:
			l.lost -= r.Count
		}
	}
	return nil
}

// leading are the records that come before all others: the boot's, unless it is there, and
// the gap of those that could not be written. A log that was full when the board started has
// no room for its boot at first; then nothing can be written.
func (l *Log) leading() (records []*Record, err error) {
	room := l.room()
	if !l.begun {
		if room < 1+l.pending {
			return nil, errFull
		}
		records = append(records, &Record{Kind: KindBoot, Detail: l.config.Running})
		room--
	}
	if l.lost > 0 && room >= 1+l.pending {
		records = append(records, &Record{Kind: KindGap, Count: l.lost})
	}
	return records, nil
}
