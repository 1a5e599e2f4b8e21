package resetctl

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"nitro/attest/eventlog"
	"nitro/boot/code"
	"nitro/resetctl/cycle"
	"nitro/resetctl/ticket"
)

// A clock does not wait: it sets itself.
type clock struct {
	mu  sync.Mutex
	now time.Duration
}

func (c *clock) Now() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) Sleep(ctx context.Context, d time.Duration) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now += d
	return ctx.Err()
}

// A kind is what drives a board's lines.
type kind int

const (
	bare     kind = iota // pins of the SoC
	latched              // latches, behind pins of the SoC
	expanded             // an I2C expander
)

// A net is a wire, as it is: what drives it, its pull, and what is wrong with it.
type net struct {
	r        *rig
	heldHigh bool

	output, high bool // the SoC's pin, or the latch's data pin
	strobe       bool // the latch's other pin
	latch        bool // what the latch holds: true is released
	low          bool // the expander pulls

	short   *bool         // the net has this level, whatever happens
	other   *bool         // the second input has this level, whatever happens
	slow    time.Duration // the net follows that late
	was     bool          // its level before
	changed time.Duration
}

// commanded is what the driving part does with the net.
func (n *net) commanded() (driven, high bool) {
	switch n.r.kind {
	case latched:
		return true, n.latch != n.heldHigh
	case expanded:
		return n.low, false
	}
	return n.output, n.high
}

// level is the net's: driven, or left to its pull, which holds.
func (n *net) level() bool {
	if n.short != nil {
		return *n.short
	}
	want := n.heldHigh
	if driven, high := n.commanded(); driven {
		want = high
	}
	if n.r.clock.Now() < n.changed+n.slow {
		return n.was
	}
	return want
}

func (n *net) held() bool { return n.level() == n.heldHigh }

// change does something to what drives the net, and takes note of what that did.
func (n *net) change(f func()) {
	defer n.r.lock()()
	before, _ := n.commanded()
	was, held := n.level(), n.held()
	f()
	if driven, _ := n.commanded(); driven != before || n.level() != was || n.slow > 0 {
		n.was, n.changed = was, n.r.clock.Now()
	}
	if n.held() != held {
		n.r.note(n)
	}
}

// What a port and an input see of it.
type dataPin struct{ *net }

func (p dataPin) Output(high bool) { p.change(func() { p.output, p.high = true, high }) }
func (p dataPin) Driven() (output, high bool) {
	defer p.r.lock()()
	return p.output, p.high
}

type strobePin struct{ *net }

func (p strobePin) Output(high bool) {
	p.change(func() {
		if high && !p.strobe {
			p.latch = p.high != p.heldHigh
		}
		p.strobe = high
	})
}
func (p strobePin) Driven() (output, high bool) { return true, false }

type sensePin struct{ *net }

func (p sensePin) High() bool {
	defer p.r.lock()()
	return p.level()
}

type otherPin struct{ *net }

func (p otherPin) High() bool {
	defer p.r.lock()()
	if p.other != nil {
		return *p.other
	}
	return p.level()
}

type latchOutput struct{ *net }

func (p latchOutput) Level() (bool, error) {
	defer p.r.lock()()
	_, high := p.commanded()
	return high, nil
}

// A chip is the expander: line n is the rig's net n.
type chip struct{ r *rig }

func (c chip) Pull(line int, low bool) error {
	if c.r.gone.Load() {
		return errGone
	}
	c.r.nets[line].change(func() { c.r.nets[line].low = low })
	return nil
}

func (c chip) Read() (pulled, levels uint16, err error) {
	defer c.r.lock()()
	for i, n := range c.r.nets {
		if n.low {
			pulled |= 1 << i
		}
		if n.level() {
			levels |= 1 << i
		}
	}
	return pulled, levels, c.r.away()
}

var errGone = errors.New("no answer")

// The nets of a rig.
const (
	netPlatform = iota
	netBMC
	netHost
	netMux
	netProtect
	netButton
	netPower
	nets
)

var netNames = [nets]string{"platform reset", "bmc reset", "host reset", "flash mux", "write protect", "power button", "power good"}

// A rig is a board, its host and its flash, and all that a controller needs beside.
type rig struct {
	t     *testing.T
	kind  kind
	clock clock
	mu    sync.Mutex
	nets  [nets]*net
	gone  flagOf
	catch flagOf

	nonce  uint32
	powers bool          // the button brings power
	delay  time.Duration // that late
	stops  bool          // the host switches itself off when asked
	press  time.Duration // since then the button is pressed; 0: it is not

	changes []string // of what is held

	log    *eventlog.Log
	pcrs   [eventlog.PCRs][32]byte
	tpmErr error
	record Record
	writes []Record
	ticket []byte
	store  error

	fw fakeFirmware

	whys        []code.Code // that the machine gave for what it did
	quarantined []code.Code
	restarts    int
}

// flagOf is a flag that goroutines share.
type flagOf struct {
	mu sync.Mutex
	b  bool
}

func (f *flagOf) Load() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.b
}

