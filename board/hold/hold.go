// Package hold keeps the lines that hold the host in reset, and tells from the
// hardware whether they do. It only ever holds: letting go is a decision of floors
// above, taken when the host's firmware has been verified.
//
// A line is held by default from outside: a pull, or a latch, holds it while nobody
// drives it, since pads float until software runs. What is added here is that the
// firmware drives it to held, from the kernel's first instructions on
// (kernel.Config.Setup), and that it can see the net itself and not only what it
// commanded: a line that is driven low and seen high is shorted, cut, or fought over.
package hold

import (
	"errors"
	"fmt"
)

// ErrFighting tells that a net is not at the level that the line is set to.
var ErrFighting = errors.New("the net is not held although the line is: look for a short, a cut wire or a second driver, and keep the host out of service")

// A Drive is the output of a line on an SoC pin; gpio.Line is one.
type Drive interface {
	Output(high bool)
	Driven() (output, high bool)
}

// A Sense is an input that sees the net behind the drive; gpio.Line is one.
type Sense interface {
	High() bool
}

// A Pin is a reset line on an SoC pin that holds when it is low, with a second pin
// that sees the net.
type Pin struct {
	name  string
	drive Drive
	sense Sense
}

// NewPin makes a line of two pins. It changes nothing.
func NewPin(name string, drive Drive, sense Sense) *Pin { return &Pin{name, drive, sense} }

// Name says what the line resets.
func (p *Pin) Name() string { return p.name }

// Hold drives the line low.
func (p *Pin) Hold() error {
	p.drive.Output(false)
	return nil
}

// Held tells whether the line holds: it is driven low, or left to its pull, and the
// net is low. ErrFighting says that the net is high all the same.
func (p *Pin) Held() (bool, error) {
	output, high := p.drive.Driven()
	if output && high {
		return false, nil
	}
	if p.sense.High() {
		return false, fmt.Errorf("hold: %s: pin driven %v, net high: %w", p.name, output, ErrFighting)
	}
	return true, nil
}

// A Chip is an expander with open-drain lines; pca9552.Expander is one.
type Chip interface {
	Pull(line int, low bool) error
	PulledLow(line int) (bool, error)
	Levels() (uint16, error)
}

// An Expander is a reset line on an I2C expander that holds when it is high: the chip
// releases all its lines at power-on, and an external pull-up holds then. A reset of
// the SoC leaves the chip as it is.
type Expander struct {
	name string
	chip Chip
	line int
}

// NewExpander makes a line of a chip's line. It changes nothing.
func NewExpander(name string, chip Chip, line int) *Expander { return &Expander{name, chip, line} }

// Name says what the line resets.
func (e *Expander) Name() string { return e.name }

// Hold releases the chip's line, so that the pull-up holds.
func (e *Expander) Hold() error {
	if err := e.chip.Pull(e.line, false); err != nil {
		return fmt.Errorf("hold: %s: %w", e.name, err)
	}
	return nil
}

// Held tells whether the line holds: the chip does not pull it low, and the net is
// high. ErrFighting says that the net is low all the same.
func (e *Expander) Held() (bool, error) {
	low, err := e.chip.PulledLow(e.line)
	if err != nil || low {
		return false, wrap(e.name, err)
	}
	levels, err := e.chip.Levels()
	if err != nil {
		return false, wrap(e.name, err)
	}
	if levels>>e.line&1 == 0 {
		return false, fmt.Errorf("hold: %s: expander line %d released, net low: %w", e.name, e.line, ErrFighting)
	}
	return true, nil
}

func wrap(name string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("hold: %s: %w", name, err)
}
