package resetctl

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"nitro/attest/eventlog"
	"nitro/boot/code"
	"nitro/resetctl/cycle"
	"nitro/resetctl/ticket"
)

// A Controller carries out what package cycle decides. One goroutine runs it.
type Controller struct {
	c     Config
	tells chan told

	// What follows belongs to the goroutine that runs it.
	state    cycle.State
	action   cycle.Action
	since    time.Duration // the action is under way
	pressed  bool          // the button was, in this action
	record   Record
	cause    error            // behind the last event
	events   []eventlog.Event // of this cycle
	measured Measurement
	adopted  *ticket.Ticket
	dead     bool   // a call of Firmware has not returned
	pending  []told // what came during an action that had to end first

	mu   sync.Mutex
	seen Status
}

// A Status is what can be said about the host.
type Status struct {
	State cycle.State
	View  cycle.View // the last one; empty before the first look
}

// told is an event from other goroutines, and where its answer goes.
type told struct {
	e      cycle.Event
	answer chan error
}

// New makes a controller. It touches no line.
func New(c Config) (*Controller, error) {
	if err := c.Lines.check(); err != nil {
		return nil, err
	}
	if c.Limits == (Limits{}) {
		c.Limits = DefaultLimits
	}
	return &Controller{c: c, tells: make(chan told)}, nil
}

// Status tells how things stand.
func (c *Controller) Status() Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.seen
}

// Ask asks for something. An error has the code of the refusal; nil says that it is being
// done, not that it is done: Status tells.
func (c *Controller) Ask(ctx context.Context, r cycle.Request) error {
	if r == cycle.AskOff && c.c.Lines.Button == nil {
		return code.HostUnsupported.Errorf("resetctl: the board has no power button line: force off instead")
	}
	return c.tell(ctx, cycle.Asked{Request: r})
}

// TPMLost tells that the TPM has failed in some other place.
func (c *Controller) TPMLost(ctx context.Context, why code.Code) error {
	return c.tell(ctx, cycle.TPMLost{Code: why})
}

func (c *Controller) tell(ctx context.Context, e cycle.Event) error {
	t := told{e, make(chan error, 1)}
	select {
	case c.tells <- t:
	case <-ctx.Done():
		return code.HostBusy.Errorf("resetctl: the host's control does not listen: %w", ctx.Err())
	}
	select {
	case err := <-t.answer:
		return err
	case <-ctx.Done():
		return code.HostBusy.Errorf("resetctl: the host's control does not answer: %w", ctx.Err())
	}
}

// Run runs until the context ends, and leaves the lines as they are then. An error says
// that it could not begin; the lines are held then.
func (c *Controller) Run(ctx context.Context) error {
	var record Record
	err := c.limited(ctx, c.c.Limits.Flash, func(context.Context) (err error) {
		record, err = c.c.Store.Record()
		return err
	})
	if err != nil {
		return errors.Join(fmt.Errorf("resetctl: the record of the host: %w", err), c.c.Lines.drive(cycle.All, true))
	}
	c.record = record
	goal := cycle.StayHeld
	if record.Run {
		goal = cycle.Run
	}
	c.step(cycle.Boot{Lines: c.c.Lines.Has(), Keeps: c.c.Lines.Keeps(), Cycle: record.Cycle, Goal: goal, Why: c.c.Held})
	for ctx.Err() == nil {
		if len(c.pending) > 0 {
			t := c.pending[0]
			c.pending = c.pending[1:]
			c.take(t)
			continue
		}
		c.keepGoal(ctx)
		if e := c.do(ctx); e != nil && ctx.Err() == nil {
			c.step(e)
		}
		c.pause(ctx)
	}
	return nil
}

// step has an event decided.
func (c *Controller) step(e cycle.Event) cycle.Action {
	s, a := cycle.Step(c.state, e)
	if a.Do != cycle.Nothing && a.Do != cycle.Refuse {
		c.action, c.since, c.pressed = a, c.c.Clock.Now(), false
	}
	changed := s != c.state || a != cycle.Action{}
	c.state = s
	c.publish(e)
	if c.c.Observe != nil && changed {
		c.c.Observe(e, s, a, c.cause)
	}
	c.cause = nil
	switch a.Do {
	case cycle.Quarantine:
		c.quarantine(a.Code)
	case cycle.Restart:
		if c.c.Restart != nil {
			c.c.Restart(a.Code)
		}
	}
	return a
}

