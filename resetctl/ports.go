package resetctl

import "errors"

// A Drive is an output on an SoC pin; gpio.Line is one.
type Drive interface {
	// Output drives a level: level before direction.
	Output(high bool)
	// Driven reads back whether the pin is an output, and of which level.
	Driven() (output, high bool)
}

// A Reader is an input on an SoC pin; gpio.Line is one.
type Reader interface {
	High() bool
}

// A Chip is an expander with open-drain lines; pca9552.Expander is one.
type Chip interface {
	Pull(line int, low bool) error
	PulledLow(line int) (bool, error)
	Levels() (uint16, error)
}

// Pin is a port on a bare SoC pin. A restart of the controller makes the pin high
// impedance, and the pull on the net holds: never Kept.
func Pin(d Drive) Port { return pin{d} }

type pin struct{ d Drive }

func (p pin) Set(high bool) error {
	p.d.Output(high)
	return nil
}

func (p pin) Commanded() (driven, high bool, err error) {
	driven, high = p.d.Driven()
	return driven, high, nil
}

// Expander is a port on a line of an I2C expander: the chip pulls its line low, or lets
// an external pull-up have it. The net is high where nobody pulls, so the line's HeldHigh
// has to be true: then a chip that has lost its power holds. The chip is not reset with
// the SoC: Kept.
func Expander(c Chip, line int) Port { return expander{c, line} }

type expander struct {
	c    Chip
	line int
}

func (x expander) Set(high bool) error { return x.c.Pull(x.line, !high) }

func (x expander) Commanded() (driven, high bool, err error) {
	low, err := x.c.PulledLow(x.line)
	return low, false, err
}

// Latch is a port on an external latch (74LVC1G74 or its like, cleared by loss of the
// host's power, whose output holds when it is clear). A rising edge of the strobe takes
// over the data pin. A restart of the controller makes both pins high impedance, with a
// pull-down on the strobe: no edge, and the latch keeps its level: Kept. The output is read
// back: what the data pin says is what the next edge would take, not what is commanded.
func Latch(data, strobe Drive, output Sense) Port { return latch{data, strobe, output} }

type latch struct {
	data, strobe Drive
	output       Sense
}

var errLatch = errors.New("the latch did not take its input: check its strobe and its power")

func (l latch) Set(high bool) error {
	l.strobe.Output(false)
	l.data.Output(high)
	l.strobe.Output(true)
	l.strobe.Output(false)
	if got, err := l.output.Level(); err != nil || got != high {
		return errors.Join(errLatch, err)
	}
	return nil
}

func (l latch) Commanded() (driven, high bool, err error) {
	high, err = l.output.Level()
	return true, high, err
}

// Input is a sense on an SoC pin.
func Input(r Reader) Sense { return input{r} }

type input struct{ r Reader }

func (i input) Level() (bool, error) { return i.r.High(), nil }

// ExpanderInput is a sense on a line of an expander.
func ExpanderInput(c Chip, line int) Sense { return expanderInput{c, line} }

type expanderInput struct {
	c    Chip
	line int
}

func (x expanderInput) Level() (bool, error) {
	levels, err := x.c.Levels()
	return levels>>x.line&1 != 0, err
}
