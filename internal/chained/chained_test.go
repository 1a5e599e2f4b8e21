//go:build !arm

package chained

import "testing"

// TestLived: the board that campaigns begin with is in service in slot A, and a clone is as
// good as it.
func TestLived(t *testing.T) {
	l := NewLived(t)
	for range 2 {
		l = l.Clone(t)
		x := l.Boot()
		if !x.InService() || x.Header.Version != "1.0" || x.Slots.Floor() != Security || x.C.Config.Epoch != SecondEpoch {
			t.Fatal(x.Err, x.Header.Version, x.Said)
		}
		for _, name := range Records() {
			if got, err := x.Store().Get(name); err != nil || string(got) != string(Record(name, 2)) {
				t.Errorf("%s: %.40q, %v", name, got, err)
			}
		}
	}
}