func (c *Controller) publish(e cycle.Event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen.State = c.state
	if v, ok := e.(cycle.Seen); ok {
		c.seen.View = v.View
	}
}

// keepGoal makes durable what the host should be. If that fails, the next boot has the
// earlier goal, and says so; holding must not wait for a store.
func (c *Controller) keepGoal(ctx context.Context) {
	run := c.state.Goal == cycle.Run
	if run == c.record.Run || c.state.Phase == cycle.Off {
		return
	}
	next := c.record
	next.Run = run
	if err := c.limited(ctx, c.c.Limits.Flash, func(context.Context) error { return c.c.Store.SetRecord(next) }); err != nil {
		c.cause = errors.Join(c.cause, fmt.Errorf("resetctl: the host's goal is not kept: %w", err))
		return
	}
	c.record = next
}

// quarantine holds everything, as far as it can be held, and forgets its key.
func (c *Controller) quarantine(why code.Code) {
	c.cause = c.c.Lines.Hold()
	clear(c.c.Key[:]) // no ticket is made or taken any more in this boot
	if c.c.Quarantine != nil {
		c.c.Quarantine(why)
	}
}

// take decides what another goroutine has told, and answers.
func (c *Controller) take(t told) {
	if a := c.step(t.e); a.Do == cycle.Refuse {
		t.answer <- a.Code.Errorf("resetctl: refused while the host's control is %v", c.state.Phase)
		return
	}
	t.answer <- nil
}

// urgent tells whether something ends the action that is under way.
func urgent(e cycle.Event) bool {
	a, asked := e.(cycle.Asked)
	return !asked || a.Request == cycle.AskHold || a.Request == cycle.AskForceOff
}

// pause waits for the next look, or for what somebody tells.
func (c *Controller) pause(ctx context.Context) {
	wait := time.Duration(0)
	switch c.action.Do {
	case cycle.Watch, cycle.Press, cycle.Restart, cycle.Quarantine:
		wait = c.c.Limits.Watch
	}
	select {
	case t := <-c.tells:
		c.take(t)
		return
	default:
	}
	if wait == 0 {
		return
	}
	sleep, cancel := context.WithCancel(ctx)
	defer cancel()
	woken := make(chan struct{})
	go func() {
		c.c.Clock.Sleep(sleep, wait)
		close(woken)
	}()
	select {
	case t := <-c.tells:
		c.take(t)
	case <-woken:
	}
}

// errGivenUp says that a call did not return although it was told to.
var errGivenUp = errors.New("does not return, although it was told to: it is given up until the controller restarts")

// limited runs something that may take long. Holding, forcing off and a lost TPM end it
// early; everything else that is asked for is answered meanwhile.
func (c *Controller) limited(ctx context.Context, limit time.Duration, f func(context.Context) error) error {
	work, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- f(work) }()
	for {
		select {
		case err := <-done:
			return err
		case t := <-c.tells:
			if !urgent(t.e) {
				c.take(t)
				continue
			}
			c.pending = append(c.pending, t)
			cancel()
		case <-work.Done():
		}
		if work.Err() != nil {
			break
		}
	}
	grace := time.NewTimer(c.c.Limits.Grace)
	defer grace.Stop()
	select {
	case err := <-done:
		return err
	case <-grace.C:
		return errGivenUp
	}
}

// failed makes the event of an error, whose code is this one if it has none.
func (c *Controller) failed(err error, otherwise code.Code) cycle.Event {
	c.cause = err
	if why := code.Of(err); why != code.None {
		return cycle.Failed{Code: why}
	}
	return cycle.Failed{Code: otherwise}
}

func (c *Controller) outcome(err error, otherwise code.Code) cycle.Event {
	if err != nil {
		return c.failed(err, otherwise)
	}
	return cycle.Done{}
}

// flash calls the firmware's package.
func (c *Controller) flash(ctx context.Context, limit time.Duration, f func(context.Context) error) error {
	if c.dead {
		return code.HostFlash.Errorf("resetctl: the flash: %w", errGivenUp)
	}
	err := c.limited(ctx, limit, f)
	c.dead = errors.Is(err, errGivenUp)
	if err != nil {
		return fmt.Errorf("resetctl: the flash: %w", err)
	}
	return nil
}

