package stack

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestClock: the time stands still while it is frozen, and no timer is set to less than the
// shortest time.
func TestClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClock()
		begin := c.NowMonotonic()
		since := func() time.Duration { return c.NowMonotonic().Sub(begin) }
		time.Sleep(time.Second)
		if stood := c.freeze(); stood.Sub(begin) != time.Second || since() != time.Second {
			t.Errorf("%v and %v after a second", stood.Sub(begin), since())
		}
		time.Sleep(time.Second)
		if since() != time.Second {
			t.Errorf("%v: it went on", since())
		}
		if stood := c.thaw(); stood.Sub(begin) != time.Second || since() != 2*time.Second {
			t.Errorf("it stood at %v, and stands at %v", stood.Sub(begin), since())
		}
		for _, d := range []time.Duration{0, shortest - 1, shortest, 3 * shortest} {
			c.freeze()
			at := make(chan time.Duration, 1)
			set := time.Now()
			timer := c.AfterFunc(d, func() { at <- time.Since(set) })
			if took := <-at; took != max(d, shortest) {
				t.Errorf("set to %v: %v", d, took)
			}
			if c.frozen.Load() != nil {
				t.Error("a timer's function finds the time standing still")
			}
			set = time.Now()
			timer.Reset(d)
			if took := <-at; took != max(d, shortest) {
				t.Errorf("set again to %v: %v", d, took)
			}
		}
	})
}
