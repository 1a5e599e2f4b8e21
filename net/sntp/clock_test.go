package sntp_test

import (
	"errors"
	"testing"
	"time"

	"nitro/net/sntp"
)

// A world is a machine with a clock, one on a battery, and a store.
type world struct {
	at, battery, stored time.Time
	up                  time.Duration
	saves               int
	broken              error
}

var signed = time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)

func (w *world) clock(stored time.Time) *sntp.Clock {
	return sntp.NewClock(sntp.ClockConfig{
		Now:  func() time.Time { return w.at },
		Set:  func(t time.Time) error { w.at = t; return w.broken },
		Last: func(t time.Time) error { w.battery = t; return nil },
		Save: func(t time.Time) error { w.stored = t; w.saves++; return nil },
		Up:   func() time.Duration { return w.up }, Floor: signed, Stored: stored,
	})
}

func (w *world) pass(d time.Duration) { w.at, w.up = w.at.Add(d), w.up+d }

// says is what time servers agree on.
func says(t time.Time) *sntp.Result {
	return &sntp.Result{Asked: time.Now(), Offset: time.Until(t)}
}

func near(a, b time.Time) bool { return a.Sub(b).Abs() < 5*time.Second }

func TestFirstTime(t *testing.T) {
	const day = 24 * time.Hour
	for _, c := range []struct {
		name   string
		stored time.Time
		first  func(*sntp.Clock, *world) error
		good   bool
	}{
		{"battery at the floor", time.Time{}, battery(signed), true},
		{"battery before what was signed", time.Time{}, battery(signed.Add(-time.Second)), false},
		{"battery before what was stored", signed.Add(day), battery(signed.Add(day - time.Second)), false},
		{"battery of an age", time.Time{}, battery(signed.Add(sntp.BatterySpan)), true},
		{"battery beyond it", time.Time{}, battery(signed.Add(sntp.BatterySpan + time.Second)), false},
		{"servers at the floor", time.Time{}, network(signed.Add(5 * time.Second)), true},
		{"servers before it", time.Time{}, network(signed.Add(-5 * time.Second)), false},
		{"servers before what was stored", signed.Add(day), network(signed.Add(day - time.Minute)), false},
		{"servers in a year", time.Time{}, network(signed.Add(sntp.NetworkSpan - time.Minute)), true},
		{"servers beyond it", time.Time{}, network(signed.Add(sntp.NetworkSpan + time.Minute)), false},
		{"operator at the floor", time.Time{}, owner(signed), true},
		{"operator before it", time.Time{}, owner(signed.Add(-1)), false},
		{"operator beyond 20 years", time.Time{}, owner(signed.Add(sntp.OwnerSpan + 1)), false},
	} {
		w := &world{at: time.Unix(0, 0)}
		k := w.clock(c.stored)
		err := c.first(k, w)
		if (err == nil) != c.good || k.Known() != c.good || err != nil && !errors.Is(err, sntp.ErrBound) {
			t.Errorf("%s: %v, known: %v", c.name, err, k.Known())
		}
	}
}

func battery(at time.Time) func(*sntp.Clock, *world) error {
	return func(k *sntp.Clock, w *world) error { w.at = at; return k.Battery() }
}

func network(at time.Time) func(*sntp.Clock, *world) error {
	return func(k *sntp.Clock, w *world) error { _, err := k.Network(says(at)); return err }
}

func owner(at time.Time) func(*sntp.Clock, *world) error {
	return func(k *sntp.Clock, w *world) error { return k.Owner(at) }
}