// see waits until the pins are as wanted, and makes the event.
func (c *Controller) see(ctx context.Context, limit time.Duration, wanted func(cycle.View) bool) cycle.Seen {
	v, err := c.c.Lines.await(ctx, c.c.Clock, limit, wanted)
	c.cause = errors.Join(c.cause, err)
	return cycle.Seen{View: v}
}

// do carries the action out; nil where there is nothing to tell.
func (c *Controller) do(ctx context.Context) cycle.Event {
	limits := c.c.Limits
	switch a := c.action; a.Do {
	case cycle.Look, cycle.Watch:
		return c.see(ctx, Settle, followed)
	case cycle.Check:
		return c.outcome(c.check(ctx, a.Cycle), code.HostNotAdopted)
	case cycle.Adopt:
		return c.outcome(c.adopt(ctx, a.Cycle), code.TPMUnanswered)
	case cycle.Hold:
		return c.hold(ctx)
	case cycle.Count:
		next := Record{Cycle: a.Cycle, Run: c.record.Run}
		err := c.limited(ctx, limits.Flash, func(context.Context) error { return c.c.Store.SetRecord(next) })
		if err == nil {
			c.record = next
		}
		return c.outcome(err, code.StoreUnreadable)
	case cycle.Open:
		return c.outcome(c.open(ctx, a.Cycle), code.TPMUnanswered)
	case cycle.Own:
		return c.own(ctx)
	case cycle.Recover:
		return c.recover(ctx)
	case cycle.ProtectFlash:
		return c.protect(ctx)
	case cycle.ReadBack:
		return c.outcome(c.flash(ctx, limits.Flash, c.c.Firmware.Protected), code.HostFlash)
	case cycle.Hash:
		return c.hash(ctx)
	case cycle.Measure:
		return c.outcome(c.extend(ctx), code.TPMUnanswered)
	case cycle.Arm:
		return c.outcome(c.arm(ctx, a.Cycle), code.StoreUnreadable)
	case cycle.HandOver:
		if err := c.flash(ctx, limits.Flash, c.c.Firmware.HandOver); err != nil {
			return c.failed(err, code.HostFlash)
		}
		return c.free(ctx, cycle.Mux)
	case cycle.Release:
		return c.free(ctx, a.Lines)
	case cycle.PowerOn:
		return c.powerOn(ctx)
	case cycle.Press:
		return c.press(ctx)
	case cycle.Override:
		return c.override(ctx)
	}
	return nil
}

// hold drives all resets and the protection to held, and looks until the nets have
// followed. A latch forgets its nonce: the ticket is void.
func (c *Controller) hold(ctx context.Context) cycle.Event {
	l := c.c.Lines
	c.events, c.adopted = nil, nil
	c.cause = l.drive(cycle.Resets|cycle.Protect, true)
	if l.Nonce != nil {
		if err := l.Nonce.SetNonce(0); err != nil {
			return c.failed(errors.Join(c.cause, fmt.Errorf("resetctl: the latch's nonce: %w", err)), code.HostLatchBroken)
		}
	}
	want := l.Has() & (cycle.Resets | cycle.Protect)
	return c.see(ctx, Settle, func(v cycle.View) bool { return v.Commanded.Has(want) && v.Nets.Has(want) })
}

// free lets lines go, and looks until the nets have followed.
func (c *Controller) free(ctx context.Context, lines cycle.Lines) cycle.Event {
	c.cause = c.c.Lines.drive(lines, false)
	return c.see(ctx, Settle, func(v cycle.View) bool { return v.Nets&lines == 0 && followed(v) })
}

// settled has lines driven and waits for the nets. An event says that they did not come.
func (c *Controller) settled(ctx context.Context, err error) cycle.Event {
	c.cause = err
	e := c.see(ctx, Settle, followed)
	if v := e.View; v.Fault != code.None || v.Commanded&^v.Nets != 0 {
		return e // Step judges that
	} else if !followed(v) {
		return c.failed(fmt.Errorf("resetctl: commanded %v, nets %v: a line does not follow", v.Commanded, v.Nets), code.HostFlash)
	} else if err != nil {
		return c.failed(err, code.HostLinesUnreadable)
	}
	return nil
}

