package phy

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A bus plays PHYs. Registers that are not in the map read as 0; a PHY that is not
// there reads as 0xffff.
type bus struct {
	phys     map[uint8]map[uint8]uint16
	writes   []uint32 // register and value
	resets   int      // reads of the control register until a reset is over
	latched  bool     // the link was lost: told once
	err      error    // of all transfers from the errAt-th on
	errAt, n int
}

func (b *bus) Read(address, register uint8) (uint16, error) {
	if b.n++; b.err != nil && b.n > b.errAt {
		return 0, b.err
	}
	regs, ok := b.phys[address]
	if !ok {
		return 0xffff, nil
	}
	v := regs[register]
	switch {
	case register == regControl && v&ctlReset != 0:
		if b.resets--; b.resets <= 0 {
			regs[regControl] = ctlNegotiate
		}
	case register == regStatus && b.latched:
		b.latched = false
		v &^= staLink
	}
	return v, nil
}

func (b *bus) Write(address, register uint8, value uint16) error {
	if b.n++; b.err != nil && b.n > b.errAt {
		return b.err
	}
	b.writes = append(b.writes, uint32(register)<<16|uint32(value))
	if regs, ok := b.phys[address]; ok {
		regs[register] = value
	}
	return nil
}

const negotiated = staLink | staNegotiated

// TestModels: what each kind is told, and what is made of its answers.
func TestModels(t *testing.T) {
	for _, c := range []struct {
		name   string
		regs   map[uint8]uint16
		told   []uint32 // beside reset, advertisement and negotiation
		status map[uint8]uint16
		want   State
	}{
		{"QEMU", map[uint8]uint16{2: 7, 3: 0xc0d1}, nil, map[uint8]uint16{5: 0x0fe1}, State{true, 100, true}},
		{"unknown, 100 half", map[uint8]uint16{2: 0x1234, 3: 0x5678}, nil, map[uint8]uint16{5: can100 | can10Full | can10}, State{true, 100, false}},
		{"unknown, 10 full", map[uint8]uint16{2: 0x1234, 3: 0x5678}, nil, map[uint8]uint16{5: can10Full | can10}, State{true, 10, true}},
		{"unknown, hub", map[uint8]uint16{2: 0x1234, 3: 0x5678}, nil, map[uint8]uint16{5: can10}, State{true, 10, false}},
		{"unknown, nothing in common", map[uint8]uint16{2: 0x1234, 3: 0x5678}, nil, map[uint8]uint16{5: 1 << 9}, State{}},
		{"KSZ8081", map[uint8]uint16{2: 0x22, 3: 0x1561, 0x1f: 0x8100}, []uint32{0x1f8180}, map[uint8]uint16{0x1e: 0x106}, State{true, 100, true}},
		{"KSZ8081, 100 half", map[uint8]uint16{2: 0x22, 3: 0x1560}, []uint32{0x1f0080}, map[uint8]uint16{0x1e: 0x102}, State{true, 100, false}},
		{"KSZ8081, 10 full", map[uint8]uint16{2: 0x22, 3: 0x1560}, []uint32{0x1f0080}, map[uint8]uint16{0x1e: 5}, State{true, 10, true}},
		{"KSZ8081, 10 half", map[uint8]uint16{2: 0x22, 3: 0x1560}, []uint32{0x1f0080}, map[uint8]uint16{0x1e: 1}, State{true, 10, false}},
		{"KSZ8081, negotiating", map[uint8]uint16{2: 0x22, 3: 0x1560}, []uint32{0x1f0080}, map[uint8]uint16{0x1e: 0}, State{}},
		{"DP83825I", map[uint8]uint16{2: 0x2000, 3: 0xa140, 0x17: 0x0042}, []uint32{0x1700c1}, map[uint8]uint16{0x10: 5}, State{true, 100, true}},
		{"DP83825I, 10 half", map[uint8]uint16{2: 0x2000, 3: 0xa140}, []uint32{0x170081}, map[uint8]uint16{0x10: 3}, State{true, 10, false}},
		{"DP83825I, no link", map[uint8]uint16{2: 0x2000, 3: 0xa140}, []uint32{0x170081}, map[uint8]uint16{0x10: 4}, State{}},
	} {
		b := &bus{phys: map[uint8]map[uint8]uint16{3: c.regs}}
		p := New(b, 3)
		if err := p.SetUp(); err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		want := append(append([]uint32{regControl<<16 | ctlReset}, c.told...), regAdvertisement<<16|0x1e1, regControl<<16|ctlNegotiate|ctlRestart)
		if len(b.writes) != len(want) {
			t.Errorf("%s: written %#x, not %#x", c.name, b.writes, want)
		}
		for i := range min(len(want), len(b.writes)) {
			if b.writes[i] != want[i] {
				t.Errorf("%s: write %d is %#x, not %#x", c.name, i, b.writes[i], want[i])
			}
		}
		for r, v := range c.status {
			c.regs[r] = v
		}
		if s, _, err := p.Link(); s != (State{}) || err != nil {
			t.Errorf("%s: before the link: %v, %v", c.name, s, err)
		}
		c.regs[regStatus] = staLink
		if s, _, _ := p.Link(); s.Up {
			t.Errorf("%s: still negotiating: %v", c.name, s)
		}
		c.regs[regStatus] = negotiated
		if s, dropped, err := p.Link(); s != c.want || dropped || err != nil {
			t.Errorf("%s: %v, %v, %v; want %v", c.name, s, dropped, err, c.want)
		}
	}
}

