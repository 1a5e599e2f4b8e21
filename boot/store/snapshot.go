package store

import (
	"cmp"
	"iter"
	"maps"
	"slices"
	"strings"
)

// A Snapshot is the store as it was at one moment. It takes the memory of the index, and
// keeps released segments from being used; it must be closed. If the store needs them all
// the same, what is read from then on is ErrStale.
type Snapshot struct {
	s     *Store
	view  *view
	index map[hash]entry
}

// Snapshot takes one.
func (s *Store) Snapshot() (*Snapshot, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.mayRead(); err != nil {
		return nil, err
	}
	return &Snapshot{s: s, view: s.look(), index: maps.Clone(s.index)}, nil
}

// Close ends it.
func (p *Snapshot) Close() {
	p.s.mu.Lock()
	defer p.s.mu.Unlock()
	p.s.unlook(p.view)
	p.index = nil
}

// Len is how many records it has.
func (p *Snapshot) Len() int { return len(p.index) }

// fresh tells whether its segments are still there.
func (p *Snapshot) fresh() error {
	if p.view.stale {
		return ErrStale
	}
	return nil
}

// Get reads a record.
func (p *Snapshot) Get(name string) ([]byte, error) {
	p.s.mu.Lock()
	defer p.s.mu.Unlock()
	if err := p.fresh(); err != nil {
		return nil, err
	}
	return p.s.get(p.index, name)
}

// Reader opens a record for reading.
func (p *Snapshot) Reader(name string) (*Reader, error) {
	p.s.mu.Lock()
	defer p.s.mu.Unlock()
	if err := p.fresh(); err != nil {
		return nil, err
	}
	return p.s.reader(p.index, name)
}

// Names gives the names of all records, in the order in which they lie in the log. Where
// that cannot be read it gives an error and goes on.
func (p *Snapshot) Names() iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for _, f := range p.frames() {
			names, err := p.namesIn(f)
			if err != nil && !yield("", err) {
				return
			}
			for _, n := range names {
				if !yield(n, nil) {
					return
				}
			}
		}
	}
}

// frames are those of the log that a record is in.
func (p *Snapshot) frames() []entry {
	frames := slices.SortedFunc(maps.Values(p.index), func(x, y entry) int {
		return cmp.Or(cmp.Compare(x.segment, y.segment), cmp.Compare(x.sector, y.sector))
	})
	return slices.CompactFunc(frames, func(x, y entry) bool { return x.segment == y.segment && x.sector == y.sector })
}

func (p *Snapshot) namesIn(f entry) (names []string, err error) {
	p.s.mu.Lock()
	defer p.s.mu.Unlock()
	if err := p.s.mayRead(); err != nil {
		return nil, err
	}
	if err := p.fresh(); err != nil {
		return nil, err
	}
	err = p.s.operations(f, func(o *op) error {
		e, there := p.index[p.s.keys.hash(o.name)]
		if there && o.kind != opDelete && e.segment == f.segment && e.sector == f.sector {
			names = append(names, o.name)
		}
		return nil
	})
	return names, err
}

// List gives the names that begin with a prefix, sorted.
func (s *Store) List(prefix string) ([]string, error) {
	p, err := s.Snapshot()
	if err != nil {
		return nil, err
	}
	defer p.Close()
	var names []string
	for n, err := range p.Names() {
		if err != nil {
			return nil, err
		}
		if strings.HasPrefix(n, prefix) {
			names = append(names, n)
		}
	}
	slices.Sort(names)
	return names, nil
}