// own takes the flash: first the multiplexer, seen at its net, then the chips.
func (c *Controller) own(ctx context.Context) cycle.Event {
	l := c.c.Lines
	if e := c.settled(ctx, errors.Join(l.drive(cycle.Mux, true), l.drive(cycle.Protect, false))); e != nil {
		return e
	}
	return c.outcome(c.flash(ctx, c.c.Limits.Flash, c.c.Firmware.Own), code.HostFlash)
}

// recover verifies and recovers. A recovery is measured at once, so that no later failure
// hides it.
func (c *Controller) recover(ctx context.Context) cycle.Event {
	var done []Recovery
	err := c.flash(ctx, c.c.Limits.Recover, func(ctx context.Context) (err error) {
		done, err = c.c.Firmware.Recover(ctx)
		return err
	})
	if c.dead { // it may still change done
		return c.failed(err, code.HostFlash)
	}
	if len(done) > MaxRecoveries {
		return c.failed(fmt.Errorf("resetctl: %d recoveries, at most %d: %w", len(done), MaxRecoveries, err), code.HostFirmware)
	}
	for _, r := range done {
		if err := c.measure(ctx, eventlog.Recovery(c.state.Cycle, r.What, r.Was, r.Now)); err != nil {
			return c.failed(err, code.TPMUnanswered)
		}
	}
	return c.outcome(err, code.HostFirmware)
}

// hash hashes what will run.
func (c *Controller) hash(ctx context.Context) cycle.Event {
	var m Measurement
	err := c.flash(ctx, c.c.Limits.Hash, func(ctx context.Context) (err error) {
		m, err = c.c.Firmware.Measure(ctx)
		return err
	})
	if err != nil {
		return c.failed(err, code.HostFirmware)
	}
	c.measured = m
	return cycle.Done{}
}

// protect protects the chips, and then holds the line that guards the protection.
func (c *Controller) protect(ctx context.Context) cycle.Event {
	if err := c.flash(ctx, c.c.Limits.Flash, c.c.Firmware.Protect); err != nil {
		return c.failed(err, code.HostFlash)
	}
	if e := c.settled(ctx, c.c.Lines.drive(cycle.Protect, true)); e != nil {
		return e
	}
	return cycle.Done{}
}

// measure extends events, and remembers them for the ticket.
func (c *Controller) measure(ctx context.Context, events ...eventlog.Event) error {
	for _, e := range events {
		err := c.limited(ctx, c.c.Limits.Flash, func(context.Context) error { return c.c.Measurer.Measure(e) })
		switch {
		case errors.Is(err, eventlog.ErrFull):
			return code.LogFull.Errorf("resetctl: %w", err)
		case err != nil:
			return fmt.Errorf("resetctl: %w", err)
		}
		if e.Name() != "host-cycle" {
			c.events = append(c.events, e)
		}
	}
	return nil
}

// largest are the longest events that a cycle can have. A log must have room for them
// before the cycle begins.
var largest = func() (events []eventlog.Event) {
	const n, word = 1<<64 - 1, "an-event-with-a-word-of-32-bytes"
	var d [32]byte
	f := eventlog.Firmware{Version: word, SecurityVersion: 1<<32 - 1}
	events = append(events, eventlog.HostCycle(n, eventlog.Verified), eventlog.HostFirmware(n, f), eventlog.BMCFirmware(n, f))
	for range MaxRecoveries {
		events = append(events, eventlog.Recovery(n, word, d, d))
	}
	for range MaxComponents {
		events = append(events, eventlog.Component(n, word, d, word))
	}
	return events
}()

// open begins a cycle in the log.
func (c *Controller) open(ctx context.Context, n uint64) error {
	if !c.c.Measurer.Fits(largest...) {
		return code.LogFull.Errorf("resetctl: host cycle %d: %w", n, eventlog.ErrFull)
	}
	c.events = nil
	return c.measure(ctx, eventlog.HostCycle(n, eventlog.Verified))
}

// extend measures what was hashed.
func (c *Controller) extend(ctx context.Context) error {
	n, m := c.state.Cycle, &c.measured
	if len(m.Components) > MaxComponents {
		return code.HostFirmware.Errorf("resetctl: %d components, at most %d", len(m.Components), MaxComponents)
	}
	events := []eventlog.Event{eventlog.HostFirmware(n, m.Host)}
	if m.BMC != nil {
		events = append(events, eventlog.BMCFirmware(n, *m.BMC))
	}
	for _, x := range m.Components {
		events = append(events, eventlog.Component(n, x.What, x.Digest, x.Version))
	}
	return c.measure(ctx, events...)
}

