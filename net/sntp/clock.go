package sntp

import (
	"errors"
	"fmt"
	"sync"
	"time"
)

// The time rules' bounds (docs/time.md).
const (
	BatterySpan  = 10 * 365 * 24 * time.Hour // of the clock on the battery, above the floor: the life of one
	NetworkSpan  = 366 * 24 * time.Hour      // of SNTP before the time is known, above the floor
	OwnerSpan    = 20 * 365 * 24 * time.Hour // of an operator before it is known, above the floor
	OwnerStep    = 5 * time.Minute           // of an operator, from a time that is known
	moveBase     = time.Minute               // that SNTP may move a known time by
	moveParts    = 200                       // and of the time since the anchor, ppm
	moveMost     = time.Hour                 // and never more
	storeEach    = 24 * time.Hour            // between two stored times
	storeLeast   = time.Hour                 // that one is newer
	smallestStep = 100 * time.Millisecond
)

// ErrBound tells that a time is refused, and what could be.
var ErrBound = errors.New("the time rules do not allow it")

// A Bound is an ErrBound with what would be allowed.
type Bound struct {
	Time, From, To time.Time
}

func (b *Bound) Error() string {
	f := func(t time.Time) string { return t.UTC().Format(time.RFC3339) }
	return fmt.Sprintf("time %s: %v: it may be from %s to %s; an operator can set it (setTime)", f(b.Time), ErrBound, f(b.From), f(b.To))
}

// Is makes a Bound an ErrBound.
func (b *Bound) Is(err error) bool { return err == ErrBound }

// A ClockConfig is what a Clock rules.
type ClockConfig struct {
	Now func() time.Time      // the machine's clock
	Set func(time.Time) error // sets it
	// Last sets the clock on the battery. Save keeps the time in the store; it is nil where
	// there is none. Neither gets a time that nobody but time servers has said.
	Last func(time.Time) error
	Save func(time.Time) error
	// Up is a clock that nobody sets: the time since the boot.
	Up func() time.Duration
	// Floor is the latest of the times that have passed for sure, the stored one apart. It
	// is 2025 at least: this code is not older.
	Floor time.Time
	// Stored is the stored time; zero if there is none.
	Stored time.Time
}

// A Clock is a machine's clock under the time rules. Its methods may be called by several
// goroutines.
type Clock struct {
	config ClockConfig

	mu     sync.Mutex
	floor  time.Time
	known  bool
	alone  bool          // only time servers have said so
	anchor time.Duration // Up at the anchor, which may lie before this boot
	moved  time.Duration // by SNTP since then
	saved  time.Time     // the stored time
}

// NewClock makes a clock whose time is not known.
func NewClock(c ClockConfig) *Clock {
	k := &Clock{config: c, floor: later(c.Floor, pivot), saved: c.Stored}
	if c.Stored.After(k.floor) {
		k.floor = c.Stored
	}
	return k
}

// Known tells whether the time is known.
func (k *Clock) Known() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.known
}

// Floor is a time that has passed for sure.
func (k *Clock) Floor() time.Time {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.floor
}

// Stored is the time that was stored last; zero if none was.
func (k *Clock) Stored() time.Time {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.saved
}

func within(t, from, to time.Time) error {
	if t.Before(from) || t.After(to) {
		return &Bound{t, from, to}
	}
	return nil
}

// Battery takes the machine's clock, as the one on the battery has set it, for the time.
// It answers the clock that lost its time, or was set by who had the board in his hands.
func (k *Clock) Battery() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.config.Now()
	if err := within(now, k.floor, k.floor.Add(BatterySpan)); err != nil {
		return err
	}
	k.known = true
	k.anchor = k.config.Up() - now.Sub(k.floor)
	return k.keep()
}

// Owner sets the time as an operator wants it. It answers who moves the clock to where an
// ended certificate is valid: a known time moves in small steps.
func (k *Clock) Owner(t time.Time) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	from, to := k.floor, k.floor.Add(OwnerSpan)
	if k.known && !k.alone {
		now := k.config.Now()
		from, to = later(now.Add(-OwnerStep), k.floor), now.Add(OwnerStep)
	}
	if err := within(t, from, to); err != nil {
		return err
	}
	k.alone = false
	return k.set(t)
}

// Network sets the time as the time servers agree on it, or refuses: package comment. It
// tells by how much the clock was moved; 0 where it was right.
func (k *Clock) Network(r *Result) (time.Duration, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	t := r.Time()
	if !k.known {
		if err := within(t, k.floor, k.floor.Add(NetworkSpan)); err != nil {
			return 0, err
		}
		k.alone = true
		return t.Sub(k.config.Now()), k.set(t)
	}
	now := k.config.Now()
	off := t.Sub(now)
	if off.Abs() <= max(smallestStep, r.Error) {
		return 0, k.keep()
	}
	most := k.allowance()
	straight := now.Add(-k.moved) // what it would be without SNTP
	if err := within(t, later(straight.Add(-most), k.floor), straight.Add(most)); err != nil {
		return 0, errors.Join(err, k.keep())
	}
	k.moved += off
	return off, k.turn(t)
}

// allowance is by how much SNTP may move a known time, since the anchor.
func (k *Clock) allowance() time.Duration {
	since := max(k.config.Up()-k.anchor, 0)
	return min(moveBase+since/1e6*moveParts, moveMost)
}

// set sets the clock, which becomes the anchor.
func (k *Clock) set(t time.Time) error {
	k.known, k.anchor, k.moved = true, k.config.Up(), 0
	return k.turn(t)
}

// turn sets the clocks.
func (k *Clock) turn(t time.Time) error {
	if err := k.config.Set(t); err != nil {
		k.known = false
		return fmt.Errorf("sntp: setting the clock: %w", err)
	}
	if k.alone {
		return nil
	}
	err := k.config.Last(t)
	if err != nil {
		err = fmt.Errorf("sntp: the clock on the battery: %w", err) // the next boot asks again
	}
	return errors.Join(err, k.keep())
}

// Keep stores the time if that is due. It is called now and then.
func (k *Clock) Keep() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.keep()
}

func (k *Clock) keep() error {
	if !k.known || k.alone || k.config.Save == nil {
		return nil
	}
	now := k.config.Now()
	wait := storeEach
	if k.saved == k.config.Stored { // not in this boot
		wait = storeLeast
	}
	if !k.saved.IsZero() && now.Before(k.saved.Add(wait)) {
		return nil
	}
	if err := k.config.Save(now); err != nil {
		return fmt.Errorf("sntp: storing the time: %w", err)
	}
	k.saved, k.floor = now, later(now, k.floor)
	return nil
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
