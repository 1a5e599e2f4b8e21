package audit

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// Rations of denials: docs/audit.md, "Rations".
const (
	denialsEach   = 16 // records of their own that a principal's denials have in a period
	denialsAll    = 64 // that all have; of those who have none left each has one more
	denialsPeriod = time.Hour
	denialsNames  = 32 // principals that are counted by name; all others together
)

// A denials tells which denials are records of their own, and counts the others. It answers
// an operator who asks for what he may not have until the log is full.
type denials struct {
	end   time.Duration      // of the period, since the boot
	alone int                // records of their own in it
	of    map[string]*ration // by principal; "" is all that have no place
}

// A ration is a principal's.
type ration struct {
	alone  int  // records of their own
	closed bool // the last of them said that others are counted
	counted
}

// A counted is what was counted of a principal's denials.
type counted struct {
	who      string
	count    uint64
	from, to time.Duration // of the first and the last one, since the boot
	last     Entry
}

// add adds what was counted before or after it.
func (c *counted) add(o counted) {
	if c.count == 0 || o.count > 0 && o.from < c.from {
		c.from = o.from
	}
	if o.to >= c.to {
		c.to, c.last = o.to, o.last
	}
	c.count += o.count
}

// record is the summary.
func (c counted) record() *Record {
	return &Record{Kind: KindDenials, Who: c.who, Action: c.last.Action, Resource: c.last.Resource, Method: c.last.Method,
		Count: c.count, From: c.from.Milliseconds(), To: c.to.Milliseconds()}
}

// ration is that of a principal.
func (d *denials) ration(who string) *ration {
	if d.of == nil {
		d.of = map[string]*ration{}
	}
	if _, named := d.of[who]; !named && len(d.of) >= denialsNames {
		who = ""
	}
	r := d.of[who]
	if r == nil {
		r = &ration{counted: counted{who: who}}
		d.of[who] = r
	}
	return r
}

// take decides on a denial at a time since the boot: it is a record of its own, which says
// so if it is the principal's last one of the period, or it was counted.
func (d *denials) take(e Entry, up time.Duration) (alone, last bool) {
	r := d.ration(e.Who)
	if r.closed {
		r.add(counted{count: 1, from: up, to: up, last: e})
		return false, false
	}
	r.alone++
	d.alone++
	r.closed = r.alone >= denialsEach || d.alone >= denialsAll
	return true, r.closed
}

// due takes out what is to be recorded of the counts: of a period that is over, after which
// another one begins, or all of them.
func (d *denials) due(up time.Duration, all bool) (due []counted) {
	over := up >= d.end
	if !over && !all {
		return nil
	}
	for _, r := range d.of {
		if r.count > 0 {
			due = append(due, r.counted)
			r.counted = counted{who: r.who}
		}
	}
	if over {
		*d = denials{end: up + denialsPeriod}
	}
	slices.SortFunc(due, func(a, b counted) int { return cmp.Compare(a.who, b.who) })
	return due
}

// back takes a count back that could not be recorded: it is in the next one.
func (d *denials) back(c counted) { d.ration(c.who).add(c) }

// waiting is how many denials have been counted and not recorded.
func (d *denials) waiting() (n uint64) {
	for r := range maps.Values(d.of) {
		n += r.count
	}
	return n
}
