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

// A WholeChip is an expander that is read in one transfer; pca9552.Expander is one.
type WholeChip interface {
	Pull(line int, low bool) error
	// Read gives what is pulled low, and the nets; bit n is line n.
	Read() (pulled, levels uint16, err error)
}

// A Snapshot is a Chip that is read once a look, however many lines are on it: its bus is
// the TPM's too. All lines are seen at one moment. Lines.Fresh must be its Fresh.
type Snapshot struct {
	chip           WholeChip
	fresh          bool // what follows was read since the last Fresh, and nothing was set since
	pulled, levels uint16
}

// NewSnapshot makes one. It reads nothing.
func NewSnapshot(c WholeChip) *Snapshot { return &Snapshot{chip: c} }

// Fresh forgets what was read.
func (s *Snapshot) Fresh() { s.fresh = false }

// Pull implements Chip.
func (s *Snapshot) Pull(line int, low bool) error {
	s.fresh = false
	return s.chip.Pull(line, low)
}

// PulledLow implements Chip.
func (s *Snapshot) PulledLow(line int) (bool, error) {
	err := s.read()
	return s.pulled>>line&1 != 0, err
}

// Levels implements Chip.
func (s *Snapshot) Levels() (uint16, error) {
	err := s.read()
	return s.levels, err
}

func (s *Snapshot) read() (err error) {
	if !s.fresh {
		s.pulled, s.levels, err = s.chip.Read()
		s.fresh = err == nil
	}
	return err
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