// TestPull: whoever is on the path moves a known time by a minute and 200 ppm, and no
// further, however often he tries.
func TestPull(t *testing.T) {
	for _, direction := range []time.Duration{1, -1} {
		w := &world{at: signed.Add(100 * time.Hour)}
		k := w.clock(w.at)
		if err := k.Battery(); err != nil {
			t.Fatal(err)
		}
		honest := w.at
		for range 1000 { // each time by as much as goes
			for _, step := range []time.Duration{time.Hour, time.Minute, 10 * time.Second, time.Second} {
				k.Network(says(w.at.Add(direction * step)))
			}
			w.pass(1024 * time.Second)
			honest = honest.Add(1024 * time.Second)
		}
		pulled := w.at.Sub(honest).Abs()
		most := time.Minute + 1000*1024*time.Second/5000
		if pulled > most || pulled < most/2 && direction > 0 {
			t.Errorf("pulled by %v: at most %v", pulled, most)
		}
	}
	// However long a board runs, an hour is all.
	w := &world{at: signed.Add(time.Hour)}
	k := w.clock(time.Time{})
	must(t, k.Battery())
	w.pass(5 * 365 * 24 * time.Hour)
	if _, err := k.Network(says(w.at.Add(time.Hour + time.Minute))); !errors.Is(err, sntp.ErrBound) {
		t.Errorf("an hour and a minute: %v", err)
	}
	if by, err := k.Network(says(w.at.Add(59 * time.Minute))); err != nil || by < 58*time.Minute {
		t.Errorf("59 minutes after five years: %v, %v", by, err)
	}
}

// TestFarBoot: a clock on the battery that has drifted while the board was off is put
// right by as much as it can have drifted.
func TestFarBoot(t *testing.T) {
	w := &world{at: signed.Add(100 * 24 * time.Hour)}
	k := w.clock(signed)
	must(t, k.Battery())
	if _, err := k.Network(says(w.at.Add(20 * time.Minute))); err != nil {
		t.Errorf("100 days without power: %v", err)
	}
	if !near(w.battery, w.at) {
		t.Errorf("the clock on the battery is at %v, and it is %v", w.battery, w.at)
	}
}

// TestAlone: a time that only servers have said ends with the boot, and an operator
// corrects it.
func TestAlone(t *testing.T) {
	w := &world{at: time.Unix(0, 0)}
	k := w.clock(time.Time{})
	lie := signed.Add(300 * 24 * time.Hour)
	if _, err := k.Network(says(lie)); err != nil || !near(w.at, lie) {
		t.Fatal(w.at, err)
	}
	w.pass(48 * time.Hour)
	must(t, k.Keep())
	if w.saves > 0 || !w.battery.IsZero() || k.Floor() != signed {
		t.Errorf("%d saves, battery %v, floor %v", w.saves, w.battery, k.Floor())
	}
	must(t, k.Owner(signed.Add(time.Hour)))
	if w.saves != 1 || !near(w.at, signed.Add(time.Hour)) || w.battery != w.at || k.Floor() != w.at {
		t.Errorf("%d saves, it is %v, battery %v, floor %v", w.saves, w.at, w.battery, k.Floor())
	}
	if err := k.Owner(w.at.Add(sntp.OwnerStep + time.Second)); !errors.Is(err, sntp.ErrBound) {
		t.Errorf("an operator's leap: %v", err)
	}
	if err := k.Owner(w.at.Add(-time.Second)); !errors.Is(err, sntp.ErrBound) {
		t.Errorf("an operator's step below the floor: %v", err)
	}
}

// TestEndurance: a day of boots and polls writes little.
func TestEndurance(t *testing.T) {
	w := &world{at: signed}
	for range 24 * 6 { // a boot each ten minutes
		k := w.clock(w.stored)
		must(t, k.Battery())
		for range 10 {
			w.pass(time.Minute)
			must(t, k.Keep())
		}
	}
	if w.saves > 25 {
		t.Errorf("%d writes in a day of boots", w.saves)
	}
	w.saves = 0
	k := w.clock(w.stored)
	must(t, k.Battery())
	for range 10 * 24 * 60 {
		w.pass(time.Minute)
		must(t, k.Keep())
	}
	if w.saves < 9 || w.saves > 11 {
		t.Errorf("%d writes in ten days", w.saves)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