// TestAbsent: what reads as all ones, at once or later, is not there.
func TestAbsent(t *testing.T) {
	b := &bus{phys: map[uint8]map[uint8]uint16{}}
	p := New(b, 1)
	if err := p.SetUp(); !errors.Is(err, ErrAbsent) || !strings.Contains(err.Error(), "PHY 1") {
		t.Errorf("nobody: %v", err)
	}
	if len(b.writes) != 0 {
		t.Errorf("nobody was written to: %#x", b.writes)
	}
	b.phys[1] = map[uint8]uint16{}
	if err := p.SetUp(); !errors.Is(err, ErrAbsent) {
		t.Errorf("all zeros: %v", err)
	}
	b.phys[1] = map[uint8]uint16{2: 7, 3: 0xc0d1}
	if err := p.SetUp(); err != nil {
		t.Error(err)
	}
	delete(b.phys, 1)
	if s, _, err := p.Link(); s.Up || !errors.Is(err, ErrAbsent) {
		t.Errorf("gone: %v, %v", s, err)
	}
}

// TestLost: a link that was away since the last look is told of, once; a PHY that has
// forgotten its settings is an error.
func TestLost(t *testing.T) {
	regs := map[uint8]uint16{2: 7, 3: 0xc0d1, 5: can100Full}
	b := &bus{phys: map[uint8]map[uint8]uint16{0: regs}}
	p := New(b, 0)
	if err := p.SetUp(); err != nil {
		t.Fatal(err)
	}
	regs[regStatus], b.latched = negotiated, true
	if s, dropped, err := p.Link(); !s.Up || !dropped || err != nil {
		t.Errorf("a flap: %v, %v, %v", s, dropped, err)
	}
	if s, dropped, err := p.Link(); !s.Up || dropped || err != nil {
		t.Errorf("after the flap: %v, %v, %v", s, dropped, err)
	}
	for _, control := range []uint16{ctlReset, 0, ctlNegotiate | ctlIsolate, ctlNegotiate | ctlPowerDown} {
		regs[regControl], b.resets = control, 9
		if s, _, err := p.Link(); s.Up || !errors.Is(err, ErrReset) {
			t.Errorf("control %#x: %v, %v", control, s, err)
		}
	}
}

// TestNoReset: a PHY that stays in reset is an error within the limit.
func TestNoReset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &bus{phys: map[uint8]map[uint8]uint16{0: {2: 7, 3: 0xc0d1}}, resets: 1 << 30}
		start := time.Now()
		err := New(b, 0).SetUp()
		if took := time.Since(start); !errors.Is(err, ErrReset) || took > resetLimit+time.Millisecond {
			t.Errorf("%v after %v", err, took)
		}
	})
}

// TestBusFails: the bus's error comes up, wherever it comes.
func TestBusFails(t *testing.T) {
	broken := errors.New("broken")
	for _, id := range []uint16{0xc0d1, 0x1560, 0xa140} {
		high := map[uint16]uint16{0xc0d1: 7, 0x1560: 0x22, 0xa140: 0x2000}[id]
		all := 0
		for at := 0; ; at++ {
			b := &bus{phys: map[uint8]map[uint8]uint16{0: {2: high, 3: id, 1: negotiated}}, err: broken, errAt: at}
			p := New(b, 0)
			err := p.SetUp()
			b.phys[0][regStatus] = negotiated
			if err == nil {
				_, _, err = p.Link()
			}
			if err == nil {
				break
			}
			if !errors.Is(err, broken) {
				t.Errorf("%#x, transfer %d: %v", id, at, err)
			}
			all++
		}
		if all < 8 {
			t.Errorf("%#x: only %d transfers", id, all)
		}
	}
}
