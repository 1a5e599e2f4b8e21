//go:build !arm

package qemutest

import (
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"nitro/internal/metal"
	"nitro/qemu-test/rack"
)

// TestPins: edges from outside reach the driver through its interrupt line, each kind
// when it is armed, and what the driver sets is seen outside.
func TestPins(t *testing.T) {
	image := filepath.Join(t.TempDir(), "pins.elf")
	if err := (metal.Build{}).Image(t.Context(), "nitro/qemu-test/images/pins", image); err != nil {
		t.Fatal(err)
	}
	r, err := rack.Start(rack.Config{Image: image, NoTPM: true})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for i, edge := range []string{"rising", "falling", "both", "both"} {
		if _, err := r.Expect("armed "+edge+`\r\n`, time.Minute); err != nil {
			t.Fatal(err)
		}
		high := i%2 == 0
		if err := r.Pins.Drive(rack.GPIO(1, 4), high); err != nil {
			t.Fatal(err)
		}
		if _, err := r.Expect(fmt.Sprintf(`came %s 1 true %t\r\n`, edge, high), time.Minute); err != nil {
			t.Fatal(err)
		}
	}
	// The console and the pins come by ways of their own: the last change may still be
	// under way.
	want := []rack.Drive{rack.Low, rack.High, rack.Low, rack.High, rack.Low}
	seen := drives(r, rack.GPIO(1, 3))
	for end := time.Now().Add(time.Minute); len(seen) < len(want) && time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		seen = drives(r, rack.GPIO(1, 3))
	}
	if !slices.Equal(seen, want) {
		t.Errorf("line 3 was seen %v, not %v", seen, want)
	}
}

// drives is what the board did with a pin, but for resets.
func drives(r *rack.Rack, pin rack.Pin) (all []rack.Drive) {
	for _, c := range r.Pins.Changes() {
		if c.Pin == pin && !c.Reset {
			all = append(all, c.Drive)
		}
	}
	return all
}