// arm gives the latch a nonce of this cycle, and writes the ticket with it. On a board
// whose lines do not keep, no ticket would ever be good.
func (c *Controller) arm(ctx context.Context, n uint64) error {
	if !c.c.Lines.Keeps() {
		return nil
	}
	var b [4]byte
	if _, err := io.ReadFull(c.c.Random, b[:]); err != nil {
		return code.TPMEntropyAbsent.Errorf("resetctl: a nonce for the latch: %w", err)
	}
	t := &ticket.Ticket{Cycle: n, Nonce: binary.LittleEndian.Uint32(b[:]) | 1, Lines: uint8(c.c.Lines.Has()), Boot: c.c.Boot, Events: c.events}
	sealed, err := t.Seal(&c.c.Key)
	if err != nil {
		return err
	}
	if err := c.c.Lines.Nonce.SetNonce(t.Nonce); err != nil {
		return code.HostLatchBroken.Errorf("resetctl: the latch's nonce: %w", err)
	}
	return c.limited(ctx, c.c.Limits.Flash, func(context.Context) error { return c.c.Store.SetTicket(sealed) })
}

// check tells whether a ticket vouches for the host that runs.
func (c *Controller) check(ctx context.Context, n uint64) error {
	var b []byte
	err := c.limited(ctx, c.c.Limits.Flash, func(context.Context) (err error) {
		b, err = c.c.Store.Ticket()
		return err
	})
	if err != nil {
		return fmt.Errorf("resetctl: the ticket: %w", err)
	}
	t, err := ticket.Open(b, &c.c.Key)
	if err != nil {
		return err
	}
	nonce, err := c.c.Lines.Nonce.Nonce()
	if err != nil {
		return code.HostLatchBroken.Errorf("resetctl: the latch's nonce: %w", err)
	}
	c.adopted = t
	return t.Check(n, nonce, uint8(c.c.Lines.Has()))
}

// adopt measures what the ticket says, in this boot's log.
func (c *Controller) adopt(ctx context.Context, n uint64) error {
	if !c.c.Measurer.Fits(largest...) {
		return code.LogFull.Errorf("resetctl: adopting host cycle %d: %w", n, eventlog.ErrFull)
	}
	return c.measure(ctx, append([]eventlog.Event{eventlog.HostCycle(n, eventlog.Adopted)}, c.adopted.Events...)...)
}

// button presses the power button for a time, or until the context ends.
func (c *Controller) button(ctx context.Context, d time.Duration) error {
	err := c.c.Lines.Button.hold(false)
	c.c.Clock.Sleep(ctx, d)
	return errors.Join(err, c.c.Lines.Button.hold(true))
}

// powerOn switches the host on, if it is not.
func (c *Controller) powerOn(ctx context.Context) cycle.Event {
	if e := c.see(ctx, 0, followed); e.View.Power || e.View.Fault != code.None {
		return e
	}
	if c.c.Lines.Button != nil {
		c.cause = c.button(ctx, shortPress)
	}
	return c.see(ctx, powerLimit, func(v cycle.View) bool { return v.Power })
}

// press asks the host to switch itself off, and then watches it.
func (c *Controller) press(ctx context.Context) cycle.Event {
	if !c.pressed {
		c.pressed = true
		c.cause = c.button(ctx, shortPress)
	}
	if c.c.Clock.Now()-c.since > c.c.Limits.Stop {
		return c.failed(code.HostPower.Errorf("resetctl: the host runs %v after it was asked to switch itself off", c.c.Limits.Stop), code.HostPower)
	}
	return c.see(ctx, Settle, followed)
}

// override cuts the host's power, which is held.
func (c *Controller) override(ctx context.Context) cycle.Event {
	if c.c.Lines.Button == nil {
		return c.failed(code.HostUnsupported.Errorf("resetctl: the board has no line to cut the host's power: it is held"), code.HostUnsupported)
	}
	c.cause = c.button(ctx, longPress)
	return c.see(ctx, powerLimit, func(v cycle.View) bool { return !v.Power })
}
