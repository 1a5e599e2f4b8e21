//go:build !arm

package rack

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// psr reads GPIO1's PSR. The first read is answered when all levels are there.
func (r *Rack) psr(t *testing.T) uint32 {
	t.Helper()
	_, err := r.Pins.State(GPIO(1, 0))
	must(t, err)
	words, err := r.QMP.Words(0x0209c000, 3)
	must(t, err)
	return words[2]
}

// TestWire: a wire has its pull's level until the board drives it, and again from a
// reset on; inputs have their levels before a reset's first instruction.
func TestWire(t *testing.T) {
	var (
		out, in = GPIO(1, 3), GPIO(1, 4)
		wire    = Wire{Name: "reset", From: out, PullUp: true, Sense: []Pin{GPIO(1, 5)}}
		sensed  = uint32(1<<3 | 1<<5)
	)
	r := start(t, Config{Image: build(t, "pins"), NoTPM: true, Wires: []Wire{wire}, Hold: true})
	if got := r.psr(t); got != sensed {
		t.Errorf("before the first instruction PSR is %#x, want %#x", got, sensed)
	}
	must(t, r.QMP.Continue())
	r.expect(t, `armed rising`) // line 3 has line 4's level now
	must(t, r.Pins.AwaitLevel("reset", false, bootLimit))
	if d, err := r.Pins.State(out); err != nil || d != Low {
		t.Errorf("the board does with line 3: %v, %v", d, err)
	}
	if got := r.psr(t); got != 0 {
		t.Errorf("once the board drives the wire low, PSR is %#x", got)
	}
	must(t, r.Pins.Drive(in, true))
	r.expect(t, `came rising 1 true true`)
	must(t, r.Pins.AwaitLevel("reset", true, bootLimit))

	// In a reset the wire stays high, by its pull now. The image finds line 4 high and
	// so drives line 3 high at once: it was told if that is seen again.
	seen := len(r.Pins.Changes())
	must(t, r.Reset())
	c, err := r.Pins.Await(seen, out, Released, bootLimit)
	if must(t, err); !c.Reset {
		t.Errorf("the reset shows as %v", c)
	}
	_, err = r.Pins.Await(c.N, out, High, bootLimit)
	must(t, err)

	// The image's end resets the board by its watchdog.
	for i, edge := range []string{"rising", "falling", "both", "both"} {
		r.expect(t, `armed `+edge)
		if edge == "rising" {
			must(t, r.Pins.Drive(in, false))
		}
		must(t, r.Pins.Drive(in, i%2 == 0))
		r.expect(t, `came `+edge+` .*`)
	}
	e, err := r.QMP.Await(0, bootLimit, "WATCHDOG")
	must(t, err)
	_, err = r.QMP.Await(e.N, bootLimit, "RESET")
	must(t, err)
	r.expect(t, `kernel: the previous boot died: program ended, code 0, .*`)
	r.expect(t, `armed rising`)

	must(t, r.Pins.Cut("reset"), r.Pins.Drive(GPIO(1, 5), true))
	if got := r.psr(t); got != 1<<5 {
		t.Errorf("with line 5 cut off and high PSR is %#x", got)
	}
	must(t, r.Pins.Drive(in, true))
	r.expect(t, `came rising .*`)
	must(t, r.Pins.AwaitLevel("reset", true, bootLimit))
	r.expect(t, `armed falling`)
	must(t, r.Pins.Drive(in, false))
	r.expect(t, `came falling .*`)
	must(t, r.Pins.AwaitLevel("reset", false, bootLimit))
	if got := r.psr(t); got != 1<<5 {
		t.Errorf("with line 5 cut off and high, and the wire low again, PSR is %#x", got)
	}
	must(t, r.Pins.Join("reset"))
	if got := r.psr(t); got != 0 {
		t.Errorf("with line 5 joined again PSR is %#x", got)
	}
	if err := r.Pins.Drive(GPIO(1, 5), true); err == nil {
		t.Error("a pin that follows a wire took another level")
	}
}

// TestI2C: what is on the bus beside the TPM is there, and the expander's pins work both
// ways.
func TestI2C(t *testing.T) {
	rom := filepath.Join(t.TempDir(), "eeprom")
	must(t, os.WriteFile(rom, []byte("board 17"+strings.Repeat("\xff", 4088)), 0o644))
	r := start(t, Config{
		Image: build(t, "i2c"), NoTPM: true, EEPROM: rom, Expander: true,
		Wires: []Wire{{Name: "led", From: Expander(1), PullUp: true, Sense: []Pin{GPIO(1, 5)}}},
	})
	r.expect(t, `i2c: the EEPROM begins with "board 17"`)
	must(t, r.Pins.Drive(Expander(0), false))
	r.expect(t, `i2c: line 0 is 0`)
	must(t, r.Pins.AwaitLevel("led", true, bootLimit))
	must(t, r.Pins.Drive(Expander(0), true))
	r.expect(t, `i2c: line 0 is 1`)
	must(t, r.Pins.AwaitLevel("led", false, bootLimit))
	if got := r.psr(t); got != 0 {
		t.Errorf("PSR is %#x, and the wire is low", got)
	}
	if d, err := r.Pins.State(Expander(1)); err != nil || d != Low {
		t.Errorf("the expander does with line 1: %v, %v", d, err)
	}
}

// TestExpanderKept: a reset of the board leaves the expander's registers as they were, by
// whomever they were written, and the loss of the host's power does not.
func TestExpanderKept(t *testing.T) {
	r := start(t, Config{Image: build(t, "pins"), NoTPM: true, Expander: true, Wires: HostWires()})
	r.expect(t, `armed rising`)
	want := expanderRegisters{0x12, 0x34, 0x56, 0x78, 0x54, 0x55, 0x55, 0x55} // a nonce, and line 0 low
	for _, is := range []expanderRegisters{expanderAtPowerOn, want} {
		must(t, r.ResetAnd(func(registers []byte) {
			if got := expanderRegisters(registers); got != is {
				t.Errorf("the expander holds %x, not %x", got, is)
			}
			copy(registers, want[:])
		}))
		r.expect(t, `armed rising`)
		must(t, r.Pins.AwaitLevel(WireHost, false, bootLimit))
	}
	must(t, r.resetExpander(), r.Pins.AwaitLevel(WireHost, true, bootLimit))
	must(t, r.ResetAnd(func(registers []byte) {
		if got := expanderRegisters(registers); got != expanderAtPowerOn {
			t.Errorf("without the host's power the expander holds %x", got)
		}
	}))
	must(t, r.Pins.Short(WireBMC), r.Pins.AwaitLevel(WireBMC, false, bootLimit), r.Pins.Join(WireBMC), r.Pins.AwaitLevel(WireBMC, true, bootLimit))
}

func TestWireNeedsPins(t *testing.T) {
	for _, w := range []Wire{{Name: "x", From: Expander(1)}, {Name: "x", From: GPIO(2, 1)}} {
		if p, err := newPins(nil, nil, []Wire{w}, false); err == nil {
			t.Errorf("%v: got %v", w, p)
		}
	}
}
