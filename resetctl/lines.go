package resetctl

import (
	"context"
	"errors"
	"fmt"
	"time"

	"nitro/boot/code"
	"nitro/resetctl/cycle"
)

// A Port is what drives a line's net: [Pin], [Latch] or [Expander].
type Port interface {
	// Set commands a level.
	Set(high bool) error
	// Commanded reads back from the driving part what it commands. A part that drives
	// nothing (driven is false) leaves the net to its external pull, which holds.
	Commanded() (driven, high bool, err error)
}

// A Sense sees a net: [Input] or [ExpanderInput].
type Sense interface {
	Level() (high bool, err error)
}

// A Catch remembers that a net went to its held level, however short it was there;
// gpio.Line is one, armed on that edge.
type Catch interface {
	// Acknowledge tells whether it did, and forgets it.
	Acknowledge() bool
}

// A Line is one line between controller and host. Held is its safe level, and from outside
// a pull or a latch brings it there while nobody drives it: a reset that is asserted, the
// flash with the controller, write protection on, no power, a button that is not pressed.
type Line struct {
	Name     string
	HeldHigh bool // polarity: the level of the net that holds; the port's has the same sense
	// Kept is the board's declaration that the port keeps its level while the controller
	// restarts, and only then loses it when the host loses its power.
	Kept  bool
	Port  Port  // nil for an input
	Sense Sense // sees the net, behind the port
	Other Sense // a second input that sees it on another way; nil where there is none
	Catch Catch // nil where there is none
}

// hold drives the line to held, or releases it.
func (l *Line) hold(held bool) error {
	if err := l.Port.Set(held == l.HeldHigh); err != nil {
		return fmt.Errorf("resetctl: %s: %w", l.Name, err)
	}
	return nil
}

// Commanded tells whether the line is commanded to hold, or left to what holds it.
func (l *Line) Commanded() (bool, error) {
	driven, high, err := l.Port.Commanded()
	if err != nil {
		return false, fmt.Errorf("resetctl: %s: reading back what is commanded: %w", l.Name, err)
	}
	return !driven || high == l.HeldHigh, nil
}

// ErrDisagree says that two inputs see different levels of one net.
var ErrDisagree = errors.New("two inputs disagree on the net: look for a cut wire or a part that drives one of them")

// Held tells whether the net is at the held level, at this moment.
func (l *Line) Held() (bool, error) {
	high, err := l.Sense.Level()
	if err != nil {
		return false, fmt.Errorf("resetctl: %s: reading the net: %w", l.Name, err)
	}
	if l.Other == nil {
		return high == l.HeldHigh, nil
	}
	other, err := l.Other.Level()
	if err != nil {
		return false, fmt.Errorf("resetctl: %s: reading the net a second time: %w", l.Name, err)
	}
	if other != high {
		return false, fmt.Errorf("resetctl: %s: %v and %v: %w", l.Name, high, other, ErrDisagree)
	}
	return high == l.HeldHigh, nil
}

// A Nonce is the memory of a latch or an expander: a number that it keeps while it has the
// host's power, and that is 0 from then on when it loses that.
type Nonce interface {
	Nonce() (uint32, error)
	SetNonce(uint32) error
}

// Lines are those of a board. Host, Mux and Protect are needed, and Nonce where all lines
// are kept; the others may be nil.
type Lines struct {
	Platform  *Line
	BMC       *Line
	Host      *Line
	Mux       *Line // held: the flash is the controller's, and nobody else reaches it
	Protect   *Line // held: write protected
	PowerGood *Line // an input; held: the host has no power
	Button    *Line // the power button; held: not pressed
	Nonce     Nonce

	// Fresh is called before each look, where ports and senses share what was read of one
	// part ([Snapshot]); nil where each is read by itself.
	Fresh func()
}

// Settling and debouncing. A level counts when it is seen Samples times in a row, Sample
// apart. A net that has been driven has Settle to follow: reset nets with their capacitors
// rise within 20 ms (a 10 kOhm pull-up and 1 uF to 0.7 of the supply takes 12 ms), and
// power-on resets on the way may add 100 to 200 ms.
const (
	Samples = 3
	Sample  = time.Millisecond
	Poll    = 10 * time.Millisecond // between two looks while a net is awaited
	Settle  = 500 * time.Millisecond

	// Looks is how often at least the lines are looked at before they count as never settling:
	// a controller that had no time to look for Settle has not seen that.
	Looks = 8 * Samples
)

// each are the lines that hold, with their bits.
func (l *Lines) each() (all []struct {
	bit  cycle.Lines
	line *Line
}) {
	for i, line := range []*Line{l.Platform, l.BMC, l.Host, l.Mux, l.Protect} {
		if line != nil {
			all = append(all, struct {
				bit  cycle.Lines
				line *Line
			}{1 << i, line})
		}
	}
	return all
}

