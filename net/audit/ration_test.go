package audit_test

import (
	"fmt"
	"testing"
	"time"

	"nitro/net/audit"
	"nitro/net/audit/verify"
)

// who is an entry of a principal's.
func who(name string) audit.Entry {
	e := entry
	e.Who = "spiffe://owner.example/operator/" + name
	return e
}

// TestRations: of a principal's denials in an hour 16 are records, of all 64, and one each of
// those who have none left; the others are counted, and the sum is recorded when the hour is
// over, or before the end.
func TestRations(t *testing.T) {
	b := newBoard(t)
	l := b.open(t)
	deny := func(name string, times int) {
		t.Helper()
		for range times {
			if err := l.Deny(who(name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	records := func() (all []*audit.Record) {
		t.Helper()
		texts, err := l.Records(0, 10000)
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range texts {
			r, err := audit.DecodeRecord(b)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, r)
		}
		return all
	}
	deny("mona", 1000)
	deny("lisa", 3)
	all := records()
	if len(all) != 1+16+3 || !all[16].Rationed || all[15].Rationed || all[19].Rationed || l.Stats().Denials != 984 {
		t.Fatalf("%d records, %d counted", len(all), l.Stats().Denials)
	}
	first := b.up
	if err := l.Summarise(false); err != nil || len(records()) != 20 {
		t.Errorf("within the hour: %v, %d records", err, len(records()))
	}
	b.up += time.Hour
	deny("mona", 1)
	all = records()
	sum := all[20]
	if len(all) != 22 || sum.Kind != audit.KindDenials || sum.Who != who("mona").Who || sum.Count != 984 || sum.From < 16 || sum.From > sum.To || sum.To > first.Milliseconds() ||
		sum.Action != entry.Action || sum.Resource != entry.Resource || all[21].Kind != audit.KindDenied || all[21].Rationed {
		t.Errorf("%d records, %+v", len(all), sum)
	}
	for n := range 40 { // eight of each: all share 64, and each has one more
		deny(fmt.Sprint(n), 8)
	}
	if n := len(records()) - 22; n != 63+23+1 { // behind mona's 0 to 6 have eight, 7 has seven, then 23 one each, and all others one
		t.Errorf("%d records of 40 principals", n)
	}
	if err := l.Summarise(true); err != nil || l.Stats().Denials != 0 {
		t.Errorf("%v, %d counted", err, l.Stats().Denials)
	}
	total := uint64(0)
	nameless := 0
	for _, r := range records() {
		switch r.Kind {
		case audit.KindDenied:
			total++
		case audit.KindDenials:
			total += r.Count
			if r.Who == "" {
				nameless++
			}
		}
	}
	if total != 1000+3+1+40*8 || nameless != 1 {
		t.Errorf("%d denials, %d sums of nobody in particular", total, nameless)
	}
}

// TestRationsLast: a principal that asks as fast as it can for a day fills little of the log,
// and nothing of it is forgotten: not where the log is full, and not without a word where the
// power goes.
func TestRationsLast(t *testing.T) {
	b := newBoard(t)
	b.config.Segments = 12
	l := b.open(t)
	for range 24 * 60 {
		b.up += time.Minute
		for range 3 {
			if err := l.Deny(who("mona")); err != nil {
				t.Fatal(err)
			}
		}
	}
	if n := l.Stats().Size; n > 24*17+1 {
		t.Errorf("%d records in a day", n)
	}
	for l.Stats().Room > audit.Reserve+1 {
		if token, err := l.Begin(entry, false); err == nil {
			_ = token.End(audit.Outcome{Status: 200})
		} else if err := l.Note(audit.Event{Action: "hostHeld"}); err != nil {
			t.Fatal(err)
		}
	}
	for range 200 { // of a full log
		_ = l.Deny(who("lisa"))
	}
	b.up += 2 * time.Hour
	if err := l.Summarise(false); err == nil && l.Stats().Denials > 0 {
		t.Error("what is counted was taken for recorded")
	}
	clearLog(t, b, l)
	if err := l.Summarise(true); err != nil || l.Stats().Denials != 0 {
		t.Errorf("%v, %+v", err, l.Stats())
	}
	for range 17 {
		_ = l.Deny(who("mona"))
	}
	l = b.open(t) // a power cut: one was counted only
	if err := l.Deny(who("mona")); err != nil {
		t.Error(err)
	}
	sign(t, l)
	first := l.Stats().First
	r, err := verify.Export(export(t, l, first, nil), verify.Keys{Log: b.key(t, l)})
	if err != nil {
		t.Fatal(err)
	}
	lisas := uint64(0)
	for _, rec := range r.Records {
		if rec.Kind == audit.KindDenials && rec.Who == who("lisa").Who {
			lisas += rec.Count
		}
	}
	if lisas != 200-16 {
		t.Errorf("%d denials were counted while the log was full", lisas)
	}
	if len(r.Uncounted) != 1 || !r.Records[r.Uncounted[0]-first].Rationed {
		t.Errorf("cut off in %v", r.Uncounted)
	}
}

// TestRingRations: who may do nothing does not push out of the ring what others did.
func TestRingRations(t *testing.T) {
	i := &index{}
	r := newRing(t, i)
	token, err := r.Begin(entry, false)
	if err != nil {
		t.Fatal(err)
	}
	if err := token.End(audit.Outcome{Status: 200}); err != nil {
		t.Fatal(err)
	}
	for range 10 * audit.RingRecords {
		if err := r.Deny(who("mona")); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Flush(); err != nil {
		t.Fatal(err)
	}
	x := r.Export()
	if err := x.Verify(i.value); err != nil || x.First != 0 || len(x.Records) != 1+2+16+1 {
		t.Errorf("%v, %d records from %d on", err, len(x.Records), x.First)
	}
	sum, err := audit.DecodeRecord(x.Records[len(x.Records)-1])
	if err != nil || sum.Kind != audit.KindDenials || sum.Count != 10*audit.RingRecords-16 {
		t.Errorf("%+v, %v", sum, err)
	}
}