func (f *flagOf) Store(b bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.b = b
}

// Acknowledge makes a flag a Catch.
func (f *flagOf) Acknowledge() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	b := f.b
	f.b = false
	return b
}

// lock locks the rig; what it returns unlocks it.
func (r *rig) lock() func() {
	r.mu.Lock()
	return r.mu.Unlock
}

// does something to the rig while a controller runs.
func (r *rig) does(f func()) {
	defer r.lock()()
	f()
}

func (r *rig) away() error {
	if r.gone.Load() {
		return errGone
	}
	return nil
}

func (r *rig) note(n *net) {
	for i, x := range r.nets {
		if x == n && i != netPower {
			word := "released"
			if n.held() {
				word = "held"
			}
			r.changes = append(r.changes, netNames[i]+" "+word)
		}
	}
	if n == r.nets[netButton] {
		r.pressed(!n.held())
	}
}

// pressed is what the power supply does about the button.
func (r *rig) pressed(down bool) {
	p := r.nets[netPower]
	if down {
		r.press = r.clock.Now() + 1
		return
	}
	long := r.clock.Now()-r.press > 4*time.Second
	r.press = 0
	on := p.latch
	switch {
	case !on && r.powers:
		p.was, p.changed, p.slow, p.latch = false, r.clock.Now(), r.delay, true
	case on && (long || r.stops):
		r.powerOff()
	}
}

// powerOff takes the host's power: latches and the expander's memory are cleared.
func (r *rig) powerOff() {
	r.nets[netPower].latch, r.nets[netPower].slow = false, 0
	if r.kind != bare {
		r.nonce = 0
		for _, n := range r.nets[:netButton] {
			n.latch, n.low = false, false
		}
	}
}

// restart is one of the controller: its pins are high impedance, and its log is gone.
func (r *rig) restart() {
	for _, n := range r.nets[:netPower] {
		n.output, n.high, n.strobe = false, false, false
	}
	r.log, r.pcrs, r.tpmErr = eventlog.New(), [eventlog.PCRs][32]byte{}, nil
	r.changes = nil
}

// power good is a net of its own: high while there is power.
type powerPin struct{ r *rig }

func (p powerPin) High() bool {
	defer p.r.lock()()
	n := p.r.nets[netPower]
	return n.latch && p.r.clock.Now() >= n.changed+n.slow
}

func newRig(t *testing.T, k kind) *rig {
	r := &rig{t: t, kind: k, powers: true, delay: 2 * time.Second, stops: true, log: eventlog.New(), record: Record{Cycle: 41, Run: true}}
	r.clock.now = time.Hour
	for i := range r.nets {
		r.nets[i] = &net{r: r, heldHigh: k == expanded}
	}
	r.fw = fakeFirmware{r: r}
	return r
}

func (r *rig) line(i int, c Chip) *Line {
	n := r.nets[i]
	l := &Line{Name: netNames[i], HeldHigh: n.heldHigh, Kept: r.kind != bare, Sense: Input(sensePin{n})}
	switch r.kind {
	case bare:
		l.Port = Pin(dataPin{n})
	case latched:
		l.Port = Latch(dataPin{n}, strobePin{n}, latchOutput{n})
		l.Other = Input(otherPin{n})
	case expanded:
		l.Port, l.Sense = Expander(c, i), ExpanderInput(c, i)
	}
	return l
}

func (r *rig) lines() *Lines {
	c := NewSnapshot(chip{r})
	l := &Lines{Platform: r.line(netPlatform, c), BMC: r.line(netBMC, c), Host: r.line(netHost, c), Mux: r.line(netMux, c), Fresh: c.Fresh,
		Protect: r.line(netProtect, c), Button: r.line(netButton, c), PowerGood: &Line{Name: "power good", Sense: Input(powerPin{r})}}
	l.Host.Catch = &r.catch
	if r.kind != bare {
		l.Nonce = r
	}
	return l
}

// The rig is the latch's memory, the measurer and the store.
func (r *rig) Nonce() (uint32, error) {
	defer r.lock()()
	return r.nonce, r.away()
}
func (r *rig) SetNonce(n uint32) error {
	defer r.lock()()
	if err := r.away(); err != nil {
		return err
	}
	r.nonce = n
	return nil
}
func (r *rig) Fits(e ...eventlog.Event) bool {
	defer r.lock()()
	return r.log.Fits(e...)
}
func (r *rig) Measure(e eventlog.Event) error {
	defer r.lock()()
	return r.log.Measure(extender{r}, e)
}

type extender struct{ r *rig }

func (x extender) Extend(pcr int, d [32]byte) error {
	if x.r.tpmErr == nil {
		x.r.pcrs[pcr] = eventlog.Extend(x.r.pcrs[pcr], d)
	}
	return x.r.tpmErr
}