// Has are the lines that the board has.
func (l *Lines) Has() (has cycle.Lines) {
	for _, x := range l.each() {
		has |= x.bit
	}
	return has
}

// Keeps tells whether a host can run on while the controller restarts: all lines keep
// their levels, and the latch has a memory. One bare pin among them is enough to reset it.
func (l *Lines) Keeps() bool {
	for _, x := range l.each() {
		if !x.line.Kept {
			return false
		}
	}
	return l.Nonce != nil
}

// check refuses lines that are no lines.
func (l *Lines) check() error {
	if l.Host == nil || l.Mux == nil || l.Protect == nil {
		return code.HostLinesMissing.Errorf("resetctl: the board needs lines for the host's reset, the flash's multiplexer and its write protection")
	}
	for _, x := range l.each() {
		if x.line.Port == nil || x.line.Sense == nil {
			return code.HostLinesMissing.Errorf("resetctl: %s: a line needs a port, and an input that sees its net", x.line.Name)
		}
	}
	if l.PowerGood != nil && l.PowerGood.Sense == nil || l.Button != nil && l.Button.Port == nil {
		return code.HostLinesMissing.Errorf("resetctl: power good needs an input, the power button a port")
	}
	return nil
}

// drive holds or releases lines, in the order in which it is safe: the host's CPU is the
// first to be held. The first error is returned; the other lines are driven all the same.
func (l *Lines) drive(lines cycle.Lines, held bool) error {
	var problems []error
	for _, bit := range []cycle.Lines{cycle.Host, cycle.Platform, cycle.BMC, cycle.Protect, cycle.Mux} {
		for _, x := range l.each() {
			if x.bit == bit&lines {
				problems = append(problems, x.line.hold(held))
			}
		}
	}
	return errors.Join(problems...)
}

// Hold drives all lines to held, and makes any ticket void: for a board that does not guard
// its host, and so never lets it go.
func (l *Lines) Hold() error {
	err := l.drive(cycle.All, true)
	if l.Nonce != nil {
		err = errors.Join(err, l.Nonce.SetNonce(0))
	}
	return err
}

// Look reads all pins once: what is commanded, and what is. An error that is no error of a
// part is ErrDisagree.
func (l *Lines) Look() (v cycle.View, err error) {
	if l.Fresh != nil {
		l.Fresh()
	}
	var problems []error
	for _, x := range l.each() {
		commanded, err := x.line.Commanded()
		problems = append(problems, err)
		held, err := x.line.Held()
		problems = append(problems, err)
		if commanded {
			v.Commanded |= x.bit
		}
		if held {
			v.Nets |= x.bit
		}
		if x.line.Catch != nil && x.line.Catch.Acknowledge() && !commanded && x.bit&cycle.Resets != 0 {
			v.Dipped = true
		}
	}
	v.Power = true
	if l.PowerGood != nil {
		held, err := l.PowerGood.Held()
		problems = append(problems, err)
		v.Power = !held
	}
	return v, errors.Join(problems...)
}

// steady looks until the pins say the same Samples times in a row, at most until a limit.
// What never becomes steady, and what cannot be read, is the view's fault.
func (l *Lines) steady(ctx context.Context, c Clock) (v cycle.View, err error) {
	same, looks, dipped := 0, 0, false
	for limit := c.Now() + Settle; ; looks++ {
		var next cycle.View
		next, err = l.Look()
		dipped, next.Dipped = dipped || next.Dipped, false
		if err == nil && next == v && same > 0 {
			same++
		} else if same = 0; err == nil {
			same = 1
		}
		if v = next; same == Samples {
			v.Dipped = dipped
			return v, nil
		}
		unread := err != nil && !errors.Is(err, ErrDisagree)
		if c.Now() >= limit && (unread || looks >= Looks) || c.Sleep(ctx, Sample) != nil {
			break
		}
	}
	v.Dipped, v.Fault = dipped, code.HostPinsDisagree
	if err == nil {
		err = fmt.Errorf("resetctl: the lines do not settle within %v: %w", Settle, ErrDisagree)
	} else if !errors.Is(err, ErrDisagree) {
		v.Fault = code.HostLinesUnreadable
	}
	return v, err
}

// await looks until the pins are as wanted and steady, at most until a limit. The view is
// the last one, whatever it shows.
func (l *Lines) await(ctx context.Context, c Clock, limit time.Duration, wanted func(cycle.View) bool) (v cycle.View, err error) {
	for end := c.Now() + limit; ; {
		v, err = l.steady(ctx, c)
		if err == nil && wanted(v) || c.Now() >= end || c.Sleep(ctx, Poll) != nil {
			return v, err
		}
	}
}

// followed tells whether all nets are as they are commanded.
func followed(v cycle.View) bool { return v.Commanded == v.Nets }
