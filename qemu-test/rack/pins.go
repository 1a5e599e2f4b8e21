package rack

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"nitro/qemu-test/emulator"
)

// A Pin is a line of one of the chip's GPIO blocks or of the expander.
type Pin struct {
	port int // 1 to 5 is GPIO1 to GPIO5, 0 the expander
	line int
}

// GPIO names a line, 0 to 31, of GPIO1 to GPIO5.
func GPIO(port, line int) Pin {
	if port < 1 || port > 5 || line < 0 || line > 31 {
		panic(fmt.Sprintf("rack: GPIO%d line %d: there are GPIO1 to GPIO5 with lines 0 to 31", port, line))
	}
	return Pin{port, line}
}

// Expander names a line, 0 to 15, of the expander.
func Expander(line int) Pin {
	if line < 0 || line > 15 {
		panic(fmt.Sprintf("rack: the expander's line %d: there are lines 0 to 15", line))
	}
	return Pin{0, line}
}

func (p Pin) String() string {
	if p.port == 0 {
		return fmt.Sprintf("expander line %d", p.line)
	}
	return fmt.Sprintf("GPIO%d line %d", p.port, p.line)
}

// device is the pin's device within the emulator, whose GPIO blocks count from 0.
func (p Pin) device() string {
	if p.port == 0 {
		return "/machine/peripheral/exp0"
	}
	return fmt.Sprintf("/machine/soc/gpio%d", p.port-1)
}

// gpioBase are the addresses of GPIO1 to GPIO5 (IMX6ULLRM 2.2). DR is at 0, GDIR at 4.
var gpioBase = [5]uint32{0x0209c000, 0x020a0000, 0x020a4000, 0x020a8000, 0x020ac000}

// A Drive is what the board does with a pin.
type Drive int

// Drives.
const (
	Released Drive = iota // an input, or an open-drain output that does not pull
	Low                   // an output, low
	High                  // an output, high
)

func (d Drive) String() string { return [...]string{"released", "low", "high"}[d] }

// A Change is that the board did something else with a pin.
type Change struct {
	N     int           // its number, counted from 0
	At    time.Duration // since the rack was switched on, by this machine's clock
	Pin   Pin
	Drive Drive
	Reset bool // it was a reset that released the pin
}

func (c Change) String() string {
	s := fmt.Sprintf("%v %s %s", c.At.Round(10*time.Microsecond), c.Pin, c.Drive)
	if c.Reset {
		s += " by a reset"
	}
	return s
}

// A Wire is a net that begins at an output of the board, of GPIO1 or of the expander. It
// has the level that the board drives, or that of its pull while the board does not.
type Wire struct {
	Name   string
	From   Pin
	PullUp bool  // else it is pulled down
	Sense  []Pin // inputs that are connected to it; From's own input always is
}

// Names of the wires between the reference board (board/evk) and its host. All are high
// while they hold.
const (
	WireHost     = "host CPU reset"
	WireBMC      = "BMC reset"
	WirePlatform = "platform reset"
	WireMux      = "flash multiplexer" // high: the flash is the controller's
	WireProtect  = "write protect"
	WireButton   = "power button" // low: pressed
)

// hostLines are the expander's lines of those wires.
var hostLines = map[string]Pin{
	WireHost: Expander(0), WireBMC: Expander(1), WirePlatform: Expander(2), WireMux: Expander(3), WireProtect: Expander(4), WireButton: Expander(6),
}

// PowerGood is the expander's line that is low while the host has power.
var PowerGood = Expander(5)

// HostWires are those wires: open-drain lines of the expander with pull-ups.
func HostWires() (all []Wire) {
	for _, name := range []string{WireHost, WireBMC, WirePlatform, WireMux, WireProtect, WireButton} {
		all = append(all, Wire{Name: name, From: hostLines[name], PullUp: true})
	}
	return all
}

// wire is a Wire in use.
type wire struct {
	Wire
	cut     bool
	shorted bool // to ground
}

// level is the wire's while the board does something with its beginning.
func (w *wire) level(d Drive) bool { return !w.shorted && (d == High || d == Released && w.PullUp) }

// Pins are the board's pins, seen and moved from outside. Its methods may be called by
// several goroutines.
type Pins struct {
	board *emulator.Board
	qmp   *emulator.QMP
	start time.Time

	mu      sync.Mutex
	qtest   *emulator.QTest
	sampler *sampler
	drive   map[Pin]Drive // pins that are not in it are released
	outside map[Pin]bool  // levels that Drive has put on inputs
	wires   []*wire
	changes []Change
	more    chan struct{} // closed by the next change

	expander bool              // there is one
	kept     expanderRegisters // what it has while a reset lasts
	err      error             // the first thing that went wrong
}