func (r *rig) Record() (Record, error) {
	defer r.lock()()
	return r.record, r.store
}
func (r *rig) SetRecord(n Record) error {
	defer r.lock()()
	if r.store == nil {
		r.record, r.writes = n, append(r.writes, n)
	}
	return r.store
}
func (r *rig) Ticket() ([]byte, error) {
	defer r.lock()()
	return r.ticket, r.store
}
func (r *rig) SetTicket(b []byte) error {
	defer r.lock()()
	if r.store == nil {
		r.ticket = bytes.Clone(b)
	}
	return r.store
}

// fakeFirmware is the flash. It complains about what must not be.
type fakeFirmware struct {
	r       *rig
	corrupt bool // recovered by Recover
	lost    bool // beyond recovery
	changes bool // something changes it behind each Recover
	open    bool // no protection takes
	guarded bool
	hang    chan struct{} // Measure waits for it, and for its context if heeds
	heeds   bool
	hashing chan struct{} // is told that it does
	calls   []string
}

func (f *fakeFirmware) call(name string) error {
	defer f.r.lock()()
	f.calls = append(f.calls, name)
	if !f.r.nets[netMux].held() || !f.r.nets[netHost].held() || !f.r.nets[netBMC].held() {
		f.r.t.Errorf("%s: the flash is touched while it is not the controller's, or while the host runs", name)
	}
	return nil
}

func (f *fakeFirmware) Own(context.Context) error { return f.call("own") }
func (f *fakeFirmware) Recover(context.Context) (done []Recovery, err error) {
	f.guarded = false
	switch {
	case f.lost:
		err = code.HostFirmware.Errorf("region bios: and the golden copy is corrupt too")
	case f.corrupt:
		f.corrupt = false
		done = []Recovery{{What: "bios", Was: [32]byte{1}, Now: [32]byte{2}}}
	}
	return done, errors.Join(f.call("recover"), err)
}
func (f *fakeFirmware) Protect(context.Context) error {
	f.guarded = !f.open
	return f.call("protect")
}
func (f *fakeFirmware) Protected(context.Context) error {
	unlock := f.r.lock()
	held := f.r.nets[netProtect].held()
	unlock()
	if !held {
		f.r.t.Error("the protection is read back while its line is off")
	}
	if !f.guarded {
		return code.HostFlash.Errorf("block protection is %#x", 0)
	}
	return f.call("protected")
}
func (f *fakeFirmware) Measure(ctx context.Context) (Measurement, error) {
	if f.hang != nil {
		close(f.hashing)
		if f.heeds {
			<-ctx.Done()
			return Measurement{}, ctx.Err()
		}
		<-f.hang
	}
	if f.changes {
		return Measurement{}, code.HostFirmware.Errorf("region bios: other than when it was verified")
	}
	return Measurement{Host: eventlog.Firmware{Digest: [32]byte{2}, Version: "F.30"}, BMC: &eventlog.Firmware{Digest: [32]byte{3}, Version: "2.14"},
		Components: []Component{{"signers", [32]byte{4}, "1"}}}, f.call("measure")
}
func (f *fakeFirmware) HandOver(context.Context) error { return f.call("hand over") }

var testKey = ticket.Key{1, 2, 3}

// controller runs one until the test ends or its context does.
type runner struct {
	*Controller
	stop func()
}

func (r *rig) start(held code.Code) runner {
	r.t.Helper()
	c, err := New(Config{Lines: r.lines(), Firmware: &r.fw, Measurer: r, Store: r, Clock: &r.clock, Random: bytes.NewReader(bytes.Repeat([]byte{7, 8, 9}, 1000)),
		Key: testKey, Held: held, Limits: Limits{Flash: 20 * time.Second, Recover: time.Minute, Hash: time.Minute, Grace: 50 * time.Millisecond, Stop: time.Minute, Watch: 10 * time.Millisecond},
		Observe: func(_ cycle.Event, s cycle.State, _ cycle.Action, _ error) {
			r.does(func() { r.whys = append(r.whys, s.Why) })
		},
		Quarantine: func(c code.Code) { r.does(func() { r.quarantined = append(r.quarantined, c) }) },
		Restart:    func(code.Code) { r.does(func() { r.restarts++ }) },
	})
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	var once sync.Once
	stop := func() {
		once.Do(func() {
			cancel()
			select {
			case err := <-done:
				if err != nil {
					r.t.Error(err)
				}
			case <-time.After(time.Minute):
				r.t.Error("Run does not end")
			}
		})
	}
	r.t.Cleanup(stop)
	return runner{c, stop}
}

// await waits until something is so, by the clock on the wall.
func (c runner) await(t *testing.T, what string, so func(Status) bool) Status {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if s := c.Status(); so(s) {
			return s
		}
	}
	t.Fatalf("is %+v, not %s", c.Status(), what)
	return Status{}
}

// until waits for a phase.
func (c runner) until(t *testing.T, p cycle.Phase) Status {
	t.Helper()
	return c.await(t, p.String(), func(s Status) bool { return s.State.Phase == p })
}

// runs waits until a cycle runs.
func (c runner) runs(t *testing.T, n uint64) Status {
	t.Helper()
	return c.await(t, "running", func(s Status) bool { return s.State.Phase == cycle.Running && s.State.Cycle == n })
}
