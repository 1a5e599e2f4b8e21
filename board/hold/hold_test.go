package hold

import (
	"errors"
	"testing"
)

// pin is an output, and the net behind it with its pull to low. A short keeps the net
// high.
type pin struct{ output, high, short bool }

func (p *pin) Output(high bool)            { p.output, p.high = true, high }
func (p *pin) Driven() (output, high bool) { return p.output, p.output && p.high }
func (p *pin) High() bool                  { return p.short || p.output && p.high }

func TestPin(t *testing.T) {
	for _, c := range []struct {
		name string
		pin  pin
		held bool
		err  error
	}{
		{"left to its pull", pin{}, true, nil},
		{"driven low", pin{output: true}, true, nil},
		{"driven high", pin{output: true, high: true}, false, nil},
		{"shorted", pin{short: true}, false, ErrFighting},
		{"shorted and driven low", pin{output: true, short: true}, false, ErrFighting},
	} {
		l := NewPin("host", &c.pin, &c.pin)
		if held, err := l.Held(); held != c.held || !errors.Is(err, c.err) {
			t.Errorf("%s: held %v, %v", c.name, held, err)
		}
		if err := l.Hold(); err != nil || !c.pin.output || c.pin.high {
			t.Errorf("%s: after Hold %+v, %v", c.name, c.pin, err)
		}
		if held, err := l.Held(); held == c.pin.short || !errors.Is(err, c.err) && c.pin.short {
			t.Errorf("%s: after Hold held %v, %v", c.name, held, err)
		}
	}
}

// chip is an expander whose line 3 has a pull-up, and may be shorted to ground or not
// answer.
type chip struct {
	low, short bool
	err        error
}

func (c *chip) Pull(line int, low bool) error {
	if line == 3 && c.err == nil {
		c.low = low
	}
	return c.err
}
func (c *chip) PulledLow(line int) (bool, error) { return c.low, c.err }
func (c *chip) Levels() (uint16, error) {
	if c.low || c.short {
		return 0xffff &^ (1 << 3), c.err
	}
	return 0xffff, c.err
}

func TestExpander(t *testing.T) {
	gone := errors.New("no answer")
	for _, c := range []struct {
		name string
		chip chip
		held bool
		err  error
	}{
		{"released", chip{}, true, nil},
		{"pulled low", chip{low: true}, false, nil},
		{"shorted", chip{short: true}, false, ErrFighting},
		{"no answer", chip{err: gone}, false, gone},
	} {
		l := NewExpander("host", &c.chip, 3)
		if held, err := l.Held(); held != c.held || !errors.Is(err, c.err) {
			t.Errorf("%s: held %v, %v", c.name, held, err)
		}
		if err := l.Hold(); !errors.Is(err, c.chip.err) || c.chip.low {
			t.Errorf("%s: after Hold %+v, %v", c.name, c.chip, err)
		}
	}
	if NewExpander("host", nil, 0).Name() != "host" || NewPin("bmc", nil, nil).Name() != "bmc" {
		t.Error("a line forgot its name")
	}
}