func newPins(b *emulator.Board, q *emulator.QMP, wires []Wire, expander bool) (*Pins, error) {
	p := &Pins{board: b, qmp: q, start: time.Now(), drive: map[Pin]Drive{}, outside: map[Pin]bool{}, more: make(chan struct{}), expander: expander}
	for _, w := range wires {
		for _, pin := range append([]Pin{w.From}, w.Sense...) {
			if pin.port == 0 && !expander {
				return nil, fmt.Errorf("wire %s: %s: there is no expander: set Config.Expander", w.Name, pin)
			}
		}
		if w.From.port > 1 {
			return nil, fmt.Errorf("wire %s: %s: wires begin at GPIO1 or at the expander: the emulator shows no other outputs", w.Name, w.From)
		}
		p.wires = append(p.wires, &wire{Wire: w})
	}
	return p, p.connect()
}

// connect begins to watch, and puts all levels on the inputs. The board stands still.
func (p *Pins) connect() error {
	q, err := p.board.QTest(GPIO(1, 0).device(), p.changed)
	if err != nil {
		return err
	}
	if p.kept != (expanderRegisters{}) { // what the emulator's reset took from the expander
		if err := writeExpander(q, p.kept); err != nil {
			q.Close()
			return err
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.qtest = q
	for pin, high := range p.outside {
		p.put(pin, high)
	}
	for _, w := range p.wires {
		p.follow(w)
	}
	p.sampler = startSampler(p, q)
	return p.err
}

// disconnect ends the watch.
func (p *Pins) disconnect() {
	p.mu.Lock()
	q, s := p.qtest, p.sampler
	p.qtest, p.sampler = nil, nil
	p.mu.Unlock()
	if q != nil {
		q.Close()
		s.stop()
	}
}

// beforeReset takes note of the last that the board has done, which stands still, and
// ends the watch: a new connection forgets what was told of the outputs.
func (p *Pins) beforeReset() error {
	p.mu.Lock()
	q := p.qtest
	p.mu.Unlock()
	if q == nil {
		return errors.New("rack: pins: the rack is off")
	}
	registers, err := q.Read(gpioBase[0], 8)
	if err != nil {
		return err
	}
	p.sampled(registers)
	if p.expander {
		if p.kept, err = readExpander(q); err != nil {
			return err
		}
	}
	p.disconnect()
	return nil
}

// afterReset does what a reset does to pins. The emulator has just reset the board, which
// still stands still, and has forgotten the levels of its inputs. The expander is as it was.
func (p *Pins) afterReset() error {
	p.mu.Lock()
	for pin, d := range p.drive {
		if d != Released && pin.port != 0 {
			p.note(Change{Pin: pin, Drive: Released, Reset: true})
		}
	}
	p.mu.Unlock()
	return p.connect()
}

// note adds a change.
func (p *Pins) note(c Change) {
	c.N, c.At = len(p.changes), time.Since(p.start)
	p.drive[c.Pin] = c.Drive
	p.changes = append(p.changes, c)
	close(p.more)
	p.more = make(chan struct{})
}

// set takes note of what the board does with a pin, and lets wires follow.
func (p *Pins) set(pin Pin, d Drive) {
	if p.drive[pin] == d {
		return
	}
	p.note(Change{Pin: pin, Drive: d})
	for _, w := range p.wires {
		if w.From == pin {
			p.follow(w)
		}
	}
}

// follow puts a wire's level on its inputs.
func (p *Pins) follow(w *wire) {
	level := w.level(p.drive[w.From])
	if w.From.port == 0 {
		p.put(w.From, w.PullUp && !w.shorted) // the expander itself adds what it pulls
	} else {
		p.put(w.From, level)
	}
	for _, pin := range w.Sense {
		if !w.cut {
			p.put(pin, level)
		}
	}
}

// put puts a level on an input. Without a connection, which is while a reset lasts,
// connect does it.
func (p *Pins) put(pin Pin, high bool) {
	if p.qtest != nil {
		p.fail(p.qtest.Drive(pin.device(), pin.line, high))
	}
}

func (p *Pins) fail(err error) {
	if p.err == nil && err != nil {
		p.err = fmt.Errorf("rack: pins: %w", err)
	}
}

// changed is told by the emulator that an output of GPIO1 has another level.
func (p *Pins) changed(line int, high bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.set(GPIO(1, line), driven(high))
}

func driven(high bool) Drive {
	if high {
		return High
	}
	return Low
}

// sampled is what GPIO1's DR and GDIR were at one moment, in order with changed.
func (p *Pins) sampled(registers []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for line, d := range decode(registers) {
		p.set(GPIO(1, line), d)
	}
}

// decode tells from DR and GDIR what a GPIO block does with its lines.
func decode(registers []byte) (lines [32]Drive) {
	dr, gdir := binary.LittleEndian.Uint32(registers), binary.LittleEndian.Uint32(registers[4:])
	for line := range lines {
		if gdir>>line&1 != 0 {
			lines[line] = driven(dr>>line&1 != 0)
		}
	}
	return lines
}

// Drive puts a level on an input from outside. It stays, over resets too, until the
// next call. The sense pins of a wire have its level, unless it is cut.
func (p *Pins) Drive(pin Pin, high bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, w := range p.wires {
		for _, s := range append([]Pin{w.From}, w.Sense...) {
			if s == pin && (!w.cut || s == w.From) {
				return fmt.Errorf("rack: pins: %s follows wire %s: cut that first", pin, w.Name)
			}
		}
	}
	p.outside[pin] = high
	p.put(pin, high)
	return p.err
}

// Cut cuts a wire off its sense pins, which keep their level until Drive gives them
// another one.
func (p *Pins) Cut(name string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	w, err := p.wire(name)
	if err != nil {
		return err
	}
	w.cut = true
	level := w.level(p.drive[w.From])
	for _, pin := range w.Sense {
		p.outside[pin] = level
	}
	return nil
}

// Short connects a wire to ground, whatever the board does with it.
func (p *Pins) Short(name string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	w, err := p.wire(name)
	if err != nil {
		return err
	}
	w.shorted = true
	p.follow(w)
	return p.err
}

// Join makes good what Cut and Short did.
func (p *Pins) Join(name string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	w, err := p.wire(name)
	if err != nil {
		return err
	}
	w.cut, w.shorted = false, false
	for _, pin := range w.Sense {
		delete(p.outside, pin)
	}
	p.follow(w)
	return p.err
}

func (p *Pins) wire(name string) (*wire, error) {
	for _, w := range p.wires {
		if w.Name == name {
			return w, nil
		}
	}
	return nil, fmt.Errorf("rack: pins: there is no wire %s", name)
}

// State asks what the board does with a pin right now, of any GPIO block or of the
// expander, and what its registers say: DR and GDIR, not what the log has seen.
func (p *Pins) State(pin Pin) (Drive, error) {
	if pin.port == 0 {
		return expanderState(p.qmp, pin)
	}
	p.mu.Lock()
	q := p.qtest
	p.mu.Unlock()
	if q == nil {
		return Released, errors.New("rack: pins: the board is being reset, or is off")
	}
	registers, err := q.Read(gpioBase[pin.port-1], 8)
	if err != nil {
		return Released, err
	}
	return decode(registers)[pin.line], nil
}

// expanderState asks the expander, whose lines are LEDs in the emulator's words: on is
// pulled low, off is released; one that blinks counts as low.
func expanderState(q *emulator.QMP, pin Pin) (Drive, error) {
	var state string
	if err := q.Get(pin.device(), fmt.Sprintf("led%d", pin.line), &state); err != nil {
		return Released, err
	}
	if state == "off" {
		return Released, nil
	}
	return Low, nil
}

// Level gives a wire's level.
func (p *Pins) Level(wire string) (high bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	w, err := p.wire(wire)
	if err != nil {
		return false, err
	}
	return w.level(p.drive[w.From]), p.err
}

// Changes returns all changes since the rack was switched on: of GPIO1's lines, and of
// those of the expander that have wires.
func (p *Pins) Changes() []Change {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.changes[:len(p.changes):len(p.changes)]
}

// changesFrom gives the changes from a number on, and what is closed by the next one.
func (p *Pins) changesFrom(n int) ([]Change, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.changes[n:len(p.changes):len(p.changes)], p.more
}

// Await waits for the first change, of those numbered from and on, after which the board
// does this with a pin.
func (p *Pins) Await(from int, pin Pin, d Drive, limit time.Duration) (Change, error) {
	late := time.After(limit)
	for {
		p.mu.Lock()
		changes, more, err := p.changes, p.more, p.err
		p.mu.Unlock()
		for ; from < len(changes); from++ {
			if c := changes[from]; c.Pin == pin && c.Drive == d {
				return c, nil
			}
		}
		if err != nil {
			return Change{}, err
		}
		select {
		case <-more:
		case <-p.board.Ended():
			return Change{}, fmt.Errorf("rack: pins: the emulator ended before %s was %s", pin, d)
		case <-late:
			return Change{}, fmt.Errorf("rack: pins: %s was not %s within %v; the changes were %v", pin, d, limit, changes)
		}
	}
}

// AwaitLevel waits until a wire has a level, which it may have already.
func (p *Pins) AwaitLevel(wire string, high bool, limit time.Duration) error {
	for late := time.After(limit); ; {
		p.mu.Lock()
		more := p.more
		p.mu.Unlock()
		level, err := p.Level(wire)
		if err != nil || level == high {
			return err
		}
		select {
		case <-more:
		case <-late:
			return fmt.Errorf("rack: pins: wire %s is still not %s after %v; the changes were %v", wire, driven(high), limit, p.Changes())
		}
	}
}
